//! What a controller and its agents agree on besides the document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Digest, Generation};

/// How far a server's desired state has come. Ordered by epoch, then generation; what an agent accepted never
/// goes down.
///
/// The epoch is raised by the operator only, to recover from a generation that ran away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    pub epoch: u32,
    pub generation: Generation,
}

impl Mark {
    /// The next generation of the same epoch.
    pub fn next(self) -> Self {
        Self { epoch: self.epoch, generation: Generation(self.generation.0.saturating_add(1)) }
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.epoch {
            0 => write!(f, "{}", self.generation),
            epoch => write!(f, "{epoch}.{}", self.generation),
        }
    }
}

/// Who asked for the state a server is brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `socle agent apply` on the server itself.
    #[default]
    Local,
    /// A document signed by the controller.
    Controller,
}

/// What an agent says it accepted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub mark: Mark,
    /// Of the document's text.
    pub digest: Digest,
    pub origin: Origin,
    /// The generation that was last brought about completely.
    pub brought_about: Option<Generation>,
}
