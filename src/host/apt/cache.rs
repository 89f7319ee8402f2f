//! What apt could install: its lists, how old they are, candidates, and names near a wrong one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::host::PackageState;
use crate::host::process::{Command, ProcessError, run, run_ok};
use crate::model::problem::did_you_mean;

/// Lists older than this are read again before something is installed. Debian's own timer reads them
/// daily.
const STALE: Duration = Duration::from_secs(26 * 3600);

/// Touched after each reading of ours: apt changes no file when the archive has nothing new.
pub const STAMP: &str = "run/socle/apt-lists-read";

/// How much apt knows of its archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    Missing,
    Stale,
    Fresh,
}

/// How old apt's lists are at `now`. With an empty one among them they are not fresh.
pub fn lists(root: &Path, now: SystemTime) -> io::Result<Lists> {
    let (mut newest, mut empty) = (None, false);
    for (_, list) in files(root)? {
        // Not the modification time: apt sets it to what the archive says.
        let changed = u64::try_from(list.ctime()).unwrap_or_default();
        newest = newest.max(Some(UNIX_EPOCH + Duration::from_secs(changed)));
        empty |= list.len() == 0;
    }
    if newest.is_none() {
        return Ok(Lists::Missing);
    }
    if empty {
        return Ok(Lists::Stale);
    }
    for stamp in [STAMP, "var/lib/apt/periodic/update-success-stamp"] {
        if let Some(stamp) = or_none(std::fs::metadata(root.join(stamp)))? {
            newest = newest.max(Some(stamp.modified()?));
        }
    }
    // A clock that went back makes them look new; the next failed download reads them anyway.
    let age = newest.and_then(|newest| now.duration_since(newest).ok()).unwrap_or_default();
    Ok(if age > STALE { Lists::Stale } else { Lists::Fresh })
}

/// The lists of packages.
fn files(root: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let entries = or_none(std::fs::read_dir(root.join("var/lib/apt/lists")))?;
    let mut lists = Vec::new();
    for entry in entries.into_iter().flatten() {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().windows(9).any(|part| part == b"_Packages") {
            lists.push((entry.path(), entry.metadata()?));
        }
    }
    Ok(lists)
}

/// apt does not force its lists to the disk: a power cut leaves empty files, and of those apt believes
/// that they are what was downloaded, as long as the archive has nothing newer. An archive that is really
/// empty is read again each time, which costs nothing.
pub fn remove_empty_lists(root: &Path) -> io::Result<()> {
    files(root)?.into_iter().filter(|(_, list)| list.len() == 0).try_for_each(|(path, _)| std::fs::remove_file(path))
}

fn or_none<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The states of packages that are not installed, in one question to apt.
pub async fn candidates(names: &BTreeSet<String>) -> Result<BTreeMap<String, PackageState>, ProcessError> {
    let asked = Command::new("apt-cache").args(["policy", "--"]).args(names.iter().cloned());
    let policy = parse_policy(&String::from_utf8_lossy(&run_ok(asked).await?.stdout));
    let mut states = BTreeMap::new();
    for name in names {
        let state = match policy.get(name) {
            Some(Some(candidate)) => PackageState::Absent { candidate: candidate.clone() },
            Some(None) => PackageState::Unknown { hint: no_candidate(name).await? },
            None => PackageState::Unknown { hint: near(name).await? },
        };
        states.insert(name.clone(), state);
    }
    Ok(states)
}

/// The candidates by package; `None`: the name is known but nothing can be installed by it. Names apt
/// does not know are not there.
fn parse_policy(text: &str) -> BTreeMap<String, Option<String>> {
    let mut policy = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        if let Some(package) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            name = Some(package);
        } else if let (Some(name), Some(candidate)) = (name, line.trim_start().strip_prefix("Candidate: ")) {
            policy.insert(name.to_owned(), (candidate != "(none)").then(|| candidate.to_owned()));
        }
    }
    policy
}

/// A name without a candidate is provided by other packages, or pinned away.
async fn no_candidate(name: &str) -> Result<Option<String>, ProcessError> {
    let shown = run(Command::new("apt-cache").args(["showpkg", "--", name])).await?;
    let providers = parse_providers(&String::from_utf8_lossy(&shown.stdout));
    Ok(Some(if providers.is_empty() {
        format!("no archive offers it or a pin forbids it: see `apt-cache policy {name}`")
    } else {
        let some: Vec<_> = providers.iter().take(8).map(|provider| format!("`{provider}`")).collect();
        format!("`{name}` is no package by itself; choose one that provides it: {}", some.join(", "))
    }))
}

fn parse_providers(text: &str) -> BTreeSet<String> {
    text.lines()
        .skip_while(|line| !line.starts_with("Reverse Provides:"))
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

async fn near(name: &str) -> Result<Option<String>, ProcessError> {
    let known = run_ok(Command::new("apt-cache").arg("pkgnames")).await?;
    let known = String::from_utf8_lossy(&known.stdout);
    // Distances to all of 60,000 names would take a second.
    let first = name.get(..1).unwrap_or_default();
    let candidates = known.lines().filter(|other| other.starts_with(first) && other.len().abs_diff(name.len()) <= 3);
    Ok(did_you_mean(name, candidates).map(|other| format!("did you mean `{other}`?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read() {
        let policy = parse_policy(
            "nginx-light:\n  Installed: (none)\n  Candidate: 1.26\n  Version table:\n     1.26 500\n        500 http://mirror.example.org/debian trixie/main amd64 Packages\nmail-transport-agent:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n",
        );
        assert_eq!(policy["nginx-light"], Some("1.26".to_owned()));
        assert_eq!(policy["mail-transport-agent"], None);
        assert_eq!(policy.len(), 2);
    }

    #[test]
    fn providers_are_read() {
        let text = "Package: m-t-a\nVersions: \n\nReverse Depends: \n  x,m-t-a\nDependencies: \nProvides: \nReverse Provides: \npostfix 3.10 (= )\nexim4-daemon-light 4.98 (= )\n";
        assert_eq!(parse_providers(text).into_iter().collect::<Vec<_>>(), ["exim4-daemon-light", "postfix"]);
    }

    #[test]
    fn lists_age() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        assert_eq!(lists(dir.path(), now).unwrap(), Lists::Missing);
        let at = dir.path().join("var/lib/apt/lists");
        std::fs::create_dir_all(at.join("partial")).unwrap();
        assert_eq!(lists(dir.path(), now).unwrap(), Lists::Missing);
        std::fs::write(at.join("deb_dists_trixie_main_binary-amd64_Packages.lz4"), "Package: a").unwrap();
        assert_eq!(lists(dir.path(), now).unwrap(), Lists::Fresh);
        assert_eq!(lists(dir.path(), now + Duration::from_secs(48 * 3600)).unwrap(), Lists::Stale);
        // As a power cut leaves it.
        std::fs::write(at.join("ours_dists_stable_main_binary-amd64_Packages"), "").unwrap();
        assert_eq!(lists(dir.path(), now).unwrap(), Lists::Stale);
        remove_empty_lists(dir.path()).unwrap();
        assert_eq!(lists(dir.path(), now).unwrap(), Lists::Fresh);
    }
}
