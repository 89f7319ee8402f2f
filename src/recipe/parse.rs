//! From the files of a recipe to a [`Recipe`]: every section is read for itself, so that one
//! mistake does not hide the others.

mod check;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::catalog::Files;
use super::schema::{
    App, Apt, Backup, Db, File, Health, Layout, Param, Platform, Release, Rule, Runtime, SCHEMA, Secret, Service,
    Source, Step, Timer, Versions, Web,
};
use crate::model::problem::{Position, Problem, did_you_mean};

/// A whole, checked recipe.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub app: App,
    pub platform: Platform,
    pub versions: Versions,
    pub releases: Vec<Release>,
    pub source: Source,
    pub params: Vec<Param>,
    pub runtime: Runtime,
    pub apt: Apt,
    pub layout: Layout,
    pub dbs: Vec<Db>,
    pub secrets: Vec<Secret>,
    pub files: Vec<File>,
    pub install: Vec<Step>,
    pub upgrade: Vec<Step>,
    /// Give data that was brought back under another name or domain to the instance. What a program of them has to
    /// know it reads from its standard input: `{"from": {"name", "domain"}, "to": {…}}`.
    pub moves: Vec<Step>,
    pub services: Vec<Service>,
    pub timers: Vec<Timer>,
    pub backup: Backup,
    pub web: Web,
    pub health: Vec<Health>,
    pub rules: Vec<Rule>,
    /// Everything beside `recipe.toml`.
    pub templates: Files,
    /// The association's own, not a built-in one.
    pub own: bool,
}

const SECTIONS: [&str; 22] = [
    "schema", "app", "platform", "versions", "release", "source", "param", "runtime", "apt", "layout", "db", "secret",
    "file", "install", "upgrade", "move", "service", "timer", "web", "health", "rule", "backup",
];

impl Recipe {
    /// `place` is where the files are, for people; `id` the name of their directory.
    pub fn parse(id: &str, place: &str, mut files: Files) -> Result<Self, Vec<Problem>> {
        let label = format!("{place}/recipe.toml");
        let Some(text) = files.remove("recipe.toml") else {
            let at = Position { file: label, line: 1, column: 1 };
            return Err(vec![Problem { at, reason: "there is no such file".to_owned(), hint: None }]);
        };
        let table = match DeTable::parse(&text) {
            Ok(table) => table,
            Err(error) => return Err(vec![problem(&label, &text, &error)]),
        };
        let mut reader = Reader { label, text: &text, table: table.get_ref(), problems: Vec::new() };
        reader.unknown_sections();
        let recipe = reader.recipe(files);
        if let Some(recipe) = &recipe {
            check::check(id, place, recipe, &mut reader);
        }
        reader.problems.sort();
        match recipe {
            Some(recipe) if reader.problems.is_empty() => Ok(recipe),
            _ => Err(reader.problems),
        }
    }
}

/// One step on the way to a value of the text.
#[derive(Clone, Copy)]
enum At<'a> {
    Key(&'a str),
    Index(usize),
}

struct Reader<'a> {
    label: String,
    text: &'a str,
    table: &'a DeTable<'a>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn unknown_sections(&mut self) {
        for key in self.table.keys().filter(|key| !SECTIONS.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            let hint = match did_you_mean(name, SECTIONS) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known: {}", SECTIONS.join(", ")),
            };
            self.push(key.span().start, format!("`{name}` is no section of a recipe"), Some(hint));
        }
    }

    /// None if a section could not be read; all of them are tried.
    fn recipe(&mut self, templates: Files) -> Option<Recipe> {
        match self.section::<u32>("schema") {
            Some(SCHEMA) | None => {}
            Some(other) => self.fault(
                &[At::Key("schema")],
                format!("schema {other} is not known"),
                Some(format!("this program reads schema {SCHEMA}")),
            ),
        }
        let (app, versions, source) = (self.section("app"), self.section("versions"), self.section("source"));
        let (platform, runtime, apt) = (self.optional("platform"), self.optional("runtime"), self.optional("apt"));
        let (layout, web) = (self.optional("layout"), self.section("web"));
        let (releases, params, dbs) = (self.list("release"), self.list("param"), self.list("db"));
        let (secrets, files) = (self.list("secret"), self.list("file"));
        let (install, upgrade) = (self.list("install"), self.list("upgrade"));
        let moves = self.list("move");
        let (services, timers) = (self.list("service"), self.list("timer"));
        let (health, rules) = (self.list("health"), self.list("rule"));
        let backup = self.optional("backup");
        Some(Recipe {
            app: app?,
            platform: platform?,
            versions: versions?,
            releases: releases?,
            source: source?,
            params: params?,
            runtime: runtime?,
            apt: apt?,
            layout: layout?,
            dbs: dbs?,
            secrets: secrets?,
            files: files?,
            install: install?,
            upgrade: upgrade?,
            moves: moves?,
            services: services?,
            timers: timers?,
            backup: backup?,
            web: web?,
            health: health?,
            rules: rules?,
            templates,
            own: false,
        })
    }

    fn section<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        match self.table.get(name) {
            Some(value) => self.read(value),
            None => {
                self.push(0, format!("`{name}` is missing"), None);
                None
            }
        }
    }

    fn optional<T: DeserializeOwned + Default>(&mut self, name: &str) -> Option<T> {
        match self.table.get(name) {
            Some(value) => self.read(value),
            None => Some(T::default()),
        }
    }

    fn list<T: DeserializeOwned>(&mut self, name: &str) -> Option<Vec<T>> {
        let Some(value) = self.table.get(name) else { return Some(Vec::new()) };
        let Some(items) = value.get_ref().as_array() else {
            self.push(value.span().start, format!("`{name}` is not a list"), Some(format!("write `[[{name}]]`")));
            return None;
        };
        let read: Vec<_> = items.iter().map(|item| self.read(item)).collect();
        read.into_iter().collect()
    }

    fn read<T: DeserializeOwned>(&mut self, value: &Spanned<DeValue<'_>>) -> Option<T> {
        match T::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(value) => Some(value),
            Err(error) => {
                let mut problem = problem(&self.label, self.text, &error);
                if error.span().is_none() {
                    problem.at = Position::of(&self.label, self.text, value.span().start);
                }
                self.problems.push(problem);
                None
            }
        }
    }

    fn push(&mut self, offset: usize, reason: String, hint: Option<String>) {
        self.problems.push(Problem { at: Position::of(&self.label, self.text, offset), reason, hint });
    }

    /// A problem with the value at `path`, or with the nearest thing to it that is written.
    fn fault(&mut self, path: &[At<'_>], reason: impl Into<String>, hint: Option<String>) {
        let mut offset = 0;
        let mut here: Option<&Spanned<DeValue<'_>>> = None;
        for step in path {
            let next = match (step, here.map(Spanned::get_ref)) {
                (At::Key(key), None) => self.table.get(*key),
                (At::Key(key), Some(value)) => value.as_table().and_then(|table| table.get(*key)),
                (At::Index(index), Some(value)) => value.as_array().and_then(|items| items.get(*index)),
                (At::Index(_), None) => None,
            };
            let Some(next) = next else { break };
            offset = next.span().start;
            here = Some(next);
        }
        self.push(offset, reason.into(), hint);
    }
}

/// An error of the TOML reader in this program's words: one line, with a hint where it names the
/// words it expected.
fn problem(label: &str, text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message().lines().next().unwrap_or_default();
    let words: Vec<_> = message.split('`').skip(1).step_by(2).collect();
    let hint = match (message.contains("unknown"), words.split_first()) {
        (true, Some((written, known))) => {
            did_you_mean(written, known.iter().copied()).map(|meant| format!("did you mean `{meant}`?"))
        }
        _ => None,
    };
    let at = Position::of(label, text, error.span().map_or(0, |span| span.start));
    Problem { at, reason: message.to_owned(), hint }
}
