//! The command line: parses, calls, prints, and turns outcomes into exit codes. No logic.

mod agent;
mod backup;
mod backup_drill;
mod backup_key;
mod backup_remote;
mod catalog;
mod cert;
mod client;
mod controller;
mod controller_home;
mod directory;
mod exit;
mod fleet;
mod fleet_words;
mod join;
mod link;
mod manual;
mod print;
mod privilege;
mod progress;
mod restore;
mod restore_beside;
mod rollout;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use exit::Exit;

/// The free base under the servers of a small hosting association
#[derive(Debug, Parser)]
#[command(name = "socle", version, about, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 as wanted, 1 unexpected error, 2 bad input, 3 not as wanted (yet).")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON on standard output
    #[arg(long, global = true)]
    json: bool,
}

// The program with what tests set. That is no part of `Cli`: completions offer hidden options too.
/// The free base under the servers of a small hosting association
#[derive(Debug, Parser)]
#[command(name = "socle")]
struct Called {
    #[command(flatten)]
    cli: Cli,
    #[command(flatten)]
    places: Places,
}

/// Where things are; only tests have them elsewhere.
#[derive(Debug, Args)]
struct Places {
    /// The agent's state directory
    #[arg(long, global = true, hide = true, default_value = "/var/lib/socle")]
    state: PathBuf,
    /// The controller's directory
    #[arg(long, global = true, hide = true, default_value = "/var/lib/socle-controller")]
    home: PathBuf,
    /// The controller's configuration
    #[arg(long, global = true, hide = true, default_value = "/etc/socle/controller.toml")]
    config: PathBuf,
    /// The controller's local socket
    #[arg(long, global = true, hide = true)]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring this server to its desired state, and look after it
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Bring all servers of a fleet to their desired state
    Fleet(fleet::FleetArgs),
    /// Hold a fleet's desired state, and let its servers in
    Controller(controller::ControllerArgs),
    /// The connection of this server to its controller
    #[command(subcommand, hide = true)]
    Link(link::LinkCommand),
    /// The applications that can be installed
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// Print the JSON Schema of a document
    Schema {
        /// Of the files of a fleet's directory instead, by the place of the file
        #[arg(long)]
        fleet: bool,
    },
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man { directory: PathBuf },
}

/// Runs the program and tells its exit code.
pub fn main() -> Exit {
    let Called { cli, places } = match Called::try_parse() {
        Ok(called) => called,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::BadInput } else { Exit::Converged };
        }
    };
    let done = match cli.command {
        Command::Agent(command) => agent::run(command, places, cli.json),
        Command::Link(command) => link::run(command),
        Command::Catalog(command) => catalog::run(&command, cli.json),
        Command::Fleet(command) => fleet::run(command, places, cli.json),
        Command::Controller(command) => controller::run(command, places, cli.json),
        Command::Schema { fleet: false } => print::json(&crate::model::document::schema()).map(|()| Exit::Converged),
        Command::Schema { fleet: true } => {
            print::json(&crate::controller::compose::schemas()).map(|()| Exit::Converged)
        }
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "socle", &mut out);
            print::raw(&out).map(|()| Exit::Converged)
        }
        Command::Man { directory } => manual::write(&directory).map(|()| Exit::Converged),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            // A reader that went away (`socle … | head`) is not an error of ours.
            if is_broken_pipe(&error) {
                return Exit::Converged;
            }
            print::error(&format!("{error:#}"), None);
            Exit::Unexpected
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
