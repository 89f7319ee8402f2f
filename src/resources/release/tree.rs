//! The digest of a whole tree: what was staged is what is switched to.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::model::Digest;

/// Over every name with its kind, owner, mode and content; not over times. Follows no link. Takes about as long
/// as reading the tree: 80 ms for WordPress.
pub(super) fn digest(root: &Path) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    directory(&mut hasher, root)?;
    Ok(Digest::from_hasher(hasher))
}

fn directory(hasher: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    part(hasher, &(entries.len() as u64).to_le_bytes());
    for entry in entries {
        let (path, seen) = (entry.path(), entry.metadata()?);
        part(hasher, entry.file_name().as_bytes());
        part(hasher, &[seen.mode(), seen.uid(), seen.gid()].map(u32::to_le_bytes).concat());
        if seen.is_dir() {
            directory(hasher, &path)?;
        } else if seen.is_symlink() {
            part(hasher, fs::read_link(&path)?.as_os_str().as_bytes());
        } else if seen.is_file() {
            file(hasher, &path, seen.len())?;
        }
    }
    Ok(())
}

/// With its length, so that no byte can move from one part to the next.
fn part(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn file(hasher: &mut Sha256, path: &Path, length: u64) -> io::Result<()> {
    hasher.update(length.to_le_bytes());
    let mut file = File::open(path)?;
    let mut chunk = [0; 64 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(()),
            read => hasher.update(&chunk[..read]),
        }
    }
}
