//! Whether a site serves the certificate that is in place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::record::{RecordError, Records};
use crate::host::certificates::{Store, StoreError, chain};
use crate::host::served::{self, Difference, ServedError};
use crate::model::Name;
use crate::model::certificate::{CertifiedName, Wanted};
use crate::model::report::ErrorReport;

const PORT: u16 = 443;
const PATIENCE: Duration = Duration::from_secs(10);
/// nginx listens on both, whatever addresses the server has.
const SELF: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("there is no certificate `{0}`")]
    Missing(Name),
    #[error("the chain of `{0}` cannot be read")]
    Chain(Name),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot ask the site `{name}` for its certificate")]
    Ask { name: CertifiedName, source: ServedError },
    #[error("`{name}` at {address} does not serve the certificate that is in place: {difference}")]
    Differs { name: CertifiedName, address: SocketAddr, difference: Difference },
}

impl ServingError {
    pub fn report(&self) -> ErrorReport {
        let (code, hint) = match self {
            Self::Differs { .. } => ("certificate.not-served", "nginx -t; systemctl reload nginx"),
            Self::Ask { .. } => ("certificate.not-served", "systemctl status nginx"),
            Self::Missing(_) | Self::Chain(_) | Self::Store(_) => ("certificate.unreadable", "socle agent apply"),
        };
        ErrorReport::of(code, self, Some(hint.to_owned()))
    }
}

/// Asks the site at each of its names, over IPv4 and IPv6, like a visitor does. The first difference is told.
pub async fn look(store: &Store, wanted: &Wanted) -> Result<(), ServingError> {
    let present = store.present(&wanted.name)?.ok_or_else(|| ServingError::Missing(wanted.name.clone()))?;
    let keep = |error| ServingError::Store(StoreError::Keep(wanted.name.clone(), error));
    let pem = store.chain(&present).map_err(keep)?;
    let pem = String::from_utf8_lossy(&pem);
    let own = chain::ders(&pem).map_err(|_| ServingError::Chain(wanted.name.clone()))?;
    // A wildcard is asked for by its parent, which is wanted too.
    for name in wanted.names.iter().filter(|name| !name.is_wildcard()) {
        for address in SELF.map(|address| SocketAddr::new(address, PORT)) {
            let chain = served::served(address, name.domain(), PATIENCE).await;
            let chain = chain.map_err(|source| ServingError::Ask { name: name.clone(), source })?;
            if let Some(difference) = served::compare(&chain, &own) {
                return Err(ServingError::Differs { name: name.clone(), address, difference });
            }
        }
    }
    Ok(())
}

/// Keeps what was found, for `status` and the report.
pub fn note(records: &Records, name: &Name, found: Option<ErrorReport>) -> Result<(), RecordError> {
    let mut record = records.load(name)?;
    if record.served == found {
        return Ok(());
    }
    record.served = found;
    records.keep(name, &record)
}
