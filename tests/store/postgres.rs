//! What only PostgreSQL has.

use std::path::Path;

use socle::controller::store::{BackupError, Changed, PutError, Store, StoreError};

use crate::place::{Place, by, direct, name, put};
use crate::postgres_server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_on_postgres() {
    let Some(server) = Server::start() else { return };
    a_push_is_heard_by_the_other_controller(Place::postgres(&server, "heard").await).await;
    a_lost_connection_is_answered_by_everything(Place::postgres(&server, "lost").await).await;
    a_full_disk_is_told_and_nothing_half(Place::postgres(&server, "full").await).await;
    a_backup_is_left_to_pg_dump(Place::postgres(&server, "backup").await).await;
    a_server_on_the_network_is_asked_who_it_is(&server).await;
}

async fn a_server_on_the_network_is_asked_who_it_is(server: &Server) {
    let url = format!("postgres://postgres@localhost:{}/postgres?sslmode=verify-full", server.port);
    let refused = Store::open(&url.parse().unwrap()).await.err().unwrap();
    let StoreError::Open { source, .. } = &refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains("UnknownIssuer"), "{source}");
    let authority = server.directory.path().join("cert.pem");
    let url = format!("{url}&sslrootcert={}", authority.display());
    let store = Store::open(&url.parse().unwrap()).await.unwrap();
    assert_eq!(store.fleet().await.unwrap(), None);
}

async fn a_push_is_heard_by_the_other_controller(place: Place) {
    let (here, there) = (place.fleet(2).await, place.open().await);
    let mut watch = there.watch().await.unwrap();
    put(&here, &direct([("s0", "a"), ("s1", "b")])).await;
    assert_eq!(watch.next().await, Some(Changed::Server(name("s0"))));
    assert_eq!(watch.next().await, Some(Changed::Server(name("s1"))));
    here.ban(&name("s1"), &by(11)).await.unwrap();
    assert_eq!(watch.next().await, Some(Changed::Server(name("s1"))));
}

async fn a_lost_connection_is_answered_by_everything(place: Place) {
    let store = place.fleet(1).await;
    let mut watch = store.watch().await.unwrap();
    place
        .execute(
            "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    assert_eq!(watch.next().await, Some(Changed::Everything));
    put(&store, &direct([("s0", "after")])).await;
    assert_eq!(watch.next().await, Some(Changed::Server(name("s0"))));
}

/// The server says so with the code of a full disk; here a trigger says it in its place.
async fn a_full_disk_is_told_and_nothing_half(place: Place) {
    let store = place.fleet(1).await;
    place
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    let refused = store.put_documents(&direct([("s0", "text")]), &by(10), |_| Vec::new()).await;
    assert!(matches!(refused, Err(PutError::Store(StoreError::Full { .. }))), "{refused:?}");
    assert_eq!(store.newest(&name("s0")).await.unwrap(), None);
    place.execute("DROP TRIGGER refuse ON documents").await;
    put(&store, &direct([("s0", "text")])).await;
}

async fn a_backup_is_left_to_pg_dump(place: Place) {
    let store = place.open().await;
    let refused = store.backup(Path::new("/var/backups/fleet"), &by(0)).await.unwrap_err();
    let BackupError::UsePostgres { command } = &refused else { panic!("{refused}") };
    assert!(
        command.starts_with("pg_dump --format=custom --file=/var/backups/fleet 'postgres://postgres@"),
        "{command}"
    );
    let refused = Store::restore(&place.url, Path::new("/var/backups/fleet")).await.unwrap_err();
    assert!(refused.hint().unwrap().starts_with("pg_restore "), "{refused}");
}
