//! How an instance is installed, migrated and proven.

use std::collections::BTreeMap;

use minijinja::Value;

use super::{Build, content, id};
use crate::model::unit::{Readiness, ServiceUnit};
use crate::model::{Digest, Kind};
use crate::recipe::schema::{self, Exceptions, Run, Write, is_below};
use crate::resources::AnyDesired;
use crate::resources::release::ReleaseId;
use crate::resources::setup::{Command, Desired, Identity, Probe, Quiet, Step};

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
        let quiet = self.quiet();
        let saved = ["data", "config"].into_iter().chain(self.recipe.layout.besides()).map(str::to_owned).collect();
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
            quiet: Box::new(quiet),
            saved,
        };
        let kinds = [Kind::Package, Kind::Account, Kind::Directory, Kind::File, Kind::Database];
        let mut needs = self.wanted(&kinds);
        needs.push(id(Kind::Release, self.name.as_str()));
        self.want(Kind::Setup, self.name.as_str(), AnyDesired::Setup(desired), &needs);
    }

    /// What the application writes to; its configuration only where it writes that itself.
    fn directories_of_data(&self) -> Vec<String> {
        let taken_over = |file: &schema::File| file.write == Write::Once && is_below(&file.dest, "config");
        let layout = &self.recipe.layout;
        let mut all = vec!["data"];
        if self.recipe.files.iter().any(taken_over) || layout.directory.iter().any(|own| is_below(&own.path, "config"))
        {
            all.push("config");
        }
        all.extend(layout.besides());
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

    fn quiet(&mut self) -> Quiet {
        let schema::Backup { enter, leave, .. } = self.recipe.backup.clone();
        let mut commands = |all: Vec<schema::Command>| all.iter().map(|command| self.backup_command(command)).collect();
        let (enter, leave) = (commands(enter), commands(leave));
        Quiet { stop: self.recipe.backup.stops(), enter, leave }
    }

    fn backup_command(&mut self, command: &schema::Command) -> Command {
        let schema::Command { name, argv, env, ok_codes, timeout_s, sandbox } = command;
        let unit = self.program(name.as_str(), (argv, env), sandbox, *timeout_s);
        Command { name: format!("{}-{name}", self.name), unit: Box::new(unit), ok_codes: ok_codes.clone() }
    }

    fn program(
        &mut self,
        name: &str,
        (argv, env): (&[String], &BTreeMap<String, String>),
        sandbox: &Exceptions,
        timeout_s: u32,
    ) -> ServiceUnit {
        let mut unit = self.unit(name, sandbox, timeout_s);
        unit.readiness = Readiness::Oneshot;
        unit.exec = self.fill_all(argv);
        let env = self.fill_map(env);
        unit.environment.extend(env);
        unit
    }

    fn run(&mut self, name: &str, run: &Run) -> Step {
        let unit = self.program(name, (&run.argv, &run.env), &run.sandbox, run.timeout_s);
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
