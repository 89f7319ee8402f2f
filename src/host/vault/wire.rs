//! What parent and child say to one another: one line of JSON each, over the socket that is the child's standard
//! input. The descriptors a request speaks of go with its first byte.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::Failure;
use super::{Access, Depth, Entry, Location, Pace, Renamed, Source, Way};

/// The first line to the child. Holds secrets: it has no `Debug`.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub at: Place,
    pub password: String,
    pub pace: Pace,
    pub append_only: bool,
    pub way: Way,
    pub act: Act,
}

/// [`Location`] with its secrets in clear.
#[derive(Serialize, Deserialize)]
pub(super) enum Place {
    Directory(PathBuf),
    Rest { url: String, user: Option<(String, String)> },
    Sftp { host: String, port: u16, user: String, path: String, identity: String, host_keys: Vec<String> },
    S3 { endpoint: String, region: String, bucket: String, prefix: String, key: String, secret: String },
}

#[derive(Serialize, Deserialize)]
pub(super) enum Act {
    Make,
    Save {
        host: String,
        tags: Vec<String>,
        at: Timestamp,
        entries: Vec<Item>,
        parent: Option<String>,
        /// Say when it could begin, and wait for the word about [`GO`].
        waits: bool,
    },
    Snapshots,
    Restore {
        snapshot: String,
        path: PathBuf,
        to: PathBuf,
        owners: Renamed,
    },
    /// To the one descriptor that comes with it.
    Read {
        snapshot: String,
        path: PathBuf,
    },
    Check {
        depth: Depth,
    },
    Forget {
        snapshots: Vec<String>,
    },
    Prune {
        keep_seconds: u64,
    },
    Keys,
    AddKey {
        password: String,
        user: String,
    },
    RemoveKey {
        id: String,
    },
}

/// An [`Entry`]; a stream is the number of its descriptor.
#[derive(Serialize, Deserialize)]
pub(super) struct Item {
    pub path: PathBuf,
    pub from: From,
}

#[derive(Serialize, Deserialize)]
pub(super) enum From {
    Tree { from: PathBuf, except: Vec<PathBuf> },
    Bytes(String),
    Stream(usize),
}

/// Later lines to the child: how the program behind a stream ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Word {
    pub stream: usize,
    pub ended: Result<(), String>,
}

/// The word for it is no stream's.
pub(super) const GO: usize = usize::MAX;

/// Lines of the child; the last is an answer or a failure.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line {
    Bytes {
        done: u64,
        total: Option<u64>,
    },
    Say(String),
    /// Nothing was read yet.
    Ready,
    /// All trees were read whose writers stand still.
    Read,
    Answer(serde_json::Value),
    Failed(Failure),
}

/// What goes with a request besides its line.
#[derive(Default)]
pub(super) struct Beside {
    pub descriptors: Vec<std::os::fd::OwnedFd>,
    pub words: Vec<tokio::sync::oneshot::Receiver<Result<(), String>>>,
    pub moment: Option<super::Moment>,
}

impl Request {
    pub fn new(access: &Access, act: Act) -> Self {
        Self {
            at: place(&access.location),
            password: access.password.expose().to_owned(),
            pace: access.pace,
            append_only: access.append_only,
            way: access.way.clone(),
            act,
        }
    }
}

fn place(location: &Location) -> Place {
    match location.clone() {
        Location::Directory(path) => Place::Directory(path),
        Location::Rest { url, user } => {
            Place::Rest { url, user: user.map(|(name, password)| (name, password.expose().to_owned())) }
        }
        Location::Sftp { host, port, user, path, identity, host_keys } => {
            Place::Sftp { host, port, user, path, identity: identity.expose().to_owned(), host_keys }
        }
        Location::S3 { endpoint, region, bucket, prefix, key, secret } => {
            let (key, secret) = (key.expose().to_owned(), secret.expose().to_owned());
            Place::S3 { endpoint, region, bucket, prefix, key, secret }
        }
    }
}

/// Entries as they go over the wire, and what goes beside them.
pub(super) fn items(entries: Vec<Entry>) -> (Vec<Item>, Beside) {
    let mut beside = Beside::default();
    let items = entries
        .into_iter()
        .map(|Entry { path, from }| {
            let from = match from {
                Source::Tree { from, except } => From::Tree { from, except },
                Source::Bytes(secret) => From::Bytes(secret.expose().to_owned()),
                Source::Stream { from, whole } => {
                    beside.descriptors.push(from);
                    beside.words.push(whole);
                    From::Stream(beside.descriptors.len() - 1)
                }
            };
            Item { path, from }
        })
        .collect();
    (items, beside)
}
