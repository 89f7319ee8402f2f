use super::*;
use crate::host::files::FilesError;
use crate::resources::About;
use rustix::fs::FileType;

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let (host, name, change) = (host.clone(), name.to_owned(), change.clone());
    let done = tokio::task::spawn_blocking(move || carry_out(&host, &name, &change)).await;
    done.expect("touching files does not panic")
        .map_err(|error| ApplyError { report: error.report(), about: About::Host })
}

fn carry_out(host: &Host, name: &str, change: &Change) -> Result<(), FilesError> {
    match change {
        Change::Write { content, owner, group, mode, replaces: _ } => {
            let names = host.names()?;
            let (uid, gid) = (names.uid(owner)?, names.gid(group)?);
            host.make_place(name)?.write(content.bytes(), uid, gid, *mode)
        }
        Change::SetPermissions { owner, group, mode } => {
            let names = host.names()?;
            let (uid, gid) = (names.uid(owner)?, names.gid(group)?);
            host.make_place(name)?.set_permissions(FileType::RegularFile, uid, gid, *mode)
        }
        Change::Remove => match host.place(name)? {
            Some(place) => place.remove_file(),
            None => Ok(()),
        },
    }
}
