use serde::{Deserialize, Serialize};

use super::Spec;
use crate::model::Digest;

/// What a complete release was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub spec: Spec,
    /// Of the archive or file it came from.
    pub sha256: Option<Digest>,
    /// Of the finished tree; releases made before there was one have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Digest>,
}
