use super::*;
use crate::host::files::{FilesError, Names};
use crate::resources::on_disk;
use rustix::fs::FileType;

/// Directories are made for others and stay when nobody wants them: their content is data.
pub async fn list(_host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    Ok(BTreeSet::new())
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    on_disk::observe(host, names, look).await
}

fn look(host: &Host, users: &Names, name: &str) -> Result<Observed, FilesError> {
    let Some(place) = host.place(name)? else { return Ok(Observed::Absent) };
    Ok(match place.look()? {
        None => Observed::Absent,
        Some(seen) if seen.kind == FileType::Directory => {
            Observed::Directory { owner: users.user(seen.uid), group: users.group(seen.gid), mode: seen.mode }
        }
        Some(_) => Observed::NotADirectory,
    })
}
