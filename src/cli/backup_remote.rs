//! `socle agent backup prune` and `ssh-key`, and the credentials that a person brings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backup::Failure;
use super::progress::Terminal;
use super::{Exit, print};
use crate::agent::backup::{Brought, Tidied};
use crate::agent::reconcile::{Agent, AgentError};
use crate::model::{Name, Secret};

/// What a person brings to prune.
pub(super) struct Brings {
    pub credentials: Option<PathBuf>,
    /// The document of another server, and its recovery key.
    pub elsewhere: Option<(PathBuf, PathBuf)>,
}

pub(super) async fn prune(
    agent: &Agent,
    repository: Option<&Name>,
    brings: Brings,
    terminal: &Arc<Terminal>,
    json: bool,
) -> Result<Exit, Failure> {
    let brought = bring(brings.credentials.as_deref())?;
    let mut all = Vec::new();
    if let (Some((document, key)), Some(name)) = (brings.elsewhere, repository) {
        let (file, text) = super::agent::read(&document).map_err(anyhow::Error::from)?;
        let document = match crate::model::document::parse(&file, &text) {
            Ok(document) => document,
            Err(problems) => return Ok(super::agent::failed(AgentError::Refused(problems), json)?),
        };
        let (_, key) = super::agent::read(&key).map_err(anyhow::Error::from)?;
        all.push(agent.prune_for(&document, name, Secret::new(key.trim()), brought.as_ref()).await?);
    } else {
        for (name, known) in agent.repositories(repository)? {
            // Of those that were not named, one that only takes is somebody else's to prune.
            if repository.is_none() && known.append_only {
                print::tell!("{name}: nothing is deleted by this server");
                continue;
            }
            all.push(agent.prune_backup(&name, &known, brought.as_ref()).await?);
        }
    }
    terminal.finish();
    if json {
        print::json(&all)?;
    } else {
        for Tidied { repository, forgotten, pruned } in &all {
            let (removed, kept) = (print::size(pruned.removed_bytes), print::size(pruned.kept_bytes));
            let line = format!("{repository}: {forgotten} snapshots let go, {removed} given back, {kept} kept\n");
            print::raw(line.as_bytes())?;
        }
    }
    Ok(Exit::Converged)
}

/// Credentials that a person brings; nobody else may read them.
pub(super) fn bring(file: Option<&Path>) -> Result<Option<Brought>, Failure> {
    use std::os::unix::fs::MetadataExt;
    let Some(file) = file else { return Ok(None) };
    if std::fs::metadata(file).is_ok_and(|seen| seen.is_file() && seen.mode() & 0o004 != 0) {
        let shown = file.display();
        return Err(anyhow::anyhow!("everybody can read `{shown}`\nhint: chmod 0600 {shown}").into());
    }
    let (_, text) = super::agent::read(file).map_err(anyhow::Error::from)?;
    Ok(Some(Brought::parse(&text)?))
}

pub(super) fn ssh_key(agent: &Agent, json: bool) -> Result<Exit, Failure> {
    let public = agent.ssh_key()?.public().map_err(anyhow::Error::from)?;
    if json {
        print::json(&serde_json::json!({ "ssh_key": public }))?;
    } else {
        print::raw(format!("{public}\n").as_bytes())?;
        print::tell!("hint: this line goes into `.ssh/authorized_keys` of the user who keeps the backups");
    }
    Ok(Exit::Converged)
}
