//! Files below the host's root. Not a port: real files, in tests below a temporary directory.
//!
//! Applications own some of the directories we write into, so a path is not trusted as a whole: it
//! is walked one component at a time ([`place`]), and a symbolic link on the way is followed only if
//! root made it (an admin who moved `/srv` to a larger disk), never if an application did.

mod names;
mod place;

use std::io;
use std::path::{Path, PathBuf};

use super::Host;
use crate::model::report::ErrorReport;

pub use names::Names;
pub use place::Place;
pub(super) use place::mounted_in;

impl Host {
    /// Where an absolute path of the server is on this machine.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.root.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The users and groups of the server.
    pub fn names(&self) -> Result<Names, FilesError> {
        Names::read(&self.root)
    }

    /// The numbers of a user and a group.
    pub fn ids(&self, owner: &str, group: &str) -> Result<(u32, u32), FilesError> {
        let names = self.names()?;
        Ok((names.uid(owner)?, names.gid(group)?))
    }

    /// The place of an absolute path in its directory; `None` if there is no such directory.
    pub fn place(&self, absolute: &str) -> Result<Option<Place>, FilesError> {
        Place::find(&self.root, absolute, false)
    }

    /// Like [`Host::place`]; missing directories on the way are made, 0755 root:root, each of them on
    /// disk before the next.
    pub fn make_place(&self, absolute: &str) -> Result<Place, FilesError> {
        let missing = || FilesError::Walk(absolute.into(), io::ErrorKind::NotFound.into());
        Place::find(&self.root, absolute, true)?.ok_or_else(missing)
    }
}

/// What was done with a path that failed. Paths are the server's (`/etc/…`), wherever its root is.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("cannot read the users or groups in `{}`", .0.display())]
    Names(PathBuf, #[source] io::Error),
    #[error("there is no user `{0}`")]
    NoUser(String),
    #[error("there is no group `{0}`")]
    NoGroup(String),
    #[error("`{}` is not the absolute path of a file", .0.display())]
    NotAPath(PathBuf),
    #[error("cannot reach `{}`", .0.display())]
    Walk(PathBuf, #[source] io::Error),
    #[error("`{}` is a symbolic link that root did not make", .0.display())]
    ForeignLink(PathBuf),
    #[error("`{}` is not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("cannot look at `{}`", .0.display())]
    Look(PathBuf, #[source] io::Error),
    #[error("cannot make the directory `{}`", .0.display())]
    MakeDirectory(PathBuf, #[source] io::Error),
    #[error("cannot write `{}`", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("cannot set owner and mode of `{}`", .0.display())]
    SetPermissions(PathBuf, #[source] io::Error),
    #[error("cannot remove `{}`", .0.display())]
    Remove(PathBuf, #[source] io::Error),
    #[error("`{}` will not be removed: `{}` is mounted in it", .0.display(), .1.display())]
    Mounted(PathBuf, PathBuf),
}

impl FilesError {
    pub fn code(&self) -> &'static str {
        match self {
            FilesError::Names(..) => "files.names",
            FilesError::NoUser(_) => "files.no-user",
            FilesError::NoGroup(_) => "files.no-group",
            FilesError::NotAPath(_) => "files.not-a-path",
            FilesError::Walk(..) => "files.walk",
            FilesError::ForeignLink(_) => "files.foreign-link",
            FilesError::NotADirectory(_) => "files.not-a-directory",
            FilesError::Look(..) => "files.look",
            FilesError::MakeDirectory(..) => "files.make-directory",
            FilesError::Write(..) => "files.write",
            FilesError::SetPermissions(..) => "files.set-permissions",
            FilesError::Remove(..) => "files.remove",
            FilesError::Mounted(..) => "files.mounted",
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            FilesError::NoUser(name) | FilesError::NoGroup(name) => {
                format!("correct the name, or install the package that brings `{name}`")
            }
            FilesError::ForeignLink(path) => {
                format!(
                    "if the link is wanted, give it to root: `chown -h root:root {}`; else remove it",
                    path.display()
                )
            }
            FilesError::NotADirectory(path) => format!("move `{}` away", path.display()),
            FilesError::Mounted(_, mounted) => format!("unmount `{}` first", mounted.display()),
            FilesError::MakeDirectory(_, error) | FilesError::Write(_, error)
                if error.kind() == io::ErrorKind::StorageFull =>
            {
                "make room on the disk; the next pass tries again".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }

    pub fn report(&self) -> ErrorReport {
        ErrorReport::of(self.code(), self, self.hint())
    }
}
