//! Downloads, unpacking, builds and tasks that happen in memory, or as a file or two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::host::{
    ArchiveLimits, Archives, Builds, Fetch, Fetched, PortError, PortResult, Progress, TaskOutput, Tasks,
};
use crate::model::document::Source;
use crate::model::unit::ServiceUnit;
use crate::model::{Content, Digest};

/// Serves every URL with bytes made from it, but for those that are `gone`.
#[derive(Default)]
pub struct FakeFetch {
    gone: Mutex<BTreeSet<String>>,
}

impl FakeFetch {
    /// From now on this URL answers 404.
    pub fn lose(&self, url: &str) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned());
    }
}

#[async_trait]
impl Fetch for FakeFetch {
    async fn fetch(&self, source: &Source, to: &Path, _limit: u64, _: &dyn Progress) -> PortResult<Fetched> {
        if self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(&source.url) {
            return Err(PortError::new("fetch.status", format!("`{}` answered 404", source.url)));
        }
        let bytes = source.url.as_bytes();
        let sha256 = Digest::of(bytes);
        if source.sha256.is_some_and(|wanted| wanted != sha256) {
            return Err(PortError::new("fetch.digest", format!("`{}` has another sha256", source.url)));
        }
        crate::durable::write(to, bytes, 0o600).map_err(|e| PortError::new("fetch.write", e.to_string()))?;
        Ok(Fetched { path: to.to_owned(), sha256, bytes: bytes.len() as u64 })
    }

    async fn size(&self, source: &Source) -> PortResult<Option<u64>> {
        Ok(Some(source.url.len() as u64))
    }
}

/// Unpacks everything into one file.
#[derive(Default)]
pub struct FakeArchives;

#[async_trait]
impl Archives for FakeArchives {
    async fn unpack(&self, _archive: &Path, stage: &Path, _strip: u32, _: &ArchiveLimits) -> PortResult<()> {
        crate::durable::write(&stage.join("index.php"), b"<?php", 0o644)
            .map_err(|e| PortError::new("archive.write", e.to_string()))
    }
}

/// Builds an environment of one file.
#[derive(Default)]
pub struct FakeBuilds;

#[async_trait]
impl Builds for FakeBuilds {
    async fn venv(
        &self,
        stage: &Path,
        _target: &Path,
        requirements: &[String],
        _index: Option<&str>,
        _: &dyn Progress,
    ) -> PortResult<()> {
        crate::durable::write(&stage.join("requirements"), requirements.join("\n").as_bytes(), 0o644)
            .map_err(|e| PortError::new("venv.write", e.to_string()))
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
    async fn run(&self, name: &str, _unit: &ServiceUnit, _stdin: Option<&Content>) -> PortResult<TaskOutput> {
        let (code, hold) = {
            let mut state = self.lock();
            state.ran.push(name.to_owned());
            (state.codes.get(name).copied().unwrap_or(0), state.hold.contains(name))
        };
        if hold {
            self.held.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(TaskOutput { code, output: if code == 0 { String::new() } else { "it broke".to_owned() } })
    }
}
