//! The fleet's own certificate authority: for the controller's server certificate and the agents' client
//! certificates. Nothing of the public Web is signed or trusted by it.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::model::certificate::CertifiedName;
use crate::wire::tls::{BACKDATED, Peer};

/// An agent's certificate lives this long; it asks for the next at half of it.
pub const AGENT_LIFE: Duration = Duration::from_secs(7 * DAY_S);
/// The controller makes itself a new one at every start and every day.
pub const SERVER_LIFE: Duration = Duration::from_secs(90 * DAY_S);
/// A site's certificate lives this long; its agent asks for the next with a third of it left.
pub const SITE_LIFE: Duration = Duration::from_secs(30 * DAY_S);
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 366 * DAY_S);
const DAY_S: u64 = 86_400;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("cannot make a certificate")]
    Issue(#[source] rcgen::Error),
    #[error("the authority's certificate or key cannot be used")]
    Unusable(#[source] rcgen::Error),
    #[error("the certificate request is not valid: {0}")]
    Request(String),
    #[error("`{0}` is neither a host name nor an address")]
    Name(String),
}

/// Certificate and key, as they are kept (PEM).
pub struct AuthorityPem {
    pub certificate: String,
    pub key: String,
}

pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Of a new fleet.
    pub fn create(fleet_name: &str, now: jiff::Timestamp) -> Result<AuthorityPem, AuthorityError> {
        Self::make(format!("Socle authority of {fleet_name}"), now)
    }

    /// For the fleet's sites with private names: people may trust it without giving it any power over the fleet.
    pub fn create_for_sites(fleet_name: &str, now: jiff::Timestamp) -> Result<AuthorityPem, AuthorityError> {
        Self::make(format!("Sites of {fleet_name}"), now)
    }

    fn make(name: String, now: jiff::Timestamp) -> Result<AuthorityPem, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Issue)?;
        let mut params = template(now, AUTHORITY_LIFE);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(AuthorityError::Issue)?;
        Ok(AuthorityPem { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    pub fn load(pem: &AuthorityPem) -> Result<Self, AuthorityError> {
        use rustls::pki_types::pem::PemObject;
        let key = KeyPair::from_pem(&pem.key).map_err(AuthorityError::Unusable)?;
        let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes())
            .map_err(|_| AuthorityError::Unusable(rcgen::Error::CouldNotParseCertificate))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Unusable)?;
        Ok(Self { certificate, pem: pem.certificate.clone(), issuer })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// For the controller itself: its chain (own, then the authority's) and key. Names are host names or
    /// addresses.
    pub fn for_controller(
        &self,
        names: &[String],
        now: jiff::Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Issue)?;
        let mut params = template(now, SERVER_LIFE);
        params.distinguished_name.push(DnType::CommonName, "Socle controller");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => {
                    name.as_str().try_into().map(SanType::DnsName).map_err(|_| AuthorityError::Name(name.clone()))
                }
            })
            .collect::<Result<_, _>>()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Issue)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok((chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    /// For an agent. Only the public key is taken from the request; whatever else it asks for is ignored.
    /// The serial number makes certificates tellable apart: 16 bytes, random.
    pub fn for_agent(
        &self,
        csr: &[u8],
        peer: &Peer,
        serial: [u8; 16],
        now: jiff::Timestamp,
        life: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let request = request(csr)?;
        let mut params = template(now, life);
        let uri = peer.uri().try_into().map_err(AuthorityError::Issue)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(AuthorityError::Issue)?;
        Ok(certificate.der().clone())
    }

    /// For a site: a chain (PEM) with the authority's own certificate. Only the public key is taken from the request.
    pub fn for_site(
        &self,
        csr: &[u8],
        names: &[CertifiedName],
        serial: [u8; 16],
        now: jiff::Timestamp,
    ) -> Result<String, AuthorityError> {
        let request = request(csr)?;
        let mut params = template(now, SITE_LIFE);
        let name = |name: &CertifiedName| {
            let text = name.to_string();
            text.as_str().try_into().map(SanType::DnsName).map_err(|_| AuthorityError::Name(text))
        };
        params.subject_alt_names = names.iter().map(name).collect::<Result<_, _>>()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&request.public_key, &self.issuer).map_err(AuthorityError::Issue)?;
        Ok(format!("{}{}", leaf.pem(), self.pem()))
    }

    /// The authority's own certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// A certificate request whose key is of the one kind we sign for.
fn request(csr: &[u8]) -> Result<CertificateSigningRequestParams, AuthorityError> {
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
        .map_err(|error| AuthorityError::Request(error.to_string()))?;
    if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(AuthorityError::Request("its key is not of the kind ECDSA P-256".to_owned()));
    }
    Ok(request)
}

fn template(now: jiff::Timestamp, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(now.as_second().max(0).unsigned_abs());
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + life;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::wire::tls;

    fn now() -> jiff::Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn authority() -> Authority {
        Authority::load(&Authority::create("Test", now()).unwrap()).unwrap()
    }

    fn peer() -> Peer {
        Peer { fleet: uuid::Uuid::from_u128(7), server: "ks1".parse().unwrap(), identity: Digest::of("id") }
    }

    fn request(params: CertificateParams, key: &KeyPair) -> Vec<u8> {
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn issue(authority: &Authority, csr: &[u8]) -> Result<CertificateDer<'static>, AuthorityError> {
        authority.for_agent(csr, &peer(), [1; 16], now(), AGENT_LIFE)
    }

    #[test]
    fn an_agents_certificate_names_it_and_lives_a_week() {
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let certificate = issue(&authority, &request(CertificateParams::default(), &key)).unwrap();
        assert_eq!(tls::Peer::of(&certificate).unwrap(), peer());
        let (begin, end) = tls::validity(&certificate).unwrap();
        assert_eq!(begin, "2026-11-20T12:00:00Z".parse().unwrap());
        assert_eq!(end, "2026-11-30T12:00:00Z".parse().unwrap());
        assert_eq!(tls::pin(authority.certificate()).unwrap().len(), 32);
        assert!(tls::Peer::of(authority.certificate()).is_err());
    }

    #[test]
    fn what_a_request_asks_for_is_ignored_or_refused() {
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let plain = issue(&authority, &request(CertificateParams::default(), &key)).unwrap();
        let mut asking = CertificateParams::new(vec!["controller.example.org".to_owned()]).unwrap();
        asking.distinguished_name.push(DnType::CommonName, "Socle controller");
        asking.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
        asking.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let asked = issue(&authority, &request(asking, &key)).unwrap();
        // ECDSA signatures differ each time; what is signed does not.
        let signed = |der: &CertificateDer<'_>| {
            use x509_parser::prelude::FromDer;
            x509_parser::prelude::X509Certificate::from_der(der).unwrap().1.tbs_certificate.as_ref().to_vec()
        };
        assert_eq!(signed(&plain), signed(&asked));

        let mut authority_like = CertificateParams::default();
        authority_like.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if let Ok(csr) = authority_like.serialize_request(&key)
            && let Ok(certificate) = issue(&authority, csr.der())
        {
            assert_eq!(signed(&plain), signed(&certificate));
        }
        for kind in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let other = KeyPair::generate_for(kind).unwrap();
            let csr = request(CertificateParams::default(), &other);
            assert!(matches!(issue(&authority, &csr), Err(AuthorityError::Request(_))));
        }
        let mut forged = request(CertificateParams::default(), &key);
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(issue(&authority, &forged), Err(AuthorityError::Request(_))));
        assert!(matches!(issue(&authority, b"no"), Err(AuthorityError::Request(_))));
    }

    #[test]
    fn names_of_a_controller_are_hosts_or_addresses() {
        let authority = authority();
        let (chain, _) =
            authority.for_controller(&["controller.example.org".into(), "10.0.0.1".into()], now()).unwrap();
        assert_eq!(chain.len(), 2);
        assert!(matches!(authority.for_controller(&["a\u{e9}".into()], now()), Err(AuthorityError::Name(_))));
    }
}
