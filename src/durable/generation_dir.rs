//! A set of files that only ever changes as a whole: numbered directories, and one link to the one that
//! counts.
//!
//! ```text
//! parent/1/…  parent/2/…  parent/current -> 2
//! ```
//!
//! # Guarantees
//!
//! A reader that goes through `current` finds every file of one commit, at every moment and after every
//! interruption. Files are on disk before the directory has its number, and the number before `current`
//! names it. Numbers grow and are not used twice while any of them is kept.
//!
//! # Assumptions
//!
//! One writer at a time for a parent: the caller holds a lock.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::file::DurableError;
use super::link::swap_link;

const CURRENT: &str = "current";
/// A fixed name: what an interrupted commit leaves is replaced by the next one.
const STAGE: &str = ".generation.socle-new";

/// One file of a generation.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// A plain file name.
    pub name: &'a str,
    pub bytes: &'a [u8],
    pub mode: u32,
}

/// Writes a new generation, makes it the current one and gives its number. `parent` is made if it is missing.
pub fn commit(parent: &Path, files: &[Member<'_>]) -> Result<u64, DurableError> {
    let written = |error| DurableError::Write(parent.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(written)?;
    let number = generations(parent)?.last().copied().unwrap_or(0) + 1;
    let (stage, place) = (parent.join(STAGE), parent.join(number.to_string()));
    remove_tree(&stage)?;
    DirBuilder::new().mode(0o755).create(&stage).map_err(written)?;
    for file in files {
        let path = stage.join(file.name);
        write_synced(&path, file).map_err(|error| DurableError::Write(path, error))?;
    }
    sync(&stage)?;
    trace::step(|| trace::Act::Rename(number)).map_err(written)?;
    fs::rename(&stage, &place).map_err(|error| DurableError::Rename(place.clone(), error))?;
    sync(parent)?;
    trace::step(|| trace::Act::Point(number)).map_err(written)?;
    swap_link(Path::new(&number.to_string()), &parent.join(CURRENT))?;
    Ok(number)
}

/// The current generation and its directory; `None` if nothing was ever committed.
pub fn current(parent: &Path) -> Result<Option<(u64, PathBuf)>, DurableError> {
    let link = parent.join(CURRENT);
    let target = match fs::read_link(&link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DurableError::Read(link, error)),
    };
    match target.to_str().and_then(|target| target.parse().ok()) {
        Some(number) => Ok(Some((number, parent.join(target)))),
        None => Err(DurableError::Read(link, io::Error::other("it names no generation"))),
    }
}

/// Removes all generations but the current one and the `keep` before it, and what an interrupted commit left.
pub fn retire(parent: &Path, keep: usize) -> Result<(), DurableError> {
    let Some((current, _)) = current(parent)? else { return Ok(()) };
    let all = generations(parent)?;
    let kept: Vec<u64> = all.iter().rev().copied().filter(|number| *number < current).take(keep).collect();
    for number in all.into_iter().filter(|number| *number != current && !kept.contains(number)) {
        remove_tree(&parent.join(number.to_string()))?;
    }
    remove_tree(&parent.join(STAGE))
}

/// All there are, growing.
fn generations(parent: &Path) -> Result<Vec<u64>, DurableError> {
    let failed = |error| DurableError::Read(parent.to_owned(), error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(parent).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn write_synced(path: &Path, member: &Member<'_>) -> io::Result<()> {
    // 0600 until it is whole: a key is never readable by others, not even shortly.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    trace::step(|| trace::Act::Begin(member.name.to_owned()))?;
    let (half, rest) = member.bytes.split_at(member.bytes.len() / 2);
    file.write_all(half)?;
    trace::step(|| trace::Act::Half(member.name.to_owned()))?;
    file.write_all(rest)?;
    file.set_permissions(Permissions::from_mode(member.mode))?;
    trace::step(|| trace::Act::SyncFile(member.name.to_owned()))?;
    file.sync_all()
}

fn sync(directory: &Path) -> Result<(), DurableError> {
    let failed = |error| DurableError::Sync(directory.to_owned(), error);
    trace::step(|| trace::Act::SyncDirectory).map_err(failed)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

fn remove_tree(path: &Path) -> Result<(), DurableError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DurableError::Remove(path.to_owned(), error)),
        _ => Ok(()),
    }
}

/// Where a test can look, and end the commit as an interruption would.
#[cfg(not(test))]
mod trace {
    #[expect(dead_code, reason = "read by tests only")]
    pub enum Act {
        Begin(String),
        Half(String),
        SyncFile(String),
        SyncDirectory,
        Rename(u64),
        Point(u64),
    }

    #[expect(clippy::unnecessary_wraps, reason = "fails in tests")]
    pub fn step(_: impl FnOnce() -> Act) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod trace {
    use std::cell::RefCell;
    use std::io;

    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Act {
        Begin(String),
        Half(String),
        SyncFile(String),
        SyncDirectory,
        Rename(u64),
        Point(u64),
    }

    thread_local! {
        static ACTS: RefCell<Vec<Act>> = const { RefCell::new(Vec::new()) };
        static LEFT: RefCell<Option<usize>> = const { RefCell::new(None) };
    }

    pub fn step(act: impl FnOnce() -> Act) -> io::Result<()> {
        if LEFT.with_borrow_mut(|left| {
            left.as_mut().is_some_and(|left| std::mem::replace(left, left.saturating_sub(1)) == 0)
        }) {
            return Err(io::Error::other("interrupted"));
        }
        ACTS.with_borrow_mut(|acts| acts.push(act()));
        Ok(())
    }

    /// Interrupts at the act number `after`; `None`: never.
    pub fn interrupt(after: Option<usize>) {
        LEFT.set(after);
        ACTS.take();
    }

    pub fn acts() -> Vec<Act> {
        ACTS.with_borrow(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::trace::{Act, acts, interrupt};
    use super::*;

    fn pair(text: &str) -> [Member<'_>; 2] {
        [
            Member { name: "key", bytes: text.as_bytes(), mode: 0o600 },
            Member { name: "chain", bytes: text.as_bytes(), mode: 0o644 },
        ]
    }

    /// What a reader finds: both files of one commit, whole.
    fn read(parent: &Path) -> String {
        let (_, directory) = current(parent).unwrap().unwrap();
        let [key, chain] = ["key", "chain"].map(|name| fs::read_to_string(directory.join(name)).unwrap());
        assert_eq!(key, chain);
        key
    }

    #[test]
    fn generations_grow_and_old_ones_are_retired() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("tls/blog");
        assert_eq!(current(&parent).unwrap(), None);
        for (number, text) in [(1, "one"), (2, "two"), (3, "three"), (4, "four")] {
            assert_eq!(commit(&parent, &pair(text)).unwrap(), number);
            assert_eq!(read(&parent), text);
        }
        retire(&parent, 2).unwrap();
        assert_eq!(generations(&parent).unwrap(), [2, 3, 4]);
        retire(&parent, 0).unwrap();
        assert_eq!(generations(&parent).unwrap(), [4]);
        let mode = |name: &str| fs::metadata(parent.join("current").join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("key"), mode("chain")), (0o600, 0o644));
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 2);
    }

    #[test]
    fn an_interruption_anywhere_leaves_the_old_generation_or_the_new_one() {
        interrupt(None);
        let dir = tempfile::tempdir().unwrap();
        commit(dir.path(), &pair("count")).unwrap();
        let all = acts().len();
        assert_eq!(all, 2 * 3 + 4);
        for after in 0..=all {
            let dir = tempfile::tempdir().unwrap();
            interrupt(None);
            commit(dir.path(), &pair("the old one")).unwrap();
            interrupt(Some(after));
            let whole = commit(dir.path(), &pair("the new one"));
            assert_eq!(whole.is_ok(), after == all);
            assert_eq!(read(dir.path()), if after == all { "the new one" } else { "the old one" }, "{after}");
            interrupt(None);
            let number = commit(dir.path(), &pair("the next one")).unwrap();
            assert_eq!(read(dir.path()), "the next one");
            retire(dir.path(), 0).unwrap();
            assert_eq!(generations(dir.path()).unwrap(), [number]);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{after}: debris");
        }
    }

    /// A power cut keeps what was synced; of the rest, any part. The worst part: names, without what they name.
    #[test]
    fn nothing_is_named_before_it_is_on_disk() {
        interrupt(None);
        let dir = tempfile::tempdir().unwrap();
        commit(dir.path(), &pair("text")).unwrap();
        let (mut synced, mut staged, mut named) = (Vec::new(), false, false);
        for act in acts() {
            match act {
                Act::Begin(_) | Act::Half(_) => assert!(!staged),
                Act::SyncFile(name) => synced.push(name),
                // First of the stage, then of the parent.
                Act::SyncDirectory if !staged => {
                    assert_eq!(synced, ["key", "chain"]);
                    staged = true;
                }
                Act::SyncDirectory => assert!(named),
                Act::Rename(_) => {
                    assert!(staged);
                    named = true;
                }
                Act::Point(number) => assert!(named && number == 1),
            }
        }
    }

    #[test]
    fn a_link_to_elsewhere_is_no_generation() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("current")).unwrap();
        assert!(matches!(current(dir.path()), Err(DurableError::Read(..))));
    }
}
