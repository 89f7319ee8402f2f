//! Answers of sites, said beforehand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::host::probe::checked;
use crate::host::{PortError, PortResult, ProbeAnswer, Probes};

/// A host that was given no answer does not answer.
#[derive(Default)]
pub struct FakeProbes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, ProbeAnswer>,
    asked: Vec<String>,
}

impl FakeProbes {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `host` answers this, whatever the path.
    pub fn answer(&self, host: &str, status: u16, body: &str) {
        self.lock().answers.insert(host.to_owned(), ProbeAnswer { status, body: body.to_owned() });
    }

    /// From now on `host` does not answer.
    pub fn silence(&self, host: &str) {
        self.lock().answers.remove(host);
    }

    /// `blog.test/health`, in order.
    pub fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Probes for FakeProbes {
    async fn get(&self, host: &str, path: &str, _: Duration) -> PortResult<ProbeAnswer> {
        checked(host, path)?;
        let mut state = self.lock();
        state.asked.push(format!("{host}{path}"));
        let silent = || PortError::new("probe.no-answer", format!("`http://{host}{path}` did not answer")).retryable();
        state.answers.get(host).cloned().ok_or_else(silent)
    }

    async fn get_at(&self, _: &Path, host: &str, path: &str, timeout: Duration) -> PortResult<ProbeAnswer> {
        self.get(host, path, timeout).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        let probes = FakeProbes::new();
        probes.answer("contract.example.org", 418, "contract");
        contract::probes(&probes, "contract.example.org", "silent.example.org").await;
    }
}
