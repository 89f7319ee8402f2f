//! What the disk tells of units of ours, so that systemd need not be asked: whether they start at boot, and
//! when their files were last written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::unit::HEADER;

const ETC: &str = "/etc/systemd/system";
/// Where drop-ins of an admin are: edited, for this boot, and by `systemctl set-property`.
const DROP_INS: &[&str] = &[ETC, "/run/systemd/system", "/etc/systemd/system.control", "/run/systemd/system.control"];

/// About units of ours only: others may have their files in many places.
#[derive(Default)]
pub(super) struct Links {
    units: BTreeMap<String, OnDisk>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OnDisk {
    /// `enabled`, `disabled` or `static`.
    pub enabled: &'static str,
    /// When its file or a drop-in was last written, Unix microseconds.
    pub written_us: u64,
}

impl Links {
    pub fn read(names: &BTreeSet<String>) -> io::Result<Self> {
        Self::below(Path::new("/"), names)
    }

    fn below(root: &Path, names: &BTreeSet<String>) -> io::Result<Self> {
        let etc = root.join(ETC.trim_start_matches('/'));
        let mut units = BTreeMap::new();
        for name in names {
            if let Some((text, written_us)) = our_text(&etc.join(name))? {
                let installable = text.lines().any(|line| line == "[Install]");
                let enabled = if installable { "disabled" } else { "static" };
                units.insert(name.clone(), OnDisk { enabled, written_us });
            }
        }
        if !units.is_empty() {
            for name in linked(&etc)? {
                if let Some(unit) = units.get_mut(&name) {
                    unit.enabled = "enabled";
                }
            }
            let drop_ins = drop_in_directories(root)?;
            for (name, unit) in &mut units {
                for directory in drop_in_names(name).iter().filter_map(|name| drop_ins.get(name)).flatten() {
                    unit.written_us = unit.written_us.max(newest_in(directory)?);
                }
            }
        }
        Ok(Self { units })
    }

    pub fn get(&self, name: &str) -> Option<OnDisk> {
        self.units.get(name).copied()
    }
}

/// The directories of drop-ins there are, by name.
fn drop_in_directories(root: &Path) -> io::Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut directories: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for parent in DROP_INS {
        let entries = match std::fs::read_dir(root.join(parent.trim_start_matches('/'))) {
            Ok(entries) => entries,
            Err(error) if absent(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".d") {
                directories.entry(name).or_default().push(entry.path());
            }
        }
    }
    Ok(directories)
}

/// systemd.unit(5): `a-b.service` has drop-ins in `a-b.service.d`, `a-.service.d` and `service.d`.
fn drop_in_names(unit: &str) -> Vec<String> {
    let Some((stem, suffix)) = unit.rsplit_once('.') else { return Vec::new() };
    let prefixes = stem.match_indices('-').map(|(at, _)| format!("{}.{suffix}.d", &stem[..=at]));
    prefixes.chain([format!("{unit}.d"), format!("{suffix}.d")]).collect()
}

/// The directory counts too: its time changes when a drop-in is removed.
fn newest_in(directory: &Path) -> io::Result<u64> {
    let mut newest = match std::fs::metadata(directory) {
        Ok(seen) => written(&seen),
        Err(error) if absent(&error) => return Ok(0),
        Err(error) => return Err(error),
    };
    for entry in std::fs::read_dir(directory)? {
        newest = newest.max(written(&entry?.metadata()?));
    }
    Ok(newest)
}

fn written(seen: &std::fs::Metadata) -> u64 {
    u64::try_from(seen.mtime() * 1_000_000 + seen.mtime_nsec() / 1000).unwrap_or(0)
}

/// The text of a regular file that begins with our first line, and when it was written.
fn our_text(path: &Path) -> io::Result<Option<(String, u64)>> {
    let seen = match std::fs::symlink_metadata(path) {
        Ok(seen) if seen.is_file() => seen,
        Ok(_) => return Ok(None),
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    // A unit is a few KiB; systemd itself stops at 1 MiB a line.
    std::fs::File::open(path)?.take(1 << 20).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.starts_with(HEADER).then(|| (text.into_owned(), written(&seen))))
}

/// Names linked in a `.wants` or `.requires` directory: what enabling makes.
fn linked(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.ends_with(".wants") || name.ends_with(".requires")) || !entry.file_type()?.is_dir() {
            continue;
        }
        for link in std::fs::read_dir(entry.path())? {
            names.insert(link?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// A name that is too long or no name at all is not there.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_ours_only() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc/systemd/system");
        std::fs::create_dir_all(&etc).unwrap();
        let write = |name: &str, text: &str| std::fs::write(etc.join(name), text).unwrap();
        let ours = |rest: &str| format!("{HEADER}[Service]\nExecStart=/x\n{rest}");
        write("socle-on.service", &ours("[Install]\nWantedBy=multi-user.target\n"));
        write("socle-off.service", &ours("[Install]\nWantedBy=multi-user.target\n"));
        write("socle-static.service", &ours(""));
        write("other.service", "[Install]\nWantedBy=multi-user.target\n");
        std::os::unix::fs::symlink("/dev/null", etc.join("masked.service")).unwrap();
        let wants = etc.join("multi-user.target.wants");
        std::fs::create_dir(&wants).unwrap();
        for name in ["socle-on.service", "other.service"] {
            std::os::unix::fs::symlink(format!("/etc/systemd/system/{name}"), wants.join(name)).unwrap();
        }
        let names = ["socle-on", "socle-off", "socle-static", "other", "masked", "gone"];
        let names = names.map(|name| format!("{name}.service"));
        let links = Links::below(root.path(), &names.clone().into()).unwrap();
        let words = names.map(|name| links.get(&name).map(|unit| unit.enabled));
        assert_eq!(words, [Some("enabled"), Some("disabled"), Some("static"), None, None, None]);
    }

    #[test]
    fn a_drop_in_is_a_later_writing() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc/systemd/system");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1000);
        std::fs::create_dir_all(etc.join("socle-.service.d")).unwrap();
        for name in ["socle-a-b.service", "socle-a.timer"] {
            std::fs::write(etc.join(name), HEADER).unwrap();
        }
        let read =
            |name: &str| Links::below(root.path(), &[name.to_owned()].into()).unwrap().get(name).unwrap().written_us;
        let before = (read("socle-a-b.service"), read("socle-a.timer"));
        let drop_in = std::fs::File::create(etc.join("socle-.service.d/x.conf")).unwrap();
        drop_in.set_modified(later).unwrap();
        assert!(read("socle-a-b.service") > before.0);
        assert_eq!(read("socle-a.timer"), before.1);
        let expected = ["socle-.service.d", "socle-a-.service.d", "socle-a-b.service.d", "service.d"];
        assert_eq!(drop_in_names("socle-a-b.service"), expected);
    }
}
