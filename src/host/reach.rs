//! A file asked for at one address of a name, the way an authority asks for a proof (RFC 8555, 8.3): port 80, the
//! name in the request, redirects followed whatever certificate they lead to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::{Client, redirect};

use crate::model::Domain;

/// Redirects an authority follows; Let's Encrypt: ten.
const REDIRECTS: usize = 10;
/// A proof is less than 200 bytes.
const BODY: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("{reason}")]
    NoAnswer { reason: String, source: reqwest::Error },
    #[error("cannot read the addresses of this machine")]
    Own(#[source] nix::Error),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub status: u16,
    /// At most 4096 bytes.
    pub body: Vec<u8>,
}

/// Asks `address` for `path` of `domain`. `port` is 80 but in tests.
pub async fn get(
    domain: &Domain,
    address: IpAddr,
    port: u16,
    path: &str,
    limit: Duration,
) -> Result<Reached, ReachError> {
    // A client of its own: which address a name has is a setting of the client.
    let client = Client::builder()
        .user_agent(concat!("socle/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .no_gzip()
        .no_deflate()
        .resolve(domain.as_str(), SocketAddr::new(address, 0))
        .redirect(redirect::Policy::custom(move |attempt| follow(attempt, port)))
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(ReachError::Client)?;
    // Over all of it: a body that drips is no answer either.
    let done = tokio::time::timeout(limit, ask(&client, &format!("http://{domain}:{port}{path}"))).await;
    done.unwrap_or(Err(ReachError::Timeout(limit)))
}

async fn ask(client: &Client, url: &str) -> Result<Reached, ReachError> {
    let mut answer = client.get(url).send().await.map_err(silent)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        let room = BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(Reached { status: answer.status().as_u16(), body })
}

/// To the ports an authority goes to.
fn follow(attempt: redirect::Attempt<'_>, port: u16) -> redirect::Action {
    let to = attempt.url().port_or_known_default();
    let usual = to.is_some_and(|to| to == 80 || to == 443 || to == port);
    if attempt.previous().len() > REDIRECTS || !usual { attempt.stop() } else { attempt.follow() }
}

/// The client says the reason last, after repeating the address.
fn silent(source: reqwest::Error) -> ReachError {
    let causes = std::iter::successors(std::error::Error::source(&source), |cause| cause.source());
    let reason = causes.last().map_or_else(|| source.to_string(), ToString::to_string);
    ReachError::NoAnswer { reason, source }
}

/// The addresses of this machine's interfaces.
pub fn own_addresses() -> Result<BTreeSet<IpAddr>, ReachError> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(ReachError::Own)?;
    let addresses = interfaces.filter_map(|interface| interface.address).filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    });
    Ok(addresses.collect())
}
