//! From text to a valid document, or to everything that is wrong with it.

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::check::Checker;
use super::{Document, schema, structure, syntax, value, written};
use crate::model::Name;
use crate::model::problem::{Position, Problem};

/// The longest document accepted: a thousand instances take about a third of it.
pub const MAX_BYTES: usize = 1 << 20;

/// More problems than anyone reads at once; the rest is counted.
const MAX_PROBLEMS: usize = 100;

/// A problem and the byte it is at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub offset: usize,
    pub wrong: Wrong,
}

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    pub reason: String,
    pub hint: Option<String>,
}

impl Wrong {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn at(self, offset: usize) -> Found {
        Found { offset, wrong: self }
    }
}

/// The valid document, or all of its problems in the order of the text. `file` is only named in them.
pub fn parse(file: &str, text: &str) -> Result<Document, Vec<Problem>> {
    read(text).map_err(|wrong| report(file, text, [wrong.form, wrong.values].concat()))
}

/// The valid document, or what is wrong with its *values* only: for a text put together of parts whose
/// form was judged already ([`read_as`]). The list is empty if only the form is wrong.
pub fn values(text: &str) -> Result<Document, Vec<Found>> {
    read(text).map_err(|wrong| wrong.values)
}

/// A file of another form than a document, judged in the same way against its own schema.
#[derive(Debug)]
pub struct Judged<'a> {
    /// All that is written; none if it is no TOML.
    pub root: Option<DeTable<'a>>,
    /// What is written and has the form the schema asks for.
    pub good: DeTable<'a>,
    pub found: Vec<Found>,
}

/// Syntax and form of a file that messages call `called` (`this file`).
pub fn read_as<'a>(schema: &'static Value, called: &str, text: &'a str) -> Judged<'a> {
    let mut judged = Judged { root: None, good: DeTable::new(), found: Vec::new() };
    if text.len() > MAX_BYTES {
        judged.found.push(too_long(called, text));
        return judged;
    }
    let (root, readable) = syntax::read(text, &mut judged.found);
    if !readable {
        return judged;
    }
    let mut good = Spanned::new(0..0, DeValue::Table(root.clone()));
    structure::prune(schema, called, text, &mut good, &mut judged.found);
    if let DeValue::Table(good) = good.into_inner() {
        judged.good = good;
    }
    judged.root = Some(root);
    judged
}

/// A name, or what is wrong with it in the words of a document's problems.
pub fn name(text: &str) -> Result<Name, Wrong> {
    value::name(text)
}

fn too_long(called: &str, text: &str) -> Found {
    let wrong = Wrong::new(format!("{called} has {} bytes: {MAX_BYTES} at most", text.len()));
    wrong.hint("a large file belongs in a package or a release").at(0)
}

/// Where the value at `path` (`["instances", "blog", "domain"]`) stands, or the nearest thing around
/// it that is there: for what is found wrong after the document itself was found valid.
pub fn position_of(file: &str, text: &str, path: &[String]) -> Position {
    Position::of(file, text, place_of(text, path))
}

/// The same as the number of a byte.
pub fn place_of(text: &str, path: &[String]) -> usize {
    let (root, _) = DeTable::parse_recoverable(text);
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    offset_of(root.get_ref(), &path)
}

/// What is wrong: with the form of the text, and with values that have the right form.
#[derive(Default)]
struct Unfit {
    form: Vec<Found>,
    values: Vec<Found>,
}

impl Unfit {
    fn form(form: Vec<Found>) -> Self {
        Self { form, values: Vec::new() }
    }
}

fn read(text: &str) -> Result<Document, Unfit> {
    if text.len() > MAX_BYTES {
        return Err(Unfit { form: Vec::new(), values: vec![too_long("the document", text)] });
    }
    let mut found = Vec::new();
    let (root, readable) = syntax::read(text, &mut found);
    if !readable {
        return Err(Unfit::form(found));
    }
    let mut root = Spanned::new(0..0, DeValue::Table(root));
    if let Some(found) = unknown_form(&root) {
        return Err(Unfit::form(vec![found]));
    }
    let cut = structure::prune(schema::cached(), "the document", text, &mut root, &mut found);
    let document = match written::Document::deserialize(ValueDeserializer::from(root.clone())) {
        Ok(document) => document,
        // Only if the schema and the types disagree, which tests rule out.
        Err(error) => {
            found.push(Wrong::new(error.message()).at(error.span().map_or(0, |span| span.start)));
            return Err(Unfit::form(found));
        }
    };
    let DeValue::Table(root) = root.get_ref() else { return Err(Unfit::form(found)) };
    let mut values = Vec::new();
    let document = Checker::new(root, cut, &mut values).document(document);
    if found.is_empty() && values.is_empty() { Ok(document) } else { Err(Unfit { form: found, values }) }
}

fn report(file: &str, text: &str, mut found: Vec<Found>) -> Vec<Problem> {
    found.sort();
    found.dedup();
    let more = found.len().saturating_sub(MAX_PROBLEMS);
    if more > 0 {
        let offset = found[MAX_PROBLEMS].offset;
        found.truncate(MAX_PROBLEMS);
        found.push(Wrong::new(format!("{more} more problems from here on")).at(offset));
    }
    let place = |found: Found| Problem {
        at: Position::of(file, text, found.offset),
        reason: found.wrong.reason,
        hint: found.wrong.hint,
    };
    found.into_iter().map(place).collect()
}

/// A document of another form is not judged further: its words may mean something else.
fn unknown_form(root: &Spanned<DeValue<'_>>) -> Option<Found> {
    let form = root.get_ref().get("schema")?;
    let number = form.get_ref().as_integer()?;
    if number.to_string() == "1" {
        return None;
    }
    let wrong = Wrong::new(format!("this socle does not know documents with `schema = {number}`"));
    Some(wrong.hint("write `schema = 1`, or use a socle that knows this form").at(form.span().start))
}

/// Where the value at `path` begins; if it is not there, the table that would hold it.
pub(super) fn offset_of(root: &DeTable<'_>, path: &[&str]) -> usize {
    let Some((first, rest)) = path.split_first() else { return 0 };
    let Some(mut value) = root.get(*first) else { return 0 };
    for step in rest {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.get(*step),
            DeValue::Array(array) => step.parse::<usize>().ok().and_then(|index| array.get(index)),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    value.span().start
}

/// Where the key of `path` begins; if it is not there, what would hold it.
pub(super) fn key_offset_of(root: &DeTable<'_>, path: &[&str]) -> usize {
    let Some((last, parents)) = path.split_last() else { return 0 };
    let mut table = Some(root);
    for step in parents {
        table = table.and_then(|table| table.get(*step)).and_then(|value| value.get_ref().as_table());
    }
    match table.and_then(|table| table.get_key_value(*last)) {
        Some((key, _)) => key.span().start,
        None => offset_of(root, path),
    }
}
