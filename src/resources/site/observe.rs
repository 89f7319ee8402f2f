use super::*;
use crate::host::UnitState;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A look at a site's files that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error("cannot look at `{0}`")]
    Look(String, #[source] io::Error),
}

impl LookError {
    fn report(self) -> ErrorReport {
        ErrorReport::of("site.look", &self, None)
    }
}

/// Files in `sites-available` that begin with our first line, and links of ours in `sites-enabled`
/// that lead nowhere (they keep nginx from starting).
pub async fn list(host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    let host = host.clone();
    let listed = tokio::task::spawn_blocking(move || list_files(&host)).await;
    listed.expect("reading files does not panic").map_err(LookError::report)
}

/// One question to systemd for all: since when nginx runs.
pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let nginx = match host.units.states(&[UNIT.to_owned()].into()).await {
        Ok(mut states) => states.remove(UNIT).unwrap_or_default(),
        Err(error) => return names.iter().map(|name| (name.clone(), Err(error.report()))).collect(),
    };
    let (host, names) = (host.clone(), names.clone());
    let look = move || {
        let one = |name: &String| (name.clone(), look(&host, name, &nginx).map_err(LookError::report));
        names.iter().map(one).collect()
    };
    tokio::task::spawn_blocking(look).await.expect("reading files does not panic")
}

fn list_files(host: &Host) -> Result<BTreeSet<String>, LookError> {
    let mut names = BTreeSet::new();
    for directory in [AVAILABLE, ENABLED] {
        let cannot = |error| LookError::Look(directory.to_owned(), error);
        let entries = match fs::read_dir(host.path(directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(cannot)?,
        };
        for entry in entries {
            let file = entry.map_err(cannot)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_prefix("socle-")?.strip_suffix(".conf"));
            if let Some(name) = name
                && is_ours(host, name)?
            {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names)
}

fn is_ours(host: &Host, name: &str) -> Result<bool, LookError> {
    Ok(match text(host, name)? {
        Some(text) => ours(&text),
        None => enabled(host, name)?,
    })
}

fn look(host: &Host, name: &str, nginx: &UnitState) -> Result<Observed, LookError> {
    let paths = Paths::of(name);
    let text = text(host, name)?;
    let enabled = enabled(host, name)?;
    let cannot = |error| LookError::Look(paths.marker.clone(), error);
    let marker = match fs::read_link(host.path(&paths.marker)) {
        Ok(digest) => Some(digest.to_string_lossy().into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(cannot(error)),
    };
    let loaded = match &text {
        _ if !RUNNING.contains(&nginx.active.as_str()) => None,
        // A start reads all files: after a boot nothing has to be loaded again.
        Some(text) if enabled && changed_us(host, &paths)? < nginx.since_us => Some(Digest::of(text).to_string()),
        _ => marker,
    };
    Ok(Observed { text, enabled, loaded })
}

fn text(host: &Host, name: &str) -> Result<Option<String>, LookError> {
    let path = Paths::of(name).available;
    match fs::read(host.path(&path)) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LookError::Look(path, error)),
    }
}

/// Whether our link is there; an admin may have made it relative.
fn enabled(host: &Host, name: &str) -> Result<bool, LookError> {
    let paths = Paths::of(name);
    match fs::read_link(host.path(&paths.enabled)) {
        Ok(target) => {
            let relative = paths.available.replacen(AVAILABLE, "../sites-available", 1);
            Ok(target == Path::new(&paths.available) || target == Path::new(&relative))
        }
        // EINVAL: not a link.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(false),
        Err(error) => Err(LookError::Look(paths.enabled, error)),
    }
}

/// When the file or its link last changed in any way, Unix microseconds.
fn changed_us(host: &Host, paths: &Paths) -> Result<u64, LookError> {
    let mut last = 0;
    for path in [&paths.available, &paths.enabled] {
        let seen = fs::symlink_metadata(host.path(path)).map_err(|error| LookError::Look(path.clone(), error))?;
        let us = seen.ctime().saturating_mul(1_000_000).saturating_add(seen.ctime_nsec() / 1000);
        last = last.max(u64::try_from(us).unwrap_or_default());
    }
    Ok(last)
}
