//! The one call without a client certificate, seen from the controller.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Controller;
use super::session::SessionError;
use super::store::{By, RecoveryError, RedeemError, Redemption, Server, ServerState, StoreError};
use crate::model::report::ErrorReport;
use crate::wire::enrol::{Call, Enrolled, Exporter, MAX_BYTES, Proof, Reply};
use crate::wire::frame::{FrameError, Reader, Writer};
use crate::wire::key::KeyError;
use crate::wire::tls::Peer;

/// The whole call must be over within this time.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub(super) enum EnrolError {
    #[error("the connection failed")]
    Frame(#[from] FrameError),
    #[error("it took too long")]
    Late,
    #[error("the proof does not fit")]
    Proof(#[from] KeyError),
    #[error("the key to seal secrets to is not 32 bytes long")]
    Sealing,
    #[error(transparent)]
    Redeem(#[from] RedeemError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("no server is enrolled with this key")]
    Unknown,
    #[error("server `{0}` is not enrolled any more")]
    Gone(crate::model::Name),
    #[error("the certificate could not be issued")]
    Certify(#[source] Box<SessionError>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EnrolError {
    /// For the one who called: no more than it needs to know.
    fn report(&self) -> ErrorReport {
        let again = || Some("ask for a new token: socle controller server add NAME".to_owned());
        let (code, hint) = match self {
            EnrolError::Frame(_) | EnrolError::Late => ("enrol.connection", None),
            EnrolError::Proof(_) | EnrolError::Sealing => ("enrol.proof", None),
            EnrolError::Redeem(RedeemError::Unknown(_)) => ("enrol.token-unknown", again()),
            EnrolError::Redeem(RedeemError::Expired { .. }) => ("enrol.token-expired", again()),
            EnrolError::Redeem(RedeemError::Revoked { .. }) => ("enrol.token-revoked", again()),
            EnrolError::Redeem(RedeemError::AlreadyUsed { .. }) => (
                "enrol.token-used",
                Some("if it was not you, somebody has the token: socle controller server evict NAME".to_owned()),
            ),
            EnrolError::Redeem(RedeemError::Banned(_)) => ("enrol.banned", None),
            EnrolError::Redeem(RedeemError::AlreadyEnrolled(_)) => (
                "enrol.already-enrolled",
                Some("if the old machine is gone: socle controller server evict NAME, then a new token".to_owned()),
            ),
            EnrolError::Recovery(RecoveryError::Outdated { .. }) => (
                "enrol.recovery-outdated",
                Some("if this server was set back to an earlier state, enrol it again with a new token".to_owned()),
            ),
            EnrolError::Unknown | EnrolError::Gone(_) => ("enrol.not-enrolled", again()),
            EnrolError::Redeem(_) | EnrolError::Recovery(_) | EnrolError::Store(_) | EnrolError::Certify(_) => {
                return ErrorReport {
                    code: "enrol.failed".to_owned(),
                    message: "the controller could not do it; its journal says why".to_owned(),
                    causes: Vec::new(),
                    hint: Some("try again".to_owned()),
                };
            }
        };
        ErrorReport::of(code, self, hint)
    }
}

/// Answers one call.
pub(super) async fn answer<S>(controller: &Controller, stream: S, over: &Exporter) -> Result<(), EnrolError>
where
    S: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(stream);
    let mut reader = Reader::<_, Call>::new(read, MAX_BYTES);
    let mut writer = Writer::<_, Reply>::new(write, MAX_BYTES);
    let call = timeout(PATIENCE, reader.next()).await.map_err(|_| EnrolError::Late)??;
    let enrolled = enrol(controller, &call, over).await;
    let reply = match &enrolled {
        Ok(enrolled) => Reply::Enrolled(enrolled.clone()),
        Err(error) => Reply::Refused { error: error.report() },
    };
    timeout(PATIENCE, async {
        writer.send(&reply).await?;
        writer.close().await
    })
    .await
    .map_err(|_| EnrolError::Late)??;
    enrolled.map(drop)
}

async fn enrol(controller: &Controller, call: &Call, over: &Exporter) -> Result<Enrolled, EnrolError> {
    call.verify_identity(over)?;
    let sealing = <[u8; 32]>::try_from(&call.sealing[..]).map_err(|_| EnrolError::Sealing)?;
    let now = (controller.now)();
    let server = match &call.proof {
        Proof::Token { id, .. } => {
            let token = controller.store.join_token(*id).await?.ok_or(RedeemError::Unknown(*id))?;
            call.verify_token(&token.public_key, over)?;
            let new = super::new_id(now, controller.random);
            let redemption = Redemption { token: *id, id: new, identity: call.identity, sealing };
            controller.store.redeem(&redemption, now).await?
        }
        Proof::Recovery { sequence } => {
            let server = by_identity(controller, call).await?;
            let by = By::new(format!("server:{}", server.name), now);
            if let Err(error) = controller.store.advance_recovery(&server.name, *sequence, &by).await {
                if matches!(error, RecoveryError::Outdated { .. }) {
                    let text = format!("{error}: there may be a copy of this server");
                    controller.store.raise_alarm(Some(&server.name), "recovery.outdated", &text, now).await?;
                }
                return Err(error.into());
            }
            server
        }
    };
    certified(controller, &server, &call.csr).await
}

async fn by_identity(controller: &Controller, call: &Call) -> Result<Server, EnrolError> {
    let servers = controller.store.servers().await?;
    let server = servers.into_iter().find(|server| server.identity == call.identity).ok_or(EnrolError::Unknown)?;
    if server.state == ServerState::Enrolled { Ok(server) } else { Err(EnrolError::Gone(server.name)) }
}

async fn certified(controller: &Controller, server: &Server, csr: &[u8]) -> Result<Enrolled, EnrolError> {
    let peer = Peer { fleet: controller.fleet.id, server: server.name.clone(), identity: server.identity.id() };
    let (certificate, record) = controller.certify(csr, &peer).map_err(|error| EnrolError::Certify(Box::new(error)))?;
    let by = By::new(format!("server:{}", server.name), (controller.now)());
    controller.store.set_certificate(&server.name, &record, &by).await?;
    let authority: &CertificateDer<'_> = controller.keys.authority.certificate();
    Ok(Enrolled {
        fleet: controller.fleet.id,
        fleet_name: controller.fleet.name.to_string(),
        server: server.name.clone(),
        certificate,
        authority: authority.to_vec(),
        addresses: controller.addresses.clone(),
        document_keys: vec![controller.keys.document.public()],
    })
}
