//! The file of a dump: a header of ours, what the engine's own tool wrote, its last line.
//!
//! Guarantees: under its name stands a complete dump or nothing. It is written beside, checked for
//! the last line its tool writes only at the very end, brought to disk, and then gets its name. It is
//! checked again before a restore destroys anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::SqlError;
use crate::host::DumpStream;
use crate::model::Digest;
use crate::model::document::Engine;

/// The last line the header has.
const END: &str = "-- end of header";

/// More lines than a header of ours ever has.
const HEADER_LINES: usize = 1000;

/// What the tools' last lines fit into, many times over.
const TAIL: u64 = 4096;

/// What of a database is not in its tool's output: `key value`, as SQL comments.
pub(super) type Notes = Vec<(String, String)>;

/// A dump that has not got its name yet.
pub(super) struct Part {
    engine: Engine,
    file: File,
    part: PathBuf,
    to: PathBuf,
}

impl Part {
    /// A new file beside `to`. One an interruption left is removed first, not overwritten: its writer
    /// may still live, and then writes into a file that has no name any more.
    pub fn begin(engine: Engine, to: &Path, notes: &Notes) -> Result<Self, SqlError> {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = to.with_file_name(name);
        let write = || -> io::Result<File> {
            match fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&part)?;
            file.write_all(header(engine, notes).as_bytes())?;
            Ok(file)
        };
        match write() {
            Ok(file) => Ok(Self { engine, file, part, to: to.to_owned() }),
            Err(error) => Err(SqlError::Write(to.to_owned(), error)),
        }
    }

    /// For the tool's standard output.
    pub fn output(&self) -> Result<File, SqlError> {
        self.file.try_clone().map_err(|error| SqlError::Write(self.to.clone(), error))
    }

    /// Checks, brings to disk and names the dump. Blocks; the digest is taken while reading it back.
    pub fn finish(mut self) -> Result<Digest, SqlError> {
        let cannot = |error| SqlError::Write(self.to.clone(), error);
        if !complete(self.engine, &mut self.file).map_err(cannot)? {
            return Err(bad(&self.to, "not complete, though its tool ended well"));
        }
        self.file.sync_all().map_err(cannot)?;
        let digest = digest_of(&mut self.file).map_err(cannot)?;
        fs::rename(&self.part, &self.to).map_err(cannot)?;
        let directory = self.to.parent().unwrap_or(Path::new("/"));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(cannot)?;
        Ok(digest)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Not there any more after `finish`; if it stays, the next dump removes it.
        let _ = fs::remove_file(&self.part);
    }
}

/// A dump into a pipe: the header, then what `run` has its tool write into the file it is given.
pub(super) async fn stream<F, R>(engine: Engine, notes: &Notes, run: R) -> Result<DumpStream, SqlError>
where
    F: Future<Output = Result<(), SqlError>> + Send + 'static,
    R: FnOnce(File) -> F,
{
    let (from, mut to) = io::pipe().map_err(SqlError::Pipe)?;
    // Some hundred bytes: a pipe holds 64 KiB before anybody reads.
    to.write_all(header(engine, notes).as_bytes()).map_err(SqlError::Pipe)?;
    let (tell, whole) = tokio::sync::oneshot::channel();
    let running = run(File::from(OwnedFd::from(to)));
    tokio::spawn(async move {
        let ended = running.await.map_err(|error| error.to_string());
        // Whoever read it may have gone; then nobody wants to know.
        let _ = tell.send(ended);
    });
    let from = File::from(OwnedFd::from(from));
    let begun = tokio::task::spawn_blocking(move || begun(engine, from)).await.expect("reading does not panic");
    Ok(DumpStream { from: begun.map_err(SqlError::Pipe)?, whole })
}

/// What the tools write once their transaction sees one moment of the database: MariaDB's before each table,
/// PostgreSQL's at the very top, which is written last of all but the rows.
const fn seen_by(engine: Engine) -> &'static [u8] {
    match engine {
        Engine::Mariadb => b"\n-- Table structure for",
        Engine::Postgresql => b"-- PostgreSQL database dump",
    }
}

/// Waits for the moment the dump is of; the same bytes, from their beginning. One that has ended was of a moment too.
fn begun(engine: Engine, mut from: File) -> io::Result<OwnedFd> {
    let (mut first, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    let sign = seen_by(engine);
    loop {
        let read = from.read(&mut piece)?;
        first.extend_from_slice(&piece[..read]);
        if read == 0 || first.windows(sign.len()).any(|bytes| bytes == sign) {
            break;
        }
    }
    let (again, mut to) = io::pipe()?;
    // Ends with the dump, or when nobody reads on.
    std::thread::spawn(move || to.write_all(&first).and_then(|()| io::copy(&mut from, &mut to)));
    Ok(again.into())
}

/// A complete dump, opened at its beginning, and its notes.
pub(super) fn open(engine: Engine, from: &Path) -> Result<(File, Notes), SqlError> {
    let cannot = |error| SqlError::Look(from.to_owned(), error);
    let mut file = File::open(from).map_err(cannot)?;
    let notes = read_header(engine, &file).map_err(cannot)?.ok_or_else(|| bad(from, "not one of ours"))?;
    if !complete(engine, &mut file).map_err(cannot)? {
        return Err(bad(from, "not complete"));
    }
    file.rewind().map_err(cannot)?;
    Ok((file, notes))
}

/// The values noted under `key`.
pub(super) fn noted<'a>(notes: &'a Notes, key: &'a str) -> impl Iterator<Item = &'a str> {
    notes.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
}

fn first_line(engine: Engine) -> String {
    format!("-- socle dump 1 of {}", engine.as_str())
}

fn header(engine: Engine, notes: &Notes) -> String {
    let mut text = first_line(engine) + "\n";
    for (key, value) in notes {
        text += &format!("-- {key} {value}\n");
    }
    text + END + "\n"
}

fn read_header(engine: Engine, file: &File) -> io::Result<Option<Notes>> {
    // Bounded, because a file that is no dump may have no line break at all.
    let mut lines = BufReader::new(file.take(1 << 20)).split(b'\n').take(HEADER_LINES);
    if lines.next().transpose()?.is_none_or(|line| line != first_line(engine).as_bytes()) {
        return Ok(None);
    }
    let mut notes = Notes::new();
    for line in lines {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if line == END {
            return Ok(Some(notes));
        }
        match line.strip_prefix("-- ").and_then(|note| note.split_once(' ')) {
            Some((key, value)) => notes.push((key.to_owned(), value.to_owned())),
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Whether the tool's last line is the file's last line. What comes after it is nothing but the
/// frame of that comment and PostgreSQL's `\unrestrict`.
fn complete(engine: Engine, file: &mut File) -> io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let last = tail
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && *line != "--" && !line.starts_with("\\unrestrict "));
    Ok(last.is_some_and(|line| match engine {
        Engine::Mariadb => line.starts_with("-- Dump completed"),
        Engine::Postgresql => line == "-- PostgreSQL database dump complete",
    }))
}

fn digest_of(file: &mut File) -> io::Result<Digest> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Digest::from_hasher(hasher)),
            read => hasher.update(&chunk[..read]),
        }
    }
}

fn bad(path: &Path, why: &str) -> SqlError {
    SqlError::BadDump { path: path.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(to: &Path, body: &str) -> Result<Digest, SqlError> {
        let notes = vec![("collation".to_owned(), "utf8mb4_general_ci".to_owned())];
        let part = Part::begin(Engine::Mariadb, to, &notes)?;
        part.output()?.write_all(body.as_bytes()).unwrap();
        part.finish()
    }

    #[test]
    fn a_complete_dump_gets_its_name_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("blog.sql");
        fs::write(dir.path().join("blog.sql.part"), "left by an interruption").unwrap();
        let digest = write(&to, "INSERT …;\n\n-- Dump completed\n").unwrap();
        assert_eq!(digest, Digest::of(fs::read(&to).unwrap()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let (_, notes) = open(Engine::Mariadb, &to).unwrap();
        assert_eq!(noted(&notes, "collation").collect::<Vec<_>>(), ["utf8mb4_general_ci"]);
        assert!(matches!(open(Engine::Postgresql, &to), Err(SqlError::BadDump { .. })));
    }

    #[test]
    fn a_torn_dump_never_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("blog.sql");
        for body in ["", "INSERT", "-- Dump completed\nINSERT INTO `t` VALUES (1);\n"] {
            assert!(matches!(write(&to, body), Err(SqlError::BadDump { .. })), "{body:?}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        fs::write(&to, "-- socle dump 1 of mariadb\n-- end of header\nINSERT").unwrap();
        assert!(matches!(open(Engine::Mariadb, &to), Err(SqlError::BadDump { .. })));
        fs::write(&to, "x".repeat(100_000)).unwrap();
        assert!(matches!(open(Engine::Mariadb, &to), Err(SqlError::BadDump { .. })));
    }

    #[tokio::test]
    async fn a_stream_answers_when_its_moment_is_fixed() {
        let (fix, fixed) = std::sync::mpsc::channel::<()>();
        let write = move |mut to: File| {
            to.write_all(b"-- a header\n").unwrap();
            fixed.recv().unwrap();
            to.write_all(b"\n-- Table structure for table `a`\n").unwrap();
            to.write_all(&[b'x'; 300_000]).unwrap();
        };
        let run = |to| async {
            tokio::task::spawn_blocking(move || write(to)).await.expect("writing does not panic");
            Ok(())
        };
        let notes = Notes::new();
        let mut stream = Box::pin(stream(Engine::Mariadb, &notes, run));
        assert!(futures_util::FutureExt::now_or_never(stream.as_mut()).is_none());
        fix.send(()).unwrap();
        let dump = stream.await.unwrap();
        let reading = move || {
            let mut text = String::new();
            File::from(dump.from).read_to_string(&mut text).map(|_| text)
        };
        let text = tokio::task::spawn_blocking(reading).await.unwrap().unwrap();
        assert!(text.starts_with("-- socle dump 1 of mariadb\n-- end of header\n-- a header\n\n-- Table"), "{text}");
        assert!(text.ends_with("xxx"));
        assert_eq!(dump.whole.await.unwrap(), Ok(()));
    }

    #[test]
    fn the_end_of_a_postgresql_dump() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("blog.sql");
        let end = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";
        fs::write(&to, format!("-- socle dump 1 of postgresql\n-- extension pg_trgm\n-- end of header\n{end}"))
            .unwrap();
        open(Engine::Postgresql, &to).unwrap();
    }
}
