use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use super::NginxError;

/// No configuration file is larger; a larger one is not copied blindly.
const LARGEST: u64 = 16 << 20;

/// A copy of `sites-enabled` as it would be with some sites exchanged. Removed when dropped.
pub(super) struct Candidate {
    directory: tempfile::TempDir,
}

impl Candidate {
    /// Links are copied as links (to the same files), files as files. `sites` are files and their texts; `None`:
    /// without the site.
    pub fn make(scratch: &Path, enabled: &Path, sites: &[(&str, Option<&str>)]) -> Result<Self, NginxError> {
        Self::try_make(scratch, enabled, sites).map_err(|error| NginxError::Prepare(scratch.to_owned(), error))
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn try_make(scratch: &Path, enabled: &Path, sites: &[(&str, Option<&str>)]) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(scratch)?;
        let directory = tempfile::Builder::new().prefix("nginx-test-").tempdir_in(scratch)?;
        copy(enabled, directory.path(), &sites.iter().map(|(file, _)| OsStr::new(*file)).collect())?;
        for (file, text) in sites {
            if let Some(text) = text {
                fs::File::create_new(directory.path().join(file))?.write_all(text.as_bytes())?;
            }
        }
        Ok(Self { directory })
    }
}

fn copy(from: &Path, to: &Path, but: &BTreeSet<&OsStr>) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if but.contains(name.as_os_str()) {
            continue;
        }
        let (old, new) = (entry.path(), to.join(&name));
        if kind.is_symlink() {
            symlink(absolute(from, &fs::read_link(&old)?), new)?;
        } else if kind.is_dir() {
            fs::create_dir(&new)?;
            copy(&old, &new, &BTreeSet::new())?;
        } else if kind.is_file() && entry.metadata()?.len() <= LARGEST {
            fs::copy(&old, new)?;
        }
        // Sockets and the like are no configuration: nginx would refuse them in place too.
    }
    Ok(())
}

/// A relative link would point elsewhere from the copy.
fn absolute(directory: &Path, target: &Path) -> PathBuf {
    directory.join(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_the_candidate_and_the_others_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let enabled = dir.path().join("sites-enabled");
        fs::create_dir(&enabled).unwrap();
        symlink("../sites-available/default", enabled.join("default")).unwrap();
        symlink("/etc/nginx/sites-available/socle-blog.conf", enabled.join("socle-blog.conf")).unwrap();
        fs::write(enabled.join("plain"), "server {}").unwrap();
        let names = |candidate: &Candidate| {
            let mut names: Vec<_> = fs::read_dir(candidate.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let with = Candidate::make(dir.path(), &enabled, &[("socle-blog.conf", Some("new"))]).unwrap();
        assert_eq!(names(&with), ["default", "plain", "socle-blog.conf"]);
        assert_eq!(fs::read_to_string(with.path().join("socle-blog.conf")).unwrap(), "new");
        assert_eq!(fs::read_link(with.path().join("default")).unwrap(), enabled.join("../sites-available/default"));
        let several = [("socle-blog.conf", Some("new")), ("socle-shop.conf", Some("shop")), ("plain", None)];
        let several = Candidate::make(dir.path(), &enabled, &several).unwrap();
        assert_eq!(names(&several), ["default", "socle-blog.conf", "socle-shop.conf"]);
        let without = Candidate::make(dir.path(), &enabled, &[("socle-blog.conf", None)]).unwrap();
        assert_eq!(names(&without), ["default", "plain"]);
        let (at, live) = (with.path().to_owned(), fs::read_link(enabled.join("socle-blog.conf")).unwrap());
        drop(with);
        assert!(!at.exists() && live.ends_with("socle-blog.conf"));
    }
}
