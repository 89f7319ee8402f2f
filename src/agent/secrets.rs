//! Secrets generated on this server: 0600, one file each, below `secrets/<instance>/`.
//!
//! One that the document gives, sealed to this server, is opened instead.
//!
//! A missing one is made up in memory; the pass writes it (as a file resource, in Stage) before anything
//! uses it. So a plan writes nothing, and a crash before the write loses nothing.

use std::path::{Path, PathBuf};

use super::enrolment::{EnrolError, Identity};
use crate::durable::{self, DurableError};
use crate::model::{Name, Sealed, Secret};
use crate::recipe::CompileProblem;
use crate::wire::seal::{self, Purpose};

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

/// Opens what was sealed to this server. Its key is read when the first is to be opened.
#[derive(Default)]
pub struct Sealing(Option<Option<Identity>>);

impl Sealing {
    /// The secret, or what is wrong with it; the value is in neither error.
    pub fn open(
        &mut self,
        state: &Path,
        instance: &Name,
        secret: &Name,
        sealed: &Sealed,
    ) -> Result<Result<Secret, CompileProblem>, EnrolError> {
        if self.0.is_none() {
            self.0 = Some(Identity::load(state)?);
        }
        let path = ["instances", instance.as_str(), "secrets", secret.as_str()].map(str::to_owned).to_vec();
        let problem =
            |reason: &str, hint: String| Ok(Err(CompileProblem { path, reason: reason.to_owned(), hint: Some(hint) }));
        let Some(Some(identity)) = &self.0 else {
            return problem(
                "only a server of a fleet has a key that secrets are sealed to",
                "enrol it: socle agent join --token-file FILE".to_owned(),
            );
        };
        let purpose = Purpose { server: &identity.server, instance, secret };
        let opened = seal::open(identity.sealing_private(), purpose, sealed).ok();
        let again = format!("socle fleet seal {} {instance} {secret}", identity.server);
        match opened.map(String::from_utf8) {
            Some(Ok(text)) if !text.is_empty() && !text.contains(char::is_control) => Ok(Ok(Secret::new(text))),
            Some(_) => problem("the sealed secret is empty or not a line of text", again),
            None => problem("it was not sealed for this server, instance and secret", again),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_fleet_there_is_no_key() {
        let state = tempfile::tempdir().unwrap();
        let sealed = Sealed::from_parts(&[1; 32], &[2; 20]);
        let name = |text: &str| text.parse::<Name>().unwrap();
        let opened = Sealing::default().open(state.path(), &name("blog"), &name("admin"), &sealed).unwrap();
        assert_eq!(opened.unwrap_err().path, ["instances", "blog", "secrets", "admin"]);
    }
}
