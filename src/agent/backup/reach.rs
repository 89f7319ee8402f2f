//! How a repository is reached: where the document says it is, with the secrets it names or those that a person
//! brings along.

use serde::Deserialize;

use super::{BackupError, key};
use crate::agent::reconcile::Agent;
use crate::durable;
use crate::host::vault::{Access, Location, Pace, SshKey, Way};
use crate::model::document::{HostKey, Repository, RepositoryPlace, SecretSource};
use crate::model::{Name, Secret};

/// In the agent's state: the key by which this server is let in where backups are.
const SSH_KEY: &str = "backup-ssh-key";

/// Credentials in a file of TOML: of a server that is gone, or of whoever may delete.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Brought {
    password: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    /// The private key itself, in OpenSSH's form.
    ssh_key: Option<String>,
    host_keys: Vec<HostKey>,
    region: Option<String>,
    /// The certificates themselves, as PEM.
    roots: Option<String>,
}

impl Brought {
    /// What is wrong is told by its line only: the text holds secrets.
    pub fn parse(text: &str) -> Result<Self, BackupError> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            BackupError::Credentials(line)
        })
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        let text = match name {
            "password" => &self.password,
            "access-key-id" => &self.access_key_id,
            "secret-access-key" => &self.secret_access_key,
            _ => &None,
        };
        text.as_ref().map(Secret::new)
    }
}

impl Agent {
    /// How a repository whose key is here is opened.
    pub fn access(&self, name: &Name, repository: &Repository) -> Result<Access, BackupError> {
        self.access_by(name, repository, None)
    }

    /// The same, with what was brought before what the document names.
    pub fn access_by(
        &self,
        name: &Name,
        repository: &Repository,
        brought: Option<&Brought>,
    ) -> Result<Access, BackupError> {
        let key = key::read(&self.state, name)?.ok_or_else(|| BackupError::NoKey(name.clone()))?;
        self.access_with(name, repository, key, brought)
    }

    pub(super) fn access_with(
        &self,
        name: &Name,
        repository: &Repository,
        password: Secret,
        brought: Option<&Brought>,
    ) -> Result<Access, BackupError> {
        let location = self.location(name, repository, brought)?;
        let bytes = |kib: Option<u32>| kib.map(|kib| u64::from(kib) << 10);
        let pace = Pace { up: bytes(repository.limit_upload_kib), down: bytes(repository.limit_download_kib) };
        let way = Way { through: None, roots: self.roots(name, repository, brought)? };
        Ok(Access { location, password, pace, append_only: repository.append_only, way })
    }

    fn location(
        &self,
        name: &Name,
        repository: &Repository,
        brought: Option<&Brought>,
    ) -> Result<Location, BackupError> {
        let needed = |what| BackupError::NotBrought { location: repository.location.to_string(), what };
        let secret = |what: &'static str| match brought.and_then(|brought| brought.secret(what)) {
            Some(secret) => Ok(secret),
            None => self.named(name, repository, what)?.ok_or_else(|| needed(what)),
        };
        Ok(match repository.location.place() {
            RepositoryPlace::Directory => Location::Directory(self.host.path(repository.location.as_str())),
            RepositoryPlace::Rest { url, user } => {
                let user = user.as_ref().map(|user| Ok::<_, BackupError>((user.clone(), secret("password")?)));
                Location::Rest { url: url.clone(), user: user.transpose()? }
            }
            RepositoryPlace::Sftp { user, host, port, path } => {
                let theirs = brought.map(|brought| &brought.host_keys).filter(|keys| !keys.is_empty());
                let host_keys: Vec<_> =
                    theirs.unwrap_or(&repository.host_keys).iter().map(HostKey::to_string).collect();
                if host_keys.is_empty() {
                    return Err(needed("host-keys"));
                }
                let identity = match brought.and_then(|brought| brought.ssh_key.as_ref()) {
                    Some(key) => Secret::new(key),
                    None => self.ssh_key()?.private().map_err(|_| BackupError::SshKey(self.state.join(SSH_KEY)))?,
                };
                let (user, host, port, path) = (user.clone(), host.clone(), *port, path.clone());
                Location::Sftp { host, port, user, path, identity, host_keys }
            }
            RepositoryPlace::S3 { endpoint, bucket, prefix } => {
                let region = brought.and_then(|brought| brought.region.as_ref()).or(repository.region.as_ref());
                Location::S3 {
                    endpoint: endpoint.clone(),
                    // restic's default.
                    region: region.map_or_else(|| "us-east-1".to_owned(), Clone::clone),
                    bucket: bucket.clone(),
                    prefix: prefix.clone(),
                    key: secret("access-key-id")?,
                    secret: secret("secret-access-key")?,
                }
            }
        })
    }

    /// What the certificate of its server is checked against, if it is not the system's.
    fn roots(
        &self,
        name: &Name,
        repository: &Repository,
        brought: Option<&Brought>,
    ) -> Result<Option<String>, BackupError> {
        if let Some(roots) = brought.and_then(|brought| brought.roots.clone()) {
            return Ok(Some(roots));
        }
        let Some(path) = repository.roots.as_ref().map(|path| self.host.path(path)) else { return Ok(None) };
        let read = std::fs::read_to_string(&path);
        read.map(Some).map_err(|source| BackupError::Roots { name: name.clone(), path, source })
    }

    /// The secret that the document names, if it names one.
    fn named(&self, name: &Name, repository: &Repository, secret: &str) -> Result<Option<Secret>, BackupError> {
        let Some((_, source)) = repository.secrets.iter().find(|(known, _)| known.as_str() == secret) else {
            return Ok(None);
        };
        let path = ["repositories", name.as_str(), secret];
        let opened = self.named_secret(path, &format!("backup-{name}"), source);
        opened.map(Some).map_err(BackupError::Secret)
    }

    /// The key by which this server is let in, made if there was none.
    pub fn ssh_key(&self) -> Result<SshKey, BackupError> {
        let path = self.state.join(SSH_KEY);
        let damaged = || BackupError::SshKey(path.clone());
        if let Some(bytes) = durable::read(&path).map_err(BackupError::Record)? {
            let text = String::from_utf8(bytes).map_err(|_| damaged())?;
            return SshKey::from_text(&text).map_err(|_| damaged());
        }
        let mut seed = [0; 32];
        (self.random)(&mut seed);
        let server = super::run::server(self, &self.document()?);
        let key = SshKey::from_seed(&seed, &format!("socle@{server}")).map_err(|_| damaged())?;
        self.keep_ssh_key(&key)?;
        Ok(key)
    }

    fn keep_ssh_key(&self, key: &SshKey) -> Result<(), BackupError> {
        let path = self.state.join(SSH_KEY);
        super::make_private(&self.state)?;
        let text = key.private().map_err(|_| BackupError::SshKey(path.clone()))?;
        durable::write(&path, text.expose().as_bytes(), 0o600).map_err(BackupError::Record)
    }

    /// What was brought to recover a server is what it had: where the document looks for a secret and finds none,
    /// it is put, so that the server goes on with the repository.
    pub(super) fn keep_brought(&self, repository: &Repository, brought: &Brought) -> Result<(), BackupError> {
        for (name, source) in &repository.secrets {
            let (SecretSource::File(path), Some(secret)) = (source, brought.secret(name.as_str())) else { continue };
            let path = self.host.path(path);
            if durable::read(&path).map_err(BackupError::Record)?.is_none() {
                super::make_private(path.parent().unwrap_or(&self.state))?;
                durable::write(&path, format!("{}\n", secret.expose()).as_bytes(), 0o600)
                    .map_err(BackupError::Record)?;
            }
        }
        if let (Some(path), Some(roots)) = (&repository.roots, &brought.roots) {
            let path = self.host.path(path);
            if durable::read(&path).map_err(BackupError::Record)?.is_none() {
                super::make_private(path.parent().unwrap_or(&self.state))?;
                durable::write(&path, roots.as_bytes(), 0o644).map_err(BackupError::Record)?;
            }
        }
        let path = self.state.join(SSH_KEY);
        match &brought.ssh_key {
            Some(text) if durable::read(&path).map_err(BackupError::Record)?.is_none() => {
                self.keep_ssh_key(&SshKey::from_text(text).map_err(|_| BackupError::SshKey(path))?)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_credentials_is_told_without_them() {
        let brought = Brought::parse("password = \"hush\"\nregion = \"garage\"\n").unwrap();
        assert_eq!(brought.secret("password"), Some(Secret::new("hush")));
        assert_eq!(brought.secret("access-key-id"), None);
        for (text, line) in [("password = 1234", 1), ("region = \"x\"\npasswort = \"hush\"", 2), ("hush", 1)] {
            let error = Brought::parse(text).err().unwrap();
            assert!(matches!(error, BackupError::Credentials(found) if found == line), "{error}");
            assert!(!format!("{error:?} {error}").contains("hush"));
        }
    }
}
