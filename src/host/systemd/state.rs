//! What systemd says of units: cheaply of many, or all about a few.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::future::try_join3;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use systemd_zbus::ManagerProxy;
use zbus::proxy::CacheProperties;
use zbus::zvariant::OwnedValue;
use zbus::{Connection, Error};

use super::SystemdError;
use super::bus::{Bus, ListedUnit, ListsProxy, UNIT, is_gone, properties, property};
use super::links::{Links, OnDisk};
use crate::host::UnitState;

/// The bus refuses more than 128 open questions of a connection (`max_replies_per_connection` of
/// dbus-daemon(1)), and others ask over the same.
const AT_ONCE: usize = 32;

/// One question for all units of ours; two or three more for each other one, most on their way at once.
///
/// Three answers of systemd are avoided for ours, because each costs it a millisecond or two: it reads an
/// inactive unit anew when asked by name, and it searches all directories to tell whether a unit is enabled
/// or needs a reload. Ours have their files in known places ([`Links`]), and what was written before systemd
/// last read its files needs no reload. (A clock set back can hide a drop-in here until the next reload; a
/// start or restart asks systemd itself.)
pub(super) async fn states(bus: &Bus, names: &BTreeSet<String>) -> Result<BTreeMap<String, UnitState>, SystemdError> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let links = Links::read(names).map_err(SystemdError::Links)?;
    bus.ask(|| "tell the state of units".to_owned(), |connection| look(connection, names, &links)).await
}

async fn look(
    connection: Connection,
    names: &BTreeSet<String>,
    links: &Links,
) -> Result<BTreeMap<String, UnitState>, Error> {
    let lists = ListsProxy::new(&connection).await?;
    // The patterns are for fnmatch(3), where a backslash (`\x2d` in a unit name) escapes.
    let patterns: Vec<String> = names.iter().map(|name| name.replace('\\', "\\\\")).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
    let (in_memory, booted_us, reloaded_us) = try_join3(
        lists.list_units_by_patterns(&[], &patterns),
        manager.units_load_start_timestamp(),
        // 0 until the first reload.
        manager.units_load_timestamp(),
    )
    .await?;
    let read_us = booted_us.max(reloaded_us);
    let mut in_memory: HashMap<String, ListedUnit> = in_memory.into_iter().map(|unit| (unit.0.clone(), unit)).collect();
    let mut each = Vec::with_capacity(names.len());
    for name in names {
        let (unit, disk) = (in_memory.remove(name), links.get(name));
        let asking = Asking { connection: &connection, lists: &lists, read_us };
        each.push(async move { Ok::<_, Error>((name.clone(), asking.one(name, unit, disk).await?)) });
    }
    stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await
}

struct Asking<'a> {
    connection: &'a Connection,
    lists: &'a ListsProxy<'a>,
    /// When systemd began to read its files last, Unix microseconds.
    read_us: u64,
}

impl Asking<'_> {
    async fn one(&self, name: &str, in_memory: Option<ListedUnit>, disk: Option<OnDisk>) -> Result<UnitState, Error> {
        let unit = match (in_memory, disk) {
            (Some(unit), _) => unit,
            (None, Some(disk)) => return Ok(UnitState { enabled: disk.enabled.to_owned(), ..at_rest() }),
            // Not in memory, or there under its own name and asked for by an alias.
            (None, None) => match self.lists.list_units_by_names(&[name]).await?.pop() {
                Some(unit) => unit,
                // It is no unit name at all.
                None => return Ok(UnitState { load: "not-found".to_owned(), ..at_rest() }),
            },
        };
        let enabled = match disk {
            Some(disk) => disk.enabled.to_owned(),
            None => enabled_word(self.lists, name).await?,
        };
        let older = disk.is_some_and(|disk| disk.written_us < self.read_us);
        let need_reload = !older && unit.2 != "not-found" && needs_reload(self.connection, &unit).await?;
        Ok(UnitState { load: unit.2, active: unit.3, sub: unit.4, enabled, need_reload, ..UnitState::default() })
    }
}

/// A unit that systemd has on disk only: it drops from its memory what is inactive and needed by nobody.
fn at_rest() -> UnitState {
    UnitState { load: "loaded".into(), active: "inactive".into(), sub: "dead".into(), ..UnitState::default() }
}

async fn needs_reload(connection: &Connection, unit: &ListedUnit) -> Result<bool, Error> {
    match property(connection, &unit.6, UNIT, "NeedDaemonReload").await {
        Ok(value) => Ok(bool::try_from(value)?),
        // Dropped meanwhile: whoever needs it next reads its files anew.
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn enabled_word(lists: &ListsProxy<'_>, name: &str) -> Result<String, Error> {
    match lists.get_unit_file_state(name).await {
        Ok(state) => Ok(state),
        Err(Error::MethodError(error, ..)) if error.as_str() == "org.freedesktop.DBus.Error.FileNotFound" => {
            Ok(String::new())
        }
        Err(error) if is_gone(&error) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Everything [`UnitState`] has.
pub(super) async fn details(bus: &Bus, names: &BTreeSet<String>) -> Result<BTreeMap<String, UnitState>, SystemdError> {
    let mut states = states(bus, names).await?;
    for (name, state) in states.iter_mut().filter(|(_, state)| state.load != "not-found") {
        *state = bus
            .ask(|| format!("tell the state of `{name}`"), |connection| look_closely(connection, name, state.clone()))
            .await?;
    }
    Ok(states)
}

async fn look_closely(connection: Connection, name: &str, mut state: UnitState) -> Result<UnitState, Error> {
    let manager = ManagerProxy::new(&connection).await?;
    let path = manager.load_unit(name).await?;
    let mut unit = properties(&connection, &path, UNIT).await?;
    // A reload changes the state for a moment: what runs, runs since its start.
    let running = matches!(state.active.as_str(), "active" | "reloading" | "refreshing");
    let since = if running { "ActiveEnterTimestamp" } else { "StateChangeTimestamp" };
    state.since_us = take(&mut unit, since).unwrap_or(0);
    state.fragment = take(&mut unit, "FragmentPath").unwrap_or_default();
    state.drop_ins = take(&mut unit, "DropInPaths").unwrap_or_default();
    if let Some(interface) = interface_of(name) {
        let mut special = properties(&connection, &path, interface).await?;
        state.result = take(&mut special, "Result").unwrap_or_default();
        state.main_pid = take(&mut special, "MainPID").unwrap_or(0);
        state.exit = exit(&mut special);
        // systemd's word for "not known" is the largest number.
        state.memory = take::<u64>(&mut special, "MemoryCurrent").filter(|bytes| *bytes != u64::MAX);
    }
    Ok(state)
}

/// As a shell would tell it: a process that was killed has 128 and the signal's number.
fn exit(service: &mut HashMap<String, OwnedValue>) -> i32 {
    let status = take::<i32>(service, "ExecMainStatus").unwrap_or(0);
    match take::<i32>(service, "ExecMainCode").unwrap_or(0) {
        libc_code if libc_code == nix::libc::CLD_KILLED || libc_code == nix::libc::CLD_DUMPED => 128 + status,
        _ => status,
    }
}

/// The interface with what only units of this type have.
pub(super) fn interface_of(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "service" => Some("org.freedesktop.systemd1.Service"),
        "socket" => Some("org.freedesktop.systemd1.Socket"),
        "timer" => Some("org.freedesktop.systemd1.Timer"),
        _ => None,
    }
}

/// The property, if it is there and what it should be.
pub(super) fn take<T: TryFrom<OwnedValue>>(properties: &mut HashMap<String, OwnedValue>, name: &str) -> Option<T> {
    T::try_from(properties.remove(name)?).ok()
}
