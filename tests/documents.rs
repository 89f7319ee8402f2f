//! One document a case. `tests/documents/bad/CASE.toml` must be refused with exactly what
//! `CASE.txt` says; everything in `tests/documents/good` and `examples` must be accepted.
//! A new case is a new file: `UPDATE=1` writes what it is answered, to be read with care.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use socle::model::document::{self, Document};
use socle::model::problem::Problem;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cases(directory: &str) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(project().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no case in {directory}");
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Equal to the file, or written to it.
fn agrees(path: &Path, text: &str) -> Result<(), String> {
    if update() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == text { Ok(()) } else { Err(format!("{}: expected\n{expected}found\n{text}", path.display())) }
}

#[test]
fn every_bad_document_is_refused_with_all_its_problems() {
    let mut wrong = Vec::new();
    let cases = cases("tests/documents/bad");
    for (path, text) in &cases {
        let said = match document::parse(file_name(path), text) {
            Ok(_) => "accepted\n".to_owned(),
            Err(problems) => lines(&problems),
        };
        if said == "accepted\n" {
            wrong.push(format!("{} is accepted", path.display()));
        }
        wrong.extend(agrees(&path.with_extension("txt"), &said).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 70, "{} cases", cases.len());
}

#[test]
fn every_good_document_and_example_is_accepted() {
    for directory in ["tests/documents/good", "examples"] {
        for (path, text) in cases(directory) {
            let document = accepted(&path, &text);
            let json = serde_json::to_string(&document).unwrap();
            assert_eq!(serde_json::from_str::<Document>(&json).unwrap(), document, "{}", path.display());
        }
    }
}

fn accepted(path: &Path, text: &str) -> Document {
    document::parse(file_name(path), text).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

/// What the full document means, value by value.
#[test]
fn the_full_document_is_read_as_written() {
    let path = project().join("tests/documents/good/full.toml");
    let document = accepted(&path, &fs::read_to_string(&path).unwrap());
    let json = serde_json::to_string_pretty(&document).unwrap();
    agrees(&path.with_extension("json"), &format!("{json}\n")).unwrap();
}

#[test]
fn the_published_schema_is_current() {
    let schema = serde_json::to_string_pretty(&document::schema()).unwrap();
    agrees(&project().join("schema/document.schema.json"), &format!("{schema}\n")).expect("UPDATE=1 writes it");
}

#[test]
fn a_place_is_found_after_the_fact() {
    let text = "schema = 1\n[instances.blog]\n  domain = \"a.example.org\"\n[instances.blog.params]\ntitle = \"é\"\n";
    let place = |path: &[&str]| {
        let path: Vec<_> = path.iter().map(|step| (*step).to_owned()).collect();
        let at = document::position_of("f", text, &path);
        (at.line, at.column)
    };
    assert_eq!(place(&["instances", "blog", "domain"]), (3, 12));
    assert_eq!(place(&["instances", "blog", "params", "title"]), (5, 9));
    assert_eq!(place(&["instances", "blog", "params", "missing"]), (4, 1));
    assert_eq!(place(&["instances", "blog"]), (2, 1));
    assert_eq!(place(&["packages", "htop"]), (1, 1));
    assert_eq!(place(&[]), (1, 1));
}

#[test]
fn many_problems_are_counted_not_listed() {
    let many: String = (0..5000).map(|n| format!("field{n} = 1\n")).collect();
    let problems = document::parse("many", &many).unwrap_err();
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100].reason, "4901 more problems from here on");
}

#[test]
fn an_oversized_document_is_refused_unread() {
    let text = format!("schema = 1\n# {}\n", "x".repeat(document::MAX_BYTES));
    let problems = document::parse("big", &text).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].reason.contains("1048576 at most"), "{}", problems[0]);
}

/// More of a thing than one server holds.
#[test]
fn too_many_instances() {
    let many: String = (0..1001)
        .map(|n| format!("[instances.i{n}]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"i{n}.example.org\"\n"))
        .collect();
    let problems = document::parse("many", &format!("schema = 1\n{many}")).unwrap_err();
    assert_eq!(
        lines(&problems[..1]),
        "many:2:2: 1001 instances on one server: 1000 at most\n  hint: spread them over several servers\n"
    );
}

/// Judged: no panic, problems in order, each inside the text and readable.
fn judged(text: &str) -> Result<(), TestCaseError> {
    let Err(problems) = document::parse("f", text) else { return Ok(()) };
    prop_assert!(!problems.is_empty());
    prop_assert!(problems.is_sorted_by_key(|p| (p.at.line, p.at.column)));
    let lines: Vec<_> = text.split('\n').collect();
    for problem in &problems {
        prop_assert!((1..=lines.len()).contains(&problem.at.line), "{problem}");
        let line = lines[problem.at.line - 1].chars().count();
        prop_assert!((1..=line + 1).contains(&problem.at.column), "{problem}");
        prop_assert!(!problem.reason.is_empty() && !problem.reason.contains('\n'), "{problem}");
        prop_assert!(!problem.reason.ends_with('.') && problem.reason.chars().count() < 400, "{problem}");
        prop_assert!(problem.hint.as_ref().is_none_or(|hint| !hint.contains('\n')), "{problem}");
    }
    Ok(())
}

fn full() -> String {
    fs::read_to_string(project().join("tests/documents/good/full.toml")).unwrap()
}

/// Pieces that meet the grammar at its joints.
const PIECES: [&str; 24] = [
    "[",
    "]",
    "[[",
    "\"",
    "'''",
    "\"\"\"",
    "=",
    ".",
    ",",
    "{",
    "}",
    "\n",
    "\r",
    "#",
    "é",
    "\u{feff}",
    "0644",
    "1e400",
    "-",
    "99999999999999999999",
    "true",
    "[instances.blog]",
    "domain = 1",
    "\\u0000",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_judged(text in "\\PC{0,200}") {
        judged(&text)?;
    }

    #[test]
    fn any_text_of_our_words_is_judged(words in prop::collection::vec(
        prop_oneof![prop::sample::select(&PIECES[..]), prop::sample::select(&["schema", "instances", "blog", "exec", " "][..])],
        0..40,
    )) {
        judged(&words.concat())?;
    }

    #[test]
    fn a_damaged_document_is_judged(at in 0..10_000_usize, cut in 0..40_usize, piece in prop::sample::select(&PIECES[..])) {
        let text = full();
        let starts: Vec<_> = text.char_indices().map(|(start, _)| start).collect();
        let from = at % starts.len();
        let to = (from + cut).min(starts.len() - 1);
        judged(&format!("{}{piece}{}", &text[..starts[from]], &text[starts[to]..]))?;
    }

    #[test]
    fn any_value_of_any_field_is_judged(line in 0..200_usize, value in prop_oneof![
        "\"\\PC{0,60}\"", Just("1".to_owned()), Just("-1".to_owned()), Just("1.5".to_owned()), Just("true".to_owned()),
        Just("[]".to_owned()), Just("{}".to_owned()), Just("[\"\", \"\", 1]".to_owned()), Just("\"\\u0000\\n\"".to_owned()),
        Just("1979-05-27".to_owned()), Just("0x7fffffffffffffffffff".to_owned()), Just("\"a b\"".to_owned()),
    ]) {
        let text = full();
        let fields: Vec<_> = text.lines().enumerate().filter(|(_, l)| l.contains(" = ")).map(|(n, _)| n).collect();
        let chosen = fields[line % fields.len()];
        let changed: Vec<_> = text.lines().enumerate().map(|(n, l)| match l.split_once(" = ") {
            Some((key, _)) if n == chosen => format!("{key} = {value}"),
            _ => l.to_owned(),
        }).collect();
        judged(&changed.join("\n"))?;
    }
}
