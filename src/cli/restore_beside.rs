//! `socle agent restore NAME --as OTHER`.

use std::sync::Arc;
use std::time::Instant;

use super::agent::{ask, told};
use super::backup_remote::bring;
use super::progress::Terminal;
use super::restore::{RestoreArgs, summary, timed};
use super::{Exit, print};
use crate::agent::backup::{BackupError, BesidePlan};
use crate::agent::door::Request;
use crate::agent::reconcile::Agent;
use crate::model::Name;

/// A new instance beside the one that was saved.
pub(super) async fn run(
    agent: &Agent,
    args: &RestoreArgs,
    other: &Name,
    terminal: &Arc<Terminal>,
    json: bool,
) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let brought = match bring(args.credentials.as_deref()) {
        Ok(brought) => brought,
        Err(failure) => return super::backup::failed(failure, json),
    };
    let staged: Result<_, BackupError> = async {
        let _listening = agent.progress.to(terminal.clone());
        let (name, repository) = agent.repository(args.repository.as_ref())?;
        let from = (name.to_string(), agent.access_by(&name, &repository, brought.as_ref())?);
        let meant = (&args.instance, args.at.as_deref());
        let (plan, manifest) = agent.plan_beside(&from, meant, other, args.domain.as_ref()).await?;
        let request = match args.yes {
            false => None,
            true => Some(match agent.stage_beside(&from.1, &plan, &manifest).await? {
                Some((file, text)) => Request::Apply { file, text },
                None => Request::Reconcile,
            }),
        };
        Ok((plan, request))
    }
    .await;
    terminal.finish();
    let (plan, request) = match staged {
        Ok(staged) => staged,
        Err(BackupError::Agent(error)) => return super::agent::failed(error, json),
        Err(error) => return told(&error.report(), json),
    };
    let Some(request) = request else {
        if json {
            print::json(&plan)?;
        } else {
            print::raw(beside_words(&plan).as_bytes())?;
            print::tell!("nothing was changed; add --yes to do it");
        }
        return Ok(Exit::NotConverged);
    };
    let exit = ask(agent, request, terminal, json, false).await?;
    if plan.written.is_some() {
        print::tell!("the accepted document has `{}` now", plan.other);
        print::tell!("hint: write the same into `{}`, or its next apply takes `{}` away", plan.file, plan.other);
    }
    Ok(timed(exit, begun))
}

fn beside_words(plan: &BesidePlan) -> String {
    let (other, domain) = (&plan.other, &plan.domain);
    let mut text = summary(&plan.restore);
    match &plan.written {
        None => text += &format!("  takes the place of what is at `{other}`, {domain}; it is down meanwhile\n"),
        Some(written) => {
            text += &format!("  as the new instance `{other}` at {domain}; `{}` goes on\n", plan.restore.instance);
            text += "  the accepted document gets:\n";
            for line in written.lines() {
                text += format!("    {line}").trim_end();
                text.push('\n');
            }
        }
    }
    text
}
