//! From a fleet's directory to the document of each server. Pure.
//!
//! A fleet is kept in git by its owner:
//!
//! ```text
//! fleet.toml              schema = 1, its name, what holds where nothing else is said
//! servers/NAME.toml       a server without its instances
//! instances/NAME.toml     server = "ks1", and the fields of an instance
//! members/NAME.toml       whom instances belong to
//! ```
//!
//! [`compose`] puts each server's document together as text (which is what is signed and pushed) and lets
//! `model::document` judge it; what is wrong is told at the place in the owner's file it came from.
//!
//! # Guarantees
//!
//! The same files give the same text, byte for byte, whatever the order of fields in them; and a change that
//! does not concern a server (a comment, another server, a member's contact) does not change its text.

mod across;
mod diff;
mod form;
mod layout;
mod recipes;
mod server;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;
use toml::de::{DeTable, DeValue};

pub use diff::{Change, Difference, Documents, ServerDifference, diff};
pub use form::schemas;
pub use layout::{MAX_BYTES, MAX_FILES, is_ignored};
pub use recipes::{Checked, check_recipes};

use crate::model::Name;
use crate::model::document::{self, Document, Found, Wrong};
use crate::model::problem::{Position, Problem};
use layout::{File, Layout};
use text::Origins;

/// The files of a fleet: path below its directory -> text.
pub type Files = BTreeMap<String, String>;

/// More problems than anyone reads at once; the rest is counted.
const MAX_PROBLEMS: usize = 200;

/// A fleet without a problem of its own. What the recipes say to it: [`check_recipes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    pub name: Name,
    pub members: BTreeMap<Name, Member>,
    pub servers: BTreeMap<Name, Composed>,
}

impl Fleet {
    /// The documents alone, as [`diff`] compares them.
    pub fn documents(&self) -> Documents {
        self.servers.iter().map(|(name, server)| (name.clone(), server.document.clone())).collect()
    }
}

/// An organisation that owns instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// What it calls itself.
    pub name: String,
    /// The e-mail address of whoever answers for it.
    pub contact: String,
}

/// The document of one server, and where its parts came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// What is pushed.
    pub text: String,
    pub document: Document,
    origins: Origins,
}

impl Composed {
    /// Where in the fleet's files the value at `path` of the document is written.
    pub fn position_of(&self, files: &Files, path: &[String]) -> Position {
        place(files, &self.origins, document::place_of(&self.text, path))
    }
}

/// Every server's document, or everything that is wrong with the fleet.
pub fn compose(files: &Files) -> Result<Fleet, Vec<Problem>> {
    let mut problems = Problems { files, list: Vec::new() };
    if let Some(wrong) = layout::too_large(files) {
        problems.add("fleet.toml", wrong.at(0));
        return Err(problems.list);
    }
    let layout = layout::sort(files, |path, wrong| problems.add(path, wrong.at(0)));
    let parts = Parts::read(&layout, &mut problems);
    let name = fleet_name(&parts, &mut problems);
    let members = members(&parts, &mut problems);
    across::check(&parts, &mut problems);
    let servers = server::compose_all(&parts, &mut problems);
    match (name, problems.list.is_empty()) {
        (Some(name), true) => Ok(Fleet { name, members, servers }),
        _ => Err(problems.sorted()),
    }
}

/// A file that was read: all of it, and the part that has the right form.
struct Part<'a> {
    file: File<'a>,
    /// Empty if it is no TOML.
    all: DeTable<'a>,
    good: DeTable<'a>,
    readable: bool,
}

impl<'a> Part<'a> {
    fn read(file: File<'a>, schema: &'static serde_json::Value, problems: &mut Problems<'_>) -> Self {
        let judged = document::read_as(schema, "this file", file.text);
        judged.found.into_iter().for_each(|found| problems.add(file.path, found));
        let readable = judged.root.is_some();
        Self { file, all: judged.root.unwrap_or_default(), good: judged.good, readable }
    }

    /// The text of a field, and where it stands.
    fn text(&self, field: &str) -> Option<(&str, usize)> {
        let value = self.good.get(field)?;
        Some((value.get_ref().as_str()?, value.span().start))
    }

    fn table(&self, field: &str) -> Option<&DeTable<'a>> {
        self.good.get(field).and_then(|value| value.get_ref().as_table())
    }
}

struct Parts<'a> {
    fleet: Option<Part<'a>>,
    servers: BTreeMap<Name, Part<'a>>,
    instances: BTreeMap<Name, Part<'a>>,
    members: BTreeMap<Name, Part<'a>>,
}

impl<'a> Parts<'a> {
    fn read(layout: &Layout<'a>, problems: &mut Problems<'_>) -> Self {
        if layout.fleet.is_none() {
            let wrong = Wrong::new("there is no `fleet.toml`");
            let hint = "write one with `schema = 1` and `name = \"…\"`, or name the directory it is in";
            problems.add("fleet.toml", wrong.hint(hint).at(0));
        }
        let mut all = |files: &BTreeMap<Name, File<'a>>, schema| {
            files.iter().map(|(name, file)| (name.clone(), Part::read(*file, schema, problems))).collect()
        };
        let servers = all(&layout.servers, form::server());
        let instances = all(&layout.instances, form::instance());
        let members = all(&layout.members, form::member());
        let fleet = layout.fleet.map(|file| Part::read(file, form::fleet(), problems));
        Self { fleet, servers, instances, members }
    }
}

fn fleet_name(parts: &Parts<'_>, problems: &mut Problems<'_>) -> Option<Name> {
    let part = parts.fleet.as_ref()?;
    known_form(part, "fleets", problems);
    let (text, at) = part.text("name")?;
    problems.keep(part.file.path, at, document::name(text))
}

/// A file of another form is not for this program: its words may mean something else.
fn known_form(part: &Part<'_>, of: &str, problems: &mut Problems<'_>) {
    let Some(form) = part.good.get("schema") else { return };
    let number = form.get_ref().as_integer().map(ToString::to_string).unwrap_or_default();
    if number != "1" {
        let wrong = Wrong::new(format!("this socle does not know {of} with `schema = {number}`"));
        let hint = "write `schema = 1`, or use a socle that knows this form";
        problems.add(part.file.path, wrong.hint(hint).at(form.span().start));
    }
}

fn members(parts: &Parts<'_>, problems: &mut Problems<'_>) -> BTreeMap<Name, Member> {
    let mut members = BTreeMap::new();
    for (key, part) in &parts.members {
        let mut read = |field: &str, check: fn(&str) -> Result<String, Wrong>| {
            let (text, at) = part.text(field)?;
            problems.keep(part.file.path, at, check(text))
        };
        let (name, contact) = (read("name", line), read("contact", address));
        if let (Some(name), Some(contact)) = (name, contact) {
            members.insert(key.clone(), Member { name, contact });
        }
    }
    members
}

/// A name as people write theirs.
fn line(text: &str) -> Result<String, Wrong> {
    const MOST: usize = 100;
    if text.trim().is_empty() || text.chars().any(char::is_control) || text.chars().count() > MOST {
        return Err(Wrong::new(format!("`name` must be one line of text, {MOST} characters at most")));
    }
    Ok(text.to_owned())
}

/// Good enough to catch a slip; only a mail that arrives proves more.
fn address(text: &str) -> Result<String, Wrong> {
    let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    let good = |(local, domain): (&str, &str)| {
        plain(local) && domain.contains('.') && domain.to_lowercase().parse::<crate::model::Domain>().is_ok()
    };
    if text.len() <= 254 && text.split_once('@').is_some_and(good) {
        return Ok(text.to_owned());
    }
    let wrong = Wrong::new(format!("{} is not an e-mail address", crate::model::problem::shown(text)));
    Err(wrong.hint("such as `us@example.org`"))
}

/// What is wrong so far.
struct Problems<'a> {
    files: &'a Files,
    list: Vec<Problem>,
}

impl Problems<'_> {
    fn add(&mut self, path: &str, found: Found) {
        let at = position(self.files, path, found.offset);
        self.list.push(Problem { at, reason: found.wrong.reason, hint: found.wrong.hint });
    }

    fn keep<T>(&mut self, path: &str, at: usize, result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.add(path, wrong.at(at))).ok()
    }

    /// By file and place, each once.
    fn sorted(mut self) -> Vec<Problem> {
        self.list.sort();
        self.list.dedup();
        let more = self.list.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            let at = self.list[MAX_PROBLEMS].at.clone();
            self.list.truncate(MAX_PROBLEMS);
            self.list.push(Problem { at, reason: format!("{more} more problems from here on"), hint: None });
        }
        self.list
    }
}

fn place(files: &Files, origins: &Origins, at: usize) -> Position {
    match origins.of(at) {
        Some(place) => position(files, &place.path, place.offset),
        None => position(files, "fleet.toml", 0),
    }
}

/// A path of the outside is shown without what a terminal would act on.
fn position(files: &Files, path: &str, offset: usize) -> Position {
    let shown: String = path.escape_debug().take(200).collect();
    Position::of(&shown, files.get(path).map_or("", String::as_str), offset)
}

/// The table a value holds.
fn as_table<'t, 'a>(value: Option<&'t toml::Spanned<DeValue<'a>>>) -> Option<&'t DeTable<'a>> {
    value.and_then(|value| value.get_ref().as_table())
}
