//! What is due when. Pure: time and randomness are parameters.
//!
//! A certificate is renewed at the moment chosen in the authority's window (RFC 9773), but never later than with a
//! third of its life left (half, if it lives less than ten days): with 45 days of life that survives an outage of
//! 14 days. With a tenth left it is urgent: then it is tried hourly, and the whole of the authority's limits is
//! used instead of half.

use jiff::{SignedDuration, Timestamp};

use super::record::{Failure, Record, Renewal};
use crate::host::authority::RenewalInfo;
use crate::model::certificate::{Acme, Alert, CertifiedName, Meta, Origin};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Lives shorter than this are renewed at half.
const SHORT_LIFE: SignedDuration = SignedDuration::from_hours(10 * 24);
/// Between questions about renewal: twice a day, and once if the authority wants more rest than that.
const ASK_LEAST: SignedDuration = SignedDuration::from_hours(12);
/// After a question that failed.
const ASK_AFTER_FAILURE: SignedDuration = SignedDuration::from_hours(6);
/// An authority whose windows are always in the past gets one order a day, not one after the other.
const YOUNG: SignedDuration = DAY;
/// Let's Encrypt's longest is about 34 hours; whoever says years is not believed.
const RETRY_AFTER_MOST: SignedDuration = SignedDuration::from_hours(3 * 24);
const RETRY_AFTER_MOST_URGENT: SignedDuration = SignedDuration::from_hours(6);
/// So long after its end it is no emergency any more: an authority may pause names that fail too often.
const HOPE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Why a certificate is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is none that anybody trusts.
    First,
    /// Names are wanted that it does not cover.
    Names,
    /// It is of an authority that is not wanted any more.
    Authority,
    /// The moment chosen in the authority's window has come.
    Window,
    /// A third of its life is left, or half of a short one.
    Age,
    /// Somebody asked for it.
    Asked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Ask the authority when this certificate is to be renewed.
    Ask {
        id: String,
    },
    Order {
        why: Why,
        names: Vec<CertifiedName>,
        urgent: bool,
    },
    /// It is due, but failed lately.
    Wait {
        why: Why,
        until: Timestamp,
    },
    Nothing {
        until: Timestamp,
    },
}

/// What is to be done for a certificate at `now`.
pub fn due(names: &[CertifiedName], acme: &Acme, present: Option<&Meta>, record: &Record, now: Timestamp) -> Due {
    let trusted = present.filter(|meta| meta.source == Origin::Acme);
    let Some(why) = reason(names, acme, trusted, record, now) else {
        let meta = trusted.expect("without one there is a reason");
        let ask_at = ask_at(meta, record);
        return match (&meta.renewal_id, ask_at) {
            (Some(id), Some(at)) if at <= now => Due::Ask { id: id.clone() },
            _ => Due::Nothing { until: ask_at.map_or(renew_at(meta, record), |at| at.min(renew_at(meta, record))) },
        };
    };
    let urgent = trusted.is_some_and(|meta| is_urgent(meta, now));
    let failure = record.failure.as_ref().filter(|_| record.about == names);
    match failure.map(|failure| next_attempt(failure, urgent)) {
        Some(until) if until > now => Due::Wait { why, until },
        _ => Due::Order { why, names: names_for(names, trusted, failure, why), urgent },
    }
}

fn reason(
    names: &[CertifiedName],
    acme: &Acme,
    trusted: Option<&Meta>,
    record: &Record,
    now: Timestamp,
) -> Option<Why> {
    let Some(meta) = trusted else { return Some(Why::First) };
    if !meta.authority.as_ref().is_some_and(|authority| acme.authorities.contains(authority)) {
        Some(Why::Authority)
    } else if now >= back_stop(meta) {
        Some(Why::Age)
    } else if now >= renew_at(meta, record) {
        Some(Why::Window)
    } else if !meta.covers(names) {
        Some(Why::Names)
    } else {
        None
    }
}

/// The same for one of the fleet's own authority, which has neither windows nor limits.
pub fn due_internal(names: &[CertifiedName], present: Option<&Meta>, record: &Record, now: Timestamp) -> Due {
    let ours = present.filter(|meta| meta.source == Origin::Internal);
    let why = match ours {
        None => Why::First,
        Some(meta) if now >= back_stop(meta) => Why::Age,
        Some(meta) if !meta.covers(names) => Why::Names,
        Some(meta) => return Due::Nothing { until: back_stop(meta) },
    };
    let failure = record.failure.as_ref().filter(|_| record.about == names);
    match failure.map(|failure| next_attempt(failure, false)) {
        Some(until) if until > now => Due::Wait { why, until },
        _ => Due::Order { why, names: names.to_vec(), urgent: false },
    }
}

/// All names; or, if some of them made it fail before, the others, as long as that is better than what is there.
pub fn names_for(
    names: &[CertifiedName],
    trusted: Option<&Meta>,
    failure: Option<&Failure>,
    why: Why,
) -> Vec<CertifiedName> {
    let Some(failure) = failure else { return names.to_vec() };
    let rest: Vec<CertifiedName> = names.iter().filter(|name| !failure.blamed.contains(name)).cloned().collect();
    let better = why != Why::Names || !trusted.is_some_and(|meta| meta.covers(&rest));
    if rest.is_empty() || !better { names.to_vec() } else { rest }
}

/// When it is renewed, as far as is known now.
pub fn renew_at(meta: &Meta, record: &Record) -> Timestamp {
    let renewal = record.renewal.as_ref().filter(|renewal| Some(&renewal.id) == meta.renewal_id.as_ref());
    let chosen = renewal.and_then(|renewal| renewal.chosen);
    chosen.map_or(back_stop(meta), |chosen| chosen.min(back_stop(meta)))
}

/// The latest moment, whatever the authority says.
fn back_stop(meta: &Meta) -> Timestamp {
    meta.not_after - spare(meta)
}

/// What is left of its life when it is renewed at the latest.
fn spare(meta: &Meta) -> SignedDuration {
    meta.lifetime() / if meta.lifetime() < SHORT_LIFE { 2 } else { 3 }
}

fn is_urgent(meta: &Meta, now: Timestamp) -> bool {
    now >= meta.not_after - meta.lifetime() / 10 && now.duration_since(meta.not_after) < HOPE
}

/// `None`: its authority can not be asked about it.
fn ask_at(meta: &Meta, record: &Record) -> Option<Timestamp> {
    let id = meta.renewal_id.as_ref()?;
    let known = record.renewal.as_ref().filter(|renewal| renewal.id == *id);
    Some(known.map_or(meta.issued_at, |renewal| renewal.ask_again))
}

/// 1, 10, 100 minutes, then daily; hourly if it is urgent, or if it cost nobody anything. Never before the
/// authority wants it.
pub fn next_attempt(failure: &Failure, urgent: bool) -> Timestamp {
    let wait = match failure.count {
        0 | 1 => MINUTE,
        2 => MINUTE * 10,
        3 => MINUTE * 100,
        _ => DAY,
    };
    let wait = if urgent || failure.own_check { wait.min(HOUR) } else { wait };
    let most = if urgent { RETRY_AFTER_MOST_URGENT } else { RETRY_AFTER_MOST };
    let told = failure.retry_after_s.map(|seconds| SignedDuration::from_secs(seconds.min(1 << 30).cast_signed()));
    failure.at + told.map_or(wait, |told| wait.max(told.min(most)))
}

/// Takes what the authority said about renewing. `random` chooses within the window, once.
pub fn take(old: Option<&Renewal>, meta: &Meta, told: Option<&RenewalInfo>, now: Timestamp, random: u64) -> Renewal {
    let id = meta.renewal_id.clone().unwrap_or_default();
    let Some(told) = told else {
        return Renewal { id, ask_again: now + DAY, window: None, chosen: None, explanation: None };
    };
    let rest = SignedDuration::from_secs(told.retry_after_s.min(1 << 30).cast_signed());
    let ask_again = now + rest.clamp(ASK_LEAST, DAY);
    let explanation = told.explanation.clone();
    // A window that never ends, begins after the end or lies backwards says nothing: the back-stop stands.
    if told.end <= told.start || told.start >= meta.not_after {
        return Renewal { id, ask_again, window: None, chosen: None, explanation };
    }
    let window = Some((told.start, told.end));
    let same = old.filter(|old| old.id == id && old.window == window);
    let chosen = same.and_then(|old| old.chosen).unwrap_or_else(|| {
        let width = told.end.duration_since(told.start).as_secs().max(1).unsigned_abs();
        let at = told.start + SignedDuration::from_secs((random % width).cast_signed());
        at.max(now).max(meta.issued_at + YOUNG.min(spare(meta)))
    });
    Renewal { id, ask_again, window, chosen: Some(chosen), explanation }
}

/// The question failed: what was known stays, and it is asked again.
pub fn not_told(old: Option<&Renewal>, meta: &Meta, now: Timestamp) -> Renewal {
    let id = meta.renewal_id.clone().unwrap_or_default();
    match old.filter(|old| old.id == id) {
        Some(old) => Renewal { ask_again: now + ASK_AFTER_FAILURE, ..old.clone() },
        None => Renewal { id, ask_again: now + ASK_AFTER_FAILURE, window: None, chosen: None, explanation: None },
    }
}

/// What an admin must hear about a certificate, whatever its source: its renewal should have come long ago.
pub fn alert(meta: &Meta, now: Timestamp) -> Option<Alert> {
    let (left, spare) = (meta.not_after.duration_since(now), spare(meta));
    if left <= SignedDuration::ZERO {
        Some(Alert::Expired)
    } else if left < spare / 5 {
        Some(Alert::Fifth)
    } else if left < spare / 3 {
        Some(Alert::Third)
    } else if left < spare / 2 {
        Some(Alert::Half)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
