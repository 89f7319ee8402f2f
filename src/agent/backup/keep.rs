//! Which snapshots stay. Pure: what restic's `forget --keep-…` keeps, in UTC.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::document::Keep;

/// The places in `snapshots` (when, and with which tags) that no rule keeps; in any order.
pub fn unneeded(snapshots: &[(Timestamp, &[String])], keep: &Keep) -> BTreeSet<usize> {
    let (times, tags): (Vec<Timestamp>, Vec<&[String]>) = snapshots.iter().copied().unzip();
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
    let tagged = |at: usize| keep.tags.iter().any(|tag| tags[at].iter().any(|known| known == tag.as_str()));
    (0..times.len()).filter(|at| !kept.contains(at) && !tagged(*at)).collect()
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

    const NONE: Keep = Keep { last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, tags: BTreeSet::new() };

    fn of(times: &[Timestamp], keep: &Keep) -> BTreeSet<usize> {
        unneeded(&times.iter().map(|at| (*at, &[][..])).collect::<Vec<_>>(), keep)
    }

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
        assert_eq!(of(&times, &NONE), [0, 1, 2].into());
        assert_eq!(of(&times, &Keep { daily: 2, ..NONE }), [0, 2].into());
        assert_eq!(of(&times, &Keep { hourly: 9, ..NONE }), [].into());
        // Sunday and Monday are of two weeks.
        assert_eq!(of(&times, &Keep { weekly: 2, ..NONE }), [0, 2].into());
        assert_eq!(of(&times, &Keep { monthly: 5, ..NONE }), [1, 2].into());
        assert_eq!(of(&times, &Keep { yearly: 1, ..NONE }), [0, 1, 2].into());
    }

    #[test]
    fn what_carries_a_tag_of_the_rules_stays() {
        let tags = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (plain, kept, other) =
            (tags("socle instance:blog"), tags("socle instance:blog before-2027"), tags("socle before-2028"));
        let snapshots = [
            (at("2026-01-01T01:00:00Z"), &kept[..]),
            (at("2026-01-02T01:00:00Z"), &plain[..]),
            (at("2026-01-03T01:00:00Z"), &other[..]),
            (at("2026-01-04T01:00:00Z"), &plain[..]),
        ];
        assert_eq!(unneeded(&snapshots, &NONE), [0, 1, 2].into());
        let tags = ["before-2027".parse().unwrap(), "another".parse().unwrap()].into();
        assert_eq!(unneeded(&snapshots, &Keep { tags, ..NONE }), [1, 2].into());
    }

    #[test]
    fn one_always_stays() {
        assert_eq!(of(&[], &NONE), [].into());
        assert_eq!(of(&[at("2000-01-01T00:00:00Z")], &Keep { last: 0, ..NONE }), [].into());
    }
}
