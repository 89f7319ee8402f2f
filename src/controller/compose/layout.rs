//! Which file of a fleet's directory is what.

use std::collections::BTreeMap;

use super::Files;
use crate::model::Name;
use crate::model::document::{self, Wrong};
use crate::model::problem::{did_you_mean, shown};

/// Hundreds of servers with tens of instances each.
pub const MAX_FILES: usize = 10_000;
/// Bytes of all files together.
pub const MAX_BYTES: usize = 16 << 20;

const DIRECTORIES: [&str; 3] = ["servers", "instances", "members"];
const PARTS: &str = "a fleet is `fleet.toml`, `servers/NAME.toml`, `instances/NAME.toml` and `members/NAME.toml`";

/// The files by what they are.
#[derive(Debug, Default)]
pub(super) struct Layout<'a> {
    pub fleet: Option<File<'a>>,
    pub servers: BTreeMap<Name, File<'a>>,
    pub instances: BTreeMap<Name, File<'a>>,
    pub members: BTreeMap<Name, File<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct File<'a> {
    pub path: &'a str,
    pub text: &'a str,
}

enum Part {
    Fleet,
    Server(Name),
    Instance(Name),
    Member(Name),
    /// Documentation, and what tools keep beside it.
    NotOurs,
}

/// What is too much for any fleet; the files are not looked at then.
pub(super) fn too_large(files: &Files) -> Option<Wrong> {
    let bytes: usize = files.values().map(String::len).sum();
    if files.len() > MAX_FILES {
        let wrong = Wrong::new(format!("the fleet has {} files: {MAX_FILES} at most", files.len()));
        return Some(wrong.hint("is it the right directory?"));
    }
    if bytes > MAX_BYTES {
        let wrong = Wrong::new(format!("the fleet has {bytes} bytes: {MAX_BYTES} at most"));
        return Some(wrong.hint("a large file belongs in a package or a release"));
    }
    None
}

/// Every file in its place; what has none is told to `wrong` with its path.
pub(super) fn sort<'a>(files: &'a Files, mut wrong: impl FnMut(&'a str, Wrong)) -> Layout<'a> {
    let mut layout = Layout::default();
    for (path, text) in files {
        let file = File { path, text };
        match part(path) {
            Ok(Part::Fleet) => layout.fleet = Some(file),
            Ok(Part::Server(name)) => drop(layout.servers.insert(name, file)),
            Ok(Part::Instance(name)) => drop(layout.instances.insert(name, file)),
            Ok(Part::Member(name)) => drop(layout.members.insert(name, file)),
            Ok(Part::NotOurs) => {}
            Err(why) => wrong(path, why),
        }
    }
    layout
}

/// Whether a file is none of the fleet's: hidden, or documentation. The reader of a directory need not read it.
pub fn is_ignored(path: &str) -> bool {
    path.split('/').any(|step| step.starts_with('.') && step != "." && step != "..") || path.ends_with(".md")
}

fn part(path: &str) -> Result<Part, Wrong> {
    if is_ignored(path) {
        return Ok(Part::NotOurs);
    }
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["fleet.toml"] => Ok(Part::Fleet),
        [directory, file] if DIRECTORIES.contains(directory) => {
            let Some(stem) = file.strip_suffix(".toml") else { return Err(no_toml(directory, file)) };
            let name = document::name(stem)?;
            Ok(match *directory {
                "servers" => Part::Server(name),
                "instances" => Part::Instance(name),
                _ => Part::Member(name),
            })
        }
        [directory, .., file] if DIRECTORIES.contains(directory) => {
            let wrong = Wrong::new(format!("directories in `{directory}/` are not read"));
            Err(wrong.hint(format!("move it to {}", shown(&format!("{directory}/{file}")))))
        }
        [directory, rest @ ..] if !rest.is_empty() => {
            let wrong = Wrong::new(format!("{} is not a directory of a fleet", shown(&format!("{directory}/"))));
            Err(match did_you_mean(directory, DIRECTORIES) {
                Some(meant) => wrong.hint(format!("did you mean `{meant}/`?")),
                None => wrong.hint(PARTS),
            })
        }
        _ => {
            let wrong = Wrong::new(format!("{} is not a file of a fleet", shown(path)));
            Err(match did_you_mean(path, ["fleet.toml"]) {
                Some(meant) => wrong.hint(format!("did you mean `{meant}`?")),
                None => wrong.hint(PARTS),
            })
        }
    }
}

fn no_toml(directory: &str, file: &str) -> Wrong {
    let wrong = Wrong::new(format!("the files of `{directory}/` end with `.toml`"));
    let stem = file.split('.').next().unwrap_or(file);
    match stem.parse::<Name>() {
        Ok(name) => wrong.hint(format!("rename it to `{directory}/{name}.toml`, or take it away")),
        Err(_) => wrong.hint("take it away"),
    }
}
