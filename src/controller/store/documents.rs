//! Signed documents, one row per server and mark. [`Store::put_documents`] is where marks are made.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::revisions::{self, NewRevision};
use super::row::{self, Columns, stored};
use super::servers::ServerState;
use super::transaction::Change;
use super::{By, During, Store, StoreError};
use crate::model::fleet::{Mark, Position};
use crate::model::{Digest, Generation, Name};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub server: Name,
    pub mark: Mark,
    pub text: String,
    /// Of the text.
    pub digest: Digest,
    /// What is sent: the signed bytes.
    pub envelope: Vec<u8>,
    /// The fleet's revision it was composed from; `None` if it was put for this server alone.
    pub revision: Option<u64>,
    pub created: Timestamp,
    pub created_by: String,
}

/// The newest document of a server, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    pub server: Name,
    pub mark: Mark,
    pub digest: Digest,
    pub revision: Option<u64>,
    pub created: Timestamp,
}

/// A push: texts by server, and the revision of the fleet they were composed from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewDocuments {
    pub texts: BTreeMap<Name, String>,
    pub revision: Option<NewRevision>,
}

/// What [`Store::put_documents`] asks to have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsigned<'a> {
    pub server: &'a Name,
    pub id: Uuid,
    /// The id of the server's identity key; signed too, so that a document is of no use to another.
    pub identity: Digest,
    pub mark: Mark,
    pub text: &'a str,
    pub digest: Digest,
    /// Digest of the server's document before this one.
    pub previous: Option<Digest>,
    pub now: Timestamp,
}

/// What was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub marks: BTreeMap<Name, Mark>,
    pub revision: Option<u64>,
}

/// Nothing was put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("not enrolled: {}", names(.0))]
    NotEnrolled(Vec<Name>),
    #[error("no mark is left above {mark} of server `{server}`; the epoch has to be raised")]
    MarksExhausted { server: Name, mark: Mark },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn names(names: &[Name]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Documents kept of each server. Revisions keep the sources of all.
pub const KEPT: i64 = 20;

/// Servers a statement is about; a document has ten place holders.
const BATCH: usize = 100;

/// Marks an audit entry names; the others are in the documents of the revision.
const NAMED_IN_AUDIT: usize = 20;

const DOING: &str = "put documents";

const COLUMNS: &str = "server, epoch, generation, text, digest, envelope, revision, created, created_by";

fn mark(row: &AnyRow) -> Result<Mark, sqlx::Error> {
    Ok(Mark { epoch: row.number("epoch")?, generation: Generation(row.number("generation")?) })
}

fn read(row: &AnyRow) -> Result<Document, sqlx::Error> {
    Ok(Document {
        server: row.parsed("server")?,
        mark: mark(row)?,
        text: row.text("text")?,
        digest: row.parsed("digest")?,
        envelope: row.try_get("envelope")?,
        revision: row.number_or_null("revision")?,
        created: row.time("created")?,
        created_by: row.text("created_by")?,
    })
}

/// The mark after everything known of a server: what this database gave, what the server reported (it may know
/// more, after the database came back from a backup), in the fleet's epoch or a higher one it was in. `None` if
/// there is none left that both sides can count.
pub(super) fn next_mark(own: Option<Mark>, reported: Option<Mark>, epoch: u32) -> Option<Mark> {
    let base = own.max(reported).unwrap_or(Mark { epoch, generation: Generation(0) });
    let next = if epoch > base.epoch { Mark { epoch, generation: Generation(1) } } else { base.next() };
    (next > base && i64::try_from(next.generation.0).is_ok()).then_some(next)
}

/// One server of a push, as it was found.
struct Found {
    name: Name,
    id: Uuid,
    identity: Digest,
    own: Option<(Mark, Digest)>,
    ordinal: i64,
    reported: Option<Mark>,
}

impl Store {
    /// Puts a whole push, or nothing of it: each text gets the mark after everything known of its server, is signed
    /// by `sign` (a pure function of what it is given; it runs inside the transaction) and written, and the
    /// revision with them. Watchers hear of every server.
    pub async fn put_documents(
        &self,
        new: &NewDocuments,
        by: &By,
        mut sign: impl FnMut(&Unsigned<'_>) -> Vec<u8> + Send,
    ) -> Result<Put, PutError> {
        let mut change = self.change(DOING).await?;
        // From here on no other push, of any controller, until this one ends.
        let epoch: Option<i64> = sqlx::query_scalar("UPDATE fleet SET pushes = pushes + 1 RETURNING epoch")
            .fetch_optional(change.connection())
            .await
            .during(DOING)?;
        let epoch = u32::try_from(epoch.ok_or(StoreError::NoFleet)?).unwrap_or(u32::MAX);
        let revision = match &new.revision {
            Some(revision) => Some(revisions::insert(&mut change, revision, by).await?),
            None => None,
        };
        let texts: Vec<(&Name, &String)> = new.texts.iter().collect();
        let (mut marks, mut absent) = (BTreeMap::new(), Vec::new());
        for batch in texts.chunks(BATCH) {
            let found = find(&mut change, batch).await?;
            absent.extend(batch.iter().map(|(name, _)| *name).filter(|name| !found.contains_key(name)).cloned());
            let mut rows = Vec::with_capacity(found.len());
            for found in found.values() {
                let text = &new.texts[&found.name];
                let (mark, digest) = (mark_of(found, epoch)?, Digest::of(text));
                let envelope = sign(&Unsigned {
                    server: &found.name,
                    id: found.id,
                    identity: found.identity,
                    mark,
                    text,
                    digest,
                    previous: found.own.map(|(_, digest)| digest),
                    now: by.now,
                });
                marks.insert(found.name.clone(), mark);
                rows.push((found, mark, text, digest, envelope));
            }
            if absent.is_empty() && !rows.is_empty() {
                insert(&mut change, rows, revision, by).await?;
                forget_old(&mut change, batch).await?;
            }
        }
        if !absent.is_empty() {
            return Err(PutError::NotEnrolled(absent));
        }
        change.notify(new.texts.keys()).await?;
        let named: BTreeMap<&str, String> =
            marks.iter().take(NAMED_IN_AUDIT).map(|(name, mark)| (name.as_str(), mark.to_string())).collect();
        let detail = json!({ "revision": revision, "documents": marks.len(), "marks": named });
        change.audit(by, "documents.put", detail).await?;
        change.commit().await?;
        Ok(Put { marks, revision })
    }

    /// The newest document of a server.
    pub async fn newest(&self, server: &Name) -> Result<Option<Document>, StoreError> {
        let doing = "read a server's newest document";
        let query = format!("SELECT {COLUMNS} FROM documents WHERE server = $1 ORDER BY ordinal DESC LIMIT 1");
        let row = sqlx::query(AssertSqlSafe(query)).bind(server.as_str()).fetch_optional(self.reader()).await;
        row.during(doing)?.as_ref().map(read).transpose().during(doing)
    }

    /// `None`: never put, or older than the [`KEPT`] newest.
    pub async fn document(&self, server: &Name, mark: Mark) -> Result<Option<Document>, StoreError> {
        let doing = "read a document";
        let query = format!("SELECT {COLUMNS} FROM documents WHERE server = $1 AND epoch = $2 AND generation = $3");
        let row = sqlx::query(AssertSqlSafe(query))
            .bind(server.as_str())
            .bind(i64::from(mark.epoch))
            .bind(stored("the generation of a document", mark.generation.0)?)
            .fetch_optional(self.reader())
            .await;
        row.during(doing)?.as_ref().map(read).transpose().during(doing)
    }

    /// The newest mark of every server that has a document: what a status compares positions with.
    pub async fn newest_marks(&self) -> Result<Vec<Newest>, StoreError> {
        let doing = "list the newest documents";
        let rows = sqlx::query(
            "SELECT server, epoch, generation, digest, revision, created FROM documents
             WHERE ordinal = (SELECT MAX(o.ordinal) FROM documents o WHERE o.server = documents.server)
             ORDER BY server",
        )
        .fetch_all(self.reader())
        .await
        .during(doing)?;
        let read = |row: &AnyRow| {
            Ok(Newest {
                server: row.parsed("server")?,
                mark: mark(row)?,
                digest: row.parsed("digest")?,
                revision: row.number_or_null("revision")?,
                created: row.time("created")?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().during(doing)
    }
}

fn mark_of(found: &Found, epoch: u32) -> Result<Mark, PutError> {
    let own = found.own.map(|(mark, _)| mark);
    next_mark(own, found.reported, epoch).ok_or_else(|| PutError::MarksExhausted {
        server: found.name.clone(),
        mark: own.max(found.reported).unwrap_or_default(),
    })
}

/// The enrolled ones among the servers of a batch.
async fn find(change: &mut Change<'_>, batch: &[(&Name, &String)]) -> Result<BTreeMap<Name, Found>, StoreError> {
    let query = format!(
        "SELECT s.name, s.id, s.identity_key, s.position, d.epoch, d.generation, d.digest, COALESCE(d.ordinal, 0) AS ordinal
         FROM servers s LEFT JOIN documents d ON d.server = s.name
             AND d.ordinal = (SELECT MAX(o.ordinal) FROM documents o WHERE o.server = s.name)
         WHERE s.state = $1 AND s.name IN ({})",
        row::list(2, batch.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(query)).bind(ServerState::Enrolled.as_str());
    for (name, _) in batch {
        query = query.bind(name.as_str());
    }
    let rows = query.fetch_all(change.connection()).await.during(DOING)?;
    let read = |row: &AnyRow| -> Result<(Name, Found), sqlx::Error> {
        let own = match row.parsed_or_null("digest")? {
            Some(digest) => Some((mark(row)?, digest)),
            None => None,
        };
        let position: Option<Position> = row.json_or_null("position")?;
        let name: Name = row.parsed("name")?;
        let reported = position.map(|position| position.mark);
        Ok((
            name.clone(),
            Found {
                name,
                id: row.parsed("id")?,
                identity: row.key("identity_key")?.id(),
                own,
                ordinal: row.number("ordinal")?,
                reported,
            },
        ))
    };
    rows.iter().map(read).collect::<Result<_, _>>().during(DOING)
}

async fn insert(
    change: &mut Change<'_>,
    rows: Vec<(&Found, Mark, &String, Digest, Vec<u8>)>,
    revision: Option<u64>,
    by: &By,
) -> Result<(), StoreError> {
    let revision = revision.map(|number| stored("the number of a revision", number)).transpose()?;
    let query = format!(
        "INSERT INTO documents (server, epoch, generation, ordinal, text, digest, envelope, revision, created, created_by)
         VALUES {}",
        row::values(rows.len(), 10)
    );
    let mut query = sqlx::query(AssertSqlSafe(query));
    for (found, mark, text, digest, envelope) in rows {
        query = query
            .bind(found.name.as_str())
            .bind(i64::from(mark.epoch))
            .bind(stored("the generation of a document", mark.generation.0)?)
            .bind(found.ordinal + 1)
            .bind(text.as_str())
            .bind(digest.to_string())
            .bind(envelope)
            .bind(revision)
            .bind(by.now.as_millisecond())
            .bind(by.who.as_str());
    }
    query.execute(change.connection()).await.during(DOING)?;
    Ok(())
}

async fn forget_old(change: &mut Change<'_>, batch: &[(&Name, &String)]) -> Result<(), StoreError> {
    let query = format!(
        "DELETE FROM documents WHERE server IN ({})
             AND ordinal <= (SELECT MAX(o.ordinal) FROM documents o WHERE o.server = documents.server) - $1",
        row::list(2, batch.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(query)).bind(KEPT);
    for (name, _) in batch {
        query = query.bind(name.as_str());
    }
    query.execute(change.connection()).await.during(DOING)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u32, generation: u64) -> Mark {
        Mark { epoch, generation: Generation(generation) }
    }

    #[test]
    fn the_next_mark_is_above_all_that_is_known() {
        for (own, reported, epoch, next) in [
            (None, None, 0, Some(mark(0, 1))),
            (None, None, 3, Some(mark(3, 1))),
            (Some(mark(0, 4)), None, 0, Some(mark(0, 5))),
            (Some(mark(0, 4)), Some(mark(0, 9)), 0, Some(mark(0, 10))),
            (Some(mark(0, 9)), Some(mark(0, 4)), 0, Some(mark(0, 10))),
            // The epoch was raised: count anew.
            (Some(mark(0, 9)), Some(mark(0, u64::MAX)), 1, Some(mark(1, 1))),
            // The server was in a higher epoch than a database from an older backup.
            (Some(mark(0, 9)), Some(mark(2, 4)), 1, Some(mark(2, 5))),
            (None, Some(mark(0, u64::MAX)), 0, None),
            (None, Some(mark(0, i64::MAX as u64)), 0, None),
            (Some(mark(0, i64::MAX as u64 - 1)), None, 0, Some(mark(0, i64::MAX as u64))),
        ] {
            assert_eq!(next_mark(own, reported, epoch), next, "{own:?} {reported:?} {epoch}");
        }
    }
}
