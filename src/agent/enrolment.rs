//! Which fleet this server belongs to, and who it is there.
//!
//! Two files in the state directory, both 0600 of root: `fleet.json` is what the agent itself needs to judge
//! documents; `identity.json` holds the keys and goes to `socle-link` as a credential of its unit.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::dial::{self, DialError};
use super::reconcile::Agent;
use crate::durable::{self, DurableError};
use crate::host::PortError;
use crate::model::report::ErrorReport;
use crate::model::{Digest, Name};
use crate::wire::enrol::{Call, EXPORTER_LABEL, Enrolled, Exporter, MAX_BYTES, Reply};
use crate::wire::frame::{FrameError, Reader, Writer};
use crate::wire::key::{self, KeyError};
use crate::wire::seal::{self, SealError};
use crate::wire::tls::{self, TlsError};
use crate::wire::token::TokenId;
use crate::wire::{Envelope, JoinToken, PublicKey, SigningKey};

#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("cannot keep the enrolment")]
    Keep(#[source] DurableError),
    #[error("`{0}` is damaged")]
    Damaged(&'static str, #[source] serde_json::Error),
    #[error("`{0}` holds no usable key")]
    Key(&'static str, #[source] KeyError),
    #[error("cannot make a key")]
    Make(#[source] rcgen::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the controller could not be reached")]
    Dial(#[from] DialError),
    #[error("the enrolment call broke off")]
    Broken(#[from] FrameError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the connection exports no key material")]
    Exporter(#[source] rustls::Error),
    #[error("the controller refused: {0}")]
    Refused(ErrorReport),
    #[error("the controller enrolled this server as `{given}`, the token is for `{asked}`")]
    OtherServer { given: Name, asked: Name },
    #[error("the certificate the controller gave is not for this server's key")]
    OtherIdentity,
}

/// `fleet.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub fleet: uuid::Uuid,
    pub fleet_name: String,
    pub server: Name,
    /// [`PublicKey::id`] of the server's long-lived key.
    pub identity: Digest,
    /// Whose documents are believed.
    pub document_keys: Vec<PublicKey>,
    /// The token it enrolled by.
    pub token: TokenId,
    pub since: jiff::Timestamp,
}

/// `identity.json`
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    pub server: Name,
    /// Seed of the long-lived Ed25519 key.
    seed: String,
    #[serde(with = "key::bytes")]
    pub sealing_public: Vec<u8>,
    #[serde(with = "key::bytes")]
    sealing_private: Vec<u8>,
    /// PKCS #8, DER.
    #[serde(with = "key::bytes")]
    tls_key: Vec<u8>,
    #[serde(with = "key::bytes")]
    certificate: Vec<u8>,
    #[serde(with = "key::bytes")]
    authority: Vec<u8>,
    pub addresses: Vec<String>,
}

/// Keys made before the call, so that a call whose answer was lost can be made again by the same keys.
#[derive(Serialize, Deserialize)]
struct Started {
    token: TokenId,
    seed: String,
    #[serde(with = "key::bytes")]
    sealing_public: Vec<u8>,
    #[serde(with = "key::bytes")]
    sealing_private: Vec<u8>,
    #[serde(with = "key::bytes")]
    tls_key: Vec<u8>,
}

const FLEET: &str = "fleet.json";
const IDENTITY: &str = "identity.json";
const STARTED: &str = "enrolling.json";

impl Membership {
    /// `None`: this server belongs to no fleet.
    pub fn load(state: &Path) -> Result<Option<Self>, EnrolError> {
        load(state, FLEET)
    }

    /// Takes over the key that follows the one this server believed. The envelope was opened with it.
    pub fn believe(state: &Path, envelope: &Envelope) -> Result<(), EnrolError> {
        let Some(mut membership) = Self::load(state)? else { return Ok(()) };
        // It was followed before, when the envelope was opened.
        let Ok(keys) = envelope.successors(&membership.document_keys) else { return Ok(()) };
        if keys == membership.document_keys {
            return Ok(());
        }
        tracing::info!("the fleet's documents are signed by another key from now on");
        membership.document_keys = keys;
        keep(state, FLEET, &membership)
    }

    /// Whether this server belongs to a fleet, also if the file that says to which is damaged.
    pub fn is_there(state: &Path) -> Result<bool, EnrolError> {
        let path = state.join(FLEET);
        path.try_exists().map_err(|error| EnrolError::Keep(DurableError::Read(path, error)))
    }
}

impl Identity {
    pub fn parse(bytes: &[u8]) -> Result<Self, EnrolError> {
        serde_json::from_slice(bytes).map_err(|error| EnrolError::Damaged(IDENTITY, error))
    }

    pub fn load(state: &Path) -> Result<Option<Self>, EnrolError> {
        load(state, IDENTITY)
    }

    pub fn key(&self) -> Result<SigningKey, EnrolError> {
        SigningKey::from_base64(&self.seed).map_err(|error| EnrolError::Key(IDENTITY, error))
    }

    pub fn tls_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.tls_key.clone()).into()
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.certificate.clone())
    }

    pub fn authority(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.authority.clone())
    }

    /// What secrets for this server are opened with.
    pub fn sealing_private(&self) -> &[u8] {
        &self.sealing_private
    }

    /// With another certificate and its key.
    pub fn renewed(&self, tls_key: Vec<u8>, certificate: Vec<u8>) -> Self {
        Self { tls_key, certificate, ..self.clone() }
    }
}

fn load<T: serde::de::DeserializeOwned>(state: &Path, file: &'static str) -> Result<Option<T>, EnrolError> {
    let bytes = durable::read(&state.join(file)).map_err(EnrolError::Keep)?;
    bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(|error| EnrolError::Damaged(file, error))
}

fn keep<T: Serialize>(state: &Path, file: &str, value: &T) -> Result<(), EnrolError> {
    let bytes = serde_json::to_vec_pretty(value).expect("it is plain data");
    durable::write(&state.join(file), &bytes, 0o600).map_err(EnrolError::Keep)
}

/// A TLS key (PKCS #8, DER) and a request for its certificate (PKCS #10, DER).
pub fn tls_key() -> Result<(Vec<u8>, Vec<u8>), EnrolError> {
    let key = KeyPair::generate().map_err(EnrolError::Make)?;
    let der = key.serialize_der();
    Ok((der, request(&key)?))
}

fn request(key: &KeyPair) -> Result<Vec<u8>, EnrolError> {
    let request = CertificateParams::default().serialize_request(key).map_err(EnrolError::Make)?;
    Ok(request.der().to_vec())
}

/// What a join came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "join", rename_all = "kebab-case")]
pub enum Joined {
    Enrolled {
        fleet: String,
        server: Name,
    },
    /// By this very token, earlier.
    Already {
        fleet: String,
        server: Name,
    },
}

/// Enrols by a token. May be interrupted anywhere and called again.
pub async fn join(
    state: &Path,
    token: &JoinToken,
    now: jiff::Timestamp,
    random: impl Fn(&mut [u8]),
) -> Result<Joined, EnrolError> {
    if let Some(known) = Membership::load(state)?
        && known.token == token.id
        && Identity::load(state)?.is_some()
    {
        durable::remove(&state.join(STARTED)).map_err(EnrolError::Keep)?;
        return Ok(Joined::Already { fleet: known.fleet_name, server: known.server });
    }
    let started = start(state, token, random)?;
    let identity = SigningKey::from_base64(&started.seed).map_err(|error| EnrolError::Key(STARTED, error))?;
    let tls_key = KeyPair::try_from(&started.tls_key[..]).map_err(EnrolError::Make)?;
    let csr = request(&tls_key)?;
    let (reader, writer, exporter) = connect(&token.addresses, token.pin).await?;
    let sealing = started.sealing_public.clone();
    let enrolled = call(reader, writer, &Call::join(token, &identity, sealing, csr, &exporter)).await?;
    if enrolled.server != token.server {
        return Err(EnrolError::OtherServer { given: enrolled.server, asked: token.server.clone() });
    }
    let certificate = CertificateDer::from(enrolled.certificate.clone());
    if tls::Peer::of(&certificate)?.identity != identity.public().id() {
        return Err(EnrolError::OtherIdentity);
    }
    let mine = Identity {
        server: enrolled.server.clone(),
        seed: started.seed,
        sealing_public: started.sealing_public,
        sealing_private: started.sealing_private,
        tls_key: started.tls_key,
        certificate: enrolled.certificate,
        authority: enrolled.authority,
        addresses: enrolled.addresses,
    };
    let membership = Membership {
        fleet: enrolled.fleet,
        fleet_name: enrolled.fleet_name.clone(),
        server: enrolled.server.clone(),
        identity: identity.public().id(),
        document_keys: enrolled.document_keys,
        token: token.id,
        since: now,
    };
    // The fleet first: the link, which waits for the identity, finds an agent that knows whom to believe.
    keep(state, FLEET, &membership)?;
    keep(state, IDENTITY, &mine)?;
    durable::remove(&state.join(STARTED)).map_err(EnrolError::Keep)?;
    Ok(Joined::Enrolled { fleet: enrolled.fleet_name, server: enrolled.server })
}

impl Agent {
    /// (Re)starts the agent, so that its doors are open, and the link, so that it takes up its identity.
    pub async fn connect_link(&self) -> Result<(), PortError> {
        self.host.units.start("socle-agent.service").await?;
        self.host.units.restart("socle-link.service").await
    }
}

/// The keys of an earlier try with this token, or new ones. A server that enrols again stays who it was.
fn start(state: &Path, token: &JoinToken, random: impl Fn(&mut [u8])) -> Result<Started, EnrolError> {
    if let Some(started) = load::<Started>(state, STARTED)?
        && started.token == token.id
    {
        return Ok(started);
    }
    let (tls_key, _) = tls_key()?;
    let started = match Identity::load(state)? {
        Some(known) => Started {
            token: token.id,
            seed: known.seed,
            sealing_public: known.sealing_public,
            sealing_private: known.sealing_private,
            tls_key,
        },
        None => {
            let (sealing_public, sealing_private) = seal::generate()?;
            let seed = SigningKey::generate(random).to_base64();
            Started { token: token.id, seed, sealing_public, sealing_private, tls_key }
        }
    };
    keep(state, STARTED, &started)?;
    Ok(started)
}

/// Asks for a certificate by the long-lived key, after the old one expired.
pub async fn recover(identity: &Identity, sequence: u64) -> Result<(Vec<u8>, Vec<u8>), EnrolError> {
    let key = identity.key()?;
    let (tls_key, csr) = tls_key()?;
    let pin = tls::pin(&identity.authority())?;
    let (reader, writer, exporter) = connect(&identity.addresses, pin).await?;
    let sealing = identity.sealing_public.clone();
    let enrolled = call(reader, writer, &Call::recover(sequence, &key, sealing, csr, &exporter)).await?;
    let certificate = CertificateDer::from(enrolled.certificate.clone());
    if tls::Peer::of(&certificate)?.identity != key.public().id() {
        return Err(EnrolError::OtherIdentity);
    }
    Ok((tls_key, enrolled.certificate))
}

type Replies = Reader<tokio::io::ReadHalf<dial::Stream>, Reply>;
type Calls = Writer<tokio::io::WriteHalf<dial::Stream>, Call>;

async fn connect(addresses: &[String], pin: [u8; 32]) -> Result<(Replies, Calls, Exporter), EnrolError> {
    let stream = dial::first(addresses, tls::enrol_config(pin)?).await?;
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material(Exporter::default(), EXPORTER_LABEL, None)
        .map_err(EnrolError::Exporter)?;
    let (read, write) = tokio::io::split(stream);
    Ok((Reader::new(read, MAX_BYTES), Writer::new(write, MAX_BYTES), exporter))
}

async fn call(mut reader: Replies, mut writer: Calls, call: &Call) -> Result<Enrolled, EnrolError> {
    writer.send(call).await?;
    match dial::in_time(reader.next()).await?? {
        Reply::Enrolled(enrolled) => Ok(enrolled),
        Reply::Refused { error } => Err(EnrolError::Refused(error)),
    }
}
