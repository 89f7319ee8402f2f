//! ACME over TLS for a [`Ca`]. Signatures and nonces are checked. Breaks where it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::ca::{Authz, Ca, No, Order, Status, no};
use super::signed::{canonical, check_binding, check_signature, decoded};
use super::wire::{Reply, certificate_pem, endpoint, full, json_reply, problem, reply, word};

/// How an answer is broken.
#[derive(Debug, Clone)]
pub enum Break {
    Refuse(No),
    /// Answers never.
    Hang,
    /// The connection ends before the request is looked at.
    CloseBefore,
    /// The connection ends after the request was done.
    CloseAfter,
    /// Half of the answer, then the end.
    Truncate,
    Html,
    Oversized,
    Empty,
    /// JSON without what is needed.
    WrongJson,
    Redirect,
    NoNonce,
    NoLocation,
    /// The answer is right, and says so.
    RetryAfter(&'static str),
    /// A field of the answer, another value.
    Set(&'static str, Value),
}

/// `at` breaks `times` times, after `skip` good ones.
#[derive(Debug, Clone)]
pub struct Fault {
    pub at: &'static str,
    pub skip: u32,
    pub times: u32,
    pub how: Break,
}

struct Accounts {
    /// JWK as canonical text, by number; `None`: gone.
    keys: Vec<Value>,
    contacts: Vec<Value>,
    bindings: Vec<Option<Value>>,
}

pub struct Server {
    pub ca: Arc<Ca>,
    pub url: String,
    pub faults: Mutex<Vec<Fault>>,
    /// Requests by endpoint.
    pub asked: Mutex<BTreeMap<&'static str, u32>>,
    pub eab: Mutex<Option<(String, Vec<u8>)>>,
    /// Names of profiles are told by the directory, if there are any.
    accounts: Mutex<Accounts>,
    nonces: Mutex<(u64, BTreeSet<String>)>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap().take() {
            task.abort();
        }
    }
}

impl Server {
    /// Listens on loopback; `roots` gets the certificate it is known by.
    pub async fn start(ca: Arc<Ca>, roots: &Path) -> Arc<Self> {
        let (issuer, pem) = super::issuing::issuer("root of a server");
        std::fs::write(roots, pem).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            ca,
            url: format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port()),
            faults: Mutex::default(),
            asked: Mutex::default(),
            eab: Mutex::default(),
            accounts: Mutex::new(Accounts { keys: vec![], contacts: vec![], bindings: vec![] }),
            nonces: Mutex::default(),
            task: Mutex::default(),
        });
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let weak = Arc::downgrade(&server);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, weak) = (acceptor.clone(), weak.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let weak = weak.clone();
                        // An error ends the connection: what some tests want.
                        let broken = || std::io::Error::other("broken on purpose");
                        async move {
                            let server = weak.upgrade().ok_or_else(broken)?;
                            server.answer(request).await.map_err(|()| broken())
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        *server.task.lock().unwrap() = Some(task);
        server
    }

    pub fn break_at(&self, at: &'static str, skip: u32, times: u32, how: Break) {
        self.faults.lock().unwrap().push(Fault { at, skip, times, how });
    }

    pub fn asked(&self, at: &str) -> u32 {
        self.asked.lock().unwrap().get(at).copied().unwrap_or(0)
    }

    /// As after a restart of an authority that keeps nothing.
    pub fn forget_accounts(&self) {
        let mut accounts = self.accounts.lock().unwrap();
        accounts.keys.iter_mut().for_each(|key| *key = Value::Null);
    }

    pub fn contacts(&self) -> Vec<Value> {
        self.accounts.lock().unwrap().contacts.clone()
    }

    pub fn account_key(&self, index: usize) -> Value {
        self.accounts.lock().unwrap().keys[index].clone()
    }

    pub fn accounts(&self) -> usize {
        self.accounts.lock().unwrap().keys.len()
    }

    fn fault(&self, at: &'static str) -> Option<Break> {
        *self.asked.lock().unwrap().entry(at).or_default() += 1;
        let mut faults = self.faults.lock().unwrap();
        let fault = faults.iter_mut().find(|fault| fault.at == at && fault.times > 0)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.how.clone())
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Reply, ()> {
        let path = request.uri().path().to_owned();
        let head = request.method() == hyper::Method::HEAD;
        let body = request.into_body().collect().await.map_err(|_| ())?.to_bytes();
        let at = endpoint(&path);
        let fault = self.fault(at);
        match &fault {
            Some(Break::Hang) => std::future::pending().await,
            Some(Break::CloseBefore) => return Err(()),
            Some(Break::Refuse(no)) => return Ok(self.refusal(no)),
            Some(Break::Html) => return Ok(reply(200, "text/html", b"<html>hello</html>".to_vec())),
            Some(Break::Empty) => return Ok(reply(200, "application/json", vec![])),
            Some(Break::WrongJson) => return Ok(reply(200, "application/json", b"{\"a\":1}".to_vec())),
            Some(Break::Oversized) => return Ok(reply(200, "application/json", vec![b' '; 2 << 20])),
            Some(Break::Redirect) => {
                let mut reply = reply(302, "text/plain", vec![]);
                reply.headers_mut().insert("location", "https://elsewhere.example.net/".parse().unwrap());
                return Ok(reply);
            }
            _ => {}
        }
        let done = self.done(at, &path, &body).unwrap_or_else(|no| self.refusal(&no));
        let mut done = done;
        done.headers_mut().insert("replay-nonce", self.nonce().parse().unwrap());
        match fault {
            Some(Break::CloseAfter) => Err(()),
            Some(Break::Truncate) => {
                let (parts, body) = done.into_parts();
                let whole = body.collect().await.map_err(|_| ())?.to_bytes();
                let half = whole.slice(..whole.len() / 2);
                let frames = vec![Ok(Frame::data(half)), Err(std::io::Error::other("cut"))];
                Ok(Response::from_parts(parts, StreamBody::new(stream::iter(frames)).boxed_unsync()))
            }
            Some(Break::NoNonce) => {
                done.headers_mut().remove("replay-nonce");
                Ok(done)
            }
            Some(Break::NoLocation) => {
                done.headers_mut().remove("location");
                Ok(done)
            }
            Some(Break::RetryAfter(value)) => {
                done.headers_mut().insert("retry-after", value.parse().unwrap());
                Ok(done)
            }
            Some(Break::Set(field, value)) => {
                let (parts, body) = done.into_parts();
                let mut json: Value =
                    serde_json::from_slice(&body.collect().await.map_err(|_| ())?.to_bytes()).unwrap();
                json[field] = match value {
                    Value::Object(more) if json[field].is_object() => {
                        let mut old = json[field].take();
                        more.into_iter().for_each(|(key, value)| old[key] = value);
                        old
                    }
                    value => value,
                };
                Ok(Response::from_parts(parts, full(json.to_string().into_bytes())))
            }
            _ if head => Ok(done.map(|_| full(vec![]))),
            _ => Ok(done),
        }
    }

    fn done(&self, at: &str, path: &str, body: &[u8]) -> Result<Reply, No> {
        match at {
            "directory" => return Ok(json_reply(200, &self.directory())),
            "nonce" => return Ok(reply(200, "text/plain", vec![])),
            "renewal" => {
                let id = path.rsplit('/').next().unwrap_or_default();
                let (start, end) = self.ca.window(id).ok_or_else(|| no(404, "malformed", "no such certificate"))?;
                let window = json!({ "suggestedWindow": { "start": start.to_string(), "end": end.to_string() } });
                let mut reply = json_reply(200, &window);
                reply.headers_mut().insert("retry-after", "21600".parse().unwrap());
                return Ok(reply);
            }
            _ => {}
        }
        let (payload, signer) = self.verified(path, body)?;
        if at == "new-account" {
            return self.new_account(&payload, &signer);
        }
        let Signer::Account(account) = signer else { return Err(no(400, "malformed", "a key, not an account")) };
        let numbers: Vec<usize> = path.split('/').filter_map(|part| part.parse().ok()).collect();
        match at {
            "account" => {
                self.accounts.lock().unwrap().contacts[account] = payload["contact"].clone();
                Ok(json_reply(200, &json!({ "status": "valid" })))
            }
            "new-order" => self.new_order(&payload),
            "order" => {
                let order = self.ca.look(numbers[0]).ok_or_else(|| no(404, "malformed", "no such order"))?;
                Ok(json_reply(200, &self.order(numbers[0], &order)))
            }
            "authz" => Ok(json_reply(200, &self.authz(numbers[0], numbers[1]))),
            "challenge" => {
                let kind = path.rsplit('/').next().unwrap_or_default();
                let token = self.ca.state().orders[numbers[0]].authz[numbers[1]].token.clone();
                let expected = format!("{token}.{}", self.thumbprint(account));
                let expected = match kind {
                    "dns-01" => BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, expected.as_bytes())),
                    _ => expected,
                };
                self.ca.ready(numbers[0], numbers[1], kind, &expected);
                Ok(json_reply(200, &json!({ "type": kind, "url": "x", "token": token, "status": "processing" })))
            }
            "finalize" => {
                let csr = BASE64_URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap_or_default());
                self.ca.finalize(numbers[0], &csr.map_err(|_| no(400, "badCSR", "unreadable"))?)?;
                let order = self.ca.state().orders[numbers[0]].clone();
                Ok(json_reply(200, &self.order(numbers[0], &order)))
            }
            "certificate" => {
                let chain = self.ca.state().orders[numbers[0]].chain.clone().unwrap_or_default();
                Ok(reply(200, "application/pem-certificate-chain", chain.into_bytes()))
            }
            "revoke" => {
                let der = BASE64_URL_SAFE_NO_PAD.decode(payload["certificate"].as_str().unwrap_or_default());
                let pem = certificate_pem(&der.map_err(|_| no(400, "malformed", "unreadable"))?);
                let read =
                    socle::host::certificates::chain::read(&pem).map_err(|_| no(400, "malformed", "unreadable"))?;
                self.ca.revoke(&read.serial)?;
                Ok(reply(200, "text/plain", vec![]))
            }
            "key-change" => self.change_key(account, &payload),
            _ => Err(no(404, "malformed", "no such thing")),
        }
    }

    fn directory(&self) -> Value {
        let url = |path: &str| format!("{}{path}", self.url);
        let state = self.ca.state();
        let profiles: BTreeMap<_, _> = state.profiles.keys().map(|name| (name, "a profile")).collect();
        let mut directory = json!({
            "newNonce": url("/nonce"), "newAccount": url("/new-account"), "newOrder": url("/new-order"),
            "revokeCert": url("/revoke"), "keyChange": url("/key-change"),
            "meta": { "profiles": profiles, "caaIdentities": ["ca.example.net"],
                "externalAccountRequired": self.eab.lock().unwrap().is_some() },
        });
        if state.ari != super::ca::Ari::None {
            directory["renewalInfo"] = url("/renewal").into();
        }
        directory
    }

    fn new_account(&self, payload: &Value, signer: &Signer) -> Result<Reply, No> {
        let Signer::Key(key) = signer else { return Err(no(400, "malformed", "an account, not a key")) };
        let mut accounts = self.accounts.lock().unwrap();
        let known = accounts.keys.iter().position(|known| known == key);
        let index = match known {
            Some(index) => index,
            None if payload["onlyReturnExisting"] == true => return Err(no(400, "accountDoesNotExist", "none")),
            None => {
                if let Some((id, secret)) = &*self.eab.lock().unwrap() {
                    check_binding(&payload["externalAccountBinding"], id, secret, key)?;
                }
                accounts.keys.push(key.clone());
                accounts.contacts.push(payload["contact"].clone());
                accounts.bindings.push(payload.get("externalAccountBinding").cloned());
                accounts.keys.len() - 1
            }
        };
        let mut reply = json_reply(if known.is_some() { 200 } else { 201 }, &json!({ "status": "valid" }));
        reply.headers_mut().insert("location", format!("{}/account/{index}", self.url).parse().unwrap());
        Ok(reply)
    }

    fn new_order(&self, payload: &Value) -> Result<Reply, No> {
        let names = payload["identifiers"].as_array().into_iter().flatten();
        let names: Vec<String> = names.filter_map(|name| name["value"].as_str().map(str::to_owned)).collect();
        let index = self.ca.new_order(&names, payload["profile"].as_str(), payload["replaces"].as_str())?;
        let order = self.ca.state().orders[index].clone();
        let mut reply = json_reply(201, &self.order(index, &order));
        reply.headers_mut().insert("location", format!("{}/order/{index}", self.url).parse().unwrap());
        Ok(reply)
    }

    fn order(&self, index: usize, order: &Order) -> Value {
        let url = |what: &str| format!("{}/{what}/{index}", self.url);
        let authz: Vec<String> = (0..order.authz.len()).map(|at| format!("{}/{at}", url("authz"))).collect();
        let mut json = json!({ "status": word(order.status), "authorizations": authz, "finalize": url("finalize") });
        if order.status == Status::Valid {
            json["certificate"] = url("certificate").into();
        }
        if let Some(error) = &order.error {
            json["error"] = problem(error);
        }
        for (field, value) in [("replaces", &order.replaces), ("profile", &order.profile)] {
            if let Some(value) = value {
                json[field] = value.as_str().into();
            }
        }
        json
    }

    fn authz(&self, index: usize, at: usize) -> Value {
        let authz: Authz = self.ca.state().orders[index].authz[at].clone();
        let status = if authz.triggered && authz.status == Status::Pending { "processing" } else { word(authz.status) };
        let challenge = |kind: &str| {
            let url = format!("{}/challenge/{index}/{at}/{kind}", self.url);
            let mut json = json!({ "type": kind, "url": url, "token": authz.token, "status": status });
            if let Some(error) = &authz.error {
                json["error"] = problem(error);
            }
            json
        };
        let mut challenges =
            vec![json!({ "type": "never-heard-01", "url": "x", "status": "pending" }), challenge("dns-01")];
        if !authz.wildcard {
            challenges.push(challenge("http-01"));
        }
        json!({ "identifier": { "type": "dns", "value": authz.domain }, "status": word(authz.status),
            "wildcard": authz.wildcard, "challenges": challenges })
    }

    fn change_key(&self, account: usize, payload: &Value) -> Result<Reply, No> {
        let inner: Value = decoded(&payload["protected"])?;
        let key = canonical(&inner["jwk"]);
        check_signature(&key, payload)?;
        let old: Value = decoded(&payload["payload"])?;
        let mut accounts = self.accounts.lock().unwrap();
        if canonical(&old["oldKey"]) != accounts.keys[account] || accounts.keys.contains(&key) {
            return Err(no(409, "conflict", "not that key"));
        }
        accounts.keys[account] = key;
        Ok(json_reply(200, &json!({ "status": "valid" })))
    }

    fn thumbprint(&self, account: usize) -> String {
        let key = self.accounts.lock().unwrap().keys[account].clone();
        // RFC 7638: members in order, which is how this map is written.
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, key.to_string().as_bytes()))
    }

    fn nonce(&self) -> String {
        let mut nonces = self.nonces.lock().unwrap();
        nonces.0 += 1;
        let nonce = format!("nonce-{}", nonces.0);
        nonces.1.insert(nonce.clone());
        nonce
    }

    fn verified(&self, path: &str, body: &[u8]) -> Result<(Value, Signer), No> {
        let jws: Value = serde_json::from_slice(body).map_err(|_| no(400, "malformed", "no JWS"))?;
        let protected = decoded(&jws["protected"])?;
        if protected["url"].as_str() != Some(&format!("{}{path}", self.url)) {
            return Err(no(400, "unauthorized", "signed for another address"));
        }
        let nonce = protected["nonce"].as_str().unwrap_or_default();
        if !self.nonces.lock().unwrap().1.remove(nonce) {
            return Err(no(400, "badNonce", "not mine"));
        }
        let (key, signer) = match protected["kid"].as_str() {
            Some(kid) => {
                let index: usize = kid.rsplit('/').next().and_then(|part| part.parse().ok()).unwrap_or(usize::MAX);
                let key = self.accounts.lock().unwrap().keys.get(index).cloned().filter(|key| !key.is_null());
                (key.ok_or_else(|| no(400, "accountDoesNotExist", "unknown"))?, Signer::Account(index))
            }
            None => (canonical(&protected["jwk"]), Signer::Key(canonical(&protected["jwk"]))),
        };
        check_signature(&key, &jws)?;
        let payload = jws["payload"].as_str().unwrap_or_default();
        Ok((if payload.is_empty() { Value::Null } else { decoded(&jws["payload"])? }, signer))
    }

    fn refusal(&self, no: &No) -> Reply {
        let mut reply = json_reply(no.status, &problem(no));
        reply.headers_mut().insert("replay-nonce", self.nonce().parse().unwrap());
        if let Some(seconds) = no.retry_after_s {
            reply.headers_mut().insert("retry-after", seconds.into());
        }
        reply
    }
}

enum Signer {
    Key(Value),
    Account(usize),
}
