//! A TOML text against a JSON Schema: every structural problem at once, each with its place.
//!
//! Knows the part of JSON Schema (draft 2020-12) that the written types use: `type`, `properties`,
//! `additionalProperties`, `required`, `items`, `enum`, `const`, `anyOf`, `oneOf`, `minimum`, `maximum`
//! and `$ref`.

use serde_json::Value as Schema;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::problem::{Position, Problem, did_you_mean};

/// Where problems are collected.
pub struct Finder<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub problems: Vec<Problem>,
}

impl Finder<'_> {
    pub fn add(&mut self, offset: usize, reason: impl Into<String>, hint: Option<String>) {
        let at = Position::of(self.file, self.text, offset);
        self.problems.push(Problem { at, reason: reason.into(), hint });
    }
}

pub fn check(finder: &mut Finder, schema: &Schema, table: &Spanned<DeTable>) {
    let checker = Checker { root: schema };
    checker.table(finder, schema, "the document", table.get_ref(), table.span().start);
}

struct Checker<'s> {
    root: &'s Schema,
}

impl<'s> Checker<'s> {
    fn resolve(&self, schema: &'s Schema) -> &'s Schema {
        match schema.get("$ref").and_then(Schema::as_str).and_then(|r| self.root.pointer(r.trim_start_matches('#'))) {
            Some(found) => self.resolve(found),
            None => schema,
        }
    }

    fn value(&self, finder: &mut Finder, schema: &'s Schema, key: &str, value: &Spanned<DeValue>) {
        let schema = self.resolve(schema);
        let at = value.span().start;
        if let Some(words) = self.words(schema) {
            return word(finder, key, &words, value);
        }
        if let Some(choices) = choices(schema) {
            let choices: Vec<&Schema> =
                choices.iter().map(|c| self.resolve(c)).filter(|c| c.get("type") != Some(&"null".into())).collect();
            return match choices.as_slice() {
                [one] => self.value(finder, one, key, value),
                many if many.iter().any(|choice| fits(choice, value.get_ref())) => {}
                many => {
                    let kinds: Vec<&str> = many.iter().filter_map(|c| wanted_type(c)).collect();
                    mismatch(finder, key, &kinds.join(" or "), value);
                }
            };
        }
        match (wanted_type(schema), value.get_ref()) {
            (Some("a table"), DeValue::Table(table)) => self.table(finder, schema, key, table, at),
            (Some("a list"), DeValue::Array(items)) => {
                for item in items.iter() {
                    if let Some(schema) = schema.get("items") {
                        self.value(finder, schema, key, item);
                    }
                }
            }
            (Some("a whole number"), DeValue::Integer(number)) => number_in_range(finder, schema, key, number, at),
            (Some(kind), value) if kind == kind_of(value) => {}
            (Some(kind), _) => mismatch(finder, key, kind, value),
            (None, _) => {}
        }
    }

    fn table(&self, finder: &mut Finder, schema: &'s Schema, name: &str, table: &DeTable, at: usize) {
        let empty = serde_json::Map::new();
        let known = schema.get("properties").and_then(Schema::as_object).unwrap_or(&empty);
        for (key, value) in table.iter() {
            let written: &str = key.get_ref();
            match (known.get(written), schema.get("additionalProperties")) {
                (Some(property), _) => self.value(finder, property, written, value),
                (None, Some(more @ Schema::Object(_))) => self.value(finder, more, written, value),
                (None, _) => {
                    let hint = match did_you_mean(written, known.keys().map(String::as_str)) {
                        Some(word) => format!("did you mean `{word}`?"),
                        None => format!("known here: {}", list(known.keys())),
                    };
                    finder.add(key.span().start, format!("unknown field `{written}` in {}", quoted(name)), Some(hint));
                }
            }
        }
        for required in schema.get("required").and_then(Schema::as_array).into_iter().flatten() {
            let Some(required) = required.as_str() else { continue };
            if !table.iter().any(|(key, _)| key.get_ref() == required) {
                finder.add(at, format!("{} lacks the field `{required}`", quoted(name)), None);
            }
        }
    }

    /// The words of an enumeration, which schemars writes as `enum` or as `oneOf` with `const`.
    fn words(&self, schema: &'s Schema) -> Option<Vec<&'s str>> {
        if let Some(words) = schema.get("enum").and_then(Schema::as_array) {
            return Some(words.iter().filter_map(Schema::as_str).collect());
        }
        let choices = schema.get("oneOf").and_then(Schema::as_array)?;
        let words: Vec<Vec<&str>> = choices
            .iter()
            .filter_map(|choice| match choice.get("const").and_then(Schema::as_str) {
                Some(word) => Some(vec![word]),
                None => self.words(self.resolve(choice)),
            })
            .collect();
        (words.len() == choices.len()).then(|| words.concat())
    }
}

fn choices(schema: &Schema) -> Option<&Vec<Schema>> {
    schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Schema::as_array)
}

fn quoted(name: &str) -> String {
    if name == "the document" { name.to_owned() } else { format!("`{name}`") }
}

fn list<'a>(words: impl Iterator<Item = &'a String>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn word(finder: &mut Finder, key: &str, words: &[&str], value: &Spanned<DeValue>) {
    let all = || words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    match value.get_ref() {
        DeValue::String(written) if words.contains(&written.as_ref()) => {}
        DeValue::String(written) => {
            let hint = match did_you_mean(written, words.iter().copied()) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("one of {}", all()),
            };
            finder.add(value.span().start, format!("`{key}` cannot be `{written}`"), Some(hint));
        }
        _ => mismatch(finder, key, &format!("one of {}", all()), value),
    }
}

fn mismatch(finder: &mut Finder, key: &str, wanted: &str, value: &Spanned<DeValue>) {
    let found = kind_of(value.get_ref());
    let hint = match (wanted, value.get_ref()) {
        ("a text", DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) => Some("put it in quotes".to_owned()),
        ("a list", DeValue::String(_)) => Some("put it in brackets: [\"…\"]".to_owned()),
        ("a whole number" | "true or false", DeValue::String(_)) => Some("leave the quotes out".to_owned()),
        _ => None,
    };
    finder.add(value.span().start, format!("`{key}` must be {wanted}, not {found}"), hint);
}

fn number_in_range(finder: &mut Finder, schema: &Schema, key: &str, number: &toml::de::DeInteger, at: usize) {
    let bound = |name: &str| schema.get(name).and_then(Schema::as_f64);
    let (low, high) = (bound("minimum"), bound("maximum"));
    let parsed = i64::from_str_radix(&number.as_str().replace('_', ""), number.radix());
    let inside = parsed.as_ref().is_ok_and(|n| {
        let n = *n as f64;
        low.is_none_or(|low| n >= low) && high.is_none_or(|high| n <= high)
    });
    // Of an unsigned number schemars says `minimum`, of its width nothing but `format`.
    let width = match schema.get("format").and_then(Schema::as_str) {
        Some("uint32") => f64::from(u32::MAX),
        _ => f64::INFINITY,
    };
    let too_wide = parsed.as_ref().map_or(!number.as_str().starts_with('-'), |n| *n as f64 > width);
    if !inside || too_wide {
        let range = match (low, high) {
            _ if too_wide => "is too large".to_owned(),
            (Some(low), Some(high)) if low == high => format!("must be {low}"),
            (Some(low), Some(high)) => format!("must be from {low} to {high}"),
            (Some(low), None) => format!("must be {low} or more"),
            (None, Some(high)) => format!("must be {high} or less"),
            (None, None) => "is too large".to_owned(),
        };
        let hint = (key == "schema").then(|| "this program knows format 1; a newer socle may know this one".to_owned());
        finder.add(at, format!("`{key}` {range}"), hint);
    }
}

fn fits(schema: &Schema, value: &DeValue) -> bool {
    wanted_type(schema).is_none_or(|kind| kind == kind_of(value))
}

fn wanted_type(schema: &Schema) -> Option<&'static str> {
    let name = match schema.get("type")? {
        Schema::String(name) => name.as_str(),
        // `["string", "null"]`: an optional field; TOML has no null.
        Schema::Array(names) => names.iter().filter_map(Schema::as_str).find(|name| *name != "null")?,
        _ => return None,
    };
    Some(match name {
        "object" => "a table",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        _ => return None,
    })
}

fn kind_of(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
