//! The agent of a joined server, on a host of stand-ins.

use std::path::Path;
use std::sync::Arc;

use socle::agent::reconcile::Agent;
use socle::agent::relay::Relay;
use socle::host::fake::{self, FakeVault};
use socle::recipe::{Catalog, Facts};

use crate::world::{Machine, now, random};

/// Its state is the machine's, all else of the host below `root`.
pub fn of(machine: &Machine, root: &Path) -> Agent {
    Agent {
        host: fake::host(root),
        vault: Arc::new(FakeVault::default()),
        state: machine.path(),
        catalog: Catalog::built_in(),
        facts: Facts::of_debian(13).unwrap(),
        python_index: None,
        interval_s: 1,
        progress: Arc::new(Relay::default()),
        now,
        random,
    }
}
