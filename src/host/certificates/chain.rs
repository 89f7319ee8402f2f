//! Whether a chain and a key may be used together. Pure.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::model::certificate::{CertifiedName, KeyType};

/// A certificate may begin this much later than now: clocks differ.
const SKEW: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// More certificates than any authority sends.
const MOST: usize = 10;

/// What a leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub names: Vec<CertifiedName>,
    pub not_before: jiff::Timestamp,
    pub not_after: jiff::Timestamp,
    /// Hexadecimal.
    pub serial: String,
    /// Of RFC 9773, 4.1.
    pub renewal_id: Option<String>,
    /// `None`: another kind than those that are made here.
    pub key: Option<KeyType>,
}

/// Why a chain is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainProblem {
    #[error("certificate {0} of the chain cannot be read: {1}")]
    Unreadable(usize, String),
    #[error("the chain holds no certificate")]
    Empty,
    #[error("the chain holds more than {MOST} certificates")]
    TooLong,
    #[error("the private key cannot be read")]
    KeyUnreadable,
    #[error("the certificate is for another private key")]
    OtherKey,
    #[error("the certificate is not for `{0}`")]
    Missing(CertifiedName),
    #[error("certificate {0} of the chain expired at {1}")]
    Expired(usize, jiff::Timestamp),
    #[error("certificate {0} of the chain is valid only from {1}")]
    NotYet(usize, jiff::Timestamp),
    #[error("certificate {0} of the chain is not signed by the next one")]
    NotSignedByNext(usize),
    #[error("the first certificate is an authority's, not a server's")]
    Authority,
}

/// Several problems in one line.
pub struct All<'a>(pub &'a [ChainProblem]);

impl fmt::Display for All<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Reads the leaf, and refuses the chain with all its problems: the leaf is for this key and covers all `names`,
/// every certificate is valid now, each is signed by the next.
pub fn check(
    chain: &str,
    key: &str,
    names: &[CertifiedName],
    now: jiff::Timestamp,
) -> Result<Checked, Vec<ChainProblem>> {
    let ders = ders(chain)?;
    let mut problems = Vec::new();
    let mut parsed = Vec::new();
    for (at, der) in ders.iter().enumerate() {
        match X509Certificate::from_der(der) {
            Ok((_, certificate)) => parsed.push(certificate),
            Err(error) => problems.push(ChainProblem::Unreadable(at + 1, error.to_string())),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let leaf = &parsed[0];
    let checked = leaf_of(leaf)?;
    match public_key(key) {
        None => problems.push(ChainProblem::KeyUnreadable),
        Some(public) if public != leaf.public_key().raw => problems.push(ChainProblem::OtherKey),
        Some(_) => {}
    }
    let missing = names.iter().filter(|name| !checked.names.iter().any(|given| given.covers(name)));
    problems.extend(missing.cloned().map(ChainProblem::Missing));
    if parsed.len() > 1 && leaf.is_ca() {
        problems.push(ChainProblem::Authority);
    }
    for (at, certificate) in parsed.iter().enumerate() {
        let (begin, end) = validity(certificate);
        if end <= now {
            problems.push(ChainProblem::Expired(at + 1, end));
        }
        if begin > now + SKEW {
            problems.push(ChainProblem::NotYet(at + 1, begin));
        }
    }
    for (at, pair) in parsed.windows(2).enumerate() {
        let named = pair[0].issuer().as_raw() == pair[1].subject().as_raw();
        if !named || pair[0].verify_signature(Some(pair[1].public_key())).is_err() {
            problems.push(ChainProblem::NotSignedByNext(at + 1));
        }
    }
    if problems.is_empty() { Ok(checked) } else { Err(problems) }
}

/// What the leaf says, unchecked.
pub fn read(chain: &str) -> Result<Checked, Vec<ChainProblem>> {
    let ders = ders(chain)?;
    let (_, leaf) =
        X509Certificate::from_der(&ders[0]).map_err(|error| vec![ChainProblem::Unreadable(1, error.to_string())])?;
    leaf_of(&leaf)
}

/// The first certificate, DER.
pub fn leaf(chain: &str) -> Result<CertificateDer<'static>, Vec<ChainProblem>> {
    Ok(ders(chain)?.swap_remove(0))
}

/// At least one, the leaf first.
pub fn ders(chain: &str) -> Result<Vec<CertificateDer<'static>>, Vec<ChainProblem>> {
    let mut ders = Vec::new();
    for (at, der) in CertificateDer::pem_slice_iter(chain.as_bytes()).enumerate() {
        ders.push(der.map_err(|error| vec![ChainProblem::Unreadable(at + 1, error.to_string())])?);
        if ders.len() > MOST {
            return Err(vec![ChainProblem::TooLong]);
        }
    }
    if ders.is_empty() { Err(vec![ChainProblem::Empty]) } else { Ok(ders) }
}

/// Begin and end; an end beyond all dates (RFC 5280, 4.1.2.5) is the last one there is.
fn validity(certificate: &X509Certificate<'_>) -> (jiff::Timestamp, jiff::Timestamp) {
    let time = |time: x509_parser::time::ASN1Time| {
        let bounds = jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second();
        let second = time.timestamp().clamp(*bounds.start(), *bounds.end());
        jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX)
    };
    (time(certificate.validity().not_before), time(certificate.validity().not_after))
}

fn leaf_of(leaf: &X509Certificate<'_>) -> Result<Checked, Vec<ChainProblem>> {
    let unreadable = |error: String| vec![ChainProblem::Unreadable(1, error)];
    let (not_before, not_after) = validity(leaf);
    let alternative = leaf.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
    let names = alternative.iter().flat_map(|names| &names.value.general_names);
    // Addresses and names that are none of ours say nothing.
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => name.to_ascii_lowercase().parse().ok(),
        _ => None,
    });
    let serial = leaf.tbs_certificate.raw_serial();
    let authority_key = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref().map(|key| key.0),
        _ => None,
    });
    let base64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let algorithm = &leaf.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let key = if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        Some(KeyType::Rsa2048)
    } else if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256) {
        Some(KeyType::P256)
    } else {
        None
    };
    Ok(Checked {
        names: names.collect(),
        not_before,
        not_after,
        serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
        renewal_id: authority_key.map(|key| format!("{}.{}", base64(key), base64(serial))),
        key,
    })
}

/// SubjectPublicKeyInfo of a private key in any of the three PEM forms.
fn public_key(pem: &str) -> Option<Vec<u8>> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    let pair = rcgen::KeyPair::try_from(&der).ok()?;
    Some(rcgen::PublicKeyData::subject_public_key_info(&pair))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    const NOW: &str = "2026-11-23T12:00:00Z";

    fn now() -> jiff::Timestamp {
        NOW.parse().unwrap()
    }

    fn names(names: &[&str]) -> Vec<CertifiedName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    struct Ca {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca(name: &str) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Ca { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// Chain and key.
    fn issue(ca: &Ca, years: (i32, i32)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example.org".to_owned(), "*.b.org".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &ca.issuer).unwrap();
        (format!("{}{}", leaf.pem(), ca.pem), key.serialize_pem())
    }

    #[test]
    fn a_good_chain_says_what_is_in_it() {
        let (chain, key) = issue(&ca("one"), (2026, 2027));
        let checked = check(&chain, &key, &names(&["a.example.org", "x.b.org"]), now()).unwrap();
        assert_eq!(checked.names, names(&["a.example.org", "*.b.org"]));
        assert_eq!(checked.not_after, "2027-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(checked.key, Some(KeyType::P256));
        let (authority, serial) = checked.renewal_id.as_deref().unwrap().split_once('.').unwrap();
        assert!(!authority.is_empty() && !serial.is_empty());
        assert_eq!(leaf(&chain).unwrap().len(), ders(&chain).unwrap()[0].len());
    }

    #[test]
    fn every_problem_is_told() {
        let (one, other) = (ca("one"), ca("other"));
        let (chain, key) = issue(&one, (2026, 2027));
        let (foreign_chain, foreign_key) = issue(&other, (2026, 2027));
        let wanted = names(&["a.example.org"]);
        let problems = |chain: &str, key: &str| check(chain, key, &wanted, now()).unwrap_err();
        assert_eq!(problems("", &key), [ChainProblem::Empty]);
        assert_eq!(problems(&chain, "no"), [ChainProblem::KeyUnreadable]);
        assert_eq!(problems(&chain, &foreign_key), [ChainProblem::OtherKey]);
        assert_eq!(problems(&chain.repeat(6), &key), [ChainProblem::TooLong]);
        let pem =
            |chain: &str| chain.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect::<Vec<_>>();
        let mixed = format!("{}{}", pem(&chain)[0], other.pem);
        assert_eq!(problems(&mixed, &key), [ChainProblem::NotSignedByNext(1)]);
        let swapped = format!("{}{}", one.pem, pem(&chain)[0]);
        let told = problems(&swapped, &key);
        assert!(told.contains(&ChainProblem::OtherKey) && told.contains(&ChainProblem::Authority), "{told:?}");
        assert!(
            told.contains(&ChainProblem::NotSignedByNext(1))
                && told.contains(&ChainProblem::Missing(wanted[0].clone()))
        );
        let same_name = ca("one");
        assert_eq!(problems(&format!("{}{}", pem(&chain)[0], same_name.pem), &key), [ChainProblem::NotSignedByNext(1)]);
        let (expired, key) = issue(&one, (2025, 2026));
        assert_eq!(problems(&expired, &key), [ChainProblem::Expired(1, "2026-01-01T00:00:00Z".parse().unwrap())]);
        let (early, key) = issue(&one, (2027, 2028));
        assert_eq!(problems(&early, &key), [ChainProblem::NotYet(1, "2027-01-01T00:00:00Z".parse().unwrap())]);
        let missing = check(&foreign_chain, &foreign_key, &names(&["c.org", "*.example.org"]), now()).unwrap_err();
        assert_eq!(
            All(&missing).to_string(),
            "the certificate is not for `c.org`, the certificate is not for `*.example.org`"
        );
        let (endless, key) = issue(&one, (2026, 9999));
        assert!(check(&endless, &key, &wanted, now()).is_ok());
        let torn = &chain[..chain.len() / 4];
        assert!(check(torn, &key, &wanted, now()).is_err());
    }
}
