use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::model::unit::{HEADER, INPUTS_DIR};

/// Where we write units.
pub(super) const UNITS: &str = "/etc/systemd/system";

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("cannot list `{0}`")]
    List(PathBuf, #[source] io::Error),
    #[error("cannot read `{0}`")]
    Read(PathBuf, #[source] io::Error),
}

impl LookError {
    fn report(&self) -> ErrorReport {
        ErrorReport::of("service.look", self, None)
    }
}

/// The unit files that begin with our first line.
pub async fn list(host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    ours(&host.path(UNITS)).map_err(|error| error.report())
}

fn ours(directory: &Path) -> Result<BTreeSet<String>, LookError> {
    let failed = |error| LookError::List(directory.to_owned(), error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
        let unit = [".service", ".timer", ".socket"].iter().any(|suffix| name.ends_with(suffix));
        if unit && name.starts_with("socle-") && text_of(&directory.join(&name))?.is_some_and(|t| t.starts_with(HEADER))
        {
            names.insert(name);
        }
    }
    Ok(names)
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let states = match host.units.states(names).await {
        Ok(states) => states,
        Err(error) => return names.iter().map(|name| (name.clone(), Err(error.report()))).collect(),
    };
    let look = |name: &String| {
        let state = states.get(name).cloned().unwrap_or_default();
        Ok(Observed {
            text: text_of(&host.path(UNITS).join(name))?,
            exists: !matches!(state.load.as_str(), "not-found" | ""),
            active: state.active,
            enabled: state.enabled,
            inputs: mark(&host.path(INPUTS_DIR).join(name))?,
            need_reload: state.need_reload,
        })
    };
    names.iter().map(|name| (name.clone(), look(name).map_err(|error: LookError| error.report()))).collect()
}

/// The text of a unit file; a link (an alias, a mask) is none.
fn text_of(path: &Path) -> Result<Option<String>, LookError> {
    let failed = |error| LookError::Read(path.to_owned(), error);
    match std::fs::symlink_metadata(path) {
        Ok(seen) if seen.is_file() => {
            let bytes = std::fs::read(path).map_err(failed)?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn mark(link: &Path) -> Result<Option<String>, LookError> {
    match std::fs::read_link(link) {
        Ok(mark) => Ok(Some(mark.to_string_lossy().into_owned())),
        // EINVAL: not a link, so no mark.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(None),
        Err(error) => Err(LookError::Read(link.to_owned(), error)),
    }
}
