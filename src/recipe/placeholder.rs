//! `{word}` in a recipe: a fixed set of words, each replaced by a value of the instance.

use std::collections::BTreeMap;

use crate::model::problem::did_you_mean;

/// Every word a recipe may use, and what it stands for.
pub const WORDS: [(&str, &str); 14] = [
    ("name", "the instance"),
    ("domain", "its domain"),
    ("version", "the wanted version"),
    ("series", "the first two numbers of the version"),
    ("php", "PHP's version on this server, `8.4`"),
    ("user", "the instance's user"),
    ("db", "the instance's database"),
    ("home", "the instance's directory"),
    ("current", "the current release"),
    ("data", "the data directory"),
    ("config", "the configuration directory"),
    ("recipe", "the directory of the recipe's own programs"),
    ("run", "the runtime directory, where sockets are"),
    ("scheme", "`https` once visitors are led there, until then `http`"),
];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    #[error("`{{{word}}}` is no placeholder")]
    Unknown { word: String, meant: Option<String> },
    #[error("`{{` without `}}`")]
    Open,
}

impl PlaceholderError {
    pub fn hint(&self) -> Option<String> {
        match self {
            PlaceholderError::Unknown { meant: Some(meant), .. } => Some(format!("did you mean `{{{meant}}}`?")),
            PlaceholderError::Unknown { .. } => {
                Some(format!("known: {}", WORDS.map(|(word, _)| format!("{{{word}}}")).join(" ")))
            }
            PlaceholderError::Open => None,
        }
    }
}

/// Replaces the words of `text`. A value is never looked at again, so it cannot bring in a word.
pub fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String, PlaceholderError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').ok_or(PlaceholderError::Open)?;
        let value = values.get(word).ok_or_else(|| PlaceholderError::Unknown {
            word: word.to_owned(),
            meant: did_you_mean(word, values.keys().map(String::as_str)).map(str::to_owned),
        })?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced_once() {
        let values = [("a".to_owned(), "{b}".to_owned()), ("b".to_owned(), "2".to_owned())].into();
        assert_eq!(fill("x{a}y{b}", &values).unwrap(), "x{b}y2");
        assert_eq!(fill("{c", &values).unwrap_err(), PlaceholderError::Open);
        assert_eq!(fill("{c}", &values).unwrap_err().to_string(), "`{c}` is no placeholder");
    }
}
