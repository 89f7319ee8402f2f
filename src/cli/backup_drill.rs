//! `socle agent backup drill`.

use std::sync::Arc;

use super::backup::Failure;
use super::progress::Terminal;
use super::{Exit, print};
use crate::agent::backup::drill::Drilled;
use crate::agent::reconcile::Agent;
use crate::model::Name;

/// What a drill is told.
#[derive(Debug, clap::Args)]
pub struct DrillArgs {
    /// Of this instance
    #[arg(required_unless_present_any = ["due", "sweep"])]
    instance: Option<Name>,
    /// From this repository; without it, from the first
    #[arg(long, value_name = "NAME")]
    repository: Option<Name>,
    /// The snapshot, by the beginning of its identifier, or the newest not after this time
    #[arg(long, value_name = "SNAPSHOT|TIME", conflicts_with = "due")]
    at: Option<String>,
    /// Of the instance whose last drill is the longest ago (done each night by itself)
    #[arg(long, conflicts_with = "instance")]
    due: bool,
    /// Only clear away what a drill left that was killed (each drill begins with it)
    #[arg(long, conflicts_with_all = ["instance", "due"])]
    sweep: bool,
}

pub(super) async fn run(agent: &Agent, args: DrillArgs, terminal: &Arc<Terminal>, json: bool) -> Result<Exit, Failure> {
    if args.sweep {
        agent.sweep_drill().await?;
        return Ok(Exit::Converged);
    }
    let (name, repository) = agent.repository(args.repository.as_ref())?;
    let instance = match args.instance {
        Some(instance) => instance,
        None => match agent.drill_due(&name)? {
            Some(instance) => instance,
            None => {
                print::tell!("there is no backup in `{name}` yet: nothing to drill");
                return Ok(Exit::Converged);
            }
        },
    };
    let drilled = agent.drill((&name, &repository), &instance, args.at.as_deref(), terminal).await?;
    terminal.finish();
    if json {
        print::json(&drilled)?;
    } else {
        print::raw(words(&drilled).as_bytes())?;
        if let Some(error) = drilled.error() {
            print::error_report(error);
        }
    }
    Ok(if drilled.is_well() { Exit::Converged } else { Exit::NotConverged })
}

fn words(drilled: &Drilled) -> String {
    let Drilled { instance, repository, drill } = drilled;
    let snapshot = drill.snapshot.as_ref().map(|id| id.0.chars().take(8).collect::<String>());
    let of = snapshot.map(|id| format!(" of snapshot {id}")).unwrap_or_default();
    match drill.rto_ms {
        Some(ms) => {
            let seconds = std::time::Duration::from_millis(ms).as_secs_f64();
            let rows = match drill.tables {
                0 => String::new(),
                tables => format!(", the rows of {tables} tables are as saved"),
            };
            format!("{instance}  drill{of} from {repository}: it answers after {seconds:.1} s{rows}\n")
        }
        None => format!("{instance}  drill{of} from {repository}: FAILED\n"),
    }
}
