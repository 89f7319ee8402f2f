//! The connection to systemd, and what is asked over it.
//!
//! Root talks to systemd's own socket: it needs no message bus, so a restart of dbus is not even
//! noticed, and one hop less halves the cost of a question. systemd drops these connections when it
//! executes itself anew (an upgrade of its package), so a dead connection is replaced once.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use systemd_zbus::ManagerProxy;
use tokio::sync::Mutex;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, Error, MatchRule, MessageStream};

use super::SystemdError;

const PRIVATE: &str = "/run/systemd/private";
const SERVICE: &str = "org.freedesktop.systemd1";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Longest answer of systemd: it answers nothing while it reads its unit files again, which takes
/// seconds on a big or busy host.
const ANSWER: Duration = Duration::from_secs(120);

/// Signals kept for a reader that is busy. Past it the whole connection waits, so it is generous.
const QUEUE: usize = 4096;

/// As `ListUnitsByNames` answers, all states as text: systemd's lists of them grow.
pub(super) type ListedUnit = (
    String,          // name
    String,          // description
    String,          // load state
    String,          // active state
    String,          // sub state
    String,          // unit it follows
    OwnedObjectPath, // its object
    u32,             // job, or 0
    String,          // type of the job
    OwnedObjectPath, // object of the job
);

/// What `systemd_zbus` types too narrowly: its enums know neither `alias` nor `generated` unit files nor
/// the states added since 2023, and one such unit of someone else fails a whole list.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
pub(super) trait Lists {
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    fn list_unit_files_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<(String, String)>>;
    fn get_unit_file_state(&self, name: &str) -> zbus::Result<String>;
}

/// A lazy connection.
#[derive(Default)]
pub(super) struct Bus {
    connection: Mutex<Option<Connection>>,
}

impl Bus {
    pub async fn connection(&self) -> Result<Connection, SystemdError> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let connection = connect().await.map_err(SystemdError::Connect)?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    pub async fn forget(&self, dead: &Connection) {
        let mut held = self.connection.lock().await;
        if held.as_ref().is_some_and(|connection| connection.server_guid() == dead.server_guid()) {
            *held = None;
        }
    }

    /// Asks; once more over a new connection if the old one turns out to be dead. So `ask` may happen
    /// twice: everything asked here leads to the same state when repeated.
    pub async fn ask<T, F>(&self, act: impl Fn() -> String, ask: impl Fn(Connection) -> F) -> Result<T, SystemdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let connection = self.connection().await?;
        let failed = match ask(connection.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !is_dead(&failed) {
            return Err(SystemdError::of_call(act(), failed));
        }
        self.forget(&connection).await;
        let connection = self.connection().await?;
        ask(connection).await.map_err(|error| SystemdError::of_call(act(), error))
    }
}

/// A new connection. Signals of systemd reach it.
pub(super) async fn connect() -> Result<Connection, Error> {
    let builder = if Path::new(PRIVATE).exists() && nix::unistd::geteuid().is_root() {
        zbus::connection::Builder::address(format!("unix:path={PRIVATE}").as_str())?.p2p()
    } else {
        zbus::connection::Builder::system()?
    };
    let connection = builder.method_timeout(ANSWER).build().await?;
    match ManagerProxy::new(&connection).await?.subscribe().await {
        Ok(()) => {}
        Err(Error::MethodError(name, ..)) if name.as_str().ends_with(".AlreadySubscribed") => {}
        Err(error) => return Err(error),
    }
    Ok(connection)
}

/// The signals of this interface and name from systemd.
pub(super) async fn signals(
    connection: &Connection,
    interface: &'static str,
    member: &'static str,
    below: Option<&'static str>,
) -> Result<MessageStream, Error> {
    let mut rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).interface(interface)?.member(member)?;
    if let Some(below) = below {
        rule = rule.path_namespace(below)?;
    }
    if connection.is_bus() {
        // Everybody may send signals on the system bus.
        rule = rule.sender(SERVICE)?;
    }
    MessageStream::for_match_rule(rule.build(), connection, Some(QUEUE)).await
}

pub(super) async fn property(
    connection: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
    name: &str,
) -> Result<OwnedValue, Error> {
    let reply = connection
        .call_method(Some(SERVICE), path, Some("org.freedesktop.DBus.Properties"), "Get", &(interface, name))
        .await?;
    reply.body().deserialize()
}

pub(super) async fn properties(
    connection: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
) -> Result<std::collections::HashMap<String, OwnedValue>, Error> {
    let reply = connection
        .call_method(Some(SERVICE), path, Some("org.freedesktop.DBus.Properties"), "GetAll", &(interface,))
        .await?;
    reply.body().deserialize()
}

/// The connection, not the question, is at fault.
pub(super) fn is_dead(error: &Error) -> bool {
    match error {
        Error::InputOutput(io) => io.kind() != std::io::ErrorKind::TimedOut,
        Error::MethodError(name, ..) => ["Disconnected", "NoReply", "ServiceUnknown", "NameHasNoOwner"]
            .iter()
            .any(|kind| name.as_str().strip_prefix("org.freedesktop.DBus.Error.") == Some(kind)),
        _ => false,
    }
}

/// The object does not exist (any more): a unit nobody needs is dropped by systemd at any time, a job
/// when it has ended.
pub(super) fn is_gone(error: &Error) -> bool {
    let Error::MethodError(name, ..) = error else { return false };
    ["org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.systemd1.NoSuchUnit"].contains(&name.as_str())
}
