//! Users and groups in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::host::{AccountState, Accounts, PortError, PortResult};

/// The first number given away.
const FIRST: u32 = 990;

/// Users that know their further groups. A group exists if a user of its name does, or if it was set up.
#[derive(Default)]
pub struct FakeAccounts {
    /// Where `/etc/passwd` and `/etc/group` are written, if anywhere.
    root: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    users: BTreeMap<String, AccountState>,
    groups: BTreeSet<String>,
    calls: Vec<String>,
}

impl FakeAccounts {
    pub fn new() -> Self {
        Self::default()
    }

    /// Users that are also in `/etc/passwd` and `/etc/group` below `root`, so that files can belong to them.
    pub fn below(root: &Path) -> Self {
        Self { root: Some(root.to_owned()), ..Self::default() }
    }

    /// Users that exist already (`www-data`), each with its group.
    pub fn known<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            self.lock().add(name, "/nonexistent");
        }
        self.publish(&self.lock());
        self
    }

    /// Groups without a user of their name (`ssl-cert`).
    pub fn groups<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.lock().groups.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// The changes asked for, in order: `join www-data socle-blog`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn publish(&self, state: &State) {
        let Some(root) = &self.root else { return };
        let users = state.users.iter().map(|(name, user)| (name, user.uid, user.gid));
        let (mut passwd, mut group) = ("root:x:0:0::/root:\n".to_owned(), "root:x:0:\n".to_owned());
        for (name, uid, gid) in users {
            passwd.push_str(&format!("{name}:x:{uid}:{gid}:::\n"));
            group.push_str(&format!("{name}:x:{gid}:\n"));
        }
        let directory = root.join("etc");
        std::fs::create_dir_all(&directory).expect("the root of a test is writable");
        for (file, text) in [("passwd", passwd), ("group", group)] {
            crate::durable::write(&directory.join(file), text.as_bytes(), 0o644)
                .expect("the root of a test is writable");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, name: &str, home: &str) {
        let lowest = self.users.values().map(|user| user.uid).min();
        let id = lowest.map_or(FIRST, |lowest| lowest - 1);
        self.users.entry(name.to_owned()).or_insert_with(|| AccountState {
            uid: id,
            gid: id,
            home: home.to_owned(),
            groups: BTreeSet::new(),
            readers: BTreeSet::new(),
        });
    }

    fn user(&mut self, name: &str) -> PortResult<&mut AccountState> {
        let missing = || PortError::new("account.change", format!("there is no user `{name}`"));
        self.users.get_mut(name).ok_or_else(missing)
    }
}

#[async_trait]
impl Accounts for FakeAccounts {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, Option<AccountState>>> {
        let state = self.lock();
        Ok(names.iter().map(|name| (name.clone(), state.users.get(name).cloned())).collect())
    }

    async fn create(&self, name: &str, _description: &str, home: &str) -> PortResult<()> {
        let mut state = self.lock();
        state.calls.push(format!("create {name}"));
        state.add(name, home);
        self.publish(&state);
        Ok(())
    }

    async fn set_home(&self, name: &str, home: &str) -> PortResult<()> {
        let mut state = self.lock();
        state.calls.push(format!("set-home {name} {home}"));
        state.user(name)?.home = home.to_owned();
        Ok(())
    }

    async fn join(&self, user: &str, group: &str) -> PortResult<()> {
        let mut state = self.lock();
        state.calls.push(format!("join {user} {group}"));
        if !state.groups.contains(group) && !state.users.contains_key(group) {
            return Err(PortError::new("account.change", format!("there is no group `{group}`")));
        }
        state.user(user)?.groups.insert(group.to_owned());
        if let Some(owner) = state.users.get_mut(group) {
            owner.readers.insert(user.to_owned());
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> PortResult<()> {
        let mut state = self.lock();
        state.calls.push(format!("remove {name}"));
        state.users.remove(name);
        for user in state.users.values_mut() {
            user.groups.remove(name);
            user.readers.remove(name);
        }
        self.publish(&state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        let accounts = FakeAccounts::new().known(["games"]).groups(["adm"]);
        contract::accounts(&accounts, "socle-contract", "games", "adm").await;
    }
}
