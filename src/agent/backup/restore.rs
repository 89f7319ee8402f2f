//! The way back. A restore stages everything a snapshot holds of an instance and then notes, in one file, that it
//! takes the place of what is there; from that moment on it stands, and each pass goes on with it until it is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::content::{self, CONFIG, DIRECTORIES, DOCUMENT, FORM, MANIFEST, Manifest, OWN_RECIPES, RECIPES, SECRETS};
use super::{BackupError, Brought, key};
use crate::agent::ledger::Ledger;
use crate::agent::reconcile::{Agent, AgentError};
use crate::durable::{self, HostLock};
use crate::host::vault::{Access, Renamed, Snapshot, SnapshotId};
use crate::model::document::{Repository, RepositoryLocation};
use crate::model::{Digest, Name, Secret};
use crate::recipe;
use crate::resources::setup::{Dump, Identity, Observed, Returned, Staged, State, observe};

/// What a restore would do, for the person who decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    pub instance: Name,
    pub repository: String,
    pub snapshot: SnapshotId,
    pub at: Timestamp,
    /// What it was given when it was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Of the server that was saved.
    pub server: String,
    pub version: String,
    pub bytes: u64,
    pub files: u64,
    pub databases: usize,
    /// There is something that it takes the place of.
    pub replaces: bool,
}

/// What stands to be put in place: `restore/<instance>.json` of the agent's state. Written when everything is
/// staged and on disk; removed when the next pass knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The moment of the snapshot.
    at: Timestamp,
    pub(super) returned: Returned,
    /// A directory with one file a secret.
    secrets: Option<String>,
    seen: BTreeMap<String, Digest>,
}

impl Agent {
    /// The snapshot that is meant by `at`: the beginning of its identifier, or a moment; without it the newest.
    pub async fn plan_restore(
        &self,
        from: &(String, Access),
        name: &Name,
        at: Option<&str>,
    ) -> Result<(RestorePlan, Manifest), BackupError> {
        let (repository, access) = from;
        let snapshot = self.snapshot(repository, access, name, at).await?;
        let manifest = self.manifest(access, &snapshot).await?;
        let plan = RestorePlan {
            instance: name.clone(),
            repository: repository.clone(),
            at: snapshot.at,
            tags: super::given(&snapshot.tags).into_iter().map(str::to_owned).collect(),
            server: manifest.server.clone(),
            version: manifest.wanted.version.to_string(),
            bytes: snapshot.bytes,
            files: snapshot.files,
            databases: manifest.databases.len(),
            replaces: self.host.path(format!("/srv/socle/{name}/data")).exists(),
            snapshot: snapshot.id,
        };
        Ok((plan, manifest))
    }

    /// Gets an instance ready to be brought back as it was; the next pass does it, and then goes on to what the
    /// document wants.
    pub async fn stage_restore(
        &self,
        from: &(String, Access),
        plan: &RestorePlan,
        manifest: &Manifest,
    ) -> Result<(), BackupError> {
        if !self.document()?.instances.contains_key(&plan.instance) {
            return Err(AgentError::NoSuchInstance(plan.instance.clone()).into());
        }
        self.stage(&from.1, &plan.snapshot, manifest, &plan.instance).await
    }

    /// Gets every instance of a lost server ready on a blank one, with the recovery key and what else was brought.
    /// The document it answers is to be applied, and then [`Agent::recovered`].
    pub async fn stage_recovery(
        &self,
        location: &RepositoryLocation,
        password: Secret,
        brought: &Brought,
    ) -> Result<String, BackupError> {
        let ledger = Ledger::load(&self.state).map_err(AgentError::from)?;
        let begun = self.state.join("recovering");
        if ledger.accepted.is_some() && !begun.exists() {
            return Err(BackupError::NotBlank);
        }
        make(&self.state, 0o700)?;
        let name: Name = "recovery".parse().expect("this is a name");
        let access = self.access_with(&name, &Repository::at(location.clone()), password.clone(), Some(brought))?;
        let from = (location.to_string(), access);
        let newest = self.newest_of_each(&from).await?;
        let latest = newest
            .values()
            .max_by_key(|snapshot| snapshot.at)
            .ok_or_else(|| BackupError::Nothing(location.to_string()))?;
        let document = self.text(&from.1, &latest.id, DOCUMENT).await?;
        let parsed = crate::model::document::parse("document.toml", &document).map_err(AgentError::Refused)?;
        // A recovery that was interrupted begins again, and a blank server is known by this.
        durable::write(&begun, location.as_str().as_bytes(), 0o600).map_err(BackupError::Record)?;
        for (name, repository) in
            parsed.repositories.iter().filter(|(_, repository)| repository.location.leads_to(location))
        {
            tracing::info!(%name, %location, "the key that was brought is kept");
            key::keep(&self.state, name, &password)?;
            self.keep_brought(repository, brought)?;
        }
        self.bring_recipes(&from.1, &latest.id).await?;
        for (name, snapshot) in newest.iter().filter(|(name, _)| parsed.instances.contains_key(*name)) {
            let manifest = self.manifest(&from.1, snapshot).await?;
            self.own_account(name).await?;
            self.host.progress.say(&format!("bringing {name} back, of {}", snapshot.at));
            self.stage(&from.1, &snapshot.id, &manifest, name).await?;
        }
        Ok(document)
    }

    /// The association's own recipes, which the document needs. One that is there already stays: somebody put it there.
    async fn bring_recipes(&self, access: &Access, snapshot: &SnapshotId) -> Result<(), BackupError> {
        let own = self.host.path(OWN_RECIPES);
        // Beside them: whatever is below their own directory is a recipe.
        let stage = own.with_extension("recovered");
        let staging = |path: &Path, source| BackupError::Stage { path: path.to_owned(), source };
        make(&own, 0o755)?;
        make(&stage, 0o755)?;
        match self.vault.restore(access, snapshot, Path::new(RECIPES), &stage, &*self.host.progress).await {
            Ok(_) => {}
            // Most servers have none.
            Err(error) if error.code == "vault.no-such-path" => {}
            Err(error) => return Err(error.into()),
        }
        for recipe in std::fs::read_dir(&stage).map_err(|error| staging(&stage, error))? {
            let from = recipe.map_err(|error| staging(&stage, error))?.path();
            let to = own.join(from.file_name().unwrap_or_default());
            if !to.exists() {
                durable::rename(&from, &to).map_err(BackupError::Record)?;
                self.host.progress.say(&format!("brought the recipe `{}` back", to.display()));
            }
        }
        std::fs::remove_dir_all(&stage).map_err(|error| staging(&stage, error))
    }

    /// The user of an instance, before its files: they are given to it by name.
    pub(super) async fn own_account(&self, name: &Name) -> Result<(), BackupError> {
        let user = format!("socle-{name}");
        let known = self.host.accounts.states(&[user.clone()].into()).await?;
        if known.get(&user).is_none_or(Option::is_none) {
            self.host.accounts.create(&user, &format!("socle {name}"), &format!("/srv/socle/{name}")).await?;
        }
        Ok(())
    }

    /// The server is as its document wants it: from now on it is no blank one.
    pub fn recovered(&self) -> Result<(), BackupError> {
        durable::remove(&self.state.join("recovering")).map_err(BackupError::Record)
    }

    /// The newest snapshot of each instance.
    async fn newest_of_each(&self, from: &(String, Access)) -> Result<BTreeMap<Name, Snapshot>, BackupError> {
        let mut newest = BTreeMap::new();
        // Oldest first, so the last one stays.
        for snapshot in self.vault.snapshots(&from.1).await? {
            if let Some(name) = content::instance_of(&snapshot.tags) {
                newest.insert(name, snapshot);
            }
        }
        Ok(newest)
    }

    async fn snapshot(
        &self,
        repository: &str,
        access: &Access,
        name: &Name,
        at: Option<&str>,
    ) -> Result<Snapshot, BackupError> {
        let tag = content::tag(name);
        let all = self.vault.snapshots(access).await?;
        let all: Vec<Snapshot> = all.into_iter().filter(|snapshot| snapshot.tags.contains(&tag)).collect();
        let missing = || BackupError::NoSnapshot {
            repository: repository.to_owned(),
            instance: name.clone(),
            at: at.map(str::to_owned),
        };
        choose(&all, at).map_err(|choice| match choice {
            Choice::None => missing(),
            Choice::Many => BackupError::Ambiguous { instance: name.clone(), at: at.unwrap_or_default().to_owned() },
        })
    }

    async fn manifest(&self, access: &Access, snapshot: &Snapshot) -> Result<Manifest, BackupError> {
        let text = self.text(access, &snapshot.id, MANIFEST).await?;
        let foreign = |source| BackupError::Foreign { id: snapshot.id.0.clone(), source };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| foreign(Some(error)))?;
        if manifest.form == FORM { Ok(manifest) } else { Err(foreign(None)) }
    }

    /// A small file of a snapshot.
    pub(super) async fn text(&self, access: &Access, snapshot: &SnapshotId, path: &str) -> Result<String, BackupError> {
        use std::io::{Read, Seek};
        let staging = |source| BackupError::Stage { path: self.state.clone(), source };
        let mut file = tempfile::tempfile_in(&self.state).map_err(staging)?;
        let copy = file.try_clone().map_err(staging)?;
        self.vault.read(access, snapshot, Path::new(path), copy).await?;
        let mut text = String::new();
        file.rewind().and_then(|()| file.take(16 << 20).read_to_string(&mut text)).map_err(staging)?;
        Ok(text)
    }

    /// Everything of the snapshot beside what it will replace, on disk; then the note that it stands.
    pub(super) async fn stage(
        &self,
        access: &Access,
        snapshot: &SnapshotId,
        manifest: &Manifest,
        name: &Name,
    ) -> Result<(), BackupError> {
        let intent = self.bring(access, snapshot, manifest, name).await?;
        let bytes = serde_json::to_vec_pretty(&intent).expect("an intent is plain data");
        durable::write(&self.intents().join(format!("{name}.json")), &bytes, 0o600).map_err(BackupError::Record)
    }

    /// The same for any instance, without the note: files belong to its user, dumps are of its database.
    pub(super) async fn bring(
        &self,
        access: &Access,
        snapshot: &SnapshotId,
        manifest: &Manifest,
        name: &Name,
    ) -> Result<Intent, BackupError> {
        let owners: Renamed = match *name == manifest.instance {
            true => Renamed::new(),
            false => [(user(&manifest.instance), user(name))].into(),
        };
        let home = PathBuf::from(format!("/srv/socle/{name}"));
        let mut directories = Vec::new();
        // What is rendered for an instance is no other's: it is rendered anew.
        let ours = DIRECTORIES.into_iter().filter(|directory| owners.is_empty() || *directory != CONFIG);
        for directory in ours {
            let staged = content::staged(&home, directory);
            make(&self.host.path(staged.display().to_string()), 0o700)?;
            let to = self.host.path(staged.display().to_string());
            self.vault
                .restore_as(access, snapshot, Path::new(&format!("/{directory}")), &to, &owners, &*self.host.progress)
                .await?;
            directories.push(Staged {
                from: staged.display().to_string(),
                to: home.join(directory).display().to_string(),
                aside: home.join("replaced").join(directory).display().to_string(),
            });
        }
        let secrets = self.staged_secrets(access, snapshot, name).await?;
        let mut dumps = Vec::new();
        let kept = format!("/var/lib/socle/dumps/{name}/{}.returned", manifest.release);
        for (engine, database) in &manifest.databases {
            make(&self.host.path(&kept), 0o700)?;
            let from = content::dump_path(*engine, database);
            let database = match owners.is_empty() {
                true => database.clone(),
                false => recipe::database_name(name),
            };
            let path = format!("{kept}/{}-{database}.sql", engine.as_str());
            let roles = (*engine, (user(&manifest.instance), user(name)));
            let sha256 = self.staged_dump(access, snapshot, &from, &path, roles).await?;
            dumps.push(Dump { engine: *engine, database, path, sha256 });
        }
        let of = Identity { name: manifest.instance.to_string(), domain: manifest.wanted.domain.to_string() };
        let returned = Returned { release: manifest.release.clone(), dumps, directories, of: Some(of) };
        Ok(Intent { at: manifest.at, returned, secrets, seen: manifest.seen.clone() })
    }

    async fn staged_secrets(
        &self,
        access: &Access,
        snapshot: &SnapshotId,
        name: &Name,
    ) -> Result<Option<String>, BackupError> {
        let to = self.intents().join(format!("{name}.secrets"));
        make(&to, 0o700)?;
        match self.vault.restore(access, snapshot, Path::new(SECRETS), &to, &*self.host.progress).await {
            Ok(_) => Ok(Some(to.display().to_string())),
            // Not every recipe has secrets.
            Err(error) if error.code == "vault.no-such-path" => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn intents(&self) -> PathBuf {
        self.state.join("restore")
    }

    /// What was noted before this pass: secrets, and the state that makes the pass put the rest in place. May be
    /// repeated from any point. What the report says of it.
    pub(in crate::agent) fn take_up_restores(
        &self,
        ledger: &mut Ledger,
        _lock: &HostLock,
    ) -> Result<Vec<String>, AgentError> {
        let mut notes = Vec::new();
        let intents = match std::fs::read_dir(self.intents()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(notes),
            entries => entries.map_err(|error| AgentError::State(self.intents(), error))?,
        };
        for entry in intents {
            let path = entry.map_err(|error| AgentError::State(self.intents(), error))?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Name>().ok());
            let (Some(name), Some("json")) = (name, path.extension().and_then(|end| end.to_str())) else { continue };
            let Some(bytes) = durable::read(&path).map_err(AgentError::Restore)? else { continue };
            let intent: Intent = serde_json::from_slice(&bytes)
                .map_err(|source| AgentError::RestoreDamaged { path: path.clone(), source })?;
            notes.push(format!("{name}: what was saved at {} takes the place of what is there", intent.at));
            let secrets = intent.secrets.clone();
            self.take_up(&name, intent, ledger)?;
            durable::remove(&path).map_err(AgentError::Restore)?;
            if let Some(secrets) = secrets {
                // Best effort: the next restore of this instance writes them anew.
                let _ = std::fs::remove_dir_all(secrets);
            }
        }
        Ok(notes)
    }

    pub(super) fn take_up(&self, name: &Name, intent: Intent, ledger: &mut Ledger) -> Result<(), AgentError> {
        for (url, digest) in intent.seen {
            ledger.seen.entry(url).or_insert(digest);
        }
        if let Some(staged) = intent.secrets {
            let secrets = self.state.join("secrets").join(name.as_str());
            make(&secrets, 0o700).map_err(|error| AgentError::State(secrets.clone(), std::io::Error::other(error)))?;
            let unreadable = |error| AgentError::State(PathBuf::from(&staged), error);
            for secret in std::fs::read_dir(&staged).map_err(unreadable)? {
                let from = secret.map_err(unreadable)?.path();
                let bytes = std::fs::read(&from).map_err(unreadable)?;
                let to = secrets.join(from.file_name().unwrap_or_default());
                durable::write(&to, &bytes, 0o600).map_err(AgentError::Restore)?;
            }
        }
        let observed = Observed { state: Some(State::Returned { backup: intent.returned }), ..Observed::default() };
        let path = observe::path(&self.host, name.as_str());
        let made = make(path.parent().unwrap_or(Path::new("/")), 0o700);
        made.map_err(|error| AgentError::State(path.clone(), std::io::Error::other(error)))?;
        let bytes = serde_json::to_vec_pretty(&observed).expect("a state is plain data");
        durable::write(&path, &bytes, 0o600).map_err(AgentError::Restore)
    }
}

fn user(name: &Name) -> String {
    format!("socle-{name}")
}

pub(super) fn make(path: &Path, mode: u32) -> Result<(), BackupError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| BackupError::Stage { path: path.to_owned(), source })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    None,
    Many,
}

/// The newest; the newest that is not after a moment; or the one whose identifier begins so.
fn choose(all: &[Snapshot], at: Option<&str>) -> Result<Snapshot, Choice> {
    let newest = |until: Option<Timestamp>| {
        let in_time = all.iter().filter(|snapshot| until.is_none_or(|until| snapshot.at <= until));
        in_time.max_by_key(|snapshot| snapshot.at).cloned().ok_or(Choice::None)
    };
    let Some(at) = at else { return newest(None) };
    if let Ok(moment) = at.parse::<Timestamp>() {
        return newest(Some(moment));
    }
    let mut meant = all.iter().filter(|snapshot| at.len() >= 4 && snapshot.id.0.starts_with(at));
    match (meant.next(), meant.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(_), Some(_)) => Err(Choice::Many),
        (None, _) => Err(Choice::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, at: &str) -> Snapshot {
        let at = at.parse().unwrap();
        Snapshot {
            id: SnapshotId(id.to_owned()),
            host: String::new(),
            tags: Vec::new(),
            at,
            bytes: 0,
            files: 0,
            added: None,
        }
    }

    #[test]
    fn a_snapshot_is_meant_by_moment_or_name() {
        let all = [
            snapshot("abcd1", "2026-01-01T00:00:00Z"),
            snapshot("abcd2", "2026-01-02T00:00:00Z"),
            snapshot("ef011", "2026-01-03T00:00:00Z"),
        ];
        let id = |at: Option<&str>| choose(&all, at).map(|snapshot| snapshot.id.0);
        assert_eq!(id(None).unwrap(), "ef011");
        assert_eq!(id(Some("2026-01-02T12:00:00Z")).unwrap(), "abcd2");
        assert_eq!(id(Some("2025-01-02T12:00:00Z")), Err(Choice::None));
        assert_eq!(id(Some("abcd2")).unwrap(), "abcd2");
        assert_eq!(id(Some("abcd")), Err(Choice::Many));
        assert_eq!(id(Some("ef0")), Err(Choice::None));
        assert_eq!(choose(&[], None), Err(Choice::None));
    }
}
