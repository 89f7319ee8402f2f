//! Answers of an instance to the questions of its recipe.

use std::collections::BTreeMap;

use minijinja::Value;

use super::compile::CompileProblem;
use super::schema::{Param, ParamKind};
use crate::model::Name;
use crate::model::problem::did_you_mean;

/// The checked answers, defaults filled in, as the templates see them: a `-` of a name is a `_`.
pub(super) fn check(
    asked: &[Param],
    given: &BTreeMap<Name, String>,
    problems: &mut Vec<CompileProblem>,
) -> BTreeMap<String, Value> {
    for name in given.keys().filter(|name| !asked.iter().any(|param| param.name == **name)) {
        let known: Vec<_> = asked.iter().map(|param| param.name.as_str()).collect();
        let hint = match did_you_mean(name.as_str(), known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.is_empty() => "this recipe has no parameters".to_owned(),
            None => format!("known: {}", known.join(", ")),
        };
        problems.push(CompileProblem::new(&["params", name.as_str()], format!("`{name}` is no parameter"), Some(hint)));
    }
    let mut values = BTreeMap::new();
    for param in asked {
        let answer = given.get(&param.name).or(param.default.as_ref());
        let value = match answer {
            Some(text) => value(param, text),
            None if param.required => Err((format!("parameter `{}` is missing", param.name), help(param))),
            None => Ok(empty(param.kind)),
        };
        match value {
            Ok(value) => drop(values.insert(param.name.as_str().replace('-', "_"), value)),
            Err((reason, hint)) if given.contains_key(&param.name) => {
                problems.push(CompileProblem::new(&["params", param.name.as_str()], reason, hint));
            }
            Err((reason, hint)) => problems.push(CompileProblem::new(&["params"], reason, hint)),
        }
    }
    values
}

fn help(param: &Param) -> Option<String> {
    (!param.help.is_empty()).then(|| format!("`{}` is {}", param.name, param.help))
}

fn empty(kind: ParamKind) -> Value {
    match kind {
        ParamKind::Text | ParamKind::Email | ParamKind::Secret => Value::from(""),
        ParamKind::Bool | ParamKind::Int | ParamKind::Enum => Value::from(()),
    }
}

/// The value of one answer, or what is wrong with it and what would be right.
pub(super) fn value(param: &Param, text: &str) -> Result<Value, (String, Option<String>)> {
    // A secret answer is not repeated.
    let shown = if param.kind == ParamKind::Secret { "…" } else { text };
    let bad = |what: &str, hint: Option<String>| Err((format!("`{}` is not {what}", shown.escape_debug()), hint));
    if text.chars().any(|c| c.is_control() && !(param.multiline && matches!(c, '\n' | '\t'))) {
        return Err((format!("parameter `{}` has a line break or control character", param.name), None));
    }
    match param.kind {
        ParamKind::Text | ParamKind::Secret if param.required && text.trim().is_empty() => {
            Err((format!("parameter `{}` is empty", param.name), help(param)))
        }
        ParamKind::Text | ParamKind::Secret => Ok(Value::from(text)),
        ParamKind::Email if is_email(text) => Ok(Value::from(text)),
        ParamKind::Email => bad("an e-mail address", None),
        ParamKind::Bool => match text {
            "true" => Ok(Value::from(true)),
            "false" => Ok(Value::from(false)),
            _ => bad("`true` or `false`", None),
        },
        ParamKind::Int => match text.parse::<i64>() {
            Ok(number) => Ok(Value::from(number)),
            Err(_) => bad("a whole number", None),
        },
        ParamKind::Enum if param.values.contains(text) => Ok(Value::from(text)),
        ParamKind::Enum => {
            let values: Vec<_> = param.values.iter().map(String::as_str).collect();
            let hint = did_you_mean(text, values.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
            bad(&format!("one of {}", values.join(", ")), hint)
        }
    }
}

/// What applications accept without more questions: ASCII, one `@`, a dot after it.
fn is_email(text: &str) -> bool {
    let plain = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    text.len() <= 254
        && text.split_once('@').is_some_and(|(local, host)| {
            plain(local, b".!#$%&'*+/=?^_`{|}~-")
                && host.contains('.')
                && host.split('.').all(|label| plain(label, b"-"))
        })
}
