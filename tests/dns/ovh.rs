//! The OVH API, by a server that checks signatures as <https://docs.ovh.com> describes them: `$1$` and the SHA-1 of
//! application secret, consumer key, method, address, body and time, joined by `+`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use serde_json::{Value, json};
use socle::host::Dns;
use socle::host::dns::ProviderDns;
use socle::model::Domain;

use crate::provider;
use crate::servers::Servers;

const SECRETS: [(&str, &str); 3] = [
    ("application_key", "7kbG7Bk7S9Nt7ZSV"),
    ("application_secret", "EXEgWIz07P0HYwtQ"),
    ("consumer_key", "MtSwSrPpNjqf"),
];
/// Its clock is its own.
const ITS_TIME: i64 = 1_366_560_945;

#[derive(Default)]
struct Zone {
    records: BTreeMap<u64, Value>,
    refreshed: u32,
    log: Vec<String>,
}

fn server(zone: Arc<Mutex<Zone>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/1.0", listener.local_addr().unwrap());
    let known = base.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&mut stream.unwrap(), &known, &mut zone.lock().unwrap());
        }
    });
    base
}

fn answer(stream: &mut TcpStream, base: &str, zone: &mut Zone) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let mut first = lines[0].split(' ');
    let (method, path) = (first.next().unwrap(), first.next().unwrap());
    let header = |name: &str| {
        let found =
            lines.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let path = path.strip_prefix("/1.0").unwrap();
    let time = header("x-ovh-timestamp");
    let [(_, key), (_, secret), (_, consumer)] = SECRETS;
    let text = format!("{secret}+{consumer}+{method}+{base}{path}+{body}+{time}");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let signature: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let signed = header("x-ovh-signature") == format!("$1${signature}")
        && header("x-ovh-application") == key
        && header("x-ovh-consumer") == consumer
        && time.parse::<i64>().is_ok_and(|time| (time - ITS_TIME).abs() < 30);
    let (status, said) = match (method, path) {
        ("GET", "/auth/time") => (200, json!(ITS_TIME)),
        _ if !signed => (400, json!({ "message": "Invalid signature" })),
        _ => zone.act(method, path, &body),
    };
    zone.log.push(format!("{method} {path} {status}"));
    let said = said.to_string();
    write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}", said.len()).unwrap();
}

impl Zone {
    fn act(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let Some(rest) = path.strip_prefix("/domain/zone/example.org") else {
            return (404, json!({ "message": "This service does not exist" }));
        };
        match (method, rest.split_once('?').unwrap_or((rest, ""))) {
            ("GET", ("/record", query)) => {
                let wanted = query.split('&').find_map(|part| part.strip_prefix("subDomain=")).unwrap();
                let ids = self.records.iter().filter(|(_, record)| record["subDomain"] == wanted).map(|(id, _)| *id);
                (200, json!(ids.collect::<Vec<_>>()))
            }
            ("POST", ("/record", _)) => {
                let id = self.records.keys().last().unwrap_or(&0) + 1;
                self.records.insert(id, serde_json::from_str(body).unwrap());
                (200, json!({ "id": id }))
            }
            ("POST", ("/refresh", _)) => {
                self.refreshed += 1;
                (200, Value::Null)
            }
            (method, (record, _)) => {
                let id = record.strip_prefix("/record/").and_then(|id| id.parse().ok()).unwrap_or(0);
                match (method, self.records.get(&id).cloned()) {
                    ("GET", Some(record)) => (200, record),
                    ("DELETE", Some(_)) => {
                        self.records.remove(&id);
                        (200, Value::Null)
                    }
                    _ => (404, json!({ "message": "no such record" })),
                }
            }
        }
    }
}

#[tokio::test]
async fn values_come_and_go_and_every_request_is_signed() {
    let (servers, zone) = (Servers::start(true).await, Arc::<Mutex<Zone>>::default());
    let base = server(zone.clone());
    let dns = ProviderDns::new(servers.resolver());
    let ours = provider("ovh", &[("endpoint", &base)], &SECRETS, &[]);
    let blog: Domain = "blog.example.org".parse().unwrap();
    let targets = || {
        let zone = zone.lock().unwrap();
        zone.records.values().map(|record| record["target"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for value in ["one", "two", "one"] {
        dns.publish(&ours, &blog, value).await.unwrap();
    }
    assert_eq!(targets(), ["one", "two"]);
    assert_eq!(zone.lock().unwrap().records[&1]["subDomain"], "_acme-challenge.blog");
    dns.withdraw(&ours, &blog, "one").await.unwrap();
    dns.withdraw(&ours, &blog, "one").await.unwrap();
    assert_eq!(targets(), ["two"]);
    assert_eq!(zone.lock().unwrap().refreshed, 5, "each change is put into the zone");
    assert!(zone.lock().unwrap().log.iter().all(|line| line.ends_with(" 200")), "{:?}", zone.lock().unwrap().log);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_never_shown() {
    let (servers, zone) = (Servers::start(true).await, Arc::<Mutex<Zone>>::default());
    let base = server(zone.clone());
    let dns = ProviderDns::new(servers.resolver());
    let mut wrong = SECRETS;
    wrong[1].1 = "a wrong secret";
    let ours = provider("ovh", &[("endpoint", &base)], &wrong, &[]);
    let said = dns.publish(&ours, &"blog.example.org".parse().unwrap(), "x").await.unwrap_err().report().to_string();
    assert!(said.contains("Invalid signature") && !said.contains("a wrong secret"), "{said}");
    assert!(zone.lock().unwrap().records.is_empty());
    let far = provider("ovh", &[("endpoint", "http://ovh.example.org/1.0")], &[], &[]);
    let said = dns.publish(&far, &"blog.example.org".parse().unwrap(), "x").await.unwrap_err().report().to_string();
    assert!(said.contains("endpoint") && said.contains("application_key"), "{said}");
}
