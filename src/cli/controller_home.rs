//! A controller on this machine: made, served, put back. The rest is asked of it over its socket.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Exit, print, privilege};
use crate::agent::real;
use crate::controller::api::listen;
use crate::controller::api::types::Nothing;
use crate::controller::config::{Config, PORT};
use crate::controller::init::{self, Answers, InitError};
use crate::controller::run::{self, Service};
use crate::controller::store::By;
use crate::controller::{backup, keys};
use crate::model::Name;

pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")
}

/// What the flags say.
pub struct Asked {
    pub fleet: Option<Name>,
    pub hosts: Vec<String>,
    pub port: Option<u16>,
    pub bootstrap_url: Option<String>,
}

pub fn initialise(asked: Asked, home: &Path, config: &Path, json: bool) -> anyhow::Result<Exit> {
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

pub fn serve(home: PathBuf, config: &Path, socket: PathBuf) -> anyhow::Result<Exit> {
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
pub fn runtime_socket() -> PathBuf {
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

/// Each server takes the new key over with the next document it gets, which the next start signs for all of them.
pub fn rotate_key(home: &Path, json: bool) -> anyhow::Result<Exit> {
    let directory = home.join(keys::DIRECTORY);
    if !directory.exists() {
        print::error("there is no fleet here yet", Some("socle controller init"));
        return Ok(Exit::BadInput);
    }
    privilege::become_owner_of(home)?;
    match keys::Keys::rotate(&directory, real::now(), real::random) {
        Ok(rotated) if json => {
            print::json(&serde_json::json!({ "from": rotated.from.id(), "to": rotated.to.id() }))?;
        }
        Ok(rotated) => print::raw(
            format!(
                "documents are signed by key {} from the next start on, and no more by {}; servers take it over with their next\n\
                 document, also those that are off now; backups of the controller from before are of no use any more\n\n\
                 next: systemctl restart socle-controller\n      socle controller backup FILE\n",
                rotated.to.id().short(),
                rotated.from.id().short(),
            )
            .as_bytes(),
        )?,
        Err(error) => {
            print::error(&format!("{:#}", anyhow::Error::from(error)), Some("socle controller restore FILE"));
            return Ok(Exit::Unexpected);
        }
    }
    Ok(Exit::Converged)
}

pub fn restore(file: &Path, home: &Path, config: &Path, json: bool) -> anyhow::Result<Exit> {
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
