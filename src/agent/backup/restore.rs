//! The way back. A restore stages everything a snapshot holds of an instance and then notes, in one file, that it
//! takes the place of what is there; from that moment on it stands, and each pass goes on with it until it is done.

use std::fs::File;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::content::{self, CONFIG, DOCUMENT, Manifest, OWN_RECIPES, RECIPES, SECRETS};
use super::take_up::Intent;
use super::{BackupError, Brought, key};
use crate::agent::ledger::Ledger;
use crate::agent::reconcile::{Agent, AgentError};
use crate::durable;
use crate::host::copies;
use crate::host::vault::{Access, Renamed, SnapshotId};
use crate::model::document::{Repository, RepositoryLocation};
use crate::model::{Name, Secret};
use crate::recipe;
use crate::resources::setup::{Dump, Identity, Returned, Staged};

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
        let home = content::home(name);
        let mut directories = Vec::new();
        // What is rendered for an instance is no other's: it is rendered anew.
        let ours = manifest.directories.iter().filter(|directory| owners.is_empty() || *directory != CONFIG);
        for directory in ours {
            let staged = content::staged(&home, directory);
            let to = self.host.path(&staged);
            if directory == CONFIG {
                make(&to, 0o700)?;
            } else {
                make_whole(&to)?;
            }
            let from = content::place_of(directory);
            self.vault.restore_as(access, snapshot, &from, &to, &owners, &*self.host.progress).await?;
            directories.push(Staged {
                from: staged.display().to_string(),
                to: home.join(directory).display().to_string(),
                aside: home.join("replaced").join(content::flat(directory)).display().to_string(),
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
}

fn user(name: &Name) -> String {
    format!("socle-{name}")
}

pub(super) fn make(path: &Path, mode: u32) -> Result<(), BackupError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| BackupError::Stage { path: path.to_owned(), source })
}

/// A directory of data, as a pass makes it; one that an interrupted restore left is gone on with.
fn make_whole(path: &Path) -> Result<(), BackupError> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return make(path, 0o700) };
    make(above, 0o700)?;
    let made = File::open(above).and_then(|above| copies::make_directory(&above, name));
    match made {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(BackupError::Stage { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
