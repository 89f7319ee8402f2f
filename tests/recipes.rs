//! What the recipes make of documents: `tests/recipes/<case>/document.toml` becomes `resources.txt`, or
//! `problems.txt` where it is refused. Secrets are words in French quotes.
//!
//! A new case needs no code. `UPDATE=1` writes what came out; read the difference before committing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use socle::model::document::{Document, Instance, Source};
use socle::model::unit::Limits;
use socle::model::{Name, Secret};
use socle::recipe::{self, Catalog, Context, Facts};
use socle::resources::{AnyDesired, Wanted, service, setup};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes")
}

#[derive(serde::Deserialize)]
struct Written {
    #[serde(default)]
    instances: BTreeMap<Name, WrittenInstance>,
}

#[derive(serde::Deserialize)]
struct WrittenInstance {
    recipe: Name,
    version: socle::model::Version,
    domain: socle::model::Domain,
    #[serde(default)]
    aliases: BTreeSet<socle::model::Domain>,
    #[serde(default)]
    state: socle::model::document::InstanceState,
    #[serde(default)]
    params: BTreeMap<Name, toml::Value>,
    #[serde(default)]
    limits: Limits,
    source: Option<Source>,
}

pub fn document(text: &str) -> Document {
    let written: Written = toml::from_str(text).unwrap();
    let value = |value: toml::Value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    let instances = written.instances.into_iter().map(|(name, i)| {
        let instance = Instance {
            recipe: i.recipe,
            version: i.version,
            domain: i.domain,
            aliases: i.aliases,
            member: None,
            state: i.state,
            params: i.params.into_iter().map(|(name, v)| (name, value(v))).collect(),
            limits: i.limits,
            source: i.source,
        };
        (name, instance)
    });
    Document { instances: instances.collect(), ..Document::default() }
}

fn outcome(text: &str, debian: u32) -> Result<String, String> {
    let document = document(text);
    let catalog = Catalog::built_in();
    let facts = Facts::of_debian(debian).unwrap();
    let problems = recipe::check_document(&document, &catalog, &facts);
    if !problems.is_empty() {
        let lines = problems.iter().map(|p| match &p.hint {
            Some(hint) => format!("{p}\n  hint: {hint}\n"),
            None => format!("{p}\n"),
        });
        return Err(lines.collect());
    }
    let secrets = document.instances.iter().map(|(name, instance)| {
        let specs = catalog.get(&instance.recipe).unwrap().secrets();
        let secrets = specs.into_iter().map(|s| (s.name.clone(), Secret::new(format!("«{}»", s.name))));
        (name.clone(), secrets.collect())
    });
    let (secrets, keep, seen) = (secrets.collect(), BTreeMap::new(), BTreeMap::new());
    let context = Context { facts: &facts, secrets: &secrets, keep: &keep, seen: &seen, python_index: None };
    let wanted = recipe::compile_document(&document, &catalog, &context).unwrap();
    let again = recipe::compile_document(&document, &catalog, &context).unwrap();
    let text = shown(&wanted);
    assert_eq!(text, shown(&again), "the same inputs give the same resources");
    Ok(text)
}

fn shown(wanted: &[Wanted]) -> String {
    let mut out = String::new();
    for resource in wanted {
        let _ = write!(out, "== {}", resource.id);
        let _ = writeln!(out, "{}", resource.owner.as_ref().map(|owner| format!(" ({owner})")).unwrap_or_default());
        for need in &resource.needs {
            let _ = writeln!(out, "needs {need}");
        }
        match &resource.desired {
            AnyDesired::File(file) => {
                let _ = writeln!(out, "{}:{} {:04o} {:?}", file.owner, file.group, file.mode, file.write);
                block(&mut out, std::str::from_utf8(file.content.bytes()).unwrap());
            }
            AnyDesired::Service(service::Desired::Own(own)) => {
                let _ = writeln!(out, "enabled {} active {:?} inputs {:?}", own.enabled, own.active, own.inputs);
                block(&mut out, &own.text);
            }
            AnyDesired::Site(site) => block(&mut out, &site.text),
            AnyDesired::Setup(setup) => setup_shown(&mut out, setup),
            other => {
                let _ = writeln!(out, "{other:?}");
            }
        }
        out.push('\n');
    }
    out
}

fn setup_shown(out: &mut String, setup: &setup::Desired) {
    let _ = writeln!(out, "release {} databases {:?} proof {}", setup.release, setup.databases, setup.proof.short());
    for (kind, steps) in [("install", &setup.install), ("migrate", &setup.migrate)] {
        for step in steps {
            match step {
                setup::Step::Run { name, unit, stdin, ok_codes } => {
                    let _ = writeln!(out, "{kind} run {name} {ok_codes:?}");
                    block(out, &unit.render(&format!("socle-task-{name}.service")));
                    if let Some(stdin) = stdin {
                        block(out, std::str::from_utf8(stdin.bytes()).unwrap());
                    }
                }
                seed => {
                    let _ = writeln!(out, "{kind} {seed:?}");
                }
            }
        }
    }
    for probe in &setup.probes {
        let _ = writeln!(out, "{probe:?}");
    }
}

fn block(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "{}", format!("    {line}").trim_end());
    }
}

#[test]
fn documents_become_resources_or_problems() {
    let mut wrong = Vec::new();
    for case in std::fs::read_dir(folder()).unwrap() {
        let case = case.unwrap().path();
        let Ok(text) = std::fs::read_to_string(case.join("document.toml")) else { continue };
        let debian = if case.to_string_lossy().contains("bookworm") { 12 } else { 13 };
        let (file, text) = match outcome(&text, debian) {
            Ok(text) => ("resources.txt", text),
            Err(text) => ("problems.txt", text),
        };
        let golden = case.join(file);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        if std::fs::read_to_string(&golden).ok().as_deref() != Some(&text) {
            wrong.push(golden);
        }
    }
    assert!(wrong.is_empty(), "not what came out: {wrong:?}");
}
