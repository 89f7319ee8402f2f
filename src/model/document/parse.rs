//! From text to a valid document, or to everything that is wrong with it.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::check::Checker;
use super::{Document, structure, syntax, written};
use crate::model::problem::{Position, Problem};

/// The longest document accepted: a thousand instances take about a third of it.
pub const MAX_BYTES: usize = 1 << 20;

/// More problems than anyone reads at once; the rest is counted.
const MAX_PROBLEMS: usize = 100;

/// A problem and the byte it is at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub offset: usize,
    pub wrong: Wrong,
}

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wrong {
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
    read(text).map_err(|found| report(file, text, found))
}

/// Where the value at `path` (`["instances", "blog", "domain"]`) stands, or the nearest thing around
/// it that is there: for what is found wrong after the document itself was found valid.
pub fn position_of(file: &str, text: &str, path: &[String]) -> Position {
    let (root, _) = DeTable::parse_recoverable(text);
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    Position::of(file, text, offset_of(root.get_ref(), &path))
}

fn read(text: &str) -> Result<Document, Vec<Found>> {
    if text.len() > MAX_BYTES {
        let wrong = Wrong::new(format!("the document has {} bytes: {MAX_BYTES} at most", text.len()));
        return Err(vec![wrong.hint("a large file belongs in a package or a release").at(0)]);
    }
    let mut found = Vec::new();
    let (root, readable) = syntax::read(text, &mut found);
    if !readable {
        return Err(found);
    }
    let mut root = Spanned::new(0..0, DeValue::Table(root));
    if let Some(found) = unknown_form(&root) {
        return Err(vec![found]);
    }
    let cut = structure::prune(text, &mut root, &mut found);
    let document = match written::Document::deserialize(ValueDeserializer::from(root.clone())) {
        Ok(document) => document,
        // Only if the schema and the types disagree, which tests rule out.
        Err(error) => {
            found.push(Wrong::new(error.message()).at(error.span().map_or(0, |span| span.start)));
            return Err(found);
        }
    };
    let DeValue::Table(root) = root.get_ref() else { return Err(found) };
    let document = Checker::new(root, cut, &mut found).document(document);
    if found.is_empty() { Ok(document) } else { Err(found) }
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
