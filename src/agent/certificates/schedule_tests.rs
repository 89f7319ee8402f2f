use super::*;
use crate::model::certificate::{Challenge, KeyType};
use crate::model::report::ErrorReport;

const BEGIN: &str = "2026-11-01T00:00:00Z";

fn begin() -> Timestamp {
    BEGIN.parse().unwrap()
}

fn days(days: i64) -> SignedDuration {
    DAY * i32::try_from(days).unwrap()
}

fn names(texts: &[&str]) -> Vec<CertifiedName> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn acme() -> Acme {
    let authorities = vec!["one".parse().unwrap()];
    Acme { authorities, challenge: Challenge::Http01, key: KeyType::P256, profile: None }
}

fn meta(life: SignedDuration) -> Meta {
    Meta {
        source: Origin::Acme,
        names: names(&["a.org"]),
        not_before: begin(),
        not_after: begin() + life,
        issued_at: begin(),
        key: KeyType::P256,
        serial: "01".into(),
        authority: Some("one".parse().unwrap()),
        profile: None,
        renewal_id: Some("a.b".into()),
    }
}

fn told(start: Timestamp, end: Timestamp) -> RenewalInfo {
    RenewalInfo { start, end, explanation: None, retry_after_s: 21_600 }
}

fn failure(count: u32, at: Timestamp) -> Failure {
    let error = ErrorReport { code: "x".into(), message: String::new(), causes: vec![], hint: None };
    Failure { count, at, error, retry_after_s: None, own_check: false, blamed: vec![] }
}

fn due_at(meta: &Meta, record: &Record, now: Timestamp) -> Due {
    due(&names(&["a.org"]), &acme(), Some(meta), record, now)
}

fn asked(meta: &Meta, info: &RenewalInfo, at: Timestamp) -> Record {
    Record { renewal: Some(take(None, meta, Some(info), at, 1000)), ..Record::default() }
}

#[test]
fn why_something_is_ordered() {
    let (record, wanted, now) = (Record::default(), names(&["a.org"]), begin());
    let why =
        |meta: Option<&Meta>, names: &[CertifiedName], acme: &Acme, now| match due(names, acme, meta, &record, now) {
            Due::Order { why, urgent, .. } => Some((why, urgent)),
            _ => None,
        };
    let good = meta(days(90));
    assert_eq!(why(None, &wanted, &acme(), now), Some((Why::First, false)));
    let own = Meta { source: Origin::SelfSigned, authority: None, ..good.clone() };
    assert_eq!(why(Some(&own), &wanted, &acme(), now), Some((Why::First, false)));
    assert_eq!(why(Some(&good), &wanted, &acme(), now), None);
    assert_eq!(why(Some(&good), &names(&["a.org", "b.org"]), &acme(), now), Some((Why::Names, false)));
    let other = Acme { authorities: vec!["two".parse().unwrap()], ..acme() };
    assert_eq!(why(Some(&good), &wanted, &other, now), Some((Why::Authority, false)));
    assert_eq!(why(Some(&good), &wanted, &acme(), begin() + days(60)), Some((Why::Age, false)));
    assert_eq!(why(Some(&good), &wanted, &acme(), begin() + days(81)), Some((Why::Age, true)));
}

#[test]
fn the_back_stop_is_a_third_or_a_half_of_a_short_life() {
    for (life, renewed) in [(days(90), days(60)), (days(45), days(30)), (HOUR * 160, HOUR * 80), (days(9), days(9) / 2)]
    {
        let meta = Meta { renewal_id: None, ..meta(life) };
        let record = Record::default();
        assert_eq!(due_at(&meta, &record, begin()), Due::Nothing { until: begin() + renewed }, "{life}");
        assert!(matches!(due_at(&meta, &record, begin() + renewed - MINUTE), Due::Nothing { .. }));
        assert!(matches!(due_at(&meta, &record, begin() + renewed), Due::Order { why: Why::Age, .. }));
    }
}

#[test]
fn a_moment_is_chosen_once_and_kept_as_long_as_the_window_is() {
    let meta = meta(days(90));
    let window = told(begin() + days(50), begin() + days(52));
    let first = take(None, &meta, Some(&window), begin(), 100_000);
    assert_eq!(first.chosen, Some(begin() + days(50) + SignedDuration::from_secs(100_000)));
    assert_eq!(first.ask_again, begin() + HOUR * 12);
    let second = take(Some(&first), &meta, Some(&window), begin() + days(1), 7);
    assert_eq!(second.chosen, first.chosen);
    let moved = told(begin() + days(20), begin() + days(21));
    let third = take(Some(&second), &meta, Some(&moved), begin() + days(2), 7);
    assert_eq!(third.chosen, Some(begin() + days(20) + SignedDuration::from_secs(7)));
    let record = Record { renewal: Some(third.clone()), ..Record::default() };
    assert_eq!(due_at(&meta, &record, begin() + days(2)), Due::Nothing { until: third.ask_again });
    assert_eq!(due_at(&meta, &record, third.ask_again), Due::Ask { id: "a.b".into() });
    assert!(matches!(due_at(&meta, &record, third.chosen.unwrap()), Due::Order { why: Why::Window, .. }));
    // What was said about another certificate says nothing.
    let other = Meta { renewal_id: Some("c.d".into()), ..meta };
    assert_eq!(due_at(&other, &record, begin() + days(2)), Due::Ask { id: "c.d".into() });
}

#[test]
fn windows_that_make_no_sense_leave_the_back_stop() {
    let meta = meta(days(90));
    for (what, start, end) in [
        ("backwards", begin() + days(50), begin() + days(40)),
        ("empty", begin() + days(50), begin() + days(50)),
        ("after the end", begin() + days(91), begin() + days(92)),
    ] {
        let record = asked(&meta, &told(start, end), begin());
        assert_eq!(record.renewal.as_ref().unwrap().chosen, None, "{what}");
        assert_eq!(renew_at(&meta, &record), begin() + days(60), "{what}");
    }
    let late = asked(&meta, &told(begin() + days(80), begin() + days(89)), begin());
    assert_eq!(renew_at(&meta, &late), begin() + days(60), "never later than the back-stop");
    // In the past: at once; but a certificate of today not before tomorrow, or there would be no end of it.
    let past = told(begin() - days(9), begin() - days(8));
    assert_eq!(renew_at(&meta, &asked(&meta, &past, begin() + HOUR)), begin() + days(1));
    assert_eq!(renew_at(&meta, &asked(&meta, &past, begin() + days(5))), begin() + days(5));
}

#[test]
fn questions_come_twice_a_day_whatever_is_asked_for() {
    let meta = meta(days(90));
    for (wanted, hours) in [(0, 12), (21_600, 12), (60_000, 16), (u64::MAX, 24)] {
        let info = RenewalInfo { retry_after_s: wanted, ..told(begin() + days(50), begin() + days(52)) };
        let again = take(None, &meta, Some(&info), begin(), 1).ask_again;
        assert_eq!(again.duration_since(begin()).as_hours(), hours, "{wanted}");
    }
    let known = take(None, &meta, Some(&told(begin() + days(50), begin() + days(52))), begin(), 1);
    let failed = not_told(Some(&known), &meta, begin() + days(1));
    assert_eq!((failed.chosen, failed.ask_again), (known.chosen, begin() + days(1) + HOUR * 6));
    assert_eq!(take(None, &meta, None, begin(), 1).ask_again, begin() + days(1));
}

#[test]
fn after_failures_ever_longer_and_hourly_when_urgent() {
    let wait = |failure: &Failure, urgent| next_attempt(failure, urgent).duration_since(failure.at).as_mins();
    let waits: Vec<_> = (1..6).map(|count| wait(&failure(count, begin()), false)).collect();
    assert_eq!(waits, [1, 10, 100, 1440, 1440]);
    let waits: Vec<_> = (1..6).map(|count| wait(&failure(count, begin()), true)).collect();
    assert_eq!(waits, [1, 10, 60, 60, 60]);
    let own = Failure { own_check: true, ..failure(9, begin()) };
    assert_eq!(wait(&own, false), 60);
    for (told, calm, urgent) in [(30, 1, 1), (7200, 120, 120), (86_400, 1440, 360), (u64::MAX, 4320, 360)] {
        let failure = Failure { retry_after_s: Some(told), ..failure(1, begin()) };
        assert_eq!((wait(&failure, false), wait(&failure, true)), (calm, urgent), "{told}");
    }
}

#[test]
fn long_expired_is_no_emergency_any_more() {
    let meta = meta(days(90));
    let urgent = |day| match due_at(&meta, &Record::default(), begin() + days(day)) {
        Due::Order { urgent, .. } => urgent,
        other => panic!("{other:?}"),
    };
    assert_eq!([80, 81, 90, 96, 97].map(urgent), [false, true, true, true, false]);
}

#[test]
fn names_that_failed_are_left_out_where_that_helps() {
    let (all, bad) = (names(&["a.org", "b.org", "c.org"]), names(&["c.org"]));
    let failed = Failure { blamed: bad, ..failure(1, begin()) };
    let some = |failure: Option<&Failure>, trusted: Option<&Meta>, why| names_for(&all, trusted, failure, why).len();
    let part = Meta { names: names(&["a.org", "b.org"]), ..meta(days(90)) };
    assert_eq!(some(None, None, Why::First), 3);
    assert_eq!(some(Some(&failed), None, Why::First), 2);
    assert_eq!(some(Some(&failed), Some(&part), Why::Names), 3, "it has the others already");
    assert_eq!(some(Some(&failed), Some(&part), Why::Age), 2);
    assert_eq!(some(Some(&failed), Some(&meta(days(90))), Why::Names), 2, "one more than before");
    let hopeless = Failure { blamed: all.clone(), ..failed.clone() };
    assert_eq!(some(Some(&hopeless), None, Why::First), 3);
}

#[test]
fn alerts_at_a_half_a_third_and_a_fifth_of_what_was_left() {
    let meta = meta(days(90));
    let at = |day| alert(&meta, begin() + days(day));
    assert_eq!(
        [0, 60, 75, 76, 81, 85].map(at),
        [None, None, None, Some(Alert::Half), Some(Alert::Third), Some(Alert::Fifth)]
    );
    assert_eq!(at(90), Some(Alert::Expired));
    let short = super::tests::meta(HOUR * 160);
    assert_eq!(alert(&short, begin() + HOUR * 100), None);
    assert_eq!(alert(&short, begin() + HOUR * 121), Some(Alert::Half));
}

#[test]
fn with_a_tenth_left_it_is_an_emergency_whatever_the_authority_says() {
    for life in [days(90), days(45), HOUR * 160] {
        let meta = meta(life);
        let at = |tenths: i32| begin() + life / 10 * tenths;
        let windows = [
            told(at(5), at(6)),
            told(at(9), at(10) - MINUTE),
            told(at(6), at(5)),
            told(at(11), at(12)),
            told(begin() - days(9), begin() + days(9999)),
        ];
        for told in &windows {
            let mut record = asked(&meta, told, begin());
            for (now, emergency) in [(at(9) - MINUTE, false), (at(9), true), (at(10), true)] {
                let due = due_at(&meta, &record, now);
                assert!(matches!(due, Due::Order { urgent, .. } if urgent == emergency), "{told:?} at {now}: {due:?}");
            }
            // It failed often, and the authority wants years of rest: an emergency waits for hours.
            record.failure = Some(Failure { retry_after_s: Some(u64::MAX), ..failure(9, at(9)) });
            record.about = names(&["a.org"]);
            assert!(matches!(due_at(&meta, &record, at(9) + HOUR * 6), Due::Order { urgent: true, .. }), "{told:?}");
        }
    }
}
