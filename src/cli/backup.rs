//! `socle agent backup …`: making, listing, checking, showing. What else there is to do has a file of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::agent::told;
use super::backup_drill::DrillArgs;
use super::backup_key::KeyCommand;
use super::backup_remote::{Brings, prune, ssh_key};
use super::progress::Terminal;
use super::restore::summary;
use super::{Exit, backup_drill, backup_key, print};
use crate::agent::backup::{self, BackupError, Errand, Ran, Trouble, Woken};
use crate::agent::reconcile::Agent;
use crate::host::vault::{Depth, Snapshot};
use crate::model::Name;
use crate::model::backup::{TAG, is_free_tag};

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Save the instances now, and read back what was written
    Now {
        /// Of these instances only
        instances: Vec<Name>,
        /// To this repository; without it, to every one
        #[arg(long, value_name = "NAME")]
        repository: Option<Name>,
        /// Give the snapshots this tag besides: `keep` of a repository may name it
        #[arg(long = "tag", value_name = "TAG", value_parser = free_tag)]
        tags: Vec<Name>,
        /// Over this local socket, which leads to the repository
        #[arg(long, value_name = "SOCKET", requires = "repository", hide = true)]
        through: Option<PathBuf>,
    },
    /// List the snapshots, the newest last
    List {
        /// Of this instance only
        instance: Option<Name>,
        /// In this repository; without it, in every one
        #[arg(long, value_name = "NAME")]
        repository: Option<Name>,
    },
    /// Read the repository back: its structure, or every byte (exit 3 if it is damaged)
    Check {
        /// This repository; without it, every one
        #[arg(long, value_name = "NAME")]
        repository: Option<Name>,
        /// Read the content of everything
        #[arg(long)]
        all: bool,
    },
    /// Tell what a snapshot holds
    Show {
        /// Of this instance
        instance: Name,
        /// In this repository; without it, in the first
        #[arg(long, value_name = "NAME")]
        repository: Option<Name>,
        /// The snapshot, by the beginning of its identifier, or the newest not after this time
        #[arg(long, value_name = "SNAPSHOT|TIME")]
        at: Option<String>,
    },
    /// Rehearse a restore where nobody sees it (exit 3 if the instance does not come back)
    Drill(DrillArgs),
    /// Take out what no rule keeps, and give its room back (done each week by itself)
    Prune {
        /// Of this repository; without it, of every one
        #[arg(long, value_name = "NAME")]
        repository: Option<Name>,
        /// A file with the credentials of somebody who may delete, for a repository that is `append_only`
        #[arg(long, value_name = "FILE", requires = "repository")]
        credentials: Option<PathBuf>,
        /// Of the server whose document this is, from another machine; with its recovery key
        #[arg(long, value_name = "FILE", requires = "repository", requires = "key_file")]
        document: Option<PathBuf>,
        /// A file with the recovery key of that server, which nobody else may read
        #[arg(long, value_name = "FILE", requires = "document")]
        key_file: Option<PathBuf>,
    },
    /// Have what a killed backup left standing still go on (exit 3 if it does not)
    Wake,
    /// Show the SSH key that lets this server in where its backups go over SFTP
    SshKey,
    /// Show the recovery key: keep it where the server is not
    Key {
        /// Of this repository; without it, of the first
        #[arg(long, value_name = "NAME")]
        repository: Option<Name>,
        #[command(subcommand)]
        act: Option<KeyCommand>,
    },
}

pub async fn run(agent: &Agent, command: BackupCommand, terminal: &Arc<Terminal>, json: bool) -> anyhow::Result<Exit> {
    let _listening = agent.progress.to(terminal.clone());
    let done = match command {
        BackupCommand::Now { instances, repository, tags, through } => {
            let (only, tags) = (instances.into_iter().collect(), tags.into_iter().collect());
            now(agent, Errand { only, tags, through }, repository.as_ref(), terminal, json).await
        }
        BackupCommand::List { instance, repository } => list(agent, instance.as_ref(), repository.as_ref(), json).await,
        BackupCommand::Check { repository, all } => check(agent, repository.as_ref(), all, terminal, json).await,
        BackupCommand::Show { instance, repository, at } => {
            show(agent, &instance, repository.as_ref(), at.as_deref(), json).await
        }
        BackupCommand::Drill(args) => backup_drill::run(agent, args, terminal, json).await,
        BackupCommand::Prune { repository, credentials, document, key_file } => {
            let brought = Brings { credentials, elsewhere: document.zip(key_file) };
            prune(agent, repository.as_ref(), brought, terminal, json).await
        }
        BackupCommand::Wake => wake(agent, json).await,
        BackupCommand::SshKey => ssh_key(agent, json),
        BackupCommand::Key { repository, act } => backup_key::run(agent, repository.as_ref(), act, json).await,
    };
    terminal.finish();
    done.or_else(|error| failed(error, json))
}

/// A tag of a snapshot that is not one of ours.
fn free_tag(text: &str) -> Result<Name, String> {
    let tag = text.parse::<Name>().map_err(|error| error.to_string())?;
    if is_free_tag(&tag) { Ok(tag) } else { Err(format!("every snapshot carries the tag `{TAG}`")) }
}

/// What stops a command.
pub(super) enum Failure {
    Backup(BackupError),
    Other(anyhow::Error),
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        Failure::Backup(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

pub(super) fn failed(failure: Failure, json: bool) -> anyhow::Result<Exit> {
    match failure {
        Failure::Backup(error) => told(&error.report(), json),
        Failure::Other(error) => Err(error),
    }
}

async fn now(
    agent: &Agent,
    errand: Errand,
    repository: Option<&Name>,
    terminal: &Arc<Terminal>,
    json: bool,
) -> Result<Exit, Failure> {
    let mut all = Vec::new();
    for (name, repository) in agent.repositories(repository)? {
        all.push(agent.back_up(&name, &repository, &errand).await?);
    }
    terminal.finish();
    if json {
        print::json(&all)?;
    } else {
        all.iter().try_for_each(|ran| print::raw(told_of(ran).as_bytes()))?;
        all.iter().for_each(warn_of);
    }
    Ok(if all.iter().all(Ran::all_good) { Exit::Converged } else { Exit::NotConverged })
}

/// What was given, behind the rest of a line.
fn print_tags(tags: &[&str]) -> String {
    if tags.is_empty() { String::new() } else { format!("  [{}]", tags.join(", ")) }
}

fn told_of(ran: &Ran) -> String {
    let mut text = String::new();
    for outcome in &ran.instances {
        let Some(good) = &outcome.good else { continue };
        let id: String = good.snapshot.0.chars().take(8).collect();
        let still = outcome.still_ms.map(|ms| Duration::from_millis(ms).as_secs_f64());
        let still = still.map(|seconds| format!("; it stood still for {seconds:.1} s")).unwrap_or_default();
        text += &format!(
            "{}  saved to {}: snapshot {id}, {} in {} files{still}\n",
            outcome.instance,
            ran.repository,
            print::size(good.bytes),
            good.files
        );
    }
    text
}

fn warn_of(ran: &Ran) {
    for outcome in &ran.instances {
        for path in &outcome.vanished {
            print::tell!("{}: `{}` was gone when it was to be read", outcome.instance, path.display());
        }
        if let Some(error) = &outcome.error {
            print::error_report(error);
        }
    }
    for damage in &ran.check.damage {
        print::error(&format!("{}: `{}`: {}", ran.repository, damage.file, damage.what), None);
    }
    warn_of_troubles(&ran.troubles);
    if ran.new_key {
        print::tell!("the repository `{}` is new: without its key nobody restores anything", ran.repository);
        print::tell!(
            "hint: socle agent backup key --repository {}, and keep it where this server is not",
            ran.repository
        );
    }
}

fn warn_of_troubles(troubles: &[Trouble]) {
    for Trouble { instance, error } in troubles {
        print::error(&format!("{instance} does not go on as it did: {error}"), error.hint.as_deref());
    }
}

async fn list(agent: &Agent, instance: Option<&Name>, repository: Option<&Name>, json: bool) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Listed {
        repository: Name,
        instance: Option<Name>,
        #[serde(flatten)]
        snapshot: Snapshot,
    }
    let mut all = Vec::new();
    for (name, repository) in agent.repositories(repository)? {
        for snapshot in agent.vault.snapshots(&agent.access(&name, &repository)?).await.map_err(BackupError::from)? {
            let of = backup::instance_of(&snapshot.tags);
            if instance.is_none() || of.as_ref() == instance {
                all.push(Listed { repository: name.clone(), instance: of, snapshot });
            }
        }
    }
    if json {
        print::json(&all)?;
    } else {
        for Listed { repository, instance, snapshot } in &all {
            let id: String = snapshot.id.0.chars().take(8).collect();
            let instance = instance.as_ref().map_or("-", Name::as_str);
            let tags = print_tags(&backup::given(&snapshot.tags));
            let line = format!(
                "{id}  {}  {instance}  {}  {} files  {repository}{tags}\n",
                print::time(snapshot.at),
                print::size(snapshot.bytes),
                snapshot.files
            );
            print::raw(line.as_bytes())?;
        }
    }
    Ok(Exit::Converged)
}

async fn check(
    agent: &Agent,
    repository: Option<&Name>,
    all: bool,
    terminal: &Arc<Terminal>,
    json: bool,
) -> Result<Exit, Failure> {
    let depth = if all { Depth::Everything } else { Depth::Structure };
    let mut found = BTreeMap::new();
    for (name, repository) in agent.repositories(repository)? {
        let checked = agent.check_backup(&name, &repository, depth).await?;
        found.insert(name, checked);
    }
    terminal.finish();
    if json {
        print::json(&found)?;
    } else {
        for (name, checked) in &found {
            for damage in &checked.damage {
                print::error(&format!("{name}: `{}`: {}", damage.file, damage.what), None);
            }
            let verdict = if checked.damage.is_empty() { "whole" } else { "DAMAGED" };
            let read = print::size(checked.read);
            print::raw(format!("{name}: {verdict}, {read} of data read back\n").as_bytes())?;
        }
    }
    let whole = found.values().all(|checked| checked.damage.is_empty());
    Ok(if whole { Exit::Converged } else { Exit::NotConverged })
}

async fn show(
    agent: &Agent,
    instance: &Name,
    repository: Option<&Name>,
    at: Option<&str>,
    json: bool,
) -> Result<Exit, Failure> {
    let (name, repository) = agent.repository(repository)?;
    let from = (name.to_string(), agent.access(&name, &repository)?);
    let (plan, manifest) = agent.plan_restore(&from, instance, at).await?;
    if json {
        print::json(&serde_json::json!({
            "snapshot": plan.snapshot,
            "tags": plan.tags,
            "bytes": plan.bytes,
            "files": plan.files,
            "holds": manifest,
        }))?;
    } else {
        print::raw(summary(&plan).as_bytes())?;
        if !plan.tags.is_empty() {
            print::raw(format!("  tags: {}\n", plan.tags.join(", ")).as_bytes())?;
        }
        let databases = manifest.databases.iter().map(|(engine, name)| format!("{} {name}", engine.as_str()));
        let parts = databases.chain(["data, settings and secrets".to_owned(), "the server's document".to_owned()]);
        print::raw(format!("  {}\n", parts.collect::<Vec<_>>().join(", ")).as_bytes())?;
    }
    Ok(Exit::Converged)
}

async fn wake(agent: &Agent, json: bool) -> Result<Exit, Failure> {
    let Woken { names, troubles } = agent.wake_after_backup().await?;
    if json {
        print::json(&serde_json::json!({ "woken": names, "troubles": troubles }))?;
    } else {
        let well = |name: &&Name| troubles.iter().all(|trouble| trouble.instance != **name);
        for name in names.iter().filter(well) {
            print::raw(format!("{name}  goes on\n").as_bytes())?;
        }
        warn_of_troubles(&troubles);
    }
    Ok(if troubles.is_empty() { Exit::Converged } else { Exit::NotConverged })
}
