//! Drills: restores that are rehearsed, so that a backup is known to bring its application back.
//!
//! A drill brings the newest snapshot of an instance back as [`SCRATCH`]: an account, a directory, a database and
//! units of its own, in a network namespace that leads nowhere. No pass knows of it: its units are below `/run`, it
//! is in no document, and the machine's web server has no site for it. Read [`Agent::drill`] first.
//!
//! # Guarantees
//!
//! Nothing of it is left on any way out but a kill; what that leaves, the next drill clears away before it begins.
//! It never asks the live site, never writes into its data, and is not begun without room.

mod record;
mod room;
mod sweep;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde::Serialize;

pub use record::{Drill, Drills};

use super::content::{Manifest, ROWS};
use super::restore::RestorePlan;
use super::rows::{self, AllRows};
use super::{BackupError, Record, asked_to_end};
use crate::agent::ledger::Ledger;
use crate::agent::reconcile::{Agent, AgentError};
use crate::agent::secrets;
use crate::durable::{self, HostLock};
use crate::engine::{Events, pass};
use crate::host::vault::Access;
use crate::host::{Host, PortError};
use crate::model::Name;
use crate::model::backup::SCRATCH;
use crate::model::document::{InstanceState, Repository};
use crate::model::report::ErrorReport;
use crate::recipe::{self, Apart, Context, Recipe};
use crate::resources::release::{self, ReleaseId};
use crate::resources::setup;

/// Units that are gone with the next boot.
const RUNNING: &str = "/run/systemd/system";
/// Units and tasks of drills.
const PREFIX: &str = "socle-socle-drill-";
const TASKS: &str = "socle-task-socle-drill-";

/// For every unit of a drill, and for its tasks: one network for all, which leads nowhere, and no way to send mail.
const APART: &str = "# Managed by socle: nothing of a drill reaches anybody.
[Unit]
JoinsNamespaceOf=socle-socle-drill-web-server.service
[Service]
PrivateNetwork=yes
IPAddressDeny=any
IPAddressAllow=localhost
InaccessiblePaths=-/usr/sbin/sendmail -/usr/lib/sendmail -/usr/bin/mail
";

/// Tables that are named when their rows differ.
const NAMED: usize = 5;

/// What became of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drilled {
    pub instance: Name,
    pub repository: Name,
    #[serde(flatten)]
    pub drill: Drill,
}

/// What a drill that went well found.
struct Proof {
    rto: Duration,
    tables: usize,
}

fn scratch() -> Name {
    SCRATCH.parse().expect("the name of drills is a name")
}

fn database() -> String {
    recipe::database_name(&scratch())
}

impl Agent {
    /// The instance whose turn it is; `None` if nothing was saved yet.
    pub fn drill_due(&self, repository: &Name) -> Result<Option<Name>, BackupError> {
        let record = Record::load(&self.state, repository)?;
        let document = self.document()?;
        let wanted = document.instances.into_iter().filter(|(_, instance)| instance.state != InstanceState::Absent);
        let saved = wanted
            .map(|(name, _)| name)
            .filter(|name| record.instances.get(name).is_some_and(|saved| saved.good.is_some()));
        Ok(Drills::load(&self.state, repository)?.due(saved))
    }

    /// Brings the instance back where nobody sees it, asks its health checks, compares its rows with those that were
    /// saved, and clears everything away. That a restore fails is its answer, and is kept; an error is that there
    /// could be no drill.
    pub async fn drill(
        &self,
        (name, repository): (&Name, &Repository),
        instance: &Name,
        at: Option<&str>,
        events: &dyn Events,
    ) -> Result<Drilled, BackupError> {
        let _lock = self.drill_lock()?;
        self.sweep().await?;
        let from = (name.to_string(), self.access(name, repository)?);
        let mut drill = Drill { at: (self.now)(), snapshot: None, rto_ms: None, tables: 0, error: None };
        let proof = match self.plan_restore(&from, instance, at).await {
            Err(error @ (BackupError::NoSnapshot { .. } | BackupError::Ambiguous { .. })) => return Err(error),
            Err(error) => Err(error),
            Ok((plan, manifest)) => {
                drill.snapshot = Some(plan.snapshot.clone());
                let proof = tokio::select! {
                    proof = self.rehearse(&from.1, &plan, &manifest, events) => proof,
                    () = asked_to_end() => Err(BackupError::Interrupted),
                };
                let swept = self.sweep().await;
                if matches!(proof, Err(BackupError::Interrupted)) {
                    swept?;
                    return Err(BackupError::Interrupted);
                }
                proof.and_then(|proof| swept.map(|()| proof))
            }
        };
        match proof {
            Ok(Proof { rto, tables }) => {
                drill.rto_ms = Some(rto.as_millis().try_into().unwrap_or(u64::MAX));
                drill.tables = tables;
            }
            Err(error) => drill.error = Some(error.of(name, repository).report()),
        }
        let mut drills = Drills::load(&self.state, name)?;
        drills.of.insert(instance.clone(), drill.clone());
        drills.store(&self.state, name)?;
        Ok(Drilled { instance: instance.clone(), repository: name.clone(), drill })
    }

    /// Clears away what a drill left that was killed.
    pub async fn sweep_drill(&self) -> Result<(), BackupError> {
        let _lock = self.drill_lock()?;
        self.sweep().await
    }

    fn drill_lock(&self) -> Result<HostLock, BackupError> {
        super::make_private(&self.state)?;
        Ok(HostLock::take(&self.state.join("drill.lock"), &format!("a drill, PID {}", std::process::id()))?)
    }

    async fn rehearse(
        &self,
        access: &Access,
        plan: &RestorePlan,
        manifest: &Manifest,
        events: &dyn Events,
    ) -> Result<Proof, BackupError> {
        let begun = Instant::now();
        let name = scratch();
        self.room(access, plan, manifest).await?;
        self.note_engines(&manifest.databases.iter().map(|(engine, _)| *engine).collect())?;
        self.own_account(&name).await?;
        let mut intent = self.bring(access, &plan.snapshot, manifest, &name).await?;
        // It keeps its domain: nobody meets it there.
        intent.returned.of = None;
        // Nothing of it is kept: what is learnt from a drill is in its record.
        let mut ledger = Ledger::load(&self.state).map_err(AgentError::from)?;
        self.take_up(&name, intent, &mut ledger)?;
        let apart = self.apart(manifest, &ledger)?;
        // Before a program of it runs.
        self.wall_off().await?;
        lend(&self.host, &manifest.release, &name).await;
        let brought = pass::apart(&self.host, &apart.ground, &self.drill_state(), (self.now)(), events).await;
        brought.map_err(BackupError::Record)?.map_err(BackupError::Rehearsal)?;
        let restored = begun.elapsed();

        // Before anything of the application runs, which may write: that ends its pause, too.
        let tables = self.compare(access, plan, manifest).await?;

        let begun = Instant::now();
        let gone_on = setup::go_on(&self.host, name.as_str(), &apart.leave).await;
        gone_on.map_err(|error| BackupError::Rehearsal(error.report))?;
        self.start(&apart).await?;
        let socket = self.host.path(&apart.socket);
        let asked = apart.probes.iter().map(|probe| setup::prove(&self.host, probe, Some(&socket)));
        try_join_all(asked).await.map_err(|error| BackupError::Rehearsal(error.report))?;
        Ok(Proof { rto: restored + begun.elapsed(), tables })
    }

    /// Everything of it, as its recipe is now.
    fn apart(&self, manifest: &Manifest, ledger: &Ledger) -> Result<Apart, BackupError> {
        let name = scratch();
        let known = |recipe: &Name| self.catalog.get(recipe);
        let recipe: &Recipe = known(&manifest.wanted.recipe).ok_or_else(|| {
            let message = format!("there is no recipe `{}` any more", manifest.wanted.recipe);
            BackupError::Rehearsal(PortError::new("recipe.missing", message).report())
        })?;
        let mut values = BTreeMap::new();
        for spec in recipe.secrets() {
            let made = || recipe::secret::generate(spec.alphabet, spec.length, &mut |bytes| (self.random)(bytes));
            let value = secrets::read(&self.state, &name, &spec.name).map_err(AgentError::from)?;
            values.insert(spec.name.clone(), value.unwrap_or_else(made));
        }
        let context = Context {
            facts: &self.facts,
            secrets: &[(name.clone(), values)].into(),
            keep: &BTreeMap::new(),
            seen: &ledger.seen,
            python_index: self.python_index.as_deref(),
            certificates: &BTreeMap::new(),
            now: (self.now)(),
        };
        let apart = recipe::compile_apart(&name, &manifest.wanted, recipe, &context);
        let apart = apart.map_err(AgentError::Uncompilable)?;
        if apart.release == manifest.release {
            return Ok(apart);
        }
        let message =
            format!("the release {} cannot be made again: its recipe makes {}", manifest.release, apart.release);
        Err(BackupError::Rehearsal(PortError::new("release.changed", message).report()))
    }

    /// How many tables have as many rows as were saved.
    async fn compare(&self, access: &Access, plan: &RestorePlan, manifest: &Manifest) -> Result<usize, BackupError> {
        let saved = match self.text(access, &plan.snapshot, ROWS).await {
            Ok(text) => serde_json::from_str::<AllRows>(&text)
                .map_err(|source| BackupError::Foreign { id: plan.snapshot.0.clone(), source: Some(source) })?,
            // Of an instance without databases.
            Err(BackupError::Vault(error)) if error.code == "vault.no-such-path" => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut tables = 0;
        for (engine, name) in &manifest.databases {
            let Some(saved) = saved.get(&rows::key(*engine, name)) else { continue };
            let found = self.host.databases.rows(*engine, &database()).await?;
            let differ = rows::differences(saved, &found, NAMED);
            if !differ.is_empty() {
                return Err(BackupError::RowsDiffer(differ));
            }
            tables += found.len();
        }
        Ok(tables)
    }

    /// Whatever is started from now on under the names of a drill reaches nobody.
    async fn wall_off(&self) -> Result<(), BackupError> {
        for prefix in [PREFIX, TASKS] {
            put(&self.host.path(RUNNING).join(format!("{prefix}.service.d/apart.conf")), APART)?;
        }
        Ok(self.host.units.daemon_reload().await?)
    }

    async fn start(&self, apart: &Apart) -> Result<(), BackupError> {
        let place = self.host.path(RUNNING);
        let own = format!("[Service]\nBindReadOnlyPaths={}:/etc/nginx/nginx.conf\n", apart.configuration);
        put(&place.join(format!("{PREFIX}web-server.service.d/configuration.conf")), &own)?;
        for (unit, text) in &apart.units {
            put(&place.join(unit), text)?;
        }
        self.host.units.daemon_reload().await?;
        for (unit, _) in &apart.units {
            self.host.units.start(unit).await?;
        }
        Ok(())
    }
}

fn put(path: &Path, text: &str) -> Result<(), BackupError> {
    if let Some(directory) = path.parent() {
        super::restore::make(directory, 0o755)?;
    }
    durable::write(path, text.as_bytes(), 0o644).map_err(BackupError::Record)
}

/// The release of an instance of this server is not fetched again.
async fn lend(host: &Host, release: &ReleaseId, to: &Name) {
    match release::lend(host, release, to.as_str()).await {
        Ok(lent) => tracing::debug!(%release, lent, "a release that is here already"),
        // It is fetched then.
        Err(error) => tracing::warn!(%release, %error, "a release that is here cannot be copied"),
    }
}

/// For whoever asks whether it went well.
impl Drilled {
    pub fn is_well(&self) -> bool {
        self.drill.error.is_none()
    }

    pub fn error(&self) -> Option<&ErrorReport> {
        self.drill.error.as_ref()
    }
}
