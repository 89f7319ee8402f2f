use serde::{Deserialize, Serialize};

use super::Spec;
use crate::model::Digest;

/// What a complete release was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub spec: Spec,
    /// Of the archive or file it came from.
    pub sha256: Option<Digest>,
}
