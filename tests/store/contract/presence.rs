use socle::controller::store::{Greeting, Store};
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
    let greetings = [greeting("s0", Some(position(mark(0, 3)))), greeting("s1", None), greeting("nobody", None)];
    store.connected(&greetings, one, at(20)).await.unwrap();
    let s0 = store.server(&name("s0")).await.unwrap().unwrap();
    assert_eq!((s0.connected_to, s0.last_seen, s0.agent_version.as_deref()), (Some(one), Some(at(20)), Some("1.2.3")));
    assert_eq!(s0.position, Some(position(mark(0, 3))));

    // It moved over before the first controller noticed.
    store.connected(&[greeting("s0", None)], two, at(21)).await.unwrap();
    store.disconnected(&[name("s0"), name("s1")], one, at(22)).await.unwrap();
    assert_eq!((connected_to(&store, "s0").await, connected_to(&store, "s1").await), (Some(two), None));
    let s0 = store.server(&name("s0")).await.unwrap().unwrap();
    assert_eq!((s0.last_seen, s0.position), (Some(at(21)), Some(position(mark(0, 3)))));

    assert_eq!(store.forget_connections(one).await.unwrap(), 0);
    assert_eq!(store.forget_connections(two).await.unwrap(), 1);
    assert_eq!(connected_to(&store, "s0").await, None);
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
