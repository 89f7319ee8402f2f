//! Looks at everything wanted and everything ours, all kinds side by side.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use crate::host::Host;
use crate::model::report::ErrorReport;
use crate::model::{Kind, ResourceId};
use crate::resources::{self, AnyObserved, Wanted};

/// What was seen. A resource that could not be looked at is there with its error; a kind whose
/// members could not be listed is in `unlisted`, and its orphans stay untouched.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    pub seen: BTreeMap<ResourceId, Result<AnyObserved, ErrorReport>>,
    pub unlisted: BTreeMap<Kind, ErrorReport>,
}

/// Those of which another process is asked come first: it works while the files are read here.
const ORDER: [Kind; 10] = [
    Kind::Database,
    Kind::Service,
    Kind::Site,
    Kind::Certificate,
    Kind::Package,
    Kind::Account,
    Kind::Directory,
    Kind::File,
    Kind::Release,
    Kind::Setup,
];

pub async fn observe(host: &Host, wanted: &[Wanted]) -> Observation {
    let mut observation = Observation::default();
    for (kind, listed, seen) in join_all(ORDER.map(|kind| observe_kind(host, kind, wanted))).await {
        if let Err(error) = listed {
            observation.unlisted.insert(kind, error);
        }
        for (name, result) in seen {
            observation.seen.insert(ResourceId::new(kind, name), result);
        }
    }
    observation
}

/// Looks at these, whatever else is ours.
pub async fn observe_only(host: &Host, wanted: &[Wanted]) -> Observation {
    let mut observation = Observation::default();
    for kind in ORDER {
        let names = named(kind, wanted);
        let seen = if names.is_empty() { Seen::new() } else { resources::observe(kind, host, &names).await };
        observation.seen.extend(seen.into_iter().map(|(name, seen)| (ResourceId::new(kind, name), seen)));
    }
    observation
}

fn named(kind: Kind, wanted: &[Wanted]) -> BTreeSet<String> {
    wanted.iter().filter(|w| w.id.kind == kind).map(|w| w.id.name.clone()).collect()
}

type Seen = BTreeMap<String, Result<AnyObserved, ErrorReport>>;

async fn observe_kind(host: &Host, kind: Kind, wanted: &[Wanted]) -> (Kind, Result<(), ErrorReport>, Seen) {
    let mut names = named(kind, wanted);
    let listed = resources::list(kind, host).await.map(|ours| names.extend(ours));
    let seen = if names.is_empty() { Seen::new() } else { resources::observe(kind, host, &names).await };
    (kind, listed, seen)
}
