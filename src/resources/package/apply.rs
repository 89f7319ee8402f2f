use super::*;
use crate::resources::About;

pub async fn apply(host: &Host, _name: &str, change: &Change) -> Result<(), ApplyError> {
    let done = match change {
        Change::Install { names } => host.packages.install(names, host.progress.as_ref()).await,
        Change::Remove { names } => host.packages.remove(names, host.progress.as_ref()).await,
    };
    done.map_err(|error| ApplyError { report: error.report(), about: About::Host })
}
