use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Subcommand;
use tokio::net::UnixStream;

use super::backup::{self, BackupCommand};
use super::cert::{self, CertCommand};
use super::client::Controller;
use super::progress::Terminal;
use super::restore::{self, RecoverArgs, RestoreArgs};
use super::{Exit, Places, join, print};
use crate::agent::certificates::tending::{self, Ask};
use crate::agent::door::{self, Reply, Request};
use crate::agent::reconcile::{Agent, AgentError};
use crate::agent::{Ledger, daemon, real};
use crate::controller::api::types::{ServerDocument, ServerPlan};
use crate::engine::Events;
use crate::model::Name;
use crate::model::certificate::Source;
use crate::model::report::{ErrorReport, Report};
use crate::wire::message::Planned;

#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Check a document, all problems at once
    Check {
        /// The document; `-` for standard input
        file: PathBuf,
    },
    /// Show what an apply would change, and change nothing (exit 3 if there are changes)
    Plan {
        /// The document; without it, the one accepted last
        file: Option<PathBuf>,
        /// Of another server, through its controller
        #[arg(long, value_name = "NAME", requires = "file")]
        server: Option<Name>,
        #[command(flatten)]
        controller: Controller,
    },
    /// Accept a document and bring the server to it
    Apply {
        /// The document; `-` for standard input; without it, the one accepted last
        file: Option<PathBuf>,
        /// List also what needed no change
        #[arg(long, short)]
        verbose: bool,
        /// On another server, through its controller
        #[arg(long, value_name = "NAME", requires = "file")]
        server: Option<Name>,
        #[command(flatten)]
        controller: Controller,
    },
    /// Tell what runs, in which version, since when, and what failed
    Status,
    /// Bring back the last good form of an instance
    Rollback { instance: Name },
    /// Remove the data, databases and account of an instance that is `absent`
    Purge {
        instance: Name,
        /// Do it; without this, only show what would be removed
        #[arg(long)]
        yes: bool,
    },
    /// Look at the certificates of the sites, renew and revoke them
    #[command(subcommand)]
    Cert(CertCommand),
    /// Save the instances, and look at what was saved
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Bring the data of an instance back from a backup
    Restore(RestoreArgs),
    /// Make this blank server the one that was lost
    Recover(RecoverArgs),
    /// Show the journal of an instance's services
    Logs {
        instance: Name,
        /// How many lines
        #[arg(long, short = 'n', default_value_t = 50)]
        lines: u32,
        /// Wait for more
        #[arg(long, short)]
        follow: bool,
    },
    /// Make this server one of a controller's fleet
    Join {
        /// The file with the join token, which nobody else may read; `-` for standard input
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
    /// Make join tokens unreadable in what cloud-init keeps of its user data: what cloud-init runs at the end of a boot
    #[command(hide = true)]
    ForgetTokens,
    /// Look after this server: what the service runs
    Run,
}

pub fn run(command: AgentCommand, places: Places, json: bool) -> anyhow::Result<Exit> {
    if matches!(command, AgentCommand::Run) {
        crate::telemetry::init(std::env::var_os("JOURNAL_STREAM").is_some(), None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(go(command, places, json))
}

async fn go(command: AgentCommand, places: Places, json: bool) -> anyhow::Result<Exit> {
    let Places { state, socket, .. } = places;
    let command = match command {
        AgentCommand::Plan { file: Some(file), server: Some(server), controller } => {
            return remote(Remote::Plan, &controller.on_socket(socket), &server, &file, json).await;
        }
        AgentCommand::Apply { file: Some(file), server: Some(server), controller, .. } => {
            return remote(Remote::Apply, &controller.on_socket(socket), &server, &file, json).await;
        }
        here => here,
    };
    let terminal = Arc::new(Terminal::new());
    let agent = match real::agent(Path::new("/"), &state) {
        Ok(agent) => agent,
        Err(real::SetupError::Recipes(problems)) => {
            return refused(&problems, json);
        }
        Err(error) => return Err(error.into()),
    };
    match command {
        AgentCommand::Check { file } => {
            let (file, text) = match read(&file) {
                Ok(read) => read,
                Err(error) => return told(&error.report(), json),
            };
            match agent.check(&file, &text) {
                Ok(document) if json => print::json(&document)?,
                Ok(_) => print::raw(format!("{file}: no problem found\n").as_bytes())?,
                Err(error) => return failed(error, json),
            }
            Ok(Exit::Converged)
        }
        AgentCommand::Plan { file, .. } => plan(&agent, file, json).await,
        AgentCommand::Apply { file, verbose, .. } => {
            let request = match file {
                Some(file) => match read(&file) {
                    Ok((file, text)) => Request::Apply { file, text },
                    Err(error) => return told(&error.report(), json),
                },
                None => Request::Reconcile,
            };
            ask(&agent, request, &terminal, json, verbose).await
        }
        AgentCommand::Status => match agent.status().await {
            Ok(status) if json => print::json(&status).map(|()| Exit::Converged),
            Ok(status) => print::status(&status).map(|()| Exit::Converged),
            Err(error) => failed(error, json),
        },
        AgentCommand::Rollback { instance } => {
            ask(&agent, Request::Rollback { name: instance }, &terminal, json, false).await
        }
        AgentCommand::Purge { instance, yes: false } => match agent.plan_purge(&instance).await {
            Ok(preview) => {
                if json {
                    print::json(&preview)?
                } else {
                    print::preview(&preview)?
                }
                if !json {
                    super::print::tell!("nothing was removed; add --yes to do it");
                }
                Ok(Exit::NotConverged)
            }
            Err(error) => failed(error, json),
        },
        AgentCommand::Purge { instance, yes: true } => {
            ask(&agent, Request::Purge { name: instance }, &terminal, json, false).await
        }
        AgentCommand::Cert(command) => cert::run(&agent, command, &terminal, json).await,
        AgentCommand::Backup(command) => backup::run(&agent, command, &terminal, json).await,
        AgentCommand::Restore(args) => restore::restore(&agent, args, &terminal, json).await,
        AgentCommand::Recover(args) => restore::recover(&agent, args, &terminal, json).await,
        AgentCommand::Logs { instance, lines, follow } => logs(&agent, &instance, lines, follow).await,
        AgentCommand::Join { token_file } => join::join(&agent, &token_file, json).await,
        AgentCommand::ForgetTokens => join::forget_tokens(&agent.host.root, json),
        AgentCommand::Run => {
            let keeper = real::keeper(&agent);
            daemon::run(agent, keeper).await.map(|()| Exit::Converged).map_err(Into::into)
        }
    }
}

/// What is asked of another server's agent.
#[derive(Clone, Copy)]
enum Remote {
    Plan,
    Apply,
}

/// Through the controller, which signs and pushes: this machine need not be a server of the fleet.
async fn remote(act: Remote, controller: &Controller, server: &Name, file: &Path, json: bool) -> anyhow::Result<Exit> {
    let body = match read(file) {
        Ok((file, text)) => ServerDocument { file, text },
        Err(error) => return told(&error.report(), json),
    };
    match act {
        Remote::Apply => {
            let path = format!("/v1/servers/{server}/document");
            match super::fleet::follow(controller, ("PUT", &path), &body, None, json).await? {
                Ok(exit) => Ok(exit),
                Err(error) => error.tell(json),
            }
        }
        Remote::Plan => {
            let plan: ServerPlan =
                match controller.ask("POST", &format!("/v1/servers/{server}/plan"), Some(&body)).await {
                    Ok(plan) => plan,
                    Err(error) => return error.tell(json),
                };
            if json {
                print::json(&plan)?;
            } else {
                super::fleet::show_server_plan(server, &plan)?;
            }
            Ok(match &plan {
                ServerPlan::Planned { planned: Planned::Preview { preview } } if preview.is_empty() => Exit::Converged,
                ServerPlan::Planned { planned: Planned::Refused { .. } } => Exit::BadInput,
                ServerPlan::Planned { planned: Planned::Failed { .. } } | ServerPlan::Unknown { .. } => {
                    Exit::Unexpected
                }
                ServerPlan::Planned { .. } => Exit::NotConverged,
            })
        }
    }
}

async fn plan(agent: &Agent, file: Option<PathBuf>, json: bool) -> anyhow::Result<Exit> {
    let planned = match file {
        Some(file) => match read(&file) {
            Ok((file, text)) => agent.plan(&file, &text).await,
            Err(error) => return told(&error.report(), json),
        },
        None => match Ledger::load(&agent.state).map(|ledger| ledger.accepted) {
            Ok(Some(accepted)) => agent.plan(&accepted.file, &accepted.text).await,
            Ok(None) => Err(AgentError::NothingAccepted),
            Err(error) => Err(error.into()),
        },
    };
    match planned {
        Ok(preview) => {
            if json {
                print::json(&preview)?
            } else {
                print::preview(&preview)?
            }
            Ok(if preview.is_empty() { Exit::Converged } else { Exit::NotConverged })
        }
        Err(error) => failed(error, json),
    }
}

/// Through the daemon if it runs, else here.
pub(super) async fn ask(
    agent: &Agent,
    request: Request,
    terminal: &Arc<Terminal>,
    json: bool,
    verbose: bool,
) -> anyhow::Result<Exit> {
    let events: &dyn Events = terminal;
    let reply = match UnixStream::connect(agent.host.path(door::SOCKET)).await {
        Ok(stream) => door::ask(stream, &request.into(), events).await?,
        // Nobody listens: the daemon does not run, so nothing else holds the lock for long.
        Err(_) => {
            let _listening = agent.progress.to(terminal.clone());
            let ordering = matches!(request, Request::Apply { .. } | Request::Reconcile);
            match door::handle(agent, request, events).await {
                Reply::Report(report) if ordering => Reply::Report(with_certificates(agent, report, events).await?),
                reply => reply,
            }
        }
    };
    terminal.finish();
    match reply {
        Reply::Report(report) => {
            if json {
                print::json(&report)?
            } else {
                print::report(&report, verbose)?
            }
            Ok(Exit::of(&report))
        }
        Reply::Refused { problems } => refused(&problems, json),
        Reply::Failed { error } => told(&error, json),
        Reply::Event(_) | Reply::Certificates { .. } => anyhow::bail!("the agent's last line was no outcome"),
    }
}

/// Without the daemon nobody else orders certificates: so it is done now, and the wait is seen.
async fn with_certificates(agent: &Agent, mut report: Report, events: &dyn Events) -> anyhow::Result<Report> {
    let settings = agent.ordered()?;
    if settings.certificates.values().any(|wanted| matches!(wanted.source, Source::Acme(_) | Source::Internal)) {
        let done = tending::tend_here(agent, &real::keeper(agent), Ask::Due, events).await;
        match done {
            Ok(standings) => report.certificates = standings,
            Err(error) => report.notes.push(format!("certificates: {error}")),
        }
    }
    Ok(report)
}

fn refused(problems: &[crate::model::problem::Problem], json: bool) -> anyhow::Result<Exit> {
    if json {
        print::json(&serde_json::json!({ "problems": problems }))?
    } else {
        print::problems(problems)
    }
    Ok(Exit::BadInput)
}

pub(super) fn failed(error: AgentError, json: bool) -> anyhow::Result<Exit> {
    if let AgentError::Refused(problems) = &error {
        return refused(problems, json);
    }
    told(&error.report(), json)
}

pub(super) fn told(report: &ErrorReport, json: bool) -> anyhow::Result<Exit> {
    if json {
        print::json(report)?
    } else {
        print::error_report(report)
    }
    Ok(exit_of(&report.code))
}

/// What the user asked for was wrong, or something else was.
fn exit_of(code: &str) -> Exit {
    match code {
        "agent.no-such-instance"
        | "agent.still-wanted"
        | "agent.nothing-to-go-back-to"
        | "agent.nothing-accepted"
        | "document.unreadable"
        | "certificate.unknown"
        | "certificate.authority"
        | "certificate.not-ordered"
        | "fleet.unreadable"
        | "backup.no-repository"
        | "backup.no-key"
        | "backup.no-server"
        | "backup.not-brought"
        | "backup.credentials"
        | "backup.append-only"
        | "backup.no-snapshot"
        | "backup.other-recipe"
        | "backup.other-domain"
        | "backup.no-domain"
        | "backup.left-over"
        | "backup.fed"
        | "backup.not-blank"
        | "backup.nothing"
        | "vault.wrong-key" => Exit::BadInput,
        _ => Exit::Unexpected,
    }
}

/// The document that was named cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {0}")]
pub(super) struct Unreadable(String, #[source] std::io::Error);

impl Unreadable {
    fn report(&self) -> ErrorReport {
        let hint = match self.1.kind() {
            ErrorKind::NotFound => "give the path of a document, or `-` for standard input",
            ErrorKind::PermissionDenied => "run it as root",
            _ => "a document is a text file (UTF-8)",
        };
        ErrorReport::of("document.unreadable", self, Some(hint.to_owned()))
    }
}

/// What the document is called, and its text.
pub(super) fn read(file: &Path) -> Result<(String, String), Unreadable> {
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Unreadable("standard input".to_owned(), error))?;
        return Ok(("-".to_owned(), text));
    }
    let shown = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Ok((shown, text)),
        Err(error) => Err(Unreadable(format!("`{shown}`"), error)),
    }
}

async fn logs(agent: &Agent, instance: &Name, lines: u32, follow: bool) -> anyhow::Result<Exit> {
    let mut args = vec![
        "--no-pager".to_owned(),
        format!("--lines={lines}"),
        format!("--unit=socle-{instance}.*"),
        format!("--unit=socle-{instance}-*"),
    ];
    if follow {
        args.push("--follow".to_owned());
    }
    let known = agent.status().await.map_err(anyhow::Error::from)?.instances.iter().any(|i| i.name == *instance);
    if !known {
        return failed(AgentError::NoSuchInstance(instance.clone()), false);
    }
    Err(crate::host::process::hand_over("/usr/bin/journalctl", &args)).context("cannot run journalctl")
}
