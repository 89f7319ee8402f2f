//! Signed requests with a key that is on disk already (RFC 7515, flattened; RFC 8555, 6.2). Only for the two acts
//! of an account where the library makes the key itself: [`super::account`].

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::{Method, StatusCode};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

use super::error::{AuthorityError, AuthorityResult};
use super::http::{self, Answer, Http};

/// As many as the library makes.
const TRIES: u32 = 3;

/// An account's key: ECDSA on P-256.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

/// Who signs: a key nobody knows yet, or an account.
pub enum Signer<'a> {
    Key(&'a AccountKey),
    Account(&'a AccountKey, &'a str),
}

impl AccountKey {
    pub fn generate() -> AuthorityResult<Self> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Self::from_pkcs8(pkcs8.map_err(|_| AuthorityError::Key)?.as_ref())
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> AuthorityResult<Self> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| AuthorityError::Key)?;
        Ok(Self { pair, pkcs8: pkcs8.to_vec() })
    }

    /// Base64url of the PKCS #8 form. A secret.
    pub fn to_base64(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(&self.pkcs8)
    }

    pub fn from_base64(text: &str) -> AuthorityResult<Self> {
        Self::from_pkcs8(&BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| AuthorityError::Key)?)
    }

    pub fn der(&self) -> PrivatePkcs8KeyDer<'static> {
        self.pkcs8.clone().into()
    }

    /// RFC 7517.
    pub fn jwk(&self) -> Value {
        // SEC 1: 4, then two coordinates of 32 bytes.
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let base64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y) })
    }

    pub fn sign(&self, protected: &Value, payload: &Value) -> AuthorityResult<Value> {
        let (protected, payload) = (encoded(protected), encoded(payload));
        let signed = self.pair.sign(&SystemRandom::new(), format!("{protected}.{payload}").as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signed.map_err(|_| AuthorityError::Key)?);
        Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
    }
}

/// External account binding (RFC 8555, 7.3.4).
pub fn binding(id: &str, secret: &str, key: &AccountKey, url: &str) -> AuthorityResult<Value> {
    let secret = BASE64_URL_SAFE_NO_PAD.decode(secret.trim().trim_end_matches('='));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret.map_err(|_| AuthorityError::Binding)?);
    let (protected, payload) = (encoded(&json!({ "alg": "HS256", "kid": id, "url": url })), encoded(&key.jwk()));
    let signature = hmac::sign(&secret, format!("{protected}.{payload}").as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
    Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
}

/// Sends a signed request; a bad nonce is answered with another one.
pub async fn post(
    http: &Http,
    new_nonce: &str,
    signer: Signer<'_>,
    url: &str,
    payload: &Value,
) -> AuthorityResult<Answer> {
    let nonce_of = |answer: &Answer| {
        let nonce = answer.headers().get("replay-nonce").and_then(|nonce| nonce.to_str().ok());
        nonce.map(str::to_owned)
    };
    let mut nonce = None;
    for _ in 0..TRIES {
        let fresh = match nonce.take() {
            Some(nonce) => nonce,
            None => {
                let answer = http.exchange(Method::HEAD, new_nonce, HeaderMap::new(), Bytes::new()).await?;
                let host = http::host(new_nonce);
                nonce_of(&answer).ok_or(AuthorityError::Nonsense { host, what: "no nonce".to_owned() })?
            }
        };
        let (key, mut protected) = match &signer {
            Signer::Key(key) => (key, json!({ "jwk": key.jwk() })),
            Signer::Account(key, id) => (key, json!({ "kid": id })),
        };
        protected["alg"] = "ES256".into();
        protected["nonce"] = fresh.into();
        protected["url"] = url.into();
        let body = key.sign(&protected, payload)?.to_string();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jose+json"));
        let answer = http.exchange(Method::POST, url, headers, body.into()).await?;
        // Every other refusal is an error already.
        if answer.status() != StatusCode::BAD_REQUEST {
            return Ok(answer);
        }
        nonce = nonce_of(&answer);
    }
    Err(AuthorityError::Unavailable { host: http::host(url), status: 400, retry_after_s: None })
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_signs_what_verifies() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
        let key = AccountKey::generate().unwrap();
        let again = AccountKey::from_base64(&key.to_base64()).unwrap();
        assert_eq!(key.jwk(), again.jwk());
        let signed = again.sign(&json!({ "alg": "ES256" }), &json!({ "a": 1 })).unwrap();
        let text = format!("{}.{}", signed["protected"].as_str().unwrap(), signed["payload"].as_str().unwrap());
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signed["signature"].as_str().unwrap()).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref());
        public.verify(text.as_bytes(), &signature).unwrap();
        assert!(matches!(AccountKey::from_base64("AAAA"), Err(AuthorityError::Key)));
    }

    #[test]
    fn a_binding_takes_padded_secrets_and_refuses_others() {
        let key = AccountKey::generate().unwrap();
        let bound = |secret: &str| binding("kid", secret, &key, "https://ca/new-account");
        assert_eq!(bound("c2VjcmV0cw==").unwrap(), bound("c2VjcmV0cw").unwrap());
        assert!(matches!(bound("not base64 !"), Err(AuthorityError::Binding)));
    }
}
