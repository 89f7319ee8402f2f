//! The four kinds of file of a fleet, and the JSON Schemas they are judged against. What a server and an
//! instance may say is taken from the schema of the document, so that the two never differ.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::model::document::{self, DriftPolicy};
use crate::model::unit::Limits;

/// `fleet.toml`: the fleet as a whole.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema is derived from it; the values are read where they stand")]
#[schemars(extend("required" = ["schema", "name"]))]
struct Fleet {
    /// The form of this directory. 1 is the only one so far.
    #[schemars(extend("const" = 1, "examples" = [1]))]
    schema: Option<i64>,
    /// The fleet's name.
    #[schemars(extend("examples" = ["sol"]))]
    name: Option<String>,
    defaults: Option<Defaults>,
}

/// What holds wherever a server or an instance says nothing.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema is derived from it")]
struct Defaults {
    /// What the agents do about drift they see.
    drift: Option<DriftPolicy>,
    /// Limits of an instance, each by itself.
    limits: Option<Limits>,
}

/// `members/NAME.toml`: an organisation that owns instances.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema is derived from it")]
#[schemars(extend("required" = ["name", "contact"]))]
struct Member {
    /// What it calls itself.
    #[schemars(extend("examples" = ["Sol e.V."]))]
    name: Option<String>,
    /// The e-mail address of whoever answers for it.
    #[schemars(extend("examples" = ["us@example.org"]))]
    contact: Option<String>,
}

/// The JSON Schemas of a fleet's files, by the place of the file.
pub fn schemas() -> Value {
    json!({
        "fleet.toml": fleet(),
        "servers/NAME.toml": server(),
        "instances/NAME.toml": instance(),
        "members/NAME.toml": member(),
    })
}

pub(super) fn fleet() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| derived::<Fleet>("Socle fleet"))
}

pub(super) fn member() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| derived::<Member>("Socle fleet: a member"))
}

/// A document without instances. `schema` may be left out: `fleet.toml` has it.
pub(super) fn server() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = document::schema();
        schema["title"] = "Socle fleet: a server".into();
        schema["description"] = "A server, without its instances.".into();
        if let Some(fields) = schema["properties"].as_object_mut() {
            fields.remove("instances");
        }
        schema["x-hints"] = json!({ "instances": "write each of them into a file `instances/NAME.toml`" });
        if let Some(words) = schema.as_object_mut() {
            words.remove("required");
        }
        keep_used_definitions(&mut schema);
        schema
    })
}

/// An instance of a document, and the server it is on.
pub(super) fn instance() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let whole = document::schema();
        let mut schema = whole["$defs"]["Instance"].clone();
        schema["$schema"] = whole["$schema"].clone();
        schema["$defs"] = whole["$defs"].clone();
        schema["title"] = "Socle fleet: an instance".into();
        schema["properties"]["server"] = json!({
            "type": "string",
            "description": "The server it is on: `servers/NAME.toml`.",
            "pattern": whole["$defs"]["Instance"]["properties"]["recipe"]["pattern"],
            "examples": ["ks1"],
        });
        if let Some(required) = schema["required"].as_array_mut() {
            required.insert(0, "server".into());
        }
        keep_used_definitions(&mut schema);
        schema
    })
}

fn derived<T: JsonSchema>(title: &str) -> Value {
    let mut schema = Value::from(schemars::schema_for!(T));
    document::without_null(&mut schema);
    schema["title"] = title.into();
    close(&mut schema);
    schema
}

/// No field but the known ones.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(close),
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        _ => {}
    }
}

fn keep_used_definitions(schema: &mut Value) {
    let Some(all) = schema.as_object_mut().and_then(|fields| fields.remove("$defs")) else { return };
    let mut used = BTreeSet::new();
    let mut next = Vec::new();
    references(schema, &mut next);
    while let Some(name) = next.pop() {
        if used.insert(name.clone()) {
            references(&all[&name], &mut next);
        }
    }
    schema["$defs"] = used.into_iter().map(|name| (name.clone(), all[&name].clone())).collect();
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Array(parts) => parts.iter().for_each(|part| references(part, found)),
        Value::Object(fields) => {
            found.extend(
                fields
                    .get("$ref")
                    .and_then(Value::as_str)
                    .and_then(|to| to.strip_prefix("#/$defs/"))
                    .map(str::to_owned),
            );
            fields.values().for_each(|part| references(part, found));
        }
        _ => {}
    }
}
