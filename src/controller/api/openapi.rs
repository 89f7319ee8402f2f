//! The description of the API (OpenAPI 3.1), made from the table of routes.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::route::{Route, Shapes};
use super::types::FailureBody;
use crate::controller::store::Scope;

pub fn description() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let failure = Value::from(generator.subschema_for::<FailureBody>());
    let mut paths: Map<String, Value> = Map::new();
    for route in super::routes() {
        let operation = operation(&route, &mut generator);
        paths.entry(route.path).or_insert_with(|| json!({}))[route.method.as_str().to_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Socle controller",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The operators' API of a Socle controller. On its local socket, everybody who may open it is an \
                administrator; over HTTPS, a token says who asks.",
            "license": { "name": "EUPL-1.2" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": {
                "Failure": {
                    "description": "It was not done, and why. 401 without a known token, 403 if the token may not, 422 if what was \
                        sent is wrong: then all problems are told.",
                    "content": { "application/json": { "schema": failure } },
                },
            },
            "schemas": Value::Object(generator.take_definitions(true)),
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let Shapes { path, query, body, media, answer } = (route.shapes)(generator);
    let parameters: Vec<_> = parameters("path", &path).chain(parameters("query", &query)).collect();
    let content = match answer {
        Some(schema) => json!({ media: { "schema": schema } }),
        None => json!({ media: {} }),
    };
    let description = match media {
        "application/x-ndjson" => "JSON values, one a line, as they come; the last one is the outcome.",
        _ => "Done.",
    };
    let mut operation = json!({
        "operationId": id(route),
        "summary": route.summary,
        "description": format!("Needs the scope `{}`.", scope(route.scope)),
        "x-scope": scope(route.scope),
        "responses": {
            "200": { "description": description, "content": content },
            "default": { "$ref": "#/components/responses/Failure" },
        },
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = body {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn scope(scope: Scope) -> &'static str {
    scope.as_str()
}

/// The fields of an object, each as a parameter.
fn parameters<'s>(place: &'static str, object: &'s schemars::Schema) -> impl Iterator<Item = Value> + 's {
    let object = object.as_value();
    let required = object["required"].as_array();
    let is_required = move |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
    object["properties"].as_object().into_iter().flatten().map(
        move |(name, schema)| json!({ "name": name, "in": place, "required": is_required(name), "schema": schema }),
    )
}

/// `get-v1-fleet-status`: stable as long as method and path are.
fn id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<_> = std::iter::once(route.method.as_str().to_lowercase()).chain(words.map(str::to_owned)).collect();
    words.join("-")
}
