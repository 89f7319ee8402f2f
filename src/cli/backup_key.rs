//! `socle agent backup key …`: what opens a repository.

use clap::Subcommand;

use super::backup::Failure;
use super::{Exit, print};
use crate::agent::backup::BackupError;
use crate::agent::backup::key::{self, Made};
use crate::agent::reconcile::Agent;
use crate::model::Name;
use crate::model::document::Repository;

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys that open the repository
    List,
    /// Make one more, for somebody else: shown this once, kept nowhere here
    Add {
        /// Whose it is
        #[arg(long, value_name = "TEXT", default_value = "another")]
        label: String,
    },
    /// Make a new one for this server; the one before opens nothing any more
    Rotate,
    /// Make a key useless
    Remove {
        /// The beginning of its identifier, as `list` shows it
        id: String,
    },
}

pub(super) async fn run(
    agent: &Agent,
    repository: Option<&Name>,
    act: Option<KeyCommand>,
    json: bool,
) -> Result<Exit, Failure> {
    let (name, repository) = agent.repository(repository)?;
    match act {
        None => show(agent, &name, &repository, json),
        Some(KeyCommand::List) => list(agent, &name, &repository, json).await,
        Some(KeyCommand::Add { label }) => {
            made(&agent.add_backup_key(&name, &repository, &label).await?, &name, &repository, json)
        }
        Some(KeyCommand::Rotate) => made(&agent.rotate_backup_key(&name, &repository).await?, &name, &repository, json),
        Some(KeyCommand::Remove { id }) => {
            agent.remove_backup_key(&name, &repository, &id).await?;
            if json {
                print::json(&serde_json::json!({ "repository": name }))?;
            } else {
                print::raw(b"done\n")?;
            }
            Ok(Exit::Converged)
        }
    }
}

fn show(agent: &Agent, name: &Name, repository: &Repository, json: bool) -> Result<Exit, Failure> {
    let key = key::read(&agent.state, name)?.ok_or_else(|| BackupError::NoKey(name.clone()))?;
    tell(key.expose(), name, repository, json)
}

fn made(made: &Made, name: &Name, repository: &Repository, json: bool) -> Result<Exit, Failure> {
    if !json {
        print::tell!("this is a new key: write it down where the server is not");
    }
    tell(made.key.expose(), name, repository, json)
}

fn tell(key: &str, name: &Name, repository: &Repository, json: bool) -> Result<Exit, Failure> {
    if json {
        print::json(&serde_json::json!({ "repository": name, "location": repository.location, "key": key }))?;
    } else {
        print::raw(format!("{key}\n").as_bytes())?;
        print::tell!("with it and `{}`, a blank server becomes this one:", repository.location);
        let more = if repository.location.is_remote() { " --credentials FILE" } else { "" };
        print::tell!("hint: socle agent recover --repository {} --key-file FILE{more}", repository.location);
    }
    Ok(Exit::Converged)
}

async fn list(agent: &Agent, name: &Name, repository: &Repository, json: bool) -> Result<Exit, Failure> {
    let keys = agent.backup_keys(name, repository).await?;
    if json {
        print::json(&keys)?;
        return Ok(Exit::Converged);
    }
    for key in &keys {
        let id: String = key.id.chars().take(8).collect();
        let made = key.created.map_or_else(|| "-".to_owned(), print::time);
        let (user, host) = (key.user.as_deref().unwrap_or("-"), key.host.as_deref().unwrap_or("-"));
        let ours = if key.ours { "  (this server's)" } else { "" };
        print::raw(format!("{id}  {made}  {user}  {host}{ours}\n").as_bytes())?;
    }
    Ok(Exit::Converged)
}
