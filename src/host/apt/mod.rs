//! The adapter of [`Packages`] for apt and dpkg.
//!
//! Owns: what is installed, what could be, and changing it. Never: removes a lock file, ends a
//! package manager, removes a package nobody named, overrides a hold, a pin, a `policy-rc.d` or a
//! configuration file the admin changed.
//!
//! An install is, in this order: wait for the locks; finish what an interrupted dpkg left; read the
//! lists if there are none or old ones; simulate, and refuse if something would go; install. Each
//! step may be repeated after an interruption at any instant, so the way to heal is to do the same
//! again: measured by killing apt and dpkg at 60 moments of an install (`tests/e2e/apt.rs`).
//! `dpkg --configure --pending` alone does not heal (half-unpacked packages stay), but without it
//! apt-get refuses to begin; the install after it unpacks again what was half-unpacked.
//!
//! Rejected: a library for apt's own cache (C++, tied to one Debian release); PackageKit (not on
//! servers).

mod cache;
mod lock;
mod run;
mod simulate;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::systemd::Systemd;
use super::{PackageState, Packages, PortError, PortResult, Progress};
use cache::Lists;
use lock::LockError;
use run::{Run, RunError, Why, apt_get, ask, dpkg_configure, shown};
use status::{Dpkg, StatusError};

/// apt and dpkg of this machine.
pub struct Apt {
    root: PathBuf,
    systemd: Systemd,
    /// Where apt's output goes, so that it outlives us.
    log: PathBuf,
    limits: Limits,
}

/// How long the adapter waits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For locks others hold: an unattended upgrade may take that long.
    pub lock: Duration,
    /// Between two looks at a held lock.
    pub poll: Duration,
    /// For a run of apt; then it is left to finish.
    pub run: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lock: Duration::from_secs(15 * 60), poll: Duration::from_secs(1), run: Duration::from_secs(60 * 60) }
    }
}

impl Apt {
    /// `systemd` runs what changes the machine, in a unit of its own.
    pub fn new(systemd: Systemd, limits: Limits) -> Self {
        Self { root: "/".into(), systemd, log: "/run/socle/apt.log".into(), limits }
    }

    async fn dpkg(&self) -> PortResult<Dpkg> {
        Dpkg::read(&self.root).await.map_err(PortError::from)
    }

    #[expect(clippy::disallowed_methods, reason = "the age of a file is told by the clock that dated it")]
    fn lists(&self) -> PortResult<Lists> {
        let at = self.root.join("var/lib/apt/lists");
        cache::lists(&self.root, SystemTime::now())
            .map_err(|error| PortError::new("apt.lists", format!("cannot look at `{}`", at.display())).because(error))
    }

    fn run<'a>(&'a self, progress: &'a dyn Progress) -> Run<'a> {
        Run { systemd: &self.systemd, log: &self.log, patience: self.limits.run, progress }
    }

    /// Waits for the locks, then finishes what an interruption left.
    async fn settle(&self, progress: &dyn Progress) -> PortResult<Dpkg> {
        lock::wait_until_free(&self.root, self.limits.lock, self.limits.poll, progress).await?;
        let dpkg = self.dpkg().await?;
        if !dpkg.interrupted() {
            return Ok(dpkg);
        }
        progress.say("finishing an interrupted dpkg");
        // That something cannot be configured yet is no failure: what it needs may be half-unpacked
        // and comes with the install that follows, which tells what is still wrong.
        if let Err(
            error @ (RunError::Log(..) | RunError::Process(_) | RunError::Unit(_) | RunError::StillRunning(..)),
        ) = self.run(progress).to_end(dpkg_configure(), "dpkg --configure --pending").await
        {
            return Err(error.into());
        }
        self.dpkg().await
    }

    /// Reads the archives' lists. That one of several archives does not answer is no failure.
    async fn update(&self, progress: &dyn Progress) -> PortResult<()> {
        progress.say("reading the package lists");
        cache::remove_empty_lists(&self.root)
            .map_err(|error| PortError::new("apt.lists", "cannot remove an empty package list").because(error))?;
        let updated = self.run(progress).to_end(apt_get().arg("update"), "apt-get update").await;
        match (updated, self.lists()?) {
            (Ok(()), Lists::Missing) => {
                Err(PortError::new("apt.no-lists", "apt has no package lists after reading them")
                    .hint("check `/etc/apt/sources.list` and `/etc/apt/sources.list.d`")
                    .retryable())
            }
            (Ok(()), _) => self.stamp(),
            (Err(error), Lists::Missing) => Err(PortError::from(error).retryable()),
            (Err(error), _) => {
                progress.say(&format!("going on with the package lists there are: {error}"));
                Ok(())
            }
        }
    }

    fn stamp(&self) -> PortResult<()> {
        let path = self.root.join(cache::STAMP);
        crate::durable::write(&path, b"", 0o644)
            .map_err(|error| PortError::new("apt.stamp", format!("cannot write `{}`", path.display())).because(error))
    }

    /// The names that are still to be installed, every one of them known to apt and not held.
    async fn to_install(&self, names: &BTreeSet<String>, dpkg: &Dpkg) -> PortResult<BTreeSet<String>> {
        let missing: BTreeSet<_> = names
            .iter()
            .filter(|name| !matches!(dpkg.state(name), Some(PackageState::Installed { .. })))
            .cloned()
            .collect();
        if let Some(held) = missing.iter().find(|name| dpkg.entry(name).is_some_and(status::Entry::held)) {
            return Err(held_back(held));
        }
        let absent = missing.iter().filter(|name| dpkg.state(name).is_none()).cloned().collect();
        for (name, state) in self.not_installed(&absent).await? {
            if let PackageState::Unknown { hint } = state {
                let error = PortError::new("package.unknown", format!("apt knows no package `{name}`"));
                return Err(PortError { hint, ..error });
            }
        }
        Ok(missing)
    }

    async fn not_installed(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, PackageState>> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        cache::candidates(names).await.map_err(|error| error.port("apt.policy"))
    }

    /// Does the one thing that helps against a failure; `false` if there is none.
    async fn help_against(&self, error: &RunError, progress: &dyn Progress) -> PortResult<bool> {
        match error.why() {
            // An archive moved on since its list was read.
            Some(Why::Fetch | Why::Unknown) => self.update(progress).await?,
            // Somebody was faster, or a part of it still works: the next try waits for the locks.
            Some(Why::Locked | Why::Killed) => {}
            // Another package's disorder stands in the way. If this does not help, the next try tells
            // what is wrong.
            Some(Why::Conflict | Why::Dpkg) => {
                self.settle(progress).await?;
                let fix = apt_get().args(["--no-remove", "--fix-broken", "install"]);
                match self.run(progress).to_end(fix, "apt-get --fix-broken install").await {
                    Ok(()) | Err(RunError::Failed { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Some(Why::Held | Why::WouldRemove | Why::NoSpace | Why::Lost | Why::Other) | None => return Ok(false),
        }
        Ok(true)
    }

    /// `Ok(Err(_))` is a failure of apt that something may help against.
    async fn try_install(&self, names: &BTreeSet<String>, progress: &dyn Progress) -> PortResult<Result<(), RunError>> {
        let dpkg = self.settle(progress).await?;
        if self.lists()? != Lists::Fresh {
            self.update(progress).await?;
        }
        let names = self.to_install(names, &dpkg).await?;
        if names.is_empty() {
            return Ok(Ok(()));
        }
        let what = shown("install", &names);
        let again = dpkg.to_reinstall(&names);
        let mut install = vec!["--no-remove", "install"];
        if !again.is_empty() {
            install.push("--reinstall");
        }
        let all: BTreeSet<String> = names.union(&again).cloned().collect();
        let simulated = ask(apt_get().args(["--simulate", "install", "--"]).args(all.iter().cloned()), &what).await;
        let simulated = match simulated {
            Ok(simulated) => simulated,
            Err(error) => return Ok(Err(error)),
        };
        let gone = simulate::removals(&simulated);
        if !gone.is_empty() {
            return Err(would_remove("installing", &names, &gone));
        }
        // The simulation may be overtaken by a change of the lists: apt itself refuses then.
        let install = apt_get().args(install).arg("--").args(all);
        Ok(self.run(progress).to_end(install, &what).await)
    }
}

#[async_trait]
impl Packages for Apt {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, PackageState>> {
        names.iter().try_for_each(|name| check_name(name))?;
        let dpkg = self.dpkg().await?;
        let mut states: BTreeMap<_, _> =
            names.iter().filter_map(|name| Some((name.clone(), dpkg.state(name)?))).collect();
        let absent: BTreeSet<_> = names.iter().filter(|name| !states.contains_key(*name)).cloned().collect();
        let mut absent = self.not_installed(&absent).await?;
        if absent.values().any(|state| matches!(state, PackageState::Unknown { .. })) && self.lists()? != Lists::Fresh {
            // apt cannot know better before it has read its lists, which an install does first.
            for state in absent.values_mut().filter(|state| matches!(state, PackageState::Unknown { .. })) {
                *state = PackageState::Absent { candidate: String::new() };
            }
        }
        states.append(&mut absent);
        Ok(states)
    }

    async fn install(&self, names: &BTreeSet<String>, progress: &dyn Progress) -> PortResult<()> {
        names.iter().try_for_each(|name| check_name(name))?;
        let Err(first) = self.try_install(names, progress).await? else { return Ok(()) };
        if !self.help_against(&first, progress).await? {
            return Err(first.into());
        }
        let Err(second) = self.try_install(names, progress).await? else { return Ok(()) };
        let dpkg = self.dpkg().await?;
        if names.iter().all(|name| matches!(dpkg.state(name), Some(PackageState::Installed { .. }))) {
            // apt fails as long as any package on the machine fails.
            progress.say(&format!("installed, but another package is in disorder: {second}"));
            return Ok(());
        }
        Err(explain(second, &dpkg))
    }

    async fn remove(&self, names: &BTreeSet<String>, progress: &dyn Progress) -> PortResult<()> {
        names.iter().try_for_each(|name| check_name(name))?;
        let dpkg = self.settle(progress).await?;
        let names: BTreeSet<_> = names.iter().filter(|name| dpkg.state(name).is_some()).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        if let Some(held) = names.iter().find(|name| dpkg.entry(name).is_some_and(status::Entry::held)) {
            return Err(held_back(held));
        }
        let what = shown("remove", &names);
        let simulated = apt_get().args(["--simulate", "remove", "--"]).args(names.iter().cloned());
        let more: BTreeSet<_> = simulate::removals(&ask(simulated, &what).await?).difference(&names).cloned().collect();
        if !more.is_empty() {
            return Err(would_remove("removing", &names, &more));
        }
        let remove = apt_get().args(["remove", "--"]).args(names);
        self.run(progress).to_end(remove, &what).await.map_err(PortError::from)
    }

    async fn download_size(&self, names: &BTreeSet<String>) -> PortResult<u64> {
        names.iter().try_for_each(|name| check_name(name))?;
        if names.is_empty() {
            return Ok(0);
        }
        let asked = apt_get().args(["--print-uris", "install", "--"]).args(names.iter().cloned());
        Ok(simulate::download_size(&ask(asked, &shown("install", names)).await?))
    }
}

/// Debian's rule for names (Policy 5.6.1), and no trailing sign: `nginx-` means removal to apt-get.
/// Some packages do end in `+` (`g++`), which apt-get takes for the package if it exists.
pub(in crate::host) fn check_name(name: &str) -> PortResult<()> {
    let bytes = name.as_bytes();
    let first = bytes.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(b));
    if first && rest && (2..=200).contains(&bytes.len()) && !name.ends_with('-') {
        return Ok(());
    }
    let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
    Err(PortError::new("package.name", format!("`{shown}` is not the name of a package")))
}

/// apt says only that packages are held, not which.
fn explain(error: RunError, dpkg: &Dpkg) -> PortError {
    let held: Vec<_> = dpkg.held().map(|entry| format!("`{}`", entry.name)).collect();
    if error.why() == Some(Why::Conflict) && !held.is_empty() {
        return PortError::from(error)
            .hint(format!("one of the packages on hold may stand against it: {}", held.join(", ")));
    }
    error.into()
}

fn held_back(name: &str) -> PortError {
    PortError::new("apt.held", format!("`{name}` is on hold: the admin wants it unchanged"))
        .hint(format!("release it with `apt-mark unhold {name}`, or leave it out of the document"))
}

fn would_remove(act: &str, names: &BTreeSet<String>, gone: &BTreeSet<String>) -> PortError {
    let list = |names: &BTreeSet<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    PortError::new("apt.would-remove", format!("{act} {} would also remove {}", list(names), list(gone)))
        .hint(format!("if that is wanted, do it by hand: `{}`", shown("remove", gone)))
}

impl From<StatusError> for PortError {
    fn from(error: StatusError) -> Self {
        let port = PortError::new("dpkg.status", error.to_string());
        match error {
            StatusError::Read(_, source) => port.because(source),
            StatusError::Query(source) => port.because(source).retryable(),
            StatusError::Incomplete(_) => port.hint("dpkg keeps older ones: `/var/backups/dpkg.status.0`"),
        }
    }
}

impl From<LockError> for PortError {
    fn from(error: LockError) -> Self {
        let port = PortError::new("apt.locked", error.to_string());
        match error {
            LockError::Held(..) => {
                port.retryable().hint("let it finish or see why it does not; the next pass tries again")
            }
            LockError::Probe(_, source) => port.because(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_apt_would_read_as_more_than_names_are_refused() {
        for bad in ["", "a", "-y", "nginx-", "nginx=1", "nginx/sid", "a b", "A1", "nginx:i386", "ngin.*x", "a\n"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["nginx-light", "g++", "libc6", "python3.13", "0ad"] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
    }
}
