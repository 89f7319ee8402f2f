//! Downloads and tasks that happen in memory, unpacking and builds that happen here and now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::host::archive::settle::{Links, Terms, settle};
use crate::host::archive::{Decoder, extract};
use crate::host::{
    ArchiveLimits, Archives, Builds, Fetch, Fetched, PortError, PortResult, Progress, TaskOutput, Tasks,
};
use crate::model::document::Source;
use crate::model::unit::ServiceUnit;
use crate::model::{Content, Digest};

/// Serves every URL with an archive made from it (`app/index.php` holds the URL), but for those that are
/// `gone`.
#[derive(Default)]
pub struct FakeFetch {
    gone: Mutex<BTreeSet<String>>,
}

impl FakeFetch {
    /// From now on this URL answers 404.
    pub fn lose(&self, url: &str) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned());
    }

    /// `None`: it is gone.
    fn served(&self, source: &Source) -> PortResult<Option<Vec<u8>>> {
        crate::host::fetch::check(source)?;
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(&source.url);
        Ok((!gone).then(|| Self::archive(&source.url)))
    }

    /// What this URL gives.
    pub fn archive(url: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(url.len() as u64);
        let added = builder.append_data(&mut header, "app/index.php", url.as_bytes());
        added.and_then(|()| builder.into_inner()).expect("a file in memory")
    }
}

#[async_trait]
impl Fetch for FakeFetch {
    async fn fetch(&self, source: &Source, to: &Path, limit: u64, _: &dyn Progress) -> PortResult<Fetched> {
        let url = &source.url;
        let Some(served) = self.served(source)? else {
            return Err(PortError::new("fetch.not-found", format!("`{url}` answered 404 Not Found")));
        };
        let (sha256, bytes) = (Digest::of(&served), served.len() as u64);
        if bytes > limit {
            return Err(PortError::new("fetch.too-big", format!("`{url}` is bigger than {limit} bytes")));
        }
        if source.sha256.is_some_and(|wanted| wanted != sha256) {
            return Err(PortError::new("fetch.digest", format!("`{url}` has another SHA-256")));
        }
        crate::durable::write(to, &served, 0o600).map_err(|e| PortError::new("fetch.write", e.to_string()))?;
        Ok(Fetched { path: to.to_owned(), sha256, bytes })
    }

    async fn size(&self, source: &Source) -> PortResult<Option<u64>> {
        Ok(self.served(source)?.map(|served| served.len() as u64))
    }
}

/// Unpacks in this process, with this process's powers.
#[derive(Default)]
pub struct FakeArchives;

#[async_trait]
impl Archives for FakeArchives {
    async fn unpack(&self, archive: &Path, stage: &Path, strip: u32, limits: &ArchiveLimits) -> PortResult<()> {
        let prepare = |error: std::io::Error| PortError::new("archive.stage", format!("cannot prepare: {error}"));
        if std::fs::read_dir(stage).map_err(prepare)?.next().is_some() {
            return Err(PortError::new("archive.stage", format!("`{}` is not empty", stage.display())));
        }
        let (archive, stage) = (File::open(archive).map_err(prepare)?, File::open(stage).map_err(prepare)?);
        let root = stage.try_clone().map_err(prepare)?.into();
        let refused = |error: &dyn std::fmt::Display| PortError::new("archive.refused", error.to_string());
        let decoder = Decoder::start().map_err(prepare)?;
        extract(archive, root, strip, limits, decoder).map_err(|error| refused(&error))?;
        let me = nix::unistd::geteuid().as_raw();
        let terms = Terms { from: me, to: me, links: Links::Inside, entries: limits.entries };
        settle(&stage.into(), &terms).map_err(|error| refused(&error))
    }
}

/// Builds an environment of an interpreter that is none and a list of what is in it. Knows everything but
/// what is `lost`.
#[derive(Default)]
pub struct FakeBuilds {
    lost: Mutex<BTreeSet<String>>,
}

impl FakeBuilds {
    /// From now on no index has this requirement.
    pub fn lose(&self, requirement: &str) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).insert(requirement.to_owned());
    }
}

#[async_trait]
impl Builds for FakeBuilds {
    async fn venv(
        &self,
        stage: &Path,
        target: &Path,
        requirements: &[String],
        index: Option<&str>,
        _: &dyn Progress,
    ) -> PortResult<()> {
        crate::host::venv::check(requirements, index)?;
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(lost) = requirements.iter().find(|requirement| lost.contains(*requirement)) {
            return Err(PortError::new("build.pip", format!("pip install failed: no version of `{lost}`")).retryable());
        }
        let unwritten = |error: String| PortError::new("build.write", error);
        std::fs::create_dir_all(stage.join("bin")).map_err(|error| unwritten(error.to_string()))?;
        let configuration = format!("command = python3 -m venv {}\n", target.display());
        for (file, text) in
            [("pyvenv.cfg", configuration), ("requirements", requirements.join("\n")), ("bin/python3", String::new())]
        {
            crate::durable::write(&stage.join(file), text.as_bytes(), 0o644).map_err(|e| unwritten(e.to_string()))?;
        }
        Ok(())
    }
}

/// Remembers what was run; ends with the code set for a task, else with 0.
#[derive(Default)]
pub struct FakeTasks {
    state: Mutex<TaskState>,
    held: Notify,
}

#[derive(Default)]
struct TaskState {
    codes: BTreeMap<String, i32>,
    hold: BTreeSet<String>,
    ran: Vec<String>,
}

impl FakeTasks {
    /// From now on this task ends with this code.
    pub fn end(&self, name: &str, code: i32) {
        self.lock().codes.insert(name.to_owned(), code);
    }

    /// From now on this task does not end, or does again.
    pub fn hold(&self, name: &str, hold: bool) {
        let hold_now = &mut self.lock().hold;
        if hold {
            hold_now.insert(name.to_owned())
        } else {
            hold_now.remove(name)
        };
    }

    /// Until a task runs that does not end: the moment to cut a pass off.
    pub async fn held(&self) {
        self.held.notified().await;
    }

    /// The tasks run so far.
    pub fn ran(&self) -> Vec<String> {
        self.lock().ran.clone()
    }

    fn lock(&self) -> MutexGuard<'_, TaskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Tasks for FakeTasks {
    async fn run(&self, name: &str, unit: &ServiceUnit, _stdin: Option<&Content>) -> PortResult<TaskOutput> {
        let (code, hold) = {
            let mut state = self.lock();
            state.ran.push(name.to_owned());
            (state.codes.get(name).copied().unwrap_or(0), state.hold.contains(name))
        };
        if hold {
            self.held.notify_one();
            tokio::time::sleep(Duration::from_secs(unit.timeout_s.into())).await;
            return Err(PortError::new("task.timeout", format!("the task `{name}` did not end and was stopped")));
        }
        Ok(TaskOutput { code, output: if code == 0 { String::new() } else { "it broke".to_owned() } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::contract;
    use crate::model::unit::{Limits, Readiness, Sandbox};

    #[tokio::test]
    async fn downloads_keep_the_contract() {
        let scratch = tempfile::tempdir().unwrap();
        let source = |url: &str, sha256| Source { url: url.to_owned(), sha256 };
        let (good, gone) = ("https://contract.example.org/good.tar", "https://contract.example.org/gone.tar");
        let fetch = FakeFetch::default();
        fetch.lose(gone);
        let good = source(good, Some(Digest::of(FakeFetch::archive(good))));
        contract::fetch(&fetch, &good, &source(gone, None), scratch.path()).await;
    }

    #[tokio::test]
    async fn unpacking_keeps_the_contract() {
        contract::archives(&FakeArchives, tempfile::tempdir().unwrap().path()).await;
    }

    #[tokio::test]
    async fn builds_keep_the_contract() {
        let builds = FakeBuilds::default();
        builds.lose("nowhere==1");
        contract::builds(&builds, "radicale==3.9.0", "nowhere==1", None, tempfile::tempdir().unwrap().path()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_keep_the_contract() {
        let tasks = FakeTasks::default();
        tasks.end("contract-bad", 7);
        tasks.hold("contract-never", true);
        let unit = ServiceUnit {
            description: "A task".into(),
            after: Vec::new(),
            readiness: Readiness::Oneshot,
            exec: vec!["/usr/bin/true".into()],
            reload: None,
            user: None,
            environment: BTreeMap::new(),
            working_directory: None,
            runtime_directory: None,
            sandbox: Sandbox::default(),
            limits: Limits::default(),
            slice: "socle.slice".into(),
            timeout_s: 60,
            ending: Default::default(),
            wanted_by: Vec::new(),
            stdin: None,
            stdout: None,
            inputs: None,
        };
        contract::tasks(&tasks, &contract::Ends { good: &unit, bad: &unit, never: &unit }).await;
    }
}
