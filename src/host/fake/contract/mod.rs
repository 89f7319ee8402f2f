//! What every adapter of a port does: one suite a port, run on the stand-in (beside it) and on the real one
//! (in a machine of the lab, `tests/e2e/inside`). A test that passes on stand-ins says something of a server
//! only as far as these suites go.
//!
//! Each panics where the contract is broken.

mod accounts;
mod archives;
mod builds;
mod databases;
mod fetch;
mod packages;
mod probes;
mod snapshots;
mod tasks;
mod units;
mod vault;
mod web;

pub use accounts::accounts;
pub use archives::archives;
pub use builds::builds;
pub use databases::databases;
pub use fetch::fetch;
pub use packages::packages;
pub use probes::probes;
pub use snapshots::snapshots;
pub use tasks::{Ends, tasks};
pub use units::{failing_unit, units};
pub use vault::vault;
pub use web::web;

use std::collections::BTreeSet;
use std::path::Path;

/// In a directory that is made.
fn put_below(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a file")).expect("the scratch is writable");
    put(path, bytes);
}

fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    crate::durable::write(path, bytes.as_ref(), 0o644).expect("the scratch is writable");
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}
