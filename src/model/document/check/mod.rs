//! What values must be to each other, and the valid document from the written one.

mod certificates;
mod instances;
mod repositories;
mod server;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeTable;

use super::certificates::{BUILT_IN, ChallengeKind};
use super::parse::{Found, Wrong, key_offset_of, offset_of};
use super::value::Listen;
use super::{Document, Server, value, written};
use crate::model::unit::Limits;
use crate::model::{Domain, Name};

/// More than one server holds.
const MAX_INSTANCES: usize = 1000;
const MAX_SERVICES: usize = 1000;

/// Walks the written document. What must be compared across tables is collected on the way, with its
/// place, and compared at the end.
pub(super) struct Checker<'a> {
    root: &'a DeTable<'a>,
    /// What `structure` reported and cut out: not missing, but wrong.
    cut: BTreeSet<Vec<String>>,
    found: &'a mut Vec<Found>,
    domains: Vec<(usize, Domain, String)>,
    listens: Vec<(usize, Listen, String)>,
    units: Vec<(usize, String, String)>,
    users: Vec<(usize, String)>,
    /// Of `[authorities]` and `[dns]`, right or wrong.
    authorities: BTreeSet<String>,
    providers: BTreeSet<String>,
    challenge_by_default: Option<ChallengeKind>,
}

impl<'a> Checker<'a> {
    pub fn new(root: &'a DeTable<'a>, cut: BTreeSet<Vec<String>>, found: &'a mut Vec<Found>) -> Self {
        let keys = |table: &str| {
            let table = root.get(table).and_then(|table| table.get_ref().as_table());
            table.into_iter().flat_map(|table| table.keys()).map(|key| key.get_ref().to_string()).collect()
        };
        let (mut authorities, providers): (BTreeSet<String>, _) = (keys("authorities"), keys("dns"));
        authorities.extend(BUILT_IN.map(|(name, _)| name.to_owned()));
        Self {
            root,
            cut,
            found,
            domains: Vec::new(),
            listens: Vec::new(),
            units: Vec::new(),
            users: Vec::new(),
            authorities,
            providers,
            challenge_by_default: None,
        }
    }

    /// The document as far as it is valid; it counts only if nothing was found.
    pub fn document(mut self, written: written::Document) -> Document {
        let instance_names: Vec<_> = written.instances.keys().cloned().collect();
        self.challenge_by_default = written.certificates.challenge;
        let document = Document {
            server: Server {
                name: self.read(&["server", "name"], written.server.name.as_deref(), value::name),
                drift: written.server.drift,
            },
            instances: self.instances(written.instances),
            services: self.services(written.services, &instance_names),
            packages: self.packages(written.packages),
            accounts: self.accounts(written.accounts),
            files: self.files(written.files),
            databases: self.databases(written.databases),
            repositories: self.repositories(written.repositories),
            certificates: self.certificates(written.certificates),
            authorities: self.acme_authorities(written.authorities),
            dns: self.dns_providers(written.dns),
        };
        self.each_domain_once();
        self.each_unit_once();
        self.each_port_once();
        self.no_removed_user(&document);
        document
    }

    fn at(&mut self, path: &[&str], wrong: Wrong) {
        let offset = offset_of(self.root, path);
        self.found.push(wrong.at(offset));
    }

    fn at_key(&mut self, path: &[&str], wrong: Wrong) {
        let offset = key_offset_of(self.root, path);
        self.found.push(wrong.at(offset));
    }

    fn keep<T>(&mut self, path: &[&str], result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.at(path, wrong)).ok()
    }

    fn keep_key<T>(&mut self, path: &[&str], result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.at_key(path, wrong)).ok()
    }

    fn read<T>(&mut self, path: &[&str], text: Option<&str>, check: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        text.and_then(|text| self.keep(path, check(text)))
    }

    /// The good ones of a list; a second mention is a problem.
    fn list<T: Ord>(
        &mut self,
        path: &[&str],
        words: &[String],
        check: impl Fn(&str) -> Result<T, Wrong>,
    ) -> BTreeSet<T> {
        let mut all = BTreeSet::new();
        for (index, word) in words.iter().enumerate() {
            let index = index.to_string();
            let path = [path, &[&index]].concat();
            if let Some(good) = self.keep(&path, check(word))
                && !all.insert(good)
            {
                self.at(&path, Wrong::new(format!("`{word}` is in this list twice")).hint("keep one of them"));
            }
        }
        all
    }

    fn limits(&mut self, path: &[&str], limits: &Limits) {
        // Below the least nothing starts. At most 16 TiB, 1024 CPUs, and what the kernel numbers (PID_MAX_LIMIT).
        let bounds = [
            ("memory_mb", limits.memory_mb, 16, 16_777_216, "MiB: 512 is half a GiB"),
            ("cpu_percent", limits.cpu_percent, 1, 102_400, "percent of one CPU: 200 is two CPUs"),
            ("tasks", limits.tasks, 4, 4_194_304, "processes and threads"),
        ];
        for (field, number, least, most, unit) in bounds {
            if let Some(number) = number
                && !(least..=most).contains(&number)
            {
                let wrong = Wrong::new(format!("`{field}` cannot be `{number}`: {least} to {most}"));
                self.at(&[path, &["limits", field]].concat(), wrong.hint(format!("it counts {unit}")));
            }
        }
    }

    fn was_cut(&self, path: &[&str]) -> bool {
        let path: Vec<_> = path.iter().map(|step| (*step).to_owned()).collect();
        self.cut.contains(&path)
    }

    /// Remembers that a user is needed.
    fn needs_user(&mut self, path: &[&str], user: Option<&String>) {
        if let Some(user) = user {
            self.users.push((offset_of(self.root, path), user.clone()));
        }
    }

    fn each_domain_once(&mut self) {
        self.domains.sort();
        let mut seen: BTreeMap<&Domain, &str> = BTreeMap::new();
        for (offset, domain, instance) in &self.domains {
            let Some(first) = seen.get(domain) else {
                seen.insert(domain, instance);
                continue;
            };
            let wrong = if first == instance {
                Wrong::new(format!("`{domain}` is already a domain of this instance")).hint("keep one of them")
            } else {
                let wrong = Wrong::new(format!("`{domain}` is already a domain of the instance `{first}`"));
                wrong.hint("a domain leads to one instance only")
            };
            self.found.push(wrong.at(*offset));
        }
    }

    fn each_unit_once(&mut self) {
        self.units.sort();
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (offset, unit, service) in &self.units {
            let Some(first) = seen.get(unit.as_str()) else {
                seen.insert(unit, service);
                continue;
            };
            let wrong = Wrong::new(format!("`{unit}` is already the unit of the service `{first}`"));
            self.found.push(wrong.hint("keep one of them").at(*offset));
        }
    }

    fn each_port_once(&mut self) {
        self.listens.sort_by_key(|(offset, ..)| *offset);
        for (index, (offset, listen, _)) in self.listens.iter().enumerate() {
            if let Some((.., first)) = self.listens[..index].iter().find(|(_, other, _)| other.clashes(listen)) {
                let what = if matches!(listen, Listen::Path(_)) { "path" } else { "port" };
                let wrong = Wrong::new(format!("the service `{first}` already listens on this {what}"));
                self.found.push(wrong.hint(format!("choose another {what}")).at(*offset));
            }
        }
    }

    fn no_removed_user(&mut self, document: &Document) {
        for (offset, user) in &self.users {
            let account = user.parse::<Name>().ok().and_then(|name| document.accounts.get(&name));
            if account.is_some_and(|account| !account.present) {
                let wrong = Wrong::new(format!("the user `{user}` is needed here, and `[accounts.{user}]` removes it"));
                self.found.push(wrong.hint("name another user, or let the account be `present`").at(*offset));
            }
        }
    }
}
