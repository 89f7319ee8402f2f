//! What visitors meet, and how it is known to answer.

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    pub kind: WebKind,
    /// What is served from disk.
    pub root: String,
    /// The same when the instance names an archive of its own (`empty` sources).
    pub root_of_archive: Option<String>,
    /// Template of what stands inside the server block.
    pub locations: String,
    /// For `proxy`: `unix:{run}/name.sock`.
    pub upstream: Option<String>,
    #[serde(default = "body")]
    pub body_max_mb: u32,
}

fn body() -> u32 {
    8
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebKind {
    PhpFpm,
    Proxy,
    Static,
}

/// A question the finished site must answer so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub path: String,
    #[serde(default = "ok")]
    pub status: Vec<u16>,
    pub contains: Option<String>,
    #[serde(default = "thirty_seconds")]
    pub within_s: u32,
}

fn ok() -> Vec<u16> {
    vec![200]
}

fn thirty_seconds() -> u32 {
    30
}
