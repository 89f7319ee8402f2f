use std::collections::BTreeSet;
use std::path::Path;

use crate::host::{DatabaseState, Databases};
use crate::model::Digest;
use crate::model::document::Engine;

/// `owner` is a system user that exists; the server knows neither `name` nor `owner`, before and after.
pub async fn databases(databases: &dyn Databases, engine: Engine, name: &str, owner: &str, scratch: &Path) {
    let asked: BTreeSet<String> = [name.to_owned()].into();
    let state = async || {
        let (mut states, roles) = databases.states(engine, &asked).await.expect("it answers");
        (states.remove(name).expect("about what it was asked"), roles.contains(owner))
    };
    assert_eq!(state().await, (DatabaseState::default(), false), "nothing there yet");

    // Every act may be repeated.
    for _ in 0..2 {
        databases.create_role(engine, owner).await.expect("a role");
        databases.create_database(engine, name, owner).await.expect("a database");
        databases.grant(engine, name, owner).await.expect("a grant");
    }
    let (seen, role) = state().await;
    assert!(seen.exists && role && seen.owners.contains(owner), "{seen:?}");

    if engine == Engine::Postgresql {
        for _ in 0..2 {
            databases.create_extension(engine, name, "pg_trgm").await.expect("an extension");
        }
        assert!(state().await.0.extensions.contains("pg_trgm"));
    } else {
        assert!(databases.create_extension(engine, name, "pg_trgm").await.is_err());
    }

    // A dump brings back owner and extensions, twice, and into nothing.
    let before = state().await;
    let dump = scratch.join("contract.sql");
    let digest = databases.dump(engine, name, &dump).await.expect("a dump");
    assert_eq!(digest, Digest::of(std::fs::read(&dump).expect("the dump")), "the digest is the file's");
    for _ in 0..2 {
        databases.restore(engine, name, owner, &dump).await.expect("a restore");
        assert_eq!(state().await, before);
    }
    databases.drop_database(engine, name).await.expect("dropped");
    databases.restore(engine, name, owner, &dump).await.expect("a restore into nothing");
    assert_eq!(state().await, before);

    for _ in 0..2 {
        databases.drop_database(engine, name).await.expect("dropped");
        databases.drop_role(engine, owner).await.expect("dropped");
    }
    assert_eq!(state().await, (DatabaseState::default(), false), "nothing there any more");
    assert!(databases.dump(engine, name, &dump).await.is_err(), "what is not there cannot be dumped");
    assert!(databases.grant(engine, name, owner).await.is_err());
}
