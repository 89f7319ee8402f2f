//! Puts the agent together from the real adapters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificates::internal::NoFleet;
use super::certificates::precheck::Probing;
use super::certificates::watch::Journal;
use super::certificates::{Keeper, Parts};
use super::config::{Config, ConfigError};
use super::reconcile::Agent;
use super::relay::Relay;
use crate::host::accounts::SystemAccounts;
use crate::host::apt::Apt;
use crate::host::archive::UnpackChild;
use crate::host::authority::AcmeAuthorities;
use crate::host::copies::BtrfsSnapshots;
use crate::host::dns::{ProviderDns, Resolver};
use crate::host::fetch::HttpFetch;
use crate::host::nginx::Nginx;
use crate::host::probe::LocalProbe;
use crate::host::reach;
use crate::host::sql::Sql;
use crate::host::systemd::Systemd;
use crate::host::tasks::UnitTasks;
use crate::host::vault::RusticVault;
use crate::host::venv::PipVenv;
use crate::host::{Host, Units};
use crate::model::problem::Problem;
use crate::recipe::{CHALLENGES, Catalog, Facts};
use crate::resources::certificate::STATE;

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{} problem(s) in the recipes of `/etc/socle/recipes`", .0.len())]
    Recipes(Vec<Problem>),
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("this system is not a Debian that socle knows (12 or 13): `VERSION_ID` is `{0}`")]
    NotDebian(String),
    #[error("cannot make a directory below `{path}`")]
    Scratch { path: PathBuf, source: std::io::Error },
    #[error("cannot find the running program")]
    Program(#[source] std::io::Error),
}

pub fn agent(root: &Path, state: &Path) -> Result<Agent, SetupError> {
    let config = Config::load(root.join("etc/socle/agent.toml"))?;
    let program = std::env::current_exe().map_err(SetupError::Program)?;
    let systemd = Systemd::new();
    let units: Arc<dyn Units> = Arc::new(systemd.clone());
    let progress = Arc::new(Relay::default());
    let host = Host {
        root: root.to_owned(),
        packages: Arc::new(Apt::new(systemd.clone(), Default::default())),
        snapshots: Arc::new(BtrfsSnapshots::new(systemd, program.clone(), state.to_owned())),
        accounts: Arc::new(SystemAccounts::new(root)),
        databases: Arc::new(Sql::new(root.to_owned())),
        web: Arc::new(Nginx::new(units.clone(), program.clone())),
        fetch: Arc::new(HttpFetch::new(config.mirrors)),
        archives: Arc::new(UnpackChild::new(&program)),
        builds: Arc::new(PipVenv::default()),
        tasks: Arc::new(UnitTasks::new(root, units.clone())),
        probes: Arc::new(LocalProbe::new()),
        progress: progress.clone(),
        units,
    };
    Ok(Agent {
        host,
        vault: Arc::new(RusticVault::new(program)),
        state: state.to_owned(),
        catalog: catalog(root)?,
        facts: facts(root)?,
        python_index: config.python_index,
        interval_s: config.interval_s.max(1),
        progress,
        now,
        random,
    })
}

/// Who orders the certificates of this server.
pub fn keeper(agent: &Agent) -> Keeper {
    keeper_at(agent, &agent.host.path(STATE))
}

/// A keeper of which nothing stays.
pub struct Practice {
    pub keeper: Keeper,
    _directory: tempfile::TempDir,
}

pub fn practice_keeper(agent: &Agent) -> Result<Practice, SetupError> {
    let place = agent.host.path("/run/socle");
    let failed = |source| SetupError::Scratch { path: place.clone(), source };
    std::fs::create_dir_all(&place).map_err(failed)?;
    let directory = tempfile::Builder::new().prefix("practice-").tempdir_in(&place).map_err(failed)?;
    Ok(Practice { keeper: keeper_at(agent, directory.path()), _directory: directory })
}

fn keeper_at(agent: &Agent, state: &Path) -> Keeper {
    let random = agent.random;
    let challenges = agent.host.path(CHALLENGES);
    let parts = Parts {
        fleet: Arc::new(NoFleet),
        authorities: Arc::new(AcmeAuthorities { state: state.to_owned(), patience: Default::default() }),
        dns: Arc::new(ProviderDns::new(Resolver::system())),
        check: Arc::new(Probing::new(Resolver::system(), challenges.clone(), Arc::new(reach::own_addresses), 80)),
        watch: Arc::new(Journal),
        now: Arc::new(agent.now),
        random: Arc::new(move || {
            let mut bytes = [0; 8];
            random(&mut bytes);
            u64::from_le_bytes(bytes)
        }),
        challenges,
        patience: Default::default(),
    };
    Keeper::new(state, parts)
}

/// The built-in recipes and those of `/etc/socle/recipes`.
pub fn catalog(root: &Path) -> Result<Catalog, SetupError> {
    let (catalog, problems) = Catalog::new(&own_recipes(&root.join("etc/socle/recipes"))?);
    if problems.is_empty() { Ok(catalog) } else { Err(SetupError::Recipes(problems)) }
}

fn own_recipes(directory: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>, SetupError> {
    let mut recipes = BTreeMap::new();
    for recipe in entries(directory)? {
        if recipe.is_dir() {
            let mut files = BTreeMap::new();
            for file in entries(&recipe)?.into_iter().filter(|file| file.is_file()) {
                let text =
                    std::fs::read_to_string(&file).map_err(|source| SetupError::Read { path: file.clone(), source })?;
                files.insert(name(&file), text);
            }
            recipes.insert(name(&recipe), files);
        }
    }
    Ok(recipes)
}

/// What is in a directory; nothing if there is no such directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, SetupError> {
    let failed = |source| SetupError::Read { path: directory.to_owned(), source };
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// os-release(5).
fn facts(root: &Path) -> Result<Facts, SetupError> {
    let path = root.join("etc/os-release");
    let text = std::fs::read_to_string(&path).map_err(|source| SetupError::Read { path, source })?;
    let version = text.lines().find_map(|line| line.strip_prefix("VERSION_ID=")).unwrap_or_default();
    let version = version.trim_matches('"');
    version.parse().ok().and_then(Facts::of_debian).ok_or_else(|| SetupError::NotDebian(version.to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks the clock")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A kernel that gives no random bytes is not one to make secrets on.
pub fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel gives random bytes (getrandom(2))");
}
