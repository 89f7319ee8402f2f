use super::*;
use crate::host::files::{FilesError, Names};
use crate::resources::on_disk;
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// A file is somebody's part (an instance, a service); what nobody wants any more is told by its
/// owner as not present, not found by searching the disk.
pub async fn list(_host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    Ok(BTreeSet::new())
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    on_disk::observe(host, names, look).await
}

fn look(host: &Host, users: &Names, name: &str) -> Result<Observed, FilesError> {
    let Some(place) = host.place(name)? else { return Ok(Observed::Absent) };
    match place.look()? {
        None => return Ok(Observed::Absent),
        Some(seen) if seen.kind != FileType::RegularFile => return Ok(Observed::NotAFile),
        Some(_) => {}
    }
    let Some((mut file, seen)) = place.open_file()? else { return Ok(Observed::NotAFile) };
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut Hashing(&mut hasher))
        .map_err(|error| FilesError::Look(Path::new(name).to_owned(), error))?;
    Ok(Observed::File {
        digest: Digest::from_hasher(hasher),
        owner: users.user(seen.uid),
        group: users.group(seen.gid),
        mode: seen.mode,
    })
}

struct Hashing<'a>(&'a mut Sha256);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
