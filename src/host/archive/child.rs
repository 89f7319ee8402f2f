//! The other side of [`super::UnpackChild`]: `socle internal-unpack`, a process of its own.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::ahead::Decoder;
use super::confine::{Cage, confine, forbid_processes};
use super::format::extract;
use super::refusal::UnpackError;
use super::stage::Tally;
use crate::host::ArchiveLimits;
use crate::model::report::ErrorReport;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "internal-unpack";

/// What the child is asked, as its arguments. The archive is its standard input; the stage is a path,
/// opened while it may still search the directories above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub stage: String,
    pub user: u32,
    pub strip: u32,
    pub cpu_seconds: u64,
    pub limits: ArchiveLimits,
}

impl Order {
    pub fn arguments(&self) -> Vec<String> {
        let ArchiveLimits { bytes, entries, ratio } = &self.limits;
        let numbers = [u64::from(self.user), u64::from(self.strip), self.cpu_seconds, *bytes, *entries, *ratio];
        let mut arguments = vec![SUBCOMMAND.to_owned(), self.stage.clone()];
        arguments.extend(numbers.iter().map(u64::to_string));
        arguments
    }

    fn read(arguments: &[String]) -> Option<Self> {
        let [stage, user, strip, cpu_seconds, bytes, entries, ratio] = arguments else { return None };
        Some(Self {
            stage: stage.clone(),
            user: user.parse().ok()?,
            strip: strip.parse().ok()?,
            cpu_seconds: cpu_seconds.parse().ok()?,
            limits: ArchiveLimits {
                bytes: bytes.parse().ok()?,
                entries: entries.parse().ok()?,
                ratio: ratio.parse().ok()?,
            },
        })
    }
}

/// What the child answers, one line of JSON on its standard output. The parent takes it for a
/// message to show, never for a fact about the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    Done {
        tally: Tally,
        /// Which confinement this machine does not have.
        notes: Vec<String>,
    },
    /// The archive is not one we take.
    Refused(ErrorReport),
    /// The disk is full.
    Full(ErrorReport),
    Failed(ErrorReport),
}

/// The whole child. `arguments` are those after [`SUBCOMMAND`]. Must run before any other thread is
/// started: see [`confine`].
pub fn child_main(arguments: &[String]) -> ExitCode {
    let answer = match Order::read(arguments) {
        Some(order) => work(&order),
        None => failed("archive.child", &std::io::Error::other("the arguments are not those of an unpacking")),
    };
    let done = matches!(answer, Answer::Done { .. });
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    match std::io::stdout().write_all(&line) {
        Ok(()) if done => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn work(order: &Order) -> Answer {
    let opened = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|archive| Ok((File::from(archive), open_stage(&order.stage)?)));
    let (archive, stage) = match opened {
        Ok(both) => both,
        Err(error) => return failed("archive.stage", &error),
    };
    // Modes of what is made are as given.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let cage =
        Cage { stage: stage.as_fd(), user: order.user, file_bytes: order.limits.bytes, cpu_seconds: order.cpu_seconds };
    let notes = match confine(&cage) {
        Ok(notes) => notes,
        Err(error) => return failed("archive.confine", &error),
    };
    let decoder = match Decoder::start() {
        Ok(decoder) => decoder,
        Err(error) => return failed("archive.child", &error),
    };
    if let Err(error) = forbid_processes() {
        return failed("archive.confine", &error);
    }
    match extract(archive, stage, order.strip, &order.limits, decoder) {
        Ok(tally) => Answer::Done { tally, notes },
        Err(error @ UnpackError::Refused { .. }) => Answer::Refused(ErrorReport::of("archive.refused", &error, None)),
        Err(error) if error.is_full() => Answer::Full(ErrorReport::of("archive.no-space", &error, None)),
        Err(error) => failed("archive.io", &error),
    }
}

pub(super) fn open_stage(path: &str) -> std::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn failed(code: &str, error: &(dyn std::error::Error + 'static)) -> Answer {
    Answer::Failed(ErrorReport::of(code, error, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back() {
        let order = Order {
            stage: "/srv/x".into(),
            user: 65533,
            strip: 1,
            cpu_seconds: 60,
            limits: ArchiveLimits { bytes: 1, entries: 2, ratio: 3 },
        };
        let arguments = order.arguments();
        assert_eq!(arguments[0], SUBCOMMAND);
        assert_eq!(Order::read(&arguments[1..]), Some(order));
        assert_eq!(Order::read(&["/srv/x".to_owned()]), None);
        assert_eq!(Order::read(&["/x", "0x1", "1", "1", "1", "1", "1"].map(String::from)), None);
    }
}
