//! The two doors, with real connections.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::{World, now};
use crate::controller::api::listen;
use crate::controller::store::Scope;
use crate::wire::tls;

const STATUS: &str = "GET /v1/fleet/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";

async fn said(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    // A server that hangs up without a notice is fine: what came is looked at.
    let _ = read.expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_local_socket_makes_an_administrator() {
    let world = World::new().await;
    let path = world.home.path().join("api.sock");
    // A socket that a killed controller left.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = listen::bind_socket(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert!(mode == 0o600 || mode == 0o660, "{mode:o}");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(listen::serve_socket(listener, world.router.clone(), stop.clone()));
    let answer = said(UnixStream::connect(&path).await.unwrap(), &format!("{STATUS}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\"fleet\":\"sol\""), "{answer}");
    let body = r#"{"name":"ci","scope":"admin"}"#;
    let add = format!(
        "POST /v1/api-tokens HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = said(UnixStream::connect(&path).await.unwrap(), &add).await;
    assert!(answer.contains("\"token\":\"socle_"), "{answer}");
    let audit = world.store().audit(1).await.unwrap();
    assert_eq!(audit[0].who, format!("uid:{}", nix::unistd::getuid()));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn https_wants_a_token_and_bounds_what_it_reads() {
    let world = World::new().await;
    let listener = listen::bind_address("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let authority = &world.app.controller.keys.authority;
    let (chain, key) = authority.for_controller(&["localhost".to_owned()], now_real()).unwrap();
    let config = Arc::new(tls::operators_server_config(chain, key).unwrap());
    let stop = CancellationToken::new();
    let serving =
        tokio::spawn(listen::serve_https(listener, move || config.clone(), world.router.clone(), stop.clone()));
    let pin = tls::pin(authority.certificate()).unwrap();
    let connect = async |pin: [u8; 32]| {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls::operators_config(pin).unwrap()));
        connector.connect("localhost".try_into().unwrap(), TcpStream::connect(address).await.unwrap()).await
    };
    assert!(connect([0; 32]).await.is_err(), "another authority is not believed");
    let ask = async |headers: &str| said(connect(pin).await.unwrap(), &format!("{STATUS}{headers}\r\n")).await;
    assert!(ask("").await.starts_with("HTTP/1.1 401 "));
    let (token, _) = world.token(Scope::Read).await;
    let answer = ask(&format!("authorization: Bearer {token}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let many: String = (0..100).map(|n| format!("x-{n}: y\r\n")).collect();
    assert!(ask(&many).await.starts_with("HTTP/1.1 431 "));
    let long = format!("x: {}\r\n", "y".repeat(100_000));
    assert!(!ask(&long).await.contains("200 OK"));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it ends").unwrap();
}

/// Certificates are judged by the real clock.
#[expect(clippy::disallowed_methods, reason = "a handshake has no other clock")]
fn now_real() -> jiff::Timestamp {
    assert!(now() > jiff::Timestamp::UNIX_EPOCH);
    jiff::Timestamp::now()
}
