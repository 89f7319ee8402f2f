//! Private keys, and what is signed by them.

use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};

use super::{Bundle, chain};
use crate::model::certificate::{CertifiedName, KeyType, Meta, Origin};

/// Long enough that it needs no attention: nobody trusts it anyway, it keeps a site answering.
const SELF_SIGNED_DAYS: i64 = 397;
const BACKDATED_DAYS: i64 = 3;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot make a private key")]
    Make(#[source] rcgen::Error),
    #[error("the private key that was kept cannot be read")]
    Unreadable(#[source] rcgen::Error),
    #[error("cannot sign for {0}")]
    Sign(String, #[source] rcgen::Error),
}

/// A new private key as PEM (PKCS #8). RSA takes tenths of a second of computing.
pub fn generate(kind: KeyType) -> Result<String, KeyError> {
    let pair = match kind {
        KeyType::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    };
    Ok(pair.map_err(KeyError::Make)?.serialize_pem())
}

/// A request (PKCS #10, DER) for these names and nothing else.
pub fn request(key: &str, names: &[CertifiedName]) -> Result<Vec<u8>, KeyError> {
    let pair = KeyPair::from_pem(key).map_err(KeyError::Unreadable)?;
    let shown = || names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let request = template(names).and_then(|params| params.serialize_request(&pair));
    Ok(request.map_err(|error| KeyError::Sign(shown(), error))?.der().to_vec())
}

/// A certificate that keeps a site answering until a trusted one is there.
pub fn self_signed(names: &[CertifiedName], kind: KeyType, now: jiff::Timestamp) -> Result<Bundle, KeyError> {
    let key = generate(kind)?;
    let pair = KeyPair::from_pem(&key).map_err(KeyError::Unreadable)?;
    let shown = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let failed = |error| KeyError::Sign(shown.clone(), error);
    let mut params = template(names).map_err(failed)?;
    let day = |days: i64| Duration::from_secs((now.as_second() + days * 86_400).max(0).unsigned_abs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) = (epoch + day(-BACKDATED_DAYS), epoch + day(SELF_SIGNED_DAYS));
    params.distinguished_name.push(DnType::CommonName, "self-signed, until a trusted certificate is here");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let chain = params.self_signed(&pair).map_err(failed)?.pem();
    let checked = chain::read(&chain).map_err(|_| failed(rcgen::Error::CouldNotParseCertificate))?;
    let meta = Meta {
        source: Origin::SelfSigned,
        names: names.to_vec(),
        not_before: checked.not_before,
        not_after: checked.not_after,
        issued_at: now,
        key: kind,
        serial: checked.serial,
        authority: None,
        profile: None,
        renewal_id: None,
    };
    Ok(Bundle { chain, key, meta })
}

fn template(names: &[CertifiedName]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_key_signs_what_the_check_accepts() {
        let names: Vec<CertifiedName> = ["a.example.org", "*.b.example.org"].map(|name| name.parse().unwrap()).into();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        for kind in [KeyType::P256, KeyType::Rsa2048] {
            let bundle = self_signed(&names, kind, now).unwrap();
            let checked = chain::check(&bundle.chain, &bundle.key, &names, now).unwrap();
            assert_eq!((checked.names, checked.key), (names.clone(), Some(kind)));
            assert_eq!(bundle.meta.not_after, "2027-12-25T12:00:00Z".parse().unwrap());
            let csr = request(&bundle.key, &names).unwrap();
            let csr = rcgen::CertificateSigningRequestParams::from_der(&csr.as_slice().into()).unwrap();
            assert_eq!(csr.params.subject_alt_names.len(), 2);
        }
        assert!(matches!(request("no key", &names), Err(KeyError::Unreadable(_))));
    }
}
