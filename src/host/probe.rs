//! Questions to the sites of this machine, asked the way a visitor's request arrives: at port 80,
//! with the site's name; and where that leads to the same site by HTTPS, there.

mod socket;

use std::error::Error as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HOST, HeaderValue, LOCATION};
use reqwest::{Client, Response, redirect};

use super::{PortError, PortResult, ProbeAnswer, Probes};

/// How much of a body is read: a health check looks for a word on a page, not for a download.
const BODY: usize = 1 << 20;

/// A question that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("`{0}` is not a host name")]
    Host(String),
    #[error("`{0}` is not a path: it begins with `/` and is no whole URL")]
    Path(String),
    #[error("`http://{host}{path}` did not answer within {} s", .limit.as_secs_f32())]
    Timeout { host: String, path: String, limit: Duration },
    #[error("`http://{host}{path}` did not answer")]
    NoAnswer { host: String, path: String, source: reqwest::Error },
    #[error("`{path}` of `{host}` did not answer at its socket")]
    Socket { host: String, path: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl From<ProbeError> for PortError {
    fn from(error: ProbeError) -> Self {
        let says = error.to_string();
        match error {
            ProbeError::Client(source) => PortError::new("probe.client", says).because(source),
            ProbeError::Host(_) => PortError::new("probe.host", says),
            ProbeError::Path(_) => PortError::new("probe.path", says),
            ProbeError::Timeout { .. } => PortError::new("probe.timeout", says).retryable(),
            ProbeError::Socket { source, .. } => PortError::new("probe.no-answer", says).retryable().because(source),
            ProbeError::NoAnswer { source, .. } => {
                let error = PortError::new("probe.no-answer", says).retryable();
                // The client repeats the URL before it comes to the reason.
                match source.source().map(ToString::to_string) {
                    Some(reason) => error.because(reason),
                    None => error.because(source),
                }
            }
        }
    }
}

/// Asks 127.0.0.1. Follows no redirect but the one to HTTPS of the same name, and no proxy: what this server itself
/// says is the answer.
pub struct LocalProbe {
    port: u16,
    tls_port: u16,
    client: OnceLock<Client>,
}

impl Default for LocalProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalProbe {
    pub fn new() -> Self {
        Self::at(80, 443)
    }

    /// At other ports, for tests.
    pub fn at(port: u16, tls_port: u16) -> Self {
        Self { port, tls_port, client: OnceLock::new() }
    }

    /// Made when first needed: a pass without probes does not read the CA certificates.
    fn client(&self) -> Result<&Client, ProbeError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .dns_resolver(Arc::new(Here))
            // Whether the site answers is asked, over the loopback; what it identifies itself with is looked at
            // by `host::served`.
            .danger_accept_invalid_certs(true)
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent(concat!("socle/", env!("CARGO_PKG_VERSION")))
            // Bytes as they are: another crate has this library ask for packed ones.
            .no_gzip()
            .no_deflate()
            .build()
            .map_err(ProbeError::Client)?;
        Ok(self.client.get_or_init(|| client))
    }

    async fn ask(&self, host: &str, path: &str) -> Result<ProbeAnswer, ProbeError> {
        let name = checked(host, path)?;
        let silent = |source| ProbeError::NoAnswer { host: host.to_owned(), path: path.to_owned(), source };
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut answer = self.client()?.get(url).header(HOST, name).send().await.map_err(silent)?;
        if answer.status().is_redirection() && leads_to(&answer, &format!("https://{host}{path}")) {
            let url = format!("https://{host}:{}{path}", self.tls_port);
            // The name is in the address: a `Host` beside it would be refused over HTTP/2.
            answer = self.client()?.get(url).send().await.map_err(silent)?;
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(silent)? {
            let room = BODY - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        Ok(ProbeAnswer { status: answer.status().as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
    }
}

fn leads_to(answer: &Response, url: &str) -> bool {
    answer.headers().get(LOCATION).is_some_and(|location| location.as_bytes() == url.as_bytes())
}

/// Every name is this machine, whatever the world's name servers say.
struct Here;

impl Resolve for Here {
    fn resolve(&self, _: Name) -> Resolving {
        let here: Addrs = Box::new(std::iter::once(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
        Box::pin(std::future::ready(Ok(here)))
    }
}

/// The name as it is asked for.
pub(super) fn checked(host: &str, path: &str) -> Result<HeaderValue, ProbeError> {
    if !path.starts_with('/') {
        return Err(ProbeError::Path(path.to_owned()));
    }
    HeaderValue::from_str(host).map_err(|_| ProbeError::Host(host.to_owned()))
}

#[async_trait]
impl Probes for LocalProbe {
    async fn get(&self, host: &str, path: &str, timeout: Duration) -> PortResult<ProbeAnswer> {
        // Over all of it: a body that drips is no answer either.
        match tokio::time::timeout(timeout, self.ask(host, path)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ProbeError::Timeout { host: host.to_owned(), path: path.to_owned(), limit: timeout }.into()),
        }
    }

    async fn get_at(&self, socket: &Path, host: &str, path: &str, timeout: Duration) -> PortResult<ProbeAnswer> {
        match tokio::time::timeout(timeout, socket::ask(socket, host, path)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ProbeError::Timeout { host: host.to_owned(), path: path.to_owned(), limit: timeout }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Answers one request with `answer` and hands back what was asked.
    async fn server(answer: Vec<u8>) -> (LocalProbe, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.windows(4).any(|w| w == b"\r\n\r\n") {
                let mut chunk = [0; 1024];
                let read = stream.read(&mut chunk).await.unwrap();
                asked.extend_from_slice(&chunk[..read]);
            }
            let _ = stream.write_all(&answer).await;
            String::from_utf8(asked).unwrap()
        });
        (LocalProbe::at(port, 443), task)
    }

    #[tokio::test]
    async fn asks_with_the_sites_name_and_follows_nothing() {
        let redirect = "HTTP/1.1 301 Moved\r\nLocation: https://blog.test/\r\nContent-Length: 4\r\n\r\nmove";
        let (probe, asked) = server(redirect.into()).await;
        let answer = probe.get("blog.test", "/health?x=1", LIMIT).await.unwrap();
        assert_eq!(answer, ProbeAnswer { status: 301, body: "move".into() });
        let asked = asked.await.unwrap().to_ascii_lowercase();
        assert!(asked.starts_with("get /health?x=1 ") && asked.contains("host: blog.test\r\n"), "{asked}");
        assert_eq!(asked.matches("host:").count(), 1);
    }

    #[tokio::test]
    async fn goes_where_visitors_are_led_and_asks_for_no_trust() {
        use tokio_rustls::TlsAcceptor;
        use tokio_rustls::rustls::pki_types::PrivateKeyDer;
        use tokio_rustls::rustls::{ServerConfig, crypto::aws_lc_rs};

        let made = rcgen::generate_simple_self_signed(["blog.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls_port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
            let mut asked = vec![0; 1024];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsafe").await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8(asked[..read].to_vec()).unwrap().to_ascii_lowercase()
        });
        let redirect = "HTTP/1.1 301 Moved\r\nLocation: https://blog.test/health?x=1\r\nContent-Length: 0\r\n\r\n";
        let (probe, _) = server(redirect.into()).await;
        let probe = LocalProbe { tls_port, ..probe };
        let answer = probe.get("blog.test", "/health?x=1", LIMIT).await.unwrap();
        assert_eq!(answer, ProbeAnswer { status: 200, body: "safe".into() });
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("get /health?x=1 ") && asked.contains("host: blog.test:"), "{asked}");
    }

    #[tokio::test]
    async fn a_body_is_cut() {
        let mut long = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n".to_vec();
        long.resize(long.len() + 3_000_000, b'x');
        let (probe, _) = server(long).await;
        assert_eq!(probe.get("blog.test", "/", LIMIT).await.unwrap().body.len(), BODY);
    }

    #[tokio::test]
    async fn no_answer_is_an_error() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let error = LocalProbe::at(port, port).get("blog.test", "/", LIMIT).await.unwrap_err();
        assert_eq!(error.code, "probe.no-answer");
        let (probe, _) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".into()).await;
        assert!(probe.get("blog.test", "/", LIMIT).await.is_err(), "half a body is no answer");
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = LocalProbe::at(silent.local_addr().unwrap().port(), 0);
        let error = probe.get("blog.test", "/", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.code, "probe.timeout");
        assert_eq!(probe.get("blog.test", "x", LIMIT).await.unwrap_err().code, "probe.path");
        assert_eq!(probe.get("blog\n", "/", LIMIT).await.unwrap_err().code, "probe.host");
    }
}
