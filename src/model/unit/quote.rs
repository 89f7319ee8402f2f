//! Values of a unit file so that systemd reads exactly them (systemd.syntax(7), systemd.service(5)
//! "Command lines", systemd.unit(5) "Specifiers").
//!
//! Nothing here can end its line: no line break, no backslash before one. A NUL byte has no form in a
//! unit file and is left out everywhere.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A value taken whole up to the end of its line: `%` begins a specifier, and a backslash at the very
/// end would join the next line (a space after it is stripped by systemd).
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => {}
            '%' => out.push_str("%%"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    if out.ends_with('\\') {
        out.push(' ');
    }
    out
}

/// One word of a list whose words may hold C escapes: `Environment=`, `Exec*=`.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\0' => {}
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '%' => out.push_str("%%"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One word of a list of paths: quotes are read there, C escapes are not, so a control character (no
/// path of ours has one) has no form.
pub(super) fn quoted_path(path: &str) -> String {
    quoted(&path.replace(|c: char| c.is_control(), "_"))
}

/// A path that is taken for nothing else: `-`, `+` and `~` before a path mean something to systemd.
pub(super) fn absolute(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) }
}

/// A command line. The program is a path and nothing before it (`+` would lift the sandbox); in the
/// arguments a `$` would begin a variable, so it is doubled.
pub(super) fn argv(words: &[String]) -> String {
    command(words, |word| quoted(&word.replace('$', "$$")))
}

/// Like [`argv`], with `$MAINPID` left to systemd.
pub(super) fn reload_argv(words: &[String]) -> String {
    command(words, |word| if word == "$MAINPID" { word.to_owned() } else { quoted(&word.replace('$', "$$")) })
}

fn command(words: &[String], argument: impl Fn(&str) -> String) -> String {
    let Some((program, arguments)) = words.split_first() else { return String::new() };
    let mut line = quoted(&absolute(program));
    for word in arguments {
        line.push(' ');
        line.push_str(&argument(word));
    }
    line
}

/// A unit name; what cannot be in one becomes `_`.
pub(super) fn unit_name(name: &str) -> String {
    keep(name, "_", |c| c.is_ascii_alphanumeric() || ":-_.@".contains(c))
}

/// The name of a user or group.
pub(super) fn token(name: &str) -> String {
    keep(name, "_", |c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// A directory below one of systemd's own (`RuntimeDirectory=`).
pub(super) fn directory(path: &str) -> String {
    keep(path.trim_start_matches('/'), "_", |c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

/// The name of a system call or a group of them. `~` is left out: it would turn the list around.
pub(super) fn word(name: &str) -> String {
    keep(name, "", |c| c.is_ascii_alphanumeric() || "@_-".contains(c))
}

fn keep(text: &str, instead: &str, good: impl Fn(char) -> bool) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if good(c) {
            out.push(c)
        } else {
            out.push_str(instead)
        }
        out
    })
}
