//! What dpkg has recorded: its status file, or `dpkg-query` when a journal lies beside it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::PackageState;
use crate::host::process::{Command, ProcessError, run_ok};

/// What [`parse`] reads, in the form of the status file.
const FIELDS: &str = "Package: ${Package}\\nArchitecture: ${Architecture}\\nStatus: ${Status}\\n\
    Version: ${Version}\\nDepends: ${Depends}\\nPre-Depends: ${Pre-Depends}\\n\\n";

/// Everything dpkg knows about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dpkg {
    entries: Vec<Entry>,
    /// dpkg was interrupted, or is at work: its journal is not empty.
    pub journal: bool,
}

/// One stanza of the status file (deb-status, dpkg-query(1)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub architecture: String,
    pub want: String,
    pub flag: String,
    pub state: String,
    pub version: String,
    /// As written: packages with their versions and alternatives.
    depends: String,
    pre_depends: String,
}

#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("cannot read `{}`", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot ask dpkg for its packages")]
    Query(#[source] ProcessError),
    #[error("`{}` has no entry for dpkg itself", .0.display())]
    Incomplete(PathBuf),
}

impl Dpkg {
    /// Reads the status file, a millisecond's work. While dpkg's journal is not empty the file alone
    /// is not the truth and dpkg is asked instead. dpkg puts a new status file in place before it
    /// empties the journal, so an empty journal means the file is current.
    pub async fn read(root: &Path) -> Result<Self, StatusError> {
        let updates = root.join("var/lib/dpkg/updates");
        let journal = has_changes(&updates).map_err(|error| StatusError::Read(updates, error))?;
        let path = root.join("var/lib/dpkg/status");
        let entries = if journal {
            let ask = Command::new("dpkg-query")
                .arg(format!("--root={}", root.display()))
                .args(["--show", "--showformat"])
                .arg(FIELDS);
            parse(&run_ok(ask).await.map_err(StatusError::Query)?.stdout)
        } else {
            parse(&std::fs::read(&path).map_err(|error| StatusError::Read(path.clone(), error))?)
        };
        let dpkg = Self { entries, journal };
        // An empty or torn file must not look like a server without packages.
        if dpkg.native().is_none() { Err(StatusError::Incomplete(path)) } else { Ok(dpkg) }
    }

    /// The server's own architecture: that of dpkg.
    fn native(&self) -> Option<&str> {
        self.entries.iter().find(|entry| entry.name == "dpkg").map(|entry| entry.architecture.as_str())
    }

    /// The entry of a package in the server's architecture.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        let native = self.native()?;
        self.entries
            .iter()
            .filter(|entry| entry.name == name && (entry.architecture == native || entry.architecture == "all"))
            // Both can be there when a package changed from one to the other.
            .max_by_key(|entry| entry.state == "installed")
    }

    /// Its state if dpkg has it in some form; `None`: not there, its configuration at most. A package
    /// is not in order while one it needs is not: a kill while triggers are processed leaves a
    /// package half-configured under others that look complete.
    pub fn state(&self, name: &str) -> Option<PackageState> {
        let state = self.entry(name)?.package_state()?;
        if !self.interrupted() || !matches!(state, PackageState::Installed { .. }) {
            return Some(state);
        }
        let broken = self.needed_by(name).find_map(|needed| match needed.package_state() {
            Some(PackageState::Broken { state }) => Some(format!("needs `{}`, which is {state}", needed.name)),
            _ => None,
        });
        Some(broken.map_or(state, |state| PackageState::Broken { state }))
    }

    /// Everything the package needs that dpkg knows, directly or not; of alternatives, all. Only asked
    /// when something is in disorder, so it may take a while.
    fn needed_by(&self, name: &str) -> impl Iterator<Item = &Entry> {
        let mut seen = BTreeSet::from([name.to_owned()]);
        let mut ahead: Vec<_> = self.entry(name).into_iter().collect();
        std::iter::from_fn(move || {
            let entry = ahead.pop()?;
            for needed in entry.needs() {
                if seen.insert(needed.to_owned()) {
                    ahead.extend(self.entry(needed));
                }
            }
            Some(entry)
        })
    }

    /// Packages whose files are in disorder: only unpacking them again helps.
    pub fn half_unpacked(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.half_unpacked())
    }

    /// Those of them that are among these, or are needed by one. apt tries to configure such a package, which dpkg
    /// refuses, unless it is told to install it again.
    pub fn to_reinstall(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let involved = names.iter().flat_map(|name| self.needed_by(name));
        involved.filter(|entry| entry.half_unpacked() && !entry.held()).map(|entry| entry.name.clone()).collect()
    }

    /// Packages that are unpacked but not ready.
    pub fn unconfigured(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| {
            matches!(entry.state.as_str(), "unpacked" | "half-configured" | "triggers-awaited" | "triggers-pending")
        })
    }

    pub fn held(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.held())
    }

    /// Something is left from an interruption.
    pub fn interrupted(&self) -> bool {
        self.journal || self.half_unpacked().next().is_some() || self.unconfigured().next().is_some()
    }
}

impl Entry {
    pub fn held(&self) -> bool {
        self.want == "hold"
    }

    fn half_unpacked(&self) -> bool {
        self.flag == "reinstreq" || self.state == "half-installed"
    }

    fn needs(&self) -> impl Iterator<Item = &str> {
        let end = |c: char| c.is_whitespace() || c == ':' || c == '(';
        [&self.pre_depends, &self.depends]
            .into_iter()
            .flat_map(|field| field.split([',', '|']))
            .filter_map(move |one| one.trim_start().split(end).next())
            .filter(|name| !name.is_empty())
    }

    fn package_state(&self) -> Option<PackageState> {
        match (self.flag.as_str(), self.state.as_str()) {
            (_, "not-installed" | "config-files") => None,
            ("ok", "installed") => Some(PackageState::Installed { version: self.version.clone() }),
            ("ok", state) => Some(PackageState::Broken { state: state.to_owned() }),
            (flag, state) => Some(PackageState::Broken { state: format!("{state}, {flag}") }),
        }
    }
}

/// Whether dpkg's journal holds changes. Its files are numbered; what else lies there (`tmp.i`) is a
/// change that did not happen.
fn has_changes(directory: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        if entry?.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A few fields of each stanza. A line that goes on begins with a blank, so a field begins a line.
fn parse(text: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(1024);
    let mut entry = Entry::default();
    for line in text.split(|b| *b == b'\n') {
        match line.first() {
            None if !entry.name.is_empty() => entries.push(std::mem::take(&mut entry)),
            None => entry = Entry::default(),
            Some(b'P') => {
                set(&mut entry.name, line, "Package: ");
                set(&mut entry.pre_depends, line, "Pre-Depends: ");
            }
            Some(b'D') => set(&mut entry.depends, line, "Depends: "),
            Some(b'A') => set(&mut entry.architecture, line, "Architecture: "),
            Some(b'V') => set(&mut entry.version, line, "Version: "),
            Some(b'S') => set_status(&mut entry, line),
            Some(_) => {}
        }
    }
    if !entry.name.is_empty() {
        entries.push(entry);
    }
    entries
}

fn set(field: &mut String, line: &[u8], name: &str) {
    if let Some(value) = line.strip_prefix(name.as_bytes()) {
        *field = String::from_utf8_lossy(value).trim().to_owned();
    }
}

fn set_status(entry: &mut Entry, line: &[u8]) {
    let mut status = String::new();
    set(&mut status, line, "Status: ");
    let mut words = status.split(' ');
    if let (Some(want), Some(flag), Some(state)) = (words.next(), words.next(), words.next()) {
        (entry.want, entry.flag, entry.state) = (want.to_owned(), flag.to_owned(), state.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Package: dpkg
Essential: yes
Status: install ok installed
Architecture: amd64
Version: 1.22.22
Description: tool
 Package: not-a-package
 .

Package: nginx-light
Status: hold reinstreq half-installed
Architecture: all
Version: 1.26

Package: libc6
Status: install ok installed
Architecture: i386
Version: 1

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2

Package: wine32
Status: install ok installed
Architecture: i386
Version: 1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: php
Status: install ok triggers-pending
Architecture: all
Version: 8
";

    fn dpkg() -> Dpkg {
        Dpkg { entries: parse(STATUS.as_bytes()), journal: false }
    }

    #[test]
    fn states_are_those_of_the_native_architecture() {
        let dpkg = dpkg();
        assert_eq!(dpkg.entries.len(), 7);
        assert_eq!(dpkg.state("dpkg"), Some(PackageState::Installed { version: "1.22.22".into() }));
        assert_eq!(dpkg.state("libc6"), Some(PackageState::Installed { version: "2".into() }));
        for absent in ["wine32", "gone", "not-a-package", "never-heard-of"] {
            assert_eq!(dpkg.state(absent), None, "{absent}");
        }
        assert_eq!(dpkg.state("nginx-light"), Some(PackageState::Broken { state: "half-installed, reinstreq".into() }));
        assert_eq!(dpkg.state("php"), Some(PackageState::Broken { state: "triggers-pending".into() }));
        assert!(dpkg.entry("nginx-light").unwrap().held() && dpkg.interrupted());
    }

    #[test]
    fn what_is_to_be_unpacked_again_is_what_is_asked_for_or_needed_by_it() {
        let stanza = |name: &str, status: &str, depends: &str| {
            format!("Package: {name}\nStatus: {status}\nArchitecture: all\nVersion: 1\n{depends}\n")
        };
        let text = [
            stanza("dpkg", "install ok installed", ""),
            stanza("light", "install reinstreq unpacked", "Depends: server, held, good\n"),
            stanza("server", "install reinstreq half-configured", ""),
            stanza("good", "install ok half-configured", ""),
            stanza("held", "hold reinstreq half-installed", ""),
            stanza("other", "install reinstreq half-installed", ""),
        ];
        let dpkg = Dpkg { entries: parse(text.concat().as_bytes()), journal: false };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(dpkg.to_reinstall(&names(&["light", "absent"])), names(&["light", "server"]));
        assert_eq!(dpkg.to_reinstall(&names(&["good"])), names(&[]));
    }

    #[test]
    fn a_package_whose_needs_are_in_disorder_is_too() {
        let stanza = |name: &str, state: &str, depends: &str| {
            format!("Package: {name}\nStatus: install ok {state}\nArchitecture: all\nVersion: 1\n{depends}\n")
        };
        let text = [
            stanza("dpkg", "installed", ""),
            stanza("light", "installed", "Depends: server (>= 1) | other, libc6:any (>= 2)\n"),
            stanza("server", "installed", "Pre-Depends: common, light\n"),
            stanza("common", "half-configured", ""),
            stanza("apart", "installed", "Depends: dpkg\n"),
        ];
        let dpkg = Dpkg { entries: parse(text.concat().as_bytes()), journal: false };
        let broken = Some(PackageState::Broken { state: "needs `common`, which is half-configured".into() });
        assert_eq!(dpkg.state("light"), broken);
        assert_eq!(dpkg.state("server"), broken);
        assert!(matches!(dpkg.state("apart"), Some(PackageState::Installed { .. })));
    }

    #[tokio::test]
    async fn a_torn_status_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("var/lib/dpkg");
        std::fs::create_dir_all(at.join("updates")).unwrap();
        assert!(matches!(Dpkg::read(dir.path()).await, Err(StatusError::Read(..))));
        std::fs::write(at.join("status"), "").unwrap();
        assert!(matches!(Dpkg::read(dir.path()).await, Err(StatusError::Incomplete(_))));
        std::fs::write(at.join("status"), STATUS).unwrap();
        assert!(!Dpkg::read(dir.path()).await.unwrap().journal);
    }

    #[tokio::test]
    async fn a_journal_is_read_through_dpkg() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("var/lib/dpkg");
        std::fs::create_dir_all(at.join("updates")).unwrap();
        std::fs::write(at.join("status"), "Package: dpkg\nStatus: install ok installed\nMaintainer: a\nArchitecture: amd64\nVersion: 1\nDescription: d\n").unwrap();
        let update = "Package: late\nStatus: install ok unpacked\nMaintainer: a\nArchitecture: amd64\nVersion: 1\nDescription: d\n";
        std::fs::write(at.join("updates/0000"), update).unwrap();
        let dpkg = Dpkg::read(dir.path()).await.unwrap();
        assert!(dpkg.journal);
        assert_eq!(dpkg.state("late"), Some(PackageState::Broken { state: "unpacked".into() }));
    }

    #[test]
    fn a_large_status_file_takes_little() {
        let mut text = STATUS.to_owned();
        while text.len() < 1 << 20 {
            text.push_str("\nPackage: filler\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDescription: x\n some words that make up the rest of a stanza of the usual size here\n");
        }
        let began = std::time::Instant::now();
        assert!(parse(text.as_bytes()).len() > 1000);
        // A debug build on a busy machine; a release build takes about a millisecond.
        assert!(began.elapsed() < std::time::Duration::from_millis(300), "{:?}", began.elapsed());
    }
}
