//! Fields and types against a published schema: every deviation is reported at its place and cut
//! out, so that what remains can be read and checked further.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::DeValue;

use super::parse::{Found, Wrong};
use crate::model::problem::{did_you_mean, shown};

/// Guarantee: what remains of `root` has only known fields, each of its type; required fields may be
/// missing (they are reported). Returns the paths of what was cut out. Messages call the whole `called`.
pub(super) fn prune(
    schema: &'static Value,
    called: &str,
    text: &str,
    root: &mut Spanned<DeValue<'_>>,
    found: &mut Vec<Found>,
) -> BTreeSet<Vec<String>> {
    let mut walk = Walk { schema, called, text, found, path: Vec::new(), in_list: false, cut: BTreeSet::new() };
    walk.value(schema, root);
    walk.cut
}

struct Walk<'a> {
    schema: &'static Value,
    called: &'a str,
    text: &'a str,
    found: &'a mut Vec<Found>,
    path: Vec<String>,
    /// The value is one of a list; `path` leads to the list.
    in_list: bool,
    cut: BTreeSet<Vec<String>>,
}

impl Walk<'_> {
    /// Whether the value can stay.
    fn value(&mut self, schema: &'static Value, value: &mut Spanned<DeValue<'_>>) -> bool {
        let schema = self.resolve(schema);
        let wanted = types(schema);
        let start = value.span().start;
        if !wanted.contains(&type_of(value.get_ref())) {
            let wrong = self.wrong_type(schema, &wanted, value);
            self.found.push(wrong.at(start));
            return false;
        }
        match value.get_mut() {
            DeValue::Table(_) => self.table(schema, value),
            DeValue::Array(items) => {
                // Not cut out one by one: the places of the others would move.
                let mut keep = true;
                self.in_list = true;
                for item in items.iter_mut() {
                    keep &= self.value(&schema["items"], item);
                }
                self.in_list = false;
                keep
            }
            DeValue::String(text) => match wrong_word(schema, text, self.field()) {
                Some(wrong) => {
                    self.found.push(wrong.at(start));
                    false
                }
                None => true,
            },
            DeValue::Integer(number) => match wrong_number(schema, number, self.field()) {
                Some(wrong) => {
                    self.found.push(wrong.at(start));
                    false
                }
                None => true,
            },
            _ => true,
        }
    }

    fn table(&mut self, schema: &'static Value, value: &mut Spanned<DeValue<'_>>) -> bool {
        let start = value.span().start;
        let DeValue::Table(table) = value.get_mut() else { return true };
        let known = schema["properties"].as_object();
        let others = &schema["additionalProperties"];
        let mut cut = BTreeSet::new();
        let mut misspelt = BTreeSet::new();
        for (key, value) in table.iter_mut() {
            let field = match known.and_then(|known| known.get(key.get_ref().as_ref())) {
                Some(field) => field,
                None if others.is_object() => others,
                None => {
                    let meant = did_you_mean(key.get_ref(), known.into_iter().flatten().map(|(name, _)| name.as_str()));
                    misspelt.extend(meant);
                    let wrong = match schema["x-hints"][key.get_ref().as_ref()].as_str() {
                        Some(hint) => Wrong::new(self.not_a_field(key.get_ref())).hint(hint),
                        None => self.unknown_field(key.get_ref(), meant, known),
                    };
                    self.found.push(wrong.at(key.span().start));
                    cut.insert(key.get_ref().to_string());
                    continue;
                }
            };
            self.path.push(key.get_ref().to_string());
            if !self.value(field, value) {
                cut.insert(key.get_ref().to_string());
            }
            self.path.pop();
        }
        for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(field) && !misspelt.contains(field) {
                self.found.push(self.missing_field(field, &schema["properties"][field]).at(start));
            }
        }
        for key in &cut {
            table.remove(key.as_str());
            self.cut.insert([self.path.as_slice(), std::slice::from_ref(key)].concat());
        }
        true
    }

    fn resolve(&self, schema: &'static Value) -> &'static Value {
        match schema["$ref"].as_str().and_then(|name| name.strip_prefix('#')) {
            Some(pointer) => self.schema.pointer(pointer).unwrap_or(schema),
            None => schema,
        }
    }

    fn field(&self) -> &str {
        self.path.last().map_or(self.called, String::as_str)
    }

    fn place(&self) -> String {
        match self.path.as_slice() {
            [] => self.called.to_owned(),
            path => format!("`[{}]`", dotted(path)),
        }
    }

    fn not_a_field(&self, key: &str) -> String {
        format!("{} is not a field of {}", shown(key), self.place())
    }

    fn unknown_field(
        &self,
        key: &str,
        meant: Option<&'static str>,
        known: Option<&'static Map<String, Value>>,
    ) -> Wrong {
        let wrong = Wrong::new(self.not_a_field(key));
        let known = || known.into_iter().flatten();
        if let Some(meant) = meant {
            return wrong.hint(format!("did you mean `{meant}`?"));
        }
        let holds = |field: &'static Value| !self.resolve(field)["properties"][key].is_null();
        if let Some((inner, _)) = known().find(|(_, field)| holds(field)) {
            let path = [self.path.as_slice(), std::slice::from_ref(inner)].concat();
            return wrong.hint(format!("`{key}` is a field of `[{}]`", dotted(&path)));
        }
        let names: Vec<_> = known().map(|(name, _)| name.as_str()).collect();
        wrong.hint(format!("its fields are {}", listed(&names, "and")))
    }

    fn missing_field(&self, field: &str, schema: &'static Value) -> Wrong {
        let wrong = Wrong::new(format!("`{field}` is missing in {}", self.place()));
        match &schema["examples"][0] {
            Value::Null => wrong,
            example if field == "schema" => wrong.hint(format!("begin {} with `{field} = {example}`", self.called)),
            example => wrong.hint(format!("add a line such as `{field} = {example}`")),
        }
    }

    fn wrong_type(&self, schema: &'static Value, wanted: &[&str], value: &Spanned<DeValue<'_>>) -> Wrong {
        let found = type_of(value.get_ref());
        let names: Vec<_> = wanted.iter().map(|name| with_article(name)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let field = self.field();
        let each = if self.in_list { "each of " } else { "" };
        let reason = format!("{each}{} must be {}, not {}", shown(field), listed(&names, "or"), with_article(found));
        let wrong = Wrong::new(reason);
        let written = self.text.get(value.span()).unwrap_or("");
        let key = key_text(field);
        let assigned = |value: &str| if self.in_list { value.to_owned() } else { format!("{key} = {value}") };
        let words = words(schema);
        match (wanted.first().copied().unwrap_or(""), found) {
            ("object", "array") if written.starts_with("[[") => {
                wrong.hint(format!("write `[{}]`, with single brackets", dotted(&self.path)))
            }
            ("object", _) if field == "source" => wrong.hint("write `source = { url = \"https://…\" }`"),
            ("object", _) if !schema["properties"].is_object() => {
                wrong.hint(format!("write `[{}.…]` and its fields on the lines below", dotted(&self.path)))
            }
            ("object", _) => wrong.hint(format!("write `[{}]` and its fields on the lines below", dotted(&self.path))),
            ("string", _) if !words.is_empty() => wrong.hint(one_of(&words)),
            ("string", "integer" | "number" | "boolean" | "date") => {
                let written =
                    if field == "mode" { format!("0{}", written.trim_start_matches("0o")) } else { written.into() };
                wrong.hint(format!("put it in quotes: {}", shown(&assigned(&format!("\"{written}\"")))))
            }
            ("boolean", _) if self.path.first().is_some_and(|first| first == "packages") => {
                wrong.hint("`true` for installed, `false` for removed")
            }
            ("boolean" | "integer", "string") if is_bare(value.get_ref().as_str().unwrap_or("")) => {
                let bare = value.get_ref().as_str().unwrap_or("");
                wrong.hint(format!("without quotes: {}", shown(&assigned(bare))))
            }
            ("array", "string") if field == "exec" => {
                let words: Vec<_> = value.get_ref().as_str().unwrap_or("").split_whitespace().collect();
                wrong.hint(format!("put it in brackets, one word each: {}", shown(&format!("{key} = {words:?}"))))
            }
            ("array", "string") => {
                wrong.hint(format!("put it in brackets: {}", shown(&format!("{key} = [{written}]"))))
            }
            _ => wrong,
        }
    }
}

fn is_bare(text: &str) -> bool {
    text == "true" || text == "false" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
}

/// The JSON types a schema admits.
fn types(schema: &'static Value) -> Vec<&'static str> {
    if let Some(alternatives) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let mut all: Vec<_> = alternatives.iter().flat_map(types).collect();
        all.dedup();
        return all;
    }
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        // A `const` or `enum` without a type: all of ours are words.
        _ => vec!["string"],
    }
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Datetime(_) => "date",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    }
}

fn with_article(json_type: &str) -> String {
    match json_type {
        "string" => "a text in quotes".to_owned(),
        "integer" => "a whole number".to_owned(),
        "number" => "a number with a fraction".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "a table".to_owned(),
        other => format!("a {other}"),
    }
}

/// The words a schema admits; none if it admits any text.
fn words(schema: &'static Value) -> Vec<&'static str> {
    let listed = |part: &'static Value| match (&part["enum"], &part["const"]) {
        (Value::Array(words), _) => words.iter().filter_map(Value::as_str).collect(),
        (_, Value::String(word)) => vec![word.as_str()],
        _ => Vec::new(),
    };
    match &schema["oneOf"] {
        Value::Array(parts) => parts.iter().flat_map(listed).collect(),
        _ => listed(schema),
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    format!("it is {}", bare_listed(&quoted, "or"))
}

fn wrong_word(schema: &'static Value, text: &str, field: &str) -> Option<Wrong> {
    let words = words(schema);
    if words.is_empty() || words.contains(&text) {
        return None;
    }
    let wrong = Wrong::new(format!("`{field}` cannot be {}", shown(text)));
    Some(match did_you_mean(text, words.iter().copied()) {
        Some(meant) => wrong.hint(format!("did you mean `{meant}`?")),
        None => wrong.hint(one_of(&words)),
    })
}

fn wrong_number(schema: &'static Value, number: &toml::de::DeInteger<'_>, field: &str) -> Option<Wrong> {
    let most = match schema["format"].as_str() {
        Some("uint32") => i64::from(u32::MAX),
        _ => schema["maximum"].as_i64().unwrap_or(i64::MAX),
    };
    let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
    let wrong = |reason: String| match schema["description"].as_str() {
        Some(what) => Wrong::new(reason).hint(format!("`{field}` is {}", what.trim_end_matches('.'))),
        None => Wrong::new(reason),
    };
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) if (least..=most).contains(&value) => None,
        Ok(value) if value < least => Some(wrong(format!("`{field}` cannot be `{value}`: {least} at least"))),
        _ => Some(wrong(format!("`{field}` cannot be {}: {most} at most", shown(&number.to_string())))),
    }
}

/// A path as the header of a table.
pub(super) fn dotted(path: &[String]) -> String {
    path.iter().map(|step| key_text(step)).collect::<Vec<_>>().join(".")
}

/// A key as TOML writes it: bare if it can be.
fn key_text(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

/// `` `a`, `b` and `c` ``; words that already are phrases stay as they are.
fn listed(words: &[&str], and: &str) -> String {
    let phrase = |word: &str| word.contains(' ') || word.contains('`');
    let words: Vec<_> =
        words.iter().map(|word| if phrase(word) { (*word).to_owned() } else { format!("`{word}`") }).collect();
    bare_listed(&words, and)
}

fn bare_listed<S: AsRef<str>>(words: &[S], and: &str) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(AsRef::as_ref).collect();
            format!("{} {and} {}", first.join(", "), last.as_ref())
        }
    }
}
