//! Every effect on the machine and the network, behind small ports named by facility; adapters are
//! named by technology.
//!
//! Owns: all effects but the agent's own state files (those go through [`crate::durable`]). Never:
//! decides anything. The file system is not a port: real files below [`Host::root`], a temporary
//! directory in tests ([`files`]). Start reading at [`Host`].

pub mod accounts;
pub mod apt;
pub mod archive;
pub mod authority;
pub mod certificates;
pub mod copies;
pub mod dns;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod fetch;
pub mod files;
pub mod listeners;
pub mod memory;
pub mod nginx;
pub mod ports;
pub mod probe;
pub mod process;
pub mod reach;
pub mod served;
pub mod sql;
pub mod systemd;
pub mod tasks;
pub mod vault;
pub mod venv;

use std::path::PathBuf;
use std::sync::Arc;

pub use ports::*;

/// The bundle of ports a pass works with.
#[derive(Clone)]
pub struct Host {
    /// `/`, or a temporary directory in tests. Every absolute path is taken below it.
    pub root: PathBuf,
    pub units: Arc<dyn Units>,
    pub packages: Arc<dyn Packages>,
    pub accounts: Arc<dyn Accounts>,
    pub databases: Arc<dyn Databases>,
    pub web: Arc<dyn WebServer>,
    pub fetch: Arc<dyn Fetch>,
    pub archives: Arc<dyn Archives>,
    pub builds: Arc<dyn Builds>,
    pub tasks: Arc<dyn Tasks>,
    pub snapshots: Arc<dyn Snapshots>,
    pub probes: Arc<dyn Probes>,
    /// Where the long acts of a pass tell how far they are.
    pub progress: Arc<dyn Progress>,
}
