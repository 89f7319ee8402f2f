//! A database and the role that owns it. Named `<engine>:<name>`. The owner is a system user who
//! logs in through the server's Unix socket: no password exists.

mod apply;
mod diff;
mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::host::Host;
use crate::model::Kind;
use crate::model::document::Engine;
use crate::model::report::ErrorReport;
use crate::resources::{ApplyError, Diff};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// `false`: dropped, with its role (asked for only by a purge).
    pub present: bool,
    /// System user and role.
    pub owner: String,
    /// Created by the superuser; the owner is never one (PostgreSQL).
    pub extensions: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    pub database: bool,
    /// All roles of the engine that may log in.
    pub roles: BTreeSet<String>,
    /// Those that own it (PostgreSQL) or have all privileges on it (MariaDB).
    pub owners: BTreeSet<String>,
    pub extensions: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    CreateRole { role: String },
    CreateDatabase { owner: String },
    Grant { owner: String },
    CreateExtension { extension: String },
    DropDatabase,
    DropRole { role: String },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::CreateRole { role } => write!(f, "create role {role}"),
            Change::CreateDatabase { owner } => write!(f, "create database owned by {owner}"),
            Change::Grant { owner } => write!(f, "make {owner} its owner"),
            Change::CreateExtension { extension } => write!(f, "create extension {extension}"),
            Change::DropDatabase => write!(f, "drop database"),
            Change::DropRole { role } => write!(f, "drop role {role}"),
        }
    }
}

/// `mariadb:blog`: the engine and the name in it.
fn split(name: &str) -> Result<(Engine, &str), ErrorReport> {
    let unknown = || ErrorReport {
        code: "database.name".to_owned(),
        message: format!("`{name}` is not the name of a database: an engine, `:` and a name"),
        causes: Vec::new(),
        hint: None,
    };
    let (engine, database) = name.split_once(':').ok_or_else(unknown)?;
    let engine = [Engine::Mariadb, Engine::Postgresql].into_iter().find(|e| e.as_str() == engine);
    Ok((engine.ok_or_else(unknown)?, database))
}

pub struct Database;

impl crate::resources::Resource for Database {
    const KIND: Kind = Kind::Database;
    type Desired = Desired;
    type Observed = Observed;
    type Change = Change;

    async fn list(host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
        observe::list(host).await
    }

    async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
        observe::observe(host, names).await
    }

    fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
        diff::diff(name, desired, observed)
    }

    async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
        apply::apply(host, name, change).await
    }
}
