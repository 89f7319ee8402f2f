use super::*;
use crate::host::certificates::{StoreError, key, key::KeyError};
use crate::model::Name;
use crate::model::certificate::KeyType;

#[derive(Debug, thiserror::Error)]
enum ApplyCertificate {
    #[error("cannot make a certificate")]
    Make(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Guarantees: certificate and key change together; what an order put in place meanwhile is not overwritten (then the
/// next pass looks again).
pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let failed = |error: &ApplyCertificate| ApplyError::host("certificate.store", error, None);
    let name: Name = name.parse().expect("a certificate is named like its instance");
    let store = store(host);
    let work = match change.clone() {
        Change::SelfSign { names, now, seen } => tokio::task::spawn_blocking(move || {
            let bundle = key::self_signed(&names, KeyType::P256, now)?;
            Ok(store.commit(&name, &bundle, seen)?)
        }),
        Change::Take { bundle, seen, .. } => {
            tokio::task::spawn_blocking(move || Ok(store.commit(&name, &bundle, seen)?))
        }
    };
    work.await.expect("writing files does not panic").map(drop).map_err(|error: ApplyCertificate| failed(&error))
}
