//! A change of the database, whole or not at all.

use std::collections::BTreeSet;

use sqlx::{Any, AnyConnection, AssertSqlSafe};

use super::watch::{Changed, Notice};
use super::{By, Dialect, During, Store, StoreError, row};
use crate::model::Name;

/// Below PostgreSQL's limit of 65535 place holders.
const LOCKED_AT_ONCE: usize = 10_000;

/// Dropped without [`Change::commit`], nothing has happened.
pub(super) struct Change<'a> {
    store: &'a Store,
    transaction: sqlx::Transaction<'static, Any>,
    doing: &'static str,
    changed: Vec<Changed>,
}

impl Store {
    /// Begins a change; `doing` names it in errors.
    pub(super) async fn change(&self, doing: &'static str) -> Result<Change<'_>, StoreError> {
        let begin = match self.dialect() {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN",
        };
        let transaction = self.inner.pools.write.begin_with(begin).await.during(doing)?;
        Ok(Change { store: self, transaction, doing, changed: Vec::new() })
    }
}

impl Change<'_> {
    pub fn dialect(&self) -> Dialect {
        self.store.dialect()
    }

    pub fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Keeps the rows of these servers from other changes until the end of this one. All who change many servers
    /// begin with it and in this order, so none waits for another in a circle. A writer of SQLite is alone anyway.
    pub async fn lock_servers<'n>(&mut self, names: impl IntoIterator<Item = &'n Name>) -> Result<(), StoreError> {
        if self.store.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let names: BTreeSet<&Name> = names.into_iter().collect();
        let doing = self.doing;
        for batch in names.into_iter().collect::<Vec<_>>().chunks(LOCKED_AT_ONCE) {
            // Not FOR UPDATE: who only refers to a server (a new document) need not wait.
            let query = format!(
                "SELECT name FROM servers WHERE name IN ({}) ORDER BY name FOR NO KEY UPDATE",
                row::list(1, batch.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(query));
            for name in batch {
                query = query.bind(name.as_str());
            }
            query.execute(self.connection()).await.during(doing)?;
        }
        Ok(())
    }

    /// Writes who did it. The last statement of a change, because all audited changes wait for this row.
    pub async fn audit(&mut self, by: &By, what: &str, detail: serde_json::Value) -> Result<(), StoreError> {
        let doing = self.doing;
        let number: i64 =
            sqlx::query_scalar("UPDATE counters SET value = value + 1 WHERE name = 'audit' RETURNING value")
                .fetch_one(self.connection())
                .await
                .during(doing)?;
        sqlx::query("INSERT INTO audit (number, at, who, what, detail) VALUES ($1, $2, $3, $4, $5)")
            .bind(number)
            .bind(by.now.as_millisecond())
            .bind(by.who.as_str())
            .bind(what)
            .bind(detail.to_string())
            .execute(self.connection())
            .await
            .during(doing)?;
        Ok(())
    }

    /// Tells every watcher, of every controller, to look at these servers again; after the commit, and only then.
    pub async fn notify<'n>(&mut self, servers: impl IntoIterator<Item = &'n Name>) -> Result<(), StoreError> {
        let doing = self.doing;
        let servers: Vec<Name> = servers.into_iter().cloned().collect();
        match self.store.dialect() {
            Dialect::Sqlite => self.changed.extend(servers.into_iter().map(Changed::Server)),
            Dialect::Postgres => {
                for Notice(payload) in Notice::about(&servers) {
                    sqlx::query("SELECT pg_notify($1, $2)")
                        .bind(super::watch::CHANNEL)
                        .bind(payload)
                        .execute(self.connection())
                        .await
                        .during(doing)?;
                }
            }
        }
        Ok(())
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await.during(self.doing)?;
        for changed in self.changed {
            // Nobody listening is fine.
            let _ = self.store.inner.changed.send(changed);
        }
        Ok(())
    }
}
