//! The published JSON Schema (draft 2020-12), for editors and for `structure`.

use std::sync::OnceLock;

use serde_json::Value;

use super::written;

/// The JSON Schema of the document as written.
pub fn schema() -> Value {
    cached().clone()
}

pub(super) fn cached() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = Value::from(schemars::schema_for!(written::Document));
        without_null(&mut schema);
        schema["title"] = "Socle document".into();
        schema
    })
}

/// TOML has no null: what a derived schema says of an optional value is said without it.
pub fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(without_null),
        Value::Object(fields) => {
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    fields.insert("type".to_owned(), one);
                }
            }
            if fields.get("default") == Some(&Value::Null) {
                fields.remove("default");
            }
            if let Some(Value::Array(parts)) = fields.get_mut("anyOf") {
                parts.retain(|part| part["type"] != "null");
                if let [Value::Object(one)] = parts.as_slice() {
                    let one = one.clone();
                    fields.remove("anyOf");
                    fields.extend(one);
                }
            }
            fields.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::value;
    use super::*;

    /// The words `structure` understands; a new one in the schema must be taught to it.
    #[test]
    fn the_schema_uses_only_words_that_are_checked() {
        let known = [
            "$schema",
            "$defs",
            "$ref",
            "title",
            "description",
            "examples",
            "default",
            "type",
            "properties",
            "required",
            "additionalProperties",
            "propertyNames",
            "items",
            "anyOf",
            "oneOf",
            "enum",
            "const",
            "format",
            "minimum",
            "maximum",
            "pattern",
        ];
        fn words<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
            let Value::Object(fields) = schema else { return };
            for (word, value) in fields {
                found.push(word);
                match (word.as_str(), value) {
                    ("properties" | "$defs", Value::Object(named)) => named.values().for_each(|s| words(s, found)),
                    ("default" | "examples" | "propertyNames", _) => {}
                    (_, Value::Array(parts)) => parts.iter().for_each(|s| words(s, found)),
                    _ => words(value, found),
                }
            }
        }
        let mut found = Vec::new();
        words(cached(), &mut found);
        assert!(found.len() > 100);
        let unknown: Vec<_> = found.iter().filter(|word| !known.contains(word)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(!cached().to_string().contains("null"));
    }
    /// What an editor finds good is accepted.
    fn agrees<T>(pattern: &str, most: usize, check: fn(&str) -> Result<T, super::super::parse::Wrong>) {
        let texts = proptest::string::string_regex(pattern.trim_matches(['^', '$'])).unwrap();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        runner
            .run(&texts, |text| {
                proptest::prop_assert!(text.len() > most || check(&text).is_ok(), "{text:?}");
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn patterns_and_checks_agree() {
        agrees(written::NAME, 31, value::name);
        agrees(written::DOMAIN, 253, value::domain);
        agrees(written::VERSION, 64, value::version);
        agrees(written::SHA256, 64, value::digest);
        agrees(written::MODE, 4, value::mode);
    }
}
