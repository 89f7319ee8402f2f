//! The service: opens what `socle controller init` made, then the doors, and closes them when it is asked to end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::api::{self, App, Patience, listen};
use super::authority::AuthorityError;
use super::config::Config;
use super::daemon::{self, DaemonError};
use super::init::setting;
use super::keys::{self, Keys, KeysError};
use super::store::{By, Store, StoreError};
use super::{Controller, new_id, newcomers};
use crate::durable::{self, DurableError};
use crate::model::report::ErrorReport;
use crate::recipe::Catalog;
use crate::wire::tls::{self, TlsError};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("there is no fleet here yet")]
    NoFleet,
    #[error("the file `{0}` holds no UUID")]
    Instance(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    File(#[from] DurableError),
}

impl RunError {
    /// What to do next, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            RunError::NoFleet => Some("socle controller init".to_owned()),
            RunError::Store(error) => error.hint(),
            RunError::Keys(KeysError::Missing(_) | KeysError::Next(_)) => {
                Some("socle controller restore FILE".to_owned())
            }
            RunError::Instance(path) => Some(format!("remove `{}`", path.display())),
            _ => None,
        }
    }
}

/// What the service is given by the command line.
pub struct Service {
    /// The controller's directory.
    pub home: PathBuf,
    /// The local socket.
    pub socket: PathBuf,
    pub config: Config,
    pub catalog: Catalog,
    pub now: fn() -> jiff::Timestamp,
    pub random: fn(&mut [u8]),
}

/// The operators' certificate is made anew this often; it lives for months.
const FRESH: Duration = Duration::from_secs(86_400);

/// Serves until `stop`. `ready` is called when every door is open.
pub async fn run(service: Service, stop: CancellationToken, ready: impl FnOnce()) -> Result<(), RunError> {
    let Service { home, socket, config, catalog, now, random } = service;
    let controller = Arc::new(open(&home, &config, now, random).await?);
    let setting = controller.store.setting(setting::BOOTSTRAP_URL).await?;
    let app = Arc::new(App {
        controller: controller.clone(),
        catalog,
        home,
        bootstrap_url: config.bootstrap_url.clone().or(setting),
        repository: config.repository.clone(),
        patience: Patience::default(),
    });
    let router = api::router(app);
    let (address, agents) = daemon::open(controller.clone(), config.listen(), stop.clone()).await?;
    let local = listen::serve_socket(listen::bind_socket(&socket)?, router.clone(), stop.clone());
    let remote = operators(&controller, &config, router, &stop).await?;
    tracing::info!(agents = %address, operators = ?config.api_listen, "the controller is ready");
    ready();
    let newcomers = async {
        tokio::select! {
            () = stop.cancelled() => {}
            ended = newcomers::run(controller.clone()) => {
                if let Err(error) = ended {
                    tracing::error!("{}", ErrorReport::of("newcomers", &error, error.hint()));
                }
            }
        }
    };
    tokio::join!(agents, local, remote, newcomers);
    controller.store.close().await;
    Ok(())
}

async fn open(
    home: &Path,
    config: &Config,
    now: fn() -> jiff::Timestamp,
    random: fn(&mut [u8]),
) -> Result<Controller, RunError> {
    let url = config.store_url(home);
    // To open it would make it. If it cannot be looked for, opening says why.
    if url.path().is_some_and(|path| matches!(path.try_exists(), Ok(false))) {
        return Err(RunError::NoFleet);
    }
    let store = Store::open(&url).await?;
    let fleet = store.fleet().await?.ok_or(RunError::NoFleet)?;
    let addresses = store.setting(setting::ADDRESSES).await?.ok_or(RunError::NoFleet)?;
    let addresses = addresses.split(' ').map(str::to_owned).collect();
    let keys = Keys::load(&home.join(keys::DIRECTORY))?;
    note_key(&store, &keys, now()).await?;
    let instance = instance(home, now, random)?;
    // Of the process before this one, which may have been killed.
    store.forget_connections(instance).await?;
    Ok(Controller::new(instance, store, keys, fleet, addresses, now, random))
}

/// That documents are signed by another key than before goes into the audit.
async fn note_key(store: &Store, keys: &Keys, now: jiff::Timestamp) -> Result<(), StoreError> {
    let id = keys.document.public().id().to_string();
    if keys.succession.is_empty() || store.setting(setting::DOCUMENT_KEY).await?.as_ref() == Some(&id) {
        return Ok(());
    }
    store.set_setting(setting::DOCUMENT_KEY, Some(&id), &By::new("controller", now)).await
}

/// The name of this controller among those that share a database. It stays the same over restarts, so that what
/// was connected to it before is known not to be any more.
fn instance(home: &Path, now: fn() -> jiff::Timestamp, random: fn(&mut [u8])) -> Result<uuid::Uuid, RunError> {
    let path = home.join("instance");
    if let Some(bytes) = durable::read(&path)? {
        let text = String::from_utf8_lossy(&bytes);
        return text.trim().parse().map_err(|_| RunError::Instance(path));
    }
    let id = new_id(now(), random);
    durable::write(&path, format!("{id}\n").as_bytes(), 0o600)?;
    Ok(id)
}

/// The operators' HTTPS port, if there is to be one.
async fn operators(
    controller: &Arc<Controller>,
    config: &Config,
    router: axum::Router,
    stop: &CancellationToken,
) -> Result<impl Future<Output = ()> + use<>, RunError> {
    let listener = match config.api_listen {
        Some(address) => Some((listen::bind_address(address).await?, Arc::new(ArcSwap::new(tls(controller)?)))),
        None => None,
    };
    let (controller, stop) = (controller.clone(), stop.clone());
    Ok(async move {
        let Some((listener, current)) = listener else { return };
        let used = current.clone();
        tokio::select! {
            () = listen::serve_https(listener, move || used.load_full(), router, stop) => {}
            () = stay_fresh(&controller, &current) => {}
        }
    })
}

async fn stay_fresh(controller: &Controller, current: &ArcSwap<ServerConfig>) {
    loop {
        tokio::time::sleep(FRESH).await;
        match tls(controller) {
            Ok(fresh) => current.store(fresh),
            // The old one has weeks to live.
            Err(error) => tracing::error!("{}", ErrorReport::of("certificate", &error, None)),
        }
    }
}

/// Under the names that agents know the controller by.
fn tls(controller: &Controller) -> Result<Arc<ServerConfig>, RunError> {
    let names: Vec<String> = controller.addresses.iter().filter_map(|address| host(address)).collect();
    let (chain, key) = controller.keys.authority.for_controller(&names, (controller.now)())?;
    Ok(Arc::new(tls::operators_server_config(chain, key)?))
}

/// Of `host:port`; brackets are of IPv6 addresses.
fn host(address: &str) -> Option<String> {
    let (host, _) = address.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}
