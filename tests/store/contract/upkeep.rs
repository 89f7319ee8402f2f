use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use socle::controller::store::{NewDocuments, Store, StoreError};

use crate::killed;
use crate::place::*;

pub async fn what_was_written_is_there_after_reopening(place: Place) {
    let store = place.fleet(2).await;
    put(&store, &NewDocuments { texts: texts([("s0", "a"), ("s1", "b")]), revision: Some(revision("one")) }).await;
    let before = (store.servers().await.unwrap(), store.newest_marks().await.unwrap(), store.audit(99).await.unwrap());
    store.close().await;
    let store = place.open().await;
    let after = (store.servers().await.unwrap(), store.newest_marks().await.unwrap(), store.audit(99).await.unwrap());
    assert_eq!(before, after);
    assert_eq!(store.integrity().await.unwrap(), [""; 0]);
}

pub async fn a_newer_database_is_refused(place: Place) {
    place.open().await.close().await;
    place
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT 99, 'of the future', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
    let refused = Store::open(&place.url).await.err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 99, known: 1, .. }), "{refused:?}");
    assert!(refused.hint().is_some());
}

pub async fn damage_is_found(place: Place) {
    let store = place.fleet(1).await;
    put(&store, &NewDocuments { texts: texts([("s0", "a")]), revision: Some(revision("one")) }).await;
    place.execute("UPDATE documents SET text = 'b'").await;
    place.execute("DELETE FROM audit WHERE number = 2").await;
    let problems = store.integrity().await.unwrap();
    assert_eq!(
        problems,
        ["`audit` has 3 rows, its last number is 4", "the newest document of `s0` is not what its digest says"]
    );
    // What does not parse is an error, never a default.
    place.execute("UPDATE servers SET position = '{'").await;
    let unreadable = store.servers().await.unwrap_err();
    assert_eq!(unreadable.to_string(), "cannot list the servers");
    assert!(std::error::Error::source(&unreadable).unwrap().to_string().contains("position"));
}

/// An operator's request ends when the client goes away, wherever it is.
pub async fn a_dropped_change_is_undone(place: Place) {
    let store = place.fleet(2).await;
    let new = NewDocuments { texts: texts([("s0", "a"), ("s1", "b")]), revision: Some(revision("one")) };
    let (mut done, by) = (0, by(10));
    for polls in 1..60 {
        let before = store.newest_marks().await.unwrap();
        let finished = {
            let mut put = pin!(store.put_documents(&new, &by, |_| vec![1]));
            let mut finished = false;
            for _ in 0..polls {
                // Polled without being woken: some polls find nothing new, so drops fall anywhere.
                if put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    finished = true;
                    break;
                }
                tokio::task::yield_now().await;
            }
            finished
        };
        let after = store.newest_marks().await.unwrap();
        // A drop during COMMIT may find it done: then all of it.
        let marks: std::collections::BTreeSet<_> = after.iter().map(|newest| newest.mark).collect();
        assert!(marks.len() <= 1, "half a push: {after:?}");
        assert!(!finished || after != before);
        done += u32::from(finished);
        assert_eq!(store.integrity().await.unwrap(), [""; 0]);
    }
    // The store works on.
    put(&store, &new).await;
    assert!(done < 59, "no put was dropped");
}

pub async fn a_killed_writer_loses_nothing_it_acknowledged(place: Place) {
    let mut told = Vec::new();
    place.fleet(2).await.close().await;
    for round in 1..=6 {
        told.extend(killed::put_and_kill(&place, round * 3));
        let store = place.open().await;
        assert_eq!(store.integrity().await.unwrap(), [""; 0]);
        let [s0, s1] = [store.newest(&name("s0")).await.unwrap(), store.newest(&name("s1")).await.unwrap()];
        let (s0, s1) = (s0.unwrap(), s1.unwrap());
        assert_eq!(s0.mark, s1.mark, "half a push");
        assert!(s0.mark >= *told.last().unwrap(), "{} was acknowledged, {} is there", told.last().unwrap(), s0.mark);
        assert_eq!(s0.envelope, envelope(&name("s0"), s0.mark, "to s0"));
        store.close().await;
    }
    assert!(told.windows(2).all(|two| two[0] < two[1]), "a mark was given twice: {told:?}");
}
