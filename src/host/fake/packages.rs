//! Packages in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::host::apt::check_name;
use crate::host::{PackageState, Packages, PortError, PortResult, Progress};

/// Bytes each package "downloads".
const SIZE: u64 = 1000;

/// Knows some packages, of which some are installed. A failure asked for by [`FakePackages::fail`]
/// happens once, before anything changed.
#[derive(Default)]
pub struct FakePackages {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    packages: BTreeMap<String, PackageState>,
    fail: Option<PortError>,
    calls: Vec<String>,
}

impl FakePackages {
    pub fn new() -> Self {
        Self::default()
    }

    /// Packages apt could install, all of version 1.
    pub fn known<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            self.set(name, PackageState::Absent { candidate: "1".to_owned() });
        }
        self
    }

    pub fn set(&self, name: &str, state: PackageState) {
        self.lock().packages.insert(name.to_owned(), state);
    }

    /// The next change fails like this.
    pub fn fail(&self, error: PortError) {
        self.lock().fail = Some(error);
    }

    /// The changes asked for, in order: `install nginx redis`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, act: &str, names: &BTreeSet<String>) -> PortResult<()> {
        names.iter().try_for_each(|name| check_name(name))?;
        let mut state = self.lock();
        state.calls.push(format!("{act} {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")));
        state.fail.take().map_or(Ok(()), Err)
    }
}

/// One unknown name spoils the whole.
fn known(states: BTreeMap<String, PackageState>) -> PortResult<BTreeMap<String, PackageState>> {
    match states.iter().find(|(_, state)| matches!(state, PackageState::Unknown { .. })) {
        Some((name, _)) => Err(PortError::new("package.unknown", format!("apt knows no package `{name}`"))),
        None => Ok(states),
    }
}

#[async_trait]
impl Packages for FakePackages {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, PackageState>> {
        names.iter().try_for_each(|name| check_name(name))?;
        let state = self.lock();
        let of = |name: &String| state.packages.get(name).cloned().unwrap_or(PackageState::Unknown { hint: None });
        Ok(names.iter().map(|name| (name.clone(), of(name))).collect())
    }

    async fn install(&self, names: &BTreeSet<String>, _: &dyn Progress) -> PortResult<()> {
        self.begin("install", names)?;
        for (name, state) in known(self.states(names).await?)? {
            match state {
                PackageState::Unknown { .. } | PackageState::Installed { .. } => {}
                PackageState::Absent { candidate } => self.set(&name, PackageState::Installed { version: candidate }),
                PackageState::Broken { .. } => self.set(&name, PackageState::Installed { version: "1".to_owned() }),
            }
        }
        Ok(())
    }

    async fn remove(&self, names: &BTreeSet<String>, _: &dyn Progress) -> PortResult<()> {
        self.begin("remove", names)?;
        for (name, state) in self.states(names).await? {
            if let PackageState::Installed { version } = state {
                self.set(&name, PackageState::Absent { candidate: version });
            } else if let PackageState::Broken { .. } = state {
                self.set(&name, PackageState::Absent { candidate: "1".to_owned() });
            }
        }
        Ok(())
    }

    async fn download_size(&self, names: &BTreeSet<String>) -> PortResult<u64> {
        let states = known(self.states(names).await?)?;
        let absent = states.values().filter(|state| matches!(state, PackageState::Absent { .. })).count();
        Ok(SIZE * absent as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Quiet;
    use crate::host::fake::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::packages(&FakePackages::new().known(["unzip"]), "unzip", "no-such-package").await;
    }

    #[tokio::test]
    async fn remembers() {
        let fake = FakePackages::new().known(["nginx"]);
        let names = BTreeSet::from(["nginx".to_owned()]);
        assert_eq!(fake.download_size(&names).await.unwrap(), SIZE);
        fake.fail(PortError::new("apt.locked", "held"));
        assert_eq!(fake.install(&names, &Quiet).await.unwrap_err().code, "apt.locked");
        fake.install(&names, &Quiet).await.unwrap();
        assert_eq!(fake.states(&names).await.unwrap()["nginx"], PackageState::Installed { version: "1".into() });
        fake.remove(&names, &Quiet).await.unwrap();
        assert_eq!(fake.states(&names).await.unwrap()["nginx"], PackageState::Absent { candidate: "1".into() });
        assert_eq!(fake.calls(), ["install nginx", "install nginx", "remove nginx"]);
    }
}
