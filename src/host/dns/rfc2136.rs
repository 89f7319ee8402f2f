//! Dynamic updates (RFC 2136) signed with a shared key (RFC 8945), over TCP.

use std::net::SocketAddr;
use std::time::Duration;

use dns_update::{DnsUpdater, TsigAlgorithm};
use tokio::time::timeout;

use super::error::{Act, DnsError};
use super::{Place, library};

/// An update is one question and one answer.
const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 53;

/// The library's own type is not `Copy`.
pub(super) type Algorithm = fn() -> TsigAlgorithm;

pub struct Server {
    /// Host name or address, with a port or without.
    pub(super) server: String,
    pub(super) key_name: String,
    pub(super) key: Vec<u8>,
    pub(super) algorithm: Algorithm,
    pub(super) zone: Option<super::RecordName>,
}

/// By their names in RFC 8945, 6; what is broken or needs a ticket is left out.
pub(super) const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("hmac-sha224", || TsigAlgorithm::HmacSha224),
    ("hmac-sha256", || TsigAlgorithm::HmacSha256),
    ("hmac-sha384", || TsigAlgorithm::HmacSha384),
    ("hmac-sha512", || TsigAlgorithm::HmacSha512),
];

impl Server {
    pub(super) async fn change(&self, act: Act, place: &Place, value: &str) -> Result<(), DnsError> {
        let not_reached = |says: String| DnsError::NotReached {
            provider: self.server.clone(),
            act,
            name: super::lookup::text_of(&place.name),
            says,
        };
        let work = async {
            let address = self.address().await.map_err(|error| not_reached(error.to_string()))?;
            let made = DnsUpdater::new_rfc2136_tsig(
                format!("tcp://{address}"),
                &self.key_name,
                self.key.clone(),
                (self.algorithm)(),
            );
            let updater = made.map_err(|error| DnsError::Settings(vec![error.to_string()]))?;
            library::apply(&updater, &self.server, act, place, value, &[]).await
        };
        let done = timeout(LIMIT, work).await;
        done.unwrap_or_else(|_| Err(not_reached(format!("no answer within {} s", LIMIT.as_secs()))))
    }

    async fn address(&self) -> std::io::Result<SocketAddr> {
        let none = || std::io::Error::other(format!("`{}` has no address", self.server));
        if let Ok(ip) = self.server.trim_matches(['[', ']']).parse() {
            return Ok(SocketAddr::new(ip, PORT));
        }
        let has_port = self.server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let whole = if has_port { self.server.clone() } else { format!("{}:{PORT}", self.server) };
        tokio::net::lookup_host(whole).await?.next().ok_or_else(none)
    }
}
