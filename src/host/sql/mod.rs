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
pub mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

pub use error::SqlError;

use super::{DatabaseState, Databases, DumpStream, PortResult};
use crate::model::Digest;
use crate::model::document::Engine;
use mariadb::Mariadb;
use name::SqlName;
use postgresql::Postgresql;

/// What a server says of some databases, and all its roles.
type States = (BTreeMap<String, DatabaseState>, BTreeSet<String>);

/// A question about states; a server that needs longer is as good as down.
const ASK: Duration = Duration::from_secs(30);
/// An ALTER or DROP that waits for others.
const CHANGE: Duration = Duration::from_secs(600);
/// A dump or restore: several hundred GB at disk speed.
const COPY: Duration = Duration::from_secs(12 * 3600);

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

/// What a server without any of them would say.
fn nothing(names: &[SqlName<'_>]) -> States {
    (names.iter().map(|name| (name.to_string(), DatabaseState::default())).collect(), BTreeSet::new())
}

/// Rows of three columns: `role NAME -`, `database NAME -`, `owner DATABASE ROLE`, `extension DATABASE NAME`.
/// What is said of a database that does not exist (a right may outlive it) says nothing.
fn read_states(answer: &str, names: &[SqlName<'_>]) -> States {
    let (mut databases, mut roles) = nothing(names);
    for line in answer.lines() {
        let [kind, name, value] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
        match (kind, databases.get_mut(name)) {
            ("role", _) => drop(roles.insert(name.to_owned())),
            ("database", Some(state)) => state.exists = true,
            ("owner", Some(state)) => drop(state.owners.insert(value.to_owned())),
            ("extension", Some(state)) => drop(state.extensions.insert(value.to_owned())),
            _ => {}
        }
    }
    databases.values_mut().filter(|state| !state.exists).for_each(|state| *state = DatabaseState::default());
    (databases, roles)
}

/// Lines of `table TAB number`.
fn read_rows(answer: &str) -> scan::Rows {
    let row = |line: &str| {
        let (table, rows) = line.rsplit_once('\t')?;
        Some((table.to_owned(), rows.parse().ok()?))
    };
    answer.lines().filter_map(row).collect()
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

    async fn dump_stream(&self, engine: Engine, name: &str) -> PortResult<DumpStream> {
        let name = SqlName::new(name)?;
        Ok(match engine {
            Engine::Mariadb => self.mariadb.dump_stream(name).await,
            Engine::Postgresql => self.postgresql.dump_stream(name).await,
        }?)
    }

    async fn rows(&self, engine: Engine, name: &str) -> PortResult<scan::Rows> {
        let name = SqlName::new(name)?;
        Ok(match engine {
            Engine::Mariadb => self.mariadb.rows(name).await,
            Engine::Postgresql => self.postgresql.rows(name).await,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let names = [SqlName::new("my_blog").unwrap(), SqlName::new("gone").unwrap()];
        let answer = "role\troot\t\nrole\tsocle-blog\t\nowner\tmy_blog\tsocle-blog\ndatabase\tmy_blog\t\n\
                      owner\tgone\tx\nowner\tother\tx\nextension\tmy_blog\tplpgsql\n";
        let (databases, roles) = read_states(answer, &names);
        let blog = &databases["my_blog"];
        assert!(blog.exists && blog.owners.contains("socle-blog") && blog.extensions.contains("plpgsql"));
        assert_eq!(databases["gone"], DatabaseState::default());
        assert_eq!((databases.len(), roles.len()), (2, 2));
    }
}
