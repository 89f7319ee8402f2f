//! The fleet's directory as it was applied: what `history` lists and `diff` compares. Never changed, never deleted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::row::{Columns, stored};
use super::transaction::Change;
use super::{By, During, Store, StoreError};

/// Files by their path within the fleet's directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRevision {
    pub message: String,
    pub files: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub number: u64,
    pub at: Timestamp,
    pub by: String,
    pub message: String,
    pub files: BTreeMap<String, String>,
}

/// A revision without its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionSummary {
    pub number: u64,
    pub at: Timestamp,
    pub by: String,
    pub message: String,
}

/// The number after the newest. The caller holds the fleet's row, so numbers grow by one.
pub(super) async fn insert(change: &mut Change<'_>, new: &NewRevision, by: &By) -> Result<u64, StoreError> {
    let doing = "put a revision";
    let files = serde_json::to_string(&new.files).expect("a map of texts is plain data");
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO revisions (number, at, created_by, message, files)
         VALUES ((SELECT COALESCE(MAX(number), 0) + 1 FROM revisions), $1, $2, $3, $4) RETURNING number",
    )
    .bind(by.now.as_millisecond())
    .bind(by.who.as_str())
    .bind(new.message.as_str())
    .bind(files)
    .fetch_one(change.connection())
    .await
    .during(doing)?;
    Ok(number.unsigned_abs())
}

fn summary(row: &AnyRow) -> Result<RevisionSummary, sqlx::Error> {
    Ok(RevisionSummary {
        number: row.number("number")?,
        at: row.time("at")?,
        by: row.text("created_by")?,
        message: row.text("message")?,
    })
}

fn read(row: &AnyRow) -> Result<Revision, sqlx::Error> {
    let RevisionSummary { number, at, by, message } = summary(row)?;
    Ok(Revision { number, at, by, message, files: row.json_or_null("files")?.unwrap_or_default() })
}

impl Store {
    /// Newest first, at most `limit`.
    pub async fn revisions(&self, limit: u32) -> Result<Vec<RevisionSummary>, StoreError> {
        let doing = "list the revisions";
        let rows = sqlx::query("SELECT number, at, created_by, message FROM revisions ORDER BY number DESC LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(self.reader())
            .await
            .during(doing)?;
        rows.iter().map(summary).collect::<Result<_, _>>().during(doing)
    }

    pub async fn revision(&self, number: u64) -> Result<Option<Revision>, StoreError> {
        let number = stored("the number of a revision", number)?;
        self.find_revision("WHERE number = $1", Some(number)).await
    }

    pub async fn newest_revision(&self) -> Result<Option<Revision>, StoreError> {
        self.find_revision("ORDER BY number DESC LIMIT 1", None).await
    }

    async fn find_revision(&self, which: &'static str, number: Option<i64>) -> Result<Option<Revision>, StoreError> {
        let doing = "read a revision";
        let query = format!("SELECT number, at, created_by, message, files FROM revisions {which}");
        let mut query = sqlx::query(AssertSqlSafe(query));
        if let Some(number) = number {
            query = query.bind(number);
        }
        let row = query.fetch_optional(self.reader()).await.during(doing)?;
        row.as_ref().map(read).transpose().during(doing)
    }
}
