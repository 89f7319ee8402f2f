//! What the agent accepted, what was last good, what is condemned.
//!
//! # Guarantees
//!
//! Written before it is acted upon. A ledger that cannot be read is [`LedgerError::Damaged`], never an
//! empty one: the agent then leaves everything as it runs and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError, HostLock};
use crate::model::document::{Document, Instance};
use crate::model::fleet::{Mark, Origin, Position};
use crate::model::{Digest, Generation, Name};
use crate::resources::release::ReleaseId;
use crate::wire::Payload;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("cannot read the ledger")]
    Read(#[source] DurableError),
    #[error("cannot write the ledger")]
    Write(#[source] DurableError),
    #[error("the ledger `{path}` is damaged")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("generation {given} is not newer than {accepted}, which this server has accepted")]
    Older { given: Mark, accepted: Mark },
    #[error("generation {given} is far ahead of {accepted}, which this server has accepted")]
    FarAhead { given: Mark, accepted: Mark },
    #[error("generation {0} was accepted with other content")]
    Equivocation(Mark),
}

/// Generations that may be left out. More would be a way to lock the owner out of the numbers.
const MAX_JUMP: u64 = 1 << 20;

/// The whole state, one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub accepted: Option<Accepted>,
    /// The last form of each instance that was proven.
    #[serde(default)]
    pub good: BTreeMap<Name, Good>,
    /// The good form before that one: what a rollback by the admin goes back to.
    #[serde(default)]
    pub previous: BTreeMap<Name, Good>,
    /// Forms shown to be bad, by instance. Forgotten when another form is asked for.
    #[serde(default)]
    pub condemned: BTreeMap<Name, Condemned>,
    /// The generation that was last brought about completely.
    #[serde(default)]
    pub brought_about: Option<Generation>,
    /// When the daemon tries again what failed.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// What the bytes of a URL without a digest were when they were first fetched (trust on first use).
    #[serde(default)]
    pub seen: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    #[serde(default)]
    pub epoch: u32,
    pub generation: Generation,
    #[serde(default)]
    pub origin: Origin,
    pub file: String,
    /// The document as it was written.
    pub text: String,
    pub at: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    pub instance: Instance,
    pub form: Digest,
    pub release: ReleaseId,
    pub since: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    pub form: Digest,
    pub version: String,
    pub reason: String,
    pub at: jiff::Timestamp,
}

/// Back-off of the daemon. The admin's own `apply` does not wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    pub attempts: u32,
    pub not_before: jiff::Timestamp,
}

/// The longest wait between two tries: drift elsewhere waits as long.
const MAX_WAIT_S: i64 = 600;

/// What to bring about: the accepted document with condemned instances in their last good form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub generation: Generation,
    pub document: Document,
    /// Instances that are not in the form the document asks for, and why.
    pub held_back: BTreeMap<Name, String>,
    /// Releases to keep besides the current one, by instance.
    pub keep: BTreeMap<Name, BTreeSet<ReleaseId>>,
}

pub fn path(state: &Path) -> PathBuf {
    state.join("ledger.json")
}

/// What makes two forms of an instance the same: everything asked for but whether it runs and how its certificate
/// comes, which no release can be blamed for.
pub fn form(instance: &Instance) -> Digest {
    let stateless = Instance { state: Default::default(), certificate: Default::default(), ..instance.clone() };
    Digest::of(serde_json::to_vec(&stateless).expect("an instance is plain data"))
}

impl Ledger {
    pub fn load(state: &Path) -> Result<Self, LedgerError> {
        let path = path(state);
        match durable::read(&path).map_err(LedgerError::Read)? {
            None => Ok(Self::default()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|source| LedgerError::Damaged { path, source }),
        }
    }

    /// The lock is an argument so that nobody writes without holding it.
    pub fn store(&self, state: &Path, _lock: &HostLock) -> Result<(), LedgerError> {
        let bytes = serde_json::to_vec_pretty(self).expect("a ledger is plain data");
        durable::write(&path(state), &bytes, 0o600).map_err(LedgerError::Write)
    }

    /// Takes a document of the local admin: the next generation, or the same if the text is the same.
    /// True if anything changed.
    pub fn accept_local(&mut self, file: &str, text: &str, at: jiff::Timestamp) -> bool {
        if self.accepted.as_ref().is_some_and(|accepted| accepted.text == text) {
            return false;
        }
        let Mark { epoch, generation } = self.mark().next();
        let (file, text) = (file.to_owned(), text.to_owned());
        self.accepted = Some(Accepted { epoch, generation, origin: Origin::Local, file, text, at });
        true
    }

    /// Takes a document of the controller whose signature was verified. True if anything changed. A mark is
    /// never taken twice with other content, and never goes down.
    pub fn accept_signed(&mut self, payload: &Payload, at: jiff::Timestamp) -> Result<bool, LedgerError> {
        let (given, accepted) = (payload.mark, self.mark());
        let known = self.accepted.as_ref();
        if given == accepted && known.is_some_and(|known| known.text == payload.text) {
            // Adopted: what the local admin did is what the controller says.
            return Ok(self.set_origin(Origin::Controller));
        }
        if given == accepted && known.is_some_and(|known| known.origin == Origin::Controller) {
            return Err(LedgerError::Equivocation(given));
        }
        if given <= accepted {
            return Err(LedgerError::Older { given, accepted });
        }
        if given.epoch == accepted.epoch && given.generation.0 - accepted.generation.0 > MAX_JUMP {
            return Err(LedgerError::FarAhead { given, accepted });
        }
        let Mark { epoch, generation } = given;
        let (file, text) = (payload.file.clone(), payload.text.clone());
        self.accepted = Some(Accepted { epoch, generation, origin: Origin::Controller, file, text, at });
        Ok(true)
    }

    fn set_origin(&mut self, origin: Origin) -> bool {
        match &mut self.accepted {
            Some(accepted) if accepted.origin != origin => {
                accepted.origin = origin;
                true
            }
            _ => false,
        }
    }

    /// What was accepted last; zero when nothing was.
    pub fn mark(&self) -> Mark {
        let of = |accepted: &Accepted| Mark { epoch: accepted.epoch, generation: accepted.generation };
        self.accepted.as_ref().map(of).unwrap_or_default()
    }

    /// For the controller; `None` when nothing was accepted yet.
    pub fn position(&self) -> Option<Position> {
        self.accepted.as_ref().map(|accepted| Position {
            mark: self.mark(),
            digest: Digest::of(&accepted.text),
            origin: accepted.origin,
            brought_about: self.brought_about,
        })
    }

    /// Of the accepted document; 0 when there is none.
    pub fn generation(&self) -> Generation {
        self.accepted.as_ref().map(|accepted| accepted.generation).unwrap_or_default()
    }

    /// The only function that knows that going back exists.
    pub fn target(&self, generation: Generation, document: &Document) -> Target {
        let mut target =
            Target { generation, document: document.clone(), held_back: BTreeMap::new(), keep: BTreeMap::new() };
        for (name, instance) in &mut target.document.instances {
            let Some(good) = self.good.get(name) else { continue };
            let keep = target.keep.entry(name.clone()).or_default();
            keep.insert(good.release.clone());
            keep.extend(self.previous.get(name).map(|previous| previous.release.clone()));
            let Some(condemned) = self.condemned.get(name).filter(|c| c.form == form(instance)) else { continue };
            if good.form == condemned.form {
                continue;
            }
            let why = format!("was condemned ({})", condemned.reason);
            target.held_back.insert(name.clone(), in_good_form(instance, good, &condemned.version, &why));
        }
        target
    }

    /// Leaves an instance in its last good form for now: what is asked could not even be begun. Kept nowhere, so the
    /// next pass tries again. False if it is in that form already.
    pub fn put_off(&self, target: &mut Target, name: &Name, reason: &str) -> bool {
        let (Some(good), Some(instance)) = (self.good.get(name), target.document.instances.get_mut(name)) else {
            return false;
        };
        if target.held_back.contains_key(name) || good.form == form(instance) {
            return false;
        }
        let version = instance.version.to_string();
        let why = in_good_form(instance, good, &version, &format!("is put off ({reason})"));
        target.held_back.insert(name.clone(), why);
        true
    }

    /// Condemns the form an instance is asked in, if there is a good one to go back to: without one it is
    /// tried again. True if that is news.
    pub fn condemn(&mut self, name: &Name, asked: &Instance, reason: &str, at: jiff::Timestamp) -> bool {
        let form = form(asked);
        let known = self.condemned.get(name).is_some_and(|c| c.form == form);
        if known || self.good.get(name).is_none_or(|good| good.form == form) {
            return false;
        }
        let (reason, version) = (reason.to_owned(), asked.version.to_string());
        self.condemned.insert(name.clone(), Condemned { form, version, reason, at });
        true
    }

    /// Condemns the form asked for by the admin's word. False if there is nothing to go back to.
    pub fn go_back(&mut self, name: &Name, asked: &Instance, at: jiff::Timestamp) -> bool {
        let asked_form = form(asked);
        let is_good = |good: &Good| good.form == asked_form;
        if self.good.get(name).is_some_and(is_good) {
            match self.previous.remove(name) {
                Some(previous) if !is_good(&previous) => self.good.insert(name.clone(), previous),
                _ => return false,
            };
        }
        self.condemn(name, asked, "the admin asked to go back", at) || self.good.contains_key(name)
    }

    /// Notes that an instance was proven in this form.
    pub fn praise(&mut self, name: &Name, instance: &Instance, release: &ReleaseId, at: jiff::Timestamp) {
        let form = form(instance);
        // Proven after all: what failed before was not the release.
        if self.condemned.get(name).is_some_and(|condemned| condemned.form == form) {
            self.condemned.remove(name);
        }
        if self.good.get(name).is_none_or(|good| good.form != form || good.release != *release) {
            let (instance, release) = (instance.clone(), release.clone());
            let old = self.good.insert(name.clone(), Good { instance, form, release, since: at });
            if let Some(old) = old {
                self.previous.insert(name.clone(), old);
            }
        }
    }

    /// Notes how a pass ended: brought about, or tried again later (30 s, doubling).
    pub fn note_outcome(&mut self, generation: Generation, converged: bool, at: jiff::Timestamp) {
        if converged {
            self.brought_about = Some(generation);
            self.retry = None;
            return;
        }
        let attempts = self.retry.as_ref().map_or(0, |retry| retry.attempts).saturating_add(1);
        let wait = (30_i64 << attempts.min(6).saturating_sub(1)).min(MAX_WAIT_S);
        let not_before = at.saturating_add(jiff::SignedDuration::from_secs(wait)).unwrap_or(at);
        self.retry = Some(Retry { attempts, not_before });
    }

    /// Drops what is said about instances and forms nobody asks for any more.
    pub fn forget_stale(&mut self, document: &Document) {
        self.condemned.retain(|name, c| document.instances.get(name).is_some_and(|i| form(i) == c.form));
    }
}

/// Asks for the good form instead; how that is told.
fn in_good_form(instance: &mut Instance, good: &Good, version: &str, why: &str) -> String {
    let certificate = instance.certificate.clone();
    *instance = Instance { state: instance.state, certificate, ..good.instance.clone() };
    format!("version {version} {why}; {} runs instead", good.instance.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(version: &str) -> Instance {
        serde_json::from_value(serde_json::json!({
            "recipe": "wordpress", "version": version, "domain": "blog.example.org", "aliases": [],
            "member": null, "state": "running", "params": {}, "limits": {}, "source": null,
        }))
        .unwrap()
    }

    fn document(version: &str) -> Document {
        let mut document = Document::default();
        document.instances.insert("blog".parse().unwrap(), instance(version));
        document
    }

    fn now() -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    #[test]
    fn the_same_text_is_the_same_generation() {
        let mut ledger = Ledger::default();
        assert!(ledger.accept_local("a.toml", "one", now()));
        assert!(!ledger.accept_local("b.toml", "one", now()));
        assert!(ledger.accept_local("a.toml", "two", now()));
        assert_eq!(ledger.accepted.unwrap().generation, Generation(2));
    }

    fn signed(epoch: u32, generation: u64, text: &str) -> Payload {
        Payload {
            purpose: crate::wire::Purpose::Document,
            fleet: uuid::Uuid::nil(),
            server: "ks1".parse().unwrap(),
            identity: Digest::of("id"),
            mark: Mark { epoch, generation: Generation(generation) },
            issued: now(),
            file: "fleet".into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_signed_document_only_goes_forward() {
        let mut ledger = Ledger::default();
        assert!(ledger.accept_signed(&signed(0, 5, "five"), now()).unwrap());
        assert!(!ledger.accept_signed(&signed(0, 5, "five"), now()).unwrap(), "twice is fine");
        assert!(matches!(ledger.accept_signed(&signed(0, 5, "other"), now()), Err(LedgerError::Equivocation(_))));
        assert!(matches!(ledger.accept_signed(&signed(0, 4, "four"), now()), Err(LedgerError::Older { .. })));
        let far = signed(0, 6 + (1 << 20), "far");
        assert!(matches!(ledger.accept_signed(&far, now()), Err(LedgerError::FarAhead { .. })));
        assert!(ledger.accept_signed(&signed(1, 1, "epoch"), now()).unwrap(), "an epoch begins anew");
        assert!(matches!(ledger.accept_signed(&signed(0, 99, "old epoch"), now()), Err(LedgerError::Older { .. })));
        assert_eq!(ledger.mark(), Mark { epoch: 1, generation: Generation(1) });
    }

    #[test]
    fn what_the_local_admin_applied_stands_until_the_controller_says_more() {
        let mut ledger = Ledger::default();
        ledger.accept_signed(&signed(0, 5, "five"), now()).unwrap();
        assert!(!ledger.accept_local("x.toml", "five", now()), "the same text is no branch");
        assert!(ledger.accept_local("x.toml", "mine", now()));
        assert_eq!(ledger.position().unwrap().origin, Origin::Local);
        assert_eq!(ledger.mark().generation, Generation(6));
        // The controller did not know: refused, but no alarm about two contents.
        assert!(matches!(ledger.accept_signed(&signed(0, 6, "six"), now()), Err(LedgerError::Older { .. })));
        assert!(ledger.accept_signed(&signed(0, 6, "mine"), now()).unwrap(), "adopted");
        assert_eq!(ledger.position().unwrap().origin, Origin::Controller);
        assert!(ledger.accept_signed(&signed(0, 7, "seven"), now()).unwrap());
    }

    #[test]
    fn a_condemned_form_gives_way_to_the_last_good_one_until_another_is_asked_for() {
        let blog: Name = "blog".parse().unwrap();
        let mut ledger = Ledger::default();
        ledger.praise(&blog, &instance("1"), &ReleaseId("1-x".into()), now());
        assert!(ledger.condemn(&blog, &instance("2"), "500", now()));
        assert!(!ledger.condemn(&blog, &instance("2"), "500", now()), "no ping-pong");

        let target = ledger.target(Generation(2), &document("2"));
        assert_eq!(target.document.instances[&blog].version.as_str(), "1");
        assert!(target.held_back[&blog].contains("500"));

        let target = ledger.target(Generation(3), &document("3"));
        assert_eq!(target.document.instances[&blog].version.as_str(), "3");
        ledger.forget_stale(&document("3"));
        assert!(ledger.condemned.is_empty());
    }

    #[test]
    fn without_a_good_form_nothing_is_brought_back() {
        let blog: Name = "blog".parse().unwrap();
        let mut ledger = Ledger::default();
        assert!(!ledger.condemn(&blog, &instance("1"), "500", now()));
        assert!(ledger.target(Generation(1), &document("1")).held_back.is_empty());
    }

    #[test]
    fn what_is_put_off_is_tried_again() {
        let blog: Name = "blog".parse().unwrap();
        let mut ledger = Ledger::default();
        let mut target = ledger.target(Generation(2), &document("2"));
        assert!(!ledger.put_off(&mut target, &blog, "no room"), "there is no other form");
        ledger.praise(&blog, &instance("1"), &ReleaseId("1-x".into()), now());
        let mut target = ledger.target(Generation(2), &document("2"));
        assert!(ledger.put_off(&mut target, &blog, "no room"));
        assert_eq!(target.document.instances[&blog].version.as_str(), "1");
        assert_eq!(target.held_back[&blog], "version 2 is put off (no room); 1 runs instead");
        assert!(!ledger.put_off(&mut target, &blog, "no room"), "once a pass");
        assert!(ledger.target(Generation(2), &document("2")).held_back.is_empty());
    }

    #[test]
    fn damaged_is_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ledger::load(dir.path()).unwrap(), Ledger::default());
        std::fs::write(path(dir.path()), b"{").unwrap();
        assert!(matches!(Ledger::load(dir.path()), Err(LedgerError::Damaged { .. })));
    }
}
