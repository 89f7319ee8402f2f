//! What a document means: names, paths, what excludes what. Pure; finds everything at once.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::parse::Places;
use super::structure::Finder;
use super::written::{self, Param, Presence};
use super::{
    Account, Database, Document, Engine, ExistingState, ExistingUnit, File, Instance, InstanceState, OwnService,
    Server, Service, Source,
};
use crate::model::unit::{Limits, Sandbox};
use crate::model::{Digest, Domain, Name};

/// The user of an instance is `socle-<name>`, and Debian's user names have 32 characters at most.
const INSTANCE_NAME: usize = 26;

/// Suffixes of units that can be enabled, disabled and masked.
const UNIT_SUFFIXES: [&str; 6] = [".service", ".socket", ".timer", ".path", ".mount", ".target"];

/// Directories the agent or the kernel fills; a `[files]` entry there would be a second master.
const NOT_FOR_FILES: [&str; 7] = ["/var/lib/socle/", "/srv/socle/", "/run/", "/proc/", "/sys/", "/dev/", "/tmp/"];

pub fn check(finder: &mut Finder, places: &Places, written: written::Document) -> Option<Document> {
    let mut check = Check { finder, places, domains: BTreeMap::new(), ports: BTreeMap::new() };
    let document = Document {
        server: check.server(&written.server),
        instances: check.map("instances", written.instances, Check::instance),
        services: check.map("services", written.services, Check::service),
        packages: check.packages(written.packages),
        accounts: check.map("accounts", written.accounts, Check::account),
        files: check.files(written.files),
        databases: check.map("databases", written.databases, Check::database),
    };
    finder.problems.is_empty().then_some(document)
}

struct Check<'f, 'a> {
    finder: &'f mut Finder<'a>,
    places: &'f Places<'f>,
    /// Names that are served, and by which instance.
    domains: BTreeMap<String, String>,
    /// What own services listen on, and which.
    ports: BTreeMap<String, String>,
}

impl Check<'_, '_> {
    fn at(&mut self, path: &[&str], reason: impl Into<String>, hint: Option<&str>) {
        let at = self.places.span(path).start;
        self.finder.add(at, reason, hint.map(str::to_owned));
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, path: &[&str], text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.at(path, error.to_string(), None);
                None
            }
        }
    }

    /// A table of named things; a bad name is a problem at the name.
    fn map<W, V>(
        &mut self,
        section: &str,
        written: BTreeMap<String, W>,
        one: impl Fn(&mut Self, &[&str], &Name, W) -> Option<V>,
    ) -> BTreeMap<Name, V> {
        let mut valid = BTreeMap::new();
        for (key, value) in written {
            let path = [section, key.as_str()];
            match key.parse::<Name>() {
                Ok(name) => {
                    if let Some(value) = one(self, &path, &name, value) {
                        valid.insert(name, value);
                    }
                }
                Err(error) => {
                    let at = self.places.key(&path).start;
                    self.finder.add(at, error.to_string(), None);
                }
            }
        }
        valid
    }

    fn server(&mut self, written: &written::Server) -> Server {
        let name = written.name.as_ref().and_then(|name| self.parsed(&["server", "name"], name));
        Server { name, drift: written.drift }
    }

    fn instance(&mut self, path: &[&str], name: &Name, written: written::Instance) -> Option<Instance> {
        let field = |field| [path[0], path[1], field];
        if name.as_str().len() > INSTANCE_NAME {
            let at = self.places.key(path).start;
            let reason = format!("the name `{name}` is too long for an instance: {INSTANCE_NAME} characters at most");
            self.finder.add(at, reason, None);
        }
        let recipe = self.parsed(&field("recipe"), &written.recipe);
        let version = self.parsed(&field("version"), &written.version);
        let domain: Option<Domain> = self.parsed(&field("domain"), &written.domain);
        let mut served: Vec<(Vec<String>, Domain)> = Vec::new();
        served.extend(domain.clone().map(|domain| (field("domain").map(str::to_owned).to_vec(), domain)));
        for (index, alias) in written.aliases.iter().enumerate() {
            let index = index.to_string();
            let place = [path[0], path[1], "aliases", &index];
            let alias = self.parsed(&place, alias);
            served.extend(alias.map(|alias| (place.map(str::to_owned).to_vec(), alias)));
        }
        if written.state != InstanceState::Absent {
            for (place, domain) in &served {
                self.served_once(place, domain, name);
            }
        }
        let member = written.member.as_ref().and_then(|member| self.parsed(&field("member"), member));
        let params = self.params(path, &written.params);
        self.limits(path, &written.limits);
        let source = written.source.as_ref().and_then(|source| self.source(path, source));
        Some(Instance {
            recipe: recipe?,
            version: version?,
            domain: domain?,
            aliases: served.into_iter().skip(1).map(|(_, domain)| domain).collect(),
            member,
            state: written.state,
            params,
            limits: written.limits,
            source,
        })
    }

    fn served_once(&mut self, place: &[String], domain: &Domain, name: &Name) {
        if let Some(first) = self.domains.insert(domain.to_string(), name.to_string()) {
            let path: Vec<&str> = place.iter().map(String::as_str).collect();
            self.at(&path, format!("`{domain}` is served by the instance `{first}` already"), None);
        }
    }

    fn params(&mut self, path: &[&str], written: &BTreeMap<String, Param>) -> BTreeMap<Name, String> {
        let mut params = BTreeMap::new();
        for (key, value) in written {
            let text = match value {
                Param::Text(text) => text.clone(),
                Param::Number(number) => number.to_string(),
                Param::Bool(flag) => flag.to_string(),
            };
            match key.parse::<Name>() {
                Ok(name) => drop(params.insert(name, text)),
                Err(error) => {
                    let at = self.places.key(&[path[0], path[1], "params", key]).start;
                    let hint = key.contains('_').then(|| format!("did you mean `{}`?", key.replace('_', "-")));
                    self.finder.add(at, error.to_string(), hint);
                }
            }
        }
        params
    }

    fn source(&mut self, path: &[&str], written: &written::Source) -> Option<Source> {
        let url = [path[0], path[1], "source", "url"];
        let sha256: Option<Option<Digest>> = match &written.sha256 {
            None => Some(None),
            Some(text) => self.parsed(&[path[0], path[1], "source", "sha256"], text).map(Some),
        };
        let rest = |scheme: &str| written.url.strip_prefix(scheme).filter(|rest| !rest.is_empty());
        if written.url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.at(&url, "a URL has no spaces and no control characters", None);
        } else if rest("http://").is_some() && written.sha256.is_none() {
            let hint = "add `sha256`, or use https";
            self.at(&url, "what comes over plain http must have a `sha256`", Some(hint));
        } else if let Some(file) = written.url.strip_prefix("file://") {
            if !file.starts_with('/') || file.split('/').any(|part| part == "..") {
                self.at(&url, "a file URL names an absolute path: `file:///path`", None);
            }
        } else if rest("https://").is_none() && rest("http://").is_none() {
            self.at(&url, format!("`{}` is not a URL this program fetches", written.url), Some("https, http or file"));
        }
        Some(Source { url: written.url.clone(), sha256: sha256? })
    }

    fn limits(&mut self, path: &[&str], limits: &Limits) {
        for (field, value, low) in
            [("memory_mb", limits.memory_mb, 16), ("cpu_percent", limits.cpu_percent, 1), ("tasks", limits.tasks, 4)]
        {
            if value.is_some_and(|value| value < low) {
                let reason = format!("`{field}` must be {low} or more: nothing runs with less");
                self.at(&[path[0], path[1], "limits", field], reason, None);
            }
        }
    }

    fn service(&mut self, path: &[&str], name: &Name, written: written::Service) -> Option<Service> {
        match (&written.unit, &written.exec) {
            (Some(_), Some(_)) => {
                self.at(path, "a service has `unit` (one that exists) or `exec` (one of its own), not both", None);
                None
            }
            (None, None) => {
                self.at(path, "a service needs `exec` (what to run) or `unit` (one that exists)", None);
                None
            }
            (Some(unit), None) => self.existing(path, unit, &written).map(Service::Existing),
            (None, Some(_)) => self.own(path, name, written).map(|own| Service::Own(Box::new(own))),
        }
    }

    fn existing(&mut self, path: &[&str], unit: &str, written: &written::Service) -> Option<ExistingUnit> {
        let field = |field| [path[0], path[1], field];
        let before = self.finder.problems.len();
        let stem = UNIT_SUFFIXES.iter().find_map(|suffix| unit.strip_suffix(suffix));
        let legal = |c: char| c.is_ascii_alphanumeric() || ":-_.@\\".contains(c);
        match stem {
            None => {
                let hint = format!("with its suffix: {}", UNIT_SUFFIXES.join(", "));
                self.at(&field("unit"), format!("`{unit}` is not the full name of a unit"), Some(&hint));
            }
            Some(stem) if stem.is_empty() || !stem.chars().all(legal) => {
                self.at(&field("unit"), format!("`{unit}` is not the name of a unit"), None);
            }
            Some(stem) if stem.starts_with("socle-") => {
                self.at(&field("unit"), format!("`{unit}` is one of socle's own"), Some("use `state` of its instance or service"));
            }
            Some(_) => {}
        }
        for (name, present) in [
            ("description", written.description.is_some()),
            ("user", written.user.is_some()),
            ("environment", !written.environment.is_empty()),
            ("working_directory", written.working_directory.is_some()),
            ("sandbox", written.sandbox != Sandbox::default()),
            ("limits", written.limits != Limits::default()),
            ("on_calendar", written.on_calendar.is_some()),
            ("listen", written.listen.is_some()),
        ] {
            if present {
                let hint = format!("use `systemctl edit {unit}`");
                self.at(&field(name), format!("`{name}` is not for a unit that exists"), Some(&hint));
            }
        }
        let state = match written.state {
            None => Some(ExistingState::Enabled),
            Some(state) => state.existing(),
        };
        if state.is_none() {
            let hint = "enabled, disabled or masked";
            self.at(&field("state"), "this is not a state of a unit that exists", Some(hint));
        }
        let unit = unit.to_owned();
        let state = state?;
        (self.finder.problems.len() == before).then_some(ExistingUnit { unit, state })
    }

    fn own(&mut self, path: &[&str], name: &Name, written: written::Service) -> Option<OwnService> {
        let field = |field| [path[0], path[1], field];
        let exec = written.exec.unwrap_or_default();
        match exec.first() {
            None => self.at(&field("exec"), "`exec` is empty", Some("exec = [\"/path/of/program\", \"argument\"]")),
            Some(program) if !absolute(program) => {
                let reason = format!("`{program}` is not an absolute path");
                self.at(&[path[0], path[1], "exec", "0"], reason, Some("programs are not searched: write the whole path"));
            }
            Some(_) => {}
        }
        for (index, word) in exec.iter().enumerate() {
            self.printable(&[path[0], path[1], "exec", &index.to_string()], word);
        }
        for (key, value) in &written.environment {
            let place = [path[0], path[1], "environment", key];
            if !environment_name(key) {
                let at = self.places.key(&place).start;
                let reason = format!("`{key}` is not the name of an environment variable: letters, digits and _");
                self.finder.add(at, reason, None);
            }
            self.printable(&place, value);
        }
        if let Some(user) = &written.user {
            self.user_name(&field("user"), user);
        }
        if let Some(directory) = written.working_directory.as_ref().filter(|directory| !absolute(directory)) {
            self.at(&field("working_directory"), format!("`{directory}` is not an absolute path"), None);
        }
        for (index, writable) in written.sandbox.writable.iter().enumerate().filter(|(_, path)| !absolute(path)) {
            let place = [path[0], path[1], "sandbox", "writable", &index.to_string()];
            self.at(&place, format!("`{writable}` is not an absolute path"), None);
        }
        for (index, call) in written.sandbox.system_calls.iter().enumerate() {
            let word = call.trim_start_matches('@');
            if word.is_empty() || !word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c)) {
                let place = [path[0], path[1], "sandbox", "system_calls", &index.to_string()];
                self.at(&place, format!("`{call}` is not a system call or group of them"), Some("like \"@chown\" or \"mlock\""));
            }
        }
        self.limits(path, &written.limits);
        self.started_by(path, name, written.on_calendar.as_deref(), written.listen.as_deref());
        if let Some(description) = &written.description {
            self.printable(&field("description"), description);
        }
        let state = match written.state {
            None => Some(InstanceState::Running),
            Some(state) => state.own(),
        };
        if state.is_none() {
            self.at(&field("state"), "this is not a state of a service with `exec`", Some("running, stopped or absent"));
        }
        Some(OwnService {
            description: written.description.unwrap_or_else(|| name.to_string()),
            exec,
            user: written.user,
            environment: written.environment,
            working_directory: written.working_directory,
            sandbox: written.sandbox,
            limits: written.limits,
            state: state?,
            on_calendar: written.on_calendar,
            listen: written.listen,
        })
    }

    fn started_by(&mut self, path: &[&str], name: &Name, on_calendar: Option<&str>, listen: Option<&str>) {
        let field = |field| [path[0], path[1], field];
        if on_calendar.is_some() && listen.is_some() {
            self.at(path, "a service is started by a calendar or by a connection, not by both", Some("make two of it"));
        }
        if let Some(calendar) = on_calendar {
            let legal = |c: char| c.is_ascii_alphanumeric() || " *-:,./~_".contains(c);
            if calendar.trim().is_empty() || !calendar.chars().all(legal) {
                let hint = "see systemd.time(7), or try `systemd-analyze calendar`";
                self.at(&field("on_calendar"), format!("`{calendar}` is not a calendar time"), Some(hint));
            }
        }
        let Some(listen) = listen else { return };
        let port = listen.rsplit_once(':').map_or(listen, |(_, port)| port);
        let address = listen.rsplit_once(':').map(|(address, _)| address.trim_matches(['[', ']']));
        match (absolute(listen), port.parse::<u16>()) {
            (true, _) => {}
            (false, Ok(80 | 443)) => {
                let hint = "make it an instance of a recipe, or let it listen on another port behind a site";
                self.at(&field("listen"), format!("port {port} is taken: nginx serves the sites there"), Some(hint));
            }
            (false, Ok(1..)) if address.is_none_or(|a| a.parse::<std::net::IpAddr>().is_ok()) => {}
            _ => {
                let hint = "like \"127.0.0.1:9000\", \"[::1]:9000\", \"9000\" or \"/run/name.sock\"";
                self.at(&field("listen"), format!("`{listen}` is not something to listen on"), Some(hint));
            }
        }
        if let Some(first) = self.ports.insert(listen.to_owned(), name.to_string()) {
            self.at(&field("listen"), format!("`{listen}` is taken by the service `{first}`"), None);
        }
    }

    fn packages(&mut self, written: BTreeMap<String, bool>) -> BTreeMap<String, bool> {
        for package in written.keys() {
            // Debian Policy 5.6.1.
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            let first = package.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            if package.len() < 2 || !first || !package.chars().all(legal) {
                let at = self.places.key(&["packages", package]).start;
                let reason = format!("`{package}` is not the name of a package: a-z, 0-9, `+`, `-` and `.`");
                self.finder.add(at, reason, None);
            }
        }
        written
    }

    fn account(&mut self, path: &[&str], name: &Name, written: written::Account) -> Option<Account> {
        let field = |field| [path[0], path[1], field];
        if name.as_str() == "root" || name.as_str().starts_with("socle") {
            let at = self.places.key(path).start;
            self.finder.add(at, format!("the account `{name}` is not for a document"), None);
        }
        if written.description.contains([':', '\n', ',']) {
            self.at(&field("description"), "a description has no `:`, no `,` and no line break (passwd(5))", None);
        }
        if let Some(home) = written.home.as_ref().filter(|home| !absolute(home)) {
            self.at(&field("home"), format!("`{home}` is not an absolute path"), None);
        }
        for (index, group) in written.groups.iter().enumerate() {
            self.user_name(&[path[0], path[1], "groups", &index.to_string()], group);
        }
        Some(Account {
            description: written.description,
            home: written.home,
            groups: written.groups.into_iter().collect(),
            present: written.state == Presence::Present,
        })
    }

    fn files(&mut self, written: BTreeMap<String, written::File>) -> BTreeMap<String, File> {
        let mut files = BTreeMap::new();
        for (path, file) in written {
            let place = ["files", path.as_str()];
            let at = self.places.key(&place).start;
            if !absolute(&path) {
                let reason = format!("`{path}` is not an absolute path without `.`, `..` and `//`");
                self.finder.add(at, reason, None);
            } else if let Some(owned) = NOT_FOR_FILES.iter().find(|owned| path.starts_with(**owned)) {
                let reason = format!("files below `{owned}` are not for a document");
                self.finder.add(at, reason, None);
            } else if path.starts_with("/etc/systemd/system/socle-") || path.starts_with("/etc/nginx/sites-available/socle-") {
                let hint = Some("use `[services]` or `[instances]`".to_owned());
                self.finder.add(at, format!("`{path}` is written by socle itself"), hint);
            }
            self.user_name(&["files", &path, "owner"], &file.owner);
            self.user_name(&["files", &path, "group"], &file.group);
            let Some(mode) = self.mode(&["files", &path, "mode"], &file.mode) else { continue };
            let present = file.state == Presence::Present;
            if !present && !file.content.is_empty() {
                self.at(&["files", &path, "content"], "a file that is absent has no content", None);
            }
            files.insert(path, File { content: file.content, owner: file.owner, group: file.group, mode, present });
        }
        files
    }

    fn mode(&mut self, path: &[&str], text: &str) -> Option<u32> {
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o777 => Some(mode),
            Ok(mode) if octal && mode > 0o777 => {
                self.at(path, format!("`{text}`: no setuid, setgid or sticky bit here"), Some("three digits: \"0755\""));
                None
            }
            _ => {
                self.at(path, format!("`{text}` is not permission bits"), Some("octal digits in quotes: \"0644\""));
                None
            }
        }
    }

    fn database(&mut self, path: &[&str], name: &Name, written: written::Database) -> Option<Database> {
        let field = |field| [path[0], path[1], field];
        if ["mysql", "postgres", "sys", "template0", "template1"].contains(&name.as_str()) {
            let at = self.places.key(path).start;
            self.finder.add(at, format!("the database `{name}` is the server's own"), None);
        }
        self.user_name(&field("owner"), &written.owner);
        if written.engine == Engine::Mariadb && !written.extensions.is_empty() {
            self.at(&field("extensions"), "only PostgreSQL has extensions", None);
        }
        for (index, extension) in written.extensions.iter().enumerate() {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
            if extension.is_empty() || !extension.chars().all(legal) {
                let place = [path[0], path[1], "extensions", &index.to_string()];
                self.at(&place, format!("`{extension}` is not the name of an extension"), None);
            }
        }
        Some(Database { engine: written.engine, owner: written.owner, extensions: written.extensions.into_iter().collect() })
    }

    /// useradd(8) of Debian, and what systemd takes.
    fn user_name(&mut self, path: &[&str], name: &str) {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
        if !first || name.len() > 32 || !name.chars().all(legal) {
            self.at(path, format!("`{name}` is not the name of a user or group"), None);
        }
    }

    fn printable(&mut self, path: &[&str], text: &str) {
        if text.chars().any(char::is_control) {
            self.at(path, "no line breaks and no control characters here", None);
        }
    }
}

fn absolute(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !path.chars().any(char::is_control)
        && path[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn environment_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
