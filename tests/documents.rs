//! Documents as users write them: bad ones with their exact messages, good ones, and arbitrary text.
//!
//! A case is a file: `tests/documents/bad/<case>.toml` with the messages in `<case>.txt` (`UPDATE=1` writes
//! them; then read them as an admin would).

#![allow(clippy::disallowed_methods, reason = "a test reads and writes files")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use socle::model::document::{parse, position_of, schema};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn documents(name: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(directory(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

#[test]
fn bad_documents_are_refused_with_these_words() {
    let cases = documents("tests/documents/bad");
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let problems = match parse(name, &fs::read_to_string(case).unwrap()) {
            Ok(_) => vec!["nothing is wrong".to_owned()],
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        };
        let said = problems.join("\n") + "\n";
        let expected = case.with_extension("txt");
        if update {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{name}:\n{said}"));
        }
        assert!(!said.contains("nothing is wrong"), "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn good_documents_and_the_examples_are_accepted() {
    let mut all = documents("tests/documents/good");
    all.extend(documents("examples"));
    all.push(directory("tests/e2e/server.toml"));
    assert!(all.len() >= 8, "{} documents", all.len());
    for file in all {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let parsed = parse(&name, &fs::read_to_string(&file).unwrap());
        assert!(parsed.is_ok(), "{}", parsed.unwrap_err().iter().map(|p| format!("{p}\n")).collect::<String>());
    }
}

#[test]
fn the_published_schema_is_current() {
    let file = directory("schema/document.schema.json");
    let now = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &now).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap_or_default(), now, "run with UPDATE=1");
}

const FULL: &str = include_str!("documents/good/everything.toml");

proptest! {
    #[test]
    fn arbitrary_text_is_refused_calmly(text in "\\PC{0,200}") {
        if let Err(problems) = parse("f", &text) {
            prop_assert!(!problems.is_empty());
        }
    }

    /// A valid document with one character replaced, removed or doubled.
    #[test]
    fn a_slip_of_the_pen_is_found_inside_the_file(at in 0..FULL.len(), slip in "[ -~\\n]?", double in any::<bool>()) {
        let mut text = FULL.to_owned();
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            let kept = if double { text[at..=at].to_owned() } else { String::new() };
            text.replace_range(at..=at, &(kept + &slip));
        }
        if let Err(problems) = parse("f", &text) {
            let lines = text.split('\n').count();
            for problem in problems {
                prop_assert!(problem.at.line >= 1 && problem.at.line <= lines);
                prop_assert!(!problem.reason.is_empty() && !problem.reason.ends_with('.'), "{}", problem.reason);
            }
        }
    }
}

#[test]
fn the_place_of_a_path() {
    let place = |path: &[&str]| {
        let path: Vec<String> = path.iter().map(|s| (*s).to_owned()).collect();
        let at = position_of("f", "schema = 1\n[a.b]\nc = 2\n", &path);
        (at.line, at.column)
    };
    assert_eq!(place(&["a", "b", "c"]), (3, 5));
    assert_eq!(place(&["a", "b", "missing"]), (2, 4));
    assert_eq!(place(&["nowhere"]), (1, 1));
}
