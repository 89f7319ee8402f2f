//! Repositories of backups, in the format of restic.
//!
//! Owns: the port [`Vault`] and its adapter [`RusticVault`]. Never: knows what an instance is, when a backup is
//! due, or how long a snapshot is kept.
//!
//! # The flow
//!
//! Every act is a child of its own ([`SUBCOMMAND`], `child`): the request, with the recovery key, goes in over a
//! socket, lines of progress and one answer come back. `rustic_core` knows the format and prunes; what is saved is written
//! by `archive`, and what is read to be proven or brought back by our own reader (`format`, `index`), which names
//! damage and needs little memory. Start reading at `child::act`.
//!
//! # Guarantees
//!
//! A snapshot is written last, after every pack and index it needs, and only if all that was to be saved could be
//! read. There are no locks of ours: prune marks packs first and removes them in a later run, so what is
//! interrupted needs nobody; restic's own locks are respected, and removed when their holder is dead.

mod archive;
mod check;
mod child;
mod error;
mod format;
mod index;
mod node;
mod port;
mod restore;
mod rustic;
mod save;
mod seal_key;
mod sealed;
mod ssh_key;
mod store;
mod upkeep;
mod wire;

pub use child::child_main;
pub use port::*;
pub use rustic::RusticVault;
pub use ssh_key::{SshKey, SshKeyError};

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "internal-vault";
