//! `[instances]`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::parse::{Wrong, offset_of};
use super::super::{Instance, InstanceState, Source, value, written};
use super::{Checker, MAX_INSTANCES};
use crate::model::problem::shown;
use crate::model::{Name, Sealed};

impl Checker<'_> {
    pub(super) fn instances(&mut self, written: BTreeMap<String, written::Instance>) -> BTreeMap<Name, Instance> {
        if written.len() > MAX_INSTANCES {
            let wrong = Wrong::new(format!("{} instances on one server: {MAX_INSTANCES} at most", written.len()));
            self.at_key(&["instances"], wrong.hint("spread them over several servers"));
        }
        written.into_iter().filter_map(|(name, instance)| self.instance(&name, instance)).collect()
    }

    fn instance(&mut self, key: &str, written: written::Instance) -> Option<(Name, Instance)> {
        let at = |field: &'static str| ["instances", key, field];
        let name = self.keep_key(&["instances", key], value::instance_name(key));
        let recipe = self.read(&at("recipe"), written.recipe.as_deref(), value::name);
        let version = self.read(&at("version"), written.version.as_deref(), value::version);
        let domain = self.read(&at("domain"), written.domain.as_deref(), value::domain);
        let aliases = self.list(&at("aliases"), &written.aliases, value::domain);
        let member = self.read(&at("member"), written.member.as_deref(), value::name);
        let params = self.params(key, &written.params);
        let secrets = self.secrets(key, &written.secrets);
        let source = written.source.as_ref().and_then(|source| self.source(key, source));
        self.limits(&["instances", key], &written.limits);
        let certificate = self.certificate(key, written.certificate);
        // A domain may move: an absent instance no longer answers at it.
        if written.state != InstanceState::Absent {
            let place = |path: &[&str]| offset_of(self.root, path);
            let mut all: Vec<_> =
                domain.iter().map(|domain| (place(&at("domain")), domain.clone(), key.to_owned())).collect();
            let mut seen = BTreeSet::new();
            for (index, alias) in written.aliases.iter().enumerate() {
                // A second mention in the list is reported already.
                if let Ok(alias) = value::domain(alias)
                    && seen.insert(alias.clone())
                {
                    all.push((place(&["instances", key, "aliases", &index.to_string()]), alias, key.to_owned()));
                }
            }
            self.domains.extend(all);
        }
        let limits = written.limits;
        let state = written.state;
        let (version, domain) = (version?, domain?);
        let recipe = recipe?;
        Some((
            name?,
            Instance { recipe, version, domain, aliases, member, state, params, secrets, limits, source, certificate },
        ))
    }

    fn params(&mut self, key: &str, written: &BTreeMap<String, written::Param>) -> BTreeMap<Name, String> {
        let mut params = BTreeMap::new();
        for (param, answer) in written {
            let path = ["instances", key, "params", param];
            let text = match answer {
                written::Param::Text(text) => text.clone(),
                written::Param::Number(number) => number.to_string(),
                written::Param::Switch(on) => on.to_string(),
            };
            if text.contains('\0') {
                self.at(&path, Wrong::new(format!("the answer to {} has a NUL character in it", shown(param))));
            }
            if let Some(name) = self.keep_key(&path, value::name(param)) {
                params.insert(name, text);
            }
        }
        params
    }

    fn secrets(&mut self, key: &str, written: &BTreeMap<String, String>) -> BTreeMap<Name, Sealed> {
        let mut secrets = BTreeMap::new();
        for (secret, text) in written {
            let path = ["instances", key, "secrets", secret];
            let name = self.keep_key(&path, value::name(secret));
            let sealed = self.read(&path, Some(text), value::sealed);
            secrets.extend(name.zip(sealed));
        }
        secrets
    }

    fn source(&mut self, key: &str, written: &written::Source) -> Option<Source> {
        let at = |field: &'static str| ["instances", key, "source", field];
        let sha256 = self.read(&at("sha256"), written.sha256.as_deref(), value::digest);
        let has_digest = written.sha256.is_some();
        let url = self.read(&at("url"), written.url.as_deref(), |url| value::url(url, has_digest));
        Some(Source { url: url?, sha256 })
    }
}
