use std::collections::{BTreeMap, BTreeSet};

use socle::controller::store::{Changed, NewDocuments, PutError, StoreError};
use socle::model::{Digest, Generation};

use crate::place::*;

pub async fn a_push_gives_every_server_its_next_mark(place: Place) {
    let store = place.fleet(3).await;
    let first = NewDocuments { texts: texts([("s0", "a"), ("s1", "b")]), revision: Some(revision("first")) };
    let put_first = put(&store, &first).await;
    assert_eq!(put_first.revision, Some(1));
    assert_eq!(put_first.marks, BTreeMap::from([(name("s0"), mark(0, 1)), (name("s1"), mark(0, 1))]));

    let new = direct([("s0", "ä\n"), ("s2", "")]);
    let (mut asked, later) = (Vec::new(), by(20));
    let done = store.put_documents(&new, &later, |unsigned| {
        asked.push((unsigned.server.clone(), unsigned.id, unsigned.identity, unsigned.mark, unsigned.previous));
        envelope(unsigned.server, unsigned.mark, unsigned.text)
    });
    assert_eq!(done.await.unwrap().revision, None);
    assert_eq!(
        asked,
        [
            (name("s0"), id(1001), key(1).id(), mark(0, 2), Some(Digest::of("a"))),
            (name("s2"), id(1003), key(3).id(), mark(0, 1), None),
        ]
    );

    let newest = store.newest(&name("s0")).await.unwrap().unwrap();
    assert_eq!((newest.mark, newest.text.as_str(), newest.digest), (mark(0, 2), "ä\n", Digest::of("ä\n")));
    assert_eq!(newest.envelope, envelope(&name("s0"), mark(0, 2), "ä\n"));
    assert_eq!((newest.revision, newest.created, newest.created_by.as_str()), (None, at(20), "uid:0"));
    let older = store.document(&name("s0"), mark(0, 1)).await.unwrap().unwrap();
    assert_eq!((older.text.as_str(), older.revision), ("a", Some(1)));
    assert_eq!(store.document(&name("s0"), mark(0, 3)).await.unwrap(), None);
    let marks = store.newest_marks().await.unwrap();
    let marks: Vec<_> = marks.iter().map(|newest| (newest.server.as_str(), newest.mark, newest.revision)).collect();
    assert_eq!(marks, [("s0", mark(0, 2), None), ("s1", mark(0, 1), Some(1)), ("s2", mark(0, 1), None)]);
}

pub async fn a_push_is_whole_or_not_at_all(place: Place) {
    let store = place.fleet(2).await;
    store.evict(&name("s1"), &by(5)).await.unwrap();
    let before = store.audit(1).await.unwrap();
    let new =
        NewDocuments { texts: texts([("absent", "a"), ("s0", "b"), ("s1", "c")]), revision: Some(revision("never")) };
    let refused = store.put_documents(&new, &by(10), |_| Vec::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), "not enrolled: `absent`, `s1`");
    assert_eq!(store.newest_marks().await.unwrap(), []);
    assert_eq!(store.newest_revision().await.unwrap(), None);
    assert_eq!(store.audit(1).await.unwrap(), before);

    let empty = place_without_fleet(&place).await;
    assert!(matches!(empty, PutError::Store(StoreError::NoFleet)), "{empty:?}");
}

async fn place_without_fleet(place: &Place) -> PutError {
    place.execute("DELETE FROM fleet").await;
    let store = place.open().await;
    store.put_documents(&direct([]), &by(10), |_| Vec::new()).await.unwrap_err()
}

pub async fn marks_go_on_from_what_the_server_reported(place: Place) {
    let store = place.fleet(2).await;
    let (s0, s1) = (name("s0"), name("s1"));
    put(&store, &direct([("s0", "a"), ("s1", "a")])).await;
    // This database is older than what s0 accepted; s1 is behind.
    let reported = [(s0.clone(), position(mark(0, 41))), (s1.clone(), position(mark(0, 0)))];
    store.note_positions(&reported, at(11)).await.unwrap();
    let marks = put(&store, &direct([("s0", "b"), ("s1", "b")])).await.marks;
    assert_eq!((marks[&s0], marks[&s1]), (mark(0, 42), mark(0, 2)));
    // The own mark counts, even when the server is set back.
    store.note_positions(&[(s0.clone(), position(mark(0, 3)))], at(12)).await.unwrap();
    assert_eq!(put(&store, &direct([("s0", "c")])).await.marks[&s0], mark(0, 43));
}

pub async fn a_raised_epoch_is_above_a_generation_that_ran_away(place: Place) {
    let store = place.fleet(1).await;
    let s0 = name("s0");
    let ran_away = position(mark(0, u64::MAX));
    store.note_positions(&[(s0.clone(), ran_away.clone())], at(11)).await.unwrap();
    assert_eq!(store.server(&s0).await.unwrap().unwrap().position, Some(ran_away));
    let refused = store.put_documents(&direct([("s0", "a")]), &by(12), |_| panic!("signed")).await;
    assert!(
        matches!(&refused, Err(PutError::MarksExhausted { mark: m, .. }) if *m == mark(0, u64::MAX)),
        "{refused:?}"
    );
    assert_eq!(store.raise_epoch(&by(13)).await.unwrap(), 1);
    assert_eq!(store.fleet().await.unwrap().unwrap().epoch, 1);
    assert_eq!(put(&store, &direct([("s0", "a")])).await.marks[&s0], mark(1, 1));
    assert_eq!(put(&store, &direct([("s0", "b")])).await.marks[&s0], mark(1, 2));
}

pub async fn old_documents_are_forgotten(place: Place) {
    let store = place.fleet(2).await;
    put(&store, &direct([("s1", "stays")])).await;
    for push in 1..=23 {
        put(&store, &direct([("s0", &format!("{push}") as &str)])).await;
    }
    let mut kept = Vec::new();
    for generation in 1..=23 {
        if store.document(&name("s0"), mark(0, generation)).await.unwrap().is_some() {
            kept.push(generation);
        }
    }
    assert_eq!(kept, (4..=23).collect::<Vec<_>>());
    assert!(store.newest(&name("s1")).await.unwrap().is_some());
}

pub async fn two_controllers_never_give_a_mark_twice(place: Place) {
    let stores = [place.fleet(4).await, place.open().await];
    let sets: [&[&str]; 4] = [&["s0", "s1", "s2", "s3"], &["s2", "s1"], &["s0"], &["s3", "s0"]];
    let puts: Vec<_> = (0..60)
        .map(|number: usize| {
            let (store, servers) = (stores[number % 2].clone(), sets[number / 2 % 4]);
            tokio::spawn(async move {
                let text = format!("put {number}");
                let new = NewDocuments {
                    texts: texts(servers.iter().map(|server| (*server, text.as_str()))),
                    revision: (number % 3 == 0).then(|| revision(&text)),
                };
                (text.clone(), put(&store, &new).await)
            })
        })
        .collect();
    let (mut given, mut revisions) = (BTreeMap::new(), BTreeSet::new());
    for task in puts {
        let (text, put) = task.await.unwrap();
        revisions.extend(put.revision);
        for (server, mark) in put.marks {
            assert_eq!(given.insert((server.clone(), mark), text.clone()), None, "{mark} of {server} twice");
        }
    }
    assert_eq!(revisions, (1..=20).collect());
    for server in ["s0", "s1", "s2", "s3"].map(name) {
        let generations: Vec<_> =
            given.keys().filter(|(of, _)| *of == server).map(|(_, mark)| mark.generation).collect();
        assert_eq!(generations, (1..=generations.len() as u64).map(Generation).collect::<Vec<_>>());
        let newest = stores[0].newest(&server).await.unwrap().unwrap();
        assert_eq!(newest.mark.generation, *generations.last().unwrap());
        assert_eq!(newest.text, given[&(server, newest.mark)]);
    }
}

pub async fn revisions_count_by_one(place: Place) {
    let store = place.fleet(0).await;
    assert_eq!(store.newest_revision().await.unwrap(), None);
    for message in ["one", "two", "three"] {
        put(&store, &NewDocuments { texts: BTreeMap::new(), revision: Some(revision(message)) }).await;
    }
    let listed: Vec<_> =
        store.revisions(2).await.unwrap().into_iter().map(|summary| (summary.number, summary.message)).collect();
    assert_eq!(listed, [(3, "three".to_owned()), (2, "two".to_owned())]);
    let two = store.revision(2).await.unwrap().unwrap();
    assert_eq!((two.number, two.at, two.by.as_str(), &two.files), (2, at(10), "uid:0", &revision("two").files));
    assert_eq!(store.newest_revision().await.unwrap().unwrap().number, 3);
    assert_eq!(store.revision(4).await.unwrap(), None);
}

pub async fn a_watcher_hears_of_every_server(place: Place) {
    let store = place.fleet(3).await;
    let mut watch = store.watch().await.unwrap();
    // A push that is refused is not heard of.
    let _ = store.put_documents(&direct([("s1", "a"), ("absent", "b")]), &by(9), |_| Vec::new()).await.unwrap_err();
    put(&store, &direct([("s0", "a"), ("s2", "b")])).await;
    store.evict(&name("s1"), &by(11)).await.unwrap();
    for server in ["s0", "s2", "s1"] {
        assert_eq!(watch.next().await, Some(Changed::Server(name(server))));
    }
}
