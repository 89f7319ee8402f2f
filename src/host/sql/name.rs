//! Names of databases, roles and extensions.

use std::fmt;

use super::SqlError;

/// A name that needs no escaping inside any quotation of either engine: `[a-z_][a-z0-9_-]{0,62}`.
/// PostgreSQL cuts names after 63 bytes, so longer ones are refused for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SqlName<'a>(&'a str);

impl<'a> SqlName<'a> {
    pub fn new(text: &'a str) -> Result<Self, SqlError> {
        let bytes = text.as_bytes();
        let good = (1..=63).contains(&bytes.len())
            && (bytes[0].is_ascii_lowercase() || bytes[0] == b'_')
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(b));
        if good { Ok(Self(text)) } else { Err(SqlError::Name(text.chars().take(80).collect())) }
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// As an identifier of PostgreSQL.
    pub fn double_quoted(self) -> String {
        format!("\"{}\"", self.0)
    }

    /// As an identifier of MariaDB.
    pub fn backticked(self) -> String {
        format!("`{}`", self.0)
    }

    /// As the pattern a database is in MariaDB's GRANT, where `_` stands for any character.
    pub fn grant_pattern(self) -> String {
        format!("`{}`", self.0.replace('_', "\\_"))
    }

    /// As a text value of either engine.
    pub fn literal(self) -> String {
        format!("'{}'", self.0)
    }
}

impl fmt::Display for SqlName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// `'a', 'b'` for an IN list; never empty, because an empty list is no SQL.
pub(super) fn literals(names: &[SqlName<'_>]) -> String {
    let all: Vec<String> = names.iter().map(|name| name.literal()).collect();
    if all.is_empty() { "''".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_end_a_quotation() {
        for bad in ["", "1a", "-a", "A", "a b", "a`b", "a'b", "a\"b", "a\\b", "a\nb", "a%", "é", &"a".repeat(64)] {
            assert!(SqlName::new(bad).is_err(), "{bad:?}");
        }
        let name = SqlName::new("my_blog-x").unwrap();
        assert_eq!(name.grant_pattern(), "`my\\_blog-x`");
        assert_eq!(literals(&[name, name]), "'my_blog-x', 'my_blog-x'");
    }
}
