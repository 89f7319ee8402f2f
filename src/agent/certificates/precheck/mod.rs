//! Whether names can be proven, looked at from here before an authority is asked.
//!
//! Owns: the facts (where a name leads, what is answered there, its CAA records), gathered by [`Probing`], and what
//! they say ([`judge`] and [`caa`], pure). Never: takes a failed question for an answer. Start reading at
//! [`Probing::check`](SelfCheck::check).

pub mod caa;
pub mod judge;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join, join_all};

use super::proofs;
use super::watch::{NameProblem, SelfCheck};
use crate::durable::{self, DurableError};
use crate::host::PortError;
use crate::host::authority::About;
use crate::host::dns::lookup::{LookupError, Resolver};
use crate::host::reach::{self, ReachError};
use crate::model::Domain;
use crate::model::certificate::{CertifiedName, Challenge};
use judge::{Answer, Facts, Looked, judge};

/// For one address to answer. Let's Encrypt waits about as long.
const ANSWER: Duration = Duration::from_secs(10);

/// Tells the addresses of this machine, which may change.
pub type Own = Arc<dyn Fn() -> Result<BTreeSet<IpAddr>, ReachError> + Send + Sync>;

/// Looks at the real world.
pub struct Probing {
    resolver: Resolver,
    challenges: PathBuf,
    own: Own,
    port: u16,
}

impl Probing {
    /// `challenges`: where the web server finds the files of HTTP-01. `own`: [`reach::own_addresses`]. `port`: 80,
    /// but in tests.
    pub fn new(resolver: Resolver, challenges: PathBuf, own: Own, port: u16) -> Self {
        Self { resolver, challenges, own, port }
    }

    async fn facts(&self, name: &CertifiedName, file: Option<&Looked<OwnFile>>) -> Facts {
        let domain = name.domain();
        let caa = async { self.resolver.caa(domain).await.map_err(told) };
        let Some(file) = file else {
            let (caa, zone) = join(caa, self.zone(domain)).await;
            return Facts { addresses: None, answers: Vec::new(), caa, zone: Some(zone) };
        };
        let (caa, addresses) = join(caa, async { self.resolver.addresses(domain).await.map_err(told) }).await;
        let answers = match (&addresses, file) {
            (Ok(addresses), Ok(file)) => {
                join_all(addresses.all().map(|address| self.answer(domain, address, file))).await
            }
            _ => Vec::new(),
        };
        let addresses = match file {
            Ok(_) => addresses,
            Err(error) => Err(error.clone()),
        };
        Facts { addresses: Some(addresses), answers, caa, zone: None }
    }

    async fn zone(&self, domain: &Domain) -> Looked<()> {
        let name = self.resolver.challenge_name(domain).await.map_err(told)?;
        self.resolver.zone(&name).await.map(drop).map_err(told)
    }

    async fn answer(&self, domain: &Domain, address: IpAddr, file: &OwnFile) -> (IpAddr, Answer) {
        let path = format!("/.well-known/acme-challenge/{}", file.token);
        let answer = match reach::get(domain, address, self.port, &path, ANSWER).await {
            Ok(reached) if reached.body == file.secret.as_bytes() => Answer::Ours,
            Ok(reached) => Answer::Other(reached.status),
            Err(error) => Answer::Nobody(error.to_string()),
        };
        (address, answer)
    }
}

#[async_trait]
impl SelfCheck for Probing {
    async fn check(&self, names: &[CertifiedName], challenge: &Challenge, about: &About) -> Vec<NameProblem> {
        let file = match challenge {
            Challenge::Http01 => Some(OwnFile::place(&self.challenges).map_err(|error| error.to_string())),
            Challenge::Dns01 { .. } => None,
        };
        let own = (self.own)().unwrap_or_else(|error| {
            tracing::warn!("{error}: what the names lead to is not compared with it");
            BTreeSet::new()
        });
        let facts = join_all(names.iter().map(|name| self.facts(name, file.as_ref()))).await;
        let mut problems = Vec::new();
        for (name, facts) in names.iter().zip(&facts) {
            let judgement = judge(name, facts, &own, &about.caa_identities, challenge);
            for unknown in judgement.unknown {
                tracing::info!(%name, "not looked at before the order: {unknown}");
            }
            problems.extend(judgement.problems);
        }
        problems
    }
}

/// With its cause: these end in a line of the journal.
fn told(error: LookupError) -> String {
    let error = PortError::from(error);
    match &error.source {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A file beside the proofs that nobody else can know. Removed at the end, however the check ends.
struct OwnFile {
    path: PathBuf,
    token: String,
    secret: String,
}

impl OwnFile {
    fn place(directory: &Path) -> Result<Self, DurableError> {
        let random = || {
            let word = || getrandom::u64().expect("the kernel gives random bytes (getrandom(2))");
            format!("{:016x}{:016x}", word(), word())
        };
        let (token, secret) = (format!("{}{}", proofs::CHECK, random()), random());
        let file = Self { path: directory.join(&token), token, secret };
        proofs::write(directory, &file.token, &file.secret)?;
        Ok(file)
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if let Err(error) = durable::remove(&self.path) {
            tracing::warn!("{error}");
        }
    }
}
