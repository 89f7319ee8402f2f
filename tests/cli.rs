//! The program as it is called: words, exit codes, which stream gets what. Nothing here changes the
//! machine: the state directory is an empty one.
#![expect(clippy::disallowed_methods, reason = "tests write files and read what they asked for")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, is_empty};

const GOOD: &str = "examples/wordpress.toml";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn socle() -> Command {
    let mut command = Command::cargo_bin("socle").unwrap();
    command.current_dir(repository()).env_remove("NO_COLOR");
    command
}

/// With a state directory of its own.
fn agent(state: &Path) -> Command {
    let mut command = socle();
    command.arg("--state").arg(state).arg("agent");
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().stderr(is_empty()).get_output().stdout.clone()).unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// Every command there is, as its help lists them.
fn commands() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut next = 0;
    while let Some(words) = all.get(next).cloned() {
        let help = stdout(socle().args(&words).arg("--help"));
        let list = help.split_once("\nCommands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap());
        let names = list.into_iter().flat_map(str::lines).filter_map(|line| line.split_whitespace().next());
        all.extend(names.filter(|name| *name != "help").map(|name| [words.clone(), vec![name.to_owned()]].concat()));
        next += 1;
    }
    all
}

#[test]
fn every_command_explains_itself() {
    let commands = commands();
    assert!(commands.len() >= 13, "{commands:?}");
    for words in commands {
        let help = stdout(socle().args(&words).arg("--help"));
        let usage = ["Usage: socle", &words.join(" ")].join(" ");
        assert!(help.contains(usage.trim_end()), "{words:?}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{words:?} is wider than 100 columns");
        // Every command and every option says what it is for, but those whose name is a value's kind.
        for line in help.lines().filter(|line| line.starts_with("      --") || line.starts_with("  -")) {
            let (_, about) = line.trim().split_once("  ").unwrap_or_default();
            assert!(!about.trim().is_empty(), "{words:?} does not explain `{line}`");
        }
        assert!(!help.contains("--state"), "it is for tests");
    }
}

#[test]
fn exit_codes_are_told() {
    let help = stdout(socle().arg("--help"));
    assert!(help.contains("Exit codes: 0 as wanted, 1 unexpected error, 2 bad input, 3 not as wanted"), "{help}");
}

#[test]
fn version() {
    assert_eq!(stdout(socle().arg("--version")), format!("socle {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_it_does_not_know_ends_with_2_and_prints_nothing() {
    let cases: [&[&str]; 9] = [
        &[],
        &["--no-such-option"],
        &["agnet"],
        &["agent"],
        &["agent", "aply"],
        &["agent", "check"],
        &["agent", "rollback", "Not A Name"],
        &["agent", "logs", "blog", "--lines", "many"],
        &["completions", "cmd.exe"],
    ];
    for arguments in cases {
        socle().args(arguments).assert().code(2).stdout(is_empty()).stderr(is_empty().not());
    }
    socle().args(["agent", "aply"]).assert().stderr(contains("'apply'"));
}

#[test]
fn a_good_document_is_said_to_be_so() {
    let state = tempfile::tempdir().unwrap();
    for example in std::fs::read_dir(repository().join("examples")).unwrap().map(Result::unwrap) {
        if example.path().is_dir() {
            continue;
        }
        let file = format!("examples/{}", example.file_name().to_str().unwrap());
        assert_eq!(stdout(agent(state.path()).args(["check", &file])), format!("{file}: no problem found\n"));
    }
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "a check writes nothing");
}

#[test]
fn a_bad_document_is_2_with_all_problems_on_standard_error() {
    let state = tempfile::tempdir().unwrap();
    let bad = "schema = 1\n[instances.blog]\nrecipe = \"wordpres\"\nversion = \"6.8.7\"\ndomain = \"blog.example.org\"\n\
               [services.nothing]\n";
    for act in ["check", "plan", "apply"] {
        agent(state.path())
            .args([act, "-"])
            .write_stdin(bad)
            .assert()
            .code(2)
            .stdout(is_empty())
            .stderr(contains("-:").and(contains("problem")).and(contains("nothing was changed")));
    }
    assert!(!state.path().join("ledger.json").exists(), "what is refused is not accepted");

    let out = agent(state.path()).args(["check", "-", "--json"]).write_stdin(bad).assert().code(2).stderr(is_empty());
    let told: serde_json::Value = serde_json::from_slice(&out.get_output().stdout).unwrap();
    let problems = told["problems"].as_array().unwrap();
    assert!(!problems.is_empty());
    assert!(problems.iter().all(|problem| problem["reason"].is_string() && problem["line"].is_u64()), "{told}");
}

#[test]
fn a_fleet_is_checked_without_a_controller() {
    let check = ["fleet", "check"];
    let said = stdout(socle().args(check).arg("examples/fleet"));
    assert_eq!(said, "sol: no problem found; 2 server(s), 2 instance(s)\n");
    let told: serde_json::Value =
        serde_json::from_str(&stdout(socle().args(check).args(["examples/fleet/", "--json"]))).unwrap();
    assert!(told["documents"]["ks2"].as_str().unwrap().contains("[instances.wiki]"), "{told}");

    let directory = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &[u8]| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let refused = |said: &str| {
        socle().args(check).arg(directory.path()).assert().code(2).stdout(is_empty()).stderr(contains(said));
    };
    refused("there is no `fleet.toml`");
    write("fleet.toml", b"schema = 1\nname = \"sol\"\n");
    write("servers/ks1.toml", b"");
    write(".git/objects/01", b"\xff\xfe");
    write(
        "instances/blog.toml",
        b"server = \"ks1\"\nrecipe = \"wordpres\"\nversion = \"1\"\ndomain = \"b.example.org\"\n",
    );
    let place = directory.path().join("instances/blog.toml");
    refused(&format!("{}:2:10: there is no recipe `wordpres`", place.display()));
    write("members/logo.png", b"\x89PNG\xff");
    refused("logo.png:1:1: this file is no text");
    for act in ["check", "plan", "apply"] {
        let told = contains("cannot read `no/such/directory`").and(contains("No such file")).and(contains("hint:"));
        socle().args(["fleet", act, "no/such/directory"]).assert().code(2).stdout(is_empty()).stderr(told);
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let state = tempfile::tempdir().unwrap();
    for act in ["check", "plan", "apply"] {
        let told = contains("cannot read `no-such.toml`").and(contains("No such file")).and(contains("hint:"));
        agent(state.path()).args([act, "no-such.toml"]).assert().code(2).stdout(is_empty()).stderr(told);
    }
    let out = agent(state.path()).args(["check", "examples", "--json"]).assert().code(2).stderr(is_empty());
    let error: serde_json::Value = serde_json::from_slice(&out.get_output().stdout).unwrap();
    assert_eq!(error["code"], "document.unreadable");
}

#[test]
fn a_damaged_report_is_told() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("report.json"), "{").unwrap();
    let out = stdout(agent(state.path()).arg("status"));
    assert!(out.contains("the report of the last pass is damaged") && out.contains("socle agent apply"), "{out}");
}

#[test]
fn completions_offer_what_is_for_users() {
    for shell in ["bash", "zsh", "fish"] {
        let completions = stdout(socle().args(["completions", shell]));
        assert!(completions.contains("apply") && completions.contains("json"), "{shell}");
        assert!(!completions.contains("--state") && !completions.contains("state="), "{shell}");
    }
}

#[test]
fn a_document_comes_from_standard_input_too() {
    let state = tempfile::tempdir().unwrap();
    let out = stdout(agent(state.path()).args(["check", "-"]).write_stdin(read(GOOD)));
    assert_eq!(out, "-: no problem found\n");
    let out = stdout(agent(state.path()).args(["--json", "check", "-"]).write_stdin(read(GOOD)));
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["instances"]["blog"]["recipe"], "wordpress");
}

#[test]
fn without_a_document_there_is_a_next_step() {
    let state = tempfile::tempdir().unwrap();
    let out = stdout(agent(state.path()).arg("status"));
    assert!(out.contains("no document was accepted yet") && out.contains("socle agent apply FILE"), "{out}");
    let out = stdout(agent(state.path()).args(["status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["instances"], serde_json::json!([]));

    for arguments in [&["plan"][..], &["rollback", "blog"]] {
        agent(state.path()).args(arguments).assert().code(2).stdout(is_empty()).stderr(contains("apply FILE"));
    }
    for arguments in [["purge", "blog"], ["logs", "blog"]] {
        agent(state.path()).args(arguments).assert().code(2).stderr(contains("there is no instance `blog`"));
    }
    let out = agent(state.path()).args(["purge", "blog", "--json"]).assert().code(2).stderr(is_empty());
    let error: serde_json::Value = serde_json::from_slice(&out.get_output().stdout).unwrap();
    assert_eq!(error["code"], "agent.no-such-instance");
}

#[test]
fn a_damaged_ledger_is_not_an_empty_one() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("ledger.json"), "{").unwrap();
    for arguments in [&["status"][..], &["check", GOOD], &["apply", GOOD]] {
        agent(state.path()).args(arguments).assert().code(1).stderr(contains("damaged").and(contains("hint")));
    }
}

#[test]
fn the_catalog() {
    let list = stdout(socle().args(["catalog", "list"]));
    let rows: Vec<&str> = list.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    let directories = std::fs::read_dir(repository().join("catalog")).unwrap();
    let built_in: BTreeSet<String> = directories.map(|d| d.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(rows, built_in.iter().map(String::as_str).collect::<Vec<_>>());

    for recipe in built_in {
        let shown = stdout(socle().args(["catalog", "show", &recipe]));
        assert!(shown.contains("http"), "{shown}");
        let json = stdout(socle().args(["catalog", "show", &recipe, "--json"]));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["id"], *recipe);
    }
    let json: serde_json::Value = serde_json::from_str(&stdout(socle().args(["catalog", "list", "--json"]))).unwrap();
    assert_eq!(json.as_array().unwrap().len(), rows.len());

    let unknown = |name| socle().args(["catalog", "show", name]).assert().code(2).stdout(is_empty());
    unknown("wordpres").stderr(contains("did you mean `wordpress`?"));
    unknown("something-else").stderr(contains("socle catalog list"));
}

#[test]
fn the_schema_is_the_published_one() {
    assert_eq!(stdout(socle().arg("schema")), read("schema/document.schema.json"));
    assert_eq!(stdout(socle().args(["schema", "--fleet"])), read("schema/fleet.schema.json"));
}

#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(socle().args(["completions", shell]));
        for word in ["socle", "rollback", "catalog"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("socle.bash");
    std::fs::write(&script, stdout(socle().args(["completions", "bash"]))).unwrap();
    assert!(Program::new("bash").arg("-n").arg(&script).status().unwrap().success());
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    stdout(socle().arg("man").arg(dir.path()));
    let mut pages: BTreeSet<String> =
        std::fs::read_dir(dir.path()).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    for words in commands() {
        let name = [vec!["socle".to_owned()], words].concat().join("-");
        assert!(pages.remove(&format!("{name}.1")), "{name} has no page");
        let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        // What whatis(1) shows: the name, a dash, one line.
        let roff = name.replace('-', "\\-");
        let whatis = page.split_once(".SH NAME\n").and_then(|(_, rest)| rest.lines().next()).unwrap();
        let about = whatis.strip_prefix(&format!("{roff} \\- ")).unwrap_or_else(|| panic!("{name}: {whatis}"));
        assert!(about.len() > 10, "{name}: {about}");
        let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
        assert!(title.contains(&format!("socle {}", env!("CARGO_PKG_VERSION"))), "{name}: {title}");
    }
    assert!(pages.is_empty(), "pages of nothing: {pages:?}");
}

/// Words in the documentation that look like our commands are some.
#[test]
fn what_the_documentation_calls_exists() {
    let known: BTreeSet<String> = commands().iter().map(|words| words.join(" ")).collect();
    let mut seen = BTreeSet::new();
    for file in [
        "README.md",
        "examples/fleet/README.md",
        "docs/en/operators.md",
        "docs/en/recipes.md",
        "docs/en/fleet.md",
        "docs/fr/operateurs.md",
        "docs/fr/recettes.md",
        "docs/fr/flotte.md",
    ] {
        for call in read(file).split("socle ").skip(1) {
            let words: Vec<&str> = call
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
                .take_while(|word| !word.is_empty())
                .take(2)
                .collect();
            if let [group @ ("agent" | "catalog" | "fleet" | "controller"), word] = words.as_slice() {
                let call = format!("{group} {word}");
                assert!(known.contains(&call), "{file} calls `socle {call}`");
                seen.insert(call);
            }
        }
    }
    assert!(seen.len() >= 8, "{seen:?}");
}

#[test]
fn colour_is_for_terminals() {
    let state = tempfile::tempdir().unwrap();
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "xterm")] {
        let error = agent(state.path()).args(["check", "no-such.toml"]).env(name, value).assert().code(2);
        let output = error.get_output();
        assert!(!output.stderr.contains(&0x1b) && !output.stdout.contains(&0x1b), "{name}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for arguments in [&["schema"][..], &["completions", "bash"], &["catalog", "show", "wordpress"], &["--help"]] {
        let program = assert_cmd::cargo::cargo_bin("socle");
        let mut child =
            Program::new(program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
}
