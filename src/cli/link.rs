//! `socle link`: the process between the agent and its controller.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use super::Exit;
use crate::agent::{link, link_door, real};

#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// Keep this server connected to its controller: what the service `socle-link` runs
    Run {
        /// The server's identity
        #[arg(long, env = "SOCLE_IDENTITY", hide = true)]
        identity: Option<PathBuf>,
        /// Where the renewed certificate is kept
        #[arg(id = "renewed", long, env = "STATE_DIRECTORY", hide = true, default_value = "/var/lib/socle-link")]
        state: PathBuf,
        /// The agent's door
        #[arg(long, hide = true, default_value = link_door::SOCKET)]
        agent: PathBuf,
    },
}

pub fn run(command: LinkCommand) -> anyhow::Result<Exit> {
    let LinkCommand::Run { identity, state, agent } = command;
    crate::telemetry::init(std::env::var_os("JOURNAL_STREAM").is_some(), None);
    // systemd.exec(5), LoadCredential=
    let credential =
        || std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| PathBuf::from(directory).join("identity"));
    let identity = identity.or_else(credential).context("there is no identity: run it as the service `socle-link`")?;
    let config = link::Config { identity, state, agent, now: real::now, random: real::random, status };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tokio::select! {
            () = link::run(&config) => {}
            _ = stop.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(Exit::Converged)
    })
}

fn status(text: &str) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(text)]);
}
