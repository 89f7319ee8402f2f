use std::path::PathBuf;
use std::time::Duration;

use super::Dialect;

/// What can go wrong with the database itself. Refusals have their own enums beside the operations.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("`{0}` names no database: `sqlite:/PATH` or `postgres://USER@HOST/DATABASE`")]
    Url(String),
    #[error("cannot open the database `{at}`")]
    Open { at: String, source: sqlx::Error },
    #[error("cannot prepare the database file `{at}`")]
    File { at: PathBuf, source: std::io::Error },
    #[error("the database `{0}` is in use")]
    InUse(PathBuf),
    #[error("cannot bring the tables of `{at}` to this version")]
    Migrate { at: String, source: sqlx::migrate::MigrateError },
    /// The tables were made by a newer program; this one would not understand them.
    #[error("the database `{at}` has schema {found}, this program knows up to {known}")]
    Newer { at: String, found: i64, known: i64 },
    /// Nothing of the change was kept.
    #[error("no space left for the database, while the controller was to {doing}")]
    Full { doing: &'static str },
    #[error("the database was busy for {}, while the controller was to {doing}", text(.after))]
    Busy { doing: &'static str, after: Duration },
    /// The server of the database is away or closed the connection.
    #[error("the database does not answer, while the controller was to {doing}")]
    Unreachable { doing: &'static str, source: sqlx::Error },
    #[error("the database file is damaged, found while the controller was to {doing}")]
    Damaged { doing: &'static str, source: sqlx::Error },
    #[error("cannot {doing}")]
    Failed { doing: &'static str, source: sqlx::Error },
    #[error("there is no fleet in the database yet")]
    NoFleet,
    #[error("there is no server `{0}`")]
    NoSuchServer(crate::model::Name),
    #[error("server `{0}` is banned")]
    Banned(crate::model::Name),
    #[error("{value} of {what} is more than a database keeps")]
    TooLarge { what: &'static str, value: u64 },
}

/// How long a statement waits for another's lock before it is [`StoreError::Busy`].
pub(super) const BUSY_AFTER: Duration = Duration::from_secs(10);

fn text(duration: &Duration) -> String {
    format!("{} s", duration.as_secs())
}

impl StoreError {
    /// What to do next, if there is something.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            StoreError::Newer { .. } => "install the newer socle-controller package again".to_owned(),
            StoreError::Full { .. } => {
                "make room on the file system of the database; the controller goes on by itself".to_owned()
            }
            StoreError::Damaged { .. } => {
                "stop socle-controller.service and run `socle controller restore FILE` with the last backup".to_owned()
            }
            StoreError::InUse(_) => "systemctl stop socle-controller.service".to_owned(),
            StoreError::Unreachable { .. } | StoreError::Open { .. } => {
                "check the database's server and `database` in /etc/socle/controller.toml".to_owned()
            }
            StoreError::NoFleet => "socle controller init".to_owned(),
            StoreError::NoSuchServer(_) => "socle controller server list".to_owned(),
            StoreError::Url(_)
            | StoreError::File { .. }
            | StoreError::Migrate { .. }
            | StoreError::Busy { .. }
            | StoreError::Failed { .. }
            | StoreError::Banned(_)
            | StoreError::TooLarge { .. } => return None,
        })
    }

    /// Whether the same call may succeed later without anybody changing what it asks for.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::Full { .. } | StoreError::Busy { .. } | StoreError::Unreachable { .. } => true,
            StoreError::Url(_)
            | StoreError::Open { .. }
            | StoreError::File { .. }
            | StoreError::InUse(_)
            | StoreError::Migrate { .. }
            | StoreError::Newer { .. }
            | StoreError::Damaged { .. }
            | StoreError::Failed { .. }
            | StoreError::NoFleet
            | StoreError::NoSuchServer(_)
            | StoreError::Banned(_)
            | StoreError::TooLarge { .. } => false,
        }
    }
}

/// Names the act in an error of the driver, and tells the kinds apart that call for different acts.
pub(super) trait During<T> {
    fn during(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| classify(doing, source))
    }
}

fn classify(doing: &'static str, source: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = &source {
        let code = database.code();
        let dialect = Dialect::of_error(database.as_ref());
        return match (dialect, code.as_deref()) {
            // SQLITE_FULL, SQLITE_IOERR_SHMSIZE (no room for the index of the log); disk_full.
            (Dialect::Sqlite, Some("13" | "4874")) | (Dialect::Postgres, Some("53100")) => StoreError::Full { doing },
            // SQLITE_BUSY; lock_not_available, deadlock_detected.
            (Dialect::Sqlite, Some("5")) | (Dialect::Postgres, Some("55P03" | "40P01")) => {
                StoreError::Busy { doing, after: BUSY_AFTER }
            }
            // SQLITE_CORRUPT, SQLITE_NOTADB; data_corrupted, index_corrupted.
            (Dialect::Sqlite, Some("11" | "26")) | (Dialect::Postgres, Some("XX001" | "XX002")) => {
                StoreError::Damaged { doing, source }
            }
            // Class 08, connection exceptions; 57P0x, the server shuts down or starts.
            (Dialect::Postgres, Some(code)) if code.starts_with("08") || code.starts_with("57P") => {
                StoreError::Unreachable { doing, source }
            }
            _ => StoreError::Failed { doing, source },
        };
    }
    match source {
        sqlx::Error::PoolTimedOut => StoreError::Busy { doing, after: BUSY_AFTER },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            StoreError::Unreachable { doing, source }
        }
        _ => StoreError::Failed { doing, source },
    }
}
