//! Archives against the real unpacking child: a corpus of hostile ones, real ones, and a comparison
//! with GNU tar. The corpus is made here, so that every byte of it can be read.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

mod build;
mod confined;
mod good;
mod hostile_tar;
mod hostile_zip;
mod tree;

use std::collections::BTreeSet;
use std::path::Path;

use socle::host::archive::{Reason, UnpackChild};
use socle::host::{ArchiveLimits, Archives};

/// A path outside every stage that links try to reach.
pub const CANARY: &str = "/etc/passwd-of-the-canary";

/// One hostile archive.
pub struct Case {
    name: String,
    bytes: Vec<u8>,
    strip: u32,
    limits: ArchiveLimits,
    reason: Reason,
}

impl Case {
    pub fn new(name: impl Into<String>, bytes: Vec<u8>, reason: Reason) -> Self {
        Self { name: name.into(), bytes, strip: 0, limits: ArchiveLimits::default(), reason }
    }

    pub fn stripped(name: impl Into<String>, bytes: Vec<u8>, strip: u32, reason: Reason) -> Self {
        Self { strip, ..Self::new(name, bytes, reason) }
    }

    pub fn limited(
        name: impl Into<String>,
        bytes: Vec<u8>,
        limit: impl FnOnce(&mut ArchiveLimits),
        reason: Reason,
    ) -> Self {
        let mut case = Self::new(name, bytes, reason);
        limit(&mut case.limits);
        case
    }

    /// The text expected in the message. A decoder's own words are not ours to pin.
    fn expected(&self) -> String {
        match &self.reason {
            Reason::Damaged(_) => "its compression is damaged: ".to_owned(),
            reason => reason.to_string(),
        }
    }
}

pub fn child() -> UnpackChild {
    UnpackChild::new(env!("CARGO_BIN_EXE_socle"))
}

pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root, the unpacking child gives its powers away");
    }
    root
}

#[tokio::test]
async fn every_hostile_archive_is_refused_for_its_reason_and_touches_nothing() {
    if !is_root() {
        return;
    }
    let mut cases = hostile_tar::cases();
    cases.extend(hostile_zip::cases());
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have the same name");
    assert!(cases.len() >= 100, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(why) = check(case).await {
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    println!("{} hostile archives", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

async fn check(case: &Case) -> Result<(), String> {
    let yard = tempfile::tempdir().map_err(|error| error.to_string())?;
    let stage = tree::lay_out(yard.path());
    let archive = yard.path().join("archive");
    std::fs::write(&archive, &case.bytes).map_err(|error| error.to_string())?;
    let before = tree::look(yard.path(), Some(&stage));
    let outcome = child().unpack(&archive, &stage, case.strip, &case.limits).await;
    let after = tree::look(yard.path(), Some(&stage));
    if before != after {
        return Err(format!("changed outside the stage:\n{before:#?}\n{after:#?}"));
    }
    if Path::new(CANARY).exists() {
        return Err("the canary was created".to_owned());
    }
    tree::harmless(&stage)?;
    match outcome {
        Ok(()) => Err("accepted".to_owned()),
        Err(error) if error.code != "archive.refused" => Err(format!("{}: {error}", error.code)),
        Err(error) if !error.message.contains(&case.expected()) => {
            Err(format!("expected `{}`, was `{}`", case.expected(), error.message))
        }
        Err(_) => Ok(()),
    }
}
