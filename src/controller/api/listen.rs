//! The two doors: the local socket, and HTTPS. Both are bounded in what a client may hold.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::auth::LocalPeer;
use crate::wire::door;

/// Where the local door is.
pub const SOCKET: &str = "/run/socle-controller/api.sock";
/// Whose members may open it.
const GROUP: &str = "socle";

/// Connections at once; more wait in the kernel.
const CONNECTIONS: usize = 128;
/// A TLS handshake must be over within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The head of a request must have come within this time, also on a connection kept alive.
const HEAD: Duration = Duration::from_secs(15);
const MAX_HEADERS: usize = 64;
/// Of a request's head.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Requests that run when the controller ends may go on this long.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on `{0}`")]
    Socket(PathBuf, #[source] std::io::Error),
    #[error("cannot listen on `{0}`")]
    Address(SocketAddr, #[source] std::io::Error),
}

/// Opens the local socket, for its owner and the group `socle`.
pub fn bind_socket(path: &Path) -> Result<UnixListener, ListenError> {
    door::listen(path, GROUP).map_err(|error| ListenError::Socket(path.to_owned(), error))
}

pub async fn bind_address(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| ListenError::Address(address, error))
}

/// Serves the local socket until `stop`, and what runs then a while longer.
pub async fn serve_socket(listener: UnixListener, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some((accepted, permit)) = next(listener.accept(), &connections, &stop).await {
        let Ok((stream, _)) = accepted else {
            wait_for_room(accepted.err()).await;
            continue;
        };
        // A peer that is gone already cannot be named, and needs no answer.
        let Ok(peer) = stream.peer_cred() else { continue };
        let peer = LocalPeer { uid: peer.uid() };
        let watcher = graceful.watcher();
        let router = router.clone();
        tokio::spawn(async move { serve(stream, router, Some(peer), watcher, permit).await });
    }
    drain(graceful).await;
}

/// The same over HTTPS. `tls` is asked for each connection, so that a new certificate is used from then on.
pub async fn serve_https(
    listener: TcpListener,
    tls: impl Fn() -> Arc<ServerConfig>,
    router: Router,
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some((accepted, permit)) = next(listener.accept(), &connections, &stop).await {
        let Ok((stream, from)) = accepted else {
            wait_for_room(accepted.err()).await;
            continue;
        };
        let acceptor = TlsAcceptor::from(tls());
        let watcher = graceful.watcher();
        let router = router.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, router, None, watcher, permit).await,
                Ok(Err(error)) => tracing::info!(%from, %error, "a handshake of the API failed"),
                Err(_) => tracing::info!(%from, "a handshake of the API took too long"),
            }
        });
    }
    drain(graceful).await;
}

/// The next connection, once there is room for it; `None`: the end.
async fn next<T>(
    accept: impl Future<Output = T>,
    connections: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(T, OwnedSemaphorePermit)> {
    let taken = async {
        let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        (accept.await, permit)
    };
    tokio::select! {
        () = stop.cancelled() => None,
        taken = taken => Some(taken),
    }
}

async fn wait_for_room(error: Option<std::io::Error>) {
    if let Some(error) = error {
        tracing::warn!(%error, "cannot accept a connection of the API");
    }
    // Out of file descriptors, most likely: give the others time to end.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    peer: Option<LocalPeer>,
    watcher: hyper_util::server::graceful::Watcher,
    _permit: OwnedSemaphorePermit,
) {
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.clone().oneshot(request.map(axum::body::Body::new) as Request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection of the API ended");
    }
}

async fn drain(graceful: GracefulShutdown) {
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}
