//! How an instance is installed, migrated and proven.

use minijinja::Value;

use super::{Build, content, id};
use crate::model::unit::Readiness;
use crate::model::{Digest, Kind};
use crate::recipe::schema::{self, Run, Write};
use crate::resources::AnyDesired;
use crate::resources::release::ReleaseId;
use crate::resources::setup::{Desired, Identity, Probe, Step};

impl Build<'_> {
    pub(super) fn setup(&mut self, release: &ReleaseId) {
        let (install, migrate) = (self.recipe.install.clone(), self.recipe.upgrade.clone());
        let install = install.iter().filter_map(|step| self.step(step, release)).collect();
        let migrate = migrate.iter().filter_map(|step| self.step(step, release)).collect();
        let moves = self.recipe.moves.clone();
        let moves = moves.iter().filter_map(|step| self.step(step, release)).collect();
        let identity = Identity { name: self.name.to_string(), domain: self.instance.domain.to_string() };
        let probes = if self.running() { self.probes() } else { Vec::new() };
        let databases = self.recipe.dbs.iter().map(|db| (db.engine, self.words["db"].clone())).collect();
        let proof = self.proof(release, &probes);
        let keep_dumps = self.context.keep.get(self.name).into_iter().flatten().map(|id| id.0.clone()).collect();
        let (release, units) = (release.clone(), self.unit_texts.keys().cloned().collect());
        let desired = Desired {
            present: true,
            release,
            install,
            migrate,
            databases,
            directories: self.directories_of_data(),
            probes,
            proof,
            identity,
            moves,
            keep_dumps,
            units,
            stands_still: self.recipe.backup.stop,
        };
        let kinds = [Kind::Package, Kind::Account, Kind::Directory, Kind::File, Kind::Database];
        let mut needs = self.wanted(&kinds);
        needs.push(id(Kind::Release, self.name.as_str()));
        self.want(Kind::Setup, self.name.as_str(), AnyDesired::Setup(desired), &needs);
    }

    /// What the application writes to; its configuration only where it writes that itself.
    fn directories_of_data(&self) -> Vec<String> {
        let below = |path: &str, above: &str| path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
        let own: Vec<&str> = self.recipe.layout.directory.iter().map(|directory| directory.path.as_str()).collect();
        let taken_over = |file: &schema::File| file.write == Write::Once && below(&file.dest, "config");
        let mut all = vec!["data"];
        if self.recipe.files.iter().any(taken_over) || own.iter().any(|path| below(path, "config")) {
            all.push("config");
        }
        let covered = |path: &str| {
            let known = ["data", "config", "recipe", "releases", "sessions"];
            known.contains(&path) || known.iter().chain(&own).any(|above| below(path, above))
        };
        all.extend(own.iter().copied().filter(|path| !covered(path)));
        all.into_iter().map(|path| format!("{}/{path}", self.home())).collect()
    }

    fn step(&mut self, step: &schema::Step, release: &ReleaseId) -> Option<Step> {
        if let Some(run) = &step.run {
            return Some(self.run(step.name.as_str(), run));
        }
        let seed = step.seed.as_ref()?;
        let home = self.home();
        Some(Step::Seed {
            from: format!("{home}/releases/{release}/{}", seed.from),
            to: format!("{home}/{}", seed.to),
            owner: self.user().to_owned(),
            replace: seed.replace,
        })
    }

    fn run(&mut self, name: &str, run: &Run) -> Step {
        let mut unit = self.unit(name, &run.sandbox, run.timeout_s);
        unit.readiness = Readiness::Oneshot;
        unit.exec = self.fill_all(&run.argv);
        let env = self.fill_map(&run.env);
        unit.environment.extend(env);
        let stdin = run.stdin.as_ref().map(|template| {
            let values = self.values([("secret", self.secrets())]);
            content(self.render(template, values))
        });
        Step::Run { name: format!("{}-{name}", self.name), unit: Box::new(unit), stdin, ok_codes: run.ok_codes.clone() }
    }

    fn probes(&mut self) -> Vec<Probe> {
        let mut words = self.words.clone();
        words.extend(self.recipe.params.iter().map(|param| {
            let value = self.params.get(&param.name.as_str().replace('-', "_"));
            (param.name.to_string(), value.map(certain_part).unwrap_or_default())
        }));
        let mut probes = Vec::new();
        for health in &self.recipe.health {
            let contains = health.contains.as_ref().map(|text| self.fill_with(text, &words));
            let path = self.fill_with(&health.path, &words);
            probes.push(Probe {
                host: self.instance.domain.to_string(),
                path,
                status: health.status.clone(),
                contains: contains.filter(|text| !text.is_empty()),
                within_s: health.within_s,
            });
        }
        probes
    }

    /// Everything the answers of the site depend on.
    fn proof(&self, release: &ReleaseId, probes: &[Probe]) -> Digest {
        let files = self.configuration.iter().map(|(path, digest)| format!("{path} {digest}"));
        let units = self.unit_texts.iter().map(|(name, text)| format!("{name} {text}"));
        let probes = probes.iter().map(|probe| format!("{probe:?}"));
        let parts = [release.0.clone(), self.site_text.clone()];
        Digest::of_parts(parts.into_iter().chain(files).chain(units).chain(probes))
    }
}

/// The longest run of ASCII letters and digits of an answer: what stays itself however a page
/// escapes or beautifies the rest.
fn certain_part(value: &Value) -> String {
    let text = value.to_string();
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric());
    // Of two equally long ones the first: `max_by_key` would take the last.
    parts.rev().max_by_key(|part| part.len()).unwrap_or_default().to_owned()
}
