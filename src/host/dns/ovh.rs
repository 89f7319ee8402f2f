//! OVHcloud's API: each request carries a signature over its own text and the server's time, and a changed zone is
//! only served after it is refreshed. <https://help.ovhcloud.com/csm/en-api-getting-started-ovhcloud-api>

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::json;

use super::error::{Act, DnsError, quoted};
use super::lookup::{RecordName, text_of};
use super::{Place, TTL_S};
use crate::model::Secret;

/// Of one request; an act is a few.
const REQUEST: Duration = Duration::from_secs(30);
/// A record's answer is a few hundred bytes.
const ANSWER: usize = 1 << 20;

pub(super) const ENDPOINTS: &[(&str, &str)] = &[
    ("ovh-eu", "https://eu.api.ovh.com/1.0"),
    ("ovh-ca", "https://ca.api.ovh.com/1.0"),
    ("ovh-us", "https://api.us.ovhcloud.com/1.0"),
];

pub struct Account {
    pub(super) base: String,
    pub(super) application_key: Secret,
    pub(super) application_secret: Secret,
    pub(super) consumer_key: Secret,
    pub(super) zone: Option<RecordName>,
    pub(super) client: OnceLock<Client>,
}

/// One record as the API tells it.
#[derive(Deserialize)]
struct Record {
    target: String,
}

/// The server's clock, read once: signatures of another time are refused, and ours may be wrong.
struct ServerTime {
    read: i64,
    at: Instant,
}

impl ServerTime {
    fn now(&self) -> i64 {
        self.read.saturating_add(i64::try_from(self.at.elapsed().as_secs()).unwrap_or(0))
    }
}

/// A conversation about one place.
struct Talk<'a> {
    account: &'a Account,
    act: Act,
    place: &'a Place,
    time: ServerTime,
}

impl Account {
    /// Adds or removes one value. Records with other values are left alone, whoever made them.
    pub(super) async fn change(&self, act: Act, place: &Place, value: &str) -> Result<(), DnsError> {
        let mut talk = Talk { account: self, act, place, time: ServerTime { read: 0, at: Instant::now() } };
        let read = talk.send(Method::GET, "/auth/time", "", false).await?;
        let read = read.trim().parse().map_err(|_| talk.not_reached("its clock is not a number"))?;
        talk.time = ServerTime { read, at: Instant::now() };

        let zone = format!("/domain/zone/{}", text_of(&place.zone));
        let sub_domain = below(place);
        let listed = talk.ask(Method::GET, &format!("{zone}/record?fieldType=TXT&subDomain={sub_domain}"), "").await?;
        let ids: Vec<u64> = talk.read(&listed)?;
        let mut ours = Vec::new();
        for id in ids {
            let text = talk.ask(Method::GET, &format!("{zone}/record/{id}"), "").await?;
            if talk.read::<Record>(&text)?.target.trim_matches('"') == value {
                ours.push(id);
            }
        }
        match act {
            Act::Publish if ours.is_empty() => {
                let record = json!({ "fieldType": "TXT", "subDomain": sub_domain, "target": value, "ttl": TTL_S });
                talk.ask(Method::POST, &format!("{zone}/record"), &record.to_string()).await?;
            }
            Act::Publish => {}
            Act::Withdraw => {
                for id in ours {
                    talk.ask(Method::DELETE, &format!("{zone}/record/{id}"), "").await?;
                }
            }
        }
        // Even if nothing was changed now: an earlier try may have been broken off before this.
        talk.ask(Method::POST, &format!("{zone}/refresh"), "").await.map(drop)
    }

    /// Made when first needed: it reads the CA certificates.
    fn client(&self) -> Result<&Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let built = Client::builder()
            .user_agent(concat!("socle/", env!("CARGO_PKG_VERSION")))
            .timeout(REQUEST)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(self.client.get_or_init(|| built))
    }

    fn secrets(&self) -> [&Secret; 3] {
        [&self.application_key, &self.application_secret, &self.consumer_key]
    }

    /// `$1$` and SHA-1 over secret, consumer key, method, URL, body and time, joined by `+`.
    fn signature(&self, method: &str, url: &str, body: &str, time: i64) -> String {
        let (secret, consumer) = (self.application_secret.expose(), self.consumer_key.expose());
        let text = format!("{secret}+{consumer}+{method}+{url}+{body}+{time}");
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hash.as_ref().iter().fold("$1$".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }
}

impl Talk<'_> {
    fn not_reached(&self, says: &str) -> DnsError {
        let (provider, name) = ("ovh".to_owned(), text_of(&self.place.name));
        DnsError::NotReached { provider, act: self.act, name, says: quoted(says, self.account.secrets()) }
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> Result<String, DnsError> {
        self.send(method, path, body, true).await
    }

    async fn send(&self, method: Method, path: &str, body: &str, signed: bool) -> Result<String, DnsError> {
        let account = self.account;
        let url = format!("{}{path}", account.base);
        let failed = |error: reqwest::Error| self.not_reached(&told(&error));
        let mut request = account.client().map_err(failed)?.request(method.clone(), &url);
        if signed {
            let time = self.time.now();
            request = request
                .header("X-Ovh-Application", account.application_key.expose())
                .header("X-Ovh-Consumer", account.consumer_key.expose())
                .header("X-Ovh-Timestamp", time.to_string())
                .header("X-Ovh-Signature", account.signature(method.as_str(), &url, body, time));
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json").body(body.to_owned());
        }
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > ANSWER {
                return Err(self.not_reached("its answer has no end"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        let says = quoted(&format!("{status}: {}", message(&text)), account.secrets());
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(self.not_reached(&says));
        }
        let (name, zone) = (text_of(&self.place.name), text_of(&self.place.zone));
        Err(DnsError::Refused { provider: "ovh".to_owned(), act: self.act, name, zone, says })
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, text: &str) -> Result<T, DnsError> {
        serde_json::from_str(text).map_err(|error| self.not_reached(&format!("its answer makes no sense: {error}")))
    }
}

/// With its causes: the client says the reason last. The address holds no secret, these are in headers.
fn told(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The record's name without its zone.
fn below(place: &Place) -> String {
    let (name, zone) = (text_of(&place.name), text_of(&place.zone));
    name.strip_suffix(&zone).map_or(name.as_str(), |rest| rest.trim_end_matches('.')).to_owned()
}

/// The API tells what is wrong as `{"message": …}`.
fn message(text: &str) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    serde_json::from_str::<Said>(text).map_or_else(|_| text.to_owned(), |said| said.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_documented_one() {
        let account = Account {
            base: String::new(),
            application_key: Secret::new("7kbG7Bk7S9Nt7ZSV"),
            application_secret: Secret::new("EXEgWIz07P0HYwtQDs7cNIqCiQaWSuHF"),
            consumer_key: Secret::new("MtSwSrPpNjqfVSmJhLbPyr2i45lSwPU1"),
            zone: None,
            client: OnceLock::new(),
        };
        // By: printf %s 'SECRET+CONSUMER+GET+URL++TIME' | sha1sum
        let made = account.signature("GET", "https://eu.api.ovh.com/1.0/domains/", "", 1_366_560_945);
        assert_eq!(made, "$1$d3705e8afb27a0d2970a322b96550abfc67bb798");
    }
}
