//! The wait until every authoritative server of a record has a value: an authority may ask any of them.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use super::error::DnsError;
use super::lookup::{NameServer, RecordName, Resolver};

/// Between two rounds of questions.
const BETWEEN: Duration = Duration::from_secs(1);

/// A name server that does not have the value yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    pub server: String,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It answers, with other values or none.
    Lacks,
    /// None of its addresses answers; what the last one said.
    Silent(String),
    NoAddress,
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Lacks => write!(f, "the name server `{}` does not have the record", self.server),
            Why::Silent(error) => write!(f, "the name server `{}` does not answer ({error})", self.server),
            Why::NoAddress => write!(f, "the name server `{}` has no address", self.server),
        }
    }
}

/// Asks every server that lags again and again, for at most `within`.
pub async fn await_everywhere(
    resolver: &Resolver,
    name: &RecordName,
    value: &str,
    within: Duration,
) -> Result<(), DnsError> {
    let end = Instant::now() + within;
    let servers = resolver.authoritative(name).await?;
    let lags = join_all(servers.iter().map(|server| until(resolver, server, name, value, end))).await;
    let lags: Vec<_> = lags.into_iter().flatten().collect();
    if lags.is_empty() { Ok(()) } else { Err(DnsError::NotEverywhere { waited_s: within.as_secs(), lags }) }
}

/// `None`: it has the value. Each server for itself: one that is silent tells nothing of the others.
async fn until(resolver: &Resolver, server: &NameServer, name: &RecordName, value: &str, end: Instant) -> Option<Lag> {
    let mut lag = Lag { server: server.name.clone(), why: Why::Silent("no answer in time".to_owned()) };
    loop {
        match timeout_at(end, ask(resolver, server, name, value)).await {
            Ok(None) => return None,
            Ok(Some(seen)) => lag = seen,
            Err(_) => return Some(lag),
        }
        if Instant::now() + BETWEEN >= end {
            return Some(lag);
        }
        sleep(BETWEEN).await;
    }
}

/// `None`: every address that answers has the value, and one does. An address that is not reached from here says
/// nothing of the server: a machine without IPv6 reaches half of them.
async fn ask(resolver: &Resolver, server: &NameServer, name: &RecordName, value: &str) -> Option<Lag> {
    let lag = |why| Some(Lag { server: server.name.clone(), why });
    let answers = join_all(server.addresses.iter().map(|address| resolver.txt_at(*address, name))).await;
    let mut answered = false;
    let mut silence = None;
    for answer in answers {
        match answer {
            Ok(values) if values.iter().any(|known| known == value) => answered = true,
            Ok(_) => return lag(Why::Lacks),
            Err(error) => silence = Some(error),
        }
    }
    match silence {
        _ if answered => None,
        Some(error) => {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            lag(Why::Silent(cause))
        }
        None => lag(Why::NoAddress),
    }
}
