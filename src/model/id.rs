//! Names. A name is checked once, when it enters; after that it cannot be a path, an option or a
//! line break.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("`{0}` is not a name: 1 to 31 of a-z, 0-9 and -, beginning with a letter")]
    Name(String),
    #[error("`{0}` is not a domain name: labels of a-z, 0-9 and -, joined by dots, 253 characters at most")]
    Domain(String),
    #[error(
        "`{0}` is not a version: 1 to 64 of a-z, A-Z, 0-9, `.`, `-`, `+`, `_` and `~`, beginning with a letter or digit"
    )]
    Version(String),
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $error:path, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err($error(text.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string" })
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_newtype!(
    /// The name of an instance, service, member, recipe, parameter …: `[a-z][a-z0-9-]{0,30}`.
    /// 31 characters, so that `socle-<name>` is still a legal Unix user name for the first 26 and
    /// is checked there.
    Name,
    IdError::Name,
    |text| {
        let bytes = text.as_bytes();
        (1..=31).contains(&bytes.len())
            && bytes[0].is_ascii_lowercase()
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    }
);

text_newtype!(
    /// A fully qualified host name in its ASCII form (RFC 1123), without the final dot.
    Domain,
    IdError::Domain,
    |text| {
        (1..=253).contains(&text.len())
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    }
);

text_newtype!(
    /// A version as its authors write it. Safe as one path component and one argument.
    Version,
    IdError::Version,
    |text| {
        (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+_~".contains(&b))
    }
);

/// The number of a document. Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kinds of resource. The order is the order of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Package,
    Account,
    Directory,
    File,
    Release,
    Database,
    Service,
    Certificate,
    Site,
    Setup,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Package,
        Kind::Account,
        Kind::Directory,
        Kind::File,
        Kind::Release,
        Kind::Database,
        Kind::Service,
        Kind::Certificate,
        Kind::Site,
        Kind::Setup,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Package => "package",
            Kind::Account => "account",
            Kind::Directory => "directory",
            Kind::File => "file",
            Kind::Release => "release",
            Kind::Database => "database",
            Kind::Service => "service",
            Kind::Certificate => "certificate",
            Kind::Site => "site",
            Kind::Setup => "setup",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which resource: its kind and its name within the kind (a package name, an absolute path, a unit
/// name, an instance name). Printed `kind:name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct ResourceId {
    pub kind: Kind,
    pub name: String,
}

impl ResourceId {
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let (kind, name) = text.split_once(':').ok_or_else(|| serde::de::Error::custom("no `:`"))?;
        let kind = Kind::ALL
            .into_iter()
            .find(|k| k.as_str() == kind)
            .ok_or_else(|| serde::de::Error::custom(format!("`{kind}` is no kind")))?;
        Ok(Self::new(kind, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_more_than_names_are_refused() {
        for bad in ["", "-x", "1a", "a/b", "a b", "a\n", "A", "é", "..", "a.b", &"a".repeat(32)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        for good in ["a", "blog", "a-1", &"a".repeat(31)] {
            assert!(good.parse::<Name>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn domains_and_versions() {
        for bad in ["", ".", "a..b", "-a.b", "a-.b", "a.b.", "a_b.c", "a b", "A.b", "a/b"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
        assert!("blog.example.org".parse::<Domain>().is_ok());
        for bad in ["", ".", "..", "../x", "1/2", "-1", "1 2", "1\n"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
        assert!("6.8.7+dfsg1".parse::<Version>().is_ok());
    }

    #[test]
    fn a_resource_id_reads_back_what_it_prints() {
        let id = ResourceId::new(Kind::File, "/srv/a:b");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"file:/srv/a:b\"");
        assert_eq!(serde_json::from_str::<ResourceId>(&json).unwrap(), id);
    }
}
