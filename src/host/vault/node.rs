//! What restic keeps of a file besides its content.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use nix::unistd::{Gid, Group, Uid, User};
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustix::fs::{FileType, Stat, lgetxattr, llistxattr, readlinkat};
use serde_json::json;

/// Bits of Go's `os.FileMode`, which restic stores (<https://pkg.go.dev/io/fs#FileMode>).
const GO_DIRECTORY: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_PIPE: u32 = 1 << 25;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHARACTER: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

/// Names of users and groups, each asked for once.
#[derive(Default)]
pub(super) struct Names {
    users: Mutex<HashMap<u32, Option<String>>>,
    groups: Mutex<HashMap<u32, Option<String>>>,
}

impl Names {
    fn user(&self, uid: u32) -> Option<String> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // A number without a name, or a directory of names that does not answer: the number stands beside it.
        let ask = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        users.entry(uid).or_insert_with(ask).clone()
    }

    fn group(&self, gid: u32) -> Option<String> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name);
        groups.entry(gid).or_insert_with(ask).clone()
    }
}

/// The node of `name` in an open directory, under the name `called`; `None` for a socket, which lives only as
/// long as its server.
pub(super) fn of(
    parent: impl AsFd,
    name: &OsStr,
    called: &OsStr,
    stat: &Stat,
    names: &Names,
) -> io::Result<Option<Node>> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeType::File,
        FileType::Directory => NodeType::Dir,
        FileType::Symlink => {
            let target = readlinkat(parent.as_fd(), name, Vec::new())?;
            NodeType::from_link(Path::new(OsStr::from_bytes(target.to_bytes())))
        }
        FileType::BlockDevice => NodeType::Dev { device: stat.st_rdev },
        FileType::CharacterDevice => NodeType::Chardev { device: stat.st_rdev },
        FileType::Fifo => NodeType::Fifo,
        FileType::Socket | FileType::Unknown => return Ok(None),
    };
    let links = wide(stat.st_nlink);
    let mtime = time(stat.st_mtime, stat.st_mtime_nsec)?;
    let mut meta = Metadata {
        mode: Some(go_mode(stat.st_mode)),
        mtime: Some(mtime),
        // Of no use after a restore, and it would make every tree a new one.
        atime: Some(mtime),
        ctime: Some(time(stat.st_ctime, stat.st_ctime_nsec)?),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
        user: names.user(stat.st_uid),
        group: names.group(stat.st_gid),
        inode: stat.st_ino,
        // Only to tell hard links apart: a snapshot of a file system has another number every time.
        device_id: if links > 1 && kind == NodeType::File { stat.st_dev } else { 0 },
        size: if kind == NodeType::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        links: if kind == NodeType::Dir { 0 } else { links },
        extended_attributes: Vec::new(),
    };
    let attributes = attributes(&parent, name)?;
    if !attributes.is_empty() {
        // The library does not name the type of these.
        let attributes: Vec<_> =
            attributes.iter().map(|(name, value)| json!({ "name": name, "value": base64(value) })).collect();
        meta.extended_attributes = serde_json::from_value(attributes.into()).map_err(io::Error::other)?;
    }
    Ok(Some(Node::new_node(called, kind, meta)))
}

/// A file that is on no disk, of a length that is not known yet.
pub(super) fn alone(name: &OsStr, at: Timestamp) -> Node {
    let meta = Metadata {
        mode: Some(0o600),
        mtime: Some(at),
        atime: Some(at),
        ctime: Some(at),
        uid: Some(0),
        gid: Some(0),
        user: Some("root".to_owned()),
        group: Some("root".to_owned()),
        links: 1,
        ..Metadata::default()
    };
    Node::new_node(name, NodeType::File, meta)
}

/// A directory of the snapshot that is none on the machine.
pub(super) fn on_the_way(name: &OsStr) -> Node {
    Node::new_node(name, NodeType::Dir, Metadata { mode: Some(go_mode(0o040_755)), ..Metadata::default() })
}

/// A number of links, whose width is the machine's.
pub(super) fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

fn time(seconds: i64, nanoseconds: impl TryInto<i32>) -> io::Result<Timestamp> {
    let nanoseconds = nanoseconds.try_into().unwrap_or(0);
    Timestamp::new(seconds, nanoseconds).map_err(io::Error::other)
}

/// Mode of stat(2) as Go's.
pub(super) fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => GO_DIRECTORY,
        FileType::Symlink => GO_SYMLINK,
        FileType::BlockDevice => GO_DEVICE,
        FileType::CharacterDevice => GO_DEVICE | GO_CHARACTER,
        FileType::Fifo => GO_PIPE,
        _ => 0,
    };
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    let special = special.into_iter().filter(|(bit, _)| mode & bit != 0).fold(0, |all, (_, go)| all | go);
    kind | special | (mode & 0o777)
}

/// Permissions of Go's mode as those of chmod(2).
pub(super) fn permissions(go: u32) -> u32 {
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    special.into_iter().filter(|(_, bit)| go & bit != 0).fold(go & 0o777, |all, (mode, _)| all | mode)
}

/// Extended attributes, access control lists among them; none where the file system has none.
pub(super) fn attributes(parent: impl AsFd, name: &OsStr) -> io::Result<Vec<(String, Vec<u8>)>> {
    let path = through(parent, name)?;
    // Almost no file has any, few have long ones.
    let mut few = [0; 512];
    let mut many = Vec::new();
    let names = match llistxattr(&path, &mut few[..]) {
        Ok(length) => &few[..length],
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(rustix::io::Errno::RANGE) => {
            many.resize(64 << 10, 0);
            let length = llistxattr(&path, &mut many[..])?;
            &many[..length]
        }
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let text = std::str::from_utf8(name).map_err(io::Error::other)?;
        let mut value = vec![0; 64 << 10];
        match lgetxattr(&path, text, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((text.to_owned(), value));
            }
            // Gone since it was listed.
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// The path of what stands at `name` in an open directory, for calls that take no directory.
pub(super) fn through(parent: impl AsFd, name: &OsStr) -> io::Result<CString> {
    use std::os::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}/", parent.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    CString::new(path).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos_and_come_back() {
        // As restic 0.14 stores them.
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_mode(0o120_777), 134_218_239);
        assert_eq!(go_mode(0o020_620), 69_206_416);
        for mode in [0o4755, 0o2755, 0o1777, 0o7000, 0o640] {
            assert_eq!(permissions(go_mode(0o100_000 | mode)), mode);
        }
    }
}
