//! Bytes on their way to a file, and values that must never be shown.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Digest;

/// A secret value. It has no way to a log, a plan or a report: `Debug` and `Serialize` show only
/// that it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the few places that hand it on: a file's bytes, a program's standard
    /// input or environment.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The wanted bytes of a file. Shown and serialised as digest and length only, because they may
/// hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Shared: contents are cloned into plans.
    bytes: Arc<[u8]>,
    digest: Digest,
}

impl Content {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        Self { bytes: bytes.into(), digest }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes, {})", self.bytes.len(), self.digest.short())
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("sha256:{} ({} bytes)", self.digest, self.bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let content = Content::new("canary-secret");
        assert!(!format!("{:?} {:?}", Secret::new("canary-secret"), content).contains("canary"));
        assert!(!serde_json::to_string(&content).unwrap().contains("canary"));
    }
}
