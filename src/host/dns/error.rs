//! What can go wrong with records, in words that hold no secret.

use std::fmt;

use super::lookup::LookupError;
use super::propagation::Lag;
use crate::host::PortError;
use crate::host::process::{ProcessError, printable};
use crate::model::Secret;

/// What is done to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Publish,
    Withdraw,
}

impl Act {
    pub fn word(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Withdraw => "withdraw",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("the settings of the DNS provider are not usable: {}", .0.join("; "))]
    Settings(Vec<String>),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("`{provider}` refuses to {} the record `{name}` in the zone `{zone}`: {says}", act.word())]
    Refused { provider: String, act: Act, name: String, zone: String, says: String },
    #[error("`{provider}` was not reached to {} the record `{name}`: {says}", act.word())]
    NotReached { provider: String, act: Act, name: String, says: String },
    #[error("the program cannot {} the record `{name}`: {source}", act.word())]
    Program { act: Act, name: String, source: ProcessError },
    #[error("after {waited_s} s, {}", Lags(.lags))]
    NotEverywhere { waited_s: u64, lags: Vec<Lag> },
}

struct Lags<'a>(&'a [Lag]);

impl fmt::Display for Lags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, lag) in self.0.iter().enumerate() {
            write!(f, "{}{lag}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl From<DnsError> for PortError {
    fn from(error: DnsError) -> Self {
        let says = error.to_string();
        match error {
            DnsError::Settings(_) => {
                PortError::new("dns.settings", says).hint("correct the provider under `[dns]` in the document")
            }
            DnsError::Lookup(error) => error.into(),
            DnsError::Refused { zone, .. } => PortError::new("dns.refused", says)
                .hint(format!("look whether the provider's secrets are allowed to change the zone `{zone}`")),
            DnsError::NotReached { .. } => PortError::new("dns.no-answer", says).retryable(),
            DnsError::Program { source: ProcessError::Timeout(..), .. } => {
                PortError::new("dns.program", says).retryable()
            }
            DnsError::Program { .. } => {
                PortError::new("dns.program", says).hint("run the program by hand with `publish`, the name and a value")
            }
            DnsError::NotEverywhere { lags, .. } => {
                let first = &lags[0].server;
                PortError::new("dns.not-everywhere", says)
                    .hint(format!("look at the zone transfer to `{first}`, or at its address"))
                    .retryable()
            }
        }
    }
}

/// What somebody else's answer says, for an error: no secret, no control character, not long.
pub(super) fn quoted<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let mut text = printable(text.as_bytes()).replace('\n', " ");
    for secret in secrets {
        if !secret.expose().is_empty() {
            text = text.replace(secret.expose(), "…");
        }
    }
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_holds_no_secret() {
        let secret = Secret::new("s3cr3t");
        let text = quoted("GET https://api/?token=s3cr3t\x1b[1m\nfailed", [&secret, &Secret::new("")]);
        assert_eq!(text, "GET https://api/?token=…\\u{1b}[1m failed");
        assert_eq!(quoted(&"ä".repeat(1000), []).chars().count(), 401);
    }
}
