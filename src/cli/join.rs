//! A server joins a fleet, and its token is forgotten.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::agent::read;
use super::{Exit, print};
use crate::agent::enrolment::{self, Joined};
use crate::agent::reconcile::Agent;
use crate::agent::user_data;
use crate::wire::JoinToken;

pub(super) async fn join(agent: &Agent, token_file: &Path, json: bool) -> anyhow::Result<Exit> {
    let (_, text) = read(token_file)?;
    let token = match text.parse::<JoinToken>() {
        Ok(token) => token,
        Err(error) => {
            print::error(
                &error.to_string(),
                Some("socle controller server add NAME, on the controller, prints a new one"),
            );
            return Ok(Exit::BadInput);
        }
    };
    let joined = {
        let _lock = agent.lock("socle agent join")?;
        enrolment::join(&agent.state, &token, (agent.now)(), agent.random).await
    };
    let joined = match joined {
        Ok(joined) => joined,
        Err(enrolment::EnrolError::Refused(error)) => {
            print::error_report(&error);
            return Ok(Exit::BadInput);
        }
        Err(error) => return Err(error.into()),
    };
    forget(&agent.host.root)?;
    // Also when it was enrolled before: whoever repeats a join wants to see the server connected.
    agent.connect_link().await.context("enrolled, but the link to the controller does not start")?;
    if json {
        print::json(&joined)?;
    } else {
        let (Joined::Enrolled { fleet, server } | Joined::Already { fleet, server }) = &joined;
        let already = if matches!(joined, Joined::Already { .. }) { "already " } else { "" };
        print::raw(format!("this server is {already}enrolled as `{server}` in the fleet `{fleet}`\n").as_bytes())?;
    }
    Ok(Exit::Converged)
}

/// Called by cloud-init: what it says goes into its log.
pub(super) fn forget_tokens(root: &Path, json: bool) -> anyhow::Result<Exit> {
    let copies = forget(root)?;
    if json {
        print::json(&copies)?;
    }
    Ok(Exit::Converged)
}

fn forget(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let copies = user_data::forget(root).context("the join token stays readable in what cloud-init keeps")?;
    for copy in &copies {
        print::tell!("the join token was made unreadable in {}", copy.display());
    }
    Ok(copies)
}
