//! How a value is written into each kind of file so that it stays one value. A value that a format
//! cannot hold is refused: nothing is dropped or replaced.

use std::fmt::Write as _;

use minijinja::Value;
use minijinja::value::ValueKind;

/// The kind of a file, told by the last suffix of its template's name (a further `.j2` is ignored).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A literal: `'…'`, `true`, `12`, `null`.
    Php,
    /// nginx: a quoted word.
    Nginx,
    /// A quoted value of PHP's own ini form (also PHP-FPM's).
    Ini,
    /// A value of Python's configparser: the rest of one line, as it is.
    Cfg,
    Json,
    /// A literal.
    Python,
    Html,
    /// One line, as it is.
    Txt,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EscapeError {
    #[error("{format} cannot hold {what}")]
    Unwritable { format: &'static str, what: String },
    #[error("a value of kind {0} cannot be written")]
    Kind(ValueKind),
}

impl Format {
    pub const SUFFIXES: [(&'static str, Format); 8] = [
        ("php", Format::Php),
        ("conf", Format::Nginx),
        ("ini", Format::Ini),
        ("cfg", Format::Cfg),
        ("json", Format::Json),
        ("py", Format::Python),
        ("html", Format::Html),
        ("txt", Format::Txt),
    ];

    pub fn of(template: &str) -> Option<Self> {
        let suffix = template.strip_suffix(".j2").unwrap_or(template).rsplit_once('.')?.1;
        Self::SUFFIXES.into_iter().find(|(known, _)| *known == suffix).map(|(_, format)| format)
    }

    pub fn write(self, value: &Value) -> Result<String, EscapeError> {
        let text = match value.kind() {
            ValueKind::Bool => return Ok(self.boolean(value.is_true()).to_owned()),
            ValueKind::Number => return Ok(value.to_string()),
            ValueKind::None if self == Format::Python => return Ok("None".to_owned()),
            ValueKind::None if matches!(self, Format::Php | Format::Json) => return Ok("null".to_owned()),
            ValueKind::String => value.to_string(),
            other => return Err(EscapeError::Kind(other)),
        };
        match self {
            Format::Php => Ok(php(&text)),
            Format::Nginx => nginx(&text),
            Format::Ini => ini(&text),
            Format::Cfg => line("this file", &text).map(str::to_owned),
            // A JSON string is a Python string.
            Format::Json | Format::Python => Ok(serde_json::Value::String(text).to_string()),
            Format::Html => Ok(html(&text)),
            Format::Txt => line("a line", &text).map(str::to_owned),
        }
    }

    fn boolean(self, yes: bool) -> &'static str {
        match (self, yes) {
            (Format::Ini | Format::Nginx, true) => "on",
            (Format::Ini | Format::Nginx, false) => "off",
            (Format::Python, true) => "True",
            (Format::Python, false) => "False",
            (_, true) => "true",
            (_, false) => "false",
        }
    }
}

/// PHP manual, "Single quoted": only `\` and `'` mean anything; everything else, line breaks too,
/// stands for itself.
fn php(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// nginx has no way to write `$`: in most directives it begins a variable.
fn nginx(text: &str) -> Result<String, EscapeError> {
    refuse("nginx", text, &['$'])?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// In PHP's ini form `${` begins a variable, and PHP-FPM replaces `$pool`.
fn ini(text: &str) -> Result<String, EscapeError> {
    refuse("this file", text, &['$', '"', '\\'])?;
    Ok(format!("\"{text}\""))
}

fn line<'a>(format: &'static str, text: &'a str) -> Result<&'a str, EscapeError> {
    refuse(format, text, &[])?;
    if text.trim() != text {
        return Err(EscapeError::Unwritable { format, what: "white space at the ends of a value".to_owned() });
    }
    Ok(text)
}

fn refuse(format: &'static str, text: &str, letters: &[char]) -> Result<(), EscapeError> {
    match text.chars().find(|c| c.is_control() || letters.contains(c)) {
        None => Ok(()),
        Some('\n' | '\r') => Err(EscapeError::Unwritable { format, what: "a line break in a value".to_owned() }),
        Some(c) => Err(EscapeError::Unwritable { format, what: format!("`{}` in a value", c.escape_debug()) }),
    }
}

fn html(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' | '\'' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NASTY: &str = "L'été \"x\" \\' $pool ${a} {{ x }}; } <?php echo 1; ?> # %s";

    #[test]
    fn each_format_keeps_a_nasty_title_one_value() {
        let value = Value::from(NASTY);
        assert_eq!(
            Format::Php.write(&value).unwrap(),
            "'L\\'été \"x\" \\\\\\' $pool ${a} {{ x }}; } <?php echo 1; ?> # %s'"
        );
        assert_eq!(Format::Nginx.write(&value).unwrap_err().to_string(), "nginx cannot hold `$` in a value");
        assert!(Format::Ini.write(&value).is_err());
        assert!(!Format::Html.write(&value).unwrap().contains('<'));
        assert_eq!(
            Format::Txt.write(&"a\nb".into()).unwrap_err().to_string(),
            "a line cannot hold a line break in a value"
        );
    }

    #[test]
    fn numbers_and_booleans_are_literals() {
        assert_eq!(Format::Php.write(&true.into()).unwrap(), "true");
        assert_eq!(Format::Ini.write(&false.into()).unwrap(), "off");
        assert_eq!(Format::Php.write(&12.into()).unwrap(), "12");
        assert!(Format::Nginx.write(&().into()).is_err());
    }

    /// Reads a PHP single-quoted literal; what follows its end.
    fn php_reads(text: &str) -> Option<(String, &str)> {
        let mut chars = text.strip_prefix('\'')?.char_indices();
        let mut out = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' => return Some((out, &text[at + 2..])),
                '\\' => match chars.next()?.1 {
                    c @ ('\\' | '\'') => out.push(c),
                    c => out.extend(['\\', c]),
                },
                c => out.push(c),
            }
        }
        None
    }

    /// Reads a word in double quotes as nginx does (ngx_conf_read_token).
    fn nginx_reads(text: &str) -> Option<(String, &str)> {
        let mut chars = text.strip_prefix('"')?.char_indices();
        let mut out = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Some((out, &text[at + 2..])),
                '\\' => match chars.next()?.1 {
                    c @ ('\\' | '"' | '\'') => out.push(c),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'n' => out.push('\n'),
                    c => out.extend(['\\', c]),
                },
                '$' => return None,
                c => out.push(c),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn php_reads_back_what_was_meant(text in any::<String>()) {
            let written = Format::Php.write(&Value::from(text.clone())).unwrap();
            prop_assert_eq!(php_reads(&written), Some((text, "")));
        }

        #[test]
        fn nginx_reads_back_what_was_meant_or_it_is_refused(text in "[a-z\"'\\\\;{}# \\n\\t$]{0,12}") {
            if let Ok(written) = Format::Nginx.write(&Value::from(text.clone())) {
                prop_assert_eq!(nginx_reads(&written), Some((text, "")));
            }
        }

        #[test]
        fn json_reads_back_what_was_meant(text in any::<String>()) {
            let written = Format::Json.write(&Value::from(text.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }

        #[test]
        fn one_line_stays_one_line(text in any::<String>()) {
            for format in [Format::Cfg, Format::Txt, Format::Ini, Format::Nginx] {
                if let Ok(written) = format.write(&Value::from(text.clone())) {
                    prop_assert!(!written.contains(['\n', '\r', '\0']), "{written:?}");
                }
            }
        }

        #[test]
        fn html_has_no_markup(text in any::<String>()) {
            prop_assert!(!Format::Html.write(&Value::from(text)).unwrap().contains(['<', '>', '"', '\'']));
        }
    }
}
