//! Database servers in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::host::sql::scan;
use crate::host::{DatabaseState, Databases, DumpStream, PortError, PortResult};
use crate::model::Digest;
use crate::model::document::Engine;

/// Two servers. A database's content is one text ([`FakeDatabases::write`]); a dump holds it.
#[derive(Default)]
pub struct FakeDatabases {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    databases: BTreeMap<(Engine, String), Held>,
    roles: BTreeSet<(Engine, String)>,
    down: BTreeSet<Engine>,
    fail: Option<PortError>,
    calls: Vec<String>,
}

#[derive(Default)]
struct Held {
    owner: String,
    extensions: BTreeSet<String>,
    content: String,
}

impl FakeDatabases {
    pub fn new() -> Self {
        Self::default()
    }

    /// The server does not answer, or answers again.
    pub fn set_down(&self, engine: Engine, down: bool) {
        let mut state = self.lock();
        if down {
            state.down.insert(engine)
        } else {
            state.down.remove(&engine)
        };
    }

    /// The next change fails like this, before anything changed.
    pub fn fail(&self, error: PortError) {
        self.lock().fail = Some(error);
    }

    /// The changes asked for, in order: `create database mariadb:blog`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// What the application wrote into its database.
    pub fn write(&self, engine: Engine, name: &str, content: &str) {
        self.lock().databases.entry((engine, name.to_owned())).or_default().content = content.to_owned();
    }

    pub fn content(&self, engine: Engine, name: &str) -> Option<String> {
        self.lock().databases.get(&(engine, name.to_owned())).map(|held| held.content.clone())
    }

    /// A server that nobody has used yet.
    pub fn forget(&self, engine: Engine) {
        let mut state = self.lock();
        state.databases.retain(|(of, _), _| *of != engine);
        state.roles.retain(|(of, _)| *of != engine);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the server is down or a failure was asked for.
    fn change(&self, engine: Engine, act: &str, on: &str) -> PortResult<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.calls.push(format!("{act} {}:{on}", engine.as_str()));
        if let Some(error) = state.fail.take() {
            return Err(error);
        }
        up(&state, engine)?;
        Ok(state)
    }
}

fn up(state: &State, engine: Engine) -> PortResult<()> {
    let code = match engine {
        Engine::Mariadb => "mariadb.down",
        Engine::Postgresql => "postgresql.down",
    };
    match state.down.contains(&engine) {
        true => Err(PortError::new(code, format!("{} does not answer", engine.as_str())).retryable()),
        false => Ok(()),
    }
}

fn missing(what: &str, name: &str) -> PortError {
    PortError::new("database.refused", format!("there is no {what} `{name}`"))
}

impl State {
    fn held(&mut self, engine: Engine, name: &str) -> PortResult<&mut Held> {
        self.databases.get_mut(&(engine, name.to_owned())).ok_or_else(|| missing("database", name))
    }

    fn role(&self, engine: Engine, role: &str) -> PortResult<()> {
        match self.roles.contains(&(engine, role.to_owned())) {
            true => Ok(()),
            false => Err(missing("role", role)),
        }
    }
}

#[async_trait]
impl Databases for FakeDatabases {
    async fn states(
        &self,
        engine: Engine,
        databases: &BTreeSet<String>,
    ) -> PortResult<(BTreeMap<String, DatabaseState>, BTreeSet<String>)> {
        let state = self.lock();
        up(&state, engine)?;
        let seen = |name: &String| match state.databases.get(&(engine, name.clone())) {
            None => DatabaseState::default(),
            Some(held) => {
                DatabaseState { exists: true, owners: [held.owner.clone()].into(), extensions: held.extensions.clone() }
            }
        };
        let roles = state.roles.iter().filter(|(of, _)| *of == engine).map(|(_, role)| role.clone()).collect();
        Ok((databases.iter().map(|name| (name.clone(), seen(name))).collect(), roles))
    }

    async fn create_role(&self, engine: Engine, role: &str) -> PortResult<()> {
        self.change(engine, "create role", role)?.roles.insert((engine, role.to_owned()));
        Ok(())
    }

    async fn create_database(&self, engine: Engine, name: &str, owner: &str) -> PortResult<()> {
        let mut state = self.change(engine, "create database", name)?;
        state.role(engine, owner)?;
        state.databases.entry((engine, name.to_owned())).or_default().owner = owner.to_owned();
        Ok(())
    }

    async fn grant(&self, engine: Engine, name: &str, owner: &str) -> PortResult<()> {
        let mut state = self.change(engine, "grant", name)?;
        state.role(engine, owner)?;
        state.held(engine, name)?.owner = owner.to_owned();
        Ok(())
    }

    async fn create_extension(&self, engine: Engine, name: &str, extension: &str) -> PortResult<()> {
        if engine == Engine::Mariadb {
            return Err(PortError::new("database.extension", "MariaDB has no extensions"));
        }
        self.change(engine, "create extension", name)?.held(engine, name)?.extensions.insert(extension.to_owned());
        Ok(())
    }

    async fn drop_database(&self, engine: Engine, name: &str) -> PortResult<()> {
        self.change(engine, "drop database", name)?.databases.remove(&(engine, name.to_owned()));
        Ok(())
    }

    async fn drop_role(&self, engine: Engine, role: &str) -> PortResult<()> {
        self.change(engine, "drop role", role)?.roles.remove(&(engine, role.to_owned()));
        Ok(())
    }

    async fn dump(&self, engine: Engine, name: &str, to: &Path) -> PortResult<Digest> {
        let mut state = self.change(engine, "dump", name)?;
        let held = state.held(engine, name)?;
        let extensions: Vec<_> = held.extensions.iter().map(String::as_str).collect();
        let text = format!("{}\n{}", extensions.join(" "), held.content);
        let unwritten = |error| PortError::new("dump.write", "cannot write the dump").because(error);
        crate::durable::write(to, text.as_bytes(), 0o600).map_err(unwritten)?;
        Ok(Digest::of(text))
    }

    async fn dump_stream(&self, engine: Engine, name: &str) -> PortResult<DumpStream> {
        let scratch = tempfile::NamedTempFile::new().expect("tests have room for a dump");
        self.dump(engine, name, scratch.path()).await?;
        let from = std::fs::File::open(scratch.path()).expect("a dump was just written").into();
        let (tell, whole) = tokio::sync::oneshot::channel();
        let _ = tell.send(Ok(()));
        Ok(DumpStream { from, whole })
    }

    /// Those of a content that is written as a dump of MariaDB.
    async fn rows(&self, engine: Engine, name: &str) -> PortResult<BTreeMap<String, u64>> {
        let mut state = self.lock();
        up(&state, engine)?;
        Ok(scan::rows_of(engine, &state.held(engine, name)?.content))
    }

    async fn restore(&self, engine: Engine, name: &str, owner: &str, from: &Path) -> PortResult<()> {
        let mut state = self.change(engine, "restore", name)?;
        state.role(engine, owner)?;
        let text = std::fs::read_to_string(from)
            .map_err(|error| PortError::new("database.look", "cannot read the dump").because(error))?;
        let Some((extensions, content)) = text.split_once('\n') else {
            return Err(PortError::new("dump.bad", "the dump is not one of ours"));
        };
        let extensions = extensions.split_whitespace().map(str::to_owned).collect();
        let held = Held { owner: owner.to_owned(), extensions, content: content.to_owned() };
        state.databases.insert((engine, name.to_owned()), held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::contract;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        for engine in [Engine::Mariadb, Engine::Postgresql] {
            let scratch = tempfile::tempdir().unwrap();
            contract::databases(&FakeDatabases::new(), engine, "blog", "socle-blog", scratch.path()).await;
        }
    }

    #[tokio::test]
    async fn down_is_not_absent() {
        let databases = FakeDatabases::new();
        databases.set_down(Engine::Mariadb, true);
        let error = databases.states(Engine::Mariadb, &["blog".to_owned()].into()).await.unwrap_err();
        assert_eq!(error.code, "mariadb.down");
        assert!(databases.states(Engine::Postgresql, &BTreeSet::new()).await.is_ok());
    }
}
