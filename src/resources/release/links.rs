//! The links inside a release to what persists outside. The tree comes from an archive: no link of
//! its own is followed on the way.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::Link;
use crate::host::archive::open_directory;

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("cannot open `{0}`")]
    Open(PathBuf, #[source] io::Error),
    #[error("`{0}` is not a plain relative path")]
    Path(String),
    #[error("`{0}` lies below something that is not a directory")]
    Below(String),
    #[error("the release ships `{0}.dist` already")]
    Taken(String),
    #[error("cannot make the link `{path}`")]
    Make { path: String, source: io::Error },
}

impl LinkError {
    /// It is how the release is made, not what the machine can do.
    pub fn is_content(&self) -> bool {
        match self {
            LinkError::Path(_) | LinkError::Below(_) | LinkError::Taken(_) => true,
            LinkError::Open(..) | LinkError::Make { .. } => false,
        }
    }
}

pub(super) fn make(stage: &Path, links: &[Link]) -> Result<(), LinkError> {
    let root = File::open(stage).map_err(|error| LinkError::Open(stage.to_owned(), error))?;
    let root = OwnedFd::from(root);
    links.iter().try_for_each(|link| one(&root, link))
}

fn one(root: &OwnedFd, link: &Link) -> Result<(), LinkError> {
    let failed = |error: Errno| LinkError::Make { path: link.path.clone(), source: error.into() };
    check(&link.path)?;
    check(&link.target)?;
    let (parent, name) = link.path.rsplit_once('/').unwrap_or(("", &link.path));
    let parent = enter(root, parent)?;
    let shipped = format!("{name}.dist");
    match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
        Ok(_) => match rustix::fs::statat(&parent, shipped.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rustix::fs::renameat(&parent, name, &parent, shipped.as_str()).map_err(failed)?,
            Err(error) => return Err(failed(error)),
            Ok(_) => return Err(LinkError::Taken(link.path.clone())),
        },
    }
    rustix::fs::symlinkat(target(link), &parent, name).map_err(failed)
}

/// From the link's directory up to the instance's: out of the release, and of `releases`. Relative,
/// so that it holds below any root.
fn target(link: &Link) -> String {
    format!("{}{}", "../".repeat(link.path.matches('/').count() + 2), link.target)
}

fn check(path: &str) -> Result<(), LinkError> {
    let plain = path.split('/').all(|component| !matches!(component, "" | "." | ".."));
    if plain && !path.chars().any(char::is_control) { Ok(()) } else { Err(LinkError::Path(path.to_owned())) }
}

/// Opens the directory `path`, made where it is missing.
fn enter(root: &OwnedFd, path: &str) -> Result<OwnedFd, LinkError> {
    let failed = |error: Errno| match error {
        Errno::NOTDIR | Errno::LOOP => LinkError::Below(path.to_owned()),
        error => LinkError::Make { path: path.to_owned(), source: error.into() },
    };
    let mut here = open_directory(root.as_fd(), "").map_err(failed)?;
    for component in path.split('/').filter(|component| !component.is_empty()) {
        match rustix::fs::mkdirat(&here, component, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        here = open_directory(&here, component).map_err(failed)?;
    }
    Ok(here)
}
