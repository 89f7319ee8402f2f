//! Who is told, and who is asked, while an order goes on.

use std::fmt;

use async_trait::async_trait;

use crate::host::authority::About;
use crate::model::certificate::{CertifiedName, Challenge};
use crate::model::{Domain, Name};

/// An act of an order that is about to be done. All before it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    AskRenewal { authority: Name },
    Check,
    MakeKey,
    Order { authority: Name },
    Resume { url: String },
    Publish { domain: Domain },
    Propagate { domain: Domain },
    Ready { domain: Domain },
    AwaitProof,
    Finalize,
    AwaitCertificate,
    Download,
    Commit,
    Settle,
    Withdraw,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskRenewal { authority } => write!(f, "asking `{authority}` when to renew"),
            Self::Check => f.write_str("checking that the names lead here"),
            Self::MakeKey => f.write_str("making a private key"),
            Self::Order { authority } => write!(f, "ordering at `{authority}`"),
            Self::Resume { url } => write!(f, "taking up the order {url}"),
            Self::Publish { domain } => write!(f, "publishing the proof for `{domain}`"),
            Self::Propagate { domain } => write!(f, "waiting for the name servers of `{domain}`"),
            Self::Ready { domain } => write!(f, "asking for the proof of `{domain}` to be checked"),
            Self::AwaitProof => f.write_str("waiting until the proof is checked"),
            Self::Finalize => f.write_str("asking for the certificate"),
            Self::AwaitCertificate => f.write_str("waiting for the certificate"),
            Self::Download => f.write_str("fetching the certificate"),
            Self::Commit => f.write_str("putting the certificate in place"),
            Self::Settle => f.write_str("closing the order"),
            Self::Withdraw => f.write_str("withdrawing the proofs"),
        }
    }
}

/// Is told before every act, and awaited: a test that never returns interrupts the order right there.
#[async_trait]
pub trait Watch: Send + Sync {
    async fn before(&self, certificate: &Name, act: &Act);
}

/// Tells nobody but the journal.
pub struct Journal;

#[async_trait]
impl Watch for Journal {
    async fn before(&self, certificate: &Name, act: &Act) {
        tracing::debug!(%certificate, "{act}");
    }
}

/// Why a name would fail, found out without the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameProblem {
    pub name: CertifiedName,
    /// A sentence that names it.
    pub what: String,
    pub hint: String,
}

/// Looks from this server whether the names can be proven: their DNS, the way to the challenge, their CAA records.
/// What could not be looked up is no problem: then the authority is the one to judge.
#[async_trait]
pub trait SelfCheck: Send + Sync {
    async fn check(&self, names: &[CertifiedName], challenge: &Challenge, about: &About) -> Vec<NameProblem>;
}
