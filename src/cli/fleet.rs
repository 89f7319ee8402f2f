use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::directory::{self, ReadError};
use super::{Exit, print};
use crate::agent::real;
use crate::controller::compose::{self, Fleet};
use crate::model::problem::Problem;

#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Check a fleet's directory, all problems at once
    Check {
        /// The directory with `fleet.toml`, `servers/`, `instances/` and `members/`
        directory: PathBuf,
    },
}

pub fn run(command: FleetCommand, json: bool) -> anyhow::Result<Exit> {
    match command {
        FleetCommand::Check { directory } => check(&directory, json),
    }
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
                let documents: std::collections::BTreeMap<_, _> =
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
    Error(anyhow::Error),
}

/// A fleet in all its aspects: its own, and what the recipes say to it.
fn look(directory: &Path) -> Result<Checked, Refused> {
    let files = directory::read(directory).map_err(|error| match error {
        ReadError::Refused(problems) => Refused::Problems(problems),
        error => Refused::Error(error.into()),
    })?;
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
