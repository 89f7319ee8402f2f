//! The kinds of resource: what is wanted, what was seen, what would change it.
//!
//! Owns: one folder a kind, each with its words (`mod.rs`), `observe` (reads the host), `diff`
//! (pure) and `apply` (thin: a change carries every value, nothing is left to decide). Never: look at
//! another kind; what crosses kinds is in [`crate::recipe`] (which resources) and in
//! `engine::plan` (their order). Start reading at [`Resource`], then at [`directory`], the smallest.

pub mod account;
pub mod certificate;
pub mod database;
pub mod directory;
pub mod file;
pub mod package;
pub mod release;
pub mod service;
pub mod setup;
pub mod site;

mod any;
mod on_disk;
mod ready;
pub use crate::model::preview::Phase;
pub use any::{
    AnyChange, AnyDesired, AnyObserved, apply, apply_beside, apply_together, diff, goes_together, list, observe,
};
pub use ready::Ready;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::future::Future;

use serde::Serialize;

use crate::host::Host;
use crate::model::report::ErrorReport;
use crate::model::{Kind, ResourceId};

/// What each kind is. All futures are `Send`; none may be dropped half-way and believed undone.
pub trait Resource {
    const KIND: Kind;
    /// Validated and complete: `diff` needs nothing else.
    type Desired: Clone + Debug + Send + Sync;
    /// "Absent" is one of its values; "could not look" is an [`ErrorReport`].
    type Observed: Clone + Debug + Send + Sync;
    /// Carries every value `apply` needs. Its `Display` is the line of the plan, its `Serialize`
    /// goes to the journal and shows no secret.
    type Change: Clone + Debug + Display + Serialize + Send + Sync;

    /// The names of what *we* own there, wanted or not.
    fn list(host: &Host) -> impl Future<Output = Result<BTreeSet<String>, ErrorReport>> + Send;

    /// Looks at all of `names` at once (one question to the host instead of one each).
    fn observe(
        host: &Host,
        names: &BTreeSet<String>,
    ) -> impl Future<Output = BTreeMap<String, Result<Self::Observed, ErrorReport>>> + Send;

    /// What it takes to get from `observed` to `desired`. Pure and total. `None`: nobody wants it.
    /// Empty changes mean: in sync. After `apply` of all changes, the diff is in sync.
    fn diff(name: &str, desired: Option<&Self::Desired>, observed: &Self::Observed) -> Diff<Self::Change>;

    fn apply(host: &Host, name: &str, change: &Self::Change) -> impl Future<Output = Result<(), ApplyError>> + Send;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diff<C> {
    /// In order; empty: in sync.
    Changes(Vec<(Phase, C)>),
    /// Will not be done as asked, and why.
    Refused(ErrorReport),
}

impl<C> Diff<C> {
    pub const IN_SYNC: Self = Diff::Changes(Vec::new());
}

/// Why a change failed, and about what that speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyError {
    pub report: ErrorReport,
    pub about: About,
}

/// What a failure says something about. Only a failure about the release condemns it; one about the
/// host is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    Host,
    Release,
}

impl ApplyError {
    pub fn host(code: &str, error: &(dyn std::error::Error + 'static), hint: Option<String>) -> Self {
        Self { report: ErrorReport::of(code, error, hint), about: About::Host }
    }

    pub fn release(code: &str, error: &(dyn std::error::Error + 'static), hint: Option<String>) -> Self {
        Self { report: ErrorReport::of(code, error, hint), about: About::Release }
    }
}

/// One resource somebody wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub id: ResourceId,
    pub desired: AnyDesired,
    /// Resources that must be as wanted before this one is touched.
    pub needs: BTreeSet<ResourceId>,
    /// The instance (or service) it belongs to.
    pub owner: Option<String>,
}
