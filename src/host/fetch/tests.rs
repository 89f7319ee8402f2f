//! Against a real HTTP server on the loopback, one scripted answer a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;
use crate::host::{PortError, Quiet};
use crate::model::Digest;

/// What the server does with one connection.
enum Answer {
    /// Sends it and closes.
    Send(String, Vec<u8>),
    /// Sends it, then nothing for a while.
    Stall(String, Vec<u8>),
}

struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers in order; the last answer is given to all that follow.
    fn new(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, base) = (asked.clone(), url.clone());
        thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut request = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                while lines.read_line(&mut request).unwrap_or(0) > 2 {}
                log.lock().unwrap().push(request);
                let answer = &answers[at.min(answers.len() - 1)];
                let (Answer::Send(head, body) | Answer::Stall(head, body)) = answer;
                let head = head.replace("$URL", &base);
                // The client may have heard enough and gone.
                let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n")
                    .and_then(|()| stream.write_all(body));
                if let Answer::Stall(..) = answer {
                    thread::spawn(move || {
                        thread::sleep(Duration::from_secs(3));
                        drop(stream);
                    });
                }
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn head(status: &str, headers: &[(&str, &str)]) -> String {
    headers.iter().fold(status.to_owned(), |head, (name, value)| format!("{head}\r\n{name}: {value}"))
}

/// The whole body, with an entity tag.
fn whole(tag: &str, body: &[u8]) -> Answer {
    let length = body.len().to_string();
    Answer::Send(head("200 OK", &[("ETag", tag), ("Content-Length", &length)]), body.to_vec())
}

/// As much as `sent` of a body that is announced longer.
fn cut(tag: &str, body: &[u8], sent: usize) -> Answer {
    let length = body.len().to_string();
    Answer::Send(head("200 OK", &[("ETag", tag), ("Content-Length", &length)]), body[..sent].to_vec())
}

fn rest(tag: &str, body: &[u8], from: usize) -> Answer {
    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    let length = (body.len() - from).to_string();
    let headers = [("ETag", tag), ("Content-Range", &range), ("Content-Length", &length)];
    Answer::Send(head("206 Partial Content", &headers), body[from..].to_vec())
}

fn plain(status: &str) -> Answer {
    Answer::Send(head(status, &[("Content-Length", "0")]), Vec::new())
}

fn body() -> Vec<u8> {
    (0..300_000u32).flat_map(|number| number.to_le_bytes()).collect()
}

struct Case {
    server: Server,
    dir: tempfile::TempDir,
    sha256: Option<Digest>,
    limit: u64,
    path: &'static str,
    waits: usize,
}

impl Case {
    fn new(answers: Vec<Answer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            server: Server::new(answers),
            dir,
            sha256: Some(Digest::of(body())),
            limit: 1 << 30,
            path: "/app.tar.gz",
            waits: 2,
        }
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("app")
    }

    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn port(&self) -> HttpFetch {
        HttpFetch::new(BTreeMap::new()).with_patience(Patience {
            connect: Duration::from_secs(2),
            idle: Duration::from_millis(300),
            waits: vec![Duration::from_millis(1); self.waits],
        })
    }

    fn source(&self) -> Source {
        Source { url: format!("{}{}", self.server.url, self.path), sha256: self.sha256 }
    }

    async fn run(&self) -> Result<Fetched, PortError> {
        self.port().fetch(&self.source(), &self.to(), self.limit, &Quiet).await
    }

    async fn succeeds(&self) {
        let fetched = self.run().await.unwrap();
        assert_eq!(fetched, Fetched { path: self.to(), sha256: Digest::of(body()), bytes: body().len() as u64 });
        assert_eq!(std::fs::read(self.to()).unwrap(), body());
        assert_eq!(self.left(), ["app"]);
    }

    /// The code of the refusal; `left` is what is kept for the next try.
    async fn fails(&self, code: &str, left: &[&str]) -> PortError {
        let error = self.run().await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert_eq!(self.left(), left);
        error
    }
}

#[tokio::test]
async fn a_download() {
    let case = Case::new(vec![whole("\"1\"", &body())]);
    case.succeeds().await;
    assert!(case.server.asked()[0].to_lowercase().contains(concat!("user-agent: socle/", env!("CARGO_PKG_VERSION"))));
    // The digest tells that it is there already.
    case.succeeds().await;
    assert_eq!(case.server.asked().len(), 1);
}

#[tokio::test]
async fn a_cut_download_is_continued() {
    let body = body();
    let case = Case::new(vec![cut("\"1\"", &body, 400_000), rest("\"1\"", &body, 400_000)]);
    case.succeeds().await;
    let second = case.server.asked()[1].to_lowercase();
    assert!(second.contains("range: bytes=400000-") && second.contains("if-range: \"1\""), "{second}");
}

#[tokio::test]
async fn it_is_continued_by_the_next_pass_too() {
    let body = body();
    let answers = vec![cut("\"1\"", &body, 100_000), plain("503 Service Unavailable"), rest("\"1\"", &body, 100_000)];
    let case = Case { waits: 0, ..Case::new(answers) };
    case.fails("fetch.broken", &["app.part", "app.part.json"]).await;
    case.fails("fetch.status", &["app.part", "app.part.json"]).await;
    case.succeeds().await;
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_fetched_anew() {
    let body = body();
    let old = vec![7; body.len() + 5];
    // Told by the server, as it should; by a range error; or not at all, so that the digest tells.
    Case::new(vec![cut("\"1\"", &old, 5000), whole("\"2\"", &body)]).succeeds().await;
    let gone = vec![cut("\"1\"", &old, 5000), plain("416 Range Not Satisfiable"), whole("\"2\"", &body)];
    Case::new(gone).succeeds().await;
    let silent = vec![cut("\"1\"", &old, 5000), rest("\"1\"", &body, 5000), whole("\"1\"", &body)];
    Case::new(silent).succeeds().await;
    let elsewhere = vec![cut("\"1\"", &old, 5000), rest("\"1\"", &body, 6000), whole("\"1\"", &body)];
    Case::new(elsewhere).succeeds().await;
}

#[tokio::test]
async fn without_a_strong_validator_nothing_is_continued() {
    let body = body();
    let case = Case::new(vec![cut("W/\"1\"", &body, 5000), whole("W/\"1\"", &body)]);
    case.succeeds().await;
    assert!(!case.server.asked()[1].to_lowercase().contains("range:"));
}

#[tokio::test]
async fn bad_answers() {
    let error = Case::new(vec![plain("404 Not Found")]).fails("fetch.not-found", &[]).await;
    assert!(error.hint.is_some() && error.message.contains("404"));
    Case::new(vec![plain("403 Forbidden")]).fails("fetch.status", &[]).await;
    let case =
        Case::new(vec![plain("500 Internal Server Error"), plain("429 Too Many Requests"), whole("\"1\"", &body())]);
    case.succeeds().await;
    let always = Case::new(vec![plain("500 Internal Server Error")]);
    assert!(always.fails("fetch.status", &[]).await.retryable);
    assert_eq!(always.server.asked().len(), 3);
    Case::new(vec![cut("\"1\"", &body(), 0)]).fails("fetch.broken", &["app.part", "app.part.json"]).await;
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing() {
    let case = Case::new(vec![whole("\"1\"", b"something else")]);
    let error = case.fails("fetch.digest", &[]).await;
    assert!(error.message.contains(&Digest::of(body()).to_string()) && !error.retryable);
    assert_eq!(case.server.asked().len(), 1);
}

#[tokio::test]
async fn too_big_is_refused_announced_or_not() {
    let announced = Case { limit: 1000, ..Case::new(vec![whole("\"1\"", &body())]) };
    announced.fails("fetch.too-big", &[]).await;
    let silent = Case { limit: 1000, ..Case::new(vec![Answer::Send("200 OK".into(), body())]) };
    silent.fails("fetch.too-big", &[]).await;
    assert_eq!(silent.server.asked().len(), 1);
}

#[tokio::test]
async fn a_page_is_no_archive() {
    let page = b"\n<!DOCTYPE HTML><title>Maintenance</title>";
    let typed = head("200 OK", &[("Content-Type", "text/html; charset=utf-8")]);
    Case::new(vec![Answer::Send(typed.clone(), page.to_vec())]).fails("fetch.html", &[]).await;
    let disguised = head("200 OK", &[("Content-Type", "application/gzip")]);
    Case::new(vec![Answer::Send(disguised, page.to_vec())]).fails("fetch.html", &[]).await;
    let wanted = Case {
        path: "/index.html",
        sha256: Some(Digest::of(page)),
        ..Case::new(vec![Answer::Send(typed, page.to_vec())])
    };
    wanted.run().await.unwrap();
}

#[tokio::test]
async fn redirects_are_followed_with_care() {
    let to = |url: &str| Answer::Send(head("302 Found", &[("Location", url), ("Content-Length", "0")]), Vec::new());
    Case::new(vec![to("$URL/other.tar.gz"), whole("\"1\"", &body())]).succeeds().await;
    let endless = Case::new(vec![to("$URL/again")]);
    assert!(endless.fails("fetch.redirect", &[]).await.message.contains("more than 5"));
    assert_eq!(endless.server.asked().len(), 6);
    for bad in ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://169.254.169.254/latest/meta-data"] {
        Case::new(vec![to(bad)]).fails("fetch.redirect", &[]).await;
    }
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let begun = head("200 OK", &[("ETag", "\"1\""), ("Content-Length", "9999999")]);
    let case = Case::new(vec![Answer::Stall(begun, vec![1; 100]), whole("\"2\"", &body())]);
    case.succeeds().await;
    let case = Case { waits: 0, ..Case::new(vec![Answer::Stall(String::new(), Vec::new())]) };
    assert!(case.fails("fetch.unreachable", &[]).await.retryable);
}

#[tokio::test]
async fn unencrypted_needs_a_digest() {
    let case = Case { sha256: None, ..Case::new(vec![whole("\"1\"", &body())]) };
    case.fails("fetch.insecure", &[]).await;
    assert!(case.server.asked().is_empty());
}

#[tokio::test]
async fn sizes() {
    let case = Case::new(vec![
        Answer::Send(head("200 OK", &[("Content-Length", "1234")]), Vec::new()),
        plain("405 Method Not Allowed"),
        Answer::Send("200 OK".into(), Vec::new()),
    ]);
    let (port, source) = (case.port(), case.source());
    assert_eq!(port.size(&source).await.unwrap(), Some(1234));
    assert_eq!(port.size(&source).await.unwrap(), None);
    assert_eq!(port.size(&source).await.unwrap(), None);
    assert!(case.server.asked()[0].starts_with("HEAD "));
    let nobody = Source { url: "http://127.0.0.1:1/x".into(), ..source };
    assert!(port.size(&nobody).await.unwrap_err().retryable);
}

#[tokio::test]
async fn files_and_mirrors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("original"), body()).unwrap();
    let to = dir.path().join("copy");
    let mirrors = BTreeMap::from([("https://a.example/".to_owned(), format!("file://{}/", dir.path().display()))]);
    let port = HttpFetch::new(mirrors);
    let source = |name: &str, sha256| Source { url: format!("https://a.example/{name}"), sha256 };
    let good = source("original", Some(Digest::of(body())));
    assert_eq!(port.size(&good).await.unwrap(), Some(body().len() as u64));
    assert_eq!(port.fetch(&good, &to, 1 << 30, &Quiet).await.unwrap().sha256, Digest::of(body()));
    let error = |source: Source, limit: u64| {
        let (port, to) = (&port, to.clone());
        async move { port.fetch(&source, &to, limit, &Quiet).await.unwrap_err().code }
    };
    assert_eq!(error(source("original", Some(Digest::of("x"))), 1 << 30).await, "fetch.digest");
    assert_eq!(error(source("original", None), 10).await, "fetch.too-big");
    assert_eq!(error(source("missing", None), 10).await, "fetch.open");
}
