//! Backups, restores, and the loss of everything.

use std::fmt::Write as _;

use socle::agent::Ledger;
use socle::agent::backup::{self, BackupError, Brought, Errand, Tidied, Trouble, key};
use socle::engine::Silent;
use socle::host::vault::Depth;
use socle::model::Name;
use socle::model::document::{self, Engine};
use socle::model::fleet::Origin;

use super::Server;

fn told(troubles: &[Trouble]) -> String {
    troubles.iter().map(|trouble| format!("{} does not go on: {}\n", trouble.instance, trouble.error)).collect()
}

impl Server {
    pub(super) async fn back_up(&self, tags: &[&str]) -> String {
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let errand = Errand { tags, ..Errand::default() };
        let repositories = match self.agent.repositories(None) {
            Ok(repositories) => repositories,
            Err(error) => return self.no_backup(&error),
        };
        let mut out = String::new();
        for (name, repository) in repositories {
            let ran = match self.agent.back_up(&name, &repository, &errand).await {
                Ok(ran) => ran,
                Err(error) => {
                    out += &self.no_backup(&error);
                    continue;
                }
            };
            if ran.new_key {
                let _ = writeln!(out, "{name}: a new key");
                *self.key.lock().unwrap() = key::read(&self.agent.state, &name).unwrap();
            }
            for outcome in &ran.instances {
                let _ = match (&outcome.good, &outcome.error) {
                    (Some(good), _) => writeln!(out, "{}: good, {} files", outcome.instance, good.files),
                    (None, error) => writeln!(out, "{}: {}", outcome.instance, error.as_ref().unwrap()),
                };
            }
            for damage in &ran.check.damage {
                let _ = writeln!(out, "{name}: {}: {}", damage.file, damage.what);
            }
            out += &told(&ran.troubles);
            if ran.forgotten > 0 {
                let _ = writeln!(out, "{name}: forgot {}", ran.forgotten);
            }
        }
        self.without_root(&out)
    }

    pub(super) async fn wake(&self) -> String {
        match self.agent.wake_after_backup().await {
            Ok(woken) => {
                let names: String = woken.names.iter().map(|name| format!("{name}: woken\n")).collect();
                self.without_root(&(names + &told(&woken.troubles)))
            }
            Err(error) => self.no_backup(&error),
        }
    }

    pub(super) async fn check_backup(&self) -> String {
        let mut out = String::new();
        for (name, repository) in self.agent.repositories(None).unwrap_or_default() {
            match self.agent.check_backup(&name, &repository, Depth::Everything).await {
                Ok(checked) if checked.damage.is_empty() => out += &format!("{name}: whole\n"),
                Ok(checked) => checked.damage.iter().for_each(|d| out += &format!("{name}: {}: {}\n", d.file, d.what)),
                Err(error) => out += &self.no_backup(&error),
            }
        }
        self.without_root(&out)
    }

    pub(super) async fn snapshots(&self) -> String {
        let mut out = String::new();
        for (name, repository) in self.agent.repositories(None).unwrap_or_default() {
            let access = self.agent.access(&name, &repository).unwrap();
            for snapshot in self.agent.vault.snapshots(&access).await.unwrap() {
                // What was read ahead is none, and goes when nothing is damaged.
                let Some(of) = backup::instance_of(&snapshot.tags) else { continue };
                let given: String = backup::given(&snapshot.tags).iter().map(|tag| format!(" [{tag}]")).collect();
                let _ = writeln!(out, "{name}: {of} of {} at {}{given}", snapshot.host, snapshot.at);
            }
        }
        out
    }

    pub(super) async fn restore(&self, name: &Name) -> String {
        let staged = async {
            let (repository, known) = self.agent.repository(None)?;
            let from = (repository.to_string(), self.agent.access(&repository, &known)?);
            let (plan, manifest) = self.agent.plan_restore(&from, name, None).await?;
            self.agent.stage_restore(&from, &plan, &manifest).await
        };
        match staged.await {
            Ok(()) => self.report(self.agent.reconcile(&Silent).await, true),
            Err(error) => self.no_backup(&error),
        }
    }

    pub(super) async fn beside(&self, name: &Name, other: &Name, domain: &str) -> String {
        let domain = domain.parse().unwrap();
        let staged = async {
            let (repository, known) = self.agent.repository(None)?;
            let from = (repository.to_string(), self.agent.access(&repository, &known)?);
            let (plan, manifest) = self.agent.plan_beside(&from, (name, None), other, Some(&domain)).await?;
            self.agent.stage_beside(&from.1, &plan, &manifest).await
        };
        match staged.await {
            Ok(Some((file, text))) => self.report(self.agent.apply(&file, &text, &Silent).await, false),
            Ok(None) => self.report(self.agent.reconcile(&Silent).await, false),
            Err(error) => self.no_backup(&error),
        }
    }

    pub(super) async fn drill(&self, name: &Name) -> String {
        let drilled = async {
            let (repository, known) = self.agent.repository(None)?;
            self.agent.drill((&repository, &known), name, None, &Silent).await
        };
        match drilled.await {
            Ok(drilled) => match drilled.error() {
                None => format!("{}: it answers, {} tables\n", drilled.instance, drilled.drill.tables),
                Some(error) => self.without_root(&format!("{}: FAILED: {error}\n", drilled.instance)),
            },
            Err(error) => self.no_backup(&error),
        }
    }

    pub(super) fn fed(&self) -> String {
        let lock = self.agent.lock("a test").unwrap();
        let mut ledger = Ledger::load(&self.agent.state).unwrap();
        ledger.accepted.as_mut().unwrap().origin = Origin::Controller;
        ledger.store(&self.agent.state, &lock).unwrap();
        String::new()
    }

    pub(super) async fn sweep(&self) -> String {
        self.agent.sweep_drill().await.map_or_else(|error| self.no_backup(&error), |()| String::new())
    }

    pub(super) async fn prune(&self, name: &Name) -> String {
        let (_, repository) = self.agent.repository(Some(name)).unwrap();
        self.pruned(self.agent.prune_backup(name, &repository, None).await)
    }

    pub(super) async fn prune_for(&self, name: &Name, document: &str) -> String {
        let document = document::parse("document.toml", document).unwrap();
        let key = self.key.lock().unwrap().clone().expect("a backup was made before");
        self.pruned(self.agent.prune_for(&document, name, key, None).await)
    }

    fn pruned(&self, tidied: Result<Tidied, BackupError>) -> String {
        match tidied {
            Ok(tidied) => format!("{}: forgot {}\n", tidied.repository, tidied.forgotten),
            Err(error) => self.no_backup(&error),
        }
    }

    pub(super) async fn recover(&self, location: &str, credentials: &str) -> String {
        let key = self.key.lock().unwrap().clone().expect("a backup was made before");
        let brought = Brought::parse(credentials).unwrap();
        match self.agent.stage_recovery(&location.parse().unwrap(), key, &brought).await {
            Ok(text) => {
                let report = self.agent.apply("document.toml", &text, &Silent).await;
                if report.as_ref().is_ok_and(|report| report.converged) {
                    self.agent.recovered().unwrap();
                }
                self.report(report, false)
            }
            Err(error) => self.no_backup(&error),
        }
    }

    /// Nothing of ours is left but the repositories.
    pub(super) fn burn(&self) {
        for gone in ["var/lib/socle", "srv/socle", "run/socle"] {
            drop(std::fs::remove_dir_all(self.root.path().join(gone)));
        }
        for directory in ["etc/systemd/system", "etc/nginx/sites-available", "etc/nginx/sites-enabled"] {
            let directory = self.root.path().join(directory);
            std::fs::remove_dir_all(&directory).unwrap();
            std::fs::create_dir_all(&directory).unwrap();
        }
        self.units.forget();
        for engine in [Engine::Mariadb, Engine::Postgresql] {
            self.databases.forget(engine);
        }
    }

    fn no_backup(&self, error: &BackupError) -> String {
        let report = error.report();
        let hint = report.hint.as_ref().map(|hint| format!("  hint: {hint}\n")).unwrap_or_default();
        self.without_root(&format!("error {}: {report}\n{hint}", report.code))
    }
}
