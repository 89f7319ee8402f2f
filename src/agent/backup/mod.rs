//! Backups of the instances of this server, and the way back.
//!
//! Owns: what is saved ([`content`]), what is known of each repository ([`record`]), which snapshots stay
//! ([`keep`]), the recovery key ([`key`]). Never: reads or writes a repository; that is
//! [`crate::host::vault`]. A restore changes nothing by itself: it stages what a snapshot holds and notes so;
//! the next pass puts it in place ([`restore`]).

mod beside;
mod choose;
mod content;
pub mod drill;
mod dumps;
mod frozen;
pub mod keep;
pub mod key;
mod missing;
mod point;
mod prune;
mod reach;
pub mod record;
pub mod restore;
mod rows;
mod run;
mod standing;
mod still;
mod take_up;
mod trouble;

use std::path::{Path, PathBuf};

pub use beside::BesidePlan;
pub use content::{Manifest, given, instance_of};
pub use prune::Tidied;
pub use reach::Brought;
pub use record::Record;
pub use run::{Errand, Outcome, Ran};
pub use still::Woken;
pub use trouble::Trouble;

use super::ledger::Ledger;
use super::reconcile::{Agent, AgentError};
use crate::durable::{DurableError, HostLock, LockError};
use crate::host::PortError;
use crate::host::vault::{Checked, Depth};
use crate::model::Name;
use crate::model::document::{Document, Repository};
use crate::model::report::ErrorReport;

/// A backup, restore or recovery that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("the accepted document has no repository{}", .0.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default())]
    NoRepository(Option<Name>),
    #[error("the repository `{0}` has no key on this server")]
    NoKey(Name),
    #[error("the key of `{0}` is damaged: it is not text")]
    KeyDamaged(PathBuf),
    #[error("{0}")]
    Secret(ErrorReport),
    #[error("`{location}` cannot be reached without `{what}`")]
    NotBrought { location: String, what: &'static str },
    #[error("line {0} of the credentials is not one of theirs")]
    Credentials(usize),
    #[error("cannot read the `roots` of `{name}` in `{path}`")]
    Roots { name: Name, path: PathBuf, source: std::io::Error },
    #[error("the SSH key `{0}` is damaged")]
    SshKey(PathBuf),
    #[error("the document does not say which server it is of")]
    NoServer,
    #[error("nothing is deleted in `{0}` by this server: it is `append_only`")]
    AppendOnly(Name),
    #[error("there is no snapshot of `{instance}` in `{repository}`{}", .at.as_ref().map(|at| format!(" that is `{at}`")).unwrap_or_default())]
    NoSnapshot { repository: String, instance: Name, at: Option<String> },
    #[error("no key of `{repository}` is `{id}`")]
    NoSuchKey { repository: Name, id: String },
    #[error("the repository `{0}` is damaged: nothing is taken out of it")]
    Damaged(Name),
    #[error("`{at}` is more than one snapshot of `{instance}`")]
    Ambiguous { instance: Name, at: String },
    #[error("the snapshot `{id}` was not made by this program, or by a newer one")]
    Foreign { id: String, source: Option<serde_json::Error> },
    #[error("`{0}` is half installed or half migrated: there is nothing whole to save")]
    Unsettled(Name),
    #[error("`{0}` was changed by a pass while it was saved")]
    Moved(Name),
    #[error("`{command}` of `{instance}` ended with code {code}; its last words: {output}")]
    Command { instance: Name, command: String, code: i32, output: String },
    #[error("cannot stage `{path}`")]
    Stage { path: PathBuf, source: std::io::Error },
    #[error("`{other}` is of the recipe `{has}`, and the snapshot of `{needs}`")]
    OtherRecipe { other: Name, has: Name, needs: Name },
    #[error("`{other}` is served at `{domain}`, as its document says")]
    OtherDomain { other: Name, domain: String },
    #[error("a new instance needs a domain of its own")]
    NoDomain,
    #[error("`{0}` is the instance that was saved")]
    Itself(Name),
    #[error("there is data of an earlier `{0}` on this server")]
    LeftOver(Name),
    #[error(
        "this server gets its document from a controller, and that document has no `{other}`; it would be:\n{written}"
    )]
    Fed { other: Name, written: String },
    #[error("there is no room for a drill in `{path}`: {needed} bytes are needed, {free} are free")]
    NoRoom { path: PathBuf, needed: u64, free: u64 },
    #[error("what was brought back is not what was saved: {}", .0.join("; "))]
    RowsDiffer(Vec<String>),
    #[error("the backup was interrupted")]
    CutOff,
    #[error("the drill was interrupted")]
    Interrupted,
    #[error("{0}")]
    Rehearsal(ErrorReport),
    #[error("cannot clear away `{path}`, which a drill left")]
    Sweep { path: PathBuf, source: std::io::Error },
    #[error("the record `{path}` of drills is damaged")]
    DrillsDamaged { path: PathBuf, source: serde_json::Error },
    #[error("this server has accepted a document already")]
    NotBlank,
    #[error("there is no backup of any instance in `{0}`")]
    Nothing(String),
    #[error("cannot keep what is known of backups")]
    Record(#[source] DurableError),
    #[error("the record `{path}` is damaged")]
    RecordDamaged { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Busy(#[from] LockError),
    #[error(transparent)]
    Vault(#[from] PortError),
    #[error("the repository `{name}` (`{location}`): {source}")]
    Repository { name: Name, location: String, source: Box<PortError> },
    #[error(transparent)]
    Agent(#[from] AgentError),
}

impl BackupError {
    /// Says which repository it was.
    fn of(self, name: &Name, repository: &Repository) -> Self {
        match self {
            BackupError::Vault(source) => {
                let location = repository.location.to_string();
                BackupError::Repository { name: name.clone(), location, source: source.into() }
            }
            other => other,
        }
    }

    /// For the person who asked: what failed, and what to try.
    pub fn report(&self) -> ErrorReport {
        let (code, hint) = match self {
            BackupError::Agent(error) => return error.report(),
            BackupError::Vault(error) => return error.report(),
            BackupError::Repository { source, .. } => {
                let message = self.to_string();
                return ErrorReport { message, ..source.report() };
            }
            BackupError::NoRepository(_) => (
                "backup.no-repository",
                Some("declare one in the document: [repositories.NAME] location = \"/…\"".into()),
            ),
            BackupError::NoKey(name) => (
                "backup.no-key",
                Some(format!("socle agent backup now --repository {name} makes the repository and its key")),
            ),
            BackupError::Secret(report) => return ErrorReport { code: "backup.secret".into(), ..report.clone() },
            BackupError::NotBrought { what, .. } => (
                "backup.not-brought",
                Some(format!("write `{what} = …` into a file that only root reads, and add `--credentials FILE`")),
            ),
            BackupError::Credentials(_) => (
                "backup.credentials",
                Some(
                    "they are `password`, `access-key-id`, `secret-access-key`, `ssh-key`, `host-keys`, `region` and `roots`"
                        .into(),
                ),
            ),
            BackupError::Roots { path, .. } => (
                "backup.roots",
                Some(format!("put the certificate of your authority into `{}`, as PEM", path.display())),
            ),
            BackupError::SshKey(path) => (
                "backup.ssh-key",
                Some(format!("move `{}` away; `socle agent backup ssh-key` makes another", path.display())),
            ),
            BackupError::NoServer => ("backup.no-server", Some("add `[server]` and `name = \"…\"`".into())),
            BackupError::AppendOnly(name) => (
                "backup.append-only",
                Some(format!("socle agent backup prune --repository {name} --credentials FILE, of whoever may delete")),
            ),
            BackupError::KeyDamaged(_) => {
                ("backup.key-damaged", Some("put the recovery key you keep into this file".into()))
            }
            BackupError::NoSnapshot { instance, .. } | BackupError::Ambiguous { instance, .. } => {
                ("backup.no-snapshot", Some(format!("socle agent backup list {instance}")))
            }
            BackupError::NoSuchKey { repository, .. } => {
                ("backup.no-such-key", Some(format!("socle agent backup key --repository {repository} list")))
            }
            BackupError::Damaged(name) => {
                ("backup.damaged", Some(format!("socle agent backup check --all --repository {name}")))
            }
            BackupError::Rehearsal(report) => return report.clone(),
            BackupError::OtherRecipe { .. } | BackupError::Itself(_) => {
                ("backup.other-recipe", Some("choose another name for `--as`".into()))
            }
            BackupError::OtherDomain { .. } => ("backup.other-domain", Some("leave `--domain` out".into())),
            BackupError::NoDomain => ("backup.no-domain", Some("add `--domain DOMAIN`".into())),
            BackupError::LeftOver(name) => (
                "backup.left-over",
                Some(format!("choose another name, or remove it for good: socle agent purge {name}")),
            ),
            BackupError::Fed { .. } => {
                ("backup.fed", Some("write it into the fleet, apply that, and run the same command again".into()))
            }
            BackupError::NoRoom { path, .. } => {
                ("backup.no-room", Some(format!("free disk space: see `df -h {}`", path.display())))
            }
            BackupError::RowsDiffer(_) => ("backup.rows-differ", Some("socle agent backup check --all".into())),
            BackupError::CutOff => ("backup.interrupted", Some("socle agent backup now".into())),
            BackupError::Interrupted => ("backup.interrupted", Some("socle agent backup drill".into())),
            BackupError::Sweep { .. } => ("backup.sweep", Some("socle agent backup drill --sweep".into())),
            BackupError::DrillsDamaged { path, .. } => (
                "backup.record-damaged",
                Some(format!("move `{}` away; the next drill writes it anew", path.display())),
            ),
            BackupError::Foreign { .. } => ("backup.foreign", Some("any restic client restores it".into())),
            BackupError::Unsettled(_) => ("backup.unsettled", Some("socle agent apply".into())),
            BackupError::Command { .. } => ("backup.command", Some("socle agent backup wake".into())),
            BackupError::Moved(_) => ("backup.moved", Some("try again".into())),
            BackupError::Stage { .. } => ("backup.stage", Some("see `df -h /srv/socle /var/lib/socle`".into())),
            BackupError::NotBlank => {
                ("backup.not-blank", Some("to bring one instance back: socle agent restore NAME".into()))
            }
            BackupError::Nothing(_) => ("backup.nothing", None),
            BackupError::Record(_) => ("backup.record", Some("see `df -h /var/lib/socle`".into())),
            BackupError::RecordDamaged { path, .. } => (
                "backup.record-damaged",
                Some(format!("move `{}` away; the next backup writes it anew", path.display())),
            ),
            BackupError::Busy(_) => ("backup.busy", Some("try again when it is done".into())),
        };
        ErrorReport::of(code, self, hint)
    }
}

impl Agent {
    /// The repository of this name, or all of them: at least one.
    pub fn repositories(&self, name: Option<&Name>) -> Result<Vec<(Name, Repository)>, BackupError> {
        let all = self.document()?.repositories.into_iter();
        let meant: Vec<_> = all.filter(|(known, _)| name.is_none_or(|name| name == known)).collect();
        if meant.is_empty() { Err(BackupError::NoRepository(name.cloned())) } else { Ok(meant) }
    }

    /// The repository of this name, or the first.
    pub fn repository(&self, name: Option<&Name>) -> Result<(Name, Repository), BackupError> {
        Ok(self.repositories(name)?.swap_remove(0))
    }

    /// Reads a repository back, and keeps what was found.
    pub async fn check_backup(
        &self,
        name: &Name,
        repository: &Repository,
        depth: Depth,
    ) -> Result<Checked, BackupError> {
        let _lock = self.backup_lock(name)?;
        let access = self.access(name, repository)?;
        let of = |error| BackupError::Vault(error).of(name, repository);
        let mut checked = self.vault.check(&access, depth, &*self.host.progress).await.map_err(of)?;
        let mut record = Record::load(&self.state, name)?;
        // What is damaged may not even be listed; then that is what is told.
        if checked.damage.is_empty() {
            let there = self.vault.snapshots(&access).await.map_err(of)?;
            missing::add(&mut checked, &record, &repository.location, &self.document()?, &there);
        }
        let damage = checked.damage.clone();
        record.check = Some(record::Check { at: (self.now)(), read: checked.read, damage });
        record.store(&self.state, name)?;
        Ok(checked)
    }

    /// What this server has accepted; an empty document if nothing was.
    pub(super) fn document(&self) -> Result<Document, AgentError> {
        match self.accepted(&Ledger::load(&self.state)?) {
            Err(AgentError::NothingAccepted) => Ok(Document::default()),
            document => document,
        }
    }

    fn backup_lock(&self, name: &Name) -> Result<HostLock, BackupError> {
        let directory = directory(&self.state, name);
        make_private(&directory)?;
        Ok(HostLock::take(&directory.join("lock"), &format!("a backup, PID {}", std::process::id()))?)
    }
}

/// `backup/<repository>` of the agent's state: its key, its record, its lock.
fn directory(state: &Path, repository: &Name) -> PathBuf {
    state.join("backup").join(repository.as_str())
}

/// A terminal's Ctrl-C, or systemd.
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn make_private(path: &Path) -> Result<(), BackupError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| BackupError::Stage { path: path.to_owned(), source })
}
