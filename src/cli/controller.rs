use std::fs::{File, OpenOptions};
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::client::Controller;
use super::{Exit, Places, fleet_words, print, privilege};
use crate::agent::real;
use crate::controller::api::types::{
    AlarmName, AuditView, Invitation, JoinTokenView, MadeToken, NewServer, NewToken, Nothing, ServerView, TokenView,
};
use crate::controller::api::{self, listen};
use crate::controller::config::{Config, PORT};
use crate::controller::init::{self, Answers, InitError};
use crate::controller::run::{self, Service};
use crate::controller::store::{By, Scope};
use crate::controller::{backup, keys};
use crate::durable;
use crate::model::Name;

#[derive(Debug, Args)]
pub struct ControllerArgs {
    #[command(flatten)]
    controller: Controller,
    #[command(subcommand)]
    command: ControllerCommand,
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
    #[command(subcommand)]
    Server(ServerCommand),
    /// The tokens that let servers join
    #[command(subcommand)]
    Token(TokenCommand),
    /// The tokens of operators who come over HTTPS
    #[command(subcommand)]
    ApiToken(ApiTokenCommand),
    /// Tell who changed what
    Audit {
        /// How many, newest first
        #[arg(long, short = 'n', default_value_t = 50)]
        lines: u32,
    },
    /// Clear an alarm that was looked into
    ClearAlarm {
        /// The alarm's code, as `socle fleet status` shows it
        code: String,
        /// The server it is of
        #[arg(long)]
        server: Option<Name>,
    },
    /// Write the database and the keys into a file, which must be kept secret
    Backup {
        /// A new file
        file: PathBuf,
    },
    /// Make this machine the controller of a backup; the service must not run
    Restore { file: PathBuf },
    /// Print the description of the API (OpenAPI)
    Openapi,
}

#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Print a token, and the line that makes a blank server one of the fleet
    Add {
        server: Name,
        /// How long the token can be used
        #[arg(long)]
        hours: Option<u32>,
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
    let ControllerArgs { controller, command } = args;
    let Places { home, config, socket, .. } = places;
    let controller = controller.on_socket(socket.clone());
    match command {
        ControllerCommand::Init { fleet, hosts, port, bootstrap_url } => {
            initialise(Asked { fleet, hosts, port, bootstrap_url }, &home, &config, json)
        }
        ControllerCommand::Run => serve(home, &config, socket.unwrap_or_else(runtime_socket)),
        ControllerCommand::Restore { file } => restore(&file, &home, &config, json),
        ControllerCommand::Openapi => print::json(&api::description()).map(|()| Exit::Converged),
        command => runtime()?.block_on(ask(&controller, command, json)),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")
}

/// What the flags say.
struct Asked {
    fleet: Option<Name>,
    hosts: Vec<String>,
    port: Option<u16>,
    bootstrap_url: Option<String>,
}

fn initialise(asked: Asked, home: &Path, config: &Path, json: bool) -> anyhow::Result<Exit> {
    let config = Config::load(config)?;
    let Some(answers) = answers(asked, &config)? else { return Ok(Exit::BadInput) };
    let who = format!("uid:{}", nix::unistd::getuid());
    privilege::become_owner_of(home)?;
    let by = By::new(who, real::now());
    let made = runtime()?.block_on(init::init(home, &config.store_url(home), &answers, &by, real::random));
    match made {
        Ok(made) if json => print::json(&made)?,
        Ok(made) => {
            let directory = home.join(keys::DIRECTORY);
            print::raw(
                format!(
                    "the fleet `{}` is made; servers dial {}\nfingerprint of its authority: {}\n\n\
                     keep safe, for who has them can give every server orders, and without them every server must join anew:\n  \
                     {}\nafter every change, and regularly: socle controller backup FILE\n\n\
                     next: systemctl enable --now socle-controller\n      socle controller server add NAME\n",
                    made.fleet,
                    made.addresses.join(" "),
                    made.fingerprint,
                    directory.display()
                )
                .as_bytes(),
            )?;
        }
        Err(error) => {
            let (exit, hint) = match &error {
                InitError::Host(_) | InitError::NoHost => (Exit::BadInput, Some("--host controller.example.org")),
                InitError::BootstrapUrl(_) => (Exit::BadInput, Some("--bootstrap-url '' for none")),
                InitError::Exists(_) => (Exit::BadInput, Some("systemctl enable --now socle-controller")),
                _ => (Exit::Unexpected, None),
            };
            print::error(&format!("{:#}", anyhow::Error::from(error)), hint);
            return Ok(exit);
        }
    }
    Ok(Exit::Converged)
}

/// What is missing is asked for on a terminal; `None`: there is nobody to ask.
fn answers(asked: Asked, config: &Config) -> anyhow::Result<Option<Answers>> {
    let Asked { fleet, hosts, port, bootstrap_url } = asked;
    let missing = fleet.is_none() || hosts.is_empty();
    if missing && !std::io::stdin().is_terminal() {
        print::error("there is nobody to ask", Some("socle controller init --fleet NAME --host HOST"));
        return Ok(None);
    }
    let fleet = match fleet {
        Some(fleet) => fleet,
        None => question("name of the fleet (a-z, 0-9 and -)", "", |text| text.parse().map_err(|e| format!("{e}")))?,
    };
    let hosts = match hosts.is_empty() {
        false => hosts,
        true => question("names or addresses under which servers reach this controller", "", |text| {
            let hosts: Vec<String> = text.split([' ', ',']).filter(|h| !h.is_empty()).map(str::to_owned).collect();
            let tried = Answers { fleet: fleet.clone(), hosts: hosts.clone(), port: PORT, bootstrap_url: None };
            tried.addresses().map(|_| hosts).map_err(|error| error.to_string())
        })?,
    };
    let port = match port {
        Some(port) => port,
        None if !missing => config.listen.map_or(PORT, |listen| listen.port()),
        None => question("port that servers dial", &PORT.to_string(), |text| {
            text.parse().map_err(|_| format!("`{text}` is not a port"))
        })?,
    };
    let bootstrap_url = match bootstrap_url {
        Some(url) => url,
        None if !missing || config.bootstrap_url.is_some() => String::new(),
        None => question("where blank servers get bootstrap.sh (https://…; empty for none)", "", |text| {
            Ok(text.to_owned())
        })?,
    };
    let bootstrap_url = Some(bootstrap_url).filter(|url| !url.is_empty());
    Ok(Some(Answers { fleet, hosts, port, bootstrap_url }))
}

/// Asks until the answer is good.
fn question<T>(text: &str, default: &str, read: impl Fn(&str) -> Result<T, String>) -> anyhow::Result<T> {
    loop {
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        let mut err = anstream::stderr();
        write!(err, "{text}{shown}: ").and_then(|()| err.flush()).context("cannot ask")?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).context("cannot read the answer")? == 0 {
            anyhow::bail!("there is no answer");
        }
        let answer = if line.trim().is_empty() { default } else { line.trim() };
        match read(answer) {
            Ok(answer) => return Ok(answer),
            Err(why) => print::tell!("{why}"),
        }
    }
}

fn serve(home: PathBuf, config: &Path, socket: PathBuf) -> anyhow::Result<Exit> {
    crate::telemetry::init(std::env::var_os("JOURNAL_STREAM").is_some(), None);
    let config = Config::load(config)?;
    let catalog = match real::catalog(Path::new("/")) {
        Ok(catalog) => catalog,
        Err(real::SetupError::Recipes(problems)) => {
            print::problems(&problems);
            return Ok(Exit::BadInput);
        }
        Err(error) => return Err(error.into()),
    };
    let service = Service { home, socket, config, catalog, now: real::now, random: real::random };
    runtime()?.block_on(async {
        let stop = stopping().context("cannot watch for signals")?;
        let ready = || drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
        match run::run(service, stop, ready).await {
            Ok(()) => Ok(Exit::Converged),
            Err(error) => {
                let hint = error.hint();
                print::error(&format!("{:#}", anyhow::Error::from(error)), hint.as_deref());
                Ok(Exit::Unexpected)
            }
        }
    })
}

/// systemd.exec(5), `RuntimeDirectory=`.
fn runtime_socket() -> PathBuf {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        Some(directory) => PathBuf::from(directory).join("api.sock"),
        None => PathBuf::from(listen::SOCKET),
    }
}

/// Cancelled when we are asked to end.
fn stopping() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = CancellationToken::new();
    let told = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        told.cancel();
    });
    Ok(stopping)
}

fn restore(file: &Path, home: &Path, config: &Path, json: bool) -> anyhow::Result<Exit> {
    let config = Config::load(config)?;
    // Before the change of user, who may not be allowed to read it.
    let open = File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    privilege::become_owner_of(home)?;
    match runtime()?.block_on(backup::restore(open, file, &config.store_url(home), home)) {
        Ok(()) if json => print::json(&Nothing {})?,
        Ok(()) => print::raw(b"restored\nnext: systemctl start socle-controller\n")?,
        Err(error) => {
            let hint = error.hint();
            let exit =
                if matches!(error, backup::BackupError::NotOurs { .. }) { Exit::BadInput } else { Exit::Unexpected };
            print::error(&format!("{:#}", anyhow::Error::from(error)), hint.as_deref());
            return Ok(exit);
        }
    }
    Ok(Exit::Converged)
}

async fn ask(controller: &Controller, command: ControllerCommand, json: bool) -> anyhow::Result<Exit> {
    let said = match command {
        ControllerCommand::Server(command) => return server(controller, command, json).await,
        ControllerCommand::Token(TokenCommand::List) => {
            let tokens: Result<Vec<JoinTokenView>, _> = controller.get("/v1/join-tokens").await;
            return listed(tokens, |list| fleet_words::join_tokens(list), json);
        }
        ControllerCommand::ApiToken(ApiTokenCommand::List) => {
            let tokens: Result<Vec<TokenView>, _> = controller.get("/v1/api-tokens").await;
            return listed(tokens, |list| fleet_words::api_tokens(list), json);
        }
        ControllerCommand::Audit { lines } => {
            let entries: Result<Vec<AuditView>, _> = controller.get(&format!("/v1/audit?limit={lines}")).await;
            return listed(entries, |list| fleet_words::audit(list), json);
        }
        ControllerCommand::ApiToken(ApiTokenCommand::Add { name, scope }) => {
            let made: Result<MadeToken, _> =
                controller.ask("POST", "/v1/api-tokens", Some(&NewToken { name, scope })).await;
            let text = |made: &MadeToken| format!("{}\n", made.token);
            if made.is_ok() && !json {
                print::tell!("this is shown once; put it into a file that nobody else may read:");
            }
            return listed(made, text, json);
        }
        ControllerCommand::Backup { file } => return write_backup(controller, &file, json).await,
        ControllerCommand::Token(TokenCommand::Revoke { id }) => delete(controller, "join-tokens", &id).await,
        ControllerCommand::ApiToken(ApiTokenCommand::Revoke { id }) => delete(controller, "api-tokens", &id).await,
        ControllerCommand::ClearAlarm { code, server } => {
            controller.ask("POST", "/v1/alarms/clear", Some(&AlarmName { server, code })).await
        }
        ControllerCommand::Init { .. }
        | ControllerCommand::Run
        | ControllerCommand::Restore { .. }
        | ControllerCommand::Openapi => anyhow::bail!("this is not asked of a controller"),
    };
    done(said, json)
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
        ServerCommand::Add { server, hours } => {
            let new = NewServer { name: server, hours };
            let made: Result<Invitation, _> = controller.ask("POST", "/v1/servers", Some(&new)).await;
            if let (Ok(made), false) = (&made, json) {
                let at = made.expires.strftime("%Y-%m-%d %H:%M UTC");
                print::tell!("for `{}` alone, once, until {at}; in a root shell of that server:", made.server);
            }
            listed(made, |made: &Invitation| format!("{}\n", made.command), json)
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
