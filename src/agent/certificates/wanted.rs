//! From a document to what its certificates need, and back to how they stand.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::record::Records;
use super::standing;
use crate::agent::reconcile::Agent;
use crate::agent::secrets::Sealing;
use crate::durable::{self, DurableError};
use crate::host::certificates::{Bundle, Store, chain};
use crate::host::dns;
use crate::model::certificate::{Authority, Limits, Origin, Provider, Settings, Source, Standing, Wanted};
use crate::model::document::{BUILT_IN, Document, SecretSource};
use crate::model::report::ErrorReport;
use crate::model::{Name, Secret};
use crate::recipe::{CertificateFacts, CompileProblem};
use crate::resources::certificate::{self, STATE};

/// A certificate with its authorities takes some KiB.
const MOST: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
enum BroughtError {
    #[error("there is no file `{0}`")]
    Missing(String),
    #[error("cannot read `{0}`")]
    Read(String, #[source] DurableError),
    #[error("cannot look at `{0}`")]
    Look(String, #[source] std::io::Error),
    #[error("`{0}` is longer than any certificate")]
    TooLong(String),
    #[error("`{0}` is not text")]
    NotText(String),
    #[error("everybody can read the private key `{0}`")]
    Open(String),
    #[error("the certificate in `{chain}` cannot be used: {problems}")]
    Unusable { chain: String, problems: String },
}

/// A secret that cannot be had, and where the document asks for it.
pub struct Fault {
    pub path: Vec<String>,
    pub error: ErrorReport,
}

/// Why a secret of `[dns]` or `[authorities]` cannot be had. Never holds it.
#[derive(Debug, thiserror::Error)]
enum SecretFault {
    #[error("`{place}` needs the secret in `{path}`, and there is no such file")]
    Missing { place: String, path: String },
    #[error("`{place}` needs the secret in `{path}`, which cannot be read")]
    Read { place: String, path: String, source: DurableError },
    #[error("`{place}`: the secret in `{path}` is not one line of text")]
    NotALine { place: String, path: String },
    #[error("`{place}`: everybody can read the secret in `{path}`")]
    Open { place: String, path: String },
    #[error("`{place}`: {reason}")]
    Sealed { place: String, reason: String },
}

impl Agent {
    /// Where the certificates are.
    pub fn certificates(&self) -> Store {
        Store::new(&self.host.path(STATE))
    }

    /// What compiling a document needs to know of the certificates that are here.
    pub(in crate::agent) fn certificate_facts(&self, document: &Document) -> BTreeMap<Name, CertificateFacts> {
        let store = self.certificates();
        let wanted = document.certificates_wanted().into_values();
        wanted
            .map(|wanted| {
                // What cannot be read is said where the resource is looked at; the site waits for that.
                let present = store.present(&wanted.name).ok().flatten();
                let trusted = present.is_some_and(|present| present.meta.source != Origin::SelfSigned);
                let source = match &wanted.source {
                    Source::Files { chain, key } => self.brought(chain, key, &wanted),
                    Source::Acme(_) | Source::Internal | Source::SelfSigned => certificate::Source::BestThereIs,
                };
                (wanted.name, CertificateFacts { trusted, source })
            })
            .collect()
    }

    /// What is wrong with the files the document names, at their places in it.
    pub(in crate::agent) fn brought_problems(facts: &BTreeMap<Name, CertificateFacts>) -> Vec<CompileProblem> {
        let problem = |(name, facts): (&Name, &CertificateFacts)| {
            let certificate::Source::Unusable(report) = &facts.source else { return None };
            let path = ["instances", name.as_str(), "certificate", "chain"].map(str::to_owned).to_vec();
            Some(CompileProblem { path, reason: report.to_string(), hint: report.hint.clone() })
        };
        facts.iter().filter_map(problem).collect()
    }

    /// What is wrong with `[dns]` and the secrets of `[authorities]`, at their places.
    pub(in crate::agent) fn provider_problems(&self, document: &Document) -> Vec<CompileProblem> {
        let (settings, faults) = self.certificate_settings(document);
        let of_secrets = faults.into_iter().map(|fault| CompileProblem {
            path: fault.path,
            reason: fault.error.to_string(),
            hint: fault.error.hint,
        });
        let of_settings = settings.providers.iter().flat_map(|(name, provider)| {
            let path = vec!["dns".to_owned(), name.to_string()];
            let problem = move |reason| CompileProblem { path: path.clone(), reason, hint: None };
            dns::settings::problems(provider).into_iter().map(problem)
        });
        of_secrets.chain(of_settings).collect()
    }

    fn brought(&self, chain: &Path, key: &Path, wanted: &Wanted) -> certificate::Source {
        let error = match self.bundle(chain, key, wanted) {
            Ok(bundle) => return certificate::Source::Brought(Box::new(bundle)),
            Err(error) => error,
        };
        let hint = match &error {
            BroughtError::Open(path) => format!("chmod 0600 {path}"),
            _ => "bring a certificate for all names of the instance, with its authorities, and its key".to_owned(),
        };
        certificate::Source::Unusable(ErrorReport::of("certificate.brought", &error, Some(hint)))
    }

    fn bundle(&self, chain: &Path, key: &Path, wanted: &Wanted) -> Result<Bundle, BroughtError> {
        let text = |path: &Path, private: bool| {
            let (shown, place) = (path.display().to_string(), self.host.path(path));
            let seen = match std::fs::metadata(&place) {
                Ok(seen) => seen,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(BroughtError::Missing(shown)),
                Err(error) => return Err(BroughtError::Look(shown, error)),
            };
            if seen.len() > MOST {
                return Err(BroughtError::TooLong(shown));
            }
            if private && seen.mode() & 0o004 != 0 {
                return Err(BroughtError::Open(shown));
            }
            let bytes = durable::read(&place).map_err(|error| BroughtError::Read(shown.clone(), error))?;
            String::from_utf8(bytes.unwrap_or_default()).map_err(|_| BroughtError::NotText(shown))
        };
        let (chain_text, key_text) = (text(chain, false)?, text(key, true)?);
        let now = (self.now)();
        Bundle::brought(chain_text, key_text, &wanted.names, now).map_err(|problems| BroughtError::Unusable {
            chain: chain.display().to_string(),
            problems: chain::All(&problems).to_string(),
        })
    }

    /// All that ordering needs, secrets opened. An authority or provider whose secret cannot be had is left out and
    /// told: what needs it fails by itself, and the others go on.
    pub fn certificate_settings(&self, document: &Document) -> (Settings, Vec<Fault>) {
        let mut opening = Opening { agent: self, sealing: Sealing::default(), faults: Vec::new() };
        let contacts = &document.certificates.contacts;
        let mut authorities: BTreeMap<Name, Authority> = BUILT_IN
            .iter()
            .map(|(name, directory)| {
                let authority = Authority {
                    directory: (*directory).to_owned(),
                    roots: None,
                    contacts: contacts.clone(),
                    binding: None,
                    limits: Limits::LETS_ENCRYPT,
                };
                (name.parse().expect("a built-in name is a name"), authority)
            })
            .collect();
        for (name, described) in &document.authorities {
            let binding = match &described.binding {
                None => None,
                Some(binding) => {
                    let owner = format!("acme-{name}");
                    match opening.secret(["authorities", name.as_str(), "binding"], &owner, &binding.key) {
                        Some(key) => Some((binding.id.clone(), key)),
                        None => continue,
                    }
                }
            };
            let authority = Authority {
                directory: described.directory.clone(),
                roots: described.roots.as_ref().map(|path| self.host.path(path)),
                contacts: described.contacts.clone().unwrap_or_else(|| contacts.clone()),
                binding,
                limits: described.limits,
            };
            authorities.insert(name.clone(), authority);
        }
        let mut providers = BTreeMap::new();
        for (name, described) in &document.dns {
            let owner = format!("dns-{name}");
            let secrets: Option<BTreeMap<String, Secret>> = described
                .secrets
                .iter()
                .map(|(secret, source)| {
                    let place = ["dns", name.as_str(), secret];
                    Some((secret.clone(), opening.secret(place, &owner, source)?))
                })
                .collect();
            if let Some(secrets) = secrets {
                let (kind, settings) = (described.kind.clone(), described.settings.clone());
                providers
                    .insert(name.clone(), Provider { kind, settings, secrets, command: described.command.clone() });
            }
        }
        let certificates = document.certificates_wanted();
        (Settings { certificates, authorities, providers }, opening.faults)
    }

    /// One secret that the document names, opened; see [`Opening::secret`].
    pub(in crate::agent) fn named_secret(
        &self,
        path: [&str; 3],
        owner: &str,
        source: &SecretSource,
    ) -> Result<Secret, ErrorReport> {
        let mut opening = Opening { agent: self, sealing: Sealing::default(), faults: Vec::new() };
        let opened = opening.secret(path, owner, source);
        opened.ok_or_else(|| opening.faults.remove(0).error)
    }

    /// How the certificates of a document stand.
    pub fn standings(&self, document: &Document) -> Vec<Standing> {
        let (store, now) = (self.certificates(), (self.now)());
        let records = Records::new(store.clone());
        let wanted = document.certificates_wanted().into_values();
        wanted.map(|wanted| standing::of(&wanted, &store, &records, now)).collect()
    }
}

/// Secrets of a document, on their way to being used.
struct Opening<'a> {
    agent: &'a Agent,
    sealing: Sealing,
    faults: Vec<Fault>,
}

impl Opening<'_> {
    /// `path`: section, table and name. `owner` and the name are what a secret was sealed for: `dns-ovh
    /// application-key`.
    fn secret(&mut self, path: [&str; 3], owner: &str, source: &SecretSource) -> Option<Secret> {
        let (place, name) = (path.join("."), path[2]);
        let place = place.as_str();
        let (opened, hint) = match source {
            SecretSource::File(path) => (self.read(place, path), format!("chmod 0600 {}", path.display())),
            SecretSource::Sealed(sealed) => {
                let name = name.to_ascii_lowercase().replace('_', "-");
                let reason = |reason: String| SecretFault::Sealed { place: place.to_owned(), reason };
                let opened = match (owner.parse::<Name>(), name.parse::<Name>()) {
                    (Ok(owner), Ok(secret)) => match self.sealing.open(&self.agent.state, &owner, &secret, sealed) {
                        Ok(Ok(secret)) => Ok(secret),
                        Ok(Err(problem)) => Err(reason(problem.reason)),
                        Err(error) => Err(reason(error.to_string())),
                    },
                    _ => Err(reason(format!("`{owner}` is too long for a sealed secret"))),
                };
                (opened, format!("socle fleet seal SERVER {owner} {name}"))
            }
        };
        let told = |fault: SecretFault| Fault {
            // The table: whether `secrets` or `secret_files` names it is seen there.
            path: path[..2].iter().map(|&step| step.to_owned()).collect(),
            error: ErrorReport::of("certificate.secret", &fault, Some(hint)),
        };
        opened.map_err(|fault| self.faults.push(told(fault))).ok()
    }

    fn read(&self, place: &str, path: &Path) -> Result<Secret, SecretFault> {
        let (place, shown) = (place.to_owned(), path.display().to_string());
        let on_disk = self.agent.host.path(path);
        if std::fs::metadata(&on_disk).is_ok_and(|seen| seen.mode() & 0o004 != 0) {
            return Err(SecretFault::Open { place, path: shown });
        }
        let bytes = match durable::read(&on_disk) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(SecretFault::Missing { place, path: shown }),
            Err(source) => return Err(SecretFault::Read { place, path: shown, source }),
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        match text.trim_end_matches(['\n', '\r']) {
            line if line.is_empty() || line.contains(char::is_control) => {
                Err(SecretFault::NotALine { place, path: shown })
            }
            line => Ok(Secret::new(line.to_owned())),
        }
    }
}
