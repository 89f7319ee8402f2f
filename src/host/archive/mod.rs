//! Unpacking of hostile archives.
//!
//! Owns: the port [`crate::host::Archives`] ([`UnpackChild`]), the readers of tar and zip, what names
//! and links may be. Never: keeps a mode, an owner or an attribute of an archive; runs a reader in
//! this process.
//!
//! # The flow
//!
//! ```text
//! parent (root): stage 0700, given to user 65533 -> starts itself as `internal-unpack`, archive as standard input
//! child: drops every power (confine) -> decodes in one thread (ahead), reads strictly in the other (format, tar,
//!        pax, zip) and writes below the stage (stage, name) -> one line of JSON
//! parent: waits, at most its time limit -> looks at everything, gives it to root (settle)
//! ```
//!
//! # Rejected
//!
//! `tar::Archive::unpack`, `zip::ZipArchive::extract` and bsdtar: they write by text paths, and each
//! had a hole there in the last two years. The `tar` crate's entries: it applies extended headers its
//! own way, and whoever reads them another way sees other files. Start reading at
//! [`UnpackChild`], then `tar::read`.

mod ahead;
mod child;
mod confine;
mod format;
mod name;
mod pax;
mod refusal;
pub(crate) mod settle;
mod stage;
mod tar;
mod zip;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;

pub use ahead::Decoder;
pub use child::{SUBCOMMAND, child_main};
pub use format::extract;
pub(crate) use refusal::is_full;
pub use refusal::{Reason, UnpackError};
pub use stage::Tally;
pub(crate) use stage::open_directory;

use child::{Answer, Order};
use settle::{Links, SettleError, Terms};

use crate::host::{ArchiveLimits, Archives, PortError, PortResult};
use crate::model::report::ErrorReport;

/// In the range Debian reserves (Policy 9.2.2): no package and no administrator creates it.
pub const UNPACK_USER: u32 = 65533;
/// The biggest real archive takes a minute on a slow disk.
const TIME: Duration = Duration::from_secs(15 * 60);
/// The answer is one line.
const ANSWER_BYTES: u64 = 16 * 1024;

/// The port [`Archives`] by a child process without root's powers.
pub struct UnpackChild {
    program: PathBuf,
    user: u32,
    time: Duration,
}

#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("unpacking needs root, to hand the work to a user without powers")]
    NotRoot,
    #[error("cannot prepare `{0}`")]
    Prepare(PathBuf, #[source] io::Error),
    #[error("`{0}` is not empty")]
    NotEmpty(PathBuf),
    #[error("cannot start the unpacking process")]
    Start(#[source] io::Error),
    #[error("the unpacking took longer than {0:?} and was stopped")]
    Time(Duration),
    #[error("the unpacking process ended without an answer ({0})")]
    Silent(String),
    #[error("the unpacked tree is not as it must be")]
    Settle(#[source] SettleError),
}

impl UnpackChild {
    /// `program` is socle itself: it is started with [`SUBCOMMAND`] and must hand on to
    /// [`child_main`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), user: UNPACK_USER, time: TIME }
    }

    pub fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    async fn run(&self, archive: &Path, order: &Order) -> Result<Answer, ChildError> {
        let archive = File::open(archive).map_err(|error| ChildError::Prepare(archive.to_owned(), error))?;
        #[expect(
            clippy::disallowed_methods,
            reason = "this child inherits open descriptors, which `host::process` closes"
        )]
        let mut child = tokio::process::Command::new(&self.program)
            .args(order.arguments())
            .env_clear()
            .current_dir("/")
            .stdin(archive)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(ChildError::Start)?;
        let mut said = Vec::new();
        let stdout = child.stdout.take();
        let finished = tokio::time::timeout(self.time, async {
            if let Some(stdout) = stdout {
                stdout.take(ANSWER_BYTES).read_to_end(&mut said).await?;
            }
            child.wait().await
        });
        match finished.await {
            Ok(Ok(status)) => serde_json::from_slice(&said).map_err(|_| ChildError::Silent(status.to_string())),
            Ok(Err(error)) => Err(ChildError::Start(error)),
            Err(_) => {
                // Waits too: nobody writes to the stage when this returns.
                child.kill().await.map_err(ChildError::Start)?;
                Err(ChildError::Time(self.time))
            }
        }
    }
}

#[async_trait]
impl Archives for UnpackChild {
    async fn unpack(&self, archive: &Path, stage: &Path, strip: u32, limits: &ArchiveLimits) -> PortResult<()> {
        let (user, path) = (self.user, stage.to_owned());
        let directory = blocking(move || prepare(&path, user)).await?;
        let order = Order {
            stage: stage.to_str().map(str::to_owned).ok_or_else(|| unusable(stage))?,
            user,
            strip,
            cpu_seconds: self.time.as_secs().max(1),
            limits: limits.clone(),
        };
        let answer = self.run(archive, &order).await.map_err(PortError::from)?;
        let (tally, notes) = match answer {
            Answer::Done { tally, notes } => (tally, notes),
            Answer::Refused(report) => return Err(answered("archive.refused", report)),
            Answer::Full(report) => {
                return Err(answered("archive.no-space", report).hint("free disk space, then apply again").retryable());
            }
            Answer::Failed(report) => return Err(answered("archive.child", report).retryable()),
        };
        let terms = Terms { from: user, to: 0, links: Links::Inside, entries: limits.entries };
        blocking(move || settle::settle(&directory, &terms).map_err(ChildError::Settle)).await?;
        let Tally { entries, files, bytes } = tally;
        tracing::debug!(entries, files, bytes, "archive unpacked");
        if !notes.is_empty() {
            tracing::warn!(?notes, "an archive was unpacked under a weaker confinement");
        }
        Ok(())
    }
}

/// Gives the empty directory `stage` to `user` alone.
fn prepare(stage: &Path, user: u32) -> Result<OwnedFd, ChildError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(ChildError::NotRoot);
    }
    let failed = |error: io::Error| ChildError::Prepare(stage.to_owned(), error);
    let directory = child::open_stage(stage.to_str().unwrap_or_default()).map_err(failed)?;
    let entries = rustix::fs::Dir::read_from(&directory).map_err(|error| failed(error.into()))?;
    for entry in entries {
        let entry = entry.map_err(|error| failed(error.into()))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Err(ChildError::NotEmpty(stage.to_owned()));
        }
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(user));
    rustix::fs::fchown(&directory, Some(uid), Some(gid)).map_err(|error| failed(error.into()))?;
    rustix::fs::fchmod(&directory, rustix::fs::Mode::from_raw_mode(0o700)).map_err(|error| failed(error.into()))?;
    Ok(directory)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChildError> + Send + 'static,
) -> Result<T, PortError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(PortError::from),
        Err(panic) => {
            Err(PortError::new("archive.child", "the take-over of the unpacked tree broke off").because(panic))
        }
    }
}

/// What the child says is shown, so it is cut and escaped again: it may not be the child we wrote.
fn answered(code: &'static str, report: ErrorReport) -> PortError {
    let tidy = |text: &str| refusal::shown_plain(text.as_bytes());
    let causes: Vec<String> = report.causes.iter().take(4).map(|cause| tidy(cause)).collect();
    let message = std::iter::once(tidy(&report.message)).chain(causes).collect::<Vec<_>>().join(": ");
    PortError::new(code, message)
}

fn unusable(path: &Path) -> PortError {
    PortError::new("archive.stage", format!("the path `{}` is not UTF-8", path.display()))
}

impl From<ChildError> for PortError {
    fn from(error: ChildError) -> Self {
        let (code, hint, retryable) = match &error {
            ChildError::NotRoot => ("archive.not-root", Some("run socle as root"), false),
            ChildError::Prepare(..) | ChildError::NotEmpty(_) => ("archive.stage", None, true),
            ChildError::Start(_) | ChildError::Silent(_) => ("archive.child", None, true),
            ChildError::Time(_) => ("archive.timeout", None, true),
            ChildError::Settle(SettleError::Io { .. }) => ("archive.settle", None, true),
            ChildError::Settle(_) => ("archive.refused", None, false),
        };
        let mut port = PortError::new(code, error.to_string());
        port.hint = hint.map(str::to_owned);
        port.retryable = retryable;
        port.source = match error {
            ChildError::Prepare(_, source) | ChildError::Start(source) => Some(source.into()),
            ChildError::Settle(source) => Some(source.into()),
            _ => None,
        };
        port
    }
}
