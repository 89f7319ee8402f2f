use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, Subcommand};

use super::agent::told;
use super::client::{ClientError, Controller};
use super::directory::{self, ReadError};
use super::rollout::Rollout;
use super::{Exit, Places, fleet_words, print};
use crate::agent::real;
use crate::controller::api::types::{
    DifferenceBetween, FailureBody, FleetApply, FleetPlan, FleetStatus, PlanLine, RevisionView, ServerPlan,
};
use crate::controller::compose::{self, Files, Fleet};
use crate::model::Name;
use crate::model::problem::Problem;
use crate::model::report::ErrorReport;
use crate::wire::message::Planned;
use crate::wire::seal::{self, Purpose};

#[derive(Debug, Args)]
pub struct FleetArgs {
    #[command(flatten)]
    controller: Controller,
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Check a fleet's directory, all problems at once; needs no controller
    Check {
        /// The directory with `fleet.toml`, `servers/`, `instances/` and `members/`
        directory: PathBuf,
    },
    /// Show what each server would change, as it says itself (exit 3 if there are changes)
    Plan {
        /// The fleet's directory
        directory: PathBuf,
    },
    /// Push the fleet to its servers and follow them
    Apply {
        /// The fleet's directory
        directory: PathBuf,
        /// Why, for the history
        #[arg(long, short, default_value = "")]
        message: String,
        /// Refuse if the newest revision is another one
        #[arg(long, value_name = "REVISION")]
        expect: Option<u64>,
    },
    /// Seal a secret, read from standard input, so that only one server can read it
    Seal {
        /// The server it is for
        server: Name,
        /// The instance it is for
        instance: Name,
        /// The name that its recipe gives the secret
        secret: Name,
    },
    /// Tell where every server stands, what failed, and what to do
    Status,
    /// Tell who applied what when
    History {
        /// How many, newest first
        #[arg(long, short = 'n', default_value_t = 20)]
        lines: u32,
    },
    /// Tell what differs between two revisions
    Diff {
        /// The older one; the one before the newest if not given
        from: Option<u64>,
        /// The newer one; the newest if not given
        to: Option<u64>,
    },
}

pub fn run(FleetArgs { controller, command }: FleetArgs, places: Places, json: bool) -> anyhow::Result<Exit> {
    let controller = controller.on_socket(places.socket);
    if let FleetCommand::Check { directory } = &command {
        return check(directory, json);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        match command {
            FleetCommand::Check { directory } => check(&directory, json),
            FleetCommand::Plan { directory } => plan(&controller, &directory, json).await,
            FleetCommand::Apply { directory, message, expect } => {
                apply(&controller, &directory, message, expect, json).await
            }
            FleetCommand::Seal { server, instance, secret } => {
                seal(&controller, &server, &instance, &secret, json).await
            }
            FleetCommand::Status => status(&controller, json).await,
            FleetCommand::History { lines } => history(&controller, lines, json).await,
            FleetCommand::Diff { from, to } => diff(&controller, from, to, json).await,
        }
    })
}

/// The line for the instance's file. The secret leaves this process only sealed.
async fn seal(
    controller: &Controller,
    server: &Name,
    instance: &Name,
    secret: &Name,
    json: bool,
) -> anyhow::Result<Exit> {
    let status: FleetStatus = match controller.get("/v1/fleet/status").await {
        Ok(status) => status,
        Err(error) => return error.tell(json),
    };
    let known = status.servers.into_iter().find(|known| known.server == *server);
    let Some(key) = known.and_then(|known| known.sealing_key) else {
        print::error(&format!("`{server}` has not enrolled"), Some(&format!("socle controller server add {server}")));
        return Ok(Exit::BadInput);
    };
    let key = BASE64_STANDARD.decode(key).context("the controller's answer cannot be read")?;
    let mut value = String::new();
    std::io::stdin().read_to_string(&mut value).context("cannot read the secret from standard input")?;
    let value = value.trim_end_matches('\n');
    if value.is_empty() || value.contains(char::is_control) {
        print::error("the secret must be one line of text", Some("it is read from standard input"));
        return Ok(Exit::BadInput);
    }
    let sealed = seal::seal(&key, Purpose { server, instance, secret }, value.as_bytes())?;
    if json {
        print::json(&serde_json::json!({ "secret": secret, "sealed": sealed }))?;
    } else {
        print::raw(format!("{secret} = \"{sealed}\"\n").as_bytes())?;
        super::print::tell!("put this line under [secrets] in instances/{instance}.toml");
    }
    Ok(Exit::Converged)
}

/// What `check` found: the fleet, or all of its problems.
struct Checked {
    fleet: Result<Fleet, Vec<Problem>>,
    notes: Vec<Problem>,
}

fn check(directory: &Path, json: bool) -> anyhow::Result<Exit> {
    let checked = match look(directory) {
        Ok(checked) => checked,
        Err(Refused::Problems(problems)) => Checked { fleet: Err(problems), notes: Vec::new() },
        Err(Refused::Unreadable(report)) => return told(&report, json),
        Err(Refused::Error(error)) => return Err(error),
    };
    if !json {
        print::problem_notes(&checked.notes);
    }
    match checked.fleet {
        Err(problems) => {
            if json {
                print::json(&serde_json::json!({ "problems": problems, "notes": checked.notes }))?;
            } else {
                print::problems(&problems);
            }
            Ok(Exit::BadInput)
        }
        Ok(fleet) => {
            if json {
                let documents: BTreeMap<_, _> =
                    fleet.servers.iter().map(|(name, server)| (name, &server.text)).collect();
                print::json(&serde_json::json!({
                    "fleet": fleet.name, "members": fleet.members, "documents": documents, "notes": checked.notes,
                }))?;
            } else {
                let instances: usize = fleet.servers.values().map(|server| server.document.instances.len()).sum();
                let (servers, name) = (fleet.servers.len(), &fleet.name);
                let text = format!("{name}: no problem found; {servers} server(s), {instances} instance(s)\n");
                print::raw(text.as_bytes())?;
            }
            Ok(Exit::Converged)
        }
    }
}

enum Refused {
    Problems(Vec<Problem>),
    /// What was named as the fleet's directory.
    Unreadable(ErrorReport),
    Error(anyhow::Error),
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Refused(problems) => Refused::Problems(problems),
            ReadError::Read(..) => Refused::Unreadable(error.report()),
        }
    }
}

/// A fleet in all its aspects: its own, and what the recipes say to it.
fn look(directory: &Path) -> Result<Checked, Refused> {
    let files = directory::read(directory)?;
    let catalog = real::catalog(Path::new("/")).map_err(|error| match error {
        real::SetupError::Recipes(problems) => Refused::Problems(problems),
        error => Refused::Error(error.into()),
    })?;
    let fleet = match compose::compose(&files) {
        Ok(fleet) => fleet,
        Err(problems) => return Err(Refused::Problems(directory::below(directory, problems))),
    };
    let found = compose::check_recipes(&fleet, &files, &catalog);
    let (problems, notes) = (directory::below(directory, found.problems), directory::below(directory, found.notes));
    Ok(Checked { fleet: if problems.is_empty() { Ok(fleet) } else { Err(problems) }, notes })
}

/// The files, or how the program ends.
fn read(directory: &Path, json: bool) -> anyhow::Result<Result<Files, Exit>> {
    match directory::read(directory).map_err(Refused::from) {
        Ok(files) => Ok(Ok(files)),
        Err(Refused::Error(error)) => Err(error),
        Err(Refused::Unreadable(report)) => told(&report, json).map(Err),
        Err(Refused::Problems(problems)) => {
            if json {
                print::json(&serde_json::json!({ "problems": problems }))?;
            } else {
                print::problems(&problems);
            }
            Ok(Err(Exit::BadInput))
        }
    }
}

/// The controller names files below the fleet's directory; the user is elsewhere.
fn at_home(error: ClientError, directory: &Path) -> ClientError {
    match error {
        ClientError::Refused { status, body } => {
            let FailureBody { error, problems } = *body;
            let body = Box::new(FailureBody { error, problems: directory::below(directory, problems) });
            ClientError::Refused { status, body }
        }
        error => error,
    }
}

async fn plan(controller: &Controller, directory: &Path, json: bool) -> anyhow::Result<Exit> {
    let files = match read(directory, json)? {
        Ok(files) => files,
        Err(exit) => return Ok(exit),
    };
    let mut lines: Vec<PlanLine> = Vec::new();
    let mut shown = Ok(());
    let body = FleetPlan { files };
    let asked = controller.lines("POST", "/v1/fleet/plan", &body, |line| {
        if !json && shown.is_ok() {
            shown = show_plan(directory, &line);
        }
        lines.push(line);
    });
    if let Err(error) = asked.await {
        return at_home(error, directory).tell(json);
    }
    shown?;
    if json {
        print::json(&lines)?;
    }
    match lines.last() {
        Some(PlanLine::End { changes: false }) => Ok(Exit::Converged),
        Some(PlanLine::End { changes: true }) => Ok(Exit::NotConverged),
        _ => ClientError::EndedEarly.tell(json),
    }
}

fn show_plan(directory: &Path, line: &PlanLine) -> anyhow::Result<()> {
    match line {
        PlanLine::Fleet { difference, notes } => {
            print::problem_notes(&directory::below(directory, notes.clone()));
            match difference {
                Some(difference) => print::raw(difference.to_string().as_bytes())?,
                None => print::tell!("the newest revision cannot be compared: this program does not read it any more"),
            }
            Ok(())
        }
        PlanLine::Server { server, plan } => show_server_plan(server, plan),
        PlanLine::End { .. } => Ok(()),
    }
}

pub fn show_server_plan(server: &Name, plan: &ServerPlan) -> anyhow::Result<()> {
    print::heading(server.as_str())?;
    match plan {
        ServerPlan::Planned { planned: Planned::Preview { preview } } => print::preview(preview),
        ServerPlan::Planned { planned: Planned::Refused { problems } } => {
            print::problems(problems);
            Ok(())
        }
        ServerPlan::Planned { planned: Planned::Failed { error } } | ServerPlan::Unknown { error } => {
            print::error_report(error);
            Ok(())
        }
    }
}

async fn apply(
    controller: &Controller,
    directory: &Path,
    message: String,
    expect: Option<u64>,
    json: bool,
) -> anyhow::Result<Exit> {
    let files = match read(directory, json)? {
        Ok(files) => files,
        Err(exit) => return Ok(exit),
    };
    let body = FleetApply { files, message, expect };
    match follow(controller, ("POST", "/v1/fleet/apply"), &body, Some(directory), json).await? {
        Ok(exit) => Ok(exit),
        Err(error) => at_home(error, directory).tell(json),
    }
}

/// Pushes, and shows the servers until the end. What is noted about files is told below `directory`.
pub async fn follow(
    controller: &Controller,
    (method, path): (&str, &str),
    body: &impl serde::Serialize,
    directory: Option<&Path>,
    json: bool,
) -> anyhow::Result<Result<Exit, ClientError>> {
    let mut rollout = Rollout::new(directory);
    let done = controller.lines(method, path, body, |line| rollout.line(line)).await;
    rollout.finish();
    if let Err(error) = done {
        return Ok(Err(error));
    }
    if json {
        print::json(&rollout.lines)?;
    } else {
        rollout.summary()?;
    }
    Ok(Ok(if rollout.converged { Exit::Converged } else { Exit::NotConverged }))
}

async fn status(controller: &Controller, json: bool) -> anyhow::Result<Exit> {
    let status: FleetStatus = match controller.get("/v1/fleet/status").await {
        Ok(status) => status,
        Err(error) => return error.tell(json),
    };
    if json {
        print::json(&status)?;
    } else {
        print::raw(fleet_words::status(&status).as_bytes())?;
    }
    Ok(if fleet_words::is_well(&status) { Exit::Converged } else { Exit::NotConverged })
}

async fn history(controller: &Controller, lines: u32, json: bool) -> anyhow::Result<Exit> {
    match controller.get::<Vec<RevisionView>>(&format!("/v1/fleet/revisions?limit={lines}")).await {
        Ok(revisions) if json => print::json(&revisions)?,
        Ok(revisions) => print::raw(fleet_words::history(&revisions).as_bytes())?,
        Err(error) => return error.tell(json),
    }
    Ok(Exit::Converged)
}

async fn diff(controller: &Controller, from: Option<u64>, to: Option<u64>, json: bool) -> anyhow::Result<Exit> {
    let number = |name: &str, value: Option<u64>| value.map(|number| format!("{name}={number}"));
    let query: Vec<_> = [number("from", from), number("to", to)].into_iter().flatten().collect();
    match controller.get::<DifferenceBetween>(&format!("/v1/fleet/diff?{}", query.join("&"))).await {
        Ok(between) if json => print::json(&between)?,
        Ok(between) if between.difference.is_empty() => print::raw(b"no difference\n")?,
        Ok(between) => print::raw(between.difference.to_string().as_bytes())?,
        Err(error) => return error.tell(json),
    }
    Ok(Exit::Converged)
}
