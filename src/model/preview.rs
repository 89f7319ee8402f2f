//! A plan as people and programs see it: on a terminal, as JSON, at the controller.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ResourceId;
use super::report::ErrorReport;

/// When a change is made. A pass goes through the phases in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Slow, fallible, invisible: packages, downloads, unpacking, accounts, databases, dumps.
    Stage,
    /// Stops what must stand still before its ground moves.
    Withdraw,
    /// Short and visible: configuration, the `current` link, migrations, restarts, sites.
    Switch,
    /// The health gate: does it answer as the recipe says?
    Prove,
    /// Removes what nothing refers to any more.
    Retire,
}

/// A plan as it is shown and printed as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preview {
    pub steps: Vec<PreviewStep>,
    pub refused: Vec<(ResourceId, ErrorReport)>,
    pub unknown: Vec<(ResourceId, ErrorReport)>,
    /// Instances that are held at another version than asked for, and why.
    pub notes: Vec<String>,
}

impl Preview {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.refused.is_empty() && self.unknown.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewStep {
    pub on: Vec<ResourceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub phase: Phase,
    pub change: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consequences: Vec<Consequence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<ResourceId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "consequence", rename_all = "kebab-case")]
pub enum Consequence {
    /// `None`: the server does not say how much.
    Download {
        bytes: Option<u64>,
    },
    Restart,
    /// Not served until it is started again later in the same pass.
    Downtime,
    /// Cannot be undone by putting files back; a dump is taken before.
    PointOfNoReturn,
    /// Data is removed for good.
    Destroys,
}
