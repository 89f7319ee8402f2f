//! Errors of TOML itself, in words for people who do not write it every day.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, Error};

use super::parse::{Found, Wrong};
use crate::model::problem::shown;

/// Headers without `]` mended, so that the errors behind them are found too.
const MAX_MENDED: usize = 20;

/// What the text holds, and what is wrong with its TOML. A field given twice leaves the rest readable
/// (`true`); after any other error it would be guesswork.
pub(super) fn read<'a>(text: &'a str, found: &mut Vec<Found>) -> (DeTable<'a>, bool) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let readable = errors.iter().all(is_duplicate);
    let mut errors: Vec<_> = errors.iter().map(|error| (span(error), error.message().to_owned())).collect();
    if errors.iter().any(|(_, message)| is_unclosed_header(message)) {
        errors = behind_open_headers(text);
    }
    errors.sort_by_key(|(span, _)| span.start);
    let open = |what: &str| errors.iter().any(|(_, message)| message.starts_with(what));
    let within = |is_of: fn(&str) -> bool| errors.iter().position(|(_, message)| is_of(message));
    let list = within(is_of_list).filter(|_| open("unclosed array"));
    let table = within(is_of_inline_table).filter(|_| open("unclosed inline table"));
    if let Some(first) = list.into_iter().chain(table).min() {
        // What is open swallows what follows it.
        errors.truncate(first + 1);
    }
    let lines = Lines::of(text);
    explain_duplicates(text, &lines, &errors, found);
    // One a line: after the first, the parser often stumbles over the rest of the same line.
    let mut explained = BTreeMap::new();
    for (span, message) in errors.iter().filter(|(_, message)| !message.starts_with(DUPLICATE)) {
        let line = lines.around(span.start);
        explained.entry(line.start).or_insert_with(|| explain(text, line, span, message));
    }
    found.extend(explained.into_values());
    (root.into_inner(), readable)
}

const DUPLICATE: &str = "duplicate key";

fn is_duplicate(error: &Error) -> bool {
    error.message().starts_with(DUPLICATE)
}

fn is_unclosed_header(message: &str) -> bool {
    message.starts_with("unclosed table") || message.starts_with("unclosed array table")
}

fn is_of_list(message: &str) -> bool {
    message.starts_with("missing comma between array")
        || message.starts_with("unclosed array")
        || message.contains("in array")
}

fn is_of_inline_table(message: &str) -> bool {
    message.contains("inline table") || message.starts_with("missing comma between key-value pairs")
}

fn span(error: &Error) -> Range<usize> {
    error.span().unwrap_or(0..0)
}

/// The errors as if each open header were closed; the parser itself would read on to the next `]`.
fn behind_open_headers(text: &str) -> Vec<(Range<usize>, String)> {
    let mut mended = text.to_owned();
    let mut inserted: Vec<usize> = Vec::new();
    let mut all = Vec::new();
    loop {
        let (_, errors) = DeTable::parse_recoverable(&mended);
        let original = |at: usize| at - inserted.iter().filter(|place| **place < at).count();
        let open = errors.iter().find(|error| is_unclosed_header(error.message()));
        let Some(open) = open.filter(|_| inserted.len() < MAX_MENDED) else {
            let place =
                |error: &Error| (original(span(error).start)..original(span(error).end), error.message().to_owned());
            all.extend(errors.iter().map(place));
            return all;
        };
        let place = span(open).start.min(mended.len());
        all.push((original(place)..original(place), open.message().to_owned()));
        mended.insert(place, ']');
        inserted.push(place);
    }
}

/// A table given twice repeats its fields too; only its header is named then.
fn explain_duplicates(text: &str, lines: &Lines, errors: &[(Range<usize>, String)], found: &mut Vec<Found>) {
    let mut scanned = 0;
    let mut header = text.starts_with('[').then_some(0);
    let mut repeated_header = None;
    for (span, _) in errors.iter().filter(|(_, message)| message.starts_with(DUPLICATE)) {
        let line = lines.around(span.start);
        if let Some(at) = text.get(scanned..line.end).and_then(|part| part.rfind("\n[")) {
            header = Some(scanned + at + 1);
        }
        scanned = scanned.max(line.end);
        if header == Some(line.start) {
            repeated_header = header;
        } else if header.is_some() && header == repeated_header {
            continue;
        }
        let wrong = Wrong::new(format!("{} is given twice", shown(text.get(span.clone()).unwrap_or(""))));
        found.push(wrong.hint("keep one of them").at(span.start));
    }
}

/// Where the lines begin; looked up, because a text may have very many errors.
struct Lines {
    starts: Vec<usize>,
    end: usize,
}

impl Lines {
    fn of(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { starts, end: text.len() }
    }

    /// The line of a byte, without its line break.
    fn around(&self, offset: usize) -> Range<usize> {
        let next = self.starts.partition_point(|start| *start <= offset);
        self.starts[next.saturating_sub(1)]..self.starts.get(next).map_or(self.end, |start| start - 1)
    }
}

fn explain(text: &str, line: Range<usize>, span: &Range<usize>, message: &str) -> Found {
    let at = span.start.min(text.len());
    let content = text[line.clone()].trim();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| message.starts_with(prefix));
    if content.starts_with('{') && text[..line.start].trim().is_empty() {
        let wrong = Wrong::new("this looks like JSON, and a document is TOML");
        return wrong.hint("begin with `schema = 1`, then `[instances.blog]` and its fields").at(at);
    }
    if is_unclosed_header(message) {
        return Wrong::new("this header is not closed").hint("end it with `]`").at(at);
    }
    if is_of_list(message) {
        return Wrong::new("the list is not closed before this")
            .hint("end it with `]`, or put a `,` between its values")
            .at(at);
    }
    if is_of_inline_table(message) {
        let wrong = Wrong::new("the `{ … }` is not closed before this");
        return wrong.hint("end it with `}`, or put a `,` between its fields").at(at);
    }
    if content.starts_with('[') && begins(&["invalid unquoted key", "unquoted keys cannot be empty"]) {
        return header(content).at(at);
    }
    if begins(&["key with no value", "invalid unquoted key"]) {
        return no_equals_sign(content).at(at);
    }
    if begins(&["invalid basic string", "invalid literal string"]) && message.contains("expected") {
        let wrong = Wrong::new("this text is not closed on its line");
        return wrong.hint("end it with the quote it begins with; three quotes hold several lines").at(at);
    }
    if begins(&["missing escaped value", "invalid escape", "unescaped"]) {
        let wrong = Wrong::new("a `\\` in double quotes begins a special character, and this is none");
        return wrong.hint("write `\\\\` for one `\\`, or put the text in single quotes").at(at);
    }
    bare_value(text, &line, at).unwrap_or_else(|| Wrong::new(format!("this is not TOML: {}", plain(message))).at(at))
}

fn header(content: &str) -> Wrong {
    let inner = content.trim_matches(|c| c == '[' || c == ']');
    match inner.split_once('/') {
        Some((before, path)) if before.ends_with('.') => {
            let wrong = Wrong::new("a path in a header needs quotes");
            wrong.hint(format!("write {}", shown(&format!("[{before}\"/{path}\"]"))))
        }
        _ if inner.trim().is_empty() => Wrong::new("this header has no name").hint("such as `[instances.blog]`"),
        _ => Wrong::new("a name in this header needs quotes, or has one dot too many")
            .hint("such as `[instances.blog]` or `[files.\"/etc/motd\"]`"),
    }
}

fn no_equals_sign(content: &str) -> Wrong {
    let wrong = Wrong::new("there is no field and value on this line");
    match content.split_once(':') {
        Some((_, value)) if value.trim().is_empty() => {
            wrong.hint("a table begins with a header such as `[instances.blog]`, and its fields are `name = value`")
        }
        Some((key, value)) => {
            let value = value.trim().trim_matches(['"', '\'', ',']);
            wrong.hint(format!("write {}", shown(&format!("{} = \"{value}\"", key.trim().trim_matches('"')))))
        }
        None => wrong.hint("such as `domain = \"blog.example.org\"`, or a header such as `[instances.blog]`"),
    }
}

/// A value that is no value of TOML, most often for want of quotes.
fn bare_value(text: &str, line: &Range<usize>, at: usize) -> Option<Found> {
    let (key, value) = text[line.clone()].split_once('=')?;
    let place = line.start + key.len() + 1 + (value.len() - value.trim_start().len());
    let value = value.split(" #").next().unwrap_or("").trim();
    let key = key.trim();
    if at < line.start + key.len() {
        return None;
    }
    if value.is_empty() {
        let wrong = Wrong::new(format!("{} has no value", shown(key)));
        return Some(wrong.hint(format!("write {}", shown(&format!("{key} = \"…\"")))).at(at));
    }
    // In a list or an inline table only the word is meant, not the rest of the line.
    if value.contains(['"', '\'', '[', '{']) {
        let stop = |c: char| c.is_whitespace() || "\"'[]{},=#".contains(c);
        let begin = text[..at].rfind(stop).map_or(0, |end| end + 1).max(line.start);
        let word: String = text.get(begin..line.end)?.chars().take_while(|c| !stop(*c)).collect();
        let wrong = || Wrong::new(format!("{} is neither a number nor a text in quotes", shown(&word)));
        let quoted = shown(&format!("\"{word}\""));
        return (!word.is_empty()).then(|| wrong().hint(format!("put it in quotes: {quoted}")).at(begin));
    }
    let wrong = Wrong::new(format!("{} is neither a number nor a text in quotes", shown(value)));
    let (word, quotes) = match value.to_lowercase().as_str() {
        "true" | "yes" | "on" => ("true", ""),
        "false" | "no" | "off" => ("false", ""),
        _ => (value.trim_matches(['“', '”', '„', '«', '»', '‘', '’']), "\""),
    };
    let verb = if quotes.is_empty() { "write" } else { "put it in quotes:" };
    Some(wrong.hint(format!("{verb} {}", shown(&format!("{key} = {quotes}{word}{quotes}")))).at(place))
}

/// The parser's own words, without what it expected where that is nothing.
fn plain(message: &str) -> &str {
    message.strip_suffix(", expected nothing").unwrap_or(message)
}
