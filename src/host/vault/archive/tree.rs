//! Directories, finished when all in them is known.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use rustic_core::Id;
use rustic_core::repofile::{Node, SnapshotSummary, Tree};

use super::Archive;
use super::pack::Pack;
use super::seal::Content;
use crate::host::vault::error::VaultError;
use crate::host::vault::index::BlobKind;

/// How something stands to the earlier snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    Absent,
    Other,
    Same,
}

/// One name of a directory.
pub(super) struct Met {
    pub node: Node,
    pub was: Was,
    /// The bytes that were read, and what they became.
    pub read: Option<(u64, Arc<Content>)>,
}

/// A directory whose files were all read. Those in it come before it, in their order.
pub(super) struct Listed {
    pub all: Vec<Met>,
    /// The directory at the same place of the earlier snapshot.
    pub earlier: Option<(Id, Vec<Node>)>,
}

/// The root, and the counts, which begin as `summary`; `None` after a failure, or if nothing came.
pub(super) fn finish(
    archive: &Archive<'_>,
    listed: &Receiver<Listed>,
    packs: &SyncSender<Pack>,
    mut summary: SnapshotSummary,
) -> Option<(Id, SnapshotSummary)> {
    let mut sealer = archive.packer.sealer();
    let mut done: Vec<Id> = Vec::new();
    for Listed { all, earlier } in listed {
        // After a failure the rest is only taken, so that nobody waits for us.
        if archive.has_failed() {
            continue;
        }
        let below = all.iter().filter(|met| met.node.is_dir()).count();
        let mut below = done.split_off(done.len() - below).into_iter();
        let Some(nodes) = all.into_iter().map(|met| settle(met, &mut below, &mut summary)).collect::<Option<Vec<_>>>()
        else {
            // Whoever lost a chunk said why, unless it ended by a fault of ours.
            archive.fail(VaultError::Library { act: "save", text: "a part of a file was lost".to_owned() });
            continue;
        };
        let tree = Tree { nodes };
        summary.total_dirs_processed += 1;
        let was = match earlier {
            Some((id, nodes)) if nodes == tree.nodes && archive.packer.has(BlobKind::Tree, &id) => {
                summary.dirs_unmodified += 1;
                done.push(id);
                continue;
            }
            Some(_) => &mut summary.dirs_changed,
            None => &mut summary.dirs_new,
        };
        *was += 1;
        let written = tree
            .serialize()
            .map_err(|error| VaultError::Library { act: "write a directory", text: error.to_string() })
            .and_then(|(text, id)| {
                summary.total_dirsize_processed += text.len() as u64;
                archive.packer.put(&mut sealer, BlobKind::Tree, *id, &text, packs).map(|()| *id)
            });
        match written {
            Ok(id) => done.push(id),
            Err(error) => archive.fail(error),
        }
    }
    // After a failure some are missing, and nobody asks for the root.
    let root = done.pop().filter(|_| !archive.has_failed())?;
    Some((root, summary))
}

/// The node as it stands in the tree.
fn settle(met: Met, below: &mut impl Iterator<Item = Id>, summary: &mut SnapshotSummary) -> Option<Node> {
    let Met { mut node, was, read } = met;
    if node.is_dir() {
        node.subtree = Some(below.next()?.into());
        return Some(node);
    }
    if let Some((bytes, content)) = read {
        node.content = Some(content.ids()?);
        // As it was read, not as it was listed: restic restores no content of a file of no length.
        node.meta.size = bytes;
    }
    summary.total_files_processed += 1;
    summary.total_bytes_processed += node.meta.size;
    *match was {
        Was::Absent => &mut summary.files_new,
        Was::Other => &mut summary.files_changed,
        Was::Same => &mut summary.files_unmodified,
    } += 1;
    Some(node)
}
