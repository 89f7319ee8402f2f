//! System users and groups by `/etc/passwd` and `/etc/group`, made by systemd-sysusers(8): the port
//! [`Accounts`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;

use super::process::{Command, run_ok};
use super::{AccountState, Accounts, PortError, PortResult};
use crate::durable;

pub struct SystemAccounts {
    root: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum AccountError {
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: durable::DurableError },
}

impl From<AccountError> for PortError {
    fn from(error: AccountError) -> PortError {
        PortError::new("account.files", error.to_string()).because(error)
    }
}

impl SystemAccounts {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn lines(&self, file: &str) -> Result<Vec<Vec<String>>, AccountError> {
        let path = self.root.join(file);
        let text = std::fs::read_to_string(&path).map_err(|source| AccountError::Read { path, source })?;
        Ok(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
    }

    /// sysusers.d(5): the account comes back by itself if somebody removes it.
    fn conf(&self, name: &str) -> PathBuf {
        self.root.join("etc/sysusers.d").join(format!("socle-{}.conf", name.trim_start_matches("socle-")))
    }
}

fn state(user: &[String], groups: &[Vec<String>]) -> Option<AccountState> {
    let [name, _, uid, gid, _, home, ..] = user else { return None };
    let members = |group: &[String]| -> BTreeSet<String> {
        group.get(3).map(|m| m.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect()).unwrap_or_default()
    };
    let of = groups.iter().filter(|group| group[0] != *name && members(group).contains(name));
    let own = groups.iter().find(|group| group[0] == *name);
    Some(AccountState {
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.clone(),
        groups: of.map(|group| group[0].clone()).collect(),
        readers: own.map(|group| members(group)).unwrap_or_default(),
    })
}

#[async_trait]
impl Accounts for SystemAccounts {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, Option<AccountState>>> {
        let (users, groups) = (self.lines("etc/passwd")?, self.lines("etc/group")?);
        let one = |name: &String| users.iter().find(|user| user[0] == *name).and_then(|user| state(user, &groups));
        Ok(names.iter().map(|name| (name.clone(), one(name))).collect())
    }

    async fn create(&self, name: &str, description: &str, home: &str) -> PortResult<()> {
        let path = self.conf(name);
        // Quoted as sysusers.d(5) reads it; the document allows no line break and no `:`.
        let description = description.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        let text = format!("# Managed by socle.\nu {name} - \"{description}\" {home} /usr/sbin/nologin\n");
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|source| AccountError::Read { path: parent.to_owned(), source })?;
        }
        durable::write(&path, text.as_bytes(), 0o644)
            .map_err(|source| AccountError::Write { path: path.clone(), source })?;
        let command = Command::new("systemd-sysusers").arg(path.display().to_string());
        run_ok(command).await.map_err(|error| error.port("account.create"))?;
        Ok(())
    }

    async fn set_home(&self, name: &str, home: &str) -> PortResult<()> {
        let command = Command::new("usermod").args(["--home", home, name]);
        run_ok(command).await.map_err(|error| error.port("account.home"))?;
        Ok(())
    }

    async fn join(&self, user: &str, group: &str) -> PortResult<()> {
        let command = Command::new("usermod").args(["--append", "--groups", group, user]);
        run_ok(command).await.map_err(|error| error.port("account.join"))?;
        Ok(())
    }

    async fn remove(&self, name: &str) -> PortResult<()> {
        let path = self.conf(name);
        durable::remove(&path).map_err(|source| AccountError::Write { path, source })?;
        let users = self.lines("etc/passwd")?;
        if users.iter().any(|user| user[0] == name) {
            run_ok(Command::new("userdel").arg(name)).await.map_err(|error| error.port("account.remove"))?;
        }
        Ok(())
    }
}
