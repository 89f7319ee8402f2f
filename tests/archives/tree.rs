//! What is on disk, in a form that can be compared.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use socle::model::Digest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub owner: (u32, u32),
    pub links: u64,
    pub modified: (i64, i64),
    /// Digest of a file, target of a link.
    pub content: String,
}

/// The yard around a stage: files, modes and links that an escape would change.
pub fn lay_out(yard: &Path) -> PathBuf {
    let secret = yard.join("secret");
    std::fs::write(&secret, "canary").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let victim = yard.join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("x"), "canary").unwrap();
    std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o700)).unwrap();
    symlink("victim", yard.join("link")).unwrap();
    let stage = yard.join("stage");
    std::fs::create_dir(&stage).unwrap();
    stage
}

/// Everything below `root` but what is below `leave_out` (and its time, which a stage changes).
pub fn look(root: &Path, leave_out: Option<&Path>) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    walk(root, root, leave_out, &mut seen);
    seen
}

fn walk(root: &Path, directory: &Path, leave_out: Option<&Path>, seen: &mut BTreeMap<String, Seen>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if Some(path.as_path()) == leave_out {
            continue;
        }
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_file() {
            Digest::of(std::fs::read(&path).unwrap()).to_string()
        } else if meta.is_symlink() {
            std::fs::read_link(&path).unwrap().to_string_lossy().into_owned()
        } else {
            String::new()
        };
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        seen.insert(
            name,
            Seen {
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                links: meta.nlink(),
                modified: (meta.mtime(), meta.mtime_nsec()),
                content,
            },
        );
        if meta.is_dir() {
            walk(root, &path, leave_out, seen);
        }
    }
}

/// What is left in a stage may be incomplete, but holds nothing dangerous.
pub fn harmless(stage: &Path) -> Result<(), String> {
    let mut open = vec![stage.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            if meta.mode() & 0o6000 != 0 {
                return Err(format!("`{}` is set-user-ID or set-group-ID", path.display()));
            }
            if kind.is_block_device() || kind.is_char_device() || kind.is_fifo() || kind.is_socket() {
                return Err(format!("`{}` is a special file", path.display()));
            }
            if kind.is_symlink() && std::fs::read_link(&path).unwrap().is_absolute() {
                return Err(format!("`{}` is an absolute link", path.display()));
            }
            if kind.is_dir() {
                open.push(path);
            }
        }
    }
    Ok(())
}
