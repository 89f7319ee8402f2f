//! Users and groups in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::host::{AccountState, Accounts, PortError, PortResult};

/// The first number given away.
const FIRST: u32 = 990;

/// Users that know their further groups. A group exists if a user of its name does, or if it was set up.
#[derive(Default)]
pub struct FakeAccounts {
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

    /// Users that exist already (`www-data`), each with its group.
    pub fn known<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            self.lock().add(name, "/nonexistent");
        }
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, name: &str, home: &str) {
        let id = FIRST - u32::try_from(self.users.len()).unwrap_or(0);
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
        Ok(())
    }
}
