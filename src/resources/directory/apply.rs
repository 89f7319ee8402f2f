use super::*;
use crate::host::files::FilesError;
use crate::resources::on_disk;
use rustix::fs::FileType;

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    on_disk::apply(host, name, change, carry_out).await
}

fn carry_out(host: &Host, name: &str, change: &Change) -> Result<(), FilesError> {
    match change {
        Change::Create { owner, group, mode, whole } => {
            let (uid, gid) = host.ids(owner, group)?;
            host.make_place(name)?.make_directory(uid, gid, *mode, *whole)
        }
        Change::SetPermissions { owner, group, mode } => {
            let (uid, gid) = host.ids(owner, group)?;
            host.make_place(name)?.set_permissions(FileType::Directory, uid, gid, *mode)
        }
        Change::RemoveAll => match host.place(name)? {
            Some(place) => place.remove_all(),
            None => Ok(()),
        },
    }
}
