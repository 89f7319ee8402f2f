//! How a certificate stands, read from the disk.

use jiff::Timestamp;

use super::error::AttemptError;
use super::record::{Record, Records};
use super::schedule::{self, Due};
use crate::host::certificates::Store;
use crate::model::Name;
use crate::model::certificate::{Meta, Origin, Source, Standing, Wanted};

/// What is there, and what the job knows of it.
pub(super) fn known(store: &Store, records: &Records, name: &Name) -> Result<(Option<Meta>, Record), AttemptError> {
    Ok((store.present(name)?.map(|present| present.meta), records.load(name)?))
}

/// What could not be looked at is its error.
pub(super) fn of(wanted: &Wanted, store: &Store, records: &Records, now: Timestamp) -> Standing {
    let mut standing = Standing {
        name: wanted.name.clone(),
        names: wanted.names.clone(),
        source: None,
        authority: None,
        not_after: None,
        next: None,
        missing: wanted.names.clone(),
        last_error: None,
        alert: None,
        order: None,
        served: None,
    };
    let (present, record) = match known(store, records, &wanted.name) {
        Ok(known) => known,
        Err(error) => {
            standing.last_error = Some(error.report());
            return standing;
        }
    };
    if let Some(meta) = &present {
        standing.source = Some(meta.source);
        standing.authority.clone_from(&meta.authority);
        standing.not_after = Some(meta.not_after);
        standing.missing.retain(|name| !meta.covers(std::slice::from_ref(name)));
        standing.alert = schedule::alert(meta, now).filter(|_| meta.source != Origin::SelfSigned);
    }
    standing.served.clone_from(&record.served);
    if wanted.source == Source::Internal {
        standing.next = match schedule::due_internal(&wanted.names, present.as_ref(), &record, now) {
            Due::Order { .. } | Due::Ask { .. } => None,
            Due::Wait { until, .. } | Due::Nothing { until } => Some(until),
        };
        standing.last_error = record.failure.map(|failure| failure.error);
    } else if let Source::Acme(acme) = &wanted.source {
        let ordered = present.as_ref().filter(|meta| meta.source == Origin::Acme);
        standing.next = match schedule::due(&wanted.names, acme, present.as_ref(), &record, now) {
            // Now, and not a moment that is another one at each look.
            Due::Order { .. } => None,
            Due::Wait { until, .. } => Some(until),
            Due::Ask { .. } | Due::Nothing { .. } => ordered.map(|meta| schedule::renew_at(meta, &record)),
        };
        standing.last_error = record.failure.map(|failure| failure.error);
        standing.order = record.order.and_then(|order| order.url);
    }
    standing
}
