//! What agents report: the last report of each server, and a bounded history of outcomes and events.
//!
//! An agent numbers the items of its durable outbox upwards and sends them in that order, again after each new
//! connection. It may leave numbers out: of a long absence it keeps the newest reports only. An item is stored once,
//! by server id and number. What is acknowledged is the highest number stored: the agent may forget up to there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::alarms;
use super::row::{self, Columns, stored};
use super::servers::json_text;
use super::transaction::Change;
use super::{During, Store, StoreError};
use crate::model::fleet::Position;
use crate::model::{Generation, Name};

/// An item of an agent's outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxItem {
    /// From 1.
    pub sequence: u64,
    /// When it happened, by the agent's clock.
    pub at: Timestamp,
    pub body: ItemBody,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemBody {
    Report {
        generation: Generation,
        /// In a few words, for the history: `converged`, `2 failed` …
        outcome: String,
        /// The whole report; kept only of the last.
        json: String,
    },
    /// JSON.
    Event { json: String },
    /// Raised for the server in the same transaction.
    Alarm { code: String, text: String },
}

/// A batch of one server's outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub server: Name,
    /// Where the server stands since, if it said so.
    pub position: Option<Position>,
    pub items: Vec<OutboxItem>,
}

/// The last report of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport {
    pub server: Name,
    pub generation: Generation,
    pub at: Timestamp,
    pub json: String,
}

/// An entry of a server's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub server: Name,
    pub sequence: u64,
    pub at: Timestamp,
    /// `Report.json` is empty: only the last report is kept, see [`Store::report`].
    pub body: ItemBody,
}

/// Entries of history kept of each server.
pub const KEPT: u64 = 200;

/// Rows a statement writes; an item has seven place holders.
const BATCH: usize = 500;

const DOING: &str = "store what servers reported";

/// Where a server's outbox stands.
struct Cursor {
    id: Uuid,
    acknowledged: u64,
}

/// What one server sent, each item once.
#[derive(Default)]
struct Sent<'a> {
    position: Option<&'a Position>,
    items: BTreeMap<u64, &'a OutboxItem>,
}

struct Moved<'a> {
    name: &'a Name,
    id: Uuid,
    acknowledged: u64,
    position: Option<&'a Position>,
}

impl Store {
    /// Stores items of one server; gives what is acknowledged now.
    pub async fn take_outbox(&self, server: &Name, items: Vec<OutboxItem>, now: Timestamp) -> Result<u64, StoreError> {
        let taken = self.take_outboxes(&[Received { server: server.clone(), position: None, items }], now).await?;
        taken.get(server).copied().ok_or_else(|| StoreError::NoSuchServer(server.clone()))
    }

    /// Stores items of many servers in one transaction, with the positions and alarms in them; gives what is
    /// acknowledged now, of each. A server that never enrolled is missing in the answer, and its items are not
    /// stored.
    pub async fn take_outboxes(
        &self,
        received: &[Received],
        now: Timestamp,
    ) -> Result<BTreeMap<Name, u64>, StoreError> {
        let mut change = self.change(DOING).await?;
        let mut by_server: BTreeMap<&Name, Sent> = BTreeMap::new();
        for received in received {
            let sent = by_server.entry(&received.server).or_default();
            sent.position = received.position.as_ref().or(sent.position);
            sent.items.extend(received.items.iter().map(|item| (item.sequence, item)));
        }
        let servers: Vec<&Name> = by_server.keys().copied().collect();
        change.lock_servers(by_server.keys().copied()).await?;
        let cursors = read_cursors(&mut change, &servers).await?;
        let mut new = Vec::new();
        for (server, sent) in &by_server {
            let Some(cursor) = cursors.get(*server) else { continue };
            new.extend(sent.items.range(cursor.acknowledged + 1..).map(|(_, item)| (*server, cursor.id, *item)));
        }
        for batch in new.chunks(BATCH) {
            insert(&mut change, batch).await?;
        }
        let last: BTreeMap<&Name, &New<'_>> =
            new.iter().filter(|(.., item)| matches!(item.body, ItemBody::Report { .. })).map(|n| (n.0, n)).collect();
        for batch in last.into_values().collect::<Vec<_>>().chunks(BATCH) {
            insert_reports(&mut change, batch).await?;
        }
        for (server, _, item) in &new {
            if let ItemBody::Alarm { code, text } = &item.body {
                alarms::raise(&mut change, Some(server), code, text, now).await.during(DOING)?;
            }
        }
        let acknowledged = advance(&mut change, &cursors, &by_server, now).await?;
        change.commit().await?;
        Ok(acknowledged)
    }

    /// The last report of a server.
    pub async fn report(&self, server: &Name) -> Result<Option<StoredReport>, StoreError> {
        let doing = "read a server's last report";
        let row = sqlx::query("SELECT server, generation, at, body FROM reports WHERE server = $1")
            .bind(server.as_str())
            .fetch_optional(self.reader())
            .await
            .during(doing)?;
        row.as_ref().map(read_report).transpose().during(doing)
    }

    /// The last report of every server that sent one, by name.
    pub async fn reports(&self) -> Result<Vec<StoredReport>, StoreError> {
        let doing = "read the last reports";
        let rows = sqlx::query("SELECT server, generation, at, body FROM reports ORDER BY server")
            .fetch_all(self.reader())
            .await
            .during(doing)?;
        rows.iter().map(read_report).collect::<Result<_, _>>().during(doing)
    }

    /// Outcomes and events of one server, newest first, at most `limit`.
    pub async fn history(&self, server: &Name, limit: u32) -> Result<Vec<Item>, StoreError> {
        let doing = "read a server's history";
        let rows = sqlx::query(
            "SELECT server, sequence, at, generation, outcome, body FROM items WHERE server = $1
             ORDER BY at DESC, sequence DESC LIMIT $2",
        )
        .bind(server.as_str())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .during(doing)?;
        rows.iter().map(read_item).collect::<Result<_, _>>().during(doing)
    }
}

fn read_report(row: &AnyRow) -> Result<StoredReport, sqlx::Error> {
    Ok(StoredReport {
        server: row.parsed("server")?,
        generation: Generation(row.number("generation")?),
        at: row.time("at")?,
        json: row.text("body")?,
    })
}

fn read_item(row: &AnyRow) -> Result<Item, sqlx::Error> {
    let body = match (row.number_or_null("generation")?, row.text_or_null("outcome")?) {
        (Some(generation), Some(outcome)) => {
            ItemBody::Report { generation: Generation(generation), outcome, json: String::new() }
        }
        (None, Some(code)) => ItemBody::Alarm { code, text: row.text("body")? },
        _ => ItemBody::Event { json: row.text("body")? },
    };
    Ok(Item { server: row.parsed("server")?, sequence: row.number("sequence")?, at: row.time("at")?, body })
}

async fn read_cursors(change: &mut Change<'_>, servers: &[&Name]) -> Result<BTreeMap<Name, Cursor>, StoreError> {
    let mut cursors = BTreeMap::new();
    for batch in servers.chunks(BATCH) {
        let query = format!("SELECT name, id, acknowledged FROM servers WHERE name IN ({})", row::list(1, batch.len()));
        let mut query = sqlx::query(AssertSqlSafe(query));
        for name in batch {
            query = query.bind(name.as_str());
        }
        for row in query.fetch_all(change.connection()).await.during(DOING)? {
            let read = |row: &AnyRow| -> Result<_, sqlx::Error> {
                Ok((row.parsed("name")?, Cursor { id: row.parsed("id")?, acknowledged: row.number("acknowledged")? }))
            };
            let (name, cursor) = read(&row).during(DOING)?;
            cursors.insert(name, cursor);
        }
    }
    Ok(cursors)
}

type New<'a> = (&'a Name, Uuid, &'a OutboxItem);

async fn insert(change: &mut Change<'_>, batch: &[New<'_>]) -> Result<(), StoreError> {
    let query = format!(
        "INSERT INTO items (server_id, sequence, server, at, generation, outcome, body) VALUES {}
         ON CONFLICT (server_id, sequence) DO NOTHING",
        row::values(batch.len(), 7)
    );
    let mut query = sqlx::query(AssertSqlSafe(query));
    for (server, id, item) in batch {
        query = query
            .bind(id.to_string())
            .bind(stored("the sequence of an outbox item", item.sequence)?)
            .bind(server.as_str())
            .bind(item.at.as_millisecond());
        query = match &item.body {
            ItemBody::Report { generation, outcome, .. } => query
                .bind(Some(stored("the generation of a report", generation.0)?))
                .bind(Some(outcome.clone()))
                .bind(None::<String>),
            ItemBody::Event { json } => query.bind(None::<i64>).bind(None::<String>).bind(Some(json.clone())),
            ItemBody::Alarm { code, text } => query.bind(None::<i64>).bind(Some(code.clone())).bind(Some(text.clone())),
        };
    }
    query.execute(change.connection()).await.during(DOING)?;
    Ok(())
}

/// Keeps each as the last of its server, unless a later one is kept already.
async fn insert_reports(change: &mut Change<'_>, batch: &[&New<'_>]) -> Result<(), StoreError> {
    let query = format!(
        "INSERT INTO reports (server, server_id, sequence, generation, at, body) VALUES {}
         ON CONFLICT (server) DO UPDATE SET server_id = excluded.server_id, sequence = excluded.sequence,
             generation = excluded.generation, at = excluded.at, body = excluded.body
         WHERE reports.server_id <> excluded.server_id OR reports.sequence < excluded.sequence",
        row::values(batch.len(), 6)
    );
    let mut query = sqlx::query(AssertSqlSafe(query));
    for (server, id, item) in batch {
        let ItemBody::Report { generation, json, .. } = &item.body else { continue };
        query = query
            .bind(server.as_str())
            .bind(id.to_string())
            .bind(stored("the sequence of an outbox item", item.sequence)?)
            .bind(stored("the generation of a report", generation.0)?)
            .bind(item.at.as_millisecond())
            .bind(json.as_str());
    }
    query.execute(change.connection()).await.during(DOING)?;
    Ok(())
}

/// Moves the cursors and positions, and drops history that is too old.
async fn advance(
    change: &mut Change<'_>,
    cursors: &BTreeMap<Name, Cursor>,
    sent: &BTreeMap<&Name, Sent<'_>>,
    now: Timestamp,
) -> Result<BTreeMap<Name, u64>, StoreError> {
    let highest = |name: &Name| sent[name].items.last_key_value().map_or(0, |(sequence, _)| *sequence);
    let acknowledged: BTreeMap<Name, u64> =
        cursors.iter().map(|(name, cursor)| (name.clone(), cursor.acknowledged.max(highest(name)))).collect();
    let cursors: Vec<(&Name, &Cursor)> = cursors.iter().collect();
    for batch in cursors.chunks(BATCH) {
        let moved: Vec<Moved> = batch
            .iter()
            .map(|(name, cursor)| Moved {
                name,
                id: cursor.id,
                acknowledged: acknowledged[*name],
                position: sent[*name].position,
            })
            .collect();
        write_cursors(change, &moved, now).await?;
        forget_old(change, &moved).await?;
    }
    Ok(acknowledged)
}

async fn write_cursors(change: &mut Change<'_>, batch: &[Moved<'_>], now: Timestamp) -> Result<(), StoreError> {
    let query = format!(
        "WITH cursors (name, id, acknowledged, position) AS (VALUES {})
         UPDATE servers SET acknowledged = cursors.acknowledged,
             position = COALESCE(cursors.position, servers.position), last_seen = ${}
         FROM cursors WHERE servers.name = cursors.name AND servers.id = cursors.id",
        row::values(batch.len(), 4),
        4 * batch.len() + 1
    );
    let mut query = sqlx::query(AssertSqlSafe(query));
    for moved in batch {
        query = query
            .bind(moved.name.as_str())
            .bind(moved.id.to_string())
            .bind(stored("the sequence of an outbox item", moved.acknowledged)?)
            .bind(moved.position.map(json_text));
    }
    query.bind(now.as_millisecond()).execute(change.connection()).await.during(DOING)?;
    Ok(())
}

/// Drops what is older than the newest [`KEPT`].
async fn forget_old(change: &mut Change<'_>, batch: &[Moved<'_>]) -> Result<(), StoreError> {
    let full: Vec<&Moved<'_>> = batch.iter().filter(|moved| moved.acknowledged > KEPT).collect();
    if full.is_empty() {
        return Ok(());
    }
    let query = format!(
        "WITH cursors (id, last) AS (VALUES {})
         DELETE FROM items WHERE (server_id, sequence) IN (
             SELECT items.server_id, items.sequence FROM cursors CROSS JOIN items
             WHERE items.server_id = cursors.id AND items.sequence <= cursors.last)",
        row::values(full.len(), 2)
    );
    let mut query = sqlx::query(AssertSqlSafe(query));
    for moved in full {
        let last = stored("the sequence of an outbox item", moved.acknowledged - KEPT)?;
        query = query.bind(moved.id.to_string()).bind(last);
    }
    query.execute(change.connection()).await.during(DOING)?;
    Ok(())
}
