//! `socle agent backup prune` and `ssh-key`, and the credentials that a person brings.

use std::path::Path;
use std::sync::Arc;

use super::backup::Failure;
use super::progress::Terminal;
use super::{Exit, print};
use crate::agent::backup::{Brought, Tidied};
use crate::agent::reconcile::Agent;
use crate::model::Name;

pub(super) async fn prune(
    agent: &Agent,
    repository: Option<&Name>,
    credentials: Option<&Path>,
    terminal: &Arc<Terminal>,
    json: bool,
) -> Result<Exit, Failure> {
    let brought = bring(credentials)?;
    let mut all = Vec::new();
    for (name, known) in agent.repositories(repository)? {
        // Of those that were not named, one that only takes is somebody else's to prune.
        if repository.is_none() && known.append_only {
            print::tell!("{name}: nothing is deleted by this server");
            continue;
        }
        all.push(agent.prune_backup(&name, &known, brought.as_ref()).await?);
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
