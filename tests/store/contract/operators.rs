use std::collections::BTreeMap;

use socle::controller::store::{FleetError, NewApiToken, Scope};
use socle::model::Digest;

use crate::place::*;

pub async fn one_fleet_a_database(place: Place) {
    let store = place.open().await;
    assert_eq!(store.fleet().await.unwrap(), None);
    assert!(store.raise_epoch(&by(0)).await.is_err());
    let fleet = store.create_fleet(id(1), &name("amis"), &by(1)).await.unwrap();
    assert_eq!((fleet.id, fleet.name.as_str(), fleet.created, fleet.epoch), (id(1), "amis", at(1), 0));
    let again = store.create_fleet(id(2), &name("other"), &by(2)).await;
    assert!(matches!(&again, Err(FleetError::Exists(name)) if name.as_str() == "amis"), "{again:?}");
    assert_eq!(store.fleet().await.unwrap(), Some(fleet));
}

pub async fn settings(place: Place) {
    let store = place.fleet(0).await;
    store.set_setting("address", Some("192.0.2.1:7443"), &by(1)).await.unwrap();
    store.set_setting("address", Some("192.0.2.2:7443"), &by(2)).await.unwrap();
    store.set_setting("other", Some(""), &by(3)).await.unwrap();
    assert_eq!(store.setting("address").await.unwrap().as_deref(), Some("192.0.2.2:7443"));
    store.set_setting("address", None, &by(4)).await.unwrap();
    assert_eq!(store.setting("address").await.unwrap(), None);
    assert_eq!(store.settings().await.unwrap(), BTreeMap::from([("other".to_owned(), String::new())]));
}

pub async fn an_api_token_works_until_revoked(place: Place) {
    let store = place.fleet(0).await;
    let digest = Digest::of("the token itself");
    let new = NewApiToken { id: id(5), name: name("ci"), scope: Scope::Write, digest };
    store.create_api_token(&new, &by(1)).await.unwrap();
    assert_eq!(store.use_api_token(Digest::of("another"), at(2)).await.unwrap(), None);
    let found = store.use_api_token(digest, at(2)).await.unwrap().unwrap();
    assert_eq!((found.id, found.name.as_str(), found.scope, found.last_used), (id(5), "ci", Scope::Write, None));
    // Used again and again, written once a minute.
    store.use_api_token(digest, at(30)).await.unwrap().unwrap();
    assert_eq!(store.api_tokens().await.unwrap()[0].last_used, Some(at(2)));
    store.use_api_token(digest, at(90)).await.unwrap().unwrap();
    assert_eq!(store.api_tokens().await.unwrap()[0].last_used, Some(at(90)));

    assert!(store.revoke_api_token(id(5), &by(100)).await.unwrap());
    assert!(!store.revoke_api_token(id(5), &by(101)).await.unwrap());
    assert_eq!(store.use_api_token(digest, at(102)).await.unwrap(), None);
    assert_eq!(store.api_tokens().await.unwrap()[0].revoked, Some(at(100)));
}

pub async fn every_change_is_in_the_audit(place: Place) {
    let store = place.fleet(2).await;
    put(&store, &direct([("s0", "text")])).await;
    store.ban(&name("s1"), &by(12)).await.unwrap();
    store.raise_epoch(&by(13)).await.unwrap();
    // What servers report is not: it changes nobody's wish.
    store.note_positions(&[(name("s0"), position(mark(0, 1)))], at(14)).await.unwrap();
    super::outbox::send(&store, "s0", [super::outbox::report(1, "done")]).await;

    let entries = store.audit(100).await.unwrap();
    let whats: Vec<_> = entries.iter().rev().map(|entry| entry.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "fleet.create",
            "join-token.create",
            "server.enrol",
            "join-token.create",
            "server.enrol",
            "documents.put",
            "server.ban",
            "fleet.raise-epoch",
        ]
    );
    assert_eq!(entries.iter().rev().map(|entry| entry.number).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    assert_eq!((entries[0].who.as_str(), entries[0].at), ("uid:0", at(13)));
    assert_eq!((entries[5].who.as_str(), entries[5].detail["server"].as_str()), ("server:s0", Some("s0")));
    assert_eq!(entries[2].detail["marks"]["s0"], "1");
    assert_eq!(store.audit(1).await.unwrap(), entries[..1]);
}

pub async fn an_alarm_is_counted_and_cleared(place: Place) {
    let store = place.fleet(0).await;
    for time in 1..=3 {
        store.raise_alarm(Some(&name("s0")), "clock", &format!("{time} s off"), at(time)).await.unwrap();
    }
    store.raise_alarm(None, "clock", "the controller's", at(9)).await.unwrap();
    let alarms = store.alarms(10).await.unwrap();
    assert_eq!(alarms.len(), 2);
    assert_eq!(alarms[0].server, None);
    assert_eq!((alarms[1].text.as_str(), alarms[1].times, alarms[1].at), ("3 s off", 3, at(1)));
    assert!(store.clear_alarm(Some(&name("s0")), "clock", &by(10)).await.unwrap());
    assert!(!store.clear_alarm(Some(&name("s0")), "clock", &by(11)).await.unwrap());
    // The next is a new one.
    store.raise_alarm(Some(&name("s0")), "clock", "again", at(12)).await.unwrap();
    let alarms = store.alarms(10).await.unwrap();
    let told: Vec<_> = alarms.iter().map(|alarm| (alarm.text.as_str(), alarm.times, alarm.cleared)).collect();
    assert_eq!(told, [("again", 1, None), ("the controller's", 1, None), ("3 s off", 3, Some(at(10)))]);
}
