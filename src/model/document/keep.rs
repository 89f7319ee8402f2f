//! How long snapshots stay, as it is written and as it is valid.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::Wrong;
use super::value;
use super::written::NAME;
use crate::model::Name;
use crate::model::backup::{TAG, is_free_tag};

/// See [`Written`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keep {
    pub last: u32,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Name>,
}

impl Default for Keep {
    fn default() -> Self {
        Written::default().valid(BTreeSet::new())
    }
}

/// How many snapshots of each instance stay: the newest, and the newest of each of so many hours, days … (UTC).
/// A snapshot stays if one of the rules keeps it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Keep")]
pub(super) struct Written {
    /// The newest so many, whenever they were made. At least 1.
    pub last: u32,
    pub hourly: u32,
    pub daily: u32,
    /// By ISO 8601 week.
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    /// All that carry one of these tags (`socle agent backup now --tag`), whenever they were made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = NAME)))]
    pub tags: Vec<String>,
}

impl Default for Written {
    fn default() -> Self {
        Self { last: 3, hourly: 0, daily: 7, weekly: 5, monthly: 12, yearly: 0, tags: Vec::new() }
    }
}

impl Written {
    pub fn valid(&self, tags: BTreeSet<Name>) -> Keep {
        let Self { last, hourly, daily, weekly, monthly, yearly, tags: _ } = *self;
        Keep { last, hourly, daily, weekly, monthly, yearly, tags }
    }
}

/// One that somebody may give.
pub(super) fn tag(text: &str) -> Result<Name, Wrong> {
    let tag = value::name(text)?;
    if is_free_tag(&tag) {
        return Ok(tag);
    }
    Err(Wrong::new(format!("every snapshot carries the tag `{TAG}`")).hint("name one that `--tag` gives"))
}
