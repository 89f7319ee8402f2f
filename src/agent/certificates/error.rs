use super::budget::{BudgetError, Full};
use super::internal::FleetError;
use super::record::RecordError;
use super::watch::NameProblem;
use crate::host::PortError;
use crate::host::authority::{AuthorityError, ChallengeKind, Refusal};
use crate::host::certificates::key::KeyError;
use crate::host::certificates::{ChainProblem, StoreError, chain};
use crate::model::certificate::CertifiedName;
use crate::model::report::ErrorReport;
use crate::model::{Domain, Name};

/// Why an attempt to get a certificate did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the authority `{authority}` gave the order up: {refusal}")]
    Invalid { authority: Name, refusal: Refusal },
    #[error("the authority `{authority}` sent a certificate that cannot be used: {}", chain::All(.problems))]
    Chain { authority: Name, problems: Vec<ChainProblem> },
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("the fleet's authority sent a certificate that cannot be used: {}", chain::All(.0))]
    FleetChain(Vec<ChainProblem>),
    #[error("the authority `{authority}` has not come to an end with the order yet")]
    Pending { authority: Name, retry_after_s: Option<u64> },
    #[error("the authority `{authority}` does not offer `{}` for `{domain}`", kind.as_str())]
    NotOffered { authority: Name, kind: ChallengeKind, domain: Domain },
    #[error("the authority `{authority}` has no profile `{profile}`; it has {known}")]
    Profile { authority: Name, profile: String, known: String },
    #[error("the authority `{0}` is not described")]
    UnknownAuthority(Name),
    #[error("the DNS provider `{0}` is not described")]
    UnknownProvider(Name),
    #[error("no more is ordered at `{authority}` for now: {full}")]
    Full { authority: Name, full: Full },
    #[error("{}", .0.iter().map(|problem| problem.what.as_str()).collect::<Vec<_>>().join("; "))]
    Check(Vec<NameProblem>),
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("cannot publish the proof for `{domain}`")]
    Publish { domain: Domain, source: PortError },
    #[error("cannot write the proof for `{domain}`")]
    Write { domain: Domain, source: crate::durable::DurableError },
}

/// What comes after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The order stands, and is taken up at the next attempt.
    Keep,
    /// The order has come to nothing, and another authority would find the same.
    Drop,
    /// Nothing comes of it at this authority; the next one is asked at once.
    Next,
}

impl AttemptError {
    /// `ordered`: there is an order at the authority, which could be taken up again.
    pub fn after(&self, ordered: bool) -> After {
        let stands = if ordered { After::Keep } else { After::Next };
        match self {
            // Before there is an order, a refusal is about the account or a name this authority does not want.
            Self::Authority(AuthorityError::Refused { .. }) if !ordered => After::Next,
            Self::Authority(AuthorityError::Refused { refusal, .. }) | Self::Invalid { refusal, .. } => {
                match refusal.kind.as_str() {
                    "orderNotReady" => stands,
                    _ if refusal.blames_the_names() => After::Drop,
                    _ => After::Next,
                }
            }
            Self::Authority(
                AuthorityError::Unreachable { .. }
                | AuthorityError::Timeout { .. }
                | AuthorityError::Unavailable { .. }
                | AuthorityError::RateLimited { .. }
                | AuthorityError::Nonsense { .. }
                | AuthorityError::Keep(_)
                | AuthorityError::Client(_)
                | AuthorityError::Roots(..)
                | AuthorityError::Damaged(..)
                | AuthorityError::Binding
                | AuthorityError::Key
                | AuthorityError::Request(_),
            ) => stands,
            Self::Authority(AuthorityError::NotFound { .. })
            | Self::Chain { .. }
            | Self::NotOffered { .. }
            | Self::Profile { .. }
            | Self::UnknownAuthority(_)
            | Self::Full { .. } => After::Next,
            Self::Check(_) => After::Drop,
            Self::Pending { .. }
            | Self::Fleet(_)
            | Self::FleetChain(_)
            | Self::UnknownProvider(_)
            | Self::Budget(_)
            | Self::Record(_)
            | Self::Store(_)
            | Self::Key(_)
            | Self::Publish { .. }
            | Self::Write { .. } => After::Keep,
        }
    }

    pub fn retry_after_s(&self, now: jiff::Timestamp) -> Option<u64> {
        match self {
            Self::Authority(error) => error.retry_after_s(),
            Self::Pending { retry_after_s, .. } => *retry_after_s,
            Self::Full { full, .. } => Some(full.until.duration_since(now).as_secs().max(0).unsigned_abs()),
            _ => None,
        }
    }

    /// Those of `names` that are to blame.
    pub fn blamed(&self, names: &[CertifiedName]) -> Vec<CertifiedName> {
        let refused = match self {
            Self::Check(problems) => return problems.iter().map(|problem| problem.name.clone()).collect(),
            Self::Authority(error) => error.refusal(),
            Self::Invalid { refusal, .. } => Some(refusal),
            _ => None,
        };
        let blames = |name: &&CertifiedName| {
            let (whole, domain) = (name.to_string(), name.domain().as_str());
            refused.is_some_and(|refusal| refusal.names.iter().any(|blamed| *blamed == whole || blamed == domain))
        };
        names.iter().filter(blames).cloned().collect()
    }

    pub fn report(&self) -> ErrorReport {
        let (code, hint) = match self {
            Self::Authority(error) => return error.report(),
            Self::Publish { source, .. } => ("certificate.publish", source.hint.clone()),
            Self::Check(problems) => ("certificate.check", problems.first().map(|problem| problem.hint.clone())),
            Self::Invalid { refusal, .. } if refusal.kind == "caa" => (
                "certificate.refused",
                Some("allow the authority in the domain's CAA record, `socle agent cert check NAME`".to_owned()),
            ),
            Self::Invalid { .. } => ("certificate.refused", Some("socle agent cert check NAME".to_owned())),
            Self::Chain { .. } => ("certificate.chain", None),
            Self::Fleet(error) => ("certificate.fleet", error.hint()),
            // It signs for the names of its newest document: that may be on its way.
            Self::FleetChain(_) => ("certificate.fleet", Some("socle agent status".to_owned())),
            Self::Pending { .. } => ("certificate.pending", None),
            Self::NotOffered { kind: ChallengeKind::Http01, .. } => {
                ("certificate.challenge", Some("wildcards need `challenge = \"dns-01\"` in the document".to_owned()))
            }
            Self::NotOffered { .. } => ("certificate.challenge", None),
            Self::Profile { .. } => ("certificate.profile", Some("see `profile` in the document".to_owned())),
            Self::UnknownAuthority(_) => {
                ("certificate.authority", Some("see `[authorities]` in the document".to_owned()))
            }
            Self::UnknownProvider(_) => ("certificate.provider", Some("see `[dns]` in the document".to_owned())),
            Self::Full { .. } => ("certificate.limit", None),
            Self::Record(RecordError::Damaged { path, .. }) | Self::Budget(BudgetError::Damaged { path, .. }) => {
                ("certificate.damaged", Some(format!("rm {}, and it is made anew", path.display())))
            }
            Self::Budget(_) | Self::Record(_) | Self::Store(_) | Self::Write { .. } => ("certificate.disk", None),
            Self::Key(_) => ("certificate.key", None),
        };
        ErrorReport::of(code, self, hint)
    }
}
