use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use socle::host::fake::{FakePackages, FakeUnits};
use socle::host::{PackageState, Packages, PortResult, Progress};

/// Knows every package but those told otherwise; some bring a unit, as on Debian enabled and started.
pub struct Apt {
    fake: FakePackages,
    known: Mutex<BTreeSet<String>>,
    units: Arc<FakeUnits>,
}

impl Apt {
    pub fn new(units: Arc<FakeUnits>) -> Self {
        Self { fake: FakePackages::new(), known: Mutex::default(), units }
    }

    pub fn set(&self, name: &str, state: &str) {
        let version = || "1".to_owned();
        let state = match state {
            "unknown" => PackageState::Unknown { hint: None },
            "absent" => PackageState::Absent { candidate: version() },
            "installed" => PackageState::Installed { version: version() },
            broken => PackageState::Broken { state: broken.to_owned() },
        };
        self.known.lock().unwrap().insert(name.to_owned());
        self.fake.set(name, state);
    }

    fn unit_of(package: &str) -> Option<String> {
        match package {
            "mariadb-server" => Some("mariadb.service".to_owned()),
            "postgresql" => Some("postgresql.service".to_owned()),
            "nginx-light" => Some("nginx.service".to_owned()),
            php if php.starts_with("php") && php.ends_with("-fpm") => Some(format!("{php}.service")),
            _ => None,
        }
    }
}

#[async_trait]
impl Packages for Apt {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, PackageState>> {
        let unheard: Vec<&String> = names.iter().filter(|name| !self.known.lock().unwrap().contains(*name)).collect();
        unheard.into_iter().for_each(|name| self.set(name, "absent"));
        self.fake.states(names).await
    }

    async fn install(&self, names: &BTreeSet<String>, progress: &dyn Progress) -> PortResult<()> {
        self.fake.install(names, progress).await?;
        for unit in names.iter().filter_map(|name| Self::unit_of(name)) {
            self.units.set(&unit, "enabled", "active");
        }
        Ok(())
    }

    async fn remove(&self, names: &BTreeSet<String>, progress: &dyn Progress) -> PortResult<()> {
        self.fake.remove(names, progress).await
    }

    async fn download_size(&self, names: &BTreeSet<String>) -> PortResult<u64> {
        self.fake.download_size(names).await
    }
}
