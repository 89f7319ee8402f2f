//! Questions to the DNS. That a name or a record does not exist is an answer; that nobody answered is an error.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Negative, NetError};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use crate::host::PortError;
use crate::model::Domain;

/// The name of a record, always whole.
pub type RecordName = Name;

/// Aliases followed before it is called a loop.
const ALIASES: usize = 8;
/// A question to one server; asked twice.
const QUESTION: Duration = Duration::from_secs(4);
const PORT: u16 = 53;

#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("cannot read which name servers to ask")]
    System(#[source] NetError),
    #[error("cannot ask for the {kind} records of `{name}`")]
    NoAnswer { name: String, kind: RecordType, source: Box<NetError> },
    #[error("the aliases at `{0}` do not end")]
    Aliases(String),
    #[error("`{name}` is an alias of `{target}`, which is no name for a record")]
    Target { name: String, target: String },
    #[error("no zone is found for `{0}`")]
    NoZone(String),
}

impl From<LookupError> for PortError {
    fn from(error: LookupError) -> Self {
        let says = error.to_string();
        match error {
            LookupError::System(source) => {
                PortError::new("dns.system", says).because(source).hint("cat /etc/resolv.conf")
            }
            LookupError::NoAnswer { name, kind, source } => {
                let hint = format!("resolvectl query --type={kind} {name}");
                PortError::new("dns.lookup", says).because(source).hint(hint).retryable()
            }
            LookupError::Aliases(name) | LookupError::Target { name, .. } => {
                PortError::new("dns.alias", says).hint(format!("correct the CNAME record at `{name}`"))
            }
            LookupError::NoZone(_) => PortError::new("dns.zone", says).hint("set `zone` for the provider"),
        }
    }
}

/// Where a domain leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    pub v4: Vec<Ipv4Addr>,
    pub v6: Vec<Ipv6Addr>,
}

impl Addresses {
    pub fn all(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.v4.iter().copied().map(IpAddr::from).chain(self.v6.iter().copied().map(IpAddr::from))
    }
}

/// One CAA record (RFC 8659, 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caa {
    pub critical: bool,
    /// Lower case.
    pub tag: String,
    pub value: String,
}

/// The CAA records that count for a domain, and the name they stand at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaaSet {
    pub at: String,
    pub records: Vec<Caa>,
}

/// A name server of a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameServer {
    pub name: String,
    /// Empty: its name has none.
    pub addresses: Vec<SocketAddr>,
}

/// Asks the recursive servers of this machine, or others.
pub struct Resolver {
    /// None: those of `/etc/resolv.conf`, which is read for every question, for it changes.
    servers: Option<Vec<SocketAddr>>,
    /// Where authoritative servers listen.
    port: u16,
}

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`.
    pub fn system() -> Self {
        Self { servers: None, port: PORT }
    }

    /// Asks these, in this order; authoritative servers are expected at `port`.
    pub fn at(servers: &[SocketAddr], port: u16) -> Self {
        Self { servers: Some(servers.to_vec()), port }
    }

    fn recursive(&self) -> Result<TokioResolver, LookupError> {
        match &self.servers {
            Some(servers) => asking(servers, true),
            None => built(TokioResolver::builder_tokio().map_err(LookupError::System)?, true),
        }
    }

    pub async fn addresses(&self, domain: &Domain) -> Result<Addresses, LookupError> {
        self.addresses_of(&name_of(domain.as_str())).await
    }

    async fn addresses_of(&self, name: &RecordName) -> Result<Addresses, LookupError> {
        let mut found = Addresses::default();
        for kind in [RecordType::A, RecordType::AAAA] {
            for record in ask(&self.recursive()?, name, kind).await? {
                match record.data {
                    RData::A(address) => found.v4.push(address.0),
                    RData::AAAA(address) => found.v6.push(address.0),
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// The first set on the way from the domain to its top (RFC 8659, 3).
    pub async fn caa(&self, domain: &Domain) -> Result<Option<CaaSet>, LookupError> {
        let mut at = name_of(domain.as_str());
        while !at.is_root() {
            let records: Vec<_> =
                ask(&self.recursive()?, &at, RecordType::CAA).await?.into_iter().filter_map(caa).collect();
            if !records.is_empty() {
                return Ok(Some(CaaSet { at: text_of(&at), records }));
            }
            at = at.base_name();
        }
        Ok(None)
    }

    /// `_acme-challenge.` and the domain, or what that is an alias of.
    pub async fn challenge_name(&self, domain: &Domain) -> Result<RecordName, LookupError> {
        let first = name_of(&format!("_acme-challenge.{domain}"));
        let mut name = first.clone();
        for _ in 0..ALIASES {
            let answers = ask(&self.recursive()?, &name, RecordType::CNAME).await?;
            let alias = answers.into_iter().find_map(|record| match record.data {
                RData::CNAME(target) if record.name == name => Some(target.0),
                _ => None,
            });
            match alias {
                None => return Ok(name),
                // It goes into programs' arguments and providers' addresses.
                Some(target) if !plain(&target) => {
                    return Err(LookupError::Target { name: text_of(&name), target: target.to_ascii() });
                }
                Some(target) => name = whole(target),
            }
        }
        Err(LookupError::Aliases(text_of(&first)))
    }

    /// The apex of the zone that holds the name.
    pub async fn zone(&self, name: &RecordName) -> Result<RecordName, LookupError> {
        let mut at = name.clone();
        while !at.is_root() {
            let answers = ask(&self.recursive()?, &at, RecordType::SOA).await?;
            if answers.iter().any(|record| record.name == at && matches!(record.data, RData::SOA(_))) {
                return Ok(at);
            }
            at = at.base_name();
        }
        Err(LookupError::NoZone(text_of(name)))
    }

    /// Every name server of the zone that holds the name.
    pub async fn authoritative(&self, name: &RecordName) -> Result<Vec<NameServer>, LookupError> {
        let zone = self.zone(name).await?;
        let mut servers = BTreeMap::new();
        for record in ask(&self.recursive()?, &zone, RecordType::NS).await? {
            if let RData::NS(server) = record.data {
                let found = self.addresses_of(&whole(server.0.clone())).await?;
                let addresses = found.all().map(|ip| SocketAddr::new(ip, self.port)).collect();
                servers.insert(text_of(&server.0), addresses);
            }
        }
        if servers.is_empty() {
            return Err(LookupError::NoZone(text_of(name)));
        }
        Ok(servers.into_iter().map(|(name, addresses)| NameServer { name, addresses }).collect())
    }

    /// The TXT values that this one server has.
    pub async fn txt_at(&self, server: SocketAddr, name: &RecordName) -> Result<Vec<String>, LookupError> {
        let one = asking(&[server], false)?;
        let texts = ask(&one, name, RecordType::TXT).await?.into_iter().filter_map(|record| match record.data {
            RData::TXT(text) => Some(text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()),
            _ => None,
        });
        Ok(texts.collect())
    }
}

fn asking(servers: &[SocketAddr], recursive: bool) -> Result<TokioResolver, LookupError> {
    let server = |address: &SocketAddr| {
        let at_port = |mut connection: ConnectionConfig| {
            connection.port = address.port();
            connection
        };
        NameServerConfig::new(
            address.ip(),
            true,
            vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())],
        )
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    built(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()), recursive)
}

fn built(mut builder: ResolverBuilder<TokioRuntimeProvider>, recursive: bool) -> Result<TokioResolver, LookupError> {
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = QUESTION;
    options.attempts = 1;
    options.recursion_desired = recursive;
    // What the world sees, and sees now.
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    builder.build().map_err(LookupError::System)
}

async fn ask(resolver: &TokioResolver, name: &RecordName, kind: RecordType) -> Result<Vec<Record>, LookupError> {
    match resolver.lookup(name.clone(), kind).await {
        Ok(found) => Ok(found.answers().to_vec()),
        Err(NetError::Dns(Negative::NoRecordsFound(_))) => Ok(Vec::new()),
        Err(error) => Err(LookupError::NoAnswer { name: text_of(name), kind, source: Box::new(error) }),
    }
}

fn caa(record: Record) -> Option<Caa> {
    let RData::CAA(caa) = record.data else { return None };
    let value = String::from_utf8_lossy(&caa.value).into_owned();
    Some(Caa { critical: caa.issuer_critical, tag: caa.tag.to_ascii_lowercase(), value })
}

/// `text` is a domain, with labels before it that may begin with `_`.
fn name_of(text: &str) -> RecordName {
    whole(Name::from_ascii(text).expect("a domain is a name"))
}

fn whole(mut name: Name) -> RecordName {
    name.set_fqdn(true);
    name.to_lowercase()
}

/// Letters, digits, `-` and `_` only.
pub(super) fn plain(name: &Name) -> bool {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_root() && name.iter().all(|label| label.iter().all(good) && label.first() != Some(&b'-'))
}

/// Without the final dot.
pub fn text_of(name: &RecordName) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}
