//! Whether names lead here and may be certified, found out before an authority is asked.
//!
//! Owns: what is looked up ([`Probing`]) and what it says ([`judge`], [`caa`], pure). Never: refuses a name for
//! what could not be looked up.

mod caa;
mod judge;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use reqwest::{Client, redirect};

use super::watch::{NameProblem, SelfCheck};
use crate::durable::{self, DurableError};
use crate::host::authority::About;
use crate::host::dns::Resolver;
use crate::host::dns::lookup::LookupError;
use crate::model::Domain;
use crate::model::certificate::{CertifiedName, Challenge};
use judge::{Answer, Facts, Looked};

/// For one question to one address.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer longer than this is not ours.
const LONGEST: usize = 200;

/// Looks with this machine's resolver, and asks over the network like an authority does.
pub struct Probing {
    pub resolver: Resolver,
    /// Where the web server finds the files of HTTP-01.
    pub challenges: PathBuf,
    /// 80 (RFC 8555, 8.3), but in tests.
    pub port: u16,
    pub random: fn(&mut [u8]),
}

/// A file of our own where the proofs are served from; it goes with this value.
struct Nonce {
    path: PathBuf,
    token: String,
    text: String,
}

impl Nonce {
    fn make(probing: &Probing) -> Result<Self, DurableError> {
        use std::os::unix::fs::PermissionsExt;
        let directory = &probing.challenges;
        let readable = std::fs::Permissions::from_mode(0o755);
        let made = std::fs::create_dir_all(directory).and_then(|()| std::fs::set_permissions(directory, readable));
        made.map_err(|error| DurableError::Write(directory.clone(), error))?;
        let word = || {
            let mut bytes = [0; 16];
            (probing.random)(&mut bytes);
            BASE64_URL_SAFE_NO_PAD.encode(bytes)
        };
        let (token, text) = (format!("socle-{}", word()), word());
        let path = directory.join(&token);
        durable::write(&path, text.as_bytes(), 0o644)?;
        Ok(Self { path, token, text })
    }
}

impl Drop for Nonce {
    fn drop(&mut self) {
        // Below `/run`, without any meaning: the next boot removes what stays.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[async_trait]
impl SelfCheck for Probing {
    async fn check(&self, names: &[CertifiedName], challenge: &Challenge, about: &About) -> Vec<NameProblem> {
        let nonce = match challenge {
            Challenge::Http01 => Some(Nonce::make(self).map_err(|error| error.to_string())),
            Challenge::Dns01 { .. } => None,
        };
        let own = own_addresses();
        let judged = names.iter().map(|name| async {
            let facts = self.facts(name, nonce.as_ref()).await;
            judge::judge(name, &facts, &own, &about.caa_identities, challenge)
        });
        let mut problems = Vec::new();
        for judgement in join_all(judged).await {
            for unknown in &judgement.unknown {
                tracing::warn!("not known before the order: {unknown}");
            }
            problems.extend(judgement.problems);
        }
        problems
    }
}

impl Probing {
    /// `nonce`: for HTTP-01, our file, or why there is none.
    async fn facts(&self, name: &CertifiedName, nonce: Option<&Looked<Nonce>>) -> Facts {
        let domain = name.domain();
        let caa = self.resolver.caa(domain).await.map_err(said);
        let Some(nonce) = nonce else {
            let zone = async { self.resolver.zone(&self.resolver.challenge_name(domain).await?).await };
            return Facts { addresses: None, answers: Vec::new(), caa, zone: Some(zone.await.map(drop).map_err(said)) };
        };
        let looked = self.resolver.addresses(domain).await.map_err(said);
        let (addresses, answers) = match (looked, nonce) {
            (Ok(addresses), Ok(nonce)) => {
                let asked =
                    addresses.all().map(|address| async move { (address, self.ask(domain, address, nonce).await) });
                let answers = join_all(asked).await;
                (Ok(addresses), answers)
            }
            (Ok(_), Err(why)) => (Err(why.clone()), Vec::new()),
            (Err(why), _) => (Err(why), Vec::new()),
        };
        Facts { addresses: Some(addresses), answers, caa, zone: None }
    }

    async fn ask(&self, domain: &Domain, address: IpAddr, nonce: &Nonce) -> Answer {
        let place = SocketAddr::new(address, self.port);
        let asked = async {
            let client = Client::builder()
                .redirect(redirect::Policy::none())
                .no_proxy()
                .resolve(domain.as_str(), place)
                .user_agent(concat!("socle/", env!("CARGO_PKG_VERSION")))
                .build()?;
            let url = format!("http://{domain}:{}/.well-known/acme-challenge/{}", self.port, nonce.token);
            let mut answer = client.get(url).send().await?;
            let (status, mut body) = (answer.status(), Vec::new());
            while let Some(chunk) = answer.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > LONGEST {
                    break;
                }
            }
            Ok::<_, reqwest::Error>(match status.is_success() && body == nonce.text.as_bytes() {
                true => Answer::Ours,
                false => Answer::Other(status.as_u16()),
            })
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Nobody(innermost(&error)),
            Err(_) => Answer::Nobody(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

/// The library's own words repeat the address; the last cause says why.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn said(error: LookupError) -> String {
    crate::host::PortError::from(error).report().to_string()
}

/// Of all interfaces. None, if they cannot be read: then the answers alone decide.
fn own_addresses() -> BTreeSet<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| interface.address);
    addresses
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::host::dns::Resolver;

    /// Serves the files of a directory like nginx does, to whoever asks, for as long as the test runs.
    fn serving(directory: PathBuf) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let token = line.split_whitespace().nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
                let (status, text) = match std::fs::read_to_string(directory.join(token)) {
                    Ok(text) => ("200 OK", text),
                    Err(_) => ("404 Not Found", String::new()),
                };
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                    text.len()
                )
                .unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn our_own_file_is_known_from_everybody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let probing = |port| Probing {
            resolver: Resolver::at(&[], 53),
            challenges: directory.path().to_owned(),
            port,
            random: |bytes| bytes.fill(7),
        };
        let domain = "blog.example.org".parse().unwrap();
        let here = IpAddr::from([127, 0, 0, 1]);
        let ours = probing(serving(directory.path().to_owned()));
        let nonce = Nonce::make(&ours).unwrap();
        assert_eq!(ours.ask(&domain, here, &nonce).await, Answer::Ours);
        let others = probing(serving(elsewhere.path().to_owned()));
        assert_eq!(others.ask(&domain, here, &nonce).await, Answer::Other(404));
        let nobody = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
        assert!(matches!(probing(nobody).ask(&domain, here, &nonce).await, Answer::Nobody(_)));
        drop(nonce);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
