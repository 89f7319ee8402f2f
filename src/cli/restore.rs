//! `socle agent restore` and `socle agent recover`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::agent::{ask, told};
use super::backup::{Failure, failed};
use super::backup_remote::bring;
use super::progress::Terminal;
use super::{Exit, print, restore_beside};
use crate::agent::backup::restore::RestorePlan;
use crate::agent::door::Request;
use crate::agent::real;
use crate::agent::reconcile::Agent;
use crate::host::vault::Access;
use crate::model::document::RepositoryLocation;
use crate::model::{Domain, Name, Secret};

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
