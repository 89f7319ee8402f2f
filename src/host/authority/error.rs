use std::path::PathBuf;

use crate::durable::DurableError;
use crate::model::report::ErrorReport;

pub type AuthorityResult<T> = Result<T, AuthorityError>;

/// What an authority says it will not do, or could not (RFC 8555, 6.7).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// Without `urn:ietf:params:acme:error:`; empty if it gave none.
    pub kind: String,
    /// In its own words, without control characters, shortened.
    pub detail: String,
    /// Names it blames.
    pub names: Vec<String>,
}

impl Refusal {
    /// Whether it speaks about the names: their DNS, their web server. Another authority would find the same.
    pub fn blames_the_names(&self) -> bool {
        ["connection", "dns", "tls", "unauthorized", "incorrectResponse"].contains(&self.kind.as_str())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.kind.as_str(), self.detail.as_str()) {
            ("", "") => f.write_str("no reason given"),
            (kind, "") => f.write_str(kind),
            ("", detail) => f.write_str(detail),
            (kind, detail) => write!(f, "{detail} ({kind})"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("cannot speak to `{host}`")]
    Unreachable { host: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{host}` did not answer within {seconds} s")]
    Timeout { host: String, seconds: u64 },
    #[error("`{host}` answers with status {status}")]
    Unavailable { host: String, status: u16, retry_after_s: Option<u64> },
    #[error("`{host}` says that a limit is reached: {refusal}")]
    RateLimited { host: String, refusal: Refusal, retry_after_s: Option<u64> },
    #[error("`{host}` refuses: {refusal}")]
    Refused { host: String, refusal: Refusal },
    #[error("`{host}` knows nothing of it (any more)")]
    NotFound { host: String },
    #[error("`{host}` answers with what is no ACME: {what}")]
    Nonsense { host: String, what: String },
    #[error("the file of roots `{0}` cannot be used")]
    Roots(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no HTTP client can be made")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot keep the account")]
    Keep(#[source] DurableError),
    #[error("the account in `{0}` is damaged")]
    Damaged(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the binding's key is not base64url")]
    Binding,
    #[error("cannot make or use the account's key")]
    Key,
    #[error("cannot make the request")]
    Request(#[source] instant_acme::Error),
}

impl AuthorityError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "acme.unreachable",
            Self::Timeout { .. } => "acme.timeout",
            Self::Unavailable { .. } => "acme.unavailable",
            Self::RateLimited { .. } => "acme.rate-limited",
            Self::Refused { .. } => "acme.refused",
            Self::NotFound { .. } => "acme.not-found",
            Self::Nonsense { .. } => "acme.nonsense",
            Self::Roots(..) | Self::Client(_) => "acme.client",
            Self::Keep(_) | Self::Damaged(..) | Self::Binding | Self::Key => "acme.account",
            Self::Request(_) => "acme.request",
        }
    }

    /// How long the authority wants not to be asked, seconds, as it says.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Unavailable { retry_after_s, .. } | Self::RateLimited { retry_after_s, .. } => *retry_after_s,
            _ => None,
        }
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } | Self::RateLimited { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Asking again within the same attempt may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Unavailable { .. } => true,
            Self::RateLimited { .. }
            | Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::Nonsense { .. }
            | Self::Roots(..)
            | Self::Client(_)
            | Self::Keep(_)
            | Self::Damaged(..)
            | Self::Binding
            | Self::Key
            | Self::Request(_) => false,
        }
    }

    pub fn report(&self) -> ErrorReport {
        let hint = match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => "is the network up? `socle agent cert check NAME`",
            Self::RateLimited { .. } => "nothing to do: it is tried again when the authority allows it",
            Self::Refused { refusal, .. } if refusal.kind == "caa" => {
                "allow the authority in the domain's CAA record, `socle agent cert check NAME`"
            }
            // Of an account, `unauthorized` speaks too, and names none.
            Self::Refused { refusal, .. } if refusal.blames_the_names() && !refusal.names.is_empty() => {
                "socle agent cert check NAME"
            }
            Self::Refused { refusal, .. } if refusal.kind == "externalAccountRequired" => {
                "write `binding` into the document's `[authorities]`"
            }
            Self::Roots(..) => "see `roots` of the authority in the document",
            Self::Client(_) => "apt-get install ca-certificates",
            Self::Damaged(path, _) => {
                let hint = format!("mv {0} {0}.old, and a new account is made", path.display());
                return ErrorReport::of(self.code(), self, Some(hint));
            }
            _ => return ErrorReport::of(self.code(), self, None),
        };
        ErrorReport::of(self.code(), self, Some(hint.to_owned()))
    }
}
