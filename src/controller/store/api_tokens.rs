//! The operators' bearer tokens, known by their digest only.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::row::Columns;
use super::{By, During, Store, StoreError};
use crate::model::{Digest, Name};

/// What a token may do. Ordered: each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Read,
    Write,
    Admin,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope: read, write or admin")]
pub struct ScopeError(String);

impl std::str::FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        [Scope::Read, Scope::Write, Scope::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| ScopeError(text.to_owned()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiToken {
    pub id: Uuid,
    /// Whose or what for.
    pub name: Name,
    pub scope: Scope,
    /// SHA-256 of the token. The token has 256 random bits, so a plain digest is enough (nothing to guess).
    pub digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    pub id: Uuid,
    pub name: Name,
    pub scope: Scope,
    pub digest: Digest,
    pub created: Timestamp,
    pub created_by: String,
    pub revoked: Option<Timestamp>,
    /// To the minute.
    pub last_used: Option<Timestamp>,
}

const COLUMNS: &str = "id, name, scope, digest, created, created_by, revoked, last_used";

/// `last_used` is written at most this often: a request must not cost a write.
const USED_EVERY: SignedDuration = SignedDuration::from_mins(1);

fn read(row: &AnyRow) -> Result<ApiToken, sqlx::Error> {
    Ok(ApiToken {
        id: row.parsed("id")?,
        name: row.parsed("name")?,
        scope: row.parsed("scope")?,
        digest: row.parsed("digest")?,
        created: row.time("created")?,
        created_by: row.text("created_by")?,
        revoked: row.time_or_null("revoked")?,
        last_used: row.time_or_null("last_used")?,
    })
}

impl Store {
    pub async fn create_api_token(&self, token: &NewApiToken, by: &By) -> Result<(), StoreError> {
        let doing = "keep an API token";
        let mut change = self.change(doing).await?;
        sqlx::query(
            "INSERT INTO api_tokens (id, name, scope, digest, created, created_by) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(token.id.to_string())
        .bind(token.name.as_str())
        .bind(token.scope.as_str())
        .bind(token.digest.to_string())
        .bind(by.now.as_millisecond())
        .bind(by.who.as_str())
        .execute(change.connection())
        .await
        .during(doing)?;
        let detail = json!({ "id": token.id, "name": token.name, "scope": token.scope });
        change.audit(by, "api-token.create", detail).await?;
        change.commit().await
    }

    /// All, newest first.
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let doing = "list the API tokens";
        let query = format!("SELECT {COLUMNS} FROM api_tokens ORDER BY created DESC, id");
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(self.reader()).await.during(doing)?;
        rows.iter().map(read).collect::<Result<_, _>>().during(doing)
    }

    /// The token with this digest, if it is not revoked; notes that it was used.
    pub async fn use_api_token(&self, digest: Digest, now: Timestamp) -> Result<Option<ApiToken>, StoreError> {
        let doing = "look up an API token";
        let query = format!("SELECT {COLUMNS} FROM api_tokens WHERE digest = $1 AND revoked IS NULL");
        let row = sqlx::query(AssertSqlSafe(query)).bind(digest.to_string()).fetch_optional(self.reader()).await;
        let Some(token) = row.during(doing)?.as_ref().map(read).transpose().during(doing)? else {
            return Ok(None);
        };
        if token.last_used.is_none_or(|used| now.duration_since(used) >= USED_EVERY) {
            let mut change = self.change(doing).await?;
            sqlx::query("UPDATE api_tokens SET last_used = $1 WHERE id = $2")
                .bind(now.as_millisecond())
                .bind(token.id.to_string())
                .execute(change.connection())
                .await
                .during(doing)?;
            change.commit().await?;
        }
        Ok(Some(token))
    }

    /// True if there was one that was not revoked yet.
    pub async fn revoke_api_token(&self, id: Uuid, by: &By) -> Result<bool, StoreError> {
        let doing = "revoke an API token";
        let mut change = self.change(doing).await?;
        let done = sqlx::query("UPDATE api_tokens SET revoked = $1 WHERE id = $2 AND revoked IS NULL")
            .bind(by.now.as_millisecond())
            .bind(id.to_string())
            .execute(change.connection())
            .await
            .during(doing)?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        change.audit(by, "api-token.revoke", json!({ "id": id })).await?;
        change.commit().await?;
        Ok(true)
    }
}
