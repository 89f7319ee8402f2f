//! TLS between controller and agents: 1.3 only, an authority of the fleet's own, no public ones.
//!
//! An agent's certificate names it by a URI: `socle://FLEET/SERVER/IDENTITY`. Nothing else in it counts.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::model::{Digest, Name};

/// ALPN protocol of an enrolled agent: the handshake demands its certificate.
pub const AGENT: &[u8] = b"socle-agent/1";
/// ALPN protocol of the one enrolment call.
pub const ENROL: &[u8] = b"socle-enrol/1";
/// ALPN protocol of the operators' API.
pub const HTTP: &[u8] = b"http/1.1";

/// A certificate of the fleet begins so long before it is made: the clock of a server may be a day or two behind.
pub const BACKDATED: std::time::Duration = std::time::Duration::from_secs(3 * 86_400);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate or key cannot be used")]
    Unusable(#[source] rustls::Error),
    #[error("the authority's certificate cannot be used")]
    Authority(#[source] rustls::Error),
    #[error("the verifier of certificates cannot be made: {0}")]
    Verifier(String),
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    #[error("the certificate names no server")]
    Nameless,
}

/// Who an agent is, as its verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub fleet: uuid::Uuid,
    pub server: Name,
    /// [`super::PublicKey::id`] of the server's long-lived key.
    pub identity: Digest,
}

impl Peer {
    /// As it stands in the certificate.
    pub fn uri(&self) -> String {
        format!("socle://{}/{}/{}", self.fleet, self.server, self.identity)
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("socle://")?.split('/');
        let peer = Self {
            fleet: parts.next()?.parse().ok()?,
            server: parts.next()?.parse().ok()?,
            identity: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(peer)
    }

    /// Of a certificate whose chain was verified.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| TlsError::Unreadable(error.to_string()))?;
        let names = parsed.subject_alternative_name().map_err(|error| TlsError::Unreadable(error.to_string()))?;
        let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match (uris.next().and_then(Self::from_uri), uris.next()) {
            (Some(peer), None) => Ok(peer),
            _ => Err(TlsError::Nameless),
        }
    }
}

/// Begin and end of a certificate's life.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(jiff::Timestamp, jiff::Timestamp), TlsError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| TlsError::Unreadable(error.to_string()))?;
    let time = |time: x509_parser::time::ASN1Time| {
        jiff::Timestamp::from_second(time.timestamp()).map_err(|error| TlsError::Unreadable(error.to_string()))
    };
    Ok((time(parsed.validity().not_before)?, time(parsed.validity().not_after)?))
}

/// SHA-256 of the SubjectPublicKeyInfo: what a join token pins.
pub fn pin(certificate: &CertificateDer<'_>) -> Result<[u8; 32], TlsError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| TlsError::Unreadable(error.to_string()))?;
    Ok(*Digest::of(parsed.public_key().raw).as_bytes())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(TlsError::Authority)?;
    }
    Ok(Arc::new(roots))
}

/// For an enrolled agent.
pub fn agent_config(
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Unusable)?
        .with_root_certificates(roots(&[authority])?)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![AGENT.to_vec()];
    Ok(config)
}

/// For a server that knows no more of its controller than the pin of its authority.
pub fn enrol_config(pin: [u8; 32]) -> Result<ClientConfig, TlsError> {
    pinned_config(pin, ENROL)
}

/// For an operator's program, which knows the same.
pub fn operators_config(pin: [u8; 32]) -> Result<ClientConfig, TlsError> {
    pinned_config(pin, HTTP)
}

fn pinned_config(pin: [u8; 32], protocol: &[u8]) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin, provider: provider() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

/// For agents that are enrolled. The chain holds the controller's certificate, then the authority's.
pub fn controller_config(
    authorities: &[CertificateDer<'static>],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider())
        .build()
        .map_err(|error| TlsError::Verifier(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Unusable)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![AGENT.to_vec()];
    // A resumed session would bring an old certificate back; agents connect rarely.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For the enrolment call.
pub fn controller_enrol_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    anonymous_config(chain, key, ENROL)
}

/// For the operators' API: who asks says so by a token.
pub fn operators_server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    anonymous_config(chain, key, HTTP)
}

fn anonymous_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    protocol: &[u8],
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Accepts a chain that ends in the authority with the pinned key, and nothing else.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| pin(certificate).is_ok_and(|pin| pin == self.pin))
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
