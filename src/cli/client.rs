//! Asks a controller: over its local socket, or over HTTPS with a token.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{Exit, print};
use crate::controller::api::listen;
use crate::controller::api::types::FailureBody;
use crate::controller::init::pin_of;
use crate::wire::tls;

/// Where the controller is.
#[derive(Debug, Clone, Args)]
pub struct Controller {
    /// The controller's address, as `https://HOST:PORT`; without it, the local socket
    #[arg(long, value_name = "URL", requires = "api_token_file", global = true)]
    controller: Option<String>,
    /// The file with the token (`socle controller api-token add`), which nobody else may read
    #[arg(long, value_name = "FILE", global = true)]
    api_token_file: Option<PathBuf>,
    /// The fingerprint of the controller's authority, as `socle controller init` printed it
    #[arg(long, value_name = "sha256:…", conflicts_with = "authority", global = true)]
    fingerprint: Option<String>,
    /// The certificate of the controller's authority (PEM)
    #[arg(long, value_name = "FILE", global = true)]
    authority: Option<PathBuf>,
    /// The controller's local socket; `None`: the one of the service.
    #[arg(skip)]
    socket: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot reach the controller on `{0}`")]
    Socket(PathBuf, #[source] std::io::Error),
    #[error("cannot reach the controller at `{0}`")]
    Connect(String, #[source] std::io::Error),
    #[error("`{0}` does not show that it is the controller")]
    Handshake(String, #[source] std::io::Error),
    #[error("`{0}` is not an address such as `https://controller.example.org:8443`")]
    Address(String),
    #[error("how to know the controller is not said")]
    NoPin,
    #[error("`{0}` is not a fingerprint: `sha256:` and 64 hexadecimal digits")]
    Fingerprint(String),
    #[error("cannot use the certificate in `{0}`")]
    Authority(PathBuf),
    #[error("cannot read the token file `{0}`")]
    TokenFile(PathBuf, #[source] std::io::Error),
    #[error("the token file `{0}` can be read by others")]
    TokenShared(PathBuf),
    #[error("the token file `{0}` holds no token")]
    NoToken(PathBuf),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("the connection to the controller broke")]
    Broken(#[source] hyper::Error),
    #[error("the controller did not answer in time")]
    Late,
    #[error("the controller answered something unreadable")]
    Unreadable(#[source] serde_json::Error),
    #[error("the controller's answer ended early")]
    EndedEarly,
    /// The controller said why.
    #[error("{}", .body.error)]
    Refused { status: StatusCode, body: Box<FailureBody> },
}

impl ClientError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            ClientError::Socket(_, error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                "run it as root, or as a member of the group `socle`"
            }
            ClientError::Socket(..) => {
                "systemctl status socle-controller; from another machine: --controller https://HOST:PORT"
            }
            ClientError::Connect(..) | ClientError::Late => "is `api_listen` set in its /etc/socle/controller.toml?",
            ClientError::Handshake(..) => "compare --fingerprint with what `socle controller init` printed",
            ClientError::NoPin => "add --fingerprint sha256:… or --authority FILE",
            ClientError::TokenShared(path) => return Some(format!("chmod 600 {}", path.display())),
            ClientError::NoToken(_) => "on the controller: socle controller api-token add NAME",
            ClientError::Broken(_) | ClientError::EndedEarly => {
                "what was pushed goes on without this program: socle fleet status"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    fn exit(&self) -> Exit {
        match self {
            ClientError::Refused { status, .. } if status.is_client_error() => Exit::BadInput,
            ClientError::Address(_)
            | ClientError::NoPin
            | ClientError::Fingerprint(_)
            | ClientError::Authority(_)
            | ClientError::TokenShared(_)
            | ClientError::NoToken(_) => Exit::BadInput,
            _ => Exit::Unexpected,
        }
    }

    /// Tells it, and with which code the program ends.
    pub fn tell(self, json: bool) -> anyhow::Result<Exit> {
        let exit = self.exit();
        match self {
            ClientError::Refused { body, .. } if json => print::json(&body)?,
            ClientError::Refused { body, .. } if !body.problems.is_empty() => print::problems(&body.problems),
            ClientError::Refused { body, .. } => print::error_report(&body.error),
            error => {
                let hint = error.hint();
                print::error(&format!("{:#}", anyhow::Error::from(error)), hint.as_deref());
            }
        }
        Ok(exit)
    }
}

/// For a connection, and for the head of an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The head of an answer comes when what was asked is stored; a push of a large fleet takes a moment.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

impl Controller {
    /// With another local socket than the service's.
    pub fn on_socket(self, socket: Option<PathBuf>) -> Self {
        Self { socket, ..self }
    }

    /// One JSON value.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, body).await?;
        let bytes = response.into_body().collect().await.map_err(ClientError::Broken)?.to_bytes();
        read(&bytes)
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask("GET", path, None::<&()>).await
    }

    /// JSON values as they come; `Broken` or `EndedEarly` if they end in the middle.
    pub async fn lines<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
        mut line: impl FnMut(T),
    ) -> Result<(), ClientError> {
        let mut body = self.send(method, path, Some(body)).await?.into_body();
        let mut buffer = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(ClientError::Broken)?;
            buffer.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let whole: Vec<u8> = buffer.drain(..=end).collect();
                line(read(&whole)?);
            }
        }
        if buffer.is_empty() { Ok(()) } else { Err(ClientError::EndedEarly) }
    }

    /// Bytes, into `file`.
    pub async fn download(&self, method: &str, path: &str, file: &mut std::fs::File) -> anyhow::Result<()> {
        use std::io::Write;
        let mut body = self.send(method, path, None::<&()>).await?.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(ClientError::Broken)?;
            file.write_all(frame.data_ref().map(Bytes::as_ref).unwrap_or_default())?;
        }
        Ok(())
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| serde_json::to_vec(body).expect("a request is plain data")).unwrap_or_default();
        let response = match &self.controller {
            None => {
                let socket = self.socket.as_deref().unwrap_or(Path::new(listen::SOCKET));
                let failed = |error| ClientError::Socket(socket.to_owned(), error);
                let stream = UnixStream::connect(socket).await.map_err(failed)?;
                exchange(stream, request.header("host", "localhost"), body).await?
            }
            Some(url) => {
                let (host, port) = host_and_port(url)?;
                let token = self.token()?;
                let request =
                    request.header("host", format!("{host}:{port}")).header("authorization", format!("Bearer {token}"));
                exchange(self.dial(url, &host, port).await?, request, body).await?
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await.map_err(ClientError::Broken)?.to_bytes();
        Err(ClientError::Refused { status, body: Box::new(read(&bytes)?) })
    }

    async fn dial(
        &self,
        url: &str,
        host: &str,
        port: u16,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ClientError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ClientError::Address(url.to_owned()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls::operators_config(self.pin()?)?));
        let connected = async {
            let failed = |error| ClientError::Connect(url.to_owned(), error);
            let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            connector.connect(name, stream).await.map_err(|error| ClientError::Handshake(url.to_owned(), error))
        };
        tokio::time::timeout(PATIENCE, connected).await.map_err(|_| ClientError::Late)?
    }

    fn pin(&self) -> Result<[u8; 32], ClientError> {
        if let Some(text) = &self.fingerprint {
            return pin_of(text).ok_or_else(|| ClientError::Fingerprint(text.clone()));
        }
        let path = self.authority.as_ref().ok_or(ClientError::NoPin)?;
        let certificate = CertificateDer::from_pem_file(path).map_err(|_| ClientError::Authority(path.clone()))?;
        Ok(tls::pin(&certificate)?)
    }

    fn token(&self) -> Result<String, ClientError> {
        let path = self.api_token_file.as_deref().unwrap_or(Path::new("-"));
        let failed = |error| ClientError::TokenFile(path.to_owned(), error);
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(ClientError::TokenShared(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let token = text.trim();
        let good = !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if good { Ok(token.to_owned()) } else { Err(ClientError::NoToken(path.to_owned())) }
    }
}

/// A value whose texts are safe to show: part of them comes from servers, and one of them may be in wrong hands.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    let mut value = serde_json::from_slice(bytes).map_err(ClientError::Unreadable)?;
    tame(&mut value);
    serde_json::from_value(value).map_err(ClientError::Unreadable)
}

/// Writes out what a terminal would act on.
fn tame(value: &mut Value) {
    let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
    match value {
        Value::String(text) if text.contains(acts) => {
            let tamed = text.chars().map(|c| if acts(c) { c.escape_unicode().to_string() } else { c.to_string() });
            *text = tamed.collect();
        }
        Value::Array(items) => items.iter_mut().for_each(tame),
        Value::Object(fields) => fields.values_mut().for_each(tame),
        _ => {}
    }
}

fn host_and_port(url: &str) -> Result<(String, u16), ClientError> {
    let wrong = || ClientError::Address(url.to_owned());
    let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
    let host = parsed.host_str().filter(|_| parsed.scheme() == "https").ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, parsed.port_or_known_default().ok_or_else(wrong)?))
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: hyper::http::request::Builder,
    body: Vec<u8>,
) -> Result<Response<Incoming>, ClientError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Broken)?;
    // Its errors come out of the sender and of the body, too.
    tokio::spawn(connection);
    let request = request.body(Full::new(Bytes::from(body))).expect("the parts of the request were checked");
    let answer = tokio::time::timeout(ANSWER_WITHIN, sender.send_request(request));
    answer.await.map_err(|_| ClientError::Late)?.map_err(ClientError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_does_nothing_to_a_terminal() {
        let lines: Vec<String> = read(br#"["\u001b]0;owned\u0007", "a\n\tb"]"#).unwrap();
        assert_eq!(lines, ["\\u{1b}]0;owned\\u{7}", "a\n\tb"]);
        assert!(matches!(read::<String>(b"1"), Err(ClientError::Unreadable(_))));
    }

    #[test]
    fn addresses() {
        assert_eq!(host_and_port("https://c.example.org:8443").unwrap(), ("c.example.org".to_owned(), 8443));
        assert_eq!(host_and_port("https://[::1]").unwrap(), ("::1".to_owned(), 443));
        for bad in ["http://c.example.org", "c.example.org:8443", "https://", "unix:/x"] {
            assert!(matches!(host_and_port(bad), Err(ClientError::Address(_))), "{bad}");
        }
    }
}
