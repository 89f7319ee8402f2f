//! What is wrong with something a user wrote: where, why, and what to do about it.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// A place in a text, counted from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, JsonSchema)]
#[schemars(rename = "Place")]
pub struct Position {
    pub file: String,
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// The position of byte `offset` of `text`.
    pub fn of(file: &str, text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One problem. A bad input is refused with all of its problems at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, JsonSchema)]
pub struct Problem {
    #[serde(flatten)]
    pub at: Position,
    /// What is wrong: no capital, no final period, literals in backticks.
    pub reason: String,
    /// An act that would help, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { file, line, column } = &self.at;
        write!(f, "{file}:{line}:{column}: {}", self.reason)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// A value as a message shows it: in backticks, on one line, never longer than a line.
pub fn shown(value: &str) -> String {
    const MOST: usize = 80;
    if value.is_empty() {
        return "an empty text".to_owned();
    }
    let escaped: String = value.escape_debug().take(MOST + 1).collect();
    // `escape_debug` also escapes quotes, which a message can show as they are.
    let escaped = escaped.replace("\\\"", "\"").replace("\\'", "'");
    match escaped.char_indices().nth(MOST) {
        Some((end, _)) => format!("`{}…`", &escaped[..end]),
        None => format!("`{escaped}`"),
    }
}

/// The known word nearest to a misspelt one, if one is near enough to be meant.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison is quadratic, and no word of ours is longer.
    if written.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(written, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let text = "a\né = 1\n";
        assert_eq!((Position::of("f", text, 5).line, Position::of("f", text, 5).column), (2, 3));
        assert_eq!((Position::of("f", text, 99).line, Position::of("f", text, 99).column), (3, 1));
    }

    #[test]
    fn a_value_is_shown_on_one_short_line() {
        assert_eq!(shown("a\n\"b\""), "`a\\n\"b\"`");
        assert_eq!(shown(&"é".repeat(500)).chars().count(), 83);
    }

    #[test]
    fn near_words_only() {
        assert_eq!(did_you_mean("domian", ["domain", "recipe"]), Some("domain"));
        assert_eq!(did_you_mean("colour", ["domain", "recipe"]), None);
    }
}
