//! The fleet's servers: identity and standing, changed by operators and enrolment. What is seen of them is in
//! `presence`.

use jiff::Timestamp;
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::row::{Columns, stored};
use super::{By, Dialect, During, Store, StoreError, presence};
use crate::model::Name;
use crate::model::fleet::Position;
use crate::wire::PublicKey;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub name: Name,
    pub id: Uuid,
    /// Ed25519; long-lived, what the server is known by.
    pub identity: PublicKey,
    /// X25519; what secrets for the server are sealed to.
    pub sealing: [u8; 32],
    pub state: ServerState,
    pub enrolled_at: Timestamp,
    /// The last one issued.
    pub certificate: Option<Certificate>,
    /// Of the last recovery with the identity key; only grows.
    pub recovery_sequence: u64,
    pub last_seen: Option<Timestamp>,
    /// The controller process that holds the agent's connection, and lives.
    pub connected_to: Option<Uuid>,
    /// What the agent last said; it may be behind the truth, never ahead.
    pub position: Option<Position>,
    pub agent_version: Option<String>,
    /// Up to here the store has all of the agent's outbox.
    pub acknowledged: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// As the certificate authority wrote it.
    pub serial: String,
    pub not_after: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    Enrolled,
    /// Never again, under no name.
    Banned,
    /// Out, and may enrol again with a new token.
    Evicted,
}

impl ServerState {
    pub fn as_str(self) -> &'static str {
        match self {
            ServerState::Enrolled => "enrolled",
            ServerState::Banned => "banned",
            ServerState::Evicted => "evicted",
        }
    }
}

impl std::str::FromStr for ServerState {
    type Err = std::io::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [ServerState::Enrolled, ServerState::Banned, ServerState::Evicted]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| std::io::Error::other(format!("`{text}` is no state of a server")))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The server was set back to an earlier state, or somebody replays an old request.
    #[error("server `{server}` asks for recovery {given}, but {stored} was done already")]
    Outdated { server: Name, given: u64, stored: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What [`read`] reads.
pub(super) fn columns(dialect: Dialect) -> String {
    format!(
        "name, id, identity_key, sealing_key, state, enrolled_at, certificate_serial, certificate_not_after, \
         recovery_sequence, last_seen, {} AS connected_to, position, agent_version, acknowledged",
        presence::connected_to(dialect)
    )
}

pub(super) fn read(row: &AnyRow) -> Result<Server, sqlx::Error> {
    let certificate = match (row.text_or_null("certificate_serial")?, row.time_or_null("certificate_not_after")?) {
        (Some(serial), Some(not_after)) => Some(Certificate { serial, not_after }),
        _ => None,
    };
    Ok(Server {
        name: row.parsed("name")?,
        id: row.parsed("id")?,
        identity: row.key("identity_key")?,
        sealing: row.key("sealing_key")?.0,
        state: row.parsed("state")?,
        enrolled_at: row.time("enrolled_at")?,
        certificate,
        recovery_sequence: row.number("recovery_sequence")?,
        last_seen: row.time_or_null("last_seen")?,
        connected_to: row.parsed_or_null("connected_to")?,
        position: row.json_or_null("position")?,
        agent_version: row.text_or_null("agent_version")?,
        acknowledged: row.number("acknowledged")?,
    })
}

impl Store {
    /// All servers that ever enrolled, by name.
    pub async fn servers(&self) -> Result<Vec<Server>, StoreError> {
        let doing = "list the servers";
        let query = format!("SELECT {} FROM servers ORDER BY name", columns(self.dialect()));
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(self.reader()).await.during(doing)?;
        rows.iter().map(read).collect::<Result<_, _>>().during(doing)
    }

    /// `None`: no server of this name ever enrolled.
    pub async fn server(&self, name: &Name) -> Result<Option<Server>, StoreError> {
        let doing = "look up a server";
        let query = format!("SELECT {} FROM servers WHERE name = $1", columns(self.dialect()));
        let row = sqlx::query(AssertSqlSafe(query)).bind(name.as_str()).fetch_optional(self.reader()).await;
        row.during(doing)?.as_ref().map(read).transpose().during(doing)
    }

    /// Whether a server is enrolled whose certificate ended before `until`, or that has none: one that may come
    /// back with its identity key only. Cheap enough to ask at every connection.
    pub async fn may_recover(&self, until: Timestamp) -> Result<bool, StoreError> {
        let found = sqlx::query(
            "SELECT name FROM servers WHERE state = 'enrolled'
                 AND (certificate_not_after IS NULL OR certificate_not_after < $1) LIMIT 1",
        )
        .bind(until.as_millisecond())
        .fetch_optional(self.reader())
        .await
        .during("look for servers that may recover")?;
        Ok(found.is_some())
    }

    /// Remembers the certificate that was issued to the server.
    pub async fn set_certificate(&self, server: &Name, certificate: &Certificate, by: &By) -> Result<(), StoreError> {
        let doing = "record a certificate";
        let mut change = self.change(doing).await?;
        let done =
            sqlx::query("UPDATE servers SET certificate_serial = $1, certificate_not_after = $2 WHERE name = $3")
                .bind(certificate.serial.as_str())
                .bind(certificate.not_after.as_millisecond())
                .bind(server.as_str())
                .execute(change.connection())
                .await
                .during(doing)?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NoSuchServer(server.clone()));
        }
        let detail = json!({ "server": server, "serial": certificate.serial, "not_after": certificate.not_after });
        change.audit(by, "server.certificate", detail).await?;
        change.commit().await
    }

    /// Takes a recovery's sequence if it is higher than every one before: compare-and-set.
    pub async fn advance_recovery(&self, server: &Name, sequence: u64, by: &By) -> Result<(), RecoveryError> {
        let doing = "record a recovery";
        let given = stored("the sequence of a recovery", sequence)?;
        let mut change = self.change(doing).await?;
        let done = sqlx::query("UPDATE servers SET recovery_sequence = $1 WHERE name = $2 AND recovery_sequence < $1")
            .bind(given)
            .bind(server.as_str())
            .execute(change.connection())
            .await
            .during(doing)?;
        if done.rows_affected() == 0 {
            drop(change);
            let found = self.server(server).await?.ok_or_else(|| StoreError::NoSuchServer(server.clone()))?;
            let stored = found.recovery_sequence;
            return Err(RecoveryError::Outdated { server: server.clone(), given: sequence, stored });
        }
        change.audit(by, "server.recover", json!({ "server": server, "sequence": sequence })).await?;
        Ok(change.commit().await?)
    }

    /// Never again: not this identity under any name, not another under this name. Revokes its join tokens.
    pub async fn ban(&self, server: &Name, by: &By) -> Result<(), StoreError> {
        self.set_state(server, ServerState::Banned, by).await
    }

    /// Out until it enrols with a new token. Revokes its join tokens. Refused for a banned server.
    pub async fn evict(&self, server: &Name, by: &By) -> Result<(), StoreError> {
        self.set_state(server, ServerState::Evicted, by).await
    }

    async fn set_state(&self, server: &Name, state: ServerState, by: &By) -> Result<(), StoreError> {
        let doing = "change a server's standing";
        let mut change = self.change(doing).await?;
        let done =
            sqlx::query("UPDATE servers SET state = $1 WHERE name = $2 AND (state <> 'banned' OR $1 = 'banned')")
                .bind(state.as_str())
                .bind(server.as_str())
                .execute(change.connection())
                .await
                .during(doing)?;
        if done.rows_affected() == 0 {
            drop(change);
            return Err(match self.server(server).await? {
                Some(_) => StoreError::Banned(server.clone()),
                None => StoreError::NoSuchServer(server.clone()),
            });
        }
        sqlx::query("UPDATE join_tokens SET revoked = $1 WHERE server = $2 AND revoked IS NULL")
            .bind(by.now.as_millisecond())
            .bind(server.as_str())
            .execute(change.connection())
            .await
            .during(doing)?;
        change.notify([server]).await?;
        let what = if state == ServerState::Banned { "server.ban" } else { "server.evict" };
        change.audit(by, what, json!({ "server": server })).await?;
        change.commit().await
    }
}

pub(super) fn json_text(position: &Position) -> String {
    serde_json::to_string(position).expect("a position is plain data")
}
