//! `[certificates]`, `[authorities]`, `[dns]` and the certificate of an instance.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::certificates::BUILT_IN;
use super::super::parse::Wrong;
use super::super::{
    AcmeAuthority, AcmeWish, Binding, Certificate, CertificateSource, Certificates, ChallengeKind, DnsProvider,
    SecretSource, SourceKind, value, written,
};
use super::Checker;
use crate::model::Name;
use crate::model::certificate::Limits;

/// `hsts = true`: what the preload list asks for (RFC 6797, 6.1.1).
const YEAR_S: u32 = 31_536_000;

/// What ordering is about, as written at a server or an instance.
struct Wish<'a> {
    authorities: &'a [String],
    challenge: Option<ChallengeKind>,
    dns: Option<&'a str>,
    rest: AcmeWish,
}

impl Checker<'_> {
    pub(super) fn certificates(&mut self, written: written::Certificates) -> Certificates {
        let at = |field: &'static str| ["certificates", field];
        let contacts = self.list(&at("contacts"), &written.contacts, value::contact).into_iter().collect();
        let rest = AcmeWish {
            key_type: written.key_type,
            profile: self.read(&at("profile"), written.profile.as_deref(), value::profile),
            ..AcmeWish::default()
        };
        let wish =
            Wish { authorities: &written.authorities, challenge: written.challenge, dns: written.dns.as_deref(), rest };
        let acme = self.wish(&["certificates"], wish);
        if acme.challenge == Some(ChallengeKind::Dns01) && written.dns.is_none() {
            self.at(&at("challenge"), no_provider());
        }
        if acme.challenge != Some(ChallengeKind::Dns01) && written.dns.is_some() {
            let wrong = Wrong::new("`dns` is for the challenge `dns-01`");
            self.at_key(&at("dns"), wrong.hint("add `challenge = \"dns-01\"`, or take `dns` out"));
        }
        let hsts = self.hsts(&at("hsts"), written.hsts.as_ref());
        Certificates { contacts, acme, hsts }
    }

    fn wish(&mut self, path: &[&str], written: Wish<'_>) -> AcmeWish {
        let at = |field: &'static str| [path, &[field]].concat();
        // Their order says something, so a set of them is not enough.
        let good = self.list(&at("authorities"), written.authorities, value::name);
        let mut authorities = Vec::new();
        for (index, text) in written.authorities.iter().enumerate() {
            let Some(name) = text.parse::<Name>().ok().filter(|name| good.contains(name)) else { continue };
            if !self.authorities.contains(name.as_str()) {
                let known = self.authorities.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let wrong = Wrong::new(format!("there is no authority `{name}`"));
                let hint = format!("describe it in `[authorities.{name}]`; known are {known}");
                self.at(&[&at("authorities")[..], &[&index.to_string()]].concat(), wrong.hint(hint));
            }
            if !authorities.contains(&name) {
                authorities.push(name);
            }
        }
        let dns = self.read(&at("dns"), written.dns, value::name);
        if let Some(dns) = &dns
            && !self.providers.contains(dns.as_str())
        {
            let wrong = Wrong::new(format!("there is no DNS provider `{dns}`"));
            self.at(&at("dns"), wrong.hint(format!("describe it in `[dns.{dns}]`")));
        }
        AcmeWish { authorities, challenge: written.challenge, dns, ..written.rest }
    }

    pub(super) fn certificate(&mut self, key: &str, written: Option<written::Certificate>) -> Certificate {
        let Some(written) = written else { return Certificate::default() };
        let path = ["instances", key, "certificate"];
        let at = |field: &'static str| ["instances", key, "certificate", field];
        self.only_for_its_source(key, &written);
        let rest = AcmeWish {
            key_type: written.key_type,
            profile: self.read(&at("profile"), written.profile.as_deref(), value::profile),
            ..AcmeWish::default()
        };
        let wish =
            Wish { authorities: &written.authorities, challenge: written.challenge, dns: written.dns.as_deref(), rest };
        let acme = self.wish(&path, wish);
        let by_default = self.challenge_by_default;
        let challenge = acme.challenge.or(by_default).unwrap_or(ChallengeKind::Http01);
        if acme.challenge == Some(ChallengeKind::Dns01)
            && acme.dns.is_none()
            && by_default != Some(ChallengeKind::Dns01)
        {
            self.at(&at("challenge"), no_provider());
        }
        if challenge == ChallengeKind::Http01 && written.dns.is_some() {
            let wrong = Wrong::new("`dns` is for the challenge `dns-01`");
            self.at_key(&at("dns"), wrong.hint("add `challenge = \"dns-01\"`, or take `dns` out"));
        }
        let ordered = matches!(written.source, None | Some(SourceKind::Acme));
        if ordered && challenge == ChallengeKind::Http01 && written.wildcard {
            let wrong = Wrong::new("a wildcard can only be proven by `dns-01`");
            self.at(&at("wildcard"), wrong.hint("add `challenge = \"dns-01\"` and `dns`, or take `wildcard` out"));
        }
        let source = self.certificate_source(key, &written);
        let hsts = self.hsts(&at("hsts"), written.hsts.as_ref());
        Certificate { source, acme, wildcard: written.wildcard, hsts }
    }

    fn certificate_source(&mut self, key: &str, written: &written::Certificate) -> Option<CertificateSource> {
        let at = |field: &'static str| ["instances", key, "certificate", field];
        match written.source? {
            SourceKind::Acme => Some(CertificateSource::Acme),
            SourceKind::SelfSigned => Some(CertificateSource::SelfSigned),
            SourceKind::Internal => Some(CertificateSource::Internal),
            SourceKind::Files => {
                for (field, given) in [("chain", written.chain.is_some()), ("key", written.key.is_some())] {
                    if !given && !self.was_cut(&at(field)) {
                        let wrong =
                            Wrong::new(format!("the certificate is to come from files, and `{field}` is missing"));
                        self.at(&at("source"), wrong.hint("name both: `chain = \"/etc/…/fullchain.pem\"` and `key`"));
                    }
                }
                let chain = self.read(&at("chain"), written.chain.as_deref(), value::path);
                let key = self.read(&at("key"), written.key.as_deref(), value::path);
                Some(CertificateSource::Files { chain: PathBuf::from(chain?), key: PathBuf::from(key?) })
            }
        }
    }

    /// What is written for another source than the one asked for would be without effect.
    fn only_for_its_source(&mut self, key: &str, written: &written::Certificate) {
        let source = written.source.unwrap_or(SourceKind::Acme);
        let files = [("chain", written.chain.is_some()), ("key", written.key.is_some())];
        let ordered = [
            ("authorities", !written.authorities.is_empty()),
            ("challenge", written.challenge.is_some()),
            ("dns", written.dns.is_some()),
            ("key_type", written.key_type.is_some()),
            ("profile", written.profile.is_some()),
        ];
        let (given, only) = match source {
            SourceKind::Files => (&ordered[..], "that are ordered: `source = \"acme\"`"),
            SourceKind::Acme => (&files[..], "that are brought: `source = \"files\"`"),
            SourceKind::SelfSigned | SourceKind::Internal => (&ordered[..], "that are ordered: `source = \"acme\"`"),
        };
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            let wrong = Wrong::new(format!("`{field}` is for certificates {only}"));
            self.at_key(&["instances", key, "certificate", field], wrong.hint("take it out, or change `source`"));
        }
    }

    fn hsts(&mut self, path: &[&str], written: Option<&written::Hsts>) -> Option<u32> {
        match written? {
            written::Hsts::Switch(on) => Some(if *on { YEAR_S } else { 0 }),
            written::Hsts::Seconds(seconds) => match u32::try_from(*seconds) {
                Ok(seconds) if seconds <= 2 * YEAR_S => Some(seconds),
                _ => {
                    let wrong = Wrong::new(format!("`hsts` is a number of seconds from 0 to {}", 2 * YEAR_S));
                    self.at(path, wrong.hint("`true` is a year; begin with a day: 86400"));
                    None
                }
            },
        }
    }

    pub(super) fn acme_authorities(
        &mut self,
        written: BTreeMap<String, written::Authority>,
    ) -> BTreeMap<Name, AcmeAuthority> {
        let described = written.into_iter().filter_map(|(key, authority)| self.acme_authority(&key, authority));
        described.collect()
    }

    fn acme_authority(&mut self, key: &str, written: written::Authority) -> Option<(Name, AcmeAuthority)> {
        let at = |field: &'static str| ["authorities", key, field];
        let name = self.keep_key(&["authorities", key], value::name(key));
        if BUILT_IN.iter().any(|(name, _)| *name == key) {
            let wrong = Wrong::new(format!("the authority `{key}` is built in"));
            self.at_key(&["authorities", key], wrong.hint("take this table out, or choose another name"));
        }
        let directory = self.read(&at("directory"), written.directory.as_deref(), value::directory);
        let roots = self.read(&at("roots"), written.roots.as_deref(), value::path);
        let contacts = written
            .contacts
            .map(|contacts| self.list(&at("contacts"), &contacts, value::contact).into_iter().collect::<Vec<_>>());
        let binding = match written.binding {
            Some(binding) => Some(self.binding(key, &binding)?),
            None => None,
        };
        let (own, ours) = (written.limits, Limits::LETS_ENCRYPT);
        let limits = Limits {
            orders_per_3h: own.orders_per_3h.unwrap_or(ours.orders_per_3h),
            certificates_per_domain_7d: own.certificates_per_domain_7d.unwrap_or(ours.certificates_per_domain_7d),
            duplicates_7d: own.duplicates_7d.unwrap_or(ours.duplicates_7d),
        };
        Some((
            name?,
            AcmeAuthority { directory: directory?, roots: roots.map(PathBuf::from), contacts, binding, limits },
        ))
    }

    fn binding(&mut self, key: &str, written: &written::Binding) -> Option<Binding> {
        let at = |field: &'static str| ["authorities", key, "binding", field];
        let id = self.read(&at("id"), written.id.as_deref(), value::line);
        let sealed = self.read(&at("key"), written.key.as_deref(), value::sealed);
        let file = self.read(&at("key_file"), written.key_file.as_deref(), value::path);
        let key = match (written.key.is_some(), written.key_file.is_some()) {
            (true, true) => {
                let wrong = Wrong::new("the binding has both `key` and `key_file`");
                self.at_key(&at("key_file"), wrong.hint("keep one of them"));
                None
            }
            (false, false) => {
                if !self.was_cut(&at("key")) && !self.was_cut(&at("key_file")) {
                    let wrong = Wrong::new("the binding has neither `key` nor `key_file`");
                    let hint = "`key = \"sealed:…\"`, or a file of the server: `key_file = \"/etc/socle/secrets/…\"`";
                    self.at(&["authorities", key, "binding"], wrong.hint(hint));
                }
                None
            }
            _ => sealed.map(SecretSource::Sealed).or(file.map(|file| SecretSource::File(file.into()))),
        };
        Some(Binding { id: id?, key: key? })
    }

    pub(super) fn dns_providers(
        &mut self,
        written: BTreeMap<String, written::Provider>,
    ) -> BTreeMap<Name, DnsProvider> {
        written.into_iter().filter_map(|(key, provider)| self.dns_provider(&key, provider)).collect()
    }

    fn dns_provider(&mut self, key: &str, written: written::Provider) -> Option<(Name, DnsProvider)> {
        let at = |field: &'static str| ["dns", key, field];
        let name = self.keep_key(&["dns", key], value::name(key));
        let kind = self.read(&at("provider"), written.provider.as_deref(), |text| value::name(text).map(String::from));
        if written.provider.as_deref() == Some("exec") {
            match written.command.first() {
                Some(program) => drop(self.keep(&["dns", key, "command", "0"], value::program(program))),
                None if self.was_cut(&at("command")) => {}
                None => {
                    let wrong = Wrong::new("the DNS provider is a program, and `command` is missing");
                    self.at(&at("provider"), wrong.hint("add `command = [\"/usr/local/bin/…\"]`"));
                }
            }
        } else if !written.command.is_empty() {
            let wrong = Wrong::new("`command` is for `provider = \"exec\"`");
            self.at_key(&at("command"), wrong.hint("take it out, or change `provider`"));
        }
        for (index, argument) in written.command.iter().enumerate().skip(1) {
            self.keep(&["dns", key, "command", &index.to_string()], value::line(argument));
        }
        let mut settings = BTreeMap::new();
        for (setting, answer) in written.settings {
            let text = match answer {
                written::Param::Text(text) => text,
                written::Param::Number(number) => number.to_string(),
                written::Param::Switch(on) => on.to_string(),
            };
            self.keep_key(&["dns", key, "settings", &setting], value::setting(&setting));
            self.keep(&["dns", key, "settings", &setting], value::line(&text));
            settings.insert(setting, text);
        }
        let mut secrets = BTreeMap::new();
        for (secret, text) in &written.secrets {
            let path = ["dns", key, "secrets", secret];
            self.keep_key(&path, value::setting(secret));
            secrets
                .extend(self.read(&path, Some(text), value::sealed).map(|s| (secret.clone(), SecretSource::Sealed(s))));
        }
        for (secret, text) in &written.secret_files {
            let path = ["dns", key, "secret_files", secret];
            self.keep_key(&path, value::setting(secret));
            if written.secrets.contains_key(secret) {
                let wrong = Wrong::new(format!("`{secret}` is in `secrets` and in `secret_files`"));
                self.at_key(&path, wrong.hint("keep one of them"));
            }
            let file = self.read(&path, Some(text), value::path);
            secrets.extend(file.map(|file| (secret.clone(), SecretSource::File(file.into()))));
        }
        Some((name?, DnsProvider { kind: kind?, settings, secrets, command: written.command }))
    }
}

fn no_provider() -> Wrong {
    Wrong::new("the challenge `dns-01` needs a DNS provider")
        .hint("add `dns = \"NAME\"` and describe it in `[dns.NAME]`")
}
