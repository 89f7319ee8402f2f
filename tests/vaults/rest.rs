//! Over restic's REST protocol, against rclone's server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use socle::host::Quiet;
use socle::host::vault::{Access, Location, Vault};
use socle::model::Secret;

use crate::tree::{assert_same, noise, plant};
use crate::{Bench, tree_order};

/// `rclone serve restic` of a bench's repository, ended with it. Needs the package `rclone`.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn serve(directory: &Path, more: &[&str]) -> Server {
    let port = free_port();
    let child = Command::new("rclone")
        .args(["serve", "restic", "--user", "blog", "--pass", "hush", "--addr", &format!("127.0.0.1:{port}")])
        .args(more)
        .arg(directory)
        .stderr(Stdio::null())
        .spawn()
        .expect("rclone is installed: `apt install rclone`");
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "rclone does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Server { child, port }
}

fn over(bench: &Bench, port: u16, password: &str) -> Access {
    let user = Some(("blog".to_owned(), Secret::new(password)));
    Access { location: Location::Rest { url: format!("http://127.0.0.1:{port}/blog"), user }, ..bench.access.clone() }
}

#[tokio::test]
async fn everything_works_over_rest() {
    let mut bench = Bench::bare();
    let server = serve(&bench.repository(), &[]).await;
    bench.access = over(&bench, server.port, "hush");
    assert!(bench.vault.make(&bench.access).await.unwrap());
    assert!(!bench.vault.make(&bench.access).await.unwrap());
    let from = bench.path("from");
    plant(&from, 1);
    let first = bench.save(&from, 0).await;
    std::fs::write(from.join("large"), noise(5, 9 << 20)).unwrap();
    let second = bench.save(&from, 1).await;
    assert_eq!(bench.vault.snapshots(&bench.access).await.unwrap(), [first.snapshot.clone(), second.snapshot.clone()]);
    bench.is_sound().await;
    bench.vault.forget(&bench.access, &[first.snapshot.id]).await.unwrap();
    bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    let pruned = bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    assert!(pruned.removed_bytes > 8 << 20, "{pruned:?}");
    bench.is_sound().await;
    let to = bench.restore(&second.snapshot.id, "to").await;
    assert_same(&from, &to);
}

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
