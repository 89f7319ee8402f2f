//! The agents' port, and what keeps the controller going. Start reading at [`run`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;

use super::Controller;
use super::authority::AuthorityError;
use super::enrol::{self, EnrolError};
use super::session::{self, SessionError};
use super::store::{Changed, Dialect, StoreError};
use crate::model::report::ErrorReport;
use crate::wire::enrol::{EXPORTER_LABEL, Exporter};
use crate::wire::tls::{self, TlsError};

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("cannot listen on `{0}`")]
    Listen(SocketAddr, #[source] std::io::Error),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A handshake must be over within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once; further connections wait in the kernel.
const HANDSHAKES: usize = 256;
/// Enrolment calls at once. More are dropped: they come again.
const CALLS: usize = 16;
/// How often one of several controllers says that it lives: two tries may fail before it counts as dead.
const ALIVE: Duration = Duration::from_secs(2);
/// The controller's own certificate is made anew this often.
const FRESH: Duration = Duration::from_secs(86_400);

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the handshake failed")]
    Handshake(#[source] std::io::Error),
    #[error("the handshake took too long")]
    Late,
    #[error("it speaks neither `socle-agent/1` nor `socle-enrol/1`")]
    Protocol,
    #[error("nobody can enrol at the moment: there is no open token and no certificate that expired")]
    NobodyEnrols,
    #[error("too many enrol at once")]
    Crowded,
    #[error("the connection exports no key material")]
    Exporter(#[source] rustls::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

/// What a handshake is answered with.
struct Configs {
    agent: Arc<ServerConfig>,
    enrol: Arc<ServerConfig>,
}

struct Port {
    controller: Arc<Controller>,
    configs: ArcSwap<Configs>,
    handshakes: Arc<Semaphore>,
    calls: Semaphore,
}

/// Opens the agents' port. The address that is listened on is the first outcome; the port is served until
/// `stop`.
pub async fn open(
    controller: Arc<Controller>,
    listen: SocketAddr,
    stop: CancellationToken,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send + use<>), DaemonError> {
    let listener = TcpListener::bind(listen).await.map_err(|error| DaemonError::Listen(listen, error))?;
    let address = listener.local_addr().map_err(|error| DaemonError::Listen(listen, error))?;
    let port = Arc::new(Port {
        configs: ArcSwap::from_pointee(configs(&controller)?),
        handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        calls: Semaphore::new(CALLS),
        controller,
    });
    let watch = port.controller.store.watch().await?;
    // Before an agent comes in: what is connected to a dead controller counts as not connected.
    port.controller.store.keep_alive(port.controller.instance, (port.controller.now)()).await?;
    let serving = async move {
        tokio::select! {
            () = accept(listener, port.clone()) => {}
            () = wake(watch, &port.controller) => {}
            () = stay_fresh(&port) => {}
            () = say_alive(&port.controller) => {}
            () = stop.cancelled() => {}
        }
        for server in port.controller.hub.connected() {
            port.controller.hub.cut(&server);
        }
        if let Err(error) = port.controller.store.forget_connections(port.controller.instance).await {
            tracing::warn!("{}", ErrorReport::of("store", &error, error.hint()));
        }
    };
    Ok((address, serving))
}

fn configs(controller: &Controller) -> Result<Configs, DaemonError> {
    let authority = &controller.keys.authority;
    let names: Vec<String> = controller.addresses.iter().filter_map(|address| host(address)).collect();
    let (chain, key) = authority.for_controller(&names, (controller.now)())?;
    let agent = tls::controller_config(&[authority.certificate().clone()], chain.clone(), key.clone_key())?;
    Ok(Configs { agent: Arc::new(agent), enrol: Arc::new(tls::controller_enrol_config(chain, key)?) })
}

/// Of `host:port`; brackets are of IPv6 addresses.
fn host(address: &str) -> Option<String> {
    let (host, _) = address.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

async fn accept(listener: TcpListener, port: Arc<Port>) {
    loop {
        let permit = port.handshakes.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, from)) => {
                let port = port.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(&port, stream, permit).await {
                        tracing::info!(%from, "{}", ErrorReport::of("connection", &error, None));
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors, most likely: give the others time to end.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(
    port: &Port,
    stream: TcpStream,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true).map_err(ConnectionError::Handshake)?;
    let start = timeout(HANDSHAKE, LazyConfigAcceptor::new(Acceptor::default(), stream));
    let start = start.await.map_err(|_| ConnectionError::Late)?.map_err(ConnectionError::Handshake)?;
    let hello = start.client_hello();
    let offers = |protocol: &[u8]| hello.alpn().is_some_and(|mut offered| offered.any(|name| name == protocol));
    let (agent, enrols) = (offers(tls::AGENT), offers(tls::ENROL));
    let configs = port.configs.load_full();
    if agent {
        let stream = timeout(HANDSHAKE, start.into_stream(configs.agent.clone()));
        let stream = stream.await.map_err(|_| ConnectionError::Late)?.map_err(ConnectionError::Handshake)?;
        drop(permit);
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = tls::Peer::of(certificates.first().ok_or(TlsError::Nameless)?)?;
        return Ok(session::run(port.controller.clone(), peer, stream).await?);
    }
    if !enrols {
        return Err(ConnectionError::Protocol);
    }
    // Before anything of the caller is answered: without anybody who could enrol there is no such door.
    if !somebody_may_enrol(&port.controller).await? {
        return Err(ConnectionError::NobodyEnrols);
    }
    let _call = port.calls.try_acquire().map_err(|_| ConnectionError::Crowded)?;
    let stream = timeout(HANDSHAKE, start.into_stream(configs.enrol.clone()));
    let stream = stream.await.map_err(|_| ConnectionError::Late)?.map_err(ConnectionError::Handshake)?;
    let exporter = stream.get_ref().1.export_keying_material(Exporter::default(), EXPORTER_LABEL, None);
    let exporter = exporter.map_err(ConnectionError::Exporter)?;
    Ok(enrol::answer(&port.controller, stream, &exporter).await?)
}

/// There is a token that may be redeemed, or a server whose certificate ran out.
async fn somebody_may_enrol(controller: &Controller) -> Result<bool, StoreError> {
    let now = (controller.now)();
    if controller.store.live_join_tokens(now).await? > 0 {
        return Ok(true);
    }
    // A server judges by its own clock, which may be a day or two ahead.
    controller.store.may_recover(now.saturating_add(jiff::SignedDuration::from_hours(72)).unwrap_or(now)).await
}

/// Sessions hear of new documents, whichever controller put them.
async fn wake(mut watch: super::store::Watch, controller: &Controller) {
    while let Some(changed) = watch.next().await {
        match changed {
            Changed::Server(server) => controller.hub.wake(&server),
            Changed::Everything => controller.hub.wake_all(),
        }
    }
}

/// So that another controller on the database knows which connections are of the past. A file has no other.
async fn say_alive(controller: &Controller) {
    if controller.store.dialect() == Dialect::Sqlite {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(ALIVE).await;
        if let Err(error) = controller.store.keep_alive(controller.instance, (controller.now)()).await {
            tracing::warn!("{}", ErrorReport::of("store", &error, error.hint()));
        }
    }
}

async fn stay_fresh(port: &Port) {
    loop {
        tokio::time::sleep(FRESH).await;
        match configs(&port.controller) {
            Ok(fresh) => port.configs.store(Arc::new(fresh)),
            // The old one has weeks to live.
            Err(error) => tracing::error!("{}", ErrorReport::of("certificate", &error, None)),
        }
    }
}
