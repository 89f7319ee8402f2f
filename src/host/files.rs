//! Files below the host's root. Not a port: real files, in tests below a temporary directory.

use std::path::{Path, PathBuf};

use super::Host;

impl Host {
    /// Where an absolute path of the server is on this machine.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.root.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }
}
