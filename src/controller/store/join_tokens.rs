//! What enrols one server, once.

use jiff::Timestamp;
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::alarms::raise;
use super::row::Columns;
use super::servers::{self, Server, ServerState};
use super::transaction::Change;
use super::{By, During, Store, StoreError};
use crate::model::{Digest, Name};
use crate::wire::PublicKey;
use crate::wire::token::TokenId;

/// The public half; the secret half leaves the controller once, printed to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJoinToken {
    pub id: TokenId,
    pub server: Name,
    /// Ed25519, of the seed in the token.
    pub public_key: PublicKey,
    pub expires: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: TokenId,
    pub server: Name,
    pub public_key: PublicKey,
    pub created: Timestamp,
    pub created_by: String,
    pub expires: Timestamp,
    pub revoked: Option<Timestamp>,
    /// SHA-256 of the identity key that redeemed it, and when.
    pub redeemed: Option<(Digest, Timestamp)>,
}

impl JoinToken {
    /// Whether a server could still enrol with it.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.redeemed.is_none() && now < self.expires
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JoinTokenError {
    #[error("there is no join token `{0}`")]
    Unknown(TokenId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a server brings, its proofs already checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redemption {
    pub token: TokenId,
    /// For the server if it is new; one that enrolled before with the same identity keeps its own.
    pub id: Uuid,
    pub identity: PublicKey,
    /// X25519.
    pub sealing: [u8; 32],
}

#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    #[error("there is no join token `{0}`")]
    Unknown(TokenId),
    #[error("join token `{id}` expired at {at}")]
    Expired { id: TokenId, at: Timestamp },
    #[error("join token `{id}` was revoked at {at}")]
    Revoked { id: TokenId, at: Timestamp },
    /// An alarm was raised.
    #[error("join token `{id}` of server `{server}` was already used by the key {}", .by.short())]
    AlreadyUsed { id: TokenId, server: Name, by: Digest },
    #[error("server `{0}` is banned")]
    Banned(Name),
    #[error("server `{0}` is enrolled with another key; it has to be evicted first")]
    AlreadyEnrolled(Name),
    #[error(transparent)]
    Store(#[from] StoreError),
}

const COLUMNS: &str = "id, server, public_key, created, created_by, expires, revoked, redeemed_by, redeemed_at";

fn read(row: &AnyRow) -> Result<JoinToken, sqlx::Error> {
    Ok(JoinToken {
        id: row.parsed("id")?,
        server: row.parsed("server")?,
        public_key: row.key("public_key")?,
        created: row.time("created")?,
        created_by: row.text("created_by")?,
        expires: row.time("expires")?,
        revoked: row.time_or_null("revoked")?,
        redeemed: row.parsed_or_null("redeemed_by")?.zip(row.time_or_null("redeemed_at")?),
    })
}

impl Store {
    /// Refused for a banned server.
    pub async fn create_join_token(&self, token: &NewJoinToken, by: &By) -> Result<(), StoreError> {
        let doing = "keep a join token";
        let mut change = self.change(doing).await?;
        let banned: Option<i64> =
            sqlx::query_scalar("SELECT CAST(1 AS BIGINT) FROM servers WHERE name = $1 AND state = 'banned'")
                .bind(token.server.as_str())
                .fetch_optional(change.connection())
                .await
                .during(doing)?;
        if banned.is_some() {
            return Err(StoreError::Banned(token.server.clone()));
        }
        sqlx::query(
            "INSERT INTO join_tokens (id, server, public_key, created, created_by, expires)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(token.id.to_string())
        .bind(token.server.as_str())
        .bind(String::from(token.public_key))
        .bind(by.now.as_millisecond())
        .bind(by.who.as_str())
        .bind(token.expires.as_millisecond())
        .execute(change.connection())
        .await
        .during(doing)?;
        let detail = json!({ "id": token.id, "server": token.server, "expires": token.expires });
        change.audit(by, "join-token.create", detail).await?;
        change.commit().await
    }

    /// All, newest first.
    pub async fn join_tokens(&self) -> Result<Vec<JoinToken>, StoreError> {
        let doing = "list the join tokens";
        let query = format!("SELECT {COLUMNS} FROM join_tokens ORDER BY created DESC, id");
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(self.reader()).await.during(doing)?;
        rows.iter().map(read).collect::<Result<_, _>>().during(doing)
    }

    pub async fn join_token(&self, id: TokenId) -> Result<Option<JoinToken>, StoreError> {
        let doing = "look up a join token";
        let query = format!("SELECT {COLUMNS} FROM join_tokens WHERE id = $1");
        let row = sqlx::query(AssertSqlSafe(query)).bind(id.to_string()).fetch_optional(self.reader()).await;
        row.during(doing)?.as_ref().map(read).transpose().during(doing)
    }

    /// How many tokens could enrol a server now. A redeemed one counts until it expires: its server may ask
    /// again for an answer that was lost.
    pub async fn live_join_tokens(&self, now: Timestamp) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM join_tokens WHERE revoked IS NULL AND expires > $1")
            .bind(now.as_millisecond())
            .fetch_one(self.reader())
            .await
            .during("count the join tokens")?;
        Ok(count.unsigned_abs())
    }

    /// Revoking twice is fine.
    pub async fn revoke_join_token(&self, id: TokenId, by: &By) -> Result<(), JoinTokenError> {
        let doing = "revoke a join token";
        let mut change = self.change(doing).await?;
        let done = sqlx::query("UPDATE join_tokens SET revoked = COALESCE(revoked, $1) WHERE id = $2")
            .bind(by.now.as_millisecond())
            .bind(id.to_string())
            .execute(change.connection())
            .await
            .during(doing)?;
        if done.rows_affected() == 0 {
            return Err(JoinTokenError::Unknown(id));
        }
        change.audit(by, "join-token.revoke", json!({ "id": id })).await?;
        Ok(change.commit().await?)
    }

    /// Enrols a server, in one transaction.
    ///
    /// # Guarantees
    ///
    /// Of all keys that ever try, one wins. The winner may ask again while the token lives and gets the same
    /// server: its answer may have been lost. Another key is refused, and an alarm is raised with the refusal.
    pub async fn redeem(&self, redemption: &Redemption, now: Timestamp) -> Result<Server, RedeemError> {
        let mut change = self.change(DOING).await?;
        let key = redemption.identity.id();
        let id = redemption.token;
        let won: Option<String> = sqlx::query_scalar(
            "UPDATE join_tokens SET redeemed_by = $1, redeemed_at = $2
             WHERE id = $3 AND redeemed_by IS NULL AND revoked IS NULL AND expires > $2 RETURNING server",
        )
        .bind(key.to_string())
        .bind(now.as_millisecond())
        .bind(id.to_string())
        .fetch_optional(change.connection())
        .await
        .during(DOING)?;
        if won.is_none() {
            let token = find(&mut change, id).await?.ok_or(RedeemError::Unknown(id))?;
            return match judge(&token, key, now) {
                Judged::Again => standing(&mut change, &token.server, redemption).await,
                Judged::Stolen { by } => {
                    let text = format!(
                        "join token `{id}` was presented by the key {}, after the key {} had used it",
                        key.short(),
                        by.short()
                    );
                    raise(&mut change, Some(&token.server), "join-token.reused", &text, now).await.during(DOING)?;
                    change.commit().await?;
                    Err(RedeemError::AlreadyUsed { id, server: token.server, by })
                }
                Judged::Refused(error) => Err(error),
            };
        }
        let token = find(&mut change, id).await?.ok_or(RedeemError::Unknown(id))?;
        if !enrol(&mut change, &token.server, redemption, now).await? {
            // Dropping the change gives the token back.
            return standing(&mut change, &token.server, redemption).await;
        }
        let server = standing(&mut change, &token.server, redemption).await?;
        change.notify([&server.name]).await?;
        let by = By::new(format!("server:{}", server.name), now);
        let detail = json!({ "token": id, "server": server.name, "id": server.id, "identity": server.identity });
        change.audit(&by, "server.enrol", detail).await?;
        change.commit().await?;
        Ok(server)
    }
}

const DOING: &str = "redeem a join token";

enum Judged {
    /// The winner asks again.
    Again,
    Stolen {
        by: Digest,
    },
    Refused(RedeemError),
}

/// Why the compare-and-set did not take. Pure.
fn judge(token: &JoinToken, key: Digest, now: Timestamp) -> Judged {
    let id = token.id;
    match token.redeemed {
        Some((by, _)) if by != key => Judged::Stolen { by },
        _ => match token.revoked {
            Some(at) => Judged::Refused(RedeemError::Revoked { id, at }),
            None if now >= token.expires => Judged::Refused(RedeemError::Expired { id, at: token.expires }),
            None => Judged::Again,
        },
    }
}

async fn find(change: &mut Change<'_>, id: TokenId) -> Result<Option<JoinToken>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM join_tokens WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(query)).bind(id.to_string()).fetch_optional(change.connection()).await;
    row.during(DOING)?.as_ref().map(read).transpose().during(DOING)
}

/// Makes the server's row, or makes it anew for one that was evicted. A server with the same identity keeps its id
/// and how far its outbox has come; another machine under the name starts from nothing. False if the name or the
/// identity is not free.
async fn enrol(change: &mut Change<'_>, name: &Name, new: &Redemption, now: Timestamp) -> Result<bool, StoreError> {
    if is_banned(change, new.identity).await? {
        return Ok(false);
    }
    let done = sqlx::query(
        "INSERT INTO servers (name, id, identity_key, sealing_key, state, enrolled_at, recovery_sequence, acknowledged)
         VALUES ($1, $2, $3, $4, 'enrolled', $5, 0, 0)
         ON CONFLICT (name) DO UPDATE SET
             id = CASE WHEN servers.identity_key = excluded.identity_key THEN servers.id ELSE excluded.id END,
             recovery_sequence =
                 CASE WHEN servers.identity_key = excluded.identity_key THEN servers.recovery_sequence ELSE 0 END,
             acknowledged =
                 CASE WHEN servers.identity_key = excluded.identity_key THEN servers.acknowledged ELSE 0 END,
             position = CASE WHEN servers.identity_key = excluded.identity_key THEN servers.position END,
             agent_version = CASE WHEN servers.identity_key = excluded.identity_key THEN servers.agent_version END,
             last_seen = CASE WHEN servers.identity_key = excluded.identity_key THEN servers.last_seen END,
             certificate_serial = NULL, certificate_not_after = NULL, connected_to = NULL,
             identity_key = excluded.identity_key, sealing_key = excluded.sealing_key,
             state = excluded.state, enrolled_at = excluded.enrolled_at
         WHERE servers.state = 'evicted'
            OR (servers.state = 'enrolled' AND servers.identity_key = excluded.identity_key)",
    )
    .bind(name.as_str())
    .bind(new.id.to_string())
    .bind(String::from(new.identity))
    .bind(String::from(PublicKey(new.sealing)))
    .bind(now.as_millisecond())
    .execute(change.connection())
    .await
    .during(DOING)?;
    // The last report of another machine under this name is not this one's.
    sqlx::query("DELETE FROM reports WHERE server = $1 AND server_id <> (SELECT id FROM servers WHERE name = $1)")
        .bind(name.as_str())
        .execute(change.connection())
        .await
        .during(DOING)?;
    Ok(done.rows_affected() == 1)
}

async fn is_banned(change: &mut Change<'_>, identity: PublicKey) -> Result<bool, StoreError> {
    let banned: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM servers WHERE identity_key = $1 AND state = 'banned'")
        .bind(String::from(identity))
        .fetch_one(change.connection())
        .await
        .during(DOING)?;
    Ok(banned > 0)
}

/// The server's row, if this key may have it.
async fn standing(change: &mut Change<'_>, name: &Name, asking: &Redemption) -> Result<Server, RedeemError> {
    let query = format!("SELECT {} FROM servers WHERE name = $1", servers::columns(change.dialect()));
    let row = sqlx::query(AssertSqlSafe(query)).bind(name.as_str()).fetch_optional(change.connection()).await;
    let server = row.during(DOING)?.as_ref().map(servers::read).transpose().during(DOING)?;
    match server {
        Some(server) if server.state == ServerState::Enrolled && server.identity == asking.identity => Ok(server),
        Some(server) if server.state == ServerState::Enrolled => Err(RedeemError::AlreadyEnrolled(server.name)),
        // Evicted is impossible here (evicting revokes the token), and no row means the identity is banned under
        // another name.
        Some(_) | None => Err(RedeemError::Banned(name.clone())),
    }
}
