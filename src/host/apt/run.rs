//! Runs of `apt-get` and `dpkg` that change the machine.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::interval;

use crate::host::process::{Command, Exit, ProcessError, printable, run, tail_of};
use crate::host::systemd::{Apart, Systemd, SystemdError};
use crate::host::{PortError, Progress};

/// The unit that the package manager runs in. Maintainer scripts may do anything, so our sandbox is not
/// for them; and a script that restarts us, as that of our own package does, does not end its own run.
const UNIT: &str = "socle-apt.service";

/// What apt printed last, enough to see why it failed.
const TAIL: u64 = 16 << 10;

/// A run of the package manager. It is never broken off: it prints to a log and outlives us.
pub struct Run<'a> {
    pub systemd: &'a Systemd,
    pub log: &'a Path,
    /// How long its end is awaited; then it is left alone and found again by its locks.
    pub patience: Duration,
    pub progress: &'a dyn Progress,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot open the log `{}`", .0.display())]
    Log(PathBuf, #[source] io::Error),
    #[error("cannot ask the package manager")]
    Process(#[source] ProcessError),
    #[error("cannot run the package manager")]
    Unit(#[source] SystemdError),
    #[error("`{0}` still runs after {minutes} minutes and is left to finish", minutes = .1.as_secs() / 60)]
    StillRunning(String, Duration),
    #[error("`{shown}` {exit}: {tail}")]
    Failed { shown: String, exit: Exit, tail: String, why: Why },
}

/// Why apt failed, as far as its messages tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Locked,
    Unknown,
    Held,
    WouldRemove,
    NoSpace,
    Fetch,
    Conflict,
    /// A package is half-unpacked and no archive has it.
    Lost,
    /// A package's own script, or its unpacking, failed.
    Dpkg,
    /// By a signal: out of memory, somebody's hand.
    Killed,
    Other,
}

/// The order is the order of judging: a full disk also makes dpkg fail.
const SIGNS: [(&str, Why); 20] = [
    ("Could not get lock", Why::Locked),
    ("Unable to acquire the dpkg frontend lock", Why::Locked),
    ("is locked by another process", Why::Locked),
    ("No space left on device", Why::NoSpace),
    ("You don't have enough free space", Why::NoSpace),
    ("Unable to locate package", Why::Unknown),
    ("has no installation candidate", Why::Unknown),
    ("Couldn't find any package", Why::Unknown),
    ("Held packages were changed", Why::Held),
    ("Packages need to be removed but remove is disabled", Why::WouldRemove),
    ("Essential packages were removed", Why::WouldRemove),
    ("Failed to fetch", Why::Fetch),
    ("Unable to fetch some archives", Why::Fetch),
    ("Hash Sum mismatch", Why::Fetch),
    ("Temporary failure resolving", Why::Fetch),
    ("needs to be reinstalled, but I can't find an archive", Why::Lost),
    ("have unmet dependencies", Why::Conflict),
    ("you have held broken packages", Why::Conflict),
    // dpkg was killed, or killed itself.
    ("exited unexpectedly", Why::Killed),
    ("returned an error code", Why::Dpkg),
];

impl Why {
    fn of(output: &str) -> Self {
        SIGNS.into_iter().find(|(sign, _)| output.contains(sign)).map_or(Why::Other, |(_, why)| why)
    }

    fn code(self) -> &'static str {
        match self {
            Why::Locked => "apt.locked",
            Why::Unknown => "package.unknown",
            Why::Held => "apt.held",
            Why::WouldRemove => "apt.would-remove",
            Why::NoSpace => "apt.no-space",
            Why::Fetch => "apt.fetch",
            Why::Conflict => "apt.conflict",
            Why::Lost => "apt.lost",
            Why::Dpkg => "apt.dpkg",
            Why::Killed => "apt.killed",
            Why::Other => "apt.failed",
        }
    }

    fn hint(self) -> Option<&'static str> {
        match self {
            Why::Held => Some("release the hold with `apt-mark unhold NAME`, or leave the package out"),
            Why::NoSpace => Some("make room (`apt-get clean` empties the cache); the next pass tries again"),
            Why::Fetch => Some("check the network and `/etc/apt/sources.list.d`; the next pass tries again"),
            Why::Conflict => Some("see what stands against it with `apt-get --simulate install NAME`"),
            Why::Lost => {
                Some("install it from its .deb, or let it go with `dpkg --remove --force-remove-reinstreq NAME`")
            }
            Why::Dpkg => Some("the lines above name the package whose script failed"),
            Why::Locked | Why::Unknown | Why::WouldRemove | Why::Killed | Why::Other => None,
        }
    }

    fn retryable(self) -> bool {
        match self {
            Why::Locked | Why::NoSpace | Why::Fetch | Why::Dpkg | Why::Killed => true,
            Why::Unknown | Why::Held | Why::WouldRemove | Why::Conflict | Why::Lost | Why::Other => false,
        }
    }
}

impl RunError {
    pub fn why(&self) -> Option<Why> {
        match self {
            RunError::Failed { why, .. } => Some(*why),
            RunError::Log(..) | RunError::Process(_) | RunError::Unit(_) | RunError::StillRunning(..) => None,
        }
    }
}

impl From<RunError> for PortError {
    fn from(error: RunError) -> Self {
        let message = error.to_string();
        match error {
            RunError::Failed { why, .. } => {
                let port = PortError::new(why.code(), message);
                PortError { hint: why.hint().map(str::to_owned), retryable: why.retryable(), ..port }
            }
            RunError::StillRunning(..) => PortError::new("apt.still-running", message)
                .retryable()
                .hint(format!("`systemctl status {UNIT}` shows what it waits for; it is never stopped from here")),
            RunError::Log(_, source) => PortError::new("apt.log", message).because(source),
            RunError::Process(source) => PortError::new("apt.run", message).retryable().because(source),
            RunError::Unit(source) => PortError::new("apt.run", message).retryable().because(source),
        }
    }
}

/// `apt-get` as we always run it: no questions, the admin's configuration files kept, only what is
/// asked for, restarts of services only listed by needrestart, and no wait shorter than a human's.
pub fn apt_get() -> Command {
    quiet(Command::new("/usr/bin/apt-get"))
        .args(["-y", "-q", "--no-install-recommends"])
        .args(["-o", "DPkg::Lock::Timeout=600"])
        .args(["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"])
        .args(["-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3"])
}

/// Finishes what an interrupted dpkg left unpacked and folds its journal into its status.
pub fn dpkg_configure() -> Command {
    quiet(Command::new("/usr/bin/dpkg")).args(["--force-confdef", "--force-confold", "--configure", "--pending"])
}

fn quiet(command: Command) -> Command {
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .env("APT_LISTCHANGES_FRONTEND", "none")
        .env("NEEDRESTART_MODE", "l")
}

/// A question to `apt-get`: it changes nothing and takes no lock.
pub async fn ask(command: Command, shown: &str) -> Result<String, RunError> {
    let output = run(command).await.map_err(RunError::Process)?;
    if output.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let all = [output.stdout, output.stderr].concat();
    Err(failed(shown, output.exit, &all))
}

fn failed(shown: &str, exit: Exit, printed: &[u8]) -> RunError {
    let why = match exit {
        Exit::Signal(_) => Why::Killed,
        Exit::Code(_) => Why::of(&String::from_utf8_lossy(printed)),
    };
    RunError::Failed { shown: shown.to_owned(), exit, tail: relevant(printed), why }
}

/// apt's own errors if there are any, with what dpkg said before them; else the last lines.
fn relevant(printed: &[u8]) -> String {
    let text = printable(printed);
    let lines: Vec<_> =
        text.lines().filter(|line| line.starts_with("E: ") || line.starts_with("dpkg: ")).take(12).collect();
    let last = tail_of(printed, 1200);
    match lines.as_slice() {
        [] => last,
        lines if lines.iter().any(|line| line.contains("returned an error code")) => last,
        lines => lines.join("\n"),
    }
}

impl Run<'_> {
    /// Runs the command to its end, telling its steps on the way. Dropping the future, or our death,
    /// leaves it running.
    pub async fn to_end(&self, command: Command, shown: &str) -> Result<(), RunError> {
        self.open().map_err(|error| RunError::Log(self.log.to_owned(), error))?;
        let mut follow = Follow::new(self.log, self.progress);
        let (words, environment) = (command.words(), command.environment());
        let apart = Apart { name: UNIT, description: shown, words: &words, environment: &environment, log: self.log };
        let ended = self.systemd.run_apart(&apart, self.patience);
        tokio::pin!(ended);
        let mut tick = interval(Duration::from_millis(500));
        let exit = loop {
            tokio::select! {
                ended = &mut ended => break ended.map_err(RunError::Unit)?,
                _ = tick.tick() => follow.tell(),
            }
        };
        follow.tell();
        match exit {
            None => Err(RunError::StillRunning(shown.to_owned(), self.patience)),
            Some(Exit::Code(0)) => Ok(()),
            Some(exit) => {
                let printed = end_of(self.log).map_err(|error| RunError::Log(self.log.to_owned(), error))?;
                Err(failed(shown, exit, &printed))
            }
        }
    }

    /// A new file, not the old one emptied: an earlier run of ours may still print to that one.
    fn open(&self) -> io::Result<File> {
        if let Some(directory) = self.log.parent() {
            std::fs::create_dir_all(directory)?;
        }
        match std::fs::remove_file(self.log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().append(true).create_new(true).mode(0o640).open(self.log)
    }
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut end = Vec::new();
    file.take(TAIL).read_to_end(&mut end)?;
    Ok(end)
}

/// Tells the steps of a run from its growing log. That it cannot be read is no failure: the run's
/// own end is what counts.
struct Follow<'a> {
    log: &'a Path,
    progress: &'a dyn Progress,
    told: u64,
}

impl<'a> Follow<'a> {
    fn new(log: &'a Path, progress: &'a dyn Progress) -> Self {
        Self { log, progress, told: 0 }
    }

    fn tell(&mut self) {
        for line in self.new_lines().unwrap_or_default().lines() {
            if ["Get:", "Unpacking ", "Setting up ", "Removing ", "Processing triggers "]
                .into_iter()
                .any(|step| line.starts_with(step))
            {
                self.progress.say(line.trim_end());
            }
        }
    }

    fn new_lines(&mut self) -> io::Result<String> {
        let mut file = File::open(self.log)?;
        file.seek(SeekFrom::Start(self.told))?;
        let mut new = Vec::new();
        file.take(256 << 10).read_to_end(&mut new)?;
        let whole = new.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        self.told += whole as u64;
        Ok(printable(&new[..whole]))
    }
}

/// `install nginx redis`, for messages.
pub fn shown(act: &str, names: &BTreeSet<String>) -> String {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    format!("apt-get {act} {}", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Quiet;

    #[test]
    fn messages_are_judged() {
        let judge = |text: &str| Why::of(text).code();
        assert_eq!(
            judge("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (x)"),
            "apt.locked"
        );
        assert_eq!(judge("E: Unable to locate package nope"), "package.unknown");
        assert_eq!(
            judge("E: Held packages were changed and -y was used without --allow-change-held-packages."),
            "apt.held"
        );
        assert_eq!(
            judge(
                "dpkg: error: cannot write: No space left on device\nE: Sub-process /usr/bin/dpkg returned an error code (1)"
            ),
            "apt.no-space"
        );
        assert_eq!(judge("E: Sub-process /usr/bin/dpkg returned an error code (1)"), "apt.dpkg");
        assert_eq!(judge("E: Failed to fetch http://x/y.deb  404  Not Found"), "apt.fetch");
        assert_eq!(judge("something new"), "apt.failed");
    }

    #[test]
    fn an_older_run_keeps_its_own_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("run/apt.log");
        let systemd = Systemd::new();
        let run = Run { systemd: &systemd, log: &log, patience: Duration::from_secs(60), progress: &Quiet };
        let older = run.open().unwrap();
        std::fs::write(&log, "older").unwrap();
        run.open().unwrap();
        assert_eq!((older.metadata().unwrap().len(), end_of(&log).unwrap().len()), (5, 0));
    }

    #[test]
    fn a_failure_carries_the_errors_or_the_last_lines() {
        let printed = b"Reading\nE: Unable to locate package nope\n";
        let error = failed("apt-get install nope", Exit::Code(100), printed);
        assert_eq!(error.why(), Some(Why::Unknown));
        assert_eq!(error.to_string(), "`apt-get install nope` ended with code 100: E: Unable to locate package nope");
        let killed = failed("apt-get update", Exit::Signal(9), b"Get:1\n");
        assert_eq!(killed.why(), Some(Why::Killed));
        assert!(killed.to_string().ends_with("was killed by signal 9: Get:1"), "{killed}");
    }
}
