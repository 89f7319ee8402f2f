//! Copies of a SQLite database: taken while it is in use, put back while it is not. And a look at what is inside.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::{Connection, Row};

use super::url::Place;
use super::{By, Dialect, During, Store, StoreError, StoreUrl, connect};
use crate::durable::{self, DurableError};
use crate::model::Digest;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL brings better means than a copy of its files.
    #[error("a PostgreSQL database is copied and put back by PostgreSQL's own programs")]
    UsePostgres { command: String },
    #[error("cannot make the file `{path}`")]
    Make { path: PathBuf, source: std::io::Error },
    #[error("cannot put the copy in place")]
    Place(#[source] DurableError),
    #[error("`{path}` is no sound copy of a controller's database: {}", .problems.join("; "))]
    Unsound { path: PathBuf, problems: Vec<String> },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// What to do next, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            BackupError::UsePostgres { command } => Some(command.clone()),
            BackupError::Store(error) => error.hint(),
            BackupError::Make { .. } | BackupError::Place(_) | BackupError::Unsound { .. } => None,
        }
    }
}

impl Store {
    /// Writes a copy of the database, as it is at one moment, to `path` (mode 0600, replaced in one step). Neither
    /// readers nor the writer wait for it.
    pub async fn backup(&self, path: &Path, by: &By) -> Result<(), BackupError> {
        let Place::Sqlite(database) = &self.inner.url.0 else {
            let command = format!("pg_dump --format=custom --file={} '{}'", path.display(), self.inner.url);
            return Err(BackupError::UsePostgres { command });
        };
        // The entry is in the copy too: it says when it was taken.
        let mut change = self.change("write a backup").await?;
        change.audit(by, "backup", json!({ "path": path.display().to_string() })).await?;
        change.commit().await?;
        let temporary = make_private(path)?;
        let copied = copy(database, "rw", &temporary).await;
        finish(copied, &temporary, path)
    }

    /// What is wrong inside; empty is good. Looks at everything, so it takes a while on a large database.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let doing = "check the database";
        let mut problems = Vec::new();
        if self.dialect() == Dialect::Sqlite {
            let lines = sqlx::query("PRAGMA integrity_check").fetch_all(self.reader()).await.during(doing)?;
            for line in lines {
                let line: String = line.try_get(0).during(doing)?;
                if line != "ok" {
                    problems.push(line);
                }
            }
            let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(self.reader()).await.during(doing)?;
            if !broken.is_empty() {
                problems.push(format!("{} rows refer to nothing", broken.len()));
            }
        }
        for (table, number) in [("audit", "number"), ("revisions", "number")] {
            let query = format!("SELECT COUNT(*), COALESCE(MAX({number}), 0) FROM {table}");
            let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(self.reader()).await.during(doing)?;
            let (rows, last): (i64, i64) = (row.try_get(0).during(doing)?, row.try_get(1).during(doing)?);
            if rows != last {
                problems.push(format!("`{table}` has {rows} rows, its last number is {last}"));
            }
        }
        for server in self.newest_marks().await? {
            let document = self.newest(&server.server).await?;
            if document.is_none_or(|document| Digest::of(&document.text) != document.digest) {
                problems.push(format!("the newest document of `{}` is not what its digest says", server.server));
            }
        }
        Ok(problems)
    }

    /// Puts a backup in the place of the database at `url`, after checking it. Refused while a program has the
    /// database open. What was there is gone, except that nothing changes if this fails.
    pub async fn restore(url: &StoreUrl, backup: &Path) -> Result<(), BackupError> {
        let Place::Sqlite(path) = &url.0 else {
            let command = format!("pg_restore --clean --if-exists --dbname='{url}' {}", backup.display());
            return Err(BackupError::UsePostgres { command });
        };
        let _alone = connect::lock_alone(path)?;
        let temporary = make_private(path)?;
        if let Err(error) = copy(backup, "ro", &temporary).await {
            return finish(Err(error), &temporary, path);
        }
        let sound = check(&temporary).await.and_then(|problems| match problems.is_empty() {
            true => Ok(()),
            false => Err(BackupError::Unsound { path: backup.to_owned(), problems }),
        });
        if let Err(error) = sound {
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        // The log of the old file must not be taken for one of the new. If power fails before the rename, the old
        // file lacks what was only in its log: the operator is replacing it anyway, and repeats this command.
        for suffix in ["-wal", "-shm"] {
            let mut side = path.as_os_str().to_owned();
            side.push(suffix);
            durable::remove(Path::new(&side)).map_err(BackupError::Place)?;
        }
        finish(Ok(()), &temporary, path)
    }
}

/// Opens the copy as the controller would, which also brings its tables to this version. An empty file would become
/// a controller's database that way, so one without a fleet is not sound.
async fn check(copy: &Path) -> Result<Vec<String>, BackupError> {
    let store = Store::open(&StoreUrl::sqlite(copy)).await?;
    let looked = look_into(&store).await;
    store.close().await;
    durable::remove(&connect::lock_path(copy)).map_err(BackupError::Place)?;
    Ok(looked?)
}

async fn look_into(store: &Store) -> Result<Vec<String>, StoreError> {
    let mut problems = store.integrity().await?;
    if store.fleet().await?.is_none() {
        problems.push("there is no fleet in it".to_owned());
    }
    Ok(problems)
}

/// An empty file of mode 0600 beside `path`: SQLite fills an empty file, and would make a new one readable by all.
fn make_private(path: &Path) -> Result<PathBuf, BackupError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".socle-copy");
    let temporary = path.with_file_name(name);
    durable::remove(&temporary).map_err(BackupError::Place)?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    made.map_err(|source| BackupError::Make { path: temporary.clone(), source })?;
    Ok(temporary)
}

async fn copy(from: &Path, mode: &str, to: &Path) -> Result<(), StoreError> {
    let doing = "copy the database";
    let mut connection = connect::alone(from, mode).await?;
    let copied = sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy().into_owned()).execute(&mut connection).await;
    connection.close().await.during(doing)?;
    copied.map(drop).during(doing)
}

fn finish(copied: Result<(), StoreError>, temporary: &Path, path: &Path) -> Result<(), BackupError> {
    let placed = copied
        .map_err(BackupError::Store)
        .and_then(|()| durable::put_in_place(temporary, path).map_err(BackupError::Place));
    if placed.is_err() {
        // Best effort: the name is fixed, so the next copy replaces what is left.
        let _ = std::fs::remove_file(temporary);
    }
    placed
}
