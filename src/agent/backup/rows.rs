//! How many rows each table has, and how long each dump is: counted in the dumps while they are saved, so at the very
//! point they are of, and told in the snapshot itself. What is brought back has as many, and room for it is looked for
//! before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::BackupError;
use super::content::{ROWS, SIZES};
use crate::host::DumpStream;
use crate::host::sql::scan::{self, Passed, Rows};
use crate::host::vault::{Entry, Source};
use crate::model::document::Engine;

/// By `ENGINE-NAME`, as the dumps are called.
pub type AllRows = BTreeMap<String, Rows>;

/// Bytes of the dumps, by the same names.
pub type AllSizes = BTreeMap<String, u64>;

pub fn key(engine: Engine, database: &str) -> String {
    format!("{}-{database}", engine.as_str())
}

/// What is counted while a snapshot is made.
#[derive(Default)]
pub struct Counting(Vec<(String, BoxFuture<'static, Option<Passed>>)>);

impl Counting {
    /// The dump, whose rows will be known.
    pub fn count(&mut self, engine: Engine, database: &str, dump: DumpStream) -> Result<DumpStream, BackupError> {
        let (dump, rows) = scan::counted(engine, dump).map_err(cannot)?;
        self.0.push((key(engine, database), Box::pin(rows)));
        Ok(dump)
    }

    /// What tells them, once all dumps were read to their end; nothing without databases.
    pub fn entries(self) -> Result<Vec<Entry>, BackupError> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let (rows, tell_rows) = told_later(ROWS)?;
        let (sizes, tell_sizes) = told_later(SIZES)?;
        tokio::spawn(async move {
            let (mut all_rows, mut all_sizes) = (AllRows::new(), AllSizes::new());
            for (key, passed) in self.0 {
                // A dump that failed keeps the whole snapshot from being.
                let Passed { rows, bytes } = passed.await.unwrap_or_default();
                all_rows.insert(key.clone(), rows);
                all_sizes.insert(key, bytes);
            }
            tell_rows.write(&all_rows).await;
            tell_sizes.write(&all_sizes).await;
        });
        Ok(vec![rows, sizes])
    }
}

/// A small file of a snapshot whose content is not known yet.
struct Later {
    to: File,
    tell: tokio::sync::oneshot::Sender<Result<(), String>>,
}

fn told_later(path: &str) -> Result<(Entry, Later), BackupError> {
    let (from, to) = std::io::pipe().map_err(cannot)?;
    let (tell, whole) = tokio::sync::oneshot::channel();
    let entry = Entry { path: path.into(), from: Source::Stream { from: from.into(), whole } };
    Ok((entry, Later { to: std::os::fd::OwnedFd::from(to).into(), tell }))
}

impl Later {
    async fn write(self, content: &impl Serialize) {
        let Self { mut to, tell } = self;
        let text = serde_json::to_vec(content).expect("numbers are plain data");
        // Longer than what a pipe holds, perhaps.
        let written = tokio::task::spawn_blocking(move || to.write_all(&text)).await;
        let ended = match written {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        // Whoever read it may have gone; then there is no snapshot.
        let _ = tell.send(ended);
    }
}

fn cannot(source: std::io::Error) -> BackupError {
    BackupError::Stage { path: PathBuf::from(ROWS), source }
}

/// Tables that have another number of rows than they had; at most `most` of them, as words.
pub fn differences(saved: &Rows, found: &Rows, most: usize) -> Vec<String> {
    let of = |rows: &Rows, table: &str| rows.get(table).copied().unwrap_or_default();
    let tables: std::collections::BTreeSet<&String> = saved.keys().chain(found.keys()).collect();
    let differ = tables.into_iter().filter(|table| of(saved, table) != of(found, table));
    differ
        .map(|table| format!("`{table}` has {} rows instead of {}", of(found, table), of(saved, table)))
        .take(most)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_rows_is_as_good_as_none() {
        let rows = |all: &[(&str, u64)]| all.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect::<Rows>();
        assert!(differences(&rows(&[("a", 1)]), &rows(&[("a", 1), ("b", 0)]), 9).is_empty());
        let wrong = differences(&rows(&[("a", 1), ("c", 2)]), &rows(&[("b", 1), ("a", 1)]), 9);
        assert_eq!(wrong, ["`b` has 1 rows instead of 0", "`c` has 0 rows instead of 2"]);
        assert_eq!(differences(&rows(&[("a", 1), ("c", 2)]), &rows(&[]), 1).len(), 1);
    }
}
