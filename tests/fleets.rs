//! One fleet a case. `tests/fleets/bad/CASE/` must be refused with exactly what `CASE.txt` says;
//! `examples/fleet` must be accepted and composed into what `tests/fleets/example/` holds.
//! A new case is a new directory: `UPDATE=1` writes what it is answered, to be read with care.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use socle::controller::compose::{self, Files, Fleet, compose, diff};
use socle::model::document;
use socle::model::problem::Problem;
use socle::recipe::Catalog;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(directory: &Path) -> Files {
    let mut files = Files::new();
    let mut next = vec![directory.to_owned()];
    while let Some(inner) = next.pop() {
        for entry in fs::read_dir(&inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                next.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(!files.is_empty(), "nothing in {}", directory.display());
    files
}

fn bad_cases() -> Vec<(PathBuf, Files)> {
    let entries = fs::read_dir(project().join("tests/fleets/bad")).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Equal to the file, or written to it.
fn agrees(path: &Path, text: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == text { Ok(()) } else { Err(format!("{}: expected\n{expected}found\n{text}", path.display())) }
}

fn composed(files: &Files) -> Fleet {
    compose(files).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn example() -> Files {
    read(&project().join("examples/fleet"))
}

fn small() -> Files {
    files(&[
        ("fleet.toml", "schema = 1\nname = \"sol\"\n"),
        ("servers/ks1.toml", "[packages]\nunzip = true\n"),
        ("servers/ks2.toml", ""),
        (
            "instances/blog.toml",
            "server = \"ks1\"\nrecipe = \"wordpress\"\nversion = \"6.1.9\"\ndomain = \"blog.example.org\"\n",
        ),
    ])
}

fn files(all: &[(&str, &str)]) -> Files {
    all.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn every_bad_fleet_is_refused_with_all_its_problems() {
    let mut wrong = Vec::new();
    let cases = bad_cases();
    for (path, files) in &cases {
        let said = match compose(files) {
            Ok(_) => "accepted\n".to_owned(),
            Err(problems) => lines(&problems),
        };
        if said == "accepted\n" || said.is_empty() {
            wrong.push(format!("{} is accepted", path.display()));
        }
        wrong.extend(agrees(&path.with_extension("txt"), &said).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 60, "{} cases", cases.len());
}

#[test]
fn the_example_is_composed_into_two_documents_the_recipes_accept() {
    let files = example();
    let fleet = composed(&files);
    assert_eq!(fleet.name.as_str(), "sol");
    assert_eq!(fleet.members.len(), 2);
    let checked = compose::check_recipes(&fleet, &files, &Catalog::built_in());
    assert_eq!(lines(&checked.problems), "");
    assert_eq!(fleet.servers.len(), 2);
    for (name, server) in &fleet.servers {
        agrees(&project().join(format!("tests/fleets/example/{name}.toml")), &server.text).unwrap();
        // What is pushed is what an agent reads.
        assert_eq!(document::parse("pushed", &server.text).unwrap(), server.document);
    }
}

#[test]
fn the_published_schemas_are_current() {
    let schemas = serde_json::to_string_pretty(&compose::schemas()).unwrap();
    agrees(&project().join("schema/fleet.schema.json"), &format!("{schemas}\n")).expect("UPDATE=1 writes it");
}

#[test]
fn what_a_recipe_says_is_told_at_the_place_in_the_owners_file() {
    let mut files = small();
    files.insert(
        "instances/blog.toml".to_owned(),
        "# ours\nserver = \"ks1\"\nrecipe = \"wordpress\"\nversion = \"6.8.7\"\ndomain = \"b.example.org\"\n\n\
         [params]\ntitle = \"x\"\n  admin-email = \"nobody\"\ntilte = \"y\"\n"
            .to_owned(),
    );
    files.insert(
        "instances/wiki.toml".to_owned(),
        "recipe = \"mediawik\"\nserver = \"ks2\"\nversion = \"1\"\ndomain = \"w.example.org\"\n".to_owned(),
    );
    let checked = compose::check_recipes(&composed(&files), &files, &Catalog::built_in());
    assert_eq!(
        lines(&checked.problems),
        "instances/blog.toml:9:17: `nobody` is not an e-mail address\n\
         instances/blog.toml:10:9: `tilte` is no parameter\n  hint: did you mean `title`?\n\
         instances/wiki.toml:1:10: there is no recipe `mediawik`\n  hint: did you mean `mediawiki`?\n"
    );
}

#[test]
fn what_only_one_debian_cannot_run_is_a_note() {
    let mut recipe = read(&project().join("catalog/static"));
    recipe.get_mut("recipe.toml").unwrap().push_str("\n[platform]\ndebian = [12]\n");
    let (catalog, problems) = Catalog::new(&BTreeMap::from([("static".to_owned(), recipe)]));
    assert_eq!(lines(&problems), "");
    let mut files = small();
    files.insert(
        "instances/blog.toml".to_owned(),
        "server = \"ks1\"\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"n.example.org\"\n".to_owned(),
    );
    let checked = compose::check_recipes(&composed(&files), &files, &catalog);
    assert_eq!(lines(&checked.problems), "");
    let notes = lines(&checked.notes);
    assert!(notes.starts_with("instances/blog.toml:2:10: on Debian 13: "), "{notes}");
}

/// An unchanged server gets no new generation: its text depends on nothing but what concerns it.
#[test]
fn what_does_not_concern_a_server_does_not_change_its_text() {
    let before = composed(&example());
    let mut files = example();
    let change = |files: &mut Files, path: &str, from: &str, to: &str| {
        let text = files.get_mut(path).unwrap();
        assert!(text.contains(from), "{path}");
        *text = text.replace(from, to);
    };
    change(&mut files, "members/sol.toml", "Sol e.V.", "Sol");
    change(&mut files, "instances/blog.toml", "# What", "# Why, and what");
    change(
        &mut files,
        "instances/blog.toml",
        "server = \"ks1\"\nrecipe = \"wordpress\"",
        "recipe = \"wordpress\"\nserver = \"ks1\"",
    );
    change(&mut files, "servers/ks1.toml", "unzip = true", "\nunzip = true # for backups");
    change(&mut files, "instances/wiki.toml", "768", "769");
    files.insert(".gitignore".to_owned(), "*.orig\n".to_owned());
    let after = composed(&files);
    let texts = |fleet: &Fleet, server: &str| fleet.servers[&server.parse().unwrap()].text.clone();
    assert_eq!(texts(&before, "ks1"), texts(&after, "ks1"));
    assert_ne!(texts(&before, "ks2"), texts(&after, "ks2"));
}

#[test]
fn defaults_hold_where_nothing_else_is_said() {
    let mut files = small();
    files.insert(
        "fleet.toml".to_owned(),
        "schema = 1\nname = \"sol\"\n[defaults]\ndrift = \"report\"\nlimits = { tasks = 99, memory_mb = 300 }\n"
            .to_owned(),
    );
    files.insert("servers/ks2.toml".to_owned(), "server.drift = \"repair\"\n".to_owned());
    files.get_mut("instances/blog.toml").unwrap().push_str("limits.memory_mb = 400\n");
    let fleet = composed(&files);
    let server = |name: &str| &fleet.servers[&name.parse().unwrap()].document;
    assert_eq!(server("ks1").server.drift, document::DriftPolicy::Report);
    assert_eq!(server("ks2").server.drift, document::DriftPolicy::Repair);
    let limits = &server("ks1").instances[&"blog".parse().unwrap()].limits;
    assert_eq!((limits.memory_mb, limits.tasks, limits.cpu_percent), (Some(400), Some(99), None));
}

#[test]
fn an_absent_instance_gives_its_domain_free() {
    let mut files = small();
    let moved = files["instances/blog.toml"].replace("ks1", "ks2");
    files.insert("instances/shop.toml".to_owned(), moved);
    assert!(compose(&files).is_err());
    files.get_mut("instances/blog.toml").unwrap().push_str("state = \"absent\"\n");
    assert_eq!(composed(&files).servers.len(), 2);
}

#[test]
fn an_oversized_fleet_is_refused_unread() {
    let mut files = small();
    files.extend((0..compose::MAX_FILES).map(|n| (format!("members/m{n}.toml"), "no toml".to_owned())));
    let problems = compose(&files).unwrap_err();
    assert_eq!(
        lines(&problems),
        "fleet.toml:1:1: the fleet has 10004 files: 10000 at most\n  hint: is it the right directory?\n"
    );
    let mut files = small();
    files.insert("README.md".to_owned(), "x".repeat(compose::MAX_BYTES));
    assert!(compose(&files).unwrap_err()[0].reason.contains("16777216 at most"));
    let mut files = small();
    files.insert("servers/ks1.toml".to_owned(), format!("# {}\n", "x".repeat(document::MAX_BYTES)));
    assert_eq!(
        lines(&compose(&files).unwrap_err()),
        "servers/ks1.toml:1:1: this file has 1048579 bytes: 1048576 at most\n  hint: a large file belongs in a package or a release\n"
    );
    // Each file is small enough, and all of a server's together are not.
    let mut files = small();
    for half in ["a", "b"] {
        let text = format!(
            "server = \"ks1\"\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{half}.example.org\"\n[params]\nx = '''{}'''\n",
            "x".repeat(600_000)
        );
        files.insert(format!("instances/{half}.toml"), text);
    }
    let problems = lines(&compose(&files).unwrap_err());
    assert!(problems.starts_with("servers/ks1.toml:1:1: the document has 12"), "{problems}");
}

#[test]
fn paths_from_outside_do_no_harm() {
    for path in [
        "../fleet.toml",
        "/etc/passwd",
        "servers/../ks1.toml",
        "servers//ks1.toml",
        "servers/a\u{1b}[2J.toml",
        "",
        "servers/",
    ] {
        let mut files = small();
        files.insert(path.to_owned(), String::new());
        let problems = compose(&files).unwrap_err();
        assert_eq!(problems.len(), 1, "{path:?}: {}", lines(&problems));
        assert!(!lines(&problems).contains('\u{1b}'));
    }
}

fn difference(change: impl FnOnce(&mut Files)) -> String {
    let old = small();
    let mut new = old.clone();
    change(&mut new);
    diff(&composed(&old).documents(), &composed(&new).documents(), &Catalog::built_in()).to_string()
}

fn replaced(path: &'static str, from: &'static str, to: &'static str) -> impl FnOnce(&mut Files) {
    move |files| {
        let text = files.get_mut(path).unwrap();
        assert!(text.contains(from), "{path}");
        *text = text.replace(from, to);
    }
}

#[test]
fn a_difference_is_told_in_words() {
    assert_eq!(difference(|_| ()), "");
    assert_eq!(difference(replaced("instances/blog.toml", "6.1.9", "6.8.7")), "ks1\n  blog: version 6.1.9 -> 6.8.7\n");
    assert_eq!(
        difference(replaced("instances/blog.toml", "ks1\"", "ks2\"\naliases = [\"b.example.org\"]")),
        "ks1\n  blog: moved to `ks2`; its data stays on `ks1`\nks2\n  blog: moved from `ks1`\n  blog: aliases none -> b.example.org\n"
    );
    assert_eq!(difference(|files| drop(files.remove("instances/blog.toml"))), "ks1\n  blog: removed\n");
    assert_eq!(
        difference(|files| drop(files.remove("servers/ks2.toml"))),
        "ks2: removed from the fleet; what runs there stays as it is\n"
    );
    let added = |files: &mut Files| {
        files.insert("servers/ks3.toml".to_owned(), "[packages]\nhtop = true\n".to_owned());
        let wiki = files["instances/blog.toml"].replace("ks1", "ks3").replace("blog", "wiki");
        files.insert("instances/wiki.toml".to_owned(), wiki);
    };
    assert_eq!(
        difference(added),
        "ks3: added\n  wiki: added: wordpress 6.1.9 at wiki.example.org\n  packages.htop none -> true\n  server.name none -> ks3\n"
    );
    assert_eq!(
        difference(replaced(
            "servers/ks1.toml",
            "unzip = true",
            "unzip = false\n[services.tidy]\nexec = [\"/bin/true\", \"--password=hunter2\"]"
        )),
        "ks1\n  packages.unzip true -> false\n  services.tidy: added\n"
    );
    assert_eq!(
        difference(replaced("instances/blog.toml", "recipe", "state = \"stopped\"\nlimits.memory_mb = 64\nrecipe")),
        "ks1\n  blog: limits.memory_mb none -> 64\n  blog: state running -> stopped\n"
    );
}

#[test]
fn a_difference_shows_no_secret() {
    let secrets = |value: &str| {
        let mut files = small();
        files
            .get_mut("instances/blog.toml")
            .unwrap()
            .push_str(&format!("[params]\nsmtp-password = \"p-{value}\"\nadmin-email = \"{value}@example.org\"\n"));
        files.insert(
            "servers/ks2.toml".to_owned(),
            format!(
                "[services.tidy]\nexec = [\"/bin/true\", \"--x=p-{value}\"]\n\
                 environment = {{ API_TOKEN = \"p-{value}\", LANG = \"{value}\" }}\n\
                 [files.\"/etc/x\"]\ncontent = \"p-{value}\"\n"
            ),
        );
        composed(&files).documents()
    };
    let said = diff(&secrets("one"), &secrets("two"), &Catalog::built_in()).to_string();
    assert_eq!(
        said,
        "ks1\n  blog: params.admin-email one@example.org -> two@example.org\n  blog: params.smtp-password changed\n\
         ks2\n  files./etc/x.content changed\n  services.tidy.own.environment.API_TOKEN changed\n  \
         services.tidy.own.environment.LANG one -> two\n  services.tidy.own.exec changed\n"
    );
}

#[test]
fn many_problems_are_counted_not_listed() {
    let mut files = small();
    files.extend((0..300).map(|n| (format!("stray{n}.toml"), String::new())));
    let problems = compose(&files).unwrap_err();
    assert_eq!(problems.len(), 201);
    assert_eq!(problems[200].reason, "100 more problems from here on");
}

/// Judged: no panic; every problem is at a place that is there.
fn judged(files: &Files) -> Result<(), TestCaseError> {
    let Err(problems) = compose(files) else { return Ok(()) };
    prop_assert!(!problems.is_empty());
    for problem in &problems {
        let text = files.get(&problem.at.file).map_or("", String::as_str);
        let lines: Vec<_> = text.split('\n').collect();
        prop_assert!((1..=lines.len()).contains(&problem.at.line), "{problem}");
        let line = lines[problem.at.line - 1].chars().count();
        prop_assert!((1..=line + 1).contains(&problem.at.column), "{problem}");
        prop_assert!(!problem.reason.contains('\n') && !problem.reason.ends_with('.'), "{problem}");
    }
    Ok(())
}

/// A value of a server's file, put anywhere, is found wrong where a lone document finds it wrong.
const LINES: [&str; 12] = [
    "[packages]",
    "Bad = true",
    "[services.tidy]",
    "exec = [\"relative\"]",
    "user = \"0\"",
    "[files.\"/etc/x\"]",
    "mode = \"0999\"",
    "content = '''\né\n'''",
    "[databases.shop]",
    "owner = \"root\"",
    "engine = \"mariadb\"",
    "# é",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_files_are_judged(texts in prop::collection::btree_map(
        prop::sample::select(&["fleet.toml", "servers/ks1.toml", "instances/blog.toml", "members/sol.toml"][..]),
        "\\PC{0,80}", 0..4,
    )) {
        let mut files = small();
        files.extend(texts.into_iter().map(|(path, text)| (path.to_owned(), text)));
        judged(&files)?;
    }

    #[test]
    fn a_damaged_fleet_is_judged(file in 0..8_usize, at in 0..10_000_usize, cut in 0..30_usize, piece in prop::sample::select(
        &["[", "]", "\"", "'''", "=", ".", "{", "\n", "[[a]]", "é", "params = 1\n", "[limits]\n", "0644"][..])) {
        let mut files = example();
        files.remove("README.md");
        let path = files.keys().nth(file % files.len()).unwrap().clone();
        let text = &files[&path];
        let starts: Vec<_> = text.char_indices().map(|(start, _)| start).collect();
        let from = at % starts.len();
        let to = (from + cut).min(starts.len() - 1);
        let damaged = format!("{}{piece}{}", &text[..starts[from]], &text[starts[to]..]);
        files.insert(path, damaged);
        judged(&files)?;
    }

    #[test]
    fn a_servers_file_is_judged_as_a_document_is(lines in prop::collection::vec(prop::sample::select(&LINES[..]), 0..12)) {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let mut alone: Vec<Problem> = document::parse("servers/ks1.toml", &format!("schema = 1\n{text}")).err().unwrap_or_default();
        let mut files = small();
        files.insert("servers/ks1.toml".to_owned(), format!("\n{text}"));
        let mut found = compose(&files).err().unwrap_or_default();
        for problem in alone.iter_mut().chain(&mut found) {
            problem.reason = problem.reason.replace("this file", "the document");
            problem.hint = problem.hint.take().filter(|hint| !hint.starts_with("its fields are"));
        }
        alone.sort();
        found.sort();
        prop_assert_eq!(BTreeMap::from([("problems", alone)]), BTreeMap::from([("problems", found)]));
    }
}
