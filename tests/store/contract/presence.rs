use socle::controller::store::{Certificate, Dialect, Greeting, LOST_AFTER, Store};
use socle::model::fleet::Position;

use crate::place::*;

fn greeting(server: &str, position: Option<Position>) -> Greeting {
    Greeting { server: name(server), agent_version: "1.2.3".to_owned(), position }
}

async fn connected_to(store: &Store, server: &str) -> Option<uuid::Uuid> {
    store.server(&name(server)).await.unwrap().unwrap().connected_to
}

pub async fn an_agent_is_where_it_connected_last(place: Place) {
    let store = place.fleet(2).await;
    let (one, two) = (id(1), id(2));
    store.keep_alive(one, at(19)).await.unwrap();
    let greetings = [greeting("s0", Some(position(mark(0, 3)))), greeting("s1", None), greeting("nobody", None)];
    store.connected(&greetings, one, at(20)).await.unwrap();
    let s0 = store.server(&name("s0")).await.unwrap().unwrap();
    assert_eq!((s0.connected_to, s0.last_seen, s0.agent_version.as_deref()), (Some(one), Some(at(20)), Some("1.2.3")));
    assert_eq!(s0.position, Some(position(mark(0, 3))));

    // It moved over before the first controller noticed.
    if store.dialect() == Dialect::Postgres {
        store.keep_alive(two, at(21)).await.unwrap();
    }
    store.connected(&[greeting("s0", None)], two, at(21)).await.unwrap();
    store.disconnected(&[name("s0"), name("s1")], one, at(22)).await.unwrap();
    assert_eq!((connected_to(&store, "s0").await, connected_to(&store, "s1").await), (Some(two), None));
    let s0 = store.server(&name("s0")).await.unwrap().unwrap();
    assert_eq!((s0.last_seen, s0.position), (Some(at(21)), Some(position(mark(0, 3)))));

    assert_eq!(store.forget_connections(one).await.unwrap(), 0);
    assert_eq!(store.forget_connections(two).await.unwrap(), 1);
    assert_eq!(connected_to(&store, "s0").await, None);
}

/// A process that was killed cannot say that its agents are gone.
pub async fn a_connection_counts_while_its_controller_lives(place: Place) {
    let store = place.fleet(3).await;
    let [one, two, three] = [id(1), id(2), id(3)];
    store.keep_alive(one, at(20)).await.unwrap();
    store.connected(&[greeting("s0", None)], one, at(20)).await.unwrap();
    store.keep_alive(one, at(40)).await.unwrap();
    assert_eq!(connected_to(&store, "s0").await, Some(one));
    if store.dialect() == Dialect::Sqlite {
        // Only one process serves a file: the other is dead.
        store.keep_alive(two, at(41)).await.unwrap();
        assert_eq!(connected_to(&store, "s0").await, None);
        return;
    }
    store.keep_alive(two, at(41)).await.unwrap();
    store.connected(&[greeting("s1", None)], two, at(41)).await.unwrap();
    // One that never said that it lives.
    store.connected(&[greeting("s2", None)], three, at(41)).await.unwrap();
    let seen =
        async || [connected_to(&store, "s0").await, connected_to(&store, "s1").await, connected_to(&store, "s2").await];
    assert_eq!(seen().await, [Some(one), Some(two), None]);
    // It said so last before the limit, by the database's clock; the hosts' clocks say what they like.
    let silent = LOST_AFTER.as_millis();
    place.execute(format!("UPDATE controllers SET alive_at = alive_at - {silent} WHERE instance = '{one}'")).await;
    store.keep_alive(two, at(-90_000)).await.unwrap();
    assert_eq!(seen().await, [None, Some(two), None]);
    let listed: Vec<_> = store.servers().await.unwrap().into_iter().map(|server| server.connected_to).collect();
    assert_eq!(listed, [None, Some(two), None]);
    // It was only held up: its agents never left it.
    store.keep_alive(one, at(-90_000)).await.unwrap();
    assert_eq!(seen().await, [Some(one), Some(two), None]);
    // Also when its row is long gone.
    place.execute(format!("UPDATE controllers SET alive_at = 0 WHERE instance = '{one}'")).await;
    store.keep_alive(two, at(50)).await.unwrap();
    assert_eq!(seen().await, [None, Some(two), None]);
    store.keep_alive(one, at(50)).await.unwrap();
    assert_eq!(seen().await, [Some(one), Some(two), None]);
}

pub async fn who_may_recover(place: Place) {
    let store = place.fleet(1).await;
    assert!(store.may_recover(at(0)).await.unwrap(), "it has no certificate yet");
    let certificate = Certificate { serial: "0a".to_owned(), not_after: at(500) };
    store.set_certificate(&name("s0"), &certificate, &by(3)).await.unwrap();
    assert!(!store.may_recover(at(500)).await.unwrap());
    assert!(store.may_recover(at(501)).await.unwrap());
    store.ban(&name("s0"), &by(4)).await.unwrap();
    assert!(!store.may_recover(at(501)).await.unwrap());
}

pub async fn positions_in_a_batch(place: Place) {
    let store = place.fleet(2).await;
    store.note_positions(&[], at(30)).await.unwrap();
    let positions = [
        (name("s1"), position(mark(0, 1))),
        (name("nobody"), position(mark(0, 9))),
        (name("s1"), position(mark(2, 5))),
    ];
    store.note_positions(&positions, at(31)).await.unwrap();
    let s1 = store.server(&name("s1")).await.unwrap().unwrap();
    assert_eq!((s1.position, s1.last_seen), (Some(position(mark(2, 5))), Some(at(31))));
    assert_eq!(store.server(&name("s0")).await.unwrap().unwrap().position, None);
}

/// Each takes the servers in another order; a database that locks rows must not come to a standstill.
pub async fn batches_of_two_controllers_do_not_block_each_other(place: Place) {
    let stores = [place.fleet(40).await, place.open().await];
    let tasks: Vec<_> = (0..40u64)
        .map(|number| {
            let store = stores[number as usize % 2].clone();
            tokio::spawn(async move {
                let mut servers: Vec<usize> = (0..40).collect();
                if number % 2 == 1 {
                    servers.reverse();
                }
                let position = |server| (name(&format!("s{server}")), position(mark(0, number + 1)));
                store.note_positions(&servers.into_iter().map(position).collect::<Vec<_>>(), at(40)).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let servers = stores[0].servers().await.unwrap();
    let last = servers[0].position.clone();
    assert!(last.is_some() && servers.iter().all(|server| server.position == last), "a batch was torn");
}
