//! MariaDB and PostgreSQL through their own command line clients.
//!
//! Owns: databases and roles. No password exists anywhere: the superuser and every owner log in
//! through the server's Unix socket, where the server asks the kernel which system user is there. SQL
//! goes in by standard input, names are checked first ([`name::SqlName`]) and cannot end a quotation.
//! Start reading at [`Sql`].
//!
//! Rejected: a client library. The question of a pass in which nothing changes is one client process
//! an engine (measured in a Debian 12 machine: 10 ms MariaDB, 18 ms PostgreSQL), and a library would bring some twenty crates
//! and, for PostgreSQL, still need a process to become its superuser.

mod dump;
mod error;
mod mariadb;
mod name;
mod postgresql;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

pub use error::SqlError;

use super::{DatabaseState, Databases, PortResult};
use crate::model::Digest;
use crate::model::document::Engine;
use mariadb::Mariadb;
use name::SqlName;
use postgresql::Postgresql;

/// What a server says of some databases, and all its roles.
type States = (BTreeMap<String, DatabaseState>, BTreeSet<String>);

/// Both engines of this machine.
pub struct Sql {
    mariadb: Mariadb,
    postgresql: Postgresql,
}

impl Sql {
    /// `root`: where the server's files are looked for, `/` but in tests.
    pub fn new(root: PathBuf) -> Self {
        Self { mariadb: Mariadb { root: root.clone() }, postgresql: Postgresql { root } }
    }
}

/// All of `names` as checked ones.
fn checked(names: &BTreeSet<String>) -> Result<Vec<SqlName<'_>>, SqlError> {
    names.iter().map(|name| SqlName::new(name)).collect()
}

#[async_trait]
impl Databases for Sql {
    async fn states(&self, engine: Engine, databases: &BTreeSet<String>) -> PortResult<States> {
        let names = checked(databases)?;
        Ok(match engine {
            Engine::Mariadb => self.mariadb.states(&names).await,
            Engine::Postgresql => self.postgresql.states(&names).await,
        }?)
    }

    async fn create_role(&self, engine: Engine, role: &str) -> PortResult<()> {
        let role = SqlName::new(role)?;
        Ok(match engine {
            Engine::Mariadb => self.mariadb.create_role(role).await,
            Engine::Postgresql => self.postgresql.create_role(role).await,
        }?)
    }

    async fn create_database(&self, engine: Engine, name: &str, owner: &str) -> PortResult<()> {
        let (name, owner) = (SqlName::new(name)?, SqlName::new(owner)?);
        Ok(match engine {
            Engine::Mariadb => self.mariadb.create_database(name, owner).await,
            Engine::Postgresql => self.postgresql.create_database(name, owner).await,
        }?)
    }

    async fn grant(&self, engine: Engine, name: &str, owner: &str) -> PortResult<()> {
        let (name, owner) = (SqlName::new(name)?, SqlName::new(owner)?);
        Ok(match engine {
            Engine::Mariadb => self.mariadb.grant(name, owner).await,
            Engine::Postgresql => self.postgresql.grant(name, owner).await,
        }?)
    }

    async fn create_extension(&self, engine: Engine, name: &str, extension: &str) -> PortResult<()> {
        let (name, extension) = (SqlName::new(name)?, SqlName::new(extension)?);
        Ok(match engine {
            Engine::Mariadb => Err(SqlError::Extension(extension.to_string())),
            Engine::Postgresql => self.postgresql.create_extension(name, extension).await,
        }?)
    }

    async fn drop_database(&self, engine: Engine, name: &str) -> PortResult<()> {
        let name = SqlName::new(name)?;
        Ok(match engine {
            Engine::Mariadb => self.mariadb.drop_database(name).await,
            Engine::Postgresql => self.postgresql.drop_database(name).await,
        }?)
    }

    async fn drop_role(&self, engine: Engine, role: &str) -> PortResult<()> {
        let role = SqlName::new(role)?;
        Ok(match engine {
            Engine::Mariadb => self.mariadb.drop_role(role).await,
            Engine::Postgresql => self.postgresql.drop_role(role).await,
        }?)
    }

    async fn dump(&self, engine: Engine, name: &str, to: &Path) -> PortResult<Digest> {
        let name = SqlName::new(name)?;
        Ok(match engine {
            Engine::Mariadb => self.mariadb.dump(name, to).await,
            Engine::Postgresql => self.postgresql.dump(name, to).await,
        }?)
    }

    async fn restore(&self, engine: Engine, name: &str, owner: &str, from: &Path) -> PortResult<()> {
        let (name, owner) = (SqlName::new(name)?, SqlName::new(owner)?);
        Ok(match engine {
            Engine::Mariadb => self.mariadb.restore(name, owner, from).await,
            Engine::Postgresql => self.postgresql.restore(name, owner, from).await,
        }?)
    }
}
