//! What a recipe must be besides well-formed: its words exist, its paths stay inside, its exceptions
//! have reasons. After this, compiling fails only for what an instance brings.

use std::collections::BTreeMap;

use super::At::{self, Index, Key};
use super::{Reader, Recipe};
use crate::model::problem::{Position, Problem, did_you_mean};
use crate::recipe::placeholder::{self, WORDS};
use crate::recipe::schema::{Command, Exceptions, OURS, Owner, ParamKind, Run, Source, SourceKind, WebKind};
use crate::recipe::{params, template};

/// What every template may use, and what only files and standard inputs may: `secret`.
const VALUES: [&str; 16] = [
    "name", "domain", "version", "series", "php", "user", "db", "home", "current", "data", "config", "recipe", "run",
    "scheme", "app", "param",
];

pub(super) fn check(id: &str, place: &str, recipe: &Recipe, reader: &mut Reader<'_>) {
    let mut checker = Checker { recipe, reader, place };
    if recipe.app.id.as_str() != id {
        let hint = format!("its directory is called `{id}`");
        checker.reader.fault(&[Key("app"), Key("id")], format!("`{}` is not its id", recipe.app.id), Some(hint));
    }
    checker.source();
    checker.params();
    checker.layout();
    checker.files();
    checker.steps("install", &recipe.install);
    checker.steps("upgrade", &recipe.upgrade);
    checker.steps("move", &recipe.moves);
    checker.told_of_moves();
    checker.units();
    checker.backup();
    checker.web();
    checker.unique("secret", recipe.secrets.iter().map(|secret| secret.name.as_str()));
    for (i, secret) in recipe.secrets.iter().enumerate().filter(|(_, secret)| !(16..=256).contains(&secret.length)) {
        let reason = format!("a secret of {} characters", secret.length);
        checker.reader.fault(&[Key("secret"), Index(i), Key("length")], reason, Some("16 to 256".to_owned()));
    }
}

struct Checker<'c, 'r> {
    recipe: &'c Recipe,
    reader: &'c mut Reader<'r>,
    place: &'c str,
}

impl Checker<'_, '_> {
    fn source(&mut self) {
        let Source { kind, url, name, requirements, .. } = &self.recipe.source;
        let needs_url = matches!(kind, SourceKind::Archive | SourceKind::File);
        if needs_url && url.is_none() {
            self.reader.fault(&[Key("source")], "`url` is missing", None);
        }
        if *kind == SourceKind::File && name.is_none() {
            self.reader.fault(&[Key("source")], "`name` is missing", None);
        }
        if *kind == SourceKind::Venv && requirements.is_empty() {
            self.reader.fault(&[Key("source")], "`requirements` is missing", None);
        }
        if let Some(url) = url {
            self.words(&[Key("source"), Key("url")], url);
            if !url.starts_with("https://") {
                self.reader.fault(&[Key("source"), Key("url")], format!("`{url}` is not an https address"), None);
            }
        }
        for (i, requirement) in requirements.iter().enumerate() {
            let at = [Key("source"), Key("requirements"), Index(i)];
            self.words(&at, requirement);
            if !requirement.contains("==") || requirement.starts_with('-') {
                let hint = Some("write `name==version`: a release is one thing for ever".to_owned());
                self.reader.fault(&at, format!("`{requirement}` is not one version"), hint);
            }
        }
        self.unique("release", self.recipe.releases.iter().map(|release| release.version.as_str()));
        for (i, release) in self.recipe.releases.iter().enumerate() {
            let scheme = self.recipe.versions.scheme;
            if !scheme.accepts(release.version.as_str()) {
                let reason = format!("`{}` is not a version like `{}`", release.version, scheme.example());
                self.reader.fault(&[Key("release"), Index(i), Key("version")], reason, None);
            }
        }
    }

    fn params(&mut self) {
        self.unique("param", self.recipe.params.iter().map(|param| param.name.as_str()));
        for (i, param) in self.recipe.params.iter().enumerate() {
            let at = [Key("param"), Index(i)];
            if (param.kind == ParamKind::Enum) == param.values.is_empty() {
                self.reader.fault(&at, "`values` belongs to an `enum`, and an `enum` needs it", None);
            }
            if param.multiline && param.kind != ParamKind::Text {
                self.reader.fault(&at, "only a `text` may have line breaks", None);
            }
            if WORDS.iter().any(|(word, _)| *word == param.name.as_str()) {
                self.reader.fault(&at, format!("`{{{}}}` is a placeholder already", param.name), None);
            }
            if param.default.is_some() && param.required {
                self.reader.fault(&at, "a parameter with a default is never missing", None);
            }
            if let Some(Err((reason, hint))) = param.default.as_ref().map(|text| params::value(param, text)) {
                self.reader.fault(&[at[0], at[1], Key("default")], reason, hint);
            }
        }
    }

    fn layout(&mut self) {
        for (i, directory) in self.recipe.layout.directory.iter().enumerate() {
            let at = [Key("layout"), Key("directory"), Index(i), Key("path")];
            self.inside(&at, &directory.path);
            let first = directory.path.split('/').next().unwrap_or_default();
            if OURS.contains(&first) {
                let hint = "put it below `data/`, or give it a name of its own: then backups hold it";
                self.reader.fault(
                    &at,
                    format!("what an application keeps in `{first}` is in no backup"),
                    Some(hint.into()),
                );
            }
        }
        for (i, link) in self.recipe.layout.link.iter().enumerate() {
            self.inside(&[Key("layout"), Key("link"), Index(i), Key("path")], &link.path);
            self.inside(&[Key("layout"), Key("link"), Index(i), Key("target")], &link.target);
        }
    }

    fn files(&mut self) {
        self.unique("file", self.recipe.files.iter().map(|file| file.dest.as_str()));
        for (i, file) in self.recipe.files.iter().enumerate() {
            let at = [Key("file"), Index(i)];
            self.inside(&[at[0], at[1], Key("dest")], &file.dest);
            let closed = file.mode.0 & 0o077 == 0;
            if self.template(&[at[0], at[1], Key("template")], &file.template, true) && !closed {
                let hint = Some("only its owner may read it: `0400`".to_owned());
                self.reader.fault(&[at[0], at[1], Key("mode")], "the file holds a secret", hint);
            }
            if closed && file.owner == Owner::Root {
                self.reader.fault(&at, "a file of root that only root can read serves no application", None);
            }
            if !["config/", "recipe/"].iter().any(|place| file.dest.starts_with(place)) {
                // Root does not write where the application could have put a link.
                let hint = "what lies in `data/` is the application's: a step of the installation puts it there";
                let at = [at[0], at[1], Key("dest")];
                self.reader.fault(&at, "not below `config/` or `recipe/`", Some(hint.to_owned()));
            }
        }
    }

    fn steps(&mut self, section: &'static str, steps: &[super::Step]) {
        self.unique(section, steps.iter().map(|step| step.name.as_str()));
        for (i, step) in steps.iter().enumerate() {
            let at = [Key(section), Index(i)];
            match (&step.run, &step.seed) {
                (Some(run), None) => self.run(&at, run),
                (None, Some(seed)) => {
                    self.inside(&[at[0], at[1], Key("seed"), Key("from")], &seed.from);
                    self.inside(&[at[0], at[1], Key("seed"), Key("to")], &seed.to);
                    if !seed.to.starts_with("data/") {
                        self.reader.fault(&[at[0], at[1], Key("seed"), Key("to")], "not below `data/`", None);
                    }
                }
                _ => self.reader.fault(&at, "a step is exactly one of `run` and `seed`", None),
            }
        }
    }

    fn told_of_moves(&mut self) {
        let told = self.recipe.moves.iter().enumerate();
        for (i, _) in told.filter(|(_, step)| step.run.as_ref().is_some_and(|run| run.stdin.is_some())) {
            let hint = "it reads there who it was and who it is, as JSON".to_owned();
            let at = [Key("move"), Index(i), Key("run"), Key("stdin")];
            self.reader.fault(&at, "a step of a move has its standard input already", Some(hint));
        }
    }

    fn run(&mut self, at: &[At<'_>; 2], run: &Run) {
        let below = |key| [at[0], at[1], Key("run"), Key(key)];
        self.command(&below("argv"), &run.argv);
        self.env(&below("env"), &run.env);
        self.exceptions(&below("sandbox"), &run.sandbox);
        if let Some(stdin) = &run.stdin {
            self.template(&below("stdin"), stdin, true);
        }
    }

    fn units(&mut self) {
        let services = self.recipe.services.iter().map(|service| service.name.as_str());
        let timers = self.recipe.timers.iter().map(|timer| timer.name.as_str());
        self.unique("service", services.chain(timers).chain(self.recipe.runtime.php.as_ref().map(|_| "php")));
        for (i, service) in self.recipe.services.iter().enumerate() {
            let below = |key| [Key("service"), Index(i), Key(key)];
            self.command(&below("exec"), &service.exec);
            self.env(&below("env"), &service.env);
            self.exceptions(&below("sandbox"), &service.sandbox);
        }
        let sockets = self.recipe.services.iter().filter(|service| service.socket).count();
        if sockets + usize::from(self.recipe.runtime.php.is_some()) > 1 {
            let hint = Some("the runtime directory lives as long as one service".to_owned());
            self.reader.fault(&[Key("service")], "more than one service makes a socket", hint);
        }
        for (i, timer) in self.recipe.timers.iter().enumerate() {
            let below = |key| [Key("timer"), Index(i), Key(key)];
            self.command(&below("exec"), &timer.exec);
            self.env(&below("env"), &timer.env);
            self.exceptions(&below("sandbox"), &timer.sandbox);
        }
        if let Some(php) = &self.recipe.runtime.php {
            self.exceptions(&[Key("runtime"), Key("php"), Key("sandbox")], &php.sandbox);
            self.env(&[Key("runtime"), Key("php"), Key("ini")], &php.ini);
        }
    }

    fn backup(&mut self) {
        let backup = &self.recipe.backup;
        if backup.enter.is_empty() != backup.leave.is_empty() {
            let hint = "what is entered is left again, whatever happens: `[[backup.enter]]` and `[[backup.leave]]`";
            self.reader.fault(&[Key("backup")], "one of `enter` and `leave` is missing", Some(hint.to_owned()));
        }
        let commands = backup.enter.iter().chain(&backup.leave);
        self.unique("backup", commands.map(|command| command.name.as_str()));
        self.backup_commands("enter", &backup.enter);
        self.backup_commands("leave", &backup.leave);
    }

    fn backup_commands(&mut self, section: &'static str, commands: &[Command]) {
        for (i, command) in commands.iter().enumerate() {
            let below = |key| [Key("backup"), Key(section), Index(i), Key(key)];
            self.command(&below("argv"), &command.argv);
            self.env(&below("env"), &command.env);
            self.exceptions(&below("sandbox"), &command.sandbox);
        }
    }

    fn web(&mut self) {
        let web = &self.recipe.web;
        self.words(&[Key("web"), Key("root")], &web.root);
        if let Some(root) = &web.root_of_archive {
            self.words(&[Key("web"), Key("root_of_archive")], root);
        }
        if self.template(&[Key("web"), Key("locations")], &web.locations, false) {
            self.reader.fault(&[Key("web"), Key("locations")], "a site's configuration is no place for a secret", None);
        }
        match (web.kind, &web.upstream) {
            (WebKind::Proxy, Some(upstream)) => {
                self.words(&[Key("web"), Key("upstream")], upstream);
                if !upstream.starts_with("unix:{run}/") {
                    let hint = Some("instances meet at sockets: `unix:{run}/name.sock`".to_owned());
                    self.reader.fault(&[Key("web"), Key("upstream")], format!("`{upstream}` is no socket"), hint);
                }
            }
            (WebKind::Proxy, None) => self.reader.fault(&[Key("web")], "`upstream` is missing", None),
            (_, Some(_)) => self.reader.fault(&[Key("web"), Key("upstream")], "only a `proxy` has an upstream", None),
            (WebKind::PhpFpm, None) if self.recipe.runtime.php.is_none() => {
                self.reader.fault(&[Key("web"), Key("kind")], "`php-fpm` needs `[runtime.php]`", None);
            }
            (_, None) => {}
        }
        for (i, health) in self.recipe.health.iter().enumerate() {
            if !health.path.starts_with('/') {
                let reason = format!("`{}` does not begin with `/`", health.path);
                self.reader.fault(&[Key("health"), Index(i), Key("path")], reason, None);
            }
            let mut known = words();
            let shown = self.recipe.params.iter().filter(|param| param.kind != ParamKind::Secret);
            known.extend(shown.map(|param| (param.name.to_string(), String::new())));
            self.filled(&[Key("health"), Index(i), Key("path")], &health.path, &known);
            if let Some(text) = &health.contains {
                self.filled(&[Key("health"), Index(i), Key("contains")], text, &known);
            }
        }
        if self.recipe.health.is_empty() {
            let hint = Some("without a question nobody knows whether an upgrade went well".to_owned());
            self.reader.fault(&[], "`[[health]]` is missing", hint);
        }
    }

    fn command(&mut self, at: &[At<'_>], argv: &[String]) {
        match argv.first() {
            Some(program) if program.starts_with('/') || program.starts_with("{current}/") => {}
            Some(program) => self.reader.fault(at, format!("`{program}` is not an absolute path"), None),
            None => self.reader.fault(at, "there is no program to run", None),
        }
        let shells = ["sh", "bash", "dash", "zsh", "env", "sudo", "su"];
        if let Some(shell) =
            argv.first().and_then(|program| shells.iter().find(|s| program.ends_with(&format!("/{s}"))))
        {
            let hint = Some("name the program itself, one word an argument".to_owned());
            self.reader.fault(at, format!("`{shell}` is not run"), hint);
        }
        argv.iter().for_each(|word| self.words(at, word));
    }

    fn env(&mut self, at: &[At<'_>], env: &BTreeMap<String, String>) {
        env.values().for_each(|value| self.words(at, value));
    }

    fn exceptions(&mut self, at: &[At<'_>], exceptions: &Exceptions) {
        if exceptions.any() && exceptions.why.trim().is_empty() {
            let hint = Some("say in `why` what would not work without it".to_owned());
            self.reader.fault(at, "an exception from the sandbox without a reason", hint);
        }
    }

    fn words(&mut self, at: &[At<'_>], text: &str) {
        self.filled(at, text, &words());
    }

    fn filled(&mut self, at: &[At<'_>], text: &str, known: &BTreeMap<String, String>) {
        if let Err(error) = placeholder::fill(text, known) {
            self.reader.fault(at, error.to_string(), error.hint());
        }
    }

    /// A relative path that stays below the directory it is relative to.
    fn inside(&mut self, at: &[At<'_>], path: &str) {
        let component = |part: &str| {
            !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !path.split('/').all(component) {
            let hint = Some("write a relative path of letters, digits, `.`, `_` and `-`".to_owned());
            self.reader.fault(at, format!("`{}` is no path inside", path.escape_debug()), hint);
        }
    }

    /// Whether the template holds a secret.
    fn template(&mut self, at: &[At<'_>], name: &str, secrets: bool) -> bool {
        let Some(source) = self.recipe.templates.get(name) else {
            let known: Vec<_> = self.recipe.templates.keys().map(String::as_str).collect();
            let hint = did_you_mean(name, known).map(|meant| format!("did you mean `{meant}`?"));
            self.reader.fault(at, format!("there is no file `{name}` beside the recipe"), hint);
            return false;
        };
        let names = match template::names(name, source) {
            Ok(names) => names,
            Err(error) => {
                let at = Position { file: format!("{}/{name}", self.place), line: error.line(), column: 1 };
                self.reader.problems.push(Problem { at, reason: error.to_string(), hint: None });
                return false;
            }
        };
        let mut holds = false;
        for used in &names {
            let (word, field) = used.split_once('.').unwrap_or((used, ""));
            holds |= word == "secret";
            let params = self.recipe.params.iter();
            holds |= word == "param"
                && params.clone().any(|p| p.kind == ParamKind::Secret && p.name.as_str().replace('-', "_") == field);
            let known = match word {
                "param" => params.clone().any(|p| p.name.as_str().replace('-', "_") == field),
                "secret" => secrets && self.recipe.secrets.iter().any(|s| s.name.as_str().replace('-', "_") == field),
                "fastcgi" | "upstream" => !secrets,
                word => VALUES.contains(&word),
            };
            if !known {
                let at = Position { file: format!("{}/{name}", self.place), line: 1, column: 1 };
                let meant = did_you_mean(word, VALUES).map(|meant| format!("did you mean `{meant}`?"));
                let reason = format!("`{used}` does not exist here");
                self.reader.problems.push(Problem { at, reason, hint: meant.filter(|_| field.is_empty()) });
            }
        }
        holds
    }

    fn unique<'a>(&mut self, section: &'static str, names: impl Iterator<Item = &'a str>) {
        let mut seen = std::collections::BTreeSet::new();
        for (i, name) in names.enumerate() {
            if !seen.insert(name) {
                self.reader.fault(&[Key(section), Index(i)], format!("`{name}` is there twice"), None);
            }
        }
    }
}

fn words() -> BTreeMap<String, String> {
    WORDS.iter().map(|(word, _)| ((*word).to_owned(), String::new())).collect()
}
