//! One server with its certificates, and the authorities it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use socle::agent::certificates::internal::NoFleet;
use socle::agent::certificates::record::{Record, Records};
use socle::agent::certificates::watch::Journal;
use socle::agent::certificates::{Done, Keeper, NameProblem, Parts, Patience, SelfCheck, Watch};
use socle::host::authority::{self, About, AcmeAuthorities, Authorities};
use socle::host::certificates::{CHAIN, KEY, Present, Store, chain};
use socle::host::{Dns, PortError, PortResult};
use socle::model::certificate::{
    Acme, Authority, CertifiedName, Challenge, KeyType, Limits, Provider, Settings, Source, Wanted,
};
use socle::model::{Domain, Name};

use super::ca::{Ca, Clock};
use super::server::Server;

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn names(texts: &[&str]) -> Vec<CertifiedName> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Records as the name servers have them.
#[derive(Default)]
pub struct FakeDns {
    pub records: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
    pub broken: AtomicBool,
}

#[async_trait]
impl Dns for FakeDns {
    async fn publish(&self, _: &Provider, domain: &Domain, value: &str) -> PortResult<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(PortError::new("dns.refused", "the provider refuses").hint("look at its key"));
        }
        self.records.lock().unwrap().entry(domain.to_string()).or_default().insert(value.to_owned());
        Ok(())
    }

    async fn withdraw(&self, _: &Provider, domain: &Domain, value: &str) -> PortResult<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(PortError::new("dns.refused", "the provider refuses"));
        }
        if let Some(values) = self.records.lock().unwrap().get_mut(domain.as_str()) {
            values.remove(value);
        }
        Ok(())
    }

    async fn propagated(&self, domain: &Domain, value: &str, _: Duration) -> PortResult<()> {
        let known = self.records.lock().unwrap().get(domain.as_str()).is_some_and(|values| values.contains(value));
        if known { Ok(()) } else { Err(PortError::new("dns.missing", "a name server does not know it")) }
    }
}

/// Finds what it is told to find.
#[derive(Default)]
pub struct ToldCheck(pub Mutex<BTreeSet<String>>);

#[async_trait]
impl SelfCheck for ToldCheck {
    async fn check(&self, names: &[CertifiedName], _: &Challenge, _: &About) -> Vec<NameProblem> {
        let told = self.0.lock().unwrap();
        let bad = names.iter().filter(|name| told.contains(name.domain().as_str()));
        let problem = |name: &CertifiedName| NameProblem {
            name: name.clone(),
            what: format!("`{name}` leads elsewhere"),
            hint: "change its A record".to_owned(),
        };
        bad.map(problem).collect()
    }
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub clock: Clock,
    pub ca: Arc<Ca>,
    pub server: Arc<Server>,
    /// A second authority, in good health.
    _second: Arc<Server>,
    pub settings: Settings,
    pub dns: Arc<FakeDns>,
    pub check: Arc<ToldCheck>,
    random: Arc<AtomicU64>,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::at("2026-11-23T12:00:00Z");
        let challenges = dir.path().join("challenges");
        let dns = Arc::new(FakeDns::default());
        let mut authorities = BTreeMap::new();
        let (mut cas, mut servers) = (vec![], vec![]);
        for which in ["first", "second"] {
            let ca = Ca::new(clock.clone(), challenges.clone());
            let roots = dir.path().join(format!("{which}.pem"));
            let server = Server::start(ca.clone(), &roots).await;
            let authority = Authority {
                directory: format!("{}/directory", server.url),
                roots: Some(roots),
                contacts: vec!["admin@example.org".to_owned()],
                binding: None,
                limits: Limits::LETS_ENCRYPT,
            };
            authorities.insert(name(which), authority);
            cas.push(ca);
            servers.push(server);
        }
        let ca = cas.swap_remove(0);
        let (second, server) = (servers.pop().unwrap(), servers.pop().unwrap());
        let provider =
            Provider { kind: "fake".to_owned(), settings: BTreeMap::new(), secrets: BTreeMap::new(), command: vec![] };
        let providers = BTreeMap::from([(name("dns"), provider)]);
        let settings = Settings { certificates: BTreeMap::new(), authorities, providers };
        let check = Arc::default();
        let random = Arc::new(AtomicU64::new(12_345));
        let mut world = Self { dir, clock, ca, server, _second: second, settings, dns, check, random };
        // The authorities look at the records the provider publishes.
        let dns = FakeDns { records: world.ca.records.clone(), broken: AtomicBool::new(false) };
        world.dns = Arc::new(dns);
        world.want("blog", &["blog.example.org"]);
        world
    }

    pub fn want(&mut self, certificate: &str, texts: &[&str]) {
        let acme =
            Acme { authorities: vec![name("first")], challenge: Challenge::Http01, key: KeyType::P256, profile: None };
        let wanted = Wanted { name: name(certificate), names: names(texts), source: Source::Acme(acme) };
        self.settings.certificates.insert(name(certificate), wanted);
    }

    pub fn acme(&mut self) -> &mut Acme {
        match &mut self.settings.certificates.get_mut(&name("blog")).unwrap().source {
            Source::Acme(acme) => acme,
            other => panic!("{other:?}"),
        }
    }

    pub fn use_both(&mut self) {
        self.acme().authorities = vec![name("first"), name("second")];
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn parts(&self, authorities: Arc<dyn Authorities>, watch: Arc<dyn Watch>) -> Parts {
        let (clock, random) = (self.clock.clone(), self.random.clone());
        Parts {
            authorities,
            fleet: Arc::new(NoFleet),
            dns: self.dns.clone(),
            check: self.check.clone(),
            watch,
            now: Arc::new(move || clock.now()),
            random: Arc::new(move || random.fetch_add(7_654_321, Ordering::SeqCst)),
            challenges: self.ca.challenges.clone(),
            patience: Patience {
                first: Duration::from_millis(5),
                most: Duration::from_millis(40),
                order: Duration::from_secs(4),
                propagation: Duration::from_secs(1),
            },
        }
    }

    pub fn real_authorities(&self) -> AcmeAuthorities {
        let patience = authority::Patience { connect: Duration::from_secs(5), answer: Duration::from_millis(1500) };
        AcmeAuthorities { state: self.state(), patience }
    }

    pub fn keeper(&self) -> Keeper {
        self.watched(Arc::new(Journal))
    }

    pub fn watched(&self, watch: Arc<dyn Watch>) -> Keeper {
        Keeper::new(&self.state(), self.parts(Arc::new(self.real_authorities()), watch))
    }

    /// What is done for `blog`.
    pub async fn tend(&self) -> Done {
        let outcomes = self.keeper().tend_all(&self.settings, &BTreeSet::new()).await.unwrap();
        outcomes.into_iter().find(|outcome| outcome.name == name("blog")).unwrap().done
    }

    /// Time passes until something is due.
    pub fn sleep(&self) {
        self.clock.set(self.keeper().next_due(&self.settings).max(self.clock.now()));
    }

    pub fn record(&self, certificate: &str) -> Record {
        Records::new(Store::new(&self.state())).load(&name(certificate)).unwrap()
    }

    /// The present certificate; whole and usable, or the test ends.
    pub fn present(&self, certificate: &str) -> Option<Present> {
        let present = Store::new(&self.state()).present(&name(certificate)).unwrap()?;
        let read = |file: &str| std::fs::read_to_string(present.directory.join(file)).unwrap();
        let checked = chain::check(&read(CHAIN), &read(KEY), &present.meta.names, self.clock.now());
        assert_eq!(checked.unwrap().serial, present.meta.serial);
        Some(present)
    }

    pub fn orders(&self) -> usize {
        self.ca.state().orders.len()
    }

    /// Proofs that are still published.
    pub fn left_over(&self) -> usize {
        let files = std::fs::read_dir(&self.ca.challenges).map_or(0, |entries| entries.count());
        files + self.dns.records.lock().unwrap().values().map(BTreeSet::len).sum::<usize>()
    }
}

/// The same time of the same day, hours later.
pub fn hours(hours: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_hours(hours)
}
