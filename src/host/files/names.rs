use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::FilesError;

/// Users and groups by name and number, as `/etc/passwd` and `/etc/group` have them. Read from the
/// files and not from the name service, so that a directory service that is down stops nothing: what
/// we manage belongs to local system users only.
#[derive(Debug, Clone, Default)]
pub struct Names {
    users: Table,
    groups: Table,
}

#[derive(Debug, Clone, Default)]
struct Table {
    ids: BTreeMap<String, u32>,
    names: BTreeMap<u32, String>,
}

impl Names {
    /// Reads both files below `root`. A file that does not exist leaves only `root`, which every
    /// Unix has.
    pub fn read(root: &Path) -> Result<Self, FilesError> {
        Ok(Self { users: table(root, "passwd")?, groups: table(root, "group")? })
    }

    /// The user's name, or its number as text if it has none.
    pub fn user(&self, uid: u32) -> String {
        self.users.names.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    pub fn group(&self, gid: u32) -> String {
        self.groups.names.get(&gid).cloned().unwrap_or_else(|| gid.to_string())
    }

    pub fn uid(&self, user: &str) -> Result<u32, FilesError> {
        self.users.ids.get(user).copied().ok_or_else(|| FilesError::NoUser(user.to_owned()))
    }

    pub fn gid(&self, group: &str) -> Result<u32, FilesError> {
        self.groups.ids.get(group).copied().ok_or_else(|| FilesError::NoGroup(group.to_owned()))
    }
}

fn table(root: &Path, file: &str) -> Result<Table, FilesError> {
    let text = match std::fs::read(root.join("etc").join(file)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => b"root:x:0:".to_vec(),
        Err(error) => return Err(FilesError::Names(Path::new("/etc").join(file), error)),
    };
    let mut table = Table::default();
    for line in String::from_utf8_lossy(&text).lines() {
        let mut fields = line.split(':');
        // Lines that are no entries (NIS `+`, a broken edit) name nobody.
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let Ok(id) = id.parse() else { continue };
        // The first entry of a name or number counts, as in getpwnam(3) and getpwuid(3).
        table.ids.entry(name.to_owned()).or_insert(id);
        table.names.entry(id).or_insert_with(|| name.to_owned());
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Names::read(dir.path()).unwrap().uid("root").unwrap(), 0);
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\n+\nblog:x:998:997::/:\nalso:x:998:997::/:\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nblog:x:997:www-data\n").unwrap();
        let names = Names::read(dir.path()).unwrap();
        assert_eq!((names.uid("blog").unwrap(), names.gid("blog").unwrap()), (998, 997));
        assert_eq!((names.user(998), names.group(4)), ("blog".to_owned(), "4".to_owned()));
        assert!(matches!(names.uid("nobody-here"), Err(FilesError::NoUser(name)) if name == "nobody-here"));
    }
}
