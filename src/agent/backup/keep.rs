//! Which snapshots stay. Pure: what restic's `forget --keep-…` keeps, in UTC.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::document::Keep;

/// The places in `times` that no rule keeps; `times` in any order.
pub fn unneeded(times: &[Timestamp], keep: Keep) -> BTreeSet<usize> {
    let mut newest_first: Vec<usize> = (0..times.len()).collect();
    newest_first.sort_by_key(|at| std::cmp::Reverse((times[*at], *at)));
    let mut kept: BTreeSet<usize> = newest_first.iter().take(keep.last.max(1) as usize).copied().collect();
    type Period = fn(Timestamp) -> i64;
    let rules: [(u32, Period); 5] =
        [(keep.hourly, hour), (keep.daily, day), (keep.weekly, week), (keep.monthly, month), (keep.yearly, year)];
    for (count, period) in rules {
        let mut seen = BTreeSet::new();
        for at in &newest_first {
            if seen.len() >= count as usize {
                break;
            }
            // The newest of its period.
            if seen.insert(period(times[*at])) {
                kept.insert(*at);
            }
        }
    }
    (0..times.len()).filter(|at| !kept.contains(at)).collect()
}

fn hour(at: Timestamp) -> i64 {
    at.as_second().div_euclid(3600)
}

fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86400)
}

/// The epoch began on a Thursday; weeks begin on Monday.
fn week(at: Timestamp) -> i64 {
    (day(at) + 3).div_euclid(7)
}

fn month(at: Timestamp) -> i64 {
    let date = at.to_zoned(TimeZone::UTC).date();
    i64::from(date.year()) * 12 + i64::from(date.month())
}

fn year(at: Timestamp) -> i64 {
    at.to_zoned(TimeZone::UTC).date().year().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Keep = Keep { last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_newest_of_each_period_stays() {
        let times = [
            at("2026-01-01T01:00:00Z"),
            at("2026-11-22T23:00:00Z"),
            at("2026-11-23T01:00:00Z"),
            at("2026-11-23T02:00:00Z"),
        ];
        assert_eq!(unneeded(&times, NONE), [0, 1, 2].into());
        assert_eq!(unneeded(&times, Keep { daily: 2, ..NONE }), [0, 2].into());
        assert_eq!(unneeded(&times, Keep { hourly: 9, ..NONE }), [].into());
        // Sunday and Monday are of two weeks.
        assert_eq!(unneeded(&times, Keep { weekly: 2, ..NONE }), [0, 2].into());
        assert_eq!(unneeded(&times, Keep { monthly: 5, ..NONE }), [1, 2].into());
        assert_eq!(unneeded(&times, Keep { yearly: 1, ..NONE }), [0, 1, 2].into());
    }

    #[test]
    fn one_always_stays() {
        assert_eq!(unneeded(&[], NONE), [].into());
        assert_eq!(unneeded(&[at("2000-01-01T00:00:00Z")], Keep { last: 0, ..NONE }), [].into());
    }
}
