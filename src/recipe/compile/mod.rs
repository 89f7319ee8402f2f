//! From an instance and its recipe to resources. Pure: the same inputs give the same resources, byte
//! for byte.
//!
//! Guarantees: every resource an instance needs is in the answer, with an edge to each resource that
//! must be as wanted before it; nothing of one instance is inside another's directory. What several
//! instances share (packages, the web server, `/srv/socle`) is the same for all of them, and
//! [`compile_document`] joins it.

mod apart;
mod certificate;
mod document;
mod layout;
mod release;
mod setup;
mod site;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use minijinja::Value;

pub use apart::{Apart, compile_apart};
pub use document::{check_document, compile_document};
pub use site::CHALLENGES;

use super::template;
use super::{Recipe, params, placeholder};
use crate::model::certificate::CertifiedName;
use crate::model::document::{Instance, InstanceState};
use crate::model::{Content, Digest, Kind, Name, ResourceId, Secret};
use crate::resources::certificate::Source as CertificateSource;
use crate::resources::release::ReleaseId;
use crate::resources::{AnyDesired, Wanted};

/// What the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Debian's major version.
    pub debian: u32,
    /// The PHP of this Debian: `8.4`.
    pub php: String,
}

impl Facts {
    /// None: this program does not know that Debian.
    pub fn of_debian(debian: u32) -> Option<Self> {
        let php = match debian {
            12 => "8.2",
            13 => "8.4",
            _ => return None,
        };
        Some(Self { debian, php: php.to_owned() })
    }
}

/// What compiling needs to know besides the document.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub facts: &'a Facts,
    /// By instance: every secret of [`Recipe::secrets`].
    pub secrets: &'a BTreeMap<Name, BTreeMap<Name, Secret>>,
    /// By instance: releases to keep besides the wanted one.
    pub keep: &'a BTreeMap<Name, BTreeSet<ReleaseId>>,
    /// By URL: the digest of its bytes when they were first fetched.
    pub seen: &'a BTreeMap<String, Digest>,
    /// Where pip takes packages from, if not from where it is configured to.
    pub python_index: Option<&'a str>,
    /// By instance; of one that is missing here, nothing is known.
    pub certificates: &'a BTreeMap<Name, CertificateFacts>,
    pub now: jiff::Timestamp,
}

/// What is known of an instance's certificate before a pass.
#[derive(Debug, Clone, Default)]
pub struct CertificateFacts {
    /// The one that is there was not made here: visitors are led to HTTPS.
    pub trusted: bool,
    pub source: CertificateSource,
}

/// Why a document cannot be compiled, and where in it: `["instances", "blog", "params", "title"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{}: {reason}", path.join("."))]
pub struct CompileProblem {
    pub path: Vec<String>,
    pub reason: String,
    pub hint: Option<String>,
}

impl CompileProblem {
    pub(in crate::recipe) fn new(path: &[&str], reason: impl Into<String>, hint: Option<String>) -> Self {
        Self { path: path.iter().map(|&step| step.to_owned()).collect(), reason: reason.into(), hint }
    }

    fn below(mut self, place: [&str; 2]) -> Self {
        self.path.splice(0..0, place.map(str::to_owned));
        self
    }
}

/// How an instance is served by HTTPS, as its document says.
#[derive(Debug, Clone)]
pub struct Https {
    pub names: Vec<CertifiedName>,
    /// Seconds; visitors' browsers are told to come by HTTPS only.
    pub hsts: Option<u32>,
}

/// All resources of the instance `name`. Empty if it is not wanted (`state = "absent"`). Problems have
/// paths below the instance.
pub fn compile(
    name: &Name,
    instance: &Instance,
    recipe: &Recipe,
    context: &Context<'_>,
    https: &Https,
) -> Result<Vec<Wanted>, Vec<CompileProblem>> {
    if instance.state == InstanceState::Absent {
        return Ok(Vec::new());
    }
    let mut build = Build::new(name, instance, recipe, context, https);
    build.platform();
    let spec = build.spec();
    let (Some(spec), true) = (spec, build.problems.is_empty()) else { return Err(build.problems) };
    let id = spec.id();
    build.packages();
    build.shared_services();
    build.account_and_directories();
    build.secret_files();
    build.files();
    build.databases();
    build.release(spec);
    build.units(&id);
    build.certificate();
    build.site();
    build.setup(&id);
    if build.problems.is_empty() {
        build.out.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(build.out)
    } else {
        build.problems.sort();
        build.problems.dedup();
        Err(build.problems)
    }
}

/// The longest name whose user `socle-<name>` is still a legal user name of Debian (32 characters).
pub const NAME_MAX: usize = 26;

/// One compilation on its way. Shown nowhere: it holds secrets.
struct Build<'a> {
    name: &'a Name,
    instance: &'a Instance,
    recipe: &'a Recipe,
    context: &'a Context<'a>,
    https: &'a Https,
    secrets: BTreeMap<String, Value>,
    /// `{word}` of the recipe.
    words: BTreeMap<String, String>,
    params: BTreeMap<String, Value>,
    out: Vec<Wanted>,
    problems: Vec<CompileProblem>,
    /// Digests of the files the application reads at start.
    configuration: BTreeMap<String, Digest>,
    /// Texts of the units, by name.
    unit_texts: BTreeMap<String, String>,
    site_text: String,
    /// For a drill: the socket of its own web server.
    apart: Option<String>,
}

impl<'a> Build<'a> {
    fn new(
        name: &'a Name,
        instance: &'a Instance,
        recipe: &'a Recipe,
        context: &'a Context<'a>,
        https: &'a Https,
    ) -> Self {
        let mut problems = Vec::new();
        if name.as_str().len() > NAME_MAX {
            let hint = format!("{NAME_MAX} characters at most, so that `socle-{name}` can be a user");
            problems.push(CompileProblem::new(&[], format!("the name `{name}` is too long"), Some(hint)));
        }
        let params = params::check(&recipe.params, &instance.params, &mut problems);
        let words = words(name, instance, context);
        let secrets = secrets(name, instance, recipe, context, &mut problems);
        if !recipe.dbs.is_empty() && SERVERS_OWN.contains(&words["db"].as_str()) {
            let reason = format!("`{}` is a database of the server itself", words["db"]);
            problems.push(CompileProblem::new(&[], reason, Some("choose another name".to_owned())));
        }
        Self {
            name,
            instance,
            recipe,
            context,
            https,
            secrets,
            words,
            params,
            out: Vec::new(),
            problems,
            configuration: BTreeMap::new(),
            unit_texts: BTreeMap::new(),
            site_text: String::new(),
            apart: None,
        }
    }

    /// Something that is not of this instance alone.
    fn share(&mut self, kind: Kind, name: impl Into<String>, desired: AnyDesired, needs: &[ResourceId]) -> ResourceId {
        let id = self.want(kind, name, desired, needs);
        if let Some(wanted) = self.out.last_mut() {
            wanted.owner = None;
        }
        id
    }

    fn want(&mut self, kind: Kind, name: impl Into<String>, desired: AnyDesired, needs: &[ResourceId]) -> ResourceId {
        let id = ResourceId::new(kind, name);
        let needs = needs.iter().cloned().collect();
        self.out.push(Wanted { id: id.clone(), desired, needs, owner: Some(self.name.to_string()) });
        id
    }

    /// The ids of what is already wanted of these kinds.
    fn wanted(&self, kinds: &[Kind]) -> Vec<ResourceId> {
        self.out.iter().map(|wanted| &wanted.id).filter(|id| kinds.contains(&id.kind)).cloned().collect()
    }

    fn user(&self) -> &str {
        &self.words["user"]
    }

    fn home(&self) -> &str {
        &self.words["home"]
    }

    fn fill(&mut self, text: &str) -> String {
        placeholder::fill(text, &self.words).unwrap_or_else(|error| self.not_filled(&error))
    }

    fn fill_with(&mut self, text: &str, words: &BTreeMap<String, String>) -> String {
        placeholder::fill(text, words).unwrap_or_else(|error| self.not_filled(&error))
    }

    /// Cannot happen with a checked recipe.
    fn not_filled(&mut self, error: &placeholder::PlaceholderError) -> String {
        self.problems.push(CompileProblem::new(&["recipe"], error.to_string(), error.hint()));
        String::new()
    }

    fn fill_all(&mut self, texts: &[String]) -> Vec<String> {
        texts.iter().map(|text| self.fill(text)).collect()
    }

    fn fill_map(&mut self, map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        map.iter().map(|(key, value)| (key.clone(), self.fill(value))).collect()
    }

    /// The values every template sees; `more` go on top.
    fn values(&self, more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
        let mut values: BTreeMap<String, Value> =
            self.words.iter().map(|(word, value)| (word.clone(), Value::from(value.as_str()))).collect();
        values.insert("app".to_owned(), Value::from(self.recipe.app.name.as_str()));
        values.insert("param".to_owned(), Value::from(self.params.clone()));
        values.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Value::from(values)
    }

    fn secrets(&self) -> Value {
        let secrets = self.secrets.iter();
        Value::from(secrets.map(|(name, secret)| (name.replace('-', "_"), secret.clone())).collect::<BTreeMap<_, _>>())
    }

    fn render(&mut self, template: &str, values: Value) -> String {
        let source = self.recipe.templates.get(template).map_or("", String::as_str);
        self.render_text(template, source, values)
    }

    fn render_text(&mut self, name: &str, source: &str, values: Value) -> String {
        template::render(name, source, values).unwrap_or_else(|error| {
            let reason = format!("`{name}` of the recipe, line {}: {error}", error.line());
            self.problems.push(CompileProblem::new(&["params"], reason, None));
            String::new()
        })
    }

    fn running(&self) -> bool {
        self.instance.state == InstanceState::Running
    }

    /// Everything a started process of the instance depends on.
    fn inputs(&self, release: &ReleaseId) -> Digest {
        let files = self.configuration.iter().map(|(path, digest)| format!("{path} {digest}"));
        Digest::of_parts([release.0.clone()].into_iter().chain(files))
    }
}

fn words(name: &Name, instance: &Instance, context: &Context<'_>) -> BTreeMap<String, String> {
    let trusted = context.certificates.get(name).is_some_and(|facts| facts.trusted);
    let home = format!("/srv/socle/{name}");
    let version = instance.version.as_str();
    let series = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let words = [
        ("name", name.to_string()),
        ("domain", instance.domain.to_string()),
        ("version", version.to_owned()),
        ("series", series),
        ("php", context.facts.php.clone()),
        // Whoever writes addresses into mails and feeds writes those visitors are led to.
        ("scheme", if trusted { "https" } else { "http" }.to_owned()),
        ("user", format!("socle-{name}")),
        ("db", database_name(name)),
        ("current", format!("{home}/current")),
        ("data", format!("{home}/data")),
        ("config", format!("{home}/config")),
        ("recipe", format!("{home}/recipe")),
        ("run", format!("/run/socle-{name}")),
        ("home", home),
    ];
    words.map(|(word, value)| (word.to_owned(), value)).into()
}

/// Databases have no `-` in their names; names have no `_`, so no two meet.
pub fn database_name(name: &Name) -> String {
    name.as_str().replace('-', "_")
}

/// Databases no instance may be called like.
const SERVERS_OWN: [&str; 7] =
    ["information_schema", "mysql", "performance_schema", "postgres", "sys", "template0", "template1"];

fn secrets(
    name: &Name,
    instance: &Instance,
    recipe: &Recipe,
    context: &Context<'_>,
    problems: &mut Vec<CompileProblem>,
) -> BTreeMap<String, Value> {
    for given in instance.secrets.keys().filter(|given| !recipe.secrets.iter().any(|secret| secret.name == **given)) {
        let names = recipe.secrets.iter().map(|secret| format!("`{}`", secret.name)).collect::<Vec<_>>().join(", ");
        let reason = format!("the recipe `{}` has no secret `{given}`", recipe.app.name);
        let hint = if names.is_empty() { "it has none".to_owned() } else { format!("it has {names}") };
        problems.push(CompileProblem::new(&["secrets", given.as_str()], reason, Some(hint)));
    }
    let known = context.secrets.get(name);
    let mut values = BTreeMap::new();
    for secret in &recipe.secrets {
        match known.and_then(|known| known.get(&secret.name)) {
            Some(value) => drop(values.insert(secret.name.to_string(), Value::from(value.expose()))),
            None => {
                let reason = format!("the secret `{}` was not made", secret.name);
                problems.push(CompileProblem::new(&["recipe"], reason, None));
            }
        }
    }
    values
}

fn id(kind: Kind, name: impl Into<String>) -> ResourceId {
    ResourceId::new(kind, name)
}

fn content(text: String) -> Content {
    Content::new(text.into_bytes())
}
