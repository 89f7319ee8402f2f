//! systemd in memory, over unit files on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::host::systemd::JOB_FAILED;
use crate::host::{PortError, PortResult, UnitState, Units};
use crate::model::unit::{INPUTS_DIR, mark_of};

/// Loads the unit files below a root (`/etc` and `/run`), and knows units set up as if a package had
/// brought them. Like systemd it keeps what it loaded until it reads its files again.
pub struct FakeUnits {
    root: PathBuf,
    state: Mutex<State>,
    started: Mutex<Option<WhenStarted>>,
}

/// What else happens when a unit comes up: a database server begins to answer.
type WhenStarted = Box<dyn Fn(&str) + Send + Sync>;

#[derive(Default)]
struct State {
    units: BTreeMap<String, Unit>,
    fail: BTreeMap<String, i32>,
    calls: Vec<String>,
}

#[derive(Default, Clone)]
struct Unit {
    packaged: bool,
    /// The text it was loaded with.
    loaded: Option<String>,
    active: String,
    /// Links made by enabling and masking; a packaged unit's own word otherwise.
    enabled: String,
    result: String,
    exit: i32,
}

impl FakeUnits {
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), state: Mutex::default(), started: Mutex::default() }
    }

    /// Called with the name of every unit that is started from now on.
    pub fn when_started(&self, act: impl Fn(&str) + Send + Sync + 'static) {
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
    }

    /// A unit of a package, in these states.
    pub fn packaged(self, name: &str, enabled: &str, active: &str) -> Self {
        self.set(name, enabled, active);
        self
    }

    pub fn set(&self, name: &str, enabled: &str, active: &str) {
        let unit = Unit { packaged: true, active: active.into(), enabled: enabled.into(), ..Unit::default() };
        self.lock().units.insert(name.to_owned(), unit);
    }

    /// As a unit ends by itself.
    pub fn set_active(&self, name: &str, active: &str) {
        if let Some(unit) = self.lock().units.get_mut(name) {
            unit.active = active.to_owned();
        }
    }

    /// Every start of this unit fails with this exit code, until [`FakeUnits::heal`].
    pub fn fail(&self, name: &str, code: i32) {
        self.lock().fail.insert(name.to_owned(), code);
    }

    pub fn heal(&self, name: &str) {
        self.lock().fail.remove(name);
    }

    /// As after a new installation: only what packages brought is known.
    pub fn forget(&self) {
        self.lock().units.retain(|_, unit| unit.packaged);
    }

    /// The acts asked for, in order: `start socle-blog-php.service`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, act: &str, name: &str) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.calls.push(format!("{act} {name}").trim_end().to_owned());
        state
    }

    fn file(&self, name: &str) -> Option<String> {
        ["etc/systemd/system", "run/systemd/system"]
            .iter()
            .find_map(|directory| std::fs::read_to_string(self.root.join(directory).join(name)).ok())
    }

    fn enabled(&self, name: &str, unit: Option<&Unit>) -> String {
        match unit.map(|unit| unit.enabled.as_str()) {
            // A link that leads nowhere enables nothing.
            Some("enabled") if !unit.is_some_and(|unit| unit.packaged) && self.file(name).is_none() => String::new(),
            Some(word) if !word.is_empty() => word.to_owned(),
            _ => match self.file(name) {
                Some(text) if text.contains("[Install]") => "disabled".to_owned(),
                Some(_) => "static".to_owned(),
                None => String::new(),
            },
        }
    }

    /// Starts what is on disk now, as the port promises.
    fn run(&self, act: &str, name: &str) -> PortResult<()> {
        let mut state = self.begin(act, name);
        let failing = state.fail.get(name).copied();
        let file = self.file(name);
        let Some(unit) = self.known(&mut state, name, &file) else { return Err(no_unit(act, name)) };
        if unit.enabled.starts_with("masked") {
            return Err(PortError::new("systemd.masked", format!("cannot {act} `{name}`: it is masked")));
        }
        unit.loaded = file.clone();
        unit.exit = failing.unwrap_or(0);
        unit.result = if failing.is_some() { "exit-code" } else { "success" }.to_owned();
        if let Some(code) = failing {
            unit.active = "failed".to_owned();
            return Err(PortError::new(JOB_FAILED, format!("`{name}` did not {act}: it ended with code {code}")));
        }
        let oneshot = file.as_deref().is_some_and(|text| text.contains("Type=oneshot"));
        unit.active = if oneshot { "inactive" } else { "active" }.to_owned();
        drop(state);
        if let Some(act) = &*self.started.lock().unwrap_or_else(PoisonError::into_inner) {
            act(name);
        }
        self.leave_mark(name, file.as_deref());
        Ok(())
    }

    fn known<'a>(&self, state: &'a mut State, name: &str, file: &Option<String>) -> Option<&'a mut Unit> {
        if file.is_some() {
            let fresh = || Unit { active: "inactive".to_owned(), loaded: file.clone(), ..Unit::default() };
            return Some(state.units.entry(name.to_owned()).or_insert_with(fresh));
        }
        state.units.get_mut(name)
    }

    fn leave_mark(&self, name: &str, text: Option<&str>) {
        let Some(mark) = text.and_then(mark_of) else { return };
        let directory = self.root.join(INPUTS_DIR.trim_start_matches('/'));
        std::fs::create_dir_all(&directory).expect("the root of a test is writable");
        crate::durable::swap_link(Path::new(mark), &directory.join(name)).expect("the root of a test is writable");
    }

    fn set_enabled(&self, act: &str, name: &str, word: &str) -> PortResult<()> {
        let mut state = self.begin(act, name);
        let file = self.file(name);
        match self.known(&mut state, name, &file) {
            Some(unit) => unit.enabled = word.to_owned(),
            // Masking and disabling what does not exist is fine for systemd.
            None if act == "mask" => {
                let unit = Unit { packaged: true, active: "inactive".into(), enabled: word.into(), ..Unit::default() };
                state.units.insert(name.to_owned(), unit);
            }
            None if act == "enable" => return Err(no_unit(act, name)),
            None => {}
        }
        Ok(())
    }
}

fn no_unit(act: &str, name: &str) -> PortError {
    PortError::new("systemd.no-unit", format!("cannot {act} `{name}`: systemd knows no such unit"))
}

#[async_trait]
impl Units for FakeUnits {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, UnitState>> {
        let state = self.lock();
        let of = |name: &String| {
            let (file, unit) = (self.file(name), state.units.get(name));
            let enabled = self.enabled(name, unit);
            let load = match (&file, unit) {
                _ if enabled.starts_with("masked") => "masked",
                (Some(_), _) => "loaded",
                (None, Some(unit)) if unit.packaged || unit.active != "inactive" => "loaded",
                _ => "not-found",
            };
            let unit = unit.cloned().unwrap_or_else(|| Unit { active: "inactive".to_owned(), ..Unit::default() });
            let need_reload = unit.loaded.is_some() && unit.loaded != file;
            UnitState {
                load: load.to_owned(),
                active: unit.active,
                enabled,
                need_reload,
                result: unit.result,
                exit: unit.exit,
                ..UnitState::default()
            }
        };
        Ok(names.iter().map(|name| (name.clone(), of(name))).collect())
    }

    async fn start(&self, name: &str) -> PortResult<()> {
        self.run("start", name)
    }

    async fn restart(&self, name: &str) -> PortResult<()> {
        self.run("restart", name)
    }

    async fn reload(&self, name: &str) -> PortResult<()> {
        let state = self.begin("reload", name);
        match state.units.get(name) {
            Some(unit) if unit.active == "active" => Ok(()),
            Some(_) => Err(PortError::new("systemd.call", format!("systemd refused to reload `{name}`"))),
            None => Err(no_unit("reload", name)),
        }
    }

    async fn stop(&self, name: &str) -> PortResult<()> {
        let mut state = self.begin("stop", name);
        let keep = match state.units.get_mut(name) {
            Some(unit) => {
                unit.active = "inactive".to_owned();
                unit.packaged || self.file(name).is_some()
            }
            None => true,
        };
        if !keep {
            state.units.remove(name);
        }
        Ok(())
    }

    async fn enable(&self, name: &str) -> PortResult<()> {
        self.set_enabled("enable", name, "enabled")
    }

    async fn disable(&self, name: &str) -> PortResult<()> {
        self.set_enabled("disable", name, "disabled")
    }

    async fn mask(&self, name: &str) -> PortResult<()> {
        self.set_enabled("mask", name, "masked")
    }

    async fn unmask(&self, name: &str) -> PortResult<()> {
        self.set_enabled("unmask", name, "disabled")
    }

    async fn daemon_reload(&self) -> PortResult<()> {
        let mut state = self.begin("daemon-reload", "");
        for (name, unit) in &mut state.units {
            unit.loaded = self.file(name);
        }
        let gone =
            |name: &String, unit: &Unit| !unit.packaged && unit.active == "inactive" && self.file(name).is_none();
        state.units.retain(|name, unit| !gone(name, unit));
        Ok(())
    }

    async fn failures(&self) -> BoxStream<'static, String> {
        stream::pending().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/systemd/system");
        std::fs::create_dir_all(&directory).unwrap();
        let fake = FakeUnits::below(root.path());
        contract::units(&fake, &directory).await;

        std::fs::write(directory.join("bad.service"), "[Service]\nType=oneshot\n").unwrap();
        fake.fail("bad.service", 3);
        contract::failing_unit(&fake, "bad.service", || fake.heal("bad.service")).await;
    }
}
