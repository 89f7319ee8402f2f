//! Who changed what, when. Written with each change (see `transaction`), never altered; the numbers have no gaps.

use jiff::Timestamp;

use super::row::Columns;
use super::{During, Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub number: u64,
    pub at: Timestamp,
    pub who: String,
    /// `join-token.create`, `documents.put`, `server.ban` …
    pub what: String,
    /// The values of the change; never a secret.
    pub detail: serde_json::Value,
}

impl Store {
    /// Newest first, at most `limit`.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let doing = "read the audit";
        let rows = sqlx::query("SELECT number, at, who, what, detail FROM audit ORDER BY number DESC LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(self.reader())
            .await
            .during(doing)?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(AuditEntry {
                number: row.number("number")?,
                at: row.time("at")?,
                who: row.text("who")?,
                what: row.text("what")?,
                detail: row.parsed("detail")?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().during(doing)
    }
}
