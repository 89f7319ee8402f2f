use super::*;
use crate::durable;

/// Where the states are kept, one file an instance.
pub const DIRECTORY: &str = "/var/lib/socle/setup";

pub fn path(host: &Host, name: &str) -> std::path::PathBuf {
    host.path(format!("{DIRECTORY}/{name}.json"))
}

/// States of instances that are gone stay until they are purged, so nothing is an orphan here.
pub async fn list(_host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    Ok(BTreeSet::new())
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    names.iter().map(|name| (name.clone(), read(host, name).map_err(|e| report(&e, name)))).collect()
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot read how far `{0}` is set up")]
    Read(String, #[source] durable::DurableError),
    /// Damaged is not absent: installing over existing data would destroy it.
    #[error("the record of how far `{0}` is set up is damaged")]
    Damaged(String, #[source] serde_json::Error),
}

pub fn read(host: &Host, name: &str) -> Result<Observed, StateError> {
    match durable::read(&path(host, name)).map_err(|error| StateError::Read(name.to_owned(), error))? {
        None => Ok(Observed::default()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| StateError::Damaged(name.to_owned(), error)),
    }
}

fn report(error: &StateError, name: &str) -> ErrorReport {
    let (code, hint) = match error {
        StateError::Read(..) => ("setup.unreadable", None),
        StateError::Damaged(..) => (
            "setup.damaged",
            Some(format!("if `{name}` is installed and works, write its state anew: see `{DIRECTORY}/{name}.json`")),
        ),
    };
    ErrorReport::of(code, error, hint)
}
