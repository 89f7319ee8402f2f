//! What stands to be put in place, from the note of a restore to the state that makes a pass do it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::restore::make;
use crate::agent::ledger::Ledger;
use crate::agent::reconcile::{Agent, AgentError};
use crate::durable::{self, HostLock};
use crate::model::{Digest, Name};
use crate::resources::setup::{Observed, Returned, State, observe};

/// What stands to be put in place: `restore/<instance>.json` of the agent's state. Written when everything is
/// staged and on disk; removed when the next pass knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The moment of the snapshot.
    pub(super) at: Timestamp,
    pub(super) returned: Returned,
    /// A directory with one file a secret.
    pub(super) secrets: Option<String>,
    pub(super) seen: BTreeMap<String, Digest>,
}

impl Agent {
    pub(super) fn intents(&self) -> PathBuf {
        self.state.join("restore")
    }

    /// What was noted before this pass: secrets, and the state that makes the pass put the rest in place. May be
    /// repeated from any point. What the report says of it.
    pub(in crate::agent) fn take_up_restores(
        &self,
        ledger: &mut Ledger,
        _lock: &HostLock,
    ) -> Result<Vec<String>, AgentError> {
        let mut notes = Vec::new();
        let intents = match std::fs::read_dir(self.intents()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(notes),
            entries => entries.map_err(|error| AgentError::State(self.intents(), error))?,
        };
        for entry in intents {
            let path = entry.map_err(|error| AgentError::State(self.intents(), error))?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Name>().ok());
            let (Some(name), Some("json")) = (name, path.extension().and_then(|end| end.to_str())) else { continue };
            let Some(bytes) = durable::read(&path).map_err(AgentError::Restore)? else { continue };
            let intent: Intent = serde_json::from_slice(&bytes)
                .map_err(|source| AgentError::RestoreDamaged { path: path.clone(), source })?;
            notes.push(format!("{name}: what was saved at {} takes the place of what is there", intent.at));
            let secrets = intent.secrets.clone();
            self.take_up(&name, intent, ledger)?;
            durable::remove(&path).map_err(AgentError::Restore)?;
            if let Some(secrets) = secrets {
                // Best effort: the next restore of this instance writes them anew.
                let _ = std::fs::remove_dir_all(secrets);
            }
        }
        Ok(notes)
    }

    pub(super) fn take_up(&self, name: &Name, intent: Intent, ledger: &mut Ledger) -> Result<(), AgentError> {
        for (url, digest) in intent.seen {
            ledger.seen.entry(url).or_insert(digest);
        }
        if let Some(staged) = intent.secrets {
            let secrets = self.state.join("secrets").join(name.as_str());
            make(&secrets, 0o700).map_err(|error| AgentError::State(secrets.clone(), std::io::Error::other(error)))?;
            let unreadable = |error| AgentError::State(PathBuf::from(&staged), error);
            for secret in std::fs::read_dir(&staged).map_err(unreadable)? {
                let from = secret.map_err(unreadable)?.path();
                let bytes = std::fs::read(&from).map_err(unreadable)?;
                let to = secrets.join(from.file_name().unwrap_or_default());
                durable::write(&to, &bytes, 0o600).map_err(AgentError::Restore)?;
            }
        }
        let observed = Observed { state: Some(State::Returned { backup: intent.returned }), ..Observed::default() };
        let path = observe::path(&self.host, name.as_str());
        let made = make(path.parent().unwrap_or(Path::new("/")), 0o700);
        made.map_err(|error| AgentError::State(path.clone(), std::io::Error::other(error)))?;
        let bytes = serde_json::to_vec_pretty(&observed).expect("a state is plain data");
        durable::write(&path, &bytes, 0o600).map_err(AgentError::Restore)
    }
}
