//! Connections to the controller: the first of its addresses that answers.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// For a connection, a handshake, and an answer each.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("there is no address to try")]
    NoAddress,
    #[error("`{0}` is not `HOST:PORT`")]
    Address(String),
    #[error("no connection to `{0}`")]
    Connect(String, #[source] std::io::Error),
    #[error("`{0}` does not show that it is the controller")]
    Handshake(String, #[source] std::io::Error),
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Late,
}

/// Tries the addresses in order. The error is of the last one.
pub async fn first(addresses: &[String], config: ClientConfig) -> Result<Stream, DialError> {
    let connector = TlsConnector::from(Arc::new(config));
    let mut last = DialError::NoAddress;
    for address in addresses {
        match in_time(one(address, &connector)).await.and_then(|dialled| dialled) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, DialError> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| DialError::Late)
}

async fn one(address: &str, connector: &TlsConnector) -> Result<Stream, DialError> {
    let wrong = || DialError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
    let failed = |error| DialError::Connect(address.to_owned(), error);
    let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    connector.connect(name, stream).await.map_err(|error| DialError::Handshake(address.to_owned(), error))
}
