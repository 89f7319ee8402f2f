use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::client::Controller;
use super::{Exit, Places, controller_home as home, fleet_words, print};
use crate::controller::api;
use crate::controller::api::types::{
    AlarmName, AuditView, Invitation, JoinTokenView, MadeToken, NewServer, NewToken, Nothing, ServerView,
    SitesAuthority, TokenView,
};
use crate::controller::store::Scope;
use crate::durable;
use crate::model::Name;

#[derive(Debug, Args)]
pub struct ControllerArgs {
    #[command(subcommand)]
    command: ControllerCommand,
}

/// What is asked of a controller, wherever it is.
#[derive(Debug, Args)]
pub struct Asked<C: Subcommand> {
    #[command(flatten)]
    controller: Controller,
    #[command(subcommand)]
    command: C,
}

#[derive(Debug, Subcommand)]
pub enum ControllerCommand {
    /// Make a fleet: its keys and its database. Asks for what is not given
    Init {
        /// The fleet's name
        #[arg(long, value_name = "NAME")]
        fleet: Option<Name>,
        /// A name or address under which servers reach the controller; may be given several times
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// The port that servers dial
        #[arg(long)]
        port: Option<u16>,
        /// Where blank servers get the bootstrap script; empty for none
        #[arg(long, value_name = "URL")]
        bootstrap_url: Option<String>,
    },
    /// Serve agents and operators: what the service runs
    Run,
    /// The fleet's servers
    Server(Asked<ServerCommand>),
    /// The tokens that let servers join
    Token(Asked<TokenCommand>),
    /// The tokens of operators who come over HTTPS
    ApiToken(Asked<ApiTokenCommand>),
    /// Tell who changed what
    Audit {
        /// How many, newest first
        #[arg(long, short = 'n', default_value_t = 50)]
        lines: u32,
        #[command(flatten)]
        controller: Controller,
    },
    /// Clear an alarm that was looked into
    ClearAlarm {
        /// The alarm's code, as `socle fleet status` shows it
        code: String,
        /// The server it is of
        #[arg(long)]
        server: Option<Name>,
        #[command(flatten)]
        controller: Controller,
    },
    /// Write the database and the keys into a file, which must be kept secret
    Backup {
        /// A new file
        file: PathBuf,
        #[command(flatten)]
        controller: Controller,
    },
    /// Make this machine the controller of a backup; the service must not run
    Restore { file: PathBuf },
    /// The key that signs the servers' documents
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Print the certificate that visitors of the fleet's private sites trust (PEM)
    SitesAuthority {
        #[command(flatten)]
        controller: Controller,
    },
    /// Print the description of the API (OpenAPI)
    Openapi,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Replace it by a new one from the next start on; the servers follow
    Rotate,
}

#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Print a token, and the line that makes a blank server one of the fleet
    Add {
        server: Name,
        /// How long the token can be used
        #[arg(long)]
        hours: Option<u32>,
        /// Print user data for cloud-init instead of the line: to give to the provider with the order of the server
        #[arg(long)]
        user_data: bool,
    },
    /// List the servers
    List,
    /// Never let a server in again, under any name
    Ban { server: Name },
    /// Put a server out until it joins anew with a new token
    Evict { server: Name },
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List the tokens
    List,
    /// Make a token useless
    Revoke { id: String },
}

#[derive(Debug, Subcommand)]
pub enum ApiTokenCommand {
    /// Print a new token, this once
    Add {
        /// Whose or what for
        name: Name,
        /// What it may do; each includes those before it
        #[arg(long, value_name = "read|write|admin", default_value = "read")]
        scope: Scope,
    },
    /// List the tokens
    List,
    /// Make a token useless
    Revoke { id: String },
}

pub fn run(args: ControllerArgs, places: Places, json: bool) -> anyhow::Result<Exit> {
    let Places { home: directory, config, socket, .. } = places;
    match args.command {
        ControllerCommand::Init { fleet, hosts, port, bootstrap_url } => {
            home::initialise(home::Asked { fleet, hosts, port, bootstrap_url }, &directory, &config, json)
        }
        ControllerCommand::Run => home::serve(directory, &config, socket.unwrap_or_else(home::runtime_socket)),
        ControllerCommand::Restore { file } => home::restore(&file, &directory, &config, json),
        ControllerCommand::Key { command: KeyCommand::Rotate } => home::rotate_key(&directory, json),
        ControllerCommand::Openapi => print::json(&api::description()).map(|()| Exit::Converged),
        ControllerCommand::Server(Asked { controller, command }) => {
            home::runtime()?.block_on(server(&controller.on_socket(socket), command, json))
        }
        ControllerCommand::Token(Asked { controller, command }) => {
            home::runtime()?.block_on(token(&controller.on_socket(socket), command, json))
        }
        ControllerCommand::ApiToken(Asked { controller, command }) => {
            home::runtime()?.block_on(api_token(&controller.on_socket(socket), command, json))
        }
        ControllerCommand::Audit { lines, controller } => home::runtime()?.block_on(async {
            let path = format!("/v1/audit?limit={lines}");
            let entries: Result<Vec<AuditView>, _> = controller.on_socket(socket).get(&path).await;
            listed(entries, |list| fleet_words::audit(list), json)
        }),
        ControllerCommand::ClearAlarm { code, server, controller } => home::runtime()?.block_on(async {
            let alarm = AlarmName { server, code };
            done(controller.on_socket(socket).ask("POST", "/v1/alarms/clear", Some(&alarm)).await, json)
        }),
        ControllerCommand::SitesAuthority { controller } => home::runtime()?.block_on(async {
            let authority: Result<SitesAuthority, _> = controller.on_socket(socket).get("/v1/sites-authority").await;
            listed(authority, |authority| authority.pem.clone(), json)
        }),
        ControllerCommand::Backup { file, controller } => {
            home::runtime()?.block_on(write_backup(&controller.on_socket(socket), &file, json))
        }
    }
}

async fn token(controller: &Controller, command: TokenCommand, json: bool) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::List => {
            let tokens: Result<Vec<JoinTokenView>, _> = controller.get("/v1/join-tokens").await;
            listed(tokens, |list| fleet_words::join_tokens(list), json)
        }
        TokenCommand::Revoke { id } => done(delete(controller, "join-tokens", &id).await, json),
    }
}

async fn api_token(controller: &Controller, command: ApiTokenCommand, json: bool) -> anyhow::Result<Exit> {
    match command {
        ApiTokenCommand::List => {
            let tokens: Result<Vec<TokenView>, _> = controller.get("/v1/api-tokens").await;
            listed(tokens, |list| fleet_words::api_tokens(list), json)
        }
        ApiTokenCommand::Add { name, scope } => {
            let made: Result<MadeToken, _> =
                controller.ask("POST", "/v1/api-tokens", Some(&NewToken { name, scope })).await;
            let text = |made: &MadeToken| format!("{}\n", made.token);
            if made.is_ok() && !json {
                print::tell!("this is shown once; put it into a file that nobody else may read:");
            }
            listed(made, text, json)
        }
        ApiTokenCommand::Revoke { id } => done(delete(controller, "api-tokens", &id).await, json),
    }
}

async fn delete(controller: &Controller, what: &str, id: &str) -> Result<Nothing, super::client::ClientError> {
    // What is no id is answered as an unknown one, not as another path.
    let id: String = id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    controller.ask("DELETE", &format!("/v1/{what}/{id}"), None::<&()>).await
}

fn done(said: Result<Nothing, super::client::ClientError>, json: bool) -> anyhow::Result<Exit> {
    match said {
        Ok(nothing) if json => print::json(&nothing)?,
        Ok(_) => print::raw(b"done\n")?,
        Err(error) => return error.tell(json),
    }
    Ok(Exit::Converged)
}

fn listed<T: serde::Serialize>(
    said: Result<T, super::client::ClientError>,
    text: impl Fn(&T) -> String,
    json: bool,
) -> anyhow::Result<Exit> {
    match said {
        Ok(value) if json => print::json(&value)?,
        Ok(value) => print::raw(text(&value).as_bytes())?,
        Err(error) => return error.tell(json),
    }
    Ok(Exit::Converged)
}

async fn server(controller: &Controller, command: ServerCommand, json: bool) -> anyhow::Result<Exit> {
    match command {
        ServerCommand::Add { server, hours, user_data } => {
            add(controller, NewServer { name: server, hours }, user_data, json).await
        }
        ServerCommand::List => {
            let servers: Result<Vec<ServerView>, _> = controller.get("/v1/servers").await;
            listed(servers, |list| fleet_words::servers(list), json)
        }
        ServerCommand::Ban { server } => {
            done(controller.ask("POST", &format!("/v1/servers/{server}/ban"), None::<&()>).await, json)
        }
        ServerCommand::Evict { server } => {
            done(controller.ask("POST", &format!("/v1/servers/{server}/evict"), None::<&()>).await, json)
        }
    }
}

async fn add(controller: &Controller, new: NewServer, user_data: bool, json: bool) -> anyhow::Result<Exit> {
    let made: Invitation = match controller.ask("POST", "/v1/servers", Some(&new)).await {
        Ok(made) => made,
        Err(error) => return error.tell(json),
    };
    if user_data && made.user_data.is_none() {
        // A token that nobody sees is of no use.
        if let Err(error) = delete(controller, "join-tokens", &made.id).await {
            return error.tell(json);
        }
        let hint =
            "bootstrap_url = \"https://…/bootstrap.sh\" in /etc/socle/controller.toml, and restart socle-controller";
        print::error("user data needs a script to run, and this controller knows of none", Some(hint));
        return Ok(Exit::BadInput);
    }
    if json {
        return print::json(&made).map(|()| Exit::Converged);
    }
    let at = made.expires.strftime("%Y-%m-%d %H:%M UTC");
    let (place, text) = match made.user_data.filter(|_| user_data) {
        Some(text) => ("as user data of that server", text),
        None => ("in a root shell of that server", format!("{}\n", made.command)),
    };
    print::tell!("for `{}` alone, once, until {at}; {place}:", made.server);
    print::raw(text.as_bytes()).map(|()| Exit::Converged)
}

/// Whole under its name, or not there.
async fn write_backup(controller: &Controller, file: &Path, json: bool) -> anyhow::Result<Exit> {
    let mut name = file.file_name().context("this names no file")?.to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    let failed = || format!("cannot write `{}`", part.display());
    durable::remove(&part)?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).with_context(failed)?;
    if let Err(error) = controller.download("POST", "/v1/backup", &mut out).await {
        durable::remove(&part)?;
        return match error.downcast() {
            Ok(error) => super::client::ClientError::tell(error, json),
            Err(error) => Err(error),
        };
    }
    durable::put_in_place(&part, file)?;
    if json {
        print::json(&serde_json::json!({ "file": file }))?;
    } else {
        print::tell!("{} holds the keys of the fleet: keep it secret, and not on this machine", file.display());
    }
    Ok(Exit::Converged)
}
