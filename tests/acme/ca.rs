//! An authority: what it knows, what it allows, what it issues. Speaks to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use rcgen::CertificateSigningRequestParams;
use socle::host::certificates::chain;
use socle::model::certificate::Limits;

use super::issuing::{Issuing, Wrong};

/// Time as a test sets it.
#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    pub fn at(text: &str) -> Self {
        let at: Timestamp = text.parse().unwrap();
        Self(Arc::new(AtomicI64::new(at.as_second())))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub fn set(&self, at: Timestamp) {
        self.0.store(at.as_second(), Ordering::SeqCst);
    }

    pub fn pass(&self, span: SignedDuration) {
        self.set(self.now() + span);
    }
}

/// Why the authority says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct No {
    pub status: u16,
    pub kind: &'static str,
    pub detail: String,
    pub names: Vec<String>,
    pub retry_after_s: Option<u64>,
}

pub fn no(status: u16, kind: &'static str, detail: &str) -> No {
    No { status, kind, detail: detail.to_owned(), names: vec![], retry_after_s: None }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

#[derive(Debug, Clone)]
pub struct Authz {
    pub domain: String,
    pub wildcard: bool,
    pub token: String,
    pub status: Status,
    pub error: Option<No>,
    /// Told to look at the proof.
    pub triggered: bool,
}

#[derive(Debug, Clone)]
pub struct Order {
    pub at: Timestamp,
    pub names: Vec<String>,
    pub profile: Option<String>,
    pub replaces: Option<String>,
    pub authz: Vec<Authz>,
    pub status: Status,
    pub error: Option<No>,
    pub chain: Option<String>,
    /// Looks left until it goes on.
    polls: u32,
}

impl Order {
    /// It goes on at the next look.
    pub fn hurry(&mut self) {
        self.polls = self.polls.min(1);
    }
}

#[derive(Debug, Clone)]
pub struct Issued {
    pub id: String,
    pub names: BTreeSet<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub serial: String,
    pub exempt: bool,
    pub at: Timestamp,
    pub replaced: bool,
    pub revoked: bool,
}

/// What it says about renewing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ari {
    None,
    /// Parts of the life.
    Window(f64, f64),
    Past,
    AfterTheEnd,
    Backwards,
    Endless,
}

pub struct State {
    pub life: SignedDuration,
    pub profiles: BTreeMap<String, SignedDuration>,
    pub ari: Ari,
    pub limits: Limits,
    pub orders: Vec<Order>,
    pub issued: Vec<Issued>,
    /// Requests refused because of a limit.
    pub limited: Vec<String>,
    /// These are never proven, for this reason.
    pub bad: BTreeMap<String, &'static str>,
    /// Refused when ordered.
    pub rejected: BTreeMap<String, &'static str>,
    /// Looks at an order until a proof is checked, or a certificate is made.
    pub polls: u32,
    pub wrong: Wrong,
    serial: u64,
}

pub struct Ca {
    pub clock: Clock,
    state: Mutex<State>,
    issuing: Issuing,
    /// Where the files of HTTP-01 are served from.
    pub challenges: PathBuf,
    pub records: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl Ca {
    pub fn new(clock: Clock, challenges: PathBuf) -> Arc<Self> {
        let state = State {
            life: SignedDuration::from_hours(90 * 24),
            profiles: BTreeMap::new(),
            ari: Ari::None,
            limits: Limits::LETS_ENCRYPT,
            orders: vec![],
            issued: vec![],
            limited: vec![],
            bad: BTreeMap::new(),
            rejected: BTreeMap::new(),
            polls: 1,
            wrong: Wrong::Nothing,
            serial: 1,
        };
        let records = Arc::default();
        Arc::new(Self { clock, state: Mutex::new(state), issuing: Issuing::new(), challenges, records })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn new_order(&self, names: &[String], profile: Option<&str>, replaces: Option<&str>) -> Result<usize, No> {
        let (now, mut state) = (self.clock.now(), self.state());
        for name in names {
            if let Some(kind) = state.rejected.get(name) {
                return Err(No { names: vec![name.clone()], ..no(403, kind, "not this name") });
            }
        }
        if profile.is_some_and(|profile| !state.profiles.contains_key(profile)) {
            return Err(no(400, "invalidProfile", "no such profile"));
        }
        let mut exempt = false;
        if let Some(id) = replaces {
            let old = state.issued.iter().find(|issued| issued.id == id);
            let old = old.ok_or_else(|| no(400, "malformed", "no such certificate"))?;
            if old.replaced {
                return Err(no(409, "alreadyReplaced", "it was replaced already"));
            }
            exempt = names.iter().any(|name| old.names.contains(name));
        }
        if let Err(what) = self.within_limits(&state, names, exempt, now) {
            state.limited.push(what.clone());
            return Err(No { retry_after_s: Some(3600), ..no(429, "rateLimited", &what) });
        }
        let index = state.orders.len();
        let authz = names.iter().enumerate().map(|(at, name)| Authz {
            domain: name.trim_start_matches("*.").to_owned(),
            wildcard: name.starts_with("*."),
            token: format!("token-{index}-{at}"),
            status: Status::Pending,
            error: None,
            triggered: false,
        });
        let order = Order {
            at: now,
            names: names.to_vec(),
            profile: profile.map(str::to_owned),
            replaces: replaces.map(str::to_owned),
            authz: authz.collect(),
            status: Status::Pending,
            error: None,
            chain: None,
            polls: state.polls,
        };
        state.orders.push(order);
        Ok(index)
    }

    fn within_limits(&self, state: &State, names: &[String], exempt: bool, now: Timestamp) -> Result<(), String> {
        if exempt {
            return Ok(());
        }
        let since = |hours: i64| now - SignedDuration::from_hours(hours);
        let orders = state.orders.iter().filter(|order| order.at > since(3)).count();
        if orders >= state.limits.orders_per_3h as usize {
            return Err(format!("{orders} orders in three hours"));
        }
        let set: BTreeSet<String> = names.iter().cloned().collect();
        let week = || state.issued.iter().filter(|issued| issued.at > since(168) && !issued.exempt);
        let same = week().filter(|issued| issued.names == set).count();
        if same >= state.limits.duplicates_7d as usize {
            return Err(format!("{same} certificates for the same names"));
        }
        // Test names have two labels below which all is one registration.
        let domain = |name: &str| name.rsplitn(3, '.').take(2).map(str::to_owned).collect::<Vec<_>>();
        for name in names {
            let of_it = week().filter(|issued| issued.names.iter().any(|other| domain(other) == domain(name))).count();
            if of_it >= state.limits.certificates_per_domain_7d as usize {
                return Err(format!("{of_it} certificates for the domain of {name}"));
            }
        }
        Ok(())
    }

    /// The order after one more look at it.
    pub fn look(&self, index: usize) -> Option<Order> {
        let (now, mut state) = (self.clock.now(), self.state());
        let order = state.orders.get_mut(index)?;
        let waiting = matches!(order.status, Status::Processing)
            || (order.status == Status::Pending && order.authz.iter().all(|authz| authz.triggered));
        if waiting && order.polls > 0 {
            order.polls -= 1;
            return Some(order.clone());
        }
        if order.status == Status::Pending && waiting {
            let failed = order.authz.iter().any(|authz| authz.status == Status::Invalid);
            order.status = if failed { Status::Invalid } else { Status::Ready };
        } else if order.status == Status::Processing {
            order.status = Status::Valid;
            let issued = order.chain.clone().map(|chain| (chain, order.names.clone(), order.replaces.clone()));
            if let Some((pem, names, replaces)) = issued
                && let Ok(read) = chain::read(&pem)
            {
                let old = state.issued.iter_mut().find(|issued| Some(&issued.id) == replaces.as_ref());
                let exempt = old.map(|old| old.replaced = true).is_some();
                state.issued.push(Issued {
                    id: read.renewal_id.unwrap_or_default(),
                    names: names.into_iter().collect(),
                    not_before: read.not_before,
                    not_after: read.not_after,
                    serial: read.serial,
                    exempt,
                    at: now,
                    replaced: false,
                    revoked: false,
                });
            }
        }
        state.orders.get(index).cloned()
    }

    /// Looks at a proof. `expected` as the kind has it.
    pub fn ready(&self, index: usize, at: usize, kind: &str, expected: &str) {
        let mut state = self.state();
        let polls = state.polls;
        let reason = state.bad.get(&state.orders[index].authz[at].domain).copied();
        let order = &mut state.orders[index];
        let authz = &mut order.authz[at];
        authz.triggered = true;
        let found = match kind {
            "http-01" => std::fs::read_to_string(self.challenges.join(&authz.token)).is_ok_and(|text| text == expected),
            _ => self.records.lock().unwrap().get(&authz.domain).is_some_and(|values| values.contains(expected)),
        };
        if reason.is_none() && found {
            authz.status = Status::Valid;
        } else {
            authz.status = Status::Invalid;
            authz.error = Some(no(403, reason.unwrap_or("incorrectResponse"), "the proof is not there"));
        }
        order.polls = polls;
    }

    pub fn finalize(&self, index: usize, csr: &[u8]) -> Result<(), No> {
        let now = self.clock.now();
        let mut state = self.state();
        let order = &state.orders[index];
        if order.status != Status::Ready {
            return Err(no(403, "orderNotReady", "it is not"));
        }
        let request =
            CertificateSigningRequestParams::from_der(&csr.into()).map_err(|_| no(400, "badCSR", "unreadable"))?;
        let asked = request.params.subject_alt_names.len();
        if asked != order.names.len() {
            return Err(no(400, "badCSR", "other names"));
        }
        let life =
            order.profile.as_ref().and_then(|profile| state.profiles.get(profile)).copied().unwrap_or(state.life);
        let chain = self.issuing.issue(&order.names, &request, state.wrong, state.serial, now, life);
        state.serial += 1;
        let polls = state.polls;
        let order = &mut state.orders[index];
        (order.status, order.chain, order.polls) = (Status::Processing, Some(chain), polls);
        Ok(())
    }

    pub fn window(&self, id: &str) -> Option<(Timestamp, Timestamp)> {
        let (now, state) = (self.clock.now(), self.state());
        let issued = state.issued.iter().find(|issued| issued.id == id)?;
        let life = issued.not_after.duration_since(issued.not_before).as_secs() as f64;
        let part = |part: f64| issued.not_before + SignedDuration::from_secs((life * part) as i64);
        let day = SignedDuration::from_hours(24);
        Some(match state.ari {
            Ari::None => return None,
            Ari::Window(from, to) => (part(from), part(to)),
            Ari::Past => (now - day * 3, now - day * 2),
            Ari::AfterTheEnd => (issued.not_after + day, issued.not_after + day * 2),
            Ari::Backwards => (part(0.6), part(0.5)),
            Ari::Endless => (part(0.5), issued.not_before + day * 9999),
        })
    }

    pub fn revoke(&self, serial: &str) -> Result<(), No> {
        let mut state = self.state();
        let issued = state.issued.iter_mut().find(|issued| issued.serial == serial);
        let issued = issued.ok_or_else(|| no(404, "malformed", "no such certificate"))?;
        if std::mem::replace(&mut issued.revoked, true) {
            return Err(no(400, "alreadyRevoked", "it is"));
        }
        Ok(())
    }
}
