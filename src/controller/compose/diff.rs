//! Two revisions of a fleet compared, in words. Values that may be secret are never among them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Name;
use crate::model::document::{Document, Instance};
use crate::recipe::Catalog;
use crate::recipe::schema::ParamKind;

/// The documents of a revision, by server.
pub type Documents = BTreeMap<Name, Document>;

/// What differs; servers without a difference are not named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    #[schemars(with = "BTreeMap<String, ServerDifference>")]
    pub servers: BTreeMap<Name, ServerDifference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerDifference {
    pub change: Change,
    /// By instance, what is different about it.
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    pub instances: BTreeMap<Name, Vec<String>>,
    /// What is different besides.
    pub others: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Added,
    Removed,
    Changed,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, server) in &self.servers {
            match server.change {
                Change::Added => writeln!(f, "{name}: added")?,
                Change::Removed => writeln!(f, "{name}: removed from the fleet; what runs there stays as it is")?,
                Change::Changed => writeln!(f, "{name}")?,
            }
            for (instance, words) in &server.instances {
                words.iter().try_for_each(|words| writeln!(f, "  {instance}: {words}"))?;
            }
            server.others.iter().try_for_each(|words| writeln!(f, "  {words}"))?;
        }
        Ok(())
    }
}

/// From `old` to `new`. The catalog tells which answers are secrets.
pub fn diff(old: &Documents, new: &Documents, catalog: &Catalog) -> Difference {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut servers = BTreeMap::new();
    let homes = Homes { old: homes(old), new: homes(new), catalog };
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        let change = match (before, after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        };
        let nothing = Document::default();
        let (before, after) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
        let instances = homes.instances(name, before, after);
        let others = if change == Change::Removed { Vec::new() } else { others(before, after) };
        if change != Change::Changed || !instances.is_empty() || !others.is_empty() {
            servers.insert(name.clone(), ServerDifference { change, instances, others });
        }
    }
    Difference { servers }
}

type Home<'a> = BTreeMap<&'a Name, (&'a Name, &'a Instance)>;

/// Where each instance is.
fn homes(documents: &Documents) -> Home<'_> {
    documents
        .iter()
        .flat_map(|(server, document)| {
            document.instances.iter().map(move |(name, instance)| (name, (server, instance)))
        })
        .collect()
}

struct Homes<'a> {
    old: Home<'a>,
    new: Home<'a>,
    catalog: &'a Catalog,
}

impl Homes<'_> {
    fn instances(&self, server: &Name, before: &Document, after: &Document) -> BTreeMap<Name, Vec<String>> {
        let names: BTreeSet<_> = before.instances.keys().chain(after.instances.keys()).collect();
        let mut all = BTreeMap::new();
        for name in names {
            let words = match (before.instances.get(name), after.instances.get(name)) {
                (Some(before), Some(after)) => self.changed(before, after),
                (Some(_), None) => match self.new.get(name) {
                    Some((now, _)) if *now != server => vec![format!("moved to `{now}`; its data stays on `{server}`")],
                    _ => vec!["removed".to_owned()],
                },
                (None, Some(after)) => match self.old.get(name) {
                    Some((then, before)) if *then != server => {
                        let moved = format!("moved from `{then}`");
                        std::iter::once(moved).chain(self.changed(before, after)).collect()
                    }
                    _ => vec![format!("added: {} {} at {}", after.recipe, after.version, after.domain)],
                },
                (None, None) => Vec::new(),
            };
            if !words.is_empty() {
                all.insert(name.clone(), words);
            }
        }
        all
    }

    fn changed(&self, before: &Instance, after: &Instance) -> Vec<String> {
        let secret = |path: &[&str]| match path {
            ["params", param] => {
                sounds_secret(param) || [before, after].iter().any(|i| self.is_secret(&i.recipe, param))
            }
            ["secrets", ..] => true,
            _ => false,
        };
        changes(&json(before), &json(after), &secret)
    }

    fn is_secret(&self, recipe: &Name, param: &str) -> bool {
        // A recipe that is not known cannot tell.
        self.catalog.get(recipe).is_none_or(|recipe| {
            recipe.params.iter().any(|asked| asked.name.as_str() == param && asked.kind == ParamKind::Secret)
        })
    }
}

/// Words of names whose values are not shown.
const SECRET: [&str; 8] = ["password", "passphrase", "passwd", "secret", "token", "key", "credential", "dsn"];

fn sounds_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// Everything but the instances.
fn others(before: &Document, after: &Document) -> Vec<String> {
    let (mut before, mut after) = (json(before), json(after));
    for document in [&mut before, &mut after] {
        if let Some(fields) = document.as_object_mut() {
            fields.remove("instances");
        }
    }
    let secret = |path: &[&str]| match path {
        ["files", _, "content"] | ["services", _, _, "exec", ..] => true,
        ["services", _, _, "environment", variable] => sounds_secret(variable),
        _ => false,
    };
    changes(&before, &after, &secret)
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("a document is plain data")
}

type IsSecret<'a> = &'a dyn Fn(&[&str]) -> bool;

fn changes(before: &Value, after: &Value, secret: IsSecret<'_>) -> Vec<String> {
    let mut words = Vec::new();
    walk(before, after, &mut Vec::new(), secret, &mut words);
    words
}

/// Depth of a named thing of the server: `services.ticker`, which is added and removed as a whole.
const THING: usize = 2;

fn walk<'v>(
    before: &'v Value,
    after: &'v Value,
    path: &mut Vec<&'v str>,
    secret: IsSecret<'_>,
    words: &mut Vec<String>,
) {
    if before == after {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for key in keys {
            path.push(key);
            walk(old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), path, secret, words);
            path.pop();
        }
        return;
    }
    let at = path.join(".");
    words.push(match (shown(before), shown(after)) {
        _ if path.len() == THING && before.is_null() && after.is_object() => format!("{at}: added"),
        _ if path.len() == THING && before.is_object() && after.is_null() => format!("{at}: removed"),
        _ if secret(path) => format!("{at} changed"),
        (Some(old), Some(new)) => format!("{at} {old} -> {new}"),
        _ => format!("{at} changed"),
    });
}

/// A value short enough to be read in a line.
fn shown(value: &Value) -> Option<String> {
    const MOST: usize = 60;
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => format!("`{}`", text.escape_debug()),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Option<Vec<_>>>()?.join(", "),
        Value::Object(_) => return None,
    };
    (text.chars().count() <= MOST).then_some(text)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+_~/:@".contains(&b))
}
