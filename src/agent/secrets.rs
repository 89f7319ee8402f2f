//! Secrets generated on this server: 0600, one file each, below `secrets/<instance>/`.
//!
//! A missing one is made up in memory; the pass writes it (as a file resource, in Stage) before anything
//! uses it. So a plan writes nothing, and a crash before the write loses nothing.

use std::path::{Path, PathBuf};

use crate::durable::{self, DurableError};
use crate::model::{Name, Secret};

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read a secret of `{instance}`")]
    Read { instance: Name, source: DurableError },
    #[error("the secret `{path}` is not text")]
    NotText { path: PathBuf },
}

/// The secret's value on disk, if it is there.
pub fn read(state: &Path, instance: &Name, secret: &Name) -> Result<Option<Secret>, SecretError> {
    let path = state.join("secrets").join(instance.as_str()).join(secret.as_str());
    let bytes = durable::read(&path).map_err(|source| SecretError::Read { instance: instance.clone(), source })?;
    match bytes.map(String::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(Secret::new(text))),
        Some(Err(_)) => Err(SecretError::NotText { path }),
    }
}
