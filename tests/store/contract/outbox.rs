use socle::controller::store::{ItemBody, OutboxItem, Received, Store, StoreError};
use socle::model::Generation;

use crate::place::*;

pub fn report(sequence: u64, what: &str) -> OutboxItem {
    let body = ItemBody::Report { generation: Generation(7), outcome: what.to_owned(), json: format!("\"{what}\"") };
    OutboxItem { sequence, at: at(100 + sequence as i64), body }
}

fn event(sequence: u64) -> OutboxItem {
    OutboxItem { sequence, at: at(100 + sequence as i64), body: ItemBody::Event { json: format!("{sequence}") } }
}

/// Gives what is acknowledged.
pub async fn send(store: &Store, server: &str, items: impl IntoIterator<Item = OutboxItem>) -> u64 {
    store.take_outbox(&name(server), items.into_iter().collect(), at(50)).await.unwrap()
}

async fn sequences(store: &Store, server: &str) -> Vec<u64> {
    store.history(&name(server), 1000).await.unwrap().iter().map(|item| item.sequence).collect()
}

pub async fn an_item_is_stored_once_and_what_was_left_out_is_not_waited_for(place: Place) {
    let store = place.fleet(2).await;
    assert_eq!(send(&store, "s0", []).await, 0);
    assert_eq!(send(&store, "s0", [event(1), event(2)]).await, 2);
    assert_eq!(send(&store, "s0", [event(1), event(2), event(2)]).await, 2);
    assert_eq!(send(&store, "s0", [event(5), event(4)]).await, 5, "3 gave way");
    assert_eq!(send(&store, "s0", [event(2)]).await, 5);
    assert_eq!(sequences(&store, "s0").await, [5, 4, 2, 1]);
    let first = store.history(&name("s0"), 1000).await.unwrap().pop().unwrap();
    assert_eq!((first.at, first.body), (at(101), ItemBody::Event { json: "1".to_owned() }));
    let server = store.server(&name("s0")).await.unwrap().unwrap();
    assert_eq!((server.acknowledged, server.last_seen), (5, Some(at(50))));
    assert_eq!(sequences(&store, "s1").await, [0; 0]);
    let nobody = store.take_outbox(&name("nobody"), vec![event(1)], at(50)).await;
    assert!(matches!(nobody, Err(StoreError::NoSuchServer(_))), "{nobody:?}");
}

pub async fn the_last_report_is_the_one_with_the_highest_number(place: Place) {
    let store = place.fleet(1).await;
    send(&store, "s0", [report(3, "three"), report(2, "two")]).await;
    send(&store, "s0", [report(1, "one"), event(4)]).await;
    let last = store.report(&name("s0")).await.unwrap().unwrap();
    assert_eq!((last.json.as_str(), last.generation, last.at), ("\"three\"", Generation(7), at(103)));
    assert_eq!(store.reports().await.unwrap(), [last]);
    let history = store.history(&name("s0"), 2).await.unwrap();
    assert_eq!(history[0].body, ItemBody::Event { json: "4".to_owned() });
    let outcome = ItemBody::Report { generation: Generation(7), outcome: "three".to_owned(), json: String::new() };
    assert_eq!(history[1].body, outcome);
}

pub async fn many_servers_in_one_transaction(place: Place) {
    let store = place.fleet(3).await;
    let alarm = ItemBody::Alarm { code: "document.forged".to_owned(), text: "bad signature".to_owned() };
    let alarm = OutboxItem { sequence: 2, at: at(9), body: alarm };
    let received = [
        Received {
            server: name("s2"),
            position: Some(position(mark(0, 4))),
            items: vec![report(1, "of s2"), alarm.clone()],
        },
        Received { server: name("nobody"), position: None, items: vec![report(1, "of nobody")] },
        Received { server: name("s0"), position: None, items: vec![report(1, "of s0")] },
        Received { server: name("s0"), position: Some(position(mark(0, 5))), items: vec![event(2)] },
    ];
    let acknowledged = store.take_outboxes(&received, at(60)).await.unwrap();
    assert_eq!(acknowledged.into_iter().collect::<Vec<_>>(), [(name("s0"), 2), (name("s2"), 2)]);
    let reports = store.reports().await.unwrap();
    assert_eq!(reports.iter().map(|report| report.json.as_str()).collect::<Vec<_>>(), ["\"of s0\"", "\"of s2\""]);
    for (server, generation) in [("s0", 5), ("s2", 4)] {
        let found = store.server(&name(server)).await.unwrap().unwrap();
        assert_eq!((found.position.unwrap().mark, found.last_seen), (mark(0, generation), Some(at(60))));
    }
    assert_eq!(store.server(&name("s1")).await.unwrap().unwrap().last_seen, None);
    let alarms = store.alarms(10).await.unwrap();
    assert_eq!(alarms.len(), 1);
    assert_eq!((alarms[0].server.clone(), alarms[0].text.as_str()), (Some(name("s2")), "bad signature"));
    assert_eq!(
        store.history(&name("s2"), 1).await.unwrap()[0].body,
        ItemBody::Report { generation: Generation(7), outcome: "of s2".to_owned(), json: String::new() }
    );
    assert_eq!(store.history(&name("s2"), 2).await.unwrap()[1].body, alarm.body);
}

pub async fn history_is_bounded(place: Place) {
    let store = place.fleet(1).await;
    assert_eq!(send(&store, "s0", (1..=700).map(event)).await, 700);
    assert_eq!(sequences(&store, "s0").await, (501..=700).rev().collect::<Vec<_>>());
    assert_eq!(send(&store, "s0", (1..=701).map(event)).await, 701);
    assert_eq!(sequences(&store, "s0").await, (502..=701).rev().collect::<Vec<_>>());
}

pub async fn two_controllers_take_the_same_item_once(place: Place) {
    let stores = [place.fleet(1).await, place.open().await];
    let tasks: Vec<_> = (0..40)
        .map(|number: usize| {
            let store = stores[number % 2].clone();
            // A new connection sends everything that is not acknowledged again, while the old one's batch is on its way.
            let end = 5 + (number / 4) as u64 * 3;
            tokio::spawn(async move { send(&store, "s0", (1..=end).map(event)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(sequences(&stores[0], "s0").await, (1..=32).rev().collect::<Vec<_>>());
    assert_eq!(stores[1].server(&name("s0")).await.unwrap().unwrap().acknowledged, 32);
}
