//! What is seen of the servers, changed by their agents in batches: who is connected where, how far each has come.
//!
//! Several controllers on one PostgreSQL each say every few seconds that they live. One that was killed cannot say
//! that its agents are gone: a connection counts while its controller lives. Nobody writes that down for another, so
//! one that was only held up finds all as it was.
//!
//! Whether a controller lives is the one thing measured by the database's clock: those of their machines may differ
//! by more than the few seconds that are measured. A SQLite file has one controller, which knows by itself.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::servers::json_text;
use super::{Dialect, During, Store, StoreError, row};
use crate::model::Name;
use crate::model::fleet::Position;

/// A controller that did not say for so long that it lives counts as dead.
pub const LOST_AFTER: Duration = Duration::from_secs(7);
/// After this its row goes too.
const FORGOTTEN: Duration = Duration::from_secs(86_400);
/// Servers whose rows one statement changes: far below both databases' limits of place holders.
const BATCH: usize = 500;

/// What an agent says when its connection begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub server: Name,
    pub agent_version: String,
    pub position: Option<Position>,
}

/// Milliseconds since 1970, as an expression. Not the time when the transaction began.
fn clock(dialect: Dialect, now: Timestamp) -> String {
    match dialect {
        Dialect::Sqlite => now.as_millisecond().to_string(),
        Dialect::Postgres => POSTGRES_CLOCK.to_owned(),
    }
}

const POSTGRES_CLOCK: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

/// The controller that a row of `servers` is connected to if that one lives, as an expression.
pub(super) fn connected_to(dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => "connected_to".to_owned(),
        Dialect::Postgres => format!(
            "CASE WHEN connected_to IN (SELECT instance FROM controllers WHERE alive_at > {POSTGRES_CLOCK} - {}) \
             THEN connected_to END",
            LOST_AFTER.as_millis()
        ),
    }
}

impl Store {
    /// The agents are connected to the controller process `instance` now, wherever they were before.
    pub async fn connected(&self, greetings: &[Greeting], instance: Uuid, now: Timestamp) -> Result<(), StoreError> {
        let doing = "record connections";
        let mut change = self.change(doing).await?;
        change.lock_servers(greetings.iter().map(|greeting| &greeting.server)).await?;
        for batch in last_of_each(greetings, |greeting| &greeting.server).chunks(BATCH) {
            let new = row::values(batch.len(), 3);
            let next = 3 * batch.len() + 1;
            let query = format!(
                "WITH new (name, agent_version, position) AS (VALUES {new})
                 UPDATE servers SET agent_version = new.agent_version,
                     position = COALESCE(new.position, servers.position), connected_to = ${next}, last_seen = ${}
                 FROM new WHERE servers.name = new.name",
                next + 1
            );
            let mut query = sqlx::query(AssertSqlSafe(query));
            for greeting in batch {
                query = query
                    .bind(greeting.server.as_str())
                    .bind(greeting.agent_version.as_str())
                    .bind(greeting.position.as_ref().map(json_text));
            }
            let query = query.bind(instance.to_string()).bind(now.as_millisecond());
            query.execute(change.connection()).await.during(doing)?;
        }
        change.commit().await
    }

    /// The agents' connections to `instance` ended. Who connected to another process meanwhile stays connected.
    pub async fn disconnected(&self, servers: &[Name], instance: Uuid, now: Timestamp) -> Result<(), StoreError> {
        let doing = "record ended connections";
        let mut change = self.change(doing).await?;
        change.lock_servers(servers).await?;
        for batch in servers.chunks(BATCH) {
            let query = format!(
                "UPDATE servers SET connected_to = NULL, last_seen = $1 WHERE connected_to = $2 AND name IN ({})",
                row::list(3, batch.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(query)).bind(now.as_millisecond()).bind(instance.to_string());
            for name in batch {
                query = query.bind(name.as_str());
            }
            query.execute(change.connection()).await.during(doing)?;
        }
        change.commit().await
    }

    /// Says that the controller process `instance` lives: at its start, and on PostgreSQL again well within
    /// [`LOST_AFTER`]. With SQLite the connections to every other process are forgotten: one controller serves a file.
    pub async fn keep_alive(&self, instance: Uuid, now: Timestamp) -> Result<(), StoreError> {
        let doing = "say that this controller lives";
        let mut change = self.change(doing).await?;
        let clock = clock(self.dialect(), now);
        let alive = format!(
            "INSERT INTO controllers (instance, alive_at) VALUES ($1, {clock})
             ON CONFLICT (instance) DO UPDATE SET alive_at = excluded.alive_at"
        );
        let instance = instance.to_string();
        let query = sqlx::query(AssertSqlSafe(alive)).bind(instance.as_str());
        query.execute(change.connection()).await.during(doing)?;
        let others = match self.dialect() {
            Dialect::Sqlite => "DELETE FROM controllers WHERE instance <> $1".to_owned(),
            // Long gone: one that only could not reach the database for a while finds its connections again.
            Dialect::Postgres => {
                format!(
                    "DELETE FROM controllers WHERE instance <> $1 AND alive_at < {clock} - {}",
                    FORGOTTEN.as_millis()
                )
            }
        };
        let query = sqlx::query(AssertSqlSafe(others)).bind(instance.as_str());
        query.execute(change.connection()).await.during(doing)?;
        if self.dialect() == Dialect::Sqlite {
            sqlx::query("UPDATE servers SET connected_to = NULL WHERE connected_to <> $1")
                .bind(instance.as_str())
                .execute(change.connection())
                .await
                .during(doing)?;
        }
        change.commit().await
    }

    /// When the controller process `instance` ends: nobody is connected to it.
    pub async fn forget_connections(&self, instance: Uuid) -> Result<u64, StoreError> {
        let doing = "forget connections";
        let mut change = self.change(doing).await?;
        sqlx::query("DELETE FROM controllers WHERE instance = $1")
            .bind(instance.to_string())
            .execute(change.connection())
            .await
            .during(doing)?;
        let done = sqlx::query("UPDATE servers SET connected_to = NULL WHERE connected_to = $1")
            .bind(instance.to_string())
            .execute(change.connection())
            .await
            .during(doing)?;
        change.commit().await?;
        Ok(done.rows_affected())
    }

    /// How far the servers say they have come, many in one transaction. The last of two for one server counts.
    pub async fn note_positions(&self, positions: &[(Name, Position)], now: Timestamp) -> Result<(), StoreError> {
        let doing = "record positions";
        let mut change = self.change(doing).await?;
        change.lock_servers(positions.iter().map(|(name, _)| name)).await?;
        for batch in last_of_each(positions, |(name, _)| name).chunks(BATCH) {
            let new = row::values(batch.len(), 2);
            let query = format!(
                "WITH new (name, position) AS (VALUES {new})
                 UPDATE servers SET position = new.position, last_seen = ${}
                 FROM new WHERE servers.name = new.name",
                2 * batch.len() + 1
            );
            let mut query = sqlx::query(AssertSqlSafe(query));
            for (name, position) in batch {
                query = query.bind(name.as_str()).bind(json_text(position));
            }
            query.bind(now.as_millisecond()).execute(change.connection()).await.during(doing)?;
        }
        change.commit().await
    }
}

/// One for each server: a statement may not change a row twice.
fn last_of_each<T>(items: &[T], name: impl Fn(&T) -> &Name) -> Vec<&T> {
    items.iter().map(|item| (name(item), item)).collect::<std::collections::BTreeMap<_, _>>().into_values().collect()
}
