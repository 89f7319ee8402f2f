//! Opens the database: pools, settings of each connection, tables.
//!
//! # SQLite
//!
//! One connection writes, others only read; in WAL mode neither waits for the other. A write begins with
//! `BEGIN IMMEDIATE`: a deferred transaction that writes late fails at once when another wrote first, without
//! waiting. `synchronous=FULL`: what was committed is on disk.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, Connection, SqlStr};

use super::error::BUSY_AFTER;
use super::url::Place;
use super::{Dialect, StoreError, StoreUrl};

/// Long enough for a status page beside a hub that looks up documents; each costs a thread with SQLite.
const READERS: u32 = 4;

/// Of PostgreSQL's default 100 for all clients, two controllers and an operator's `psql` leave most.
const CONNECTIONS: u32 = 10;

pub(super) struct Pools {
    pub dialect: Dialect,
    pub write: AnyPool,
    pub read: AnyPool,
    /// Held (shared) while a SQLite file is open, so that nobody puts another file in its place.
    pub _lock: Option<File>,
}

pub(super) async fn open(url: &StoreUrl) -> Result<Pools, StoreError> {
    sqlx::any::install_default_drivers();
    let pools = match &url.0 {
        Place::Sqlite(path) => {
            let lock = lock_shared(path)?;
            create_private(path)?;
            let write = pool(url, 1, &WRITER).await?;
            // The tables first: a reader of an empty file would see none.
            migrate(url, &write).await?;
            Pools { dialect: Dialect::Sqlite, read: pool(url, READERS, &READER).await?, write, _lock: Some(lock) }
        }
        Place::Postgres(_) => {
            let write = pool(url, CONNECTIONS, &POSTGRES).await?;
            migrate(url, &write).await?;
            Pools { dialect: Dialect::Postgres, read: write.clone(), write, _lock: None }
        }
    };
    Ok(pools)
}

/// `journal_mode` stays in the file, the others are of the connection.
const WRITER: [&str; 4] = [
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 10000",
];

const READER: [&str; 3] = ["PRAGMA query_only = ON", "PRAGMA foreign_keys = ON", "PRAGMA busy_timeout = 10000"];

/// A lock that is not given within the limit is an error, not a wait without end. A time zone is of no use here,
/// and without one the server's setting cannot matter.
const POSTGRES: [&str; 2] = ["SET lock_timeout = '10s'", "SET synchronous_commit = on"];

async fn pool(url: &StoreUrl, connections: u32, settings: &'static [&'static str]) -> Result<AnyPool, StoreError> {
    let failed = |source| StoreError::Open { at: url.to_string(), source };
    let options = AnyConnectOptions::from_str(&url.for_driver()).map_err(failed)?;
    // A pool tries again until its time is over and then tells only that; one connection tells what is wrong.
    let mut first = AnyConnection::connect_with(&options).await.map_err(failed)?;
    set(&mut first, settings).await.map_err(failed)?;
    first.close().await.map_err(failed)?;
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_AFTER)
        // A connection of SQLite is a thread and a cache; there is nothing to gain from closing it.
        .idle_timeout((connections > READERS).then_some(Duration::from_secs(600)))
        .max_lifetime((connections > READERS).then_some(Duration::from_secs(1800)))
        .after_connect(move |connection, _| Box::pin(set(connection, settings)))
        // SQLite ends a transaction by itself when the disk is full; the driver's count of it stays wrong then,
        // and no other could begin. Such a connection is replaced.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .connect_with(options)
        .await
        .map_err(failed)
}

async fn set(connection: &mut AnyConnection, settings: &[&'static str]) -> Result<(), sqlx::Error> {
    for setting in settings {
        sqlx::query(*setting).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The text of the tables, oldest first. A released text never changes; a change is a new one.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "initial", include_str!("migrations/0001_initial.sql"))];

fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect())
}

async fn migrate(url: &StoreUrl, pool: &AnyPool) -> Result<(), StoreError> {
    let known = MIGRATIONS[MIGRATIONS.len() - 1].0;
    migrator().run(pool).await.map_err(|source| match source {
        MigrateError::VersionMissing(found) => StoreError::Newer { at: url.to_string(), found, known },
        source => StoreError::Migrate { at: url.to_string(), source },
    })
}

/// Beside the file, because the file itself may be replaced.
pub(super) fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    path.with_file_name(name)
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    let at = lock_path(path);
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&at);
    options.map_err(|source| StoreError::File { at, source })
}

fn lock_shared(path: &Path) -> Result<File, StoreError> {
    let file = lock_file(path)?;
    locked(path, file.try_lock_shared())?;
    Ok(file)
}

/// Proof that no program has the SQLite file `path` open through this module.
pub(super) fn lock_alone(path: &Path) -> Result<File, StoreError> {
    let file = lock_file(path)?;
    locked(path, file.try_lock())?;
    Ok(file)
}

fn locked(path: &Path, tried: Result<(), std::fs::TryLockError>) -> Result<(), StoreError> {
    match tried {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(StoreError::File { at: path.to_owned(), source }),
    }
}

/// The file holds keys of the fleet's servers and documents: nobody else's to read, whatever the umask. SQLite
/// gives its side files the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map(drop).map_err(|source| StoreError::File { at: path.to_owned(), source })
}

/// A connection to a file as it is, beside the pools: those that only read refuse to write a copy, too.
pub(super) async fn alone(path: &Path, mode: &str) -> Result<AnyConnection, StoreError> {
    sqlx::any::install_default_drivers();
    let url = StoreUrl::sqlite(path);
    let failed = |source| StoreError::Open { at: url.to_string(), source };
    let options = AnyConnectOptions::from_str(&format!("{}?mode={mode}", url.for_driver())).map_err(failed)?;
    AnyConnection::connect_with(&options).await.map_err(failed)
}
