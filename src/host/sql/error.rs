use std::io;
use std::path::PathBuf;

use crate::host::PortError;
use crate::host::files::FilesError;
use crate::host::process::ProcessError;
use crate::model::document::Engine;

/// An act on a database server that failed.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error("`{0}` is not a name for a database or role: 1 to 63 of a-z, 0-9, `_` and `-`, beginning with a letter")]
    Name(String),
    #[error("MariaDB has no extensions, so `{0}` cannot be created")]
    Extension(String),
    #[error("{} does not answer: {said}", title(*.engine))]
    Down { engine: Engine, said: String },
    #[error("{} is not installed, but `{}` holds data of an earlier installation", title(*.engine), .data.display())]
    LeftData { engine: Engine, data: PathBuf },
    #[error("{} is not installed", title(*.0))]
    NotInstalled(Engine),
    #[error("{} refuses to {act}: {said}", title(*.engine))]
    Refused { engine: Engine, act: String, said: String },
    #[error("cannot ask {}", title(*.0))]
    Client(Engine, #[source] ProcessError),
    #[error("`{0}` cannot log in")]
    NoUser(String, #[source] FilesError),
    #[error("cannot look at `{0}`")]
    Look(PathBuf, #[source] io::Error),
    #[error("cannot write the dump `{0}`")]
    Write(PathBuf, #[source] io::Error),
    #[error("cannot make a pipe for a dump")]
    Pipe(#[source] io::Error),
    #[error("the dump `{path}` is {why}")]
    BadDump { path: PathBuf, why: String },
}

fn title(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => "MariaDB",
        Engine::Postgresql => "PostgreSQL",
    }
}

/// One code for each engine.
fn of(engine: Engine, mariadb: &'static str, postgresql: &'static str) -> &'static str {
    match engine {
        Engine::Mariadb => mariadb,
        Engine::Postgresql => postgresql,
    }
}

impl From<SqlError> for PortError {
    fn from(error: SqlError) -> Self {
        let says = error.to_string();
        match error {
            SqlError::Name(_) => PortError::new("database.name", says),
            SqlError::Extension(_) => PortError::new("database.extension", says),
            SqlError::Down { engine, .. } => PortError::new(of(engine, "mariadb.down", "postgresql.down"), says)
                .hint(format!("systemctl start {}", engine.as_str()))
                .retryable(),
            SqlError::LeftData { engine, .. } => {
                PortError::new(of(engine, "mariadb.not-installed", "postgresql.not-installed"), says)
                    .hint(format!("install the server that wrote it ({})", package(engine)))
            }
            SqlError::NotInstalled(engine) => {
                PortError::new(of(engine, "mariadb.not-installed", "postgresql.not-installed"), says)
                    .hint(format!("apt install {}", package(engine)))
            }
            SqlError::Refused { engine, .. } => {
                PortError::new(of(engine, "mariadb.refused", "postgresql.refused"), says)
            }
            SqlError::Client(engine, source) => {
                PortError::new(of(engine, "mariadb.client", "postgresql.client"), says).because(source).retryable()
            }
            SqlError::NoUser(_, source) => PortError::new("database.no-user", says).because(source),
            SqlError::Look(_, source) => PortError::new("database.look", says).because(source),
            SqlError::Pipe(source) => PortError::new("dump.pipe", says).because(source).retryable(),
            SqlError::Write(_, source) => PortError::new("dump.write", says).because(source).retryable(),
            SqlError::BadDump { .. } => PortError::new("dump.bad", says),
        }
    }
}

fn package(engine: Engine) -> &'static str {
    of(engine, "mariadb-server", "postgresql")
}
