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
    names.iter().map(|name| (name.clone(), look(host, name).map_err(|e| report(&e, name)))).collect()
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot read how far `{0}` is set up")]
    Read(String, #[source] durable::DurableError),
    /// Damaged is not absent: installing over existing data would destroy it.
    #[error("the record of how far `{0}` is set up is damaged")]
    Damaged(String, #[source] serde_json::Error),
    #[error("cannot look into `{0}`")]
    Look(String, #[source] std::io::Error),
}

fn look(host: &Host, name: &str) -> Result<Observed, StateError> {
    let recorded = read(host, name)?;
    let place = kept_of(name);
    let failed = |error| StateError::Look(place.clone(), error);
    let entries = match std::fs::read_dir(host.path(&place)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(recorded),
        entries => entries.map_err(failed)?,
    };
    let mut debris = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !recorded.kept.contains_key(&entry) {
            debris.insert(entry);
        }
    }
    Ok(Observed { debris, ..recorded })
}

pub fn read(host: &Host, name: &str) -> Result<Observed, StateError> {
    match durable::read(&path(host, name)).map_err(|error| StateError::Read(name.to_owned(), error))? {
        None => Ok(Observed::default()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| StateError::Damaged(name.to_owned(), error)),
    }
}

fn report(error: &StateError, name: &str) -> ErrorReport {
    let (code, hint) = match error {
        StateError::Read(..) | StateError::Look(..) => ("setup.unreadable", None),
        StateError::Damaged(..) => (
            "setup.damaged",
            Some(format!("if `{name}` is installed and works, write its state anew: see `{DIRECTORY}/{name}.json`")),
        ),
    };
    ErrorReport::of(code, error, hint)
}
