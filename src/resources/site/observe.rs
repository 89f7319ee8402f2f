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
    #[error(transparent)]
    Certificate(#[from] StoreError),
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

/// One question to systemd for all: whether nginx runs, and since when if that matters.
pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let (on_disk, asked) = (host.clone(), names.clone());
    let look = move || asked.iter().map(|name| (name.clone(), OnDisk::look(&on_disk, name))).collect::<Vec<_>>();
    let sites = tokio::task::spawn_blocking(look).await.expect("reading files does not panic");
    let unmarked = sites.iter().any(|(_, site)| site.as_ref().is_ok_and(OnDisk::is_unmarked));
    let unit = BTreeSet::from([UNIT.to_owned()]);
    let nginx = if unmarked { host.units.details(&unit).await } else { host.units.states(&unit).await };
    let nginx = match nginx {
        Ok(mut states) => states.remove(UNIT).unwrap_or_default(),
        Err(error) => return names.iter().map(|name| (name.clone(), Err(error.report()))).collect(),
    };
    let seen = |site: OnDisk| site.seen_by(&nginx);
    sites.into_iter().map(|(name, site)| (name, site.map(seen).map_err(LookError::report))).collect()
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

/// The files of one site.
struct OnDisk {
    text: Option<String>,
    enabled: bool,
    marker: Option<String>,
    certificate: Option<u64>,
    /// When the file, its link or its certificate last changed in any way, Unix microseconds.
    changed_us: u64,
}

impl OnDisk {
    fn look(host: &Host, name: &str) -> Result<Self, LookError> {
        let paths = Paths::of(name);
        let marker = match fs::read_link(host.path(&paths.marker)) {
            Ok(digest) => Some(digest.to_string_lossy().into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(LookError::Look(paths.marker, error)),
        };
        let (text, enabled) = (text(host, name)?, enabled(host, name)?);
        let changed_us = if text.is_some() && enabled { changed_us(host, &paths, name)? } else { 0 };
        Ok(Self { text, enabled, marker, certificate: certificate_of(host, name)?, changed_us })
    }

    /// Whether only the time of nginx's start tells if it has loaded this.
    fn is_unmarked(&self) -> bool {
        let mark = self.text.as_ref().map(|text| mark_of(&Digest::of(text), self.certificate));
        self.enabled && mark.is_some() && mark != self.marker
    }

    fn seen_by(self, nginx: &UnitState) -> Observed {
        // A start reads all files: after a boot nothing has to be loaded again.
        let started_with_it = self.is_unmarked() && self.changed_us < nginx.since_us;
        let loaded = match &self.text {
            _ if !RUNNING.contains(&nginx.active.as_str()) => None,
            Some(text) if started_with_it => Some(mark_of(&Digest::of(text), self.certificate)),
            _ => self.marker,
        };
        Observed { text: self.text, enabled: self.enabled, loaded, certificate: self.certificate }
    }
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

/// When the file, its link or its certificate last changed in any way, Unix microseconds.
fn changed_us(host: &Host, paths: &Paths, name: &str) -> Result<u64, LookError> {
    let mut last = 0;
    for path in [&paths.available, &paths.enabled, &certificate::current(name)] {
        let seen = match fs::symlink_metadata(host.path(path)) {
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LookError::Look(path.clone(), error)),
        };
        let us = seen.ctime().saturating_mul(1_000_000).saturating_add(seen.ctime_nsec() / 1000);
        last = last.max(u64::try_from(us).unwrap_or_default());
    }
    Ok(last)
}
