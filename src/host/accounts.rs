//! System users and groups through Debian's own programs, seen in `/etc/passwd` and `/etc/group`.
//!
//! Creation is `systemd-sysusers` (sysusers.d(5)): it takes the lock of passwd(5), makes user and group in
//! one go and changes nothing when they are there. What it creates stays when this program is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::process::{Command, ProcessError, run_ok};
use super::{AccountState, Accounts, PortError, PortResult};
use crate::durable::{self, DurableError};

pub struct SystemAccounts {
    root: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum AccountsError {
    #[error("cannot read the users and groups")]
    Read(#[source] DurableError),
    #[error("cannot {act} `{name}`")]
    Change { act: &'static str, name: String, source: ProcessError },
}

impl From<AccountsError> for PortError {
    fn from(error: AccountsError) -> PortError {
        let text = error.to_string();
        match error {
            AccountsError::Read(source) => PortError::new("account.read", text).because(source),
            AccountsError::Change { name, source, .. } => PortError::new("account.change", text)
                .hint(format!("look at the account: `getent passwd {name}`"))
                .retryable()
                .because(source),
        }
    }
}

impl SystemAccounts {
    /// Reads below `root`; changes the running system.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn read(&self, file: &str) -> Result<String, AccountsError> {
        let bytes = durable::read(&self.root.join("etc").join(file)).map_err(AccountsError::Read)?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    }
}

#[async_trait]
impl Accounts for SystemAccounts {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, Option<AccountState>>> {
        let (passwd, group) = (self.read("passwd")?, self.read("group")?);
        Ok(look(&passwd, &group, names))
    }

    async fn create(&self, name: &str, description: &str, home: &str) -> PortResult<()> {
        let line = format!("u {name} - {} {}\n", sysusers_word(description), sysusers_word(home));
        change("create the user", name, Command::new("systemd-sysusers").arg("-").stdin(line)).await
    }

    async fn set_home(&self, name: &str, home: &str) -> PortResult<()> {
        change("set the home of", name, Command::new("usermod").args(["--home", home, "--", name])).await
    }

    async fn join(&self, user: &str, group: &str) -> PortResult<()> {
        let command = Command::new("usermod").args(["--append", "--groups", group, "--", user]);
        change("extend the groups of", user, command).await
    }

    async fn remove(&self, name: &str) -> PortResult<()> {
        if entry(&self.read("passwd")?, name).is_some() {
            change("remove the user", name, Command::new("userdel").args(["--", name])).await?;
        }
        // userdel leaves a group that still has members.
        if entry(&self.read("group")?, name).is_some() {
            change("remove the group", name, Command::new("groupdel").args(["--", name])).await?;
        }
        Ok(())
    }
}

async fn change(act: &'static str, name: &str, command: Command) -> PortResult<()> {
    match run_ok(command).await {
        Ok(_) => Ok(()),
        Err(source) => Err(AccountsError::Change { act, name: name.to_owned(), source }.into()),
    }
}

/// A word of sysusers.d(5): `%` begins a specifier there. A `:` would end the field in passwd(5), a control
/// character the line, so they become spaces.
fn sysusers_word(text: &str) -> String {
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '%' => word.push_str("%%"),
            '"' => word.push_str("\\\""),
            '\\' => word.push_str("\\\\"),
            ':' => word.push(' '),
            c if c.is_control() => word.push(' '),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

/// The fields of the first entry of that name: the one that counts (getpwnam(3)).
fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    entries(text).find(|fields| fields[0] == name)
}

/// Lines that are no entries (NIS `+`, a broken edit) name nobody.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4)
}

fn look(passwd: &str, group: &str, names: &BTreeSet<String>) -> BTreeMap<String, Option<AccountState>> {
    let groups: Vec<Vec<&str>> = entries(group).collect();
    let users: Vec<Vec<&str>> = entries(passwd).filter(|fields| fields.len() >= 6).collect();
    let of = |name: &String| {
        let user = users.iter().find(|fields| fields[0] == name)?;
        let (uid, gid) = (user[2].parse().ok()?, user[3].parse().ok()?);
        let member = |fields: &&Vec<&str>| fields[3].split(',').any(|member| member == name);
        let mut of_user: BTreeSet<String> =
            groups.iter().filter(|fields| member(fields) || fields[2] == user[3]).map(|f| f[0].to_owned()).collect();
        of_user.remove(name);
        let own = groups.iter().find(|fields| fields[0] == name);
        let mut readers: BTreeSet<String> =
            own.iter().flat_map(|f| f[3].split(',')).filter(|m| !m.is_empty()).map(str::to_owned).collect();
        readers.remove(name);
        Some(AccountState { uid, gid, home: user[5].to_owned(), groups: of_user, readers })
    };
    names.iter().map(|name| (name.clone(), of(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sees_users_with_their_groups_and_readers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join("etc").join(file), text).unwrap();
        write("passwd", "root:x:0:0:root:/root:/bin/sh\n+\nsocle-a:x:990:990:A b:/srv/socle/a:/x\nold:x:12:34::/:/x\n");
        write("group", "root:x:0:\nsocle-a:x:990:www-data,socle-a\nssl:x:5:old,socle-a\nstaff:x:34:\nx:x:1:socle-aa\n");
        let names = ["socle-a", "old", "gone"].map(str::to_owned).into();
        let seen = SystemAccounts::new(dir.path()).states(&names).await.unwrap();
        let a = seen["socle-a"].as_ref().unwrap();
        assert_eq!((a.uid, a.gid, a.home.as_str()), (990, 990, "/srv/socle/a"));
        assert_eq!(a.groups, BTreeSet::from(["ssl".to_owned()]));
        assert_eq!(a.readers, BTreeSet::from(["www-data".to_owned()]));
        let old = seen["old"].as_ref().unwrap();
        assert_eq!(old.groups, BTreeSet::from(["ssl".to_owned(), "staff".to_owned()]));
        assert_eq!(seen["gone"], None);
    }

    #[tokio::test]
    async fn unreadable_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/passwd")).unwrap();
        let error = SystemAccounts::new(dir.path()).states(&BTreeSet::new()).await.unwrap_err();
        assert_eq!(error.code, "account.read");
    }

    #[test]
    fn a_description_is_one_word() {
        assert_eq!(sysusers_word("50% \"of\" a:b\nu root - x"), "\"50%% \\\"of\\\" a b u root - x\"");
    }
}
