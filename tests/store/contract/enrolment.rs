use socle::controller::store::{Certificate, RecoveryError, RedeemError, ServerState, StoreError};
use socle::wire::JoinToken;
use socle::wire::token::TokenId;

use crate::place::*;

pub async fn a_token_enrols_one_server_once(place: Place) {
    let store = place.fleet(0).await;
    store.create_join_token(&token(7, "ks1"), &by(1)).await.unwrap();
    assert_eq!(store.live_join_tokens(at(2)).await.unwrap(), 1);
    let server = store.redeem(&redemption(7, 1), at(2)).await.unwrap();
    assert_eq!((server.name.as_str(), server.state, server.id), ("ks1", ServerState::Enrolled, id(1001)));
    assert_eq!((server.identity, server.sealing, server.enrolled_at), (key(1), [1; 32], at(2)));
    assert_eq!(store.server(&name("ks1")).await.unwrap(), Some(server.clone()));

    // The answer was lost, the agent asks again: the same server, even though another id is offered.
    let mut again = redemption(7, 1);
    again.id = id(9999);
    assert_eq!(store.redeem(&again, at(3)).await.unwrap(), server);
    assert_eq!(store.live_join_tokens(at(3)).await.unwrap(), 1);
    // … but not for ever.
    let late = store.redeem(&again, at(3600)).await;
    assert!(matches!(late, Err(RedeemError::Expired { .. })), "{late:?}");
    assert_eq!(store.live_join_tokens(at(3600)).await.unwrap(), 0);

    for time in [4, 5] {
        let stolen = store.redeem(&redemption(7, 2), at(time)).await;
        assert!(matches!(&stolen, Err(RedeemError::AlreadyUsed { by, .. }) if *by == key(1).id()), "{stolen:?}");
    }
    let alarms = store.alarms(10).await.unwrap();
    assert_eq!(alarms.len(), 1);
    assert_eq!((alarms[0].server.clone(), alarms[0].code.as_str()), (Some(name("ks1")), "join-token.reused"));
    assert_eq!((alarms[0].times, alarms[0].at, alarms[0].last_at), (2, at(4), at(5)));
    assert!(alarms[0].text.contains(&key(2).id().short()), "{}", alarms[0].text);
    assert_eq!(store.server(&name("ks1")).await.unwrap(), Some(server));
    let token = store.join_token(TokenId([7; 8])).await.unwrap().unwrap();
    assert_eq!(token.redeemed, Some((key(1).id(), at(2))));
    assert!(!token.is_open(at(5)));
}

pub async fn a_token_that_is_not_open_enrols_nobody(place: Place) {
    let store = place.fleet(0).await;
    let unknown = store.redeem(&redemption(9, 1), at(2)).await;
    assert!(matches!(unknown, Err(RedeemError::Unknown(TokenId([9, ..])))), "{unknown:?}");

    store.create_join_token(&token(1, "ks1"), &by(1)).await.unwrap();
    let expired = store.redeem(&redemption(1, 1), at(3600)).await;
    assert!(matches!(expired, Err(RedeemError::Expired { at: when, .. }) if when == at(3600)), "{expired:?}");

    store.revoke_join_token(TokenId([1; 8]), &by(5)).await.unwrap();
    store.revoke_join_token(TokenId([1; 8]), &by(6)).await.unwrap();
    let revoked = store.redeem(&redemption(1, 1), at(7)).await;
    assert!(matches!(revoked, Err(RedeemError::Revoked { at: when, .. }) if when == at(5)), "{revoked:?}");
    assert!(store.revoke_join_token(TokenId([9; 8]), &by(5)).await.is_err());

    assert_eq!(store.servers().await.unwrap(), []);
    assert_eq!(store.alarms(10).await.unwrap(), []);
}

pub async fn of_two_keys_one_ever_wins(place: Place) {
    let store = place.fleet(0).await;
    store.create_join_token(&token(7, "ks1"), &by(1)).await.unwrap();
    let tries = (0..200u8).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let machine = 1 + number % 2;
            (machine, store.redeem(&redemption(7, machine), at(2)).await)
        })
    });
    let (mut winners, mut refused) = (std::collections::BTreeSet::new(), 0);
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.unwrap() {
            (machine, Ok(server)) => {
                assert_eq!(server.identity, key(machine));
                winners.insert(machine);
            }
            (_, Err(RedeemError::AlreadyUsed { .. })) => refused += 1,
            (_, Err(other)) => panic!("{other:?}"),
        }
    }
    assert_eq!((winners.len(), refused), (1, 100));
    let winner = *winners.first().unwrap();
    assert_eq!(store.server(&name("ks1")).await.unwrap().unwrap().identity, key(winner));
    assert_eq!(store.alarms(10).await.unwrap()[0].times, 100);
    let enrolled = store.audit(1000).await.unwrap().into_iter().filter(|entry| entry.what == "server.enrol").count();
    assert_eq!(enrolled, 1);
}

pub async fn who_is_enrolled_keeps_the_name_until_evicted(place: Place) {
    let store = place.fleet(1).await;
    store.create_join_token(&token(8, "s0"), &by(3)).await.unwrap();
    let refused = store.redeem(&redemption(8, 8), at(4)).await;
    assert!(matches!(refused, Err(RedeemError::AlreadyEnrolled(_))), "{refused:?}");
    assert!(store.join_token(TokenId([8; 8])).await.unwrap().unwrap().is_open(at(4)), "the token is not used up");

    store.evict(&name("s0"), &by(5)).await.unwrap();
    assert_eq!(store.server(&name("s0")).await.unwrap().unwrap().state, ServerState::Evicted);
    // Neither the token of before, nor asking again with the used one.
    for redemption in [redemption(8, 8), redemption(1, 1)] {
        let refused = store.redeem(&redemption, at(6)).await;
        assert!(matches!(refused, Err(RedeemError::Revoked { .. })), "{refused:?}");
    }
    let nobody = store.evict(&name("nobody"), &by(5)).await;
    assert!(matches!(nobody, Err(StoreError::NoSuchServer(_))), "{nobody:?}");
}

pub async fn another_machine_under_the_name_starts_from_nothing(place: Place) {
    let store = place.fleet(1).await;
    let s0 = name("s0");
    put(&store, &direct([("s0", "text")])).await;
    store.note_positions(&[(s0.clone(), position(mark(0, 1)))], at(3)).await.unwrap();
    store.advance_recovery(&s0, 5, &by(3)).await.unwrap();
    super::outbox::send(&store, "s0", [super::outbox::report(1, "old machine")]).await;
    let certificate = Certificate { serial: "0a".to_owned(), not_after: at(500) };
    store.set_certificate(&s0, &certificate, &by(3)).await.unwrap();
    assert_eq!(store.server(&s0).await.unwrap().unwrap().certificate, Some(certificate));

    store.evict(&s0, &by(5)).await.unwrap();
    let server = enrol(&store, "s0", 8).await;
    assert_eq!((server.id, server.identity, server.state), (id(1008), key(8), ServerState::Enrolled));
    assert_eq!((server.recovery_sequence, server.acknowledged), (0, 0));
    assert_eq!((server.position, server.certificate, server.last_seen), (None, None, None));
    assert_eq!(store.report(&s0).await.unwrap(), None, "a report of the machine before");
    // Its outbox counts from 1 again, and marks of the name go on.
    assert_eq!(super::outbox::send(&store, "s0", [super::outbox::report(1, "new machine")]).await, 1);
    assert_eq!(store.report(&s0).await.unwrap().unwrap().json, "\"new machine\"");
    assert_eq!(put(&store, &direct([("s0", "text")])).await.marks[&s0], mark(0, 2));
}

pub async fn the_same_machine_goes_on_where_it_was(place: Place) {
    let store = place.fleet(1).await;
    let s0 = name("s0");
    store.advance_recovery(&s0, 5, &by(3)).await.unwrap();
    super::outbox::send(&store, "s0", [super::outbox::report(1, "before")]).await;
    store.evict(&s0, &by(5)).await.unwrap();
    store.create_join_token(&token(8, "s0"), &by(6)).await.unwrap();
    let mut same = redemption(8, 1);
    same.id = id(77);
    let server = store.redeem(&same, at(7)).await.unwrap();
    assert_eq!((server.id, server.recovery_sequence, server.acknowledged), (id(1001), 5, 1));
    assert_eq!(server.enrolled_at, at(7));
}

pub async fn banned_is_banned_under_every_name(place: Place) {
    let store = place.fleet(1).await;
    store.create_join_token(&token(8, "other"), &by(3)).await.unwrap();
    store.ban(&name("s0"), &by(4)).await.unwrap();
    let refused = store.create_join_token(&token(9, "s0"), &by(5)).await;
    assert!(matches!(refused, Err(StoreError::Banned(_))), "{refused:?}");
    let refused = store.redeem(&redemption(8, 1), at(6)).await;
    assert!(matches!(refused, Err(RedeemError::Banned(_))), "{refused:?}");
    assert_eq!(store.server(&name("other")).await.unwrap(), None);
    let refused = store.evict(&name("s0"), &by(7)).await;
    assert!(matches!(refused, Err(StoreError::Banned(_))), "{refused:?}");
    assert_eq!(store.server(&name("s0")).await.unwrap().unwrap().state, ServerState::Banned);
    // Another machine is not.
    assert!(store.redeem(&redemption(8, 2), at(8)).await.is_ok());
}

pub async fn a_recovery_is_done_once(place: Place) {
    let store = place.fleet(1).await;
    let s0 = name("s0");
    store.advance_recovery(&s0, 1, &by(3)).await.unwrap();
    store.advance_recovery(&s0, 4, &by(3)).await.unwrap();
    for sequence in [4, 3, 0] {
        let refused = store.advance_recovery(&s0, sequence, &by(3)).await;
        assert!(matches!(refused, Err(RecoveryError::Outdated { stored: 4, .. })), "{refused:?}");
    }
    let refused = store.advance_recovery(&s0, u64::MAX, &by(3)).await;
    assert!(matches!(refused, Err(RecoveryError::Store(StoreError::TooLarge { .. }))), "{refused:?}");
    let refused = store.advance_recovery(&name("nobody"), 1, &by(3)).await;
    assert!(matches!(refused, Err(RecoveryError::Store(StoreError::NoSuchServer(_)))), "{refused:?}");
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let (store, s0) = (store.clone(), s0.clone());
            tokio::spawn(async move { store.advance_recovery(&s0, 5, &by(3)).await.is_ok() })
        })
        .collect();
    let mut done = 0;
    for tried in tries {
        done += u32::from(tried.await.unwrap());
    }
    assert_eq!(done, 1);
}

pub async fn no_secret_is_in_the_database(place: Place) {
    let store = place.fleet(0).await;
    let made = JoinToken::new(name("ks1"), vec!["192.0.2.1:7443".to_owned()], [3; 32], at(3600), |bytes| {
        bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = 0x5a ^ at as u8);
    });
    let public = made.key().public();
    let new = socle::controller::store::NewJoinToken {
        id: made.id,
        server: made.server.clone(),
        public_key: public,
        expires: at(3600),
    };
    store.create_join_token(&new, &by(1)).await.unwrap();
    assert_eq!(store.join_token(made.id).await.unwrap().unwrap().public_key, public);
    let mut used = redemption(0, 1);
    used.token = made.id;
    store.redeem(&used, at(2)).await.unwrap();
    store.close().await;
    let bytes = place.bytes();
    let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    let seed = *made.key().seed();
    let hexadecimal: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    // What is looked for is found, if it is there.
    assert!(holds(String::from(public).as_bytes()), "the public half");
    assert!(holds(made.id.to_string().as_bytes()), "the id");
    for secret in [&seed[..], made.key().to_base64().as_bytes(), hexadecimal.as_bytes(), made.to_string().as_bytes()] {
        assert!(!holds(secret), "{}", String::from_utf8_lossy(secret));
    }
}
