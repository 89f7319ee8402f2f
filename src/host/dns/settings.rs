//! The settings of a provider, checked by name: all that is wrong is told at once.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::error::DnsError;
use super::exec::Program;
use super::kinds::{KINDS, Kind, Need, Words};
use super::lookup::{RecordName, plain};
use super::{library, ovh, rfc2136};
use crate::model::Secret;
use crate::model::certificate::Provider;

/// A program has this long, if nothing else is said: some wait for their own provider.
const PROGRAM_S: u64 = 120;
const PROGRAM_MOST_S: u64 = 3600;

/// A provider that can be used.
pub enum Checked {
    Rfc2136(rfc2136::Server),
    Ovh(ovh::Account),
    Exec(Program),
    Library(Box<library::Account>),
}

impl Checked {
    /// The zone, if it is told and not to be looked for.
    pub(super) fn zone(&self) -> Option<&RecordName> {
        match self {
            Self::Rfc2136(server) => server.zone.as_ref(),
            Self::Ovh(account) => account.zone.as_ref(),
            Self::Library(account) => account.zone.as_ref(),
            Self::Exec(_) => None,
        }
    }
}

/// Every kind of provider there is.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    ["exec", "ovh", "rfc2136"].into_iter().chain(KINDS.iter().map(|kind| kind.name))
}

/// All that is wrong with a provider's kind, settings, secrets and command. Empty: it can be used.
pub fn problems(provider: &Provider) -> Vec<String> {
    match check(provider) {
        Ok(_) => Vec::new(),
        Err(DnsError::Settings(problems)) => problems,
        Err(other) => vec![other.to_string()],
    }
}

/// Speaks to nobody.
pub fn check(provider: &Provider) -> Result<Checked, DnsError> {
    let mut reader = Reader { provider, known: BTreeSet::new(), secrets: BTreeSet::new(), problems: Vec::new() };
    let checked = match provider.kind.as_str() {
        "rfc2136" => rfc2136(&mut reader).map(Checked::Rfc2136),
        "ovh" => ovh(&mut reader).map(Checked::Ovh),
        "exec" => exec(&mut reader).map(Checked::Exec),
        other => match KINDS.iter().find(|kind| kind.name == other) {
            Some(kind) => library(&mut reader, kind)?.map(|account| Checked::Library(Box::new(account))),
            None => {
                let known: Vec<_> = kinds().collect();
                let says = format!("`{other}` is not a provider: one of {}", known.join(", "));
                return Err(DnsError::Settings(vec![says]));
            }
        },
    };
    reader.leftovers();
    match checked {
        Some(checked) if reader.problems.is_empty() => Ok(checked),
        _ => Err(DnsError::Settings(reader.problems)),
    }
}

/// Reads words and remembers which there are, and what was wrong.
struct Reader<'a> {
    provider: &'a Provider,
    known: BTreeSet<&'static str>,
    secrets: BTreeSet<&'static str>,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    fn optional(&mut self, name: &'static str) -> Option<&'a str> {
        self.known.insert(name);
        self.provider.settings.get(name).map(String::as_str)
    }

    fn required(&mut self, name: &'static str) -> Option<&'a str> {
        let found = self.optional(name).filter(|value| !value.is_empty());
        if found.is_none() {
            self.wrong(format!("`{name}` is missing"));
        }
        found
    }

    fn secret(&mut self, name: &'static str) -> Option<&'a str> {
        self.secrets.insert(name);
        let found = self.provider.secrets.get(name).map(Secret::expose).filter(|value| !value.is_empty());
        if found.is_none() {
            self.wrong(format!("the secret `{name}` is missing"));
        }
        found
    }

    /// The zone may be told: behind a hidden primary it cannot be looked for.
    fn zone(&mut self) -> Option<RecordName> {
        let text = self.optional("zone")?;
        match RecordName::from_str(text) {
            Ok(mut name) if plain(&name) => {
                name.set_fqdn(true);
                Some(name.to_lowercase())
            }
            _ => {
                self.wrong(format!("`zone` is `{text}`, which is no domain"));
                None
            }
        }
    }

    fn wrong(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn leftovers(&mut self) {
        let (provider, exec) = (self.provider, self.provider.kind == "exec");
        let list = |known: &BTreeSet<&'static str>| match known.is_empty() {
            true => "it has none".to_owned(),
            false => format!("it has {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
        };
        for name in provider.settings.keys().filter(|name| !self.known.contains(name.as_str())) {
            self.problems.push(format!("`{name}` is no setting of `{}`: {}", provider.kind, list(&self.known)));
        }
        for name in provider.secrets.keys().filter(|name| !exec && !self.secrets.contains(name.as_str())) {
            self.problems.push(format!("`{name}` is no secret of `{}`: {}", provider.kind, list(&self.secrets)));
        }
        if !exec && !provider.command.is_empty() {
            self.problems.push(format!("`command` is for `exec`, not for `{}`", provider.kind));
        }
    }
}

fn rfc2136(reader: &mut Reader<'_>) -> Option<rfc2136::Server> {
    let (server, key_name) = (reader.required("server"), reader.required("key_name"));
    let named = reader.optional("algorithm").unwrap_or("hmac-sha256");
    let algorithm = rfc2136::ALGORITHMS.iter().find(|(name, _)| *name == named).map(|(_, algorithm)| *algorithm);
    if algorithm.is_none() {
        let known: Vec<_> = rfc2136::ALGORITHMS.iter().map(|(name, _)| *name).collect();
        reader.wrong(format!("`algorithm` is `{named}`: one of {}", known.join(", ")));
    }
    if let Some(name) = key_name.filter(|name| RecordName::from_ascii(name).is_err()) {
        reader.wrong(format!("`key_name` is `{name}`, which is no name of a key"));
    }
    let key = reader.secret("key").map(|text| BASE64_STANDARD.decode(text.trim()));
    if let Some(Err(_)) = key {
        reader.wrong("the secret `key` is not base64".to_owned());
    }
    let zone = reader.zone();
    let (server, key_name) = (server?.to_owned(), key_name?.to_owned());
    Some(rfc2136::Server { server, key_name, key: key?.ok()?, algorithm: algorithm?, zone })
}

fn ovh(reader: &mut Reader<'_>) -> Option<ovh::Account> {
    let named = reader.optional("endpoint").unwrap_or("ovh-eu");
    let known = ovh::ENDPOINTS.iter().find(|(name, _)| *name == named).map(|(_, url)| (*url).to_owned());
    let base =
        known.or_else(|| reqwest::Url::parse(named).ok().filter(safe).map(|_| named.trim_end_matches('/').into()));
    if base.is_none() {
        let known: Vec<_> = ovh::ENDPOINTS.iter().map(|(name, _)| *name).collect();
        reader.wrong(format!("`endpoint` is `{named}`: one of {}, or an https address", known.join(", ")));
    }
    let words = ["application_key", "application_secret", "consumer_key"];
    let [key, secret, consumer] = words.map(|name| reader.secret(name).map(Secret::new));
    let zone = reader.zone();
    Some(ovh::Account {
        base: base?,
        application_key: key?,
        application_secret: secret?,
        consumer_key: consumer?,
        zone,
        client: OnceLock::new(),
    })
}

/// Over a wire only with TLS.
fn safe(url: &reqwest::Url) -> bool {
    let local = url.host_str().is_some_and(|host| matches!(host, "127.0.0.1" | "[::1]" | "localhost"));
    url.scheme() == "https" || url.scheme() == "http" && local
}

fn exec(reader: &mut Reader<'_>) -> Option<Program> {
    let command = reader.provider.command.clone();
    match command.first() {
        None => reader.wrong("`command` is missing: the program and its arguments".to_owned()),
        Some(program) if !program.starts_with('/') => {
            reader.wrong(format!("`command` begins with `{program}`, which is no absolute path"));
        }
        Some(_) => {}
    }
    if command.iter().any(|word| word.contains('\0')) {
        reader.wrong("`command` holds a NUL".to_owned());
    }
    let named = reader.optional("timeout");
    let seconds = named.map_or(Some(PROGRAM_S), |text| text.parse().ok().filter(|s| (1..=PROGRAM_MOST_S).contains(s)));
    if seconds.is_none() {
        reader.wrong(format!("`timeout` is `{}`: 1 to {PROGRAM_MOST_S} seconds", named.unwrap_or_default()));
    }
    for name in reader.provider.secrets.keys().filter(|name| !variable(name)) {
        reader.problems.push(format!("the secret `{name}` cannot be a variable of the program: A-Z, 0-9 and `_`"));
    }
    for (name, _) in reader.provider.secrets.iter().filter(|(_, secret)| secret.expose().contains('\0')) {
        reader.problems.push(format!("the secret `{name}` holds a NUL"));
    }
    let environment = reader.provider.secrets.iter().map(|(name, secret)| (name.clone(), secret.clone())).collect();
    Some(Program { command, environment, timeout: Duration::from_secs(seconds?) })
}

/// Not those that change how a program is loaded.
fn variable(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    letters && name.starts_with(|c: char| c.is_ascii_uppercase()) && name != "PATH" && !name.starts_with("LD_")
}

fn library(reader: &mut Reader<'_>, kind: &'static Kind) -> Result<Option<library::Account>, DnsError> {
    let settings = kind.settings.iter().map(|(name, need)| match need {
        Need::Required => reader.required(name),
        Need::Optional => reader.optional(name),
    });
    let settings = settings.collect();
    let secrets: Vec<_> = kind.secrets.iter().filter_map(|name| reader.secret(name)).collect();
    let zone = reader.zone();
    if !reader.problems.is_empty() {
        return Ok(None);
    }
    library::Account::new(kind, &Words { settings, secrets }, zone).map(Some)
}
