use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::file::{DurableError, sync_parent, temporary_beside};

/// Makes `link` point to `target` in one step, whatever it pointed to before: the switch from one
/// generation directory to another. What `target` names must be on disk already.
pub fn swap_link(target: &Path, link: &Path) -> Result<(), DurableError> {
    let temporary = temporary_beside(link);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(DurableError::Write(link.to_owned(), error));
        }
        _ => {}
    }
    symlink(target, &temporary).map_err(|error| DurableError::Write(link.to_owned(), error))?;
    fs::rename(&temporary, link).map_err(|error| DurableError::Rename(link.to_owned(), error))?;
    sync_parent(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_to_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        for target in ["a", "b", "b"] {
            swap_link(Path::new(target), &link).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
