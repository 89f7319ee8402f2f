//! What lies on the server's disk: directories, files, secrets, databases.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::model::Name;
use crate::model::document::Engine;
use crate::recipe::secret::Alphabet;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layout {
    pub directory: Vec<Directory>,
    pub link: Vec<Link>,
}

impl Layout {
    /// Directories beside `data` and `config` in which an application keeps something. None is in another.
    pub fn besides(&self) -> Vec<&str> {
        let all: Vec<&str> = self.directory.iter().map(|directory| directory.path.as_str()).collect();
        let covered = |path: &str| {
            let known = ["data", "config"];
            known.contains(&path) || known.iter().chain(&all).any(|above| is_below(path, above))
        };
        let mut besides: Vec<&str> = all.iter().copied().filter(|path| !covered(path)).collect();
        besides.sort_unstable();
        besides.dedup();
        besides
    }
}

/// Whether a relative path is in another one.
pub fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// What stands in an instance's home and is made by us, or is of no worth: in no backup, and no place for data.
pub const OURS: [&str; 9] =
    ["releases", "current", "recipe", "sessions", "kept", "set-aside", "restoring", "replaced", "saving"];

/// A directory of the instance, besides `releases`, `data`, `config` and `recipe`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    pub path: String,
    #[serde(default)]
    pub owner: Owner,
    #[serde(default = "mode_directory")]
    pub mode: Mode,
}

fn mode_directory() -> Mode {
    Mode(0o750)
}

/// `path` of a release is a link to `target` of the instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub path: String,
    pub target: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The instance's own user.
    #[default]
    App,
    /// root; the instance's group may read what the mode lets it.
    Root,
}

/// Permission bits, written in octal: `"0640"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

impl TryFrom<String> for Mode {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| (3..=4).contains(&text.len()) && *bits <= 0o777);
        match bits {
            Some(bits) if bits & 0o002 == 0 => Ok(Self(bits)),
            Some(_) => Err(format!("`{text}` lets everybody write")),
            None => Err(format!("`{text}` is not a mode like `0640`")),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Db {
    pub engine: Engine,
    #[serde(default)]
    pub extensions: BTreeSet<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub template: String,
    /// Below the instance's directory.
    pub dest: String,
    #[serde(default)]
    pub owner: Owner,
    #[serde(default = "mode_file")]
    pub mode: Mode,
    #[serde(default)]
    pub write: Write,
}

fn mode_file() -> Mode {
    Mode(0o400)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    #[default]
    Always,
    Once,
}

/// A value that is made up once, on the server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    pub name: Name,
    #[serde(default)]
    pub kind: Alphabet,
    /// Characters of the result.
    #[serde(default = "sixty_four")]
    pub length: usize,
}

fn sixty_four() -> usize {
    64
}
