//! A question to a web server that listens on a socket of this machine only.

use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{BODY, ProbeError, checked};
use crate::host::ProbeAnswer;

pub(super) async fn ask(socket: &Path, host: &str, path: &str) -> Result<ProbeAnswer, ProbeError> {
    fn silent<E: Into<Box<dyn std::error::Error + Send + Sync>>>(host: &str, path: &str) -> impl Fn(E) -> ProbeError {
        move |error| ProbeError::Socket { host: host.to_owned(), path: path.to_owned(), source: error.into() }
    }
    let name = checked(host, path)?;
    let stream = UnixStream::connect(socket).await.map_err(silent(host, path))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(silent(host, path))?;
    // It ends with the sender.
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, name)
        .header(USER_AGENT, concat!("socle/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(silent(host, path))?;
    let answer = sender.send_request(request).await.map_err(silent(host, path))?;
    let status = answer.status().as_u16();
    let mut stream = answer.into_body();
    let mut body = Vec::new();
    while let Some(frame) = stream.frame().await {
        let Ok(data) = frame.map_err(silent(host, path))?.into_data() else { continue };
        let room = BODY - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() >= room {
            break;
        }
    }
    connection.abort();
    Ok(ProbeAnswer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn asks_with_the_sites_name() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("web.sock");
        assert!(matches!(ask(&socket, "blog.test", "/").await, Err(ProbeError::Socket { .. })));
        let listener = UnixListener::bind(&socket).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(b"HTTP/1.1 418 Teapot\r\nContent-Length: 3\r\n\r\ntea").await.unwrap();
            String::from_utf8(asked[..read].to_vec()).unwrap().to_ascii_lowercase()
        });
        let answer = ask(&socket, "blog.test", "/health?x=1").await.unwrap();
        assert_eq!(answer, ProbeAnswer { status: 418, body: "tea".into() });
        let asked = served.await.unwrap();
        assert!(asked.starts_with("get /health?x=1 ") && asked.contains("host: blog.test\r\n"), "{asked}");
        assert!(matches!(ask(&socket, "blog.test", "x").await, Err(ProbeError::Path(_))));
    }
}
