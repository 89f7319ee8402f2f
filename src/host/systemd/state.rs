//! What systemd says of units: cheaply of many, or all about a few.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::future::{try_join, try_join_all};
use zbus::zvariant::OwnedValue;
use zbus::{Connection, Error};

use super::SystemdError;
use super::bus::{Bus, ListedUnit, ListsProxy, UNIT, is_gone, properties, property};
use crate::host::UnitState;

/// Two questions for all units, then one small one for each that is loaded, all on their way at once.
/// `since_us`, `memory`, `main_pid`, `result`, `fragment` and `drop_ins` are not asked for.
pub(super) async fn states(bus: &Bus, names: &BTreeSet<String>) -> Result<BTreeMap<String, UnitState>, SystemdError> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    bus.ask(|| "tell the state of units".to_owned(), |connection| look(connection, names)).await
}

async fn look(connection: Connection, names: &BTreeSet<String>) -> Result<BTreeMap<String, UnitState>, Error> {
    let lists = ListsProxy::new(&connection).await?;
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    // The patterns are for fnmatch(3), where a backslash (`\x2d` in a unit name) escapes.
    let patterns: Vec<String> = names.iter().map(|name| name.replace('\\', "\\\\")).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let (units, files) =
        try_join(lists.list_units_by_names(&asked), lists.list_unit_files_by_patterns(&[], &patterns)).await?;
    let files: HashMap<&str, &str> =
        files.iter().filter_map(|(path, state)| Some((path.rsplit_once('/')?.1, state.as_str()))).collect();

    let each = pair(&asked, units).into_iter().map(|(name, unit)| {
        let (connection, lists) = (&connection, &lists);
        let listed = files.get(name).map(|state| (*state).to_owned());
        async move {
            let Some(unit) = unit else { return Ok((name.to_owned(), not_found())) };
            let need_reload = unit.2 != "not-found" && needs_reload(connection, &unit).await?;
            let enabled = match listed {
                Some(state) => state,
                None if unit.2 == "not-found" => String::new(),
                None => unlisted(lists, name).await?,
            };
            let state =
                UnitState { load: unit.2, active: unit.3, sub: unit.4, enabled, need_reload, ..UnitState::default() };
            Ok::<_, Error>((name.to_owned(), state))
        }
    });
    Ok(try_join_all(each).await?.into_iter().collect())
}

/// systemd answers in the order of the question and leaves out what is no unit name. An alias is
/// answered under the unit's own name.
fn pair<'a>(asked: &[&'a str], units: Vec<ListedUnit>) -> Vec<(&'a str, Option<ListedUnit>)> {
    if asked.len() == units.len() {
        return asked.iter().copied().zip(units.into_iter().map(Some)).collect();
    }
    asked.iter().map(|name| (*name, units.iter().find(|unit| unit.0 == *name).cloned())).collect()
}

fn not_found() -> UnitState {
    UnitState { load: "not-found".to_owned(), active: "inactive".to_owned(), ..UnitState::default() }
}

async fn needs_reload(connection: &Connection, unit: &ListedUnit) -> Result<bool, Error> {
    match property(connection, &unit.6, UNIT, "NeedDaemonReload").await {
        Ok(value) => Ok(bool::try_from(value)?),
        // Dropped meanwhile: whoever needs it next reads its files anew.
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Instances of templates, generated and transient units are in no list of files.
async fn unlisted(lists: &ListsProxy<'_>, name: &str) -> Result<String, Error> {
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
    let manager = systemd_zbus::ManagerProxy::new(&connection).await?;
    let path = manager.load_unit(name).await?;
    let mut unit = properties(&connection, &path, UNIT).await?;
    state.since_us = take(&mut unit, "StateChangeTimestamp").unwrap_or(0);
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
