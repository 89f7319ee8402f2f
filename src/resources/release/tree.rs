//! The digest of a whole tree: what was staged is what is switched to.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::model::Digest;

/// More readers than this only wait for the disk.
const READERS: usize = 4;

/// Over every name with its kind, owner, mode and the digest of its content; not over times. Follows no link. Takes
/// about as long as reading the tree: 80 ms for WordPress on one core, 45 ms on two.
pub(super) fn digest(root: &Path) -> io::Result<Digest> {
    let mut tree = Tree { hasher: Sha256::new(), files: Vec::new() };
    tree.directory(root)?;
    for content in contents(&tree.files)? {
        tree.hasher.update(content);
    }
    Ok(Digest::from_hasher(tree.hasher))
}

struct Tree {
    hasher: Sha256,
    /// In the order in which their names were hashed.
    files: Vec<PathBuf>,
}

impl Tree {
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        self.part(&(entries.len() as u64).to_le_bytes());
        for entry in entries {
            let (path, seen) = (entry.path(), entry.metadata()?);
            self.part(entry.file_name().as_bytes());
            self.part(&[seen.mode(), seen.uid(), seen.gid()].map(u32::to_le_bytes).concat());
            if seen.is_dir() {
                self.directory(&path)?;
            } else if seen.is_symlink() {
                self.part(fs::read_link(&path)?.as_os_str().as_bytes());
            } else if seen.is_file() {
                self.files.push(path);
            }
        }
        Ok(())
    }

    /// With its length, so that no byte can move from one part to the next.
    fn part(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

/// The digests of files, in their order; the first error in it.
fn contents(files: &[PathBuf]) -> io::Result<Vec<[u8; 32]>> {
    let readers = thread::available_parallelism().map_or(1, usize::from).min(READERS);
    let next = AtomicUsize::new(0);
    let read = || {
        let mut read = Vec::with_capacity(files.len() / readers + 1);
        while let nth = next.fetch_add(1, Ordering::Relaxed)
            && let Some(path) = files.get(nth)
        {
            read.push((nth, content(path)));
        }
        read
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..readers).map(|_| scope.spawn(read)).collect();
        let mut all = read();
        all.extend(others.into_iter().flat_map(|other| other.join().expect("reading does not panic")));
        all
    });
    all.sort_unstable_by_key(|(nth, _)| *nth);
    all.into_iter().map(|(_, digest)| digest).collect()
}

fn content(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut chunk = [0; 64 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&chunk[..read]),
        }
    }
}
