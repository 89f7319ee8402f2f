//! What a plan costs, for the person who reads it before it is done.

use super::plan::{Plan, Step};
use crate::host::Host;
use crate::model::ResourceId;
use crate::model::report::ErrorReport;
use crate::resources::AnyChange;
use crate::resources::release::Origin;
use crate::resources::{database, directory, package, release, service, setup};

pub use crate::model::preview::{Consequence, Preview, PreviewStep};

/// Asks the host only for the sizes of downloads.
pub async fn preview(host: &Host, plan: &Plan, notes: Vec<String>) -> Preview {
    let mut steps = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        steps.push(PreviewStep {
            on: step.on.clone(),
            owner: step.owner.clone(),
            phase: step.phase,
            change: step.change.to_string(),
            consequences: consequences(host, plan, step).await,
            blocked_by: step.blocked_by.clone(),
        });
    }
    let pairs = |map: &std::collections::BTreeMap<ResourceId, ErrorReport>| {
        map.iter().map(|(id, error)| (id.clone(), error.clone())).collect()
    };
    Preview { steps, refused: pairs(&plan.refused), unknown: pairs(&plan.unknown), notes }
}

async fn consequences(host: &Host, plan: &Plan, step: &Step) -> Vec<Consequence> {
    match &step.change {
        AnyChange::Package(package::Change::Install { names }) => {
            vec![Consequence::Download { bytes: host.packages.download_size(names).await.ok() }]
        }
        AnyChange::Release(release::Change::Fetch { spec, .. }) => match &spec.source {
            Origin::Archive { source, .. } => {
                vec![Consequence::Download { bytes: host.fetch.size(source).await.ok().flatten() }]
            }
            Origin::Venv { .. } => vec![Consequence::Download { bytes: None }],
            Origin::Empty => Vec::new(),
        },
        AnyChange::Service(service::Change::Restart) => vec![Consequence::Restart],
        AnyChange::Service(service::Change::Stop) if starts_again(plan, step) => vec![Consequence::Downtime],
        AnyChange::Setup(setup::Change::Migrate { .. }) => vec![Consequence::PointOfNoReturn],
        AnyChange::Setup(setup::Change::Return { .. }) => vec![Consequence::Downtime, Consequence::Destroys],
        AnyChange::Setup(setup::Change::Forget | setup::Change::DropDumps { .. })
        | AnyChange::Directory(directory::Change::RemoveAll)
        | AnyChange::Database(database::Change::DropDatabase) => vec![Consequence::Destroys],
        _ => Vec::new(),
    }
}

fn starts_again(plan: &Plan, stop: &Step) -> bool {
    let starts = |step: &Step| {
        matches!(step.change, AnyChange::Service(service::Change::Start | service::Change::Restart))
            && step.on == stop.on
    };
    plan.steps.iter().any(starts)
}
