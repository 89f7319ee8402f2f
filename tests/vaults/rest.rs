//! What restic's REST protocol has of its own, against rclone's server.

use std::io::{Read, Write};
use std::net::TcpListener;

use socle::host::Quiet;
use socle::host::vault::Vault;

use crate::far::{free_port, over_rest as over, rest as serve};
use crate::tree::plant;
use crate::{Bench, tree_order};

#[tokio::test]
async fn one_that_only_takes_is_added_to_and_loses_nothing() {
    let mut bench = Bench::bare();
    {
        let server = serve(&bench.repository(), &[]).await;
        bench.vault.make(&over(&bench, server.port, "hush")).await.unwrap();
    }
    let server = serve(&bench.repository(), &["--append-only"]).await;
    bench.access = over(&bench, server.port, "hush");
    let from = bench.path("from");
    plant(&from, 2);
    let saved = bench.save(&from, 0).await;
    let error = bench.vault.forget(&bench.access, std::slice::from_ref(&saved.snapshot.id)).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.read-only", false), "{error}");
    assert_eq!(bench.vault.snapshots(&bench.access).await.unwrap().len(), 1);
    bench.is_sound().await;
}

#[tokio::test]
async fn one_that_does_not_answer_is_not_one_without_a_repository() {
    let mut bench = Bench::bare();
    bench.access = over(&bench, free_port(), "hush");
    let error = bench.vault.make(&bench.access).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.unreachable", true), "{error}");
    // A server that has trouble with everything.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    bench.access = over(&bench, listener.local_addr().unwrap().port(), "hush");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 500 Trouble\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        }
    });
    let error = bench.vault.make(&bench.access).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.unreachable", true), "{error}");
}

#[tokio::test]
async fn wrong_credentials_are_told() {
    let mut bench = Bench::bare();
    let server = serve(&bench.repository(), &[]).await;
    bench.access = over(&bench, server.port, "wrong");
    let error = bench.vault.make(&bench.access).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.forbidden", false), "{error}");
    let from = bench.path("from");
    plant(&from, 3);
    let error = bench.vault.save(&bench.access, tree_order(&from, 0), &Quiet).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
}
