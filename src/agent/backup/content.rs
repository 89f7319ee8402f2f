//! What is saved of an instance: everything that a blank server needs to serve it again.
//!
//! ```text
//! /manifest.json                what this is, and of which release
//! /document.toml                the whole document of the server
//! /secrets/NAME                 what was made up on the server
//! /databases/ENGINE-NAME.sql    dumps, written while they are taken
//! /rows.json, /sizes.json       how many rows each table of them has; how long each of them is
//! /data, /config                the instance's own directories
//! /besides/PATH                 others that its recipe declares
//! /recipes                      the association's own recipes, of the whole server
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::host::vault::{Entry, Source};
use crate::model::backup::TAG;
use crate::model::document::{Engine, Instance};
use crate::model::{Digest, Name, Secret};
use crate::recipe::secret;
use crate::resources::release::ReleaseId;

/// The only form of a manifest so far.
pub const FORM: u32 = 1;
pub const MANIFEST: &str = "/manifest.json";
pub const DOCUMENT: &str = "/document.toml";
pub const SECRETS: &str = "/secrets";
pub const RECIPES: &str = "/recipes";
/// Where the association's own recipes are on a server.
pub const OWN_RECIPES: &str = "/etc/socle/recipes";
/// Read after the dumps, whose rows it tells: entries are read in the order of their paths.
pub const ROWS: &str = "/rows.json";
/// The same.
pub const SIZES: &str = "/sizes.json";
/// What its recipe makes of an instance.
pub const CONFIG: &str = "config";

/// Where a directory of the instance's home stands in a snapshot: before the dumps, as every tree does whose writers
/// stand still while it is read.
pub fn place_of(directory: &str) -> PathBuf {
    match directory {
        "data" | CONFIG => format!("/{directory}").into(),
        other => format!("/besides/{other}").into(),
    }
}

/// The same as one name, for where several stand side by side; no recipe writes a `+`.
pub fn flat(directory: &str) -> String {
    directory.replace('/', "+")
}

pub fn home(instance: &Name) -> PathBuf {
    format!("/srv/socle/{instance}").into()
}

/// What finds the snapshots of an instance.
pub fn tags(instance: &Name) -> Vec<String> {
    vec![TAG.to_owned(), tag(instance)]
}

pub fn tag(instance: &Name) -> String {
    format!("instance:{instance}")
}

/// Of what is read ahead of a backup: no snapshot of the instance.
pub fn unfinished(instance: &Name) -> Vec<String> {
    vec![TAG.to_owned(), format!("{UNFINISHED}{instance}")]
}

pub fn is_unfinished(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag.starts_with(UNFINISHED))
}

const UNFINISHED: &str = "unfinished:";

/// The instance that a snapshot is of, by its tags.
pub fn instance_of(tags: &[String]) -> Option<Name> {
    tags.iter().find_map(|tag| tag.strip_prefix("instance:")?.parse().ok())
}

/// What somebody gave it besides, when it was made.
pub fn given(tags: &[String]) -> Vec<&str> {
    tags.iter().map(String::as_str).filter(|tag| *tag != TAG && !tag.contains(':')).collect()
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub form: u32,
    pub server: String,
    pub instance: Name,
    /// As it was wanted, and good.
    pub wanted: Instance,
    /// Whose data it is.
    pub release: ReleaseId,
    pub at: Timestamp,
    pub databases: Vec<(Engine, String)>,
    /// Directories of its home that were there to be saved.
    #[serde(default = "as_it_was_once")]
    pub directories: Vec<String>,
    /// What URLs without a digest gave first: they must give the same on another server.
    #[serde(default)]
    pub seen: BTreeMap<String, Digest>,
}

/// Before recipes could declare others.
fn as_it_was_once() -> Vec<String> {
    ["data", CONFIG].map(str::to_owned).into()
}

/// Where a dump stands in the snapshot.
pub fn dump_path(engine: Engine, database: &str) -> PathBuf {
    format!("/databases/{}-{database}.sql", engine.as_str()).into()
}

/// Everything but the databases, which are read while they are dumped. `files`: where each of its directories is read.
pub fn entries(host: &Host, manifest: &Manifest, document: &str, files: &Files) -> Vec<Entry> {
    let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
    let bytes = |path: &str, text: String| Entry { path: path.into(), from: Source::Bytes(Secret::new(text)) };
    let mut entries = vec![bytes(MANIFEST, text), bytes(DOCUMENT, document.to_owned())];
    entries.extend(tree(SECRETS.into(), host.path(format!("{}/{}", secret::DIRECTORY, manifest.instance))));
    entries.extend(tree(RECIPES.into(), host.path(OWN_RECIPES)));
    entries.extend(trees(files));
    entries
}

/// Directories of an instance, relative to its home, and where they are read.
pub type Files = Vec<(String, PathBuf)>;

pub fn trees(files: &Files) -> impl Iterator<Item = Entry> {
    let tree = |(directory, from): &(String, PathBuf)| Entry {
        path: place_of(directory),
        from: Source::Tree { from: from.clone(), except: Vec::new() },
    };
    files.iter().map(tree)
}

/// Those that are there, where they are.
pub fn files(host: &Host, name: &Name, directories: &[String]) -> Files {
    let all = directories.iter().map(|directory| (directory.clone(), host.path(home(name).join(directory))));
    all.filter(|(_, path)| !absent(path)).collect()
}

/// What cannot be looked at is no absent one: it is read, and the backup fails by it.
fn absent(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

fn tree(path: String, from: PathBuf) -> Option<Entry> {
    (!absent(&from)).then(|| Entry { path: path.into(), from: Source::Tree { from, except: Vec::new() } })
}

/// The place of a staged directory beside what it replaces.
pub fn staged(home: &Path, directory: &str) -> PathBuf {
    home.join("restoring").join(flat(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_cannot_be_looked_at_is_not_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(tree("/data".to_owned(), file.path().join("inside-a-file")).is_some());
        assert!(tree("/data".to_owned(), file.path().with_extension("absent")).is_none());
    }

    /// What is read behind the first dump is read when the instance runs again.
    #[test]
    fn every_directory_stands_before_the_dumps() {
        let dump = dump_path(Engine::Mariadb, "blog");
        for directory in ["data", "config", "uploads", "zoo", "a/deep/one"] {
            assert!(place_of(directory) < dump, "{directory}");
        }
        assert_ne!(flat("a/b"), flat("a-b"));
    }

    #[test]
    fn a_manifest_of_before_tells_what_was_saved_then() {
        let text = "schema = 1\n[instances.blog]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"a.example.org\"\n";
        let wanted = crate::model::document::parse("a.toml", text).unwrap().instances.into_values().next().unwrap();
        let told = serde_json::json!({
            "form": 1, "server": "s", "instance": "blog", "at": "2026-01-01T00:00:00Z", "databases": [], "release": "1-0",
            "wanted": wanted,
        });
        let manifest: Manifest = serde_json::from_value(told).unwrap();
        assert_eq!(manifest.directories, ["data", "config"]);
    }

    #[test]
    fn tags_lead_back_to_the_instance() {
        let name: Name = "blog".parse().unwrap();
        assert_eq!(instance_of(&tags(&name)), Some(name));
        let name: Name = "blog".parse().unwrap();
        assert_eq!(instance_of(&unfinished(&name)), None, "nobody restores half of it");
        assert!(is_unfinished(&unfinished(&name)) && !is_unfinished(&tags(&name)));
        let all = [&tags(&name)[..], &["before-the-move".to_owned()]].concat();
        assert_eq!((instance_of(&all), given(&all)), (Some(name), vec!["before-the-move"]));
        assert_eq!(instance_of(&["other".to_owned(), "instance:No".to_owned()]), None);
    }
}
