//! Trees of files: made, and compared in all that a backup has to keep.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Everything of one file but its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    size: u64,
    content: String,
    links: u64,
    device: u64,
    attributes: Vec<(String, Vec<u8>)>,
}

/// All below `root`, itself as the empty path.
pub fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(&path) };
        let metadata = fs::symlink_metadata(&full).unwrap();
        let kind = metadata.file_type();
        if kind.is_dir() {
            open.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        let (name, content) = match kind {
            kind if kind.is_dir() => ("directory", String::new()),
            kind if kind.is_symlink() => ("link", format!("{:?}", fs::read_link(&full).unwrap())),
            kind if kind.is_fifo() => ("fifo", String::new()),
            kind if kind.is_char_device() => ("device", String::new()),
            _ => ("file", digest(&full)),
        };
        let one = Seen {
            kind: name,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: if kind.is_file() { metadata.len() } else { 0 },
            content,
            links: if kind.is_dir() { 0 } else { metadata.nlink() },
            device: metadata.rdev(),
            attributes: attributes(&full),
        };
        seen.insert(path, one);
    }
    seen
}

/// Says what differs, not both trees.
pub fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (look(one), look(other));
    for (path, seen) in &one {
        assert_eq!(Some(seen), other.get(path), "{path:?}");
    }
    let more: Vec<_> = other.keys().filter(|path| !one.contains_key(*path)).collect();
    assert!(more.is_empty(), "{more:?}");
    assert!(one.len() > 1, "an empty tree compares with everything");
}

fn digest(path: &Path) -> String {
    let (mut hash, mut file) = (Sha256::new(), File::open(path).unwrap());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return format!("{:x?}", hash.finalize()),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut all: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).unwrap();
            (name, value[..length].to_vec())
        })
        .collect();
    all.sort();
    all
}

/// Bytes that do not compress and are the same every time.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A small site: some directories, text, noise of several sizes, an empty file.
pub fn plant(root: &Path, seed: u64) {
    for directory in ["", "content", "content/2026", "empty"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for number in 0..20_u64 {
        let text = format!("page {seed} {number}\n").repeat(100 * (number as usize + 1));
        fs::write(root.join(format!("content/page-{number}.html")), text).unwrap();
        let bytes = noise(seed * 1000 + number, 1 << (number / 2 + 8));
        fs::write(root.join(format!("content/2026/picture-{number}.jpg")), bytes).unwrap();
    }
    fs::write(root.join("large"), noise(seed, 9 << 20)).unwrap();
    fs::write(root.join("nothing"), "").unwrap();
}

/// What no file system is kind about.
pub fn plant_hostile(root: &Path) {
    use rustix::fs::{FileType, Mode, XattrFlags, chmod, lsetxattr, mknodat};
    use std::ffi::OsStr;
    fs::create_dir_all(root.join("names")).unwrap();
    let names: [&[u8]; 9] = [
        b"caf\xe9",
        b"\xff\xfe",
        b"new\nline",
        b"quote\"back\\slash",
        b"tab\t",
        b" ",
        b"-rf",
        "ünïcödé 漢字".as_bytes(),
        b"\x01\x7f",
    ];
    for name in names {
        fs::write(root.join("names").join(OsStr::from_bytes(name)), name).unwrap();
        std::os::unix::fs::symlink(OsStr::from_bytes(name), root.join("names").join([b"to ", name].concat().as_os()))
            .unwrap();
    }
    std::os::unix::fs::symlink("/nonexistent", root.join("dangling")).unwrap();
    fs::write(root.join("one"), "linked").unwrap();
    fs::hard_link(root.join("one"), root.join("names/two")).unwrap();
    fs::hard_link(root.join("one"), root.join("zero")).unwrap();
    fs::write(root.join("set-uid"), "x").unwrap();
    std::os::unix::fs::chown(root.join("set-uid"), Some(33), Some(12345)).unwrap();
    chmod(root.join("set-uid"), Mode::from_raw_mode(0o6751)).unwrap();
    fs::create_dir(root.join("sticky")).unwrap();
    chmod(root.join("sticky"), Mode::from_raw_mode(0o1777)).unwrap();
    fs::write(root.join("locked"), "x").unwrap();
    chmod(root.join("locked"), Mode::empty()).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/inside"), "x").unwrap();
    chmod(root.join("closed"), Mode::RUSR).unwrap();
    mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(rustix::fs::CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), 0x103).unwrap();
    let old = std::time::UNIX_EPOCH - std::time::Duration::new(1_000_000, 500);
    File::open(root.join("one")).unwrap().set_modified(old).unwrap();
    lsetxattr(root.join("one"), "user.note", b"\x00\xff bytes", XattrFlags::empty()).unwrap();
    lsetxattr(root.join("sticky"), "trusted.mark", b"here", XattrFlags::empty()).unwrap();
    for (target, default) in [("one", false), ("sticky", false), ("sticky", true)] {
        let name = if default { "system.posix_acl_default" } else { "system.posix_acl_access" };
        lsetxattr(root.join(target), name, &acl(), XattrFlags::empty()).unwrap();
    }
    let mut deep = root.join("deep");
    fs::create_dir(&deep).unwrap();
    for _ in 0..40 {
        deep.push("d".repeat(60));
        fs::create_dir(&deep).unwrap();
    }
    fs::write(deep.join("bottom"), "far below").unwrap();
}

/// `user::rwx, user:www-data:rw-, group::r-x, mask::rwx, other::---`, as the kernel keeps it.
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 7, u32::MAX), (0x02, 6, 33), (0x04, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

trait AsOs {
    fn as_os(&self) -> &std::ffi::OsStr;
}

impl AsOs for Vec<u8> {
    fn as_os(&self) -> &std::ffi::OsStr {
        std::ffi::OsStr::from_bytes(self)
    }
}
