//! From text to the valid type, with every problem at once.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::structure::{self, Finder};
use super::{Document, check, written};
use crate::model::problem::{Position, Problem};

/// A document for hundreds of sites has some hundred KiB.
const MAX_BYTES: usize = 1 << 20;

/// The valid document, or everything that is wrong with the text, in the order of the text.
///
/// Three stages, and a stage is only entered when the one before found nothing: TOML, structure, meaning.
pub fn parse(file: &str, text: &str) -> Result<Document, Vec<Problem>> {
    let mut finder = Finder { file, text, problems: Vec::new() };
    let document = stages(&mut finder, text);
    let mut problems = finder.problems;
    problems.sort();
    problems.dedup();
    match document {
        Some(document) if problems.is_empty() => Ok(document),
        _ => Err(problems),
    }
}

fn stages(finder: &mut Finder, text: &str) -> Option<Document> {
    if text.len() > MAX_BYTES {
        let reason = format!("the document has {} bytes, {MAX_BYTES} are the most", text.len());
        finder.add(0, reason, None);
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        finder.add(at, error.message().replace('\n', ", "), syntax_hint(error.message()));
    }
    if !finder.problems.is_empty() {
        return None;
    }
    structure::check(finder, &schema(), &table);
    if !finder.problems.is_empty() {
        return None;
    }
    let tree = DeValue::Table(table.get_ref().clone());
    let deserializer = toml::de::ValueDeserializer::from(Spanned::new(0..text.len(), tree));
    match written::Document::deserialize(deserializer) {
        Ok(written) => check::check(finder, &Places(table.get_ref()), written),
        Err(error) => {
            // The schema and the types are one; this is for what a schema cannot say.
            let at = error.span().map_or(0, |span| span.start);
            finder.add(at, error.message().replace('\n', ", "), None);
            None
        }
    }
}

fn syntax_hint(message: &str) -> Option<String> {
    message.contains("duplicate").then(|| "keep one of them".to_owned())
}

/// The JSON Schema (draft 2020-12) of a document.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(written::Document).to_value()
}

/// The place of a value in a text that was parsed before; of the nearest table above it if it is not
/// written there.
pub fn position_of(file: &str, text: &str, path: &[String]) -> Position {
    let (table, _) = DeTable::parse_recoverable(text);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Position::of(file, text, Places(table.get_ref()).span(&path).start)
}

/// Where things stand in the text.
pub struct Places<'a>(pub &'a DeTable<'a>);

impl Places<'_> {
    /// The value at a path of keys and list indices; where the path ends early, the last that is there.
    pub fn span(&self, path: &[&str]) -> Range<usize> {
        let mut span = 0..0;
        let mut table = self.0;
        let mut steps = path.iter();
        while let Some(step) = steps.next() {
            let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == step) else { break };
            match value.get_ref() {
                DeValue::Table(next) => {
                    // A table's own span is its header's or its braces'; the key is where the eye goes.
                    span = key.span();
                    table = next;
                }
                DeValue::Array(items) => {
                    let item = steps.next().and_then(|index| items.get(index.parse::<usize>().ok()?));
                    return item.map_or(value.span(), Spanned::span);
                }
                _ => return value.span(),
            }
        }
        span
    }

    /// The key itself, for what is wrong with a name.
    pub fn key(&self, path: &[&str]) -> Range<usize> {
        let Some((last, above)) = path.split_last() else { return 0..0 };
        let mut table = self.0;
        for step in above {
            match table.iter().find(|(key, _)| key.get_ref() == step).map(|(_, value)| value.get_ref()) {
                Some(DeValue::Table(next)) => table = next,
                _ => return 0..0,
            }
        }
        table.iter().find(|(key, _)| key.get_ref() == last).map_or(0..0, |(key, _)| key.span())
    }
}
