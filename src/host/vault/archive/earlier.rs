//! The snapshot that a new one is compared with.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use rustic_core::Id;
use rustic_core::repofile::{Node, SnapshotFile};

use crate::host::vault::child::Tell;
use crate::host::vault::error::VaultError;
use crate::host::vault::format::Repo;
use crate::host::vault::index::Index;
use crate::host::vault::sealed::Opener;

/// Clocks of file systems stand still for so long: what was changed just before it was read may have been changed just
/// after as well, and show the same time.
const TICK: i64 = 1;

/// The newest of the same host and tags.
pub(in super::super) fn newest(
    repo: &Repo,
    host: &str,
    tags: &[String],
    tell: &Tell,
) -> Result<Option<SnapshotFile>, VaultError> {
    let wanted: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    let newest = Mutex::new(None::<SnapshotFile>);
    repo.each_snapshot(tell, |snapshot| {
        let tags: BTreeSet<&str> = snapshot.tags.iter().map(String::as_str).collect();
        let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshot.hostname == host && tags == wanted && newest.as_ref().is_none_or(|known| known.time < snapshot.time)
        {
            *newest = Some(snapshot);
        }
    })?;
    Ok(newest.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What is known of an earlier snapshot.
pub(in super::super) struct Earlier<'a> {
    repo: &'a Repo,
    index: &'a Index,
    opener: Opener,
    tell: &'a Tell,
    root: Id,
    begun: Timestamp,
}

impl<'a> Earlier<'a> {
    pub fn new(repo: &'a Repo, index: &'a Index, snapshot: &SnapshotFile, tell: &'a Tell) -> Self {
        let begun = snapshot.summary.as_ref().map_or(&snapshot.time, |summary| &summary.backup_start);
        Self { repo, index, opener: repo.opener(), tell, root: *snapshot.tree, begun: begun.timestamp() }
    }

    pub(super) fn root(&mut self) -> Result<Option<Then>, VaultError> {
        self.directory(&self.root.clone())
    }

    /// A directory of it, if it is whole: else all in it is read again, which mends it.
    pub(super) fn directory(&mut self, id: &Id) -> Result<Option<Then>, VaultError> {
        match self.repo.tree(self.index, &mut self.opener, id) {
            Ok(tree) => Ok(Some(Then { id: *id, nodes: tree.nodes, next: 0 })),
            Err(error @ VaultError::Damaged { .. }) => {
                self.tell.say(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn is_same(&self, then: &Node, now: &Node) -> bool {
        is_same(then, now, self.begun)
    }
}

/// Whether a file can be taken for the one that a snapshot read that was begun at `begun`.
fn is_same(then: &Node, now: &Node, begun: Timestamp) -> bool {
    let (before, after) = (&then.meta, &now.meta);
    then.node_type == now.node_type
        && before.size == after.size
        && before.mtime == after.mtime
        && before.ctime == after.ctime
        && after.ctime.is_some_and(|changed| changed.as_second() + TICK < begun.as_second())
}

/// A directory of an earlier snapshot, gone through in the order of its names.
pub(super) struct Then {
    pub id: Id,
    pub nodes: Vec<Node>,
    next: usize,
}

impl Then {
    /// What stood at the name of `now`. Names are asked for in their order.
    pub fn node(&mut self, now: &Node) -> Option<&Node> {
        // Almost always it is the next one.
        if self.nodes.get(self.next).is_none_or(|then| then.name != now.name) {
            let name = now.name();
            self.next += self.nodes[self.next..].iter().take_while(|then| then.name() < name).count();
        }
        self.nodes.get(self.next).filter(|then| then.name == now.name)
    }
}

#[cfg(test)]
mod tests {
    use rustic_core::repofile::{Metadata, NodeType};

    use super::*;

    fn file(name: &str, size: u64, changed: i64) -> Node {
        let at = Timestamp::from_second(changed).unwrap();
        let meta = Metadata { size, mtime: Some(at), ctime: Some(at), ..Metadata::default() };
        Node::new_node(name.as_ref(), NodeType::File, meta)
    }

    #[test]
    fn only_what_was_long_unchanged_when_it_was_read_is_the_same() {
        let begun = Timestamp::from_second(1000).unwrap();
        let then = file("a", 7, 900);
        assert!(is_same(&then, &file("a", 7, 900), begun));
        assert!(!is_same(&then, &file("a", 8, 900), begun));
        assert!(!is_same(&then, &file("a", 7, 901), begun));
        // Of the second in which it was read, or later: what came after may not be in it.
        for changed in [999, 1000, 1001] {
            let then = file("a", 7, changed);
            assert!(!is_same(&then, &then, begun), "{changed}");
        }
        let mut link = then.clone();
        link.node_type = NodeType::from_link("x".as_ref());
        assert!(!is_same(&then, &link, begun));
    }

    #[test]
    fn names_are_found_in_their_order_whatever_came_and_went() {
        let nodes = ["a", "b", "d", "e\n", "f"].map(|name| file(name, 1, 1)).to_vec();
        let mut then = Then { id: Id::default(), nodes, next: 0 };
        let found: Vec<_> =
            ["a", "c", "d", "e\n", "e-new", "f", "z"].map(|name| then.node(&file(name, 2, 2)).is_some()).to_vec();
        assert_eq!(found, [true, false, true, true, false, true, false]);
    }
}
