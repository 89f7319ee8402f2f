//! What passes by in a dump: how many rows each table has, and names of roles.
//!
//! Guarantees: of a dump that is read to its end, every row is counted once, however the text comes in pieces;
//! nothing is held but one line that is no row. A row's own text is never changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::host::DumpStream;
use crate::model::document::Engine;

/// Rows by table, as the engine writes its name; tables without any may be missing.
pub type Rows = BTreeMap<String, u64>;

/// What a dump held that has passed by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passed {
    pub rows: Rows,
    pub bytes: u64,
}

/// How MariaDB's rows begin.
const INSERT: &[u8] = b"INSERT INTO `";
/// A longer line is passed on as it is.
const LINE: usize = 1 << 20;
const PIECE: usize = 1 << 18;

enum At {
    /// Of a line that may be anything.
    Line,
    /// The rest of a line does not matter.
    Through,
    /// Between `INSERT INTO` and `VALUES`.
    Head { quoted: bool },
    /// Rows of MariaDB.
    Values { text: bool, escaped: bool, depth: u32 },
    /// Rows of PostgreSQL, one a line; so many bytes of it were seen, and these are the first.
    Copy { seen: usize, first: [u8; 3] },
}

struct Scan<W> {
    engine: Engine,
    at: At,
    line: Vec<u8>,
    table: String,
    rows: Rows,
    /// Whose code it was, and whose it becomes.
    definer: Option<(Vec<u8>, Vec<u8>)>,
    out: W,
}

impl<W: Write> Scan<W> {
    fn new(engine: Engine, out: W) -> Self {
        let (at, line, table, rows) = (At::Line, Vec::new(), String::new(), Rows::new());
        Self { engine, at, line, table, rows, definer: None, out }
    }

    fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = match self.at {
                At::Line => self.gather(bytes)?,
                At::Through => self.pass(bytes)?,
                At::Head { .. } | At::Values { .. } => self.insert(bytes)?,
                At::Copy { .. } => self.copy(bytes)?,
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn gather(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let missing = INSERT.len().saturating_sub(self.line.len());
        let room = if missing > 0 { missing } else { LINE };
        let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
        let taken = end.map_or(room.min(bytes.len()), |end| end + 1);
        self.line.extend_from_slice(&bytes[..taken]);
        if end.is_some() {
            self.whole_line()?;
        } else if self.engine == Engine::Mariadb && self.line == INSERT {
            self.at = At::Head { quoted: true };
            self.out.write_all(INSERT)?;
        } else if self.line.len() >= LINE {
            self.at = At::Through;
            self.out.write_all(&std::mem::take(&mut self.line))?;
        }
        Ok(taken)
    }

    fn whole_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        match (self.engine, &self.definer) {
            (Engine::Mariadb, Some((was, now))) => return self.out.write_all(&replaced(&line, was, now)),
            (Engine::Mariadb, None) => {}
            (Engine::Postgresql, _) => {
                let text = String::from_utf8_lossy(&line);
                let copied = text.strip_prefix("COPY ").and_then(|rest| rest.strip_suffix(" FROM stdin;\n"));
                if let Some(copied) = copied {
                    let name = copied.split(" (").next().unwrap_or(copied).trim_end();
                    self.table = name.to_owned();
                    self.at = At::Copy { seen: 0, first: [0; 3] };
                }
            }
        }
        self.out.write_all(&line)
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        if end.is_some() {
            self.at = At::Line;
        }
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.out.write_all(&bytes[..taken])?;
        Ok(taken)
    }

    fn insert(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        let mut found = 0;
        for byte in bytes {
            taken += 1;
            match &mut self.at {
                At::Head { quoted } => {
                    self.line.push(*byte);
                    *quoted ^= *byte == b'`';
                    if !*quoted && self.line.ends_with(b"VALUES") {
                        self.table = table(&self.line[INSERT.len()..]);
                        self.line.clear();
                        self.at = At::Values { text: false, escaped: false, depth: 0 };
                    }
                }
                At::Values { text: true, escaped: true, .. } => {
                    self.at = At::Values { text: true, escaped: false, depth: 1 };
                }
                At::Values { text: text @ true, escaped, .. } => match byte {
                    b'\\' => *escaped = true,
                    b'\'' => *text = false,
                    _ => {}
                },
                At::Values { text, depth, .. } => match byte {
                    b'\'' => *text = true,
                    b'(' => {
                        found += u64::from(*depth == 0);
                        *depth += 1;
                    }
                    b')' => *depth = depth.saturating_sub(1),
                    b';' if *depth == 0 => {
                        self.at = At::Through;
                        break;
                    }
                    _ => {}
                },
                At::Line | At::Through | At::Copy { .. } => break,
            }
        }
        if found > 0 {
            *self.rows.entry(self.table.clone()).or_default() += found;
        }
        self.out.write_all(&bytes[..taken])?;
        Ok(taken)
    }

    fn copy(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut found = 0;
        let mut taken = 0;
        let At::Copy { seen, first } = &mut self.at else { return Ok(0) };
        let mut ended = false;
        for byte in bytes {
            taken += 1;
            if let Some(place) = first.get_mut(*seen) {
                *place = *byte;
            }
            *seen += 1;
            if *byte == b'\n' {
                ended = *seen == 3 && first == b"\\.\n";
                if ended {
                    break;
                }
                found += 1;
                *seen = 0;
            }
        }
        if ended {
            self.at = At::Line;
        }
        if found > 0 {
            *self.rows.entry(self.table.clone()).or_default() += found;
        }
        self.out.write_all(&bytes[..taken])?;
        Ok(taken)
    }

    fn end(&mut self) -> io::Result<()> {
        if matches!(self.at, At::Line) {
            let line = std::mem::take(&mut self.line);
            self.out.write_all(&line)?;
        }
        self.out.flush()
    }
}

/// `name` of ``name` VALUES``, where a backtick is written twice.
fn table(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let mut name = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '`' && letters.next_if_eq(&'`').is_none() {
            break;
        }
        name.push(letter);
    }
    name
}

fn replaced(line: &[u8], was: &[u8], now: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.windows(was.len()).position(|window| window == was) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(now);
        rest = &rest[at + was.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn run<W: Write>(mut from: impl Read, scan: &mut Scan<W>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return scan.end(),
            Ok(read) => scan.feed(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The rows of a dump that is here whole.
pub fn rows_of(engine: Engine, dump: &str) -> Rows {
    let mut scan = Scan::new(engine, io::sink());
    // Into nothing, which takes everything.
    let _ = run(dump.as_bytes(), &mut scan);
    scan.rows
}

/// The same stream, whose rows are counted as they pass by. They are known when it was read to its end.
pub fn counted(
    engine: Engine,
    dump: DumpStream,
) -> io::Result<(DumpStream, impl Future<Output = Option<Passed>> + Send + 'static)> {
    let (from, to) = io::pipe()?;
    let DumpStream { from: source, whole } = dump;
    let counting = tokio::task::spawn_blocking(move || {
        let mut scan = Scan::new(engine, Weighed { out: to, bytes: 0 });
        run(File::from(source), &mut scan).map(|()| Passed { rows: scan.rows, bytes: scan.out.bytes })
    });
    let (tell, ended) = tokio::sync::oneshot::channel();
    let (tell_rows, rows) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let counted = match counting.await {
            Ok(counted) => counted.map_err(|error| format!("it could not be read on: {error}")),
            Err(error) => Err(error.to_string()),
        };
        let dumped = whole.await.unwrap_or_else(|_| Err("the dump was given up".to_owned()));
        // Whoever asked may have gone: then there is no snapshot.
        let (ended, rows) = match (counted, dumped) {
            (Ok(rows), Ok(())) => (Ok(()), Some(rows)),
            (Err(error), _) | (_, Err(error)) => (Err(error), None),
        };
        let _ = tell_rows.send(rows);
        let _ = tell.send(ended);
    });
    let rows = async move { rows.await.ok().flatten() };
    Ok((DumpStream { from: from.into(), whole: ended }, rows))
}

struct Weighed<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Weighed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Copies a dump for another role: what is run with the rights of `was` is run with those of `now`. PostgreSQL's
/// dumps name no role.
pub fn for_other_role(engine: Engine, from: &Path, to: &mut File, was: &str, now: &str) -> io::Result<()> {
    let definer = |role: &str| format!("DEFINER=`{role}`@").into_bytes();
    let mut scan = Scan::new(engine, io::BufWriter::new(to));
    scan.definer = Some((definer(was), definer(now)));
    run(File::open(from)?, &mut scan)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows, and what came out; the same in pieces of any size.
    fn scanned(engine: Engine, text: &str, definer: Option<(&str, &str)>) -> (Rows, String) {
        let mut outcomes = Vec::new();
        for size in [1, 2, 3, 7, 13, 64, text.len()] {
            let mut scan = Scan::new(engine, Vec::new());
            scan.definer = definer.map(|(was, now)| (was.into(), now.into()));
            text.as_bytes().chunks(size.max(1)).for_each(|piece| scan.feed(piece).unwrap());
            scan.end().unwrap();
            outcomes.push((scan.rows, String::from_utf8(scan.out).unwrap()));
        }
        outcomes.dedup();
        assert_eq!(outcomes.len(), 1, "pieces matter: {outcomes:?}");
        outcomes.remove(0)
    }

    #[test]
    fn rows_of_mariadb_are_counted_whatever_they_hold() {
        let text = "CREATE TABLE `a` (\n  `x` text\n);\nINSERT INTO `a` VALUES\n(1,'it\\'s (2),(3)'),\n(2,NULL),(3,'');\n\
                    INSERT INTO `a` VALUES (4,';\\\\');\n-- INSERT INTO `a` VALUES (9)\n\
                    INSERT INTO `b``c` (`VALUES`, `d`) VALUES (1,''';('),(2,_binary 'x');\n-- Dump completed\n";
        let (rows, out) = scanned(Engine::Mariadb, text, None);
        assert_eq!(rows, Rows::from([("a".to_owned(), 4), ("b`c".to_owned(), 2)]));
        assert_eq!(out, text);
    }

    #[test]
    fn rows_of_postgresql_are_counted() {
        let text = "COPY public.a (x, y) FROM stdin;\n1\t\\N\n\\\\.\t2\n\n\\.\n\nCOPY public.\"B c\" (x) FROM stdin;\n\\.\n\
                    COPY public.d (x) FROM stdin;\nCOPY public.e (x) FROM stdin;\n\\.\nSELECT 1;\n";
        let (rows, out) = scanned(Engine::Postgresql, text, None);
        assert_eq!(rows, Rows::from([("public.a".to_owned(), 3), ("public.d".to_owned(), 1)]));
        assert_eq!(out, text);
    }

    #[test]
    fn only_code_gets_another_definer() {
        let was = "/*!50013 DEFINER=`socle-a`@`localhost` SQL SECURITY DEFINER */\n\
                   INSERT INTO `t` VALUES ('DEFINER=`socle-a`@');\nCREATE DEFINER=`root`@`localhost` FUNCTION f()\n-- end";
        let now = was.replacen("socle-a", "socle-b", 1);
        let (rows, out) = scanned(Engine::Mariadb, was, Some(("DEFINER=`socle-a`@", "DEFINER=`socle-b`@")));
        assert_eq!((rows["t"], out), (1, now));
    }

    #[tokio::test]
    async fn a_stream_is_counted_on_its_way() {
        let stream = |ended: Result<(), String>| {
            let (from, mut to) = io::pipe().unwrap();
            to.write_all(b"INSERT INTO `t` VALUES (1),(2);\n").unwrap();
            let (tell, whole) = tokio::sync::oneshot::channel();
            tell.send(ended).unwrap();
            counted(Engine::Mariadb, DumpStream { from: from.into(), whole }).unwrap()
        };
        let read = |from| tokio::task::spawn_blocking(move || io::read_to_string(File::from(from)).unwrap());
        let (dump, rows) = stream(Ok(()));
        assert!(read(dump.from).await.unwrap().contains("(2)"));
        let passed = Passed { rows: [("t".to_owned(), 2)].into(), bytes: 32 };
        assert_eq!((dump.whole.await.unwrap(), rows.await), (Ok(()), Some(passed)));
        let (dump, rows) = stream(Err("killed".into()));
        read(dump.from).await.unwrap();
        assert_eq!((dump.whole.await.unwrap(), rows.await), (Err("killed".into()), None));
    }
}
