//! How an authority's answers look.

use std::convert::Infallible;

use base64::Engine as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::ca::{No, Status};

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub type Reply = Response<Body>;

pub fn endpoint(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap_or_default() {
        "directory" => "directory",
        "nonce" => "nonce",
        "new-account" => "new-account",
        "account" => "account",
        "new-order" => "new-order",
        "order" => "order",
        "authz" => "authz",
        "challenge" => "challenge",
        "finalize" => "finalize",
        "certificate" => "certificate",
        "renewal" => "renewal",
        "revoke" => "revoke",
        "key-change" => "key-change",
        _ => "elsewhere",
    }
}

pub fn problem(no: &No) -> Value {
    let kind = |kind: &str| format!("urn:ietf:params:acme:error:{kind}");
    let part = |name: &String| {
        let identifier = json!({ "type": "dns", "value": name });
        json!({ "type": kind(no.kind), "detail": no.detail, "identifier": identifier })
    };
    let parts: Vec<Value> = no.names.iter().map(part).collect();
    json!({ "type": kind(no.kind), "detail": no.detail, "status": no.status, "subproblems": parts })
}

pub fn word(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Ready => "ready",
        Status::Processing => "processing",
        Status::Valid => "valid",
        Status::Invalid => "invalid",
    }
}

pub fn certificate_pem(der: &[u8]) -> String {
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

pub fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub fn reply(status: u16, kind: &str, bytes: Vec<u8>) -> Reply {
    Response::builder().status(status).header("content-type", kind).body(full(bytes)).unwrap()
}

pub fn json_reply(status: u16, json: &Value) -> Reply {
    reply(status, "application/json", json.to_string().into_bytes())
}
