//! The connection to systemd, and what is asked over it.
//!
//! It breaks when dbus is restarted, and systemd leaves the bus for a moment when it executes itself anew
//! (an upgrade of its package). Both are over within seconds, so a question is asked again that long.
//!
//! Rejected: systemd's own socket (`/run/systemd/private`), which needs no bus. There systemd signs its
//! messages with a name that `zbus` takes for malformed.

use std::future::Future;
use std::time::Duration;

use systemd_zbus::ManagerProxy;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zbus::fdo::DBusProxy;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, Error, MatchRule, MessageStream};

use super::SystemdError;

pub(super) const SERVICE: &str = "org.freedesktop.systemd1";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Longest answer of systemd: it answers nothing while it reads its unit files again, which takes
/// seconds on a big or busy host.
const ANSWER: Duration = Duration::from_secs(120);

/// How long a bus or a systemd that is away is waited for, and the pauses between two tries.
const AWAY: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

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

    /// Asks; again over a new connection while the old one turns out to be dead. So `ask` may happen more
    /// than once: everything asked here leads to the same state when repeated.
    pub async fn ask<T, F>(&self, act: impl Fn() -> String, ask: impl Fn(Connection) -> F) -> Result<T, SystemdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let until = Instant::now() + AWAY;
        let mut pause = FIRST_PAUSE;
        let mut connection = self.connection().await?;
        loop {
            let error = match ask(connection.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !is_away(&error) || Instant::now() >= until {
                return Err(SystemdError::of_call(act(), error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !matches!(error, Error::MethodError(..)) {
                self.forget(&connection).await;
                connection = self.connection().await?;
            }
        }
    }
}

/// A new connection.
pub(super) async fn connect() -> Result<Connection, Error> {
    zbus::connection::Builder::system()?.method_timeout(ANSWER).build().await
}

/// The signals of this interface and name from systemd; `below` a path, those with this first argument. They fall silent when systemd comes
/// back under another address of the bus.
pub(super) async fn signals(
    connection: &Connection,
    interface: &'static str,
    member: &'static str,
    below: Option<(&'static str, &'static str)>,
) -> Result<MessageStream, Error> {
    match ManagerProxy::new(connection).await?.subscribe().await {
        Ok(()) => {}
        Err(Error::MethodError(name, ..)) if name.as_str().ends_with(".AlreadySubscribed") => {}
        Err(error) => return Err(error),
    }
    // The bus delivers what anybody sends to us directly, whatever we asked it for: only systemd's own
    // address tells its signals from a forgery.
    let systemd = DBusProxy::new(connection).await?.get_name_owner(SERVICE.try_into()?).await?;
    let mut rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(systemd.into_inner())?
        .interface(interface)?
        .member(member)?;
    if let Some((path, first_argument)) = below {
        rule = rule.path_namespace(path)?.arg(0, first_argument)?;
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

/// The bus or systemd is away, not the question wrong.
pub(super) fn is_away(error: &Error) -> bool {
    let name = match error {
        Error::InputOutput(io) => return io.kind() != std::io::ErrorKind::TimedOut,
        Error::MethodError(name, ..) => name.as_str(),
        Error::FDO(error) => return is_away_fdo(error),
        _ => return false,
    };
    // `Spawn`: nobody has systemd's name, and the bus cannot start a systemd.
    name.strip_prefix("org.freedesktop.DBus.Error.").is_some_and(|kind| {
        kind.starts_with("Spawn.") || ["Disconnected", "NoReply", "ServiceUnknown", "NameHasNoOwner"].contains(&kind)
    })
}

fn is_away_fdo(error: &zbus::fdo::Error) -> bool {
    use zbus::fdo::Error as Fdo;
    match error {
        Fdo::ZBus(error) => is_away(error),
        Fdo::NameHasNoOwner(_) | Fdo::ServiceUnknown(_) | Fdo::NoReply(_) | Fdo::Disconnected(_) => true,
        _ => false,
    }
}

/// The object does not exist (any more): a unit nobody needs is dropped by systemd at any time, a job
/// when it has ended.
pub(super) fn is_gone(error: &Error) -> bool {
    let Error::MethodError(name, ..) = error else { return false };
    ["org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.systemd1.NoSuchUnit"].contains(&name.as_str())
}
