//! What the recipes make of documents: `tests/recipes/<case>/document.toml` becomes `resources.txt`, or
//! `problems.txt` where it is refused. Secrets are words in French quotes.
//!
//! A new case needs no code. `UPDATE=1` writes what came out; read the difference before committing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use socle::model::{Secret, document};
use socle::recipe::{self, Catalog, Context, Facts};
use socle::resources::{AnyDesired, Wanted, service, setup};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes")
}

fn compiled(text: &str, debian: u32) -> Result<Vec<Wanted>, String> {
    let document = document::parse("document.toml", text)
        .map_err(|problems| problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())?;
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
    let certificates = BTreeMap::new();
    let context = Context {
        facts: &facts,
        secrets: &secrets,
        keep: &keep,
        seen: &seen,
        python_index: None,
        certificates: &certificates,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    Ok(recipe::compile_document(&document, &catalog, &context).unwrap())
}

fn outcome(text: &str, debian: u32) -> Result<String, String> {
    let text_once = shown(&compiled(text, debian)?);
    assert_eq!(text_once, shown(&compiled(text, debian)?), "the same inputs give the same resources");
    Ok(text_once)
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
    let _ = writeln!(out, "data in {}", setup.directories.join(" "));
    for (kind, steps) in [("install", &setup.install), ("migrate", &setup.migrate), ("move", &setup.moves)] {
        for step in steps.iter() {
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
#[expect(clippy::disallowed_methods, reason = "writes what came out, when asked to")]
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

#[test]
fn the_examples_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for example in std::fs::read_dir(folder).unwrap() {
        let example = example.unwrap().path();
        if example.is_dir() {
            continue; // A fleet, of which `tests/fleets.rs` takes care.
        }
        let text = std::fs::read_to_string(&example).unwrap();
        for debian in [12, 13] {
            assert_eq!(outcome(&text, debian).err(), None, "{example:?} on Debian {debian}");
        }
    }
}

fn wiki(title: &str) -> Result<Vec<Wanted>, String> {
    let document = format!(
        "schema = 1\n[instances.wiki]\nrecipe = \"mediawiki\"\nversion = \"1.43.9\"\ndomain = \"wiki.example.org\"\n\
         [instances.wiki.params]\ntitle = {}\n",
        toml::Value::String(title.to_owned())
    );
    compiled(&document, 13)
}

proptest::proptest! {
    #[test]
    fn a_title_is_one_value_everywhere_or_it_is_refused(title in "[a-zé'\"\\\\$;{}<?>#% \n|-]{1,20}(<\\?php|\\?>|\\{\\{ x \\}\\})?") {
        let Ok(resources) = wiki(&title) else {
            proptest::prop_assert!(title.contains('\n') || title.trim().is_empty(), "{title:?}");
            return Ok(());
        };
        let quoted = title.replace('\\', "\\\\").replace('\'', "\\'");
        for resource in &resources {
            match &resource.desired {
                AnyDesired::File(file) if resource.id.name.ends_with("LocalSettings.php") => {
                    let text = std::str::from_utf8(file.content.bytes()).unwrap();
                    let line = format!("\n$wgSitename = '{quoted}';\n");
                    proptest::prop_assert!(text.contains(&line), "{text}");
                }
                AnyDesired::Site(site) => {
                    let AnyDesired::Site(plain) = &wiki("x").unwrap().into_iter().find(|r| r.id == resource.id).unwrap().desired else { panic!() };
                    proptest::prop_assert_eq!(&site.text, &plain.text);
                }
                AnyDesired::Setup(setup) => {
                    let stdin = setup.install.iter().find_map(|step| match step {
                        setup::Step::Run { stdin, .. } => stdin.as_ref(),
                        setup::Step::Seed { .. } => None,
                    });
                    let answers: serde_json::Value = serde_json::from_slice(stdin.unwrap().bytes()).unwrap();
                    proptest::prop_assert_eq!(answers["title"].as_str().unwrap(), &title);
                }
                _ => {}
            }
        }
    }
}
