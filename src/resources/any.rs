//! The closed set of kinds, and the one place that dispatches over it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::{ApplyError, Diff, Ready, Resource};
use super::{account, certificate, database, directory, file, package, release, service, setup, site};
use crate::host::Host;
use crate::model::Kind;
use crate::model::report::ErrorReport;

macro_rules! kinds {
    ($($variant:ident = $module:ident),* $(,)?) => {
        #[derive(Debug, Clone)]
        pub enum AnyDesired { $($variant(<$module::$variant as Resource>::Desired)),* }

        #[derive(Debug, Clone)]
        pub enum AnyObserved { $($variant(<$module::$variant as Resource>::Observed)),* }

        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(rename_all = "lowercase")]
        pub enum AnyChange { $($variant(<$module::$variant as Resource>::Change)),* }

        impl AnyDesired {
            pub fn kind(&self) -> Kind {
                match self { $(AnyDesired::$variant(_) => Kind::$variant),* }
            }
        }

        impl AnyChange {
            pub fn kind(&self) -> Kind {
                match self { $(AnyChange::$variant(_) => Kind::$variant),* }
            }
        }

        impl fmt::Display for AnyChange {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(AnyChange::$variant(change) => change.fmt(f)),* }
            }
        }

        /// What we own of a kind on this host.
        pub async fn list(kind: Kind, host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
            match kind { $(Kind::$variant => $module::$variant::list(host).await),* }
        }

        /// Looks at `names` of a kind.
        pub async fn observe(
            kind: Kind,
            host: &Host,
            names: &BTreeSet<String>,
        ) -> BTreeMap<String, Result<AnyObserved, ErrorReport>> {
            match kind {
                $(Kind::$variant => $module::$variant::observe(host, names)
                    .await
                    .into_iter()
                    .map(|(name, seen)| (name, seen.map(AnyObserved::$variant)))
                    .collect()),*
            }
        }

        /// The difference between two of the same kind; the planner never pairs two kinds.
        pub fn diff(name: &str, desired: Option<&AnyDesired>, observed: &AnyObserved) -> Diff<AnyChange> {
            match (desired, observed) {
                $((Some(AnyDesired::$variant(desired)), AnyObserved::$variant(observed)) =>
                    wrap($module::$variant::diff(name, Some(desired), observed), AnyChange::$variant),)*
                $((None, AnyObserved::$variant(observed)) =>
                    wrap($module::$variant::diff(name, None, observed), AnyChange::$variant),)*
                (Some(desired), observed) => unreachable!("{:?} compared with {observed:?}", desired.kind()),
            }
        }

        pub async fn apply(host: &Host, name: &str, change: &AnyChange) -> Result<(), ApplyError> {
            match change { $(AnyChange::$variant(change) => $module::$variant::apply(host, name, change).await),* }
        }
    };
}

kinds! {
    Package = package,
    Account = account,
    Directory = directory,
    File = file,
    Release = release,
    Database = database,
    Service = service,
    Certificate = certificate,
    Site = site,
    Setup = setup,
}

/// One change that goes on beside others, begun before what it needs is done.
pub async fn apply_beside(host: &Host, name: &str, change: &AnyChange, ready: Ready) -> Result<(), ApplyError> {
    match change {
        AnyChange::Release(change @ release::Change::Fetch { .. }) => {
            release::apply_beside(host, name, change, ready).await
        }
        change => {
            ready.wait().await;
            apply(host, name, change).await
        }
    }
}

/// Whether several of these that follow each other are made at once, by [`apply_together`].
pub fn goes_together(change: &AnyChange) -> bool {
    matches!(change, AnyChange::Site(site::Change::Publish { .. }))
}

/// Changes of which each [`goes_together`] with the others, an outcome each.
pub async fn apply_together(host: &Host, all: &[(&str, &AnyChange)]) -> Vec<Result<(), ApplyError>> {
    let mut sites = Vec::new();
    for (name, change) in all {
        match change {
            AnyChange::Site(change) => sites.push((*name, change)),
            other => unreachable!("{:?} does not go together with others", other.kind()),
        }
    }
    site::apply_together(host, &sites).await
}

fn wrap<C>(diff: Diff<C>, any: impl Fn(C) -> AnyChange) -> Diff<AnyChange> {
    match diff {
        Diff::Changes(changes) => Diff::Changes(changes.into_iter().map(|(phase, c)| (phase, any(c))).collect()),
        Diff::Refused(report) => Diff::Refused(report),
    }
}
