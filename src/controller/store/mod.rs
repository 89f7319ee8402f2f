//! The durable state of the controller: one SQLite file, or one PostgreSQL database shared by several controllers.
//!
//! [`Store::open`] takes a [`StoreUrl`] and gives a handle that is cheap to clone. The operations are methods of
//! [`Store`], one file each:
//!
//! | file | what it keeps |
//! |---|---|
//! | `fleet` | who the fleet is, its settings, its epoch |
//! | `join_tokens` | what enrols one server once: create, revoke, [`Store::redeem`] |
//! | `servers` | identity, certificate, recovery, ban and evict |
//! | `presence` | who is connected where, which controllers live ([`Store::keep_alive`]), how far each server has come |
//! | `documents` | signed documents; [`Store::put_documents`] gives each its mark and has it signed |
//! | `revisions` | the fleet's directory as it was applied |
//! | `outbox` | last reports, and the bounded history of outcomes and events |
//! | `api_tokens` | the operators' tokens, by digest |
//! | `audit`, `alarms` | who changed what; what somebody should look at |
//! | `backup` | online copy, restore, integrity check |
//! | `watch` | which servers to look at again, because somebody changed something |
//!
//! # Guarantees
//!
//! * What a method returned `Ok` for is on disk and survives a `kill -9` of this process and of the machine.
//! * Every method is one transaction. What an operator changes is in it together with its audit entry ([`By`]);
//!   what servers report (positions, connections, outbox items) is not audited: it changes nobody's wish.
//! * A mark is given once: the mark of a new document is decided, signed and written while the fleet's row is
//!   locked, so two controllers on one database never sign two texts with one mark.
//! * Secrets never come here: of tokens the public half or the digest.
//! * No clock: `now` is a parameter, except for which controllers live (`presence`). Times are kept in milliseconds.
//!
//! # Assumptions
//!
//! One statement text serves both databases through `sqlx`'s `Any` driver: `$1` place holders, BIGINT, TEXT and
//! BYTEA only. PostgreSQL runs at READ COMMITTED; what must not interleave is a compare-and-set in one statement or
//! waits for a row. A transaction holds no other wait than the database's.
//!
//! # Rejected
//!
//! * Two adapters behind a trait: the statements are the same word for word, so the second would only be another
//!   place to forget something. What differs (how a transaction begins, locks, notices) is in `transaction`.
//! * Numbers and times by the database (sequences, `now()`): each database does it otherwise, sequences leave
//!   gaps, and tests could not set the time.

mod alarms;
mod api_tokens;
mod audit;
mod backup;
mod connect;
mod documents;
mod error;
mod fleet;
mod join_tokens;
mod outbox;
mod presence;
mod revisions;
mod row;
mod servers;
mod transaction;
mod url;
mod watch;

use std::sync::Arc;

pub use alarms::Alarm;
pub use api_tokens::{ApiToken, NewApiToken, Scope};
pub use audit::AuditEntry;
pub use backup::BackupError;
pub use documents::{Document, NewDocuments, Newest, Put, PutError, Unsigned};
pub use error::StoreError;
pub use fleet::{Fleet, FleetError};
pub use join_tokens::{JoinToken, JoinTokenError, NewJoinToken, RedeemError, Redemption};
pub use outbox::{Item, ItemBody, OutboxItem, Received, StoredReport};
pub use presence::{Greeting, LOST_AFTER};
pub use revisions::{NewRevision, Revision, RevisionSummary};
pub use servers::{Certificate, RecoveryError, Server, ServerState};
pub use url::StoreUrl;
pub use watch::{Changed, Watch};

use error::During;

/// Who changes something, and when. `who` goes into the audit as it is: `uid:0`, `token:ci`, `server:ks1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    pub who: String,
    pub now: jiff::Timestamp,
}

impl By {
    pub fn new(who: impl Into<String>, now: jiff::Timestamp) -> Self {
        Self { who: who.into(), now }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    fn of_error(error: &dyn sqlx::error::DatabaseError) -> Self {
        match error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
            Some(_) => Dialect::Sqlite,
            None => Dialect::Postgres,
        }
    }
}

/// A handle on the database; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    url: StoreUrl,
    pools: connect::Pools,
    /// Changes made through this handle. With PostgreSQL nobody listens here.
    changed: tokio::sync::broadcast::Sender<Changed>,
}

impl Store {
    /// Opens the database, makes or brings up its tables. Refuses a database of a newer program.
    pub async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let pools = connect::open(url).await?;
        let changed = tokio::sync::broadcast::Sender::new(watch::BACKLOG);
        Ok(Self { inner: Arc::new(Inner { url: url.clone(), pools, changed }) })
    }

    pub fn url(&self) -> &StoreUrl {
        &self.inner.url
    }

    pub fn dialect(&self) -> Dialect {
        self.inner.pools.dialect
    }

    /// Waits until the running statements are done and closes the connections: a SQLite file is one file then.
    pub async fn close(&self) {
        self.inner.pools.read.close().await;
        self.inner.pools.write.close().await;
    }

    fn reader(&self) -> &sqlx::AnyPool {
        &self.inner.pools.read
    }
}
