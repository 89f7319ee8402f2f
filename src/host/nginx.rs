//! nginx.
//!
//! Owns: testing a whole configuration with sites exchanged, and reloading. Never: writes below
//! `/etc/nginx`. Start reading at [`Nginx`].
//!
//! A test does not touch the live files: a child of ours (this same program, [`child_main`]) takes a
//! mount namespace of its own, lays a directory with the candidate over `sites-enabled` there, and
//! becomes `nginx -T`. Messages therefore name the files as they are on the server.

mod candidate;
mod child;
mod verdict;
mod workers;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::process::{self, Command, ProcessError, tail_of};
use super::{PortError, PortResult, UnitState, Units, WebServer};
use candidate::Candidate;
pub use child::child_main;
use verdict::Answer;
#[cfg(any(test, feature = "testing"))]
pub(in crate::host) use verdict::server_names;
use workers::Workers;

/// The hidden subcommand that `main` hands to [`child_main`] before anything else, with the path of
/// the candidate directory as its only argument.
pub const CHILD: &str = "internal-nginx-test";

const UNIT: &str = "nginx.service";
const PROGRAM: &str = "/usr/sbin/nginx";
const ENABLED: &str = "/etc/nginx/sites-enabled";
const ERROR_LOG: &str = "/var/log/nginx/error.log";
/// Where candidates are made: gone at the next boot, not readable by others.
const SCRATCH: &str = "/run/socle";

/// nginx reads some hundred sites and their certificates in well under a second.
const TEST: Duration = Duration::from_secs(60);
/// A master that has not started new workers by then has refused the configuration.
const RELOAD: Duration = Duration::from_secs(10);
/// How often to look.
const LOOK: Duration = Duration::from_millis(20);

/// An act with nginx that failed.
#[derive(Debug, thiserror::Error)]
pub enum NginxError {
    #[error("nginx is not installed")]
    NotInstalled,
    #[error("cannot prepare the test of a site in `{0}`")]
    Prepare(PathBuf, #[source] io::Error),
    #[error("cannot test nginx's configuration")]
    Run(#[source] ProcessError),
    #[error("cannot test nginx's configuration in a mount namespace: {0}")]
    Namespace(String),
    #[error("nginx refuses the site `{name}`: {said}{}", quote(.line))]
    Rejected { name: String, said: String, line: Option<String> },
    #[error("nginx's configuration is broken without this site: {0}; the running nginx keeps serving")]
    Broken(String),
    #[error("`{server_name}` is already served by `{file}`")]
    NameTaken { server_name: String, file: String },
    #[error("nginx does not read `{ENABLED}`")]
    NotIncluded,
    #[error("nginx did not take the new configuration: {0}")]
    NotReloaded(String),
}

fn quote(line: &Option<String>) -> String {
    line.as_ref().map(|line| format!(": `{line}`")).unwrap_or_default()
}

impl From<NginxError> for PortError {
    fn from(error: NginxError) -> Self {
        let says = error.to_string();
        match error {
            NginxError::NotInstalled => PortError::new("nginx.not-installed", says).hint("apt install nginx-light"),
            NginxError::Prepare(_, source) => PortError::new("nginx.test", says).because(source).retryable(),
            NginxError::Run(source) => PortError::new("nginx.test", says).because(source).retryable(),
            NginxError::Namespace(_) => PortError::new("nginx.test", says),
            NginxError::Rejected { .. } => PortError::new("site.rejected", says),
            NginxError::Broken(_) => PortError::new("nginx.broken", says).hint("nginx -t"),
            NginxError::NameTaken { file, .. } => PortError::new("site.name-taken", says)
                .hint(format!("remove the name from `{file}`, or give this site another domain")),
            NginxError::NotIncluded => PortError::new("nginx.not-included", says)
                .hint(format!("put `include {ENABLED}/*;` into the http block of /etc/nginx/nginx.conf")),
            NginxError::NotReloaded(_) => {
                PortError::new("nginx.reload", says).hint(format!("nginx -t; tail {ERROR_LOG}")).retryable()
            }
        }
    }
}

/// nginx of this machine. It is always the one of `/`: a program cannot be asked about another root.
pub struct Nginx {
    units: Arc<dyn Units>,
    /// This program, which is started again as [`child_main`].
    myself: PathBuf,
}

impl Nginx {
    /// `myself`: `std::env::current_exe()`.
    pub fn new(units: Arc<dyn Units>, myself: PathBuf) -> Self {
        Self { units, myself }
    }

    /// The whole configuration, with the candidate in place of what is enabled.
    async fn ask(&self, candidate: &Candidate) -> Result<Answer, NginxError> {
        let directory = candidate.path().to_string_lossy().into_owned();
        // `nginx -T` prints all files it read: some hundred sites of some KiB.
        let command = Command::new(&self.myself).args([CHILD.to_owned(), directory]).timeout(TEST).limit(64 << 20);
        let output = process::run(command).await.map_err(NginxError::Run)?;
        if output.exit == process::Exit::Code(child::FAILED) {
            return Err(NginxError::Namespace(tail_of(&output.stderr, 500)));
        }
        Ok(Answer::read(output.success(), &output.stdout, &output.stderr))
    }

    async fn state(&self) -> PortResult<UnitState> {
        let mut states = self.units.details(&[UNIT.to_owned()].into()).await?;
        Ok(states.remove(UNIT).unwrap_or_default())
    }
}

#[async_trait]
impl WebServer for Nginx {
    async fn test(&self, name: &str, text: Option<&str>) -> PortResult<()> {
        if !Path::new(PROGRAM).exists() {
            // Without nginx no site is served: taking one away breaks nothing.
            return if text.is_none() { Ok(()) } else { Err(NginxError::NotInstalled.into()) };
        }
        let file = file_name(name);
        let with = Candidate::make(Path::new(SCRATCH), Path::new(ENABLED), &[(&file, text)])?;
        let answer = self.ask(&with).await?;
        let Some(text) = text else {
            return if answer.good { Ok(()) } else { Err(NginxError::Broken(answer.error()).into()) };
        };
        if !answer.good {
            // Whose fault: asked without the site, nginx either still complains or it is ours.
            let without = Candidate::make(Path::new(SCRATCH), Path::new(ENABLED), &[(&file, None)])?;
            let others = self.ask(&without).await?;
            return Err(match others.good {
                true => NginxError::Rejected {
                    name: name.to_owned(),
                    said: answer.error(),
                    line: answer.line_in(&file, text),
                },
                false => NginxError::Broken(others.error()),
            }
            .into());
        }
        Ok(has_its_place(&answer, &file, text)?)
    }

    async fn test_all(&self, sites: &[(&str, &str)]) -> PortResult<()> {
        if !Path::new(PROGRAM).exists() {
            return Err(NginxError::NotInstalled.into());
        }
        let files: Vec<String> = sites.iter().map(|(name, _)| file_name(name)).collect();
        let exchanged: Vec<(&str, Option<&str>)> =
            files.iter().zip(sites).map(|(file, (_, text))| (file.as_str(), Some(*text))).collect();
        let candidate = Candidate::make(Path::new(SCRATCH), Path::new(ENABLED), &exchanged)?;
        let answer = self.ask(&candidate).await?;
        if !answer.good {
            return Err(NginxError::Broken(answer.error()).into());
        }
        Ok(files.iter().zip(sites).try_for_each(|(file, (_, text))| has_its_place(&answer, file, text))?)
    }

    async fn reload(&self) -> PortResult<()> {
        let state = self.state().await?;
        if state.load == "not-found" {
            return Ok(());
        }
        if !matches!(state.active.as_str(), "active" | "reloading" | "refreshing") || state.main_pid == 0 {
            return self.units.start(UNIT).await;
        }
        let before = Workers::of(state.main_pid);
        let log = fs::metadata(ERROR_LOG).map(|log| log.len()).unwrap_or_default();
        self.units.reload(UNIT).await?;
        // `nginx -s reload` only sends a signal. The master serves the new configuration once workers
        // run that were not there before, and the old ones have stopped listening.
        let renewed = async {
            while !Workers::of(state.main_pid).replace(&before) {
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(RELOAD, renewed).await {
            Ok(()) => Ok(()),
            Err(_) => Err(NginxError::NotReloaded(log_since(log)).into()),
        }
    }
}

/// Whether a site is part of what nginx read, and the only one with its names.
fn has_its_place(answer: &Answer, file: &str, text: &str) -> Result<(), NginxError> {
    if !answer.reads(&format!("{ENABLED}/{file}")) {
        return Err(NginxError::NotIncluded);
    }
    match answer.name_taken(&format!("{ENABLED}/socle-"), text) {
        Some((server_name, file)) => Err(NginxError::NameTaken { server_name, file }),
        None => Ok(()),
    }
}

/// The name of a site's file in `sites-enabled`.
fn file_name(name: &str) -> String {
    format!("socle-{name}.conf")
}

/// What nginx wrote about errors meanwhile, as far as it can be read.
fn log_since(from: u64) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut log = fs::File::open(ERROR_LOG)?;
        let mut bytes = Vec::new();
        log.seek(SeekFrom::Start(from))?;
        log.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("[emerg]")).take(3).collect();
    match errors.is_empty() {
        true => format!("no new workers within {} s", RELOAD.as_secs()),
        false => process::printable(errors.join("; ").as_bytes()),
    }
}
