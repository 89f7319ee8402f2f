//! What root does for the controller is done as the controller's user, so that it can read it afterwards.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use nix::unistd::{User, chown, getuid, setgid, setgroups, setuid};

/// Of the package `socle-controller`.
const USER: &str = "socle-controller";

/// Makes the directory, and becomes the user it belongs to. Without that user, or without being root: stays.
/// There is no way back: the rest of the process is that user's.
pub fn become_owner_of(home: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot make `{}`", home.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).with_context(failed)?;
    if !getuid().is_root() {
        return Ok(());
    }
    let Some(user) = User::from_name(USER).with_context(|| format!("cannot look up the user `{USER}`"))? else {
        return Ok(());
    };
    chown(home, Some(user.uid), Some(user.gid)).with_context(failed)?;
    // Groups first: afterwards there is no right to.
    let changed = setgroups(&[]).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid));
    changed.with_context(|| format!("cannot become the user `{USER}`"))
}
