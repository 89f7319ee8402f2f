//! Signed requests (RFC 7515, RFC 8555, 6.2), as an authority checks them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ca::{No, no};

pub fn canonical(jwk: &Value) -> Value {
    json!({ "crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"] })
}

pub fn decoded(text: &Value) -> Result<Value, No> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.as_str().unwrap_or_default()).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| no(400, "malformed", "no JWS"))
}

pub fn check_signature(key: &Value, jws: &Value) -> Result<(), No> {
    let bytes = |text: &Value| BASE64_URL_SAFE_NO_PAD.decode(text.as_str().unwrap_or_default()).unwrap_or_default();
    let public = [vec![4], bytes(&key["x"]), bytes(&key["y"])].concat();
    let text =
        format!("{}.{}", jws["protected"].as_str().unwrap_or_default(), jws["payload"].as_str().unwrap_or_default());
    let verified =
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public).verify(text.as_bytes(), &bytes(&jws["signature"]));
    verified.map_err(|_| no(400, "unauthorized", "the signature is wrong"))
}

pub fn check_binding(jws: &Value, id: &str, secret: &[u8], key: &Value) -> Result<(), No> {
    let refused = || no(400, "externalAccountRequired", "no binding, or a wrong one");
    if jws.is_null() || decoded(&jws["protected"])?["kid"] != id || canonical(&decoded(&jws["payload"])?) != *key {
        return Err(refused());
    }
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let text =
        format!("{}.{}", jws["protected"].as_str().unwrap_or_default(), jws["payload"].as_str().unwrap_or_default());
    let tag = BASE64_URL_SAFE_NO_PAD.decode(jws["signature"].as_str().unwrap_or_default()).unwrap_or_default();
    aws_lc_rs::hmac::verify(&secret, text.as_bytes(), &tag).map_err(|_| refused())
}
