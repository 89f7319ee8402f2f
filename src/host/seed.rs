//! Copies what a release ships into an instance's data.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Host;
use crate::model::Digest;

impl Host {
    /// Copies the tree `from` into the directory `to`, for `owner`. What is there already stays, or is
    /// replaced one file at a time with `replace`; what `from` lacks always stays. May be repeated.
    ///
    /// `to` belongs to the instance: a symbolic link in it is replaced or left, never followed.
    pub fn seed(&self, from: &str, to: &str, owner: &str, replace: bool) -> io::Result<()> {
        let user = self.user(owner)?;
        copy_tree(&self.path(from), &self.path(to), user, replace)
    }

    /// The SHA-256 of a file, read in pieces.
    pub fn digest_of(&self, path: &Path) -> io::Result<Digest> {
        use sha2::Digest as _;
        let mut hasher = sha2::Sha256::new();
        io::copy(&mut File::open(path)?, &mut HashWriter(&mut hasher))?;
        Ok(Digest::from_hasher(hasher))
    }

    fn user(&self, name: &str) -> io::Result<(u32, u32)> {
        match nix::unistd::User::from_name(name).map_err(io::Error::from)? {
            Some(user) => Ok((user.uid.as_raw(), user.gid.as_raw())),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no user `{name}`"))),
        }
    }
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use sha2::Digest as _;
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy_tree(from: &Path, to: &Path, user: (u32, u32), replace: bool) -> io::Result<()> {
    make_directory(to, user)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target, user, replace)?;
        } else if kind.is_file() && (replace || fs::symlink_metadata(&target).is_err()) {
            copy_file(&entry.path(), &target, user)?;
        }
    }
    File::open(to)?.sync_all()
}

fn make_directory(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("`{}` is no directory", path.display())));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir(path)?;
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o750))
}

fn copy_file(from: &Path, to: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let temporary = to.with_file_name(format!(".{}.socle-new", to.file_name().unwrap_or_default().to_string_lossy()));
    let _ = fs::remove_file(&temporary);
    let mut target = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&temporary)?;
    io::copy(&mut File::open(from)?, &mut target)?;
    nix::unistd::fchown(&target, Some(uid.into()), Some(gid.into()))?;
    drop(target);
    fs::rename(&temporary, to)
}
