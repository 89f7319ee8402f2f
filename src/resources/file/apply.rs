use super::*;
use crate::host::files::FilesError;
use crate::resources::on_disk;
use rustix::fs::FileType;

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    on_disk::apply(host, name, change, carry_out).await
}

fn carry_out(host: &Host, name: &str, change: &Change) -> Result<(), FilesError> {
    match change {
        Change::Write { content, owner, group, mode, replaces: _ } => {
            let (uid, gid) = host.ids(owner, group)?;
            host.make_place(name)?.write(content.bytes(), uid, gid, *mode)
        }
        Change::SetPermissions { owner, group, mode } => {
            let (uid, gid) = host.ids(owner, group)?;
            host.make_place(name)?.set_permissions(FileType::RegularFile, uid, gid, *mode)
        }
        Change::Remove => match host.place(name)? {
            Some(place) => place.remove_file(),
            None => Ok(()),
        },
    }
}
