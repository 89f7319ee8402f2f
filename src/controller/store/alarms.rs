//! What somebody should look at. One open alarm per server and code: what happens again is counted, so nobody can
//! fill the table.

use jiff::Timestamp;
use serde_json::json;

use super::row::Columns;
use super::transaction::Change;
use super::{By, During, Store, StoreError};
use crate::model::Name;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// `None`: of the fleet as a whole.
    pub server: Option<Name>,
    /// Stable: `join-token.reused` …
    pub code: String,
    /// Of the last time.
    pub text: String,
    pub at: Timestamp,
    pub last_at: Timestamp,
    pub times: u64,
    pub cleared: Option<Timestamp>,
}

/// Raises an alarm as part of a change.
pub(super) async fn raise(
    change: &mut Change<'_>,
    server: Option<&Name>,
    code: &str,
    text: &str,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO alarms (server, code, text, at, last_at, times) VALUES ($1, $2, $3, $4, $4, 1)
         ON CONFLICT (server, code) WHERE cleared IS NULL
         DO UPDATE SET text = excluded.text, last_at = excluded.last_at, times = alarms.times + 1",
    )
    .bind(server.map_or("", Name::as_str))
    .bind(code)
    .bind(text)
    .bind(now.as_millisecond())
    .execute(change.connection())
    .await?;
    Ok(())
}

impl Store {
    pub async fn raise_alarm(
        &self,
        server: Option<&Name>,
        code: &str,
        text: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let doing = "raise an alarm";
        let mut change = self.change(doing).await?;
        raise(&mut change, server, code, text, now).await.during(doing)?;
        change.commit().await
    }

    /// Open ones first, then the newest cleared; at most `limit`.
    pub async fn alarms(&self, limit: u32) -> Result<Vec<Alarm>, StoreError> {
        let doing = "read the alarms";
        let rows = sqlx::query(
            "SELECT server, code, text, at, last_at, times, cleared FROM alarms
             ORDER BY CASE WHEN cleared IS NULL THEN 0 ELSE 1 END, last_at DESC, server, code LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .during(doing)?;
        let read = |row: &sqlx::any::AnyRow| {
            let server = row.text("server")?;
            Ok(Alarm {
                server: if server.is_empty() { None } else { Some(row.parsed("server")?) },
                code: row.text("code")?,
                text: row.text("text")?,
                at: row.time("at")?,
                last_at: row.time("last_at")?,
                times: row.number("times")?,
                cleared: row.time_or_null("cleared")?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().during(doing)
    }

    pub async fn has_open_alarm(&self, server: Option<&Name>, code: &str) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM alarms WHERE server = $1 AND code = $2 AND cleared IS NULL")
            .bind(server.map_or("", Name::as_str))
            .bind(code)
            .fetch_optional(self.reader())
            .await
            .during("look for an alarm")?;
        Ok(found.is_some())
    }

    /// True if there was an open one.
    pub async fn clear_alarm(&self, server: Option<&Name>, code: &str, by: &By) -> Result<bool, StoreError> {
        let doing = "clear an alarm";
        let mut change = self.change(doing).await?;
        let done = sqlx::query("UPDATE alarms SET cleared = $1 WHERE server = $2 AND code = $3 AND cleared IS NULL")
            .bind(by.now.as_millisecond())
            .bind(server.map_or("", Name::as_str))
            .bind(code)
            .execute(change.connection())
            .await
            .during(doing)?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        change.audit(by, "alarm.clear", json!({ "server": server, "code": code })).await?;
        change.commit().await?;
        Ok(true)
    }
}
