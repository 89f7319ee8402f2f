//! Certificates of the fleet's own authority, for names that only the fleet's people use.
//!
//! The key is made here and stays here. The controller signs for the names that its own newest document gives the
//! instance, whatever is asked for. Nothing is begun that an interruption could leave behind.

use async_trait::async_trait;
use jiff::Timestamp;

use super::attempt::aside;
use super::error::AttemptError;
use super::keeper::{Done, Run};
use super::record::{Failure, Record};
use super::schedule::{self, Due};
use super::standing::known;
use crate::host::certificates::{Bundle, chain, key};
use crate::model::Name;
use crate::model::certificate::{KeyType, Meta, Origin, Wanted};
use crate::model::report::ErrorReport;

/// Why the fleet's authority gave no certificate.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("this server is not connected to a controller, whose authority is asked")]
    Away,
    #[error("the controller did not answer within {0} s")]
    Late(u64),
    #[error("the controller refuses: {0}")]
    Refused(ErrorReport),
}

impl FleetError {
    pub fn hint(&self) -> Option<String> {
        match self {
            FleetError::Away | FleetError::Late(_) => Some("systemctl status socle-agent socle-link".to_owned()),
            FleetError::Refused(error) => error.hint.clone(),
        }
    }
}

/// The fleet's own authority.
#[async_trait]
pub trait FleetAuthority: Send + Sync {
    /// A chain (PEM, the leaf first) for the request's key (PKCS #10, DER).
    async fn certify(&self, instance: &Name, csr: Vec<u8>) -> Result<String, FleetError>;
}

/// Where nothing leads to a controller.
pub struct NoFleet;

#[async_trait]
impl FleetAuthority for NoFleet {
    async fn certify(&self, _: &Name, _: Vec<u8>) -> Result<String, FleetError> {
        Err(FleetError::Away)
    }
}

impl Run {
    /// Like `tend`, for one of the fleet's authority.
    pub(super) async fn tend_internal(&self, name: &Name, wanted: &Wanted, forced: bool) -> Done {
        let known = known(&self.store, &self.records, name);
        let (present, mut record) = match known {
            Ok(known) => known,
            Err(error) => return self.look_again(error.report()),
        };
        match schedule::due_internal(&wanted.names, present.as_ref(), &record, self.now()) {
            Due::Wait { until, .. } if !forced => {
                return Done::Waiting { until, error: record.failure.map(|failure| failure.error) };
            }
            Due::Nothing { .. } | Due::Ask { .. } if !forced => return Done::Fresh,
            _ => {}
        }
        let got = self.certify(name, wanted).await;
        let now = self.now();
        let failure = got.as_ref().err().map(|error| failure(&record, wanted, error, now));
        record.about = if failure.is_some() { wanted.names.clone() } else { Vec::new() };
        let noted = (record.failure != failure).then(|| {
            record.failure.clone_from(&failure);
            let (records, name) = (self.records.clone(), name.clone());
            aside(move || records.keep(&name, &record))
        });
        if let Some(noted) = noted
            && let Err(error) = noted.await
        {
            return self.look_again(AttemptError::from(error).report());
        }
        match (got, failure) {
            (Ok((generation, meta)), _) => Done::Committed { generation, meta },
            (Err(error), Some(failure)) => {
                Done::Failed { error: error.report(), next: schedule::next_attempt(&failure, false) }
            }
            (Err(error), None) => self.look_again(error.report()),
        }
    }

    async fn certify(&self, name: &Name, wanted: &Wanted) -> Result<(u64, Meta), AttemptError> {
        let key = key::generate(KeyType::P256)?;
        let csr = key::request(&key, &wanted.names)?;
        let text = self.parts.fleet.certify(name, csr).await?;
        let now = self.now();
        let checked = chain::check(&text, &key, &wanted.names, now).map_err(AttemptError::FleetChain)?;
        let meta = Meta {
            source: Origin::Internal,
            names: checked.names,
            not_before: checked.not_before,
            not_after: checked.not_after,
            issued_at: now,
            key: KeyType::P256,
            serial: checked.serial,
            authority: None,
            profile: None,
            renewal_id: None,
        };
        let bundle = Bundle { chain: text, key, meta: meta.clone() };
        let (store, name) = (self.store.clone(), name.clone());
        let committed = aside(move || {
            let seen = store.generation(&name)?;
            store.commit(&name, &bundle, seen)
        });
        Ok((committed.await?, meta))
    }
}

fn failure(record: &Record, wanted: &Wanted, error: &AttemptError, now: Timestamp) -> Failure {
    let before = record.failure.as_ref().filter(|_| record.about == wanted.names);
    Failure {
        count: before.map_or(0, |before| before.count) + 1,
        at: now,
        error: error.report(),
        retry_after_s: None,
        // Only our own controller was asked.
        own_check: true,
        blamed: Vec::new(),
    }
}
