//! How long the large batches take. Measured when asked for:
//! `cargo test --test store figures -- --ignored --nocapture`.

use std::time::Instant;

use socle::controller::store::{NewDocuments, Received, Store};
use socle::model::Name;

use crate::contract::outbox::report;
use crate::place::*;

async fn fleet_of(place: &Place, servers: usize) -> (Store, Vec<Name>) {
    let store = place.fleet(0).await;
    let names: Vec<Name> = (0..servers).map(|server| name(&format!("s{server}"))).collect();
    place
        .execute(format!(
            "INSERT INTO servers (name, id, identity_key, sealing_key, state, enrolled_at, recovery_sequence, acknowledged)
             VALUES {}",
            names
                .iter()
                .enumerate()
                .map(|(number, name)| {
                    let (id, key) = (id(number as u128), String::from(key(1)));
                    format!("('{name}', '{id}', '{key}', '{key}', 'enrolled', 0, 0, 0)")
                })
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .await;
    (store, names)
}

async fn measure(what: &str, place: Place, servers: usize) {
    let (store, names) = fleet_of(&place, servers).await;
    let text = "k = \"0123456789abcdef\"\n".repeat(200);
    let documents = NewDocuments {
        texts: names.iter().map(|name| (name.clone(), text.clone())).collect(),
        revision: Some(revision("figures")),
    };
    let json = format!("\"{}\"", "x".repeat(4000));
    for round in 1..=4u64 {
        let begun = Instant::now();
        let put = store.put_documents(&documents, &by(1), |_| text.clone().into_bytes()).await.unwrap();
        let put_took = begun.elapsed();
        assert_eq!(put.marks.len(), servers);
        let received: Vec<Received> = names
            .iter()
            .map(|name| Received {
                server: name.clone(),
                position: Some(position(mark(0, round))),
                items: vec![report(round, &json[1..60])],
            })
            .collect();
        let begun = Instant::now();
        let taken = store.take_outboxes(&received, at(2)).await.unwrap();
        let take_took = begun.elapsed();
        assert!(taken.values().all(|acknowledged| *acknowledged == round));
        let positions: Vec<_> = names.iter().map(|name| (name.clone(), position(mark(0, round)))).collect();
        let begun = Instant::now();
        store.note_positions(&positions, at(3)).await.unwrap();
        println!(
            "{what}, {servers} servers: put {put_took:.1?}, take reports {take_took:.1?}, positions {:.1?}",
            begun.elapsed()
        );
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    for servers in [1000, 10_000] {
        measure("SQLite", Place::sqlite(), servers).await;
    }
    let Some(server) = crate::postgres_server::Server::start() else { return };
    for servers in [1000, 10_000] {
        measure("PostgreSQL", Place::postgres(&server, "figures").await, servers).await;
    }
}
