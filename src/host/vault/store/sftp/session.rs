//! One connection to an SSH server that shows a key we know, and the SFTP session in it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::Preferred;
use russh::client::{self, Config, Handle};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh_sftp::client::RawSftpSession;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{Packet, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::super::StoreFault;

/// From the name to the session.
const CONNECT: Duration = Duration::from_secs(30);

/// A server that answers nothing for so long does not answer.
const IDLE_S: u64 = 60;

/// How often a server with nothing to say is asked whether it is there.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) const FSYNC: &str = "fsync@openssh.com";
pub(super) const RENAME: &str = "posix-rename@openssh.com";
pub(super) const STATVFS: &str = "statvfs@openssh.com";

/// Who is called, and how both sides are known.
pub struct SftpPlace {
    pub user: String,
    pub host: String,
    pub port: u16,
    /// A local socket that leads there, for whoever has no network.
    pub through: Option<PathBuf>,
    /// Absolute, or below the user's home directory.
    pub path: String,
    /// OpenSSH's form of a private key, without a passphrase.
    pub identity: String,
    /// OpenSSH's form of public keys: the server shows one of them.
    pub host_keys: Vec<String>,
}

/// Why the far end did not do what it was asked.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It answered with a code that is not success.
    Refused(StatusCode, String),
    /// The connection could not be made, or is no more: another one may do.
    Broken(String),
    /// What will be the same the next time.
    Final(StoreFault),
}

impl Trouble {
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused(StatusCode::NoSuchFile, _))
    }

    pub fn into_fault(self) -> StoreFault {
        match self {
            Self::Broken(why) => StoreFault::Unreachable(why),
            Self::Final(fault) => fault,
            Self::Refused(StatusCode::NoSuchFile, _) => StoreFault::Absent,
            Self::Refused(StatusCode::PermissionDenied, why) => StoreFault::Forbidden(why),
            Self::Refused(code, why) => StoreFault::Other(format!("{code}: {why}")),
        }
    }
}

impl From<SftpError> for Trouble {
    fn from(error: SftpError) -> Self {
        match error {
            SftpError::Status(status) => match status.status_code {
                StatusCode::NoConnection | StatusCode::ConnectionLost => Self::Broken(status.error_message),
                code => Self::Refused(code, status.error_message),
            },
            SftpError::Timeout => Self::Broken(format!("no answer in {IDLE_S} s")),
            error => Self::Broken(error.to_string()),
        }
    }
}

pub(super) struct Session {
    pub sftp: RawSftpSession,
    extensions: Vec<String>,
    /// The connection ends with it.
    ssh: Handle<Pinned>,
}

impl Session {
    pub async fn open(place: &SftpPlace) -> Result<Self, Trouble> {
        let opened = tokio::time::timeout(CONNECT, Self::open_at(place)).await;
        opened.unwrap_or_else(|_| Err(Trouble::Broken(format!("no session in {} s", CONNECT.as_secs()))))
    }

    async fn open_at(place: &SftpPlace) -> Result<Self, Trouble> {
        let broken = |error: russh::Error| Trouble::Broken(error.to_string());
        let unusable = |what: &str| Trouble::Final(StoreFault::Other(format!("{what} cannot be read")));
        let identity = PrivateKey::from_openssh(&place.identity).map_err(|_| unusable("the SSH key of this server"))?;
        let known: Result<Vec<_>, _> = place.host_keys.iter().map(|key| PublicKey::from_openssh(key)).collect();
        let known = known.map_err(|_| unusable("a key of the far end"))?;
        let shown = Arc::new(Mutex::new(None));
        let pinned = Pinned { known: known.clone(), stranger: shown.clone() };

        let socket = dial(place).await.map_err(|error| Trouble::Broken(error.to_string()))?;
        let connected = client::connect_stream(Arc::new(config(&known)), socket, pinned).await;
        let stranger = || shown.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut ssh = match (connected, stranger()) {
            (_, Some(key)) => return Err(Trouble::Final(StoreFault::Stranger(key))),
            // It has none of the kinds we know it by.
            (Err(russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, theirs, .. }), _) => {
                return Err(Trouble::Final(StoreFault::Stranger(theirs.join(", "))));
            }
            (connected, None) => connected.map_err(broken)?,
        };
        let key = PrivateKeyWithHashAlg::new(Arc::new(identity), None);
        if !ssh.authenticate_publickey(&place.user, key).await.map_err(broken)?.success() {
            let why = format!("it does not let our SSH key in as `{}`", place.user);
            return Err(Trouble::Final(StoreFault::Forbidden(why)));
        }
        let channel = ssh.channel_open_session().await.map_err(broken)?;
        channel.request_subsystem(true, "sftp").await.map_err(broken)?;
        let sftp = RawSftpSession::new(channel.into_stream());
        sftp.set_timeout(IDLE_S);
        let version = sftp.init().await?;
        Ok(Self { sftp, extensions: version.extensions.into_keys().collect(), ssh })
    }

    pub fn is_closed(&self) -> bool {
        self.ssh.is_closed()
    }

    /// Whether the server knows this extension of the protocol.
    pub fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|offered| offered == extension)
    }

    /// Takes the place of what has the name already, at once.
    pub async fn rename_over(&self, from: &str, to: &str) -> Result<(), Trouble> {
        let string =
            |text: &str| [&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes(), text.as_bytes()].concat();
        let answer = self.sftp.extended(RENAME, [string(from), string(to)].concat()).await?;
        match answer {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(SftpError::Status(status).into()),
            _ => Err(SftpError::UnexpectedPacket.into()),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn dial(place: &SftpPlace) -> std::io::Result<Box<dyn Stream>> {
    if let Some(socket) = &place.through {
        return Ok(Box::new(UnixStream::connect(socket).await?));
    }
    let socket = TcpStream::connect((place.host.as_str(), place.port)).await?;
    let _ = socket.set_nodelay(true);
    Ok(Box::new(socket))
}

fn config(known: &[PublicKey]) -> Config {
    // Asked for what it is known by: a server with several keys shows one.
    let mut kinds: Vec<Algorithm> = known.iter().map(PublicKey::algorithm).collect();
    kinds.sort();
    kinds.dedup();
    Config {
        preferred: Preferred { key: kinds.into(), ..Preferred::DEFAULT },
        keepalive_interval: Some(ALIVE),
        nodelay: true,
        ..Config::default()
    }
}

/// Takes a server only if it shows a key that is known.
struct Pinned {
    known: Vec<PublicKey>,
    /// What one showed that is not.
    stranger: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let key = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key,
            PublicKeyOrCertificate::Certificate(_) => return Ok(false),
        };
        let known = self.known.iter().any(|known| known.key_data() == key.key_data());
        if !known {
            let shown = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
            *self.stranger.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        }
        Ok(known)
    }
}
