//! A module uses only what stands below it. Reads the `crate::` paths of the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Which top-level modules each may use. `telemetry` is used by the edges only.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("durable", &[]),
    ("host", &["model", "durable"]),
    ("recipe", &["model", "resources"]),
    ("resources", &["model", "durable", "host"]),
    ("engine", &["model", "durable", "host", "recipe", "resources"]),
    ("wire", &["model"]),
    ("agent", &["model", "durable", "host", "recipe", "resources", "engine", "wire"]),
    ("controller", &["model", "durable", "recipe", "wire"]),
    ("cli", &["model", "host", "recipe", "resources", "engine", "agent", "controller", "durable", "wire", "telemetry"]),
    ("telemetry", &[]),
];

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let may_use: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in rust_files(&source) {
        let relative = file.strip_prefix(&source).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let allowed = may_use.get(module).unwrap_or_else(|| panic!("`{module}` is not in the table of layers"));
        for used in used_modules(&fs::read_to_string(&file).unwrap()) {
            seen += 1;
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses `{used}`", relative.display()));
            }
        }
    }
    assert!(seen > 50, "the paths are read no more: {seen} found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn used_modules(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        // `crate::{…}` has no word after it; the sources write one path a line instead.
        .filter(|word| !word.is_empty() && word.chars().next().is_some_and(char::is_lowercase))
        .collect()
}

fn rust_files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_reader_of_paths_sees_a_violation() {
    assert_eq!(used_modules("use crate::agent::Ledger;\n// crate::cli\nlet x = crate::host::Host;"), ["agent", "host"]);
}
