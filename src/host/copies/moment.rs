//! The port [`Snapshots`] on btrfs: directories as they were at one moment.
//!
//! To take a subvolume of somebody else's and to remove one needs powers that a backup has not (CAP_FOWNER,
//! CAP_SYS_ADMIN), so it asks systemd to run a child of ours beside it, for as long as an ioctl(2) takes:
//!
//! ```text
//! socle internal-snapshot take FROM TO [FROM TO …]
//! socle internal-snapshot remove PLACE
//! ```

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use async_trait::async_trait;

use super::{CopyError, btrfs, refuse_mounts, remove, tree};
use crate::host::process::{Exit, tail_of};
use crate::host::systemd::{Apart, Systemd};
use crate::host::{PortError, PortResult, Snapshots, Taken};

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "internal-snapshot";
/// One at a time.
const UNIT: &str = "socle-snapshot.service";
/// The file system writes what is still to be written first.
const PATIENCE: Duration = Duration::from_secs(600);
/// Of what the child said.
const TAIL: usize = 4 << 10;

pub struct BtrfsSnapshots {
    systemd: Systemd,
    program: PathBuf,
    /// A directory for the words of the child.
    state: PathBuf,
}

impl BtrfsSnapshots {
    pub fn new(systemd: Systemd, program: PathBuf, state: PathBuf) -> Self {
        Self { systemd, program, state }
    }

    async fn child(&self, act: &str, paths: &[&Path]) -> PortResult<()> {
        let failed =
            |why: String| PortError::new("snapshot.failed", format!("cannot {act} a snapshot of files: {why}"));
        let shown =
            |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| failed(format!("`{}`", path.display())));
        let mut words = vec![shown(&self.program)?, SUBCOMMAND.to_owned(), act.to_owned()];
        for path in paths {
            words.push(shown(path)?);
        }
        let made = tempfile::Builder::new().prefix("snapshot-").tempfile_in(&self.state);
        let mut log = made.map_err(|error| failed(format!("`{}`", self.state.display())).because(error))?;
        let description = format!("socle: {act} a snapshot of files");
        let apart = Apart { name: UNIT, description: &description, words: &words, environment: &[], log: log.path() };
        let ended = self.systemd.run_apart(&apart, PATIENCE).await;
        match ended.map_err(PortError::from)? {
            Some(Exit::Code(0)) => Ok(()),
            None => Err(failed(format!("it is not done after {} s", PATIENCE.as_secs())).retryable()),
            Some(exit) => {
                let mut said = Vec::new();
                // That it failed is certain; why, it may not have said.
                let _ = log.read_to_end(&mut said);
                Err(failed(format!("{exit}: {}", tail_of(&said, TAIL))))
            }
        }
    }
}

#[async_trait]
impl Snapshots for BtrfsSnapshots {
    fn can(&self, directories: &[PathBuf]) -> bool {
        !directories.is_empty()
            && directories.iter().all(|path| btrfs::is_plain_subvolume(path) && refuse_mounts(path).is_ok())
    }

    async fn take(&self, all: &[Taken]) -> PortResult<()> {
        let paths: Vec<&Path> = all.iter().flat_map(|taken| [&*taken.of, &*taken.at]).collect();
        self.child("take", &paths).await
    }

    async fn remove(&self, place: &Path) -> PortResult<()> {
        self.child("remove", &[place]).await
    }
}

/// The child.
pub fn child_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<PathBuf> = args.map(PathBuf::from).collect();
    let done = match args.split_first() {
        Some((act, rest)) if act.as_os_str() == "take" && rest.len() >= 2 && rest.len().is_multiple_of(2) => {
            rest.chunks(2).try_for_each(|pair| take(&pair[0], &pair[1]))
        }
        Some((act, [place])) if act.as_os_str() == "remove" => remove(place),
        _ => Err(CopyError::Read(PathBuf::new(), io::ErrorKind::InvalidInput.into())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
            // Its reader may have gone.
            let _ = writeln!(io::stderr(), "{error}{why}");
            ExitCode::FAILURE
        }
    }
}

/// A subvolume as a read-only snapshot, anything else (small, as the port says) as a copy.
pub(in crate::host) fn take(of: &Path, at: &Path) -> Result<(), CopyError> {
    let cannot = |error| CopyError::Write(at.to_owned(), error);
    if let Some(place) = at.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(place).map_err(cannot)?;
    }
    if btrfs::is_plain_subvolume(of) {
        return btrfs::snapshot(of, at, true).map_err(cannot);
    }
    if !fs::exists(of).map_err(|error| CopyError::Read(of.to_owned(), error))? {
        return Err(CopyError::Read(of.to_owned(), io::ErrorKind::NotFound.into()));
    }
    tree::copy(of, at).map(drop)
}
