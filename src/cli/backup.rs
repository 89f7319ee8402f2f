//! `socle agent backup …`, `restore` and `recover`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::Serialize;

use super::agent::{ask, told};
use super::backup_drill::DrillArgs;
use super::backup_key::KeyCommand;
use super::backup_remote::{Brings, bring, prune, ssh_key};
use super::progress::Terminal;
use super::{Exit, backup_drill, backup_key, print, restore_beside};
use crate::agent::backup::{self, BackupError, Ran, restore::RestorePlan};
use crate::agent::door::Request;
use crate::agent::real;
use crate::agent::reconcile::Agent;
use crate::host::vault::{Access, Depth, Snapshot};
use crate::model::document::RepositoryLocation;
use crate::model::{Domain, Name, Secret};

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Save the instances now, and read back what was written
    Now {
        /// Of these instances only
        instances: Vec<Name>,
        /// To this repository; without it, to every one
        #[arg(long, value_name = "NAME")]
        repository: Option<Name>,
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
    /// Start again what a killed backup left standing still
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

/// What a restore is told.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Of this instance
    pub(super) instance: Name,
    /// From this repository; without it, from the first
    #[arg(long, value_name = "NAME")]
    pub(super) repository: Option<Name>,
    /// The snapshot, by the beginning of its identifier, or the newest not after this time (2026-11-23T02:00Z)
    #[arg(long, value_name = "SNAPSHOT|TIME")]
    pub(super) at: Option<String>,
    /// Bring it back as another instance, beside the one that was saved
    #[arg(long = "as", value_name = "NAME")]
    other: Option<Name>,
    /// The domain of the other instance
    #[arg(long, value_name = "DOMAIN", requires = "other")]
    pub(super) domain: Option<Domain>,
    /// A file with the credentials of the repository, instead of those that the document names
    #[arg(long, value_name = "FILE")]
    pub(super) credentials: Option<PathBuf>,
    /// Do it; without this, only show what would be done
    #[arg(long)]
    pub(super) yes: bool,
}

/// What a recovery is told.
#[derive(Debug, clap::Args)]
pub struct RecoverArgs {
    /// Where the backups are, as the document said it: a directory, `sftp://…`, `rest:https://…` or `s3:https://…`
    #[arg(long, value_name = "LOCATION")]
    repository: RepositoryLocation,
    /// A file with the recovery key, which nobody else may read; `-` for standard input
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// A file with the credentials of the repository, which nobody else may read
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
}

pub async fn run(agent: &Agent, command: BackupCommand, terminal: &Arc<Terminal>, json: bool) -> anyhow::Result<Exit> {
    let _listening = agent.progress.to(terminal.clone());
    let done = match command {
        BackupCommand::Now { instances, repository } => {
            now(agent, &instances, repository.as_ref(), terminal, json).await
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

pub async fn restore(agent: &Agent, args: RestoreArgs, terminal: &Arc<Terminal>, json: bool) -> anyhow::Result<Exit> {
    if let Some(other) = &args.other {
        return restore_beside::run(agent, &args, other, terminal, json).await;
    }
    let begun = Instant::now();
    let staged = {
        let _listening = agent.progress.to(terminal.clone());
        stage_restore(agent, &args).await
    };
    terminal.finish();
    match staged {
        Err(Failure::Backup(error)) => told(&error.report(), json),
        Err(Failure::Other(error)) => Err(error),
        Ok(plan) if !args.yes => {
            if json {
                print::json(&plan)?
            } else {
                print::raw(words(&plan).as_bytes())?
            }
            if !json {
                print::tell!("nothing was changed; add --yes to do it");
            }
            Ok(Exit::NotConverged)
        }
        Ok(_) => {
            let exit = ask(agent, Request::Reconcile, terminal, json, false).await?;
            Ok(timed(exit, begun))
        }
    }
}

/// How long it took until everything answered again: what an owner may count on.
pub(super) fn timed(exit: Exit, begun: Instant) -> Exit {
    if exit == Exit::Converged {
        print::tell!("brought back in {:.1} s", begun.elapsed().as_secs_f64());
    }
    exit
}

pub async fn recover(agent: &Agent, args: RecoverArgs, terminal: &Arc<Terminal>, json: bool) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let (_, text) = super::agent::read(&args.key_file)?;
    let brought = match bring(args.credentials.as_deref()) {
        Ok(brought) => brought.unwrap_or_default(),
        Err(failure) => return failed(failure, json),
    };
    let staged = {
        let _listening = agent.progress.to(terminal.clone());
        agent.stage_recovery(&args.repository, Secret::new(text.trim()), &brought).await
    };
    terminal.finish();
    let text = match staged {
        Ok(text) => text,
        Err(error) => return told(&error.report(), json),
    };
    // Recipes are read at start, and some may have come just now.
    let agent = &real::agent(&agent.host.root, &agent.state)?;
    let daemon = "socle-agent.service";
    let states = agent.host.units.states(&[daemon.to_owned()].into()).await;
    if states.is_ok_and(|states| states.get(daemon).is_some_and(|state| state.active == "active"))
        && let Err(error) = agent.host.units.restart(daemon).await
    {
        return told(&error.report(), json);
    }
    let request = Request::Apply { file: "document.toml".to_owned(), text };
    let exit = ask(agent, request, terminal, json, false).await?;
    if exit == Exit::Converged
        && let Err(error) = agent.recovered()
    {
        return told(&error.report(), json);
    }
    Ok(timed(exit, begun))
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
    instances: &[Name],
    repository: Option<&Name>,
    terminal: &Arc<Terminal>,
    json: bool,
) -> Result<Exit, Failure> {
    let only: BTreeSet<Name> = instances.iter().cloned().collect();
    let mut all = Vec::new();
    for (name, repository) in agent.repositories(repository)? {
        all.push(agent.back_up(&name, &repository, &only).await?);
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
    if ran.new_key {
        print::tell!("the repository `{}` is new: without its key nobody restores anything", ran.repository);
        print::tell!(
            "hint: socle agent backup key --repository {}, and keep it where this server is not",
            ran.repository
        );
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
            let line = format!(
                "{id}  {}  {instance}  {}  {} files  {repository}\n",
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
    let mut found = std::collections::BTreeMap::new();
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
        print::json(
            &serde_json::json!({ "snapshot": plan.snapshot, "bytes": plan.bytes, "files": plan.files, "holds": manifest }),
        )?;
    } else {
        print::raw(summary(&plan).as_bytes())?;
        let databases = manifest.databases.iter().map(|(engine, name)| format!("{} {name}", engine.as_str()));
        let parts = databases.chain(["data, settings and secrets".to_owned(), "the server's document".to_owned()]);
        print::raw(format!("  {}\n", parts.collect::<Vec<_>>().join(", ")).as_bytes())?;
    }
    Ok(Exit::Converged)
}

async fn wake(agent: &Agent, json: bool) -> Result<Exit, Failure> {
    let woken = agent.wake_after_backup().await?;
    if json {
        print::json(&woken)?;
    } else {
        for name in woken {
            print::raw(format!("{name}  started again\n").as_bytes())?;
        }
    }
    Ok(Exit::Converged)
}

async fn stage_restore(agent: &Agent, args: &RestoreArgs) -> Result<RestorePlan, Failure> {
    let (name, repository) = agent.repository(args.repository.as_ref())?;
    let brought = bring(args.credentials.as_deref())?;
    let from: (String, Access) = (name.to_string(), agent.access_by(&name, &repository, brought.as_ref())?);
    let (plan, manifest) = agent.plan_restore(&from, &args.instance, args.at.as_deref()).await?;
    if args.yes {
        agent.stage_restore(&from, &plan, &manifest).await?;
    }
    Ok(plan)
}

fn words(plan: &RestorePlan) -> String {
    let place = if plan.replaces {
        "takes the place of what is there now; it is down meanwhile"
    } else {
        "nothing is there now"
    };
    format!("{}  {place}\n", summary(plan))
}

pub(super) fn summary(plan: &RestorePlan) -> String {
    let id: String = plan.snapshot.0.chars().take(8).collect();
    let databases = match plan.databases {
        0 => String::new(),
        1 => ", 1 database".to_owned(),
        more => format!(", {more} databases"),
    };
    format!(
        "{}  from snapshot {id} of {} ({}, {}): version {}, {} in {} files{databases}\n",
        plan.instance,
        print::time(plan.at),
        plan.repository,
        plan.server,
        plan.version,
        print::size(plan.bytes),
        plan.files,
    )
}
