//! Units of ours that fail or stop, as it happens.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use zbus::fdo::DBusProxy;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, Error, Message};

use super::bus::{self, ListsProxy, MANAGER, SERVICE, UNIT, property};

/// Where the objects of units are.
const UNITS: &str = "/org/freedesktop/systemd1/unit";
/// Our units, but for the agent's own and the tasks it waits for itself.
const OURS: &str = "socle-";
const NOT_WATCHED: &[&str] = &["socle-agent", "socle-task-"];
/// Names kept for a reader that is busy with a pass. More of them tell it nothing new.
const QUEUE: usize = 64;
/// Between two tries to reach systemd: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Names of units as they fail, or stop though they should run on. Has its own connection, which is
/// replaced when it breaks; after that, units that are failed by then are told again. Ends only with its
/// reader.
pub(super) async fn failures() -> BoxStream<'static, String> {
    let (tell, told) = mpsc::channel(QUEUE);
    // Connected before the first answer: what fails from now on is heard.
    let first = bus::connect().await;
    tokio::spawn(watch(first, tell));
    stream::unfold(told, |mut told| async move { told.recv().await.map(|unit| (unit, told)) }).boxed()
}

async fn watch(first: Result<Connection, Error>, tell: mpsc::Sender<String>) {
    let mut next = first;
    let mut pause = FIRST_PAUSE;
    let mut again = false;
    while !tell.is_closed() {
        let ended = match next {
            Ok(connection) => {
                let listened = listen(&connection, &tell, again).await;
                if listened.is_ok() {
                    pause = FIRST_PAUSE;
                }
                listened
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "cannot hear of failing units yet");
        }
        tokio::select! {
            () = tell.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        again = true;
        next = bus::connect().await;
    }
}

/// Listens until the connection ends or systemd executes itself anew.
async fn listen(connection: &Connection, tell: &mpsc::Sender<String>, again: bool) -> Result<(), Error> {
    // First: an address that changes after it was asked for is noticed.
    let mut owners = DBusProxy::new(connection).await?.receive_name_owner_changed_with_args(&[(0, SERVICE)]).await?;
    let mut signals =
        bus::signals(connection, "org.freedesktop.DBus.Properties", "PropertiesChanged", Some((UNITS, UNIT))).await?;
    // A unit that stops and is needed by nobody is dropped without a word about its new state.
    let mut removed = bus::signals(connection, MANAGER, "UnitRemoved", None).await?;
    let mut last = BTreeMap::new();
    for unit in ListsProxy::new(connection).await?.list_units_by_patterns(&[], &["socle-*"]).await? {
        if again && unit.3 == "failed" && is_watched(&unit.0) {
            say(tell, unit.0.clone());
        }
        last.insert(unit.0, unit.3);
    }
    loop {
        let (unit, path, active) = tokio::select! {
            () = tell.closed() => return Ok(()),
            _ = owners.next() => return Ok(()),
            message = signals.next() => {
                let Some(Ok(message)) = message else { return Ok(()) };
                let Some(change) = change(&message) else { continue };
                change
            }
            message = removed.next() => {
                let Some(Ok(message)) = message else { return Ok(()) };
                let Some((unit, path)) = removal(&message) else { continue };
                // What was at rest before is dropped after every look at it: no news.
                if last.get(&unit).is_none_or(|active| is_at_rest(active)) {
                    continue;
                }
                (unit, path, "inactive".to_owned())
            }
        };
        let before = last.insert(unit.clone(), active.clone());
        if before.as_ref() == Some(&active) || !is_at_rest(&active) {
            continue;
        }
        if active == "failed" || should_run_on(connection, &path).await {
            say(tell, unit);
        }
    }
}

fn is_watched(unit: &str) -> bool {
    unit.starts_with(OURS) && !NOT_WATCHED.iter().any(|prefix| unit.starts_with(prefix))
}

fn is_at_rest(active: &str) -> bool {
    matches!(active, "inactive" | "failed")
}

/// A full queue means the reader will look at everything anyway.
fn say(tell: &mpsc::Sender<String>, unit: String) {
    let _ = tell.try_send(unit);
}

/// The unit, its object and its new active state, if the signal tells one of a unit of ours.
fn change(message: &Message) -> Option<(String, OwnedObjectPath, String)> {
    let header = message.header();
    let path = header.path()?;
    let unit = name_of(path.as_str()).filter(|unit| is_watched(unit))?;
    let body = message.body();
    let (interface, mut changed, _): (String, HashMap<String, OwnedValue>, Vec<String>) = body.deserialize().ok()?;
    if interface != UNIT {
        return None;
    }
    let active = String::try_from(changed.remove("ActiveState")?).ok()?;
    Some((unit, OwnedObjectPath::from(path.to_owned()), active))
}

fn removal(message: &Message) -> Option<(String, OwnedObjectPath)> {
    let (unit, path): (String, OwnedObjectPath) = message.body().deserialize().ok()?;
    is_watched(&unit).then_some((unit, path))
}

/// A oneshot service is inactive when its work is done; a unit whose file is gone is not missed. Anything
/// else, and what cannot be asked, is worth a look.
async fn should_run_on(connection: &Connection, path: &OwnedObjectPath) -> bool {
    let ask = async |interface, name| {
        let value = property(connection, path, interface, name).await.ok()?;
        String::try_from(value).ok()
    };
    ask(UNIT, "LoadState").await.as_deref() != Some("not-found")
        && ask("org.freedesktop.systemd1.Service", "Type").await.as_deref() != Some("oneshot")
}

/// The unit's name from its object's path, where everything but letters and digits is `_` and two
/// hexadecimal digits.
fn name_of(path: &str) -> Option<String> {
    let label = path.strip_prefix(UNITS)?.strip_prefix('/')?;
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'_' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects() {
        let name = |label: &str| name_of(&format!("{UNITS}/{label}"));
        assert_eq!(name("socle_2dblog_2eservice").as_deref(), Some("socle-blog.service"));
        assert_eq!(name("a_40_31_2eservice").as_deref(), Some("a@1.service"));
        for broken in ["socle_2", "_", "_zz", "_ff"] {
            assert_eq!(name(broken), None, "{broken}");
        }
        assert_eq!(name_of("/org/freedesktop/systemd1/job/1"), None);
    }
}
