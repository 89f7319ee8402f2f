//! A whole document: every instance, and what it wants without a recipe.

use std::collections::{BTreeMap, BTreeSet};

use super::units::{SLICE, own};
use super::{CompileProblem, Context, Facts, Https, NAME_MAX, compile, content, id};
use crate::model::backup::SCRATCH;
use crate::model::document::{Document, ExistingState, Instance, InstanceState, OwnService, Service};
use crate::model::unit::{Ending, Limits, Readiness, Sandbox, ServiceUnit, SocketUnit, TimerUnit};
use crate::model::{Kind, Name, ResourceId, Secret};
use crate::recipe::compile::layout::{server_package, server_unit};
use crate::recipe::{Catalog, Recipe, SecretSpec};
use crate::resources::{AnyDesired, Wanted, account, database, file, package, service};

/// What the recipes say to `document`, before anything is known of the server but its facts.
pub fn check_document(document: &Document, catalog: &Catalog, facts: &Facts) -> Vec<CompileProblem> {
    let recipe = |instance: &Instance| catalog.get(&instance.recipe).map(Recipe::secrets).unwrap_or_default();
    let stand_in = |spec: SecretSpec| (spec.name, Secret::new("x".repeat(spec.length)));
    let secrets = document.instances.iter();
    let secrets = secrets.map(|(name, i)| (name.clone(), recipe(i).into_iter().map(stand_in).collect())).collect();
    let (keep, seen, certificates) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let context = Context {
        facts,
        secrets: &secrets,
        keep: &keep,
        seen: &seen,
        python_index: None,
        certificates: &certificates,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    compile_document(document, catalog, &context).err().unwrap_or_default()
}

/// Every resource of `document`, each once; or every problem.
pub fn compile_document(
    document: &Document,
    catalog: &Catalog,
    context: &Context<'_>,
) -> Result<Vec<Wanted>, Vec<CompileProblem>> {
    let mut join = Join::default();
    join.packages(document);
    join.accounts(document);
    join.databases(document);
    join.files(document);
    join.services(document);
    join.repositories(document);
    for instance in &document.instances {
        join.instance(document, instance, catalog, context);
    }
    join.problems.sort();
    if join.problems.is_empty() { Ok(join.wanted.into_values().collect()) } else { Err(join.problems) }
}

/// A table of the document: `instances`, `blog`.
type Place = [String; 2];

fn place(section: &str, name: impl ToString) -> Place {
    [section.to_owned(), name.to_string()]
}

fn needed_only(desired: &AnyDesired) -> bool {
    matches!(desired, AnyDesired::Service(service::Desired::Needed))
}

/// The document enables a unit that is needed anyway: the same, and a bit more.
fn enabled_by_hand(desired: &AnyDesired) -> bool {
    matches!(desired, AnyDesired::Service(service::Desired::Existing(ExistingState::Enabled)))
}

/// What is wanted so far.
#[derive(Default)]
struct Join {
    wanted: BTreeMap<ResourceId, Wanted>,
    /// Where in the document each came from first.
    places: BTreeMap<ResourceId, Place>,
    problems: Vec<CompileProblem>,
}

impl Join {
    /// Two that want the same are joined; two that want different things are a problem.
    fn add(&mut self, place: &Place, wanted: Wanted) {
        let Some(first) = self.wanted.get_mut(&wanted.id) else {
            self.places.insert(wanted.id.clone(), place.clone());
            self.wanted.insert(wanted.id.clone(), wanted);
            return;
        };
        if needed_only(&first.desired) && enabled_by_hand(&wanted.desired) {
            first.desired = wanted.desired.clone();
        }
        let weaker = needed_only(&wanted.desired) && enabled_by_hand(&first.desired);
        if weaker || same(&first.desired, &wanted.desired) {
            first.needs.extend(wanted.needs);
            return;
        }
        let reason = format!("`{}` is wanted otherwise by `{}`", wanted.id, self.places[&wanted.id].join("."));
        self.problems.push(CompileProblem { path: place.to_vec(), reason, hint: None });
    }

    fn simple(&mut self, place: &Place, id: ResourceId, desired: AnyDesired, needs: BTreeSet<ResourceId>) {
        self.add(place, Wanted { id, desired, needs, owner: None });
    }

    fn packages(&mut self, document: &Document) {
        for (name, present) in &document.packages {
            let desired = AnyDesired::Package(package::Desired { present: *present });
            self.simple(&place("packages", name), id(Kind::Package, name), desired, BTreeSet::new());
        }
    }

    fn accounts(&mut self, document: &Document) {
        for (name, wanted) in &document.accounts {
            let desired = account::Desired {
                present: wanted.present,
                description: wanted.description.clone(),
                home: wanted.home.clone().unwrap_or_else(|| "/nonexistent".to_owned()),
                groups: wanted.groups.clone(),
                readers: BTreeSet::new(),
            };
            let place = place("accounts", name);
            // A group of a package exists once the package is there.
            self.simple(&place, id(Kind::Account, name.as_str()), AnyDesired::Account(desired), packages(document));
        }
    }

    fn files(&mut self, document: &Document) {
        for (path, wanted) in &document.files {
            let desired = file::Desired {
                present: wanted.present,
                content: content(wanted.content.clone()),
                owner: wanted.owner.clone(),
                group: wanted.group.clone(),
                mode: wanted.mode,
                write: file::Write::Always,
            };
            let mut needs = packages(document);
            needs.extend(accounts(document, [&wanted.owner, &wanted.group]));
            self.simple(&place("files", path), id(Kind::File, path), AnyDesired::File(desired), needs);
        }
    }

    fn databases(&mut self, document: &Document) {
        if document.databases.keys().any(|name| name.as_str() == SCRATCH) {
            self.problems.push(kept_for_drills(&["databases", SCRATCH]));
        }
        for (name, wanted) in &document.databases {
            let place = place("databases", name);
            let (server, unit) = (server_package(wanted.engine), server_unit(wanted.engine));
            let present = AnyDesired::Package(package::Desired { present: true });
            self.simple(&place, id(Kind::Package, server), present, BTreeSet::new());
            let enabled = AnyDesired::Service(service::Desired::Needed);
            self.simple(&place, id(Kind::Service, unit), enabled, [id(Kind::Package, server)].into());
            let desired =
                database::Desired { present: true, owner: wanted.owner.clone(), extensions: wanted.extensions.clone() };
            let mut needs: BTreeSet<_> = [id(Kind::Service, unit)].into();
            needs.extend(accounts(document, [&wanted.owner]));
            let name = format!("{}:{}", wanted.engine.as_str(), name.as_str().replace('-', "_"));
            self.simple(&place, id(Kind::Database, name), AnyDesired::Database(desired), needs);
        }
    }

    fn services(&mut self, document: &Document) {
        for (name, wanted) in &document.services {
            let place = place("services", name);
            match wanted {
                Service::Existing(existing) => {
                    let desired = AnyDesired::Service(service::Desired::Existing(existing.state));
                    self.simple(&place, id(Kind::Service, &existing.unit), desired, packages(document));
                }
                Service::Own(own) if own.state == InstanceState::Absent => {}
                Service::Own(own) => self.own_service(&place, name, own, document),
            }
        }
    }

    fn own_service(&mut self, place: &Place, name: &Name, wanted: &OwnService, document: &Document) {
        let unit_name = |suffix| format!("socle-{name}.{suffix}");
        let running = wanted.state == InstanceState::Running;
        let started_by_another = wanted.on_calendar.is_some() || wanted.listen.is_some();
        let mut needs = packages(document);
        needs.extend(document.files.keys().map(|path| id(Kind::File, path)));
        needs.extend(accounts(document, wanted.user.iter()));
        let unit = ServiceUnit {
            description: wanted.description.clone(),
            after: Vec::new(),
            readiness: if wanted.on_calendar.is_some() { Readiness::Oneshot } else { Readiness::Exec },
            exec: wanted.exec.clone(),
            reload: None,
            user: wanted.user.clone(),
            environment: wanted.environment.clone(),
            working_directory: wanted.working_directory.clone(),
            runtime_directory: None,
            sandbox: wanted.sandbox.clone(),
            limits: wanted.limits.clone(),
            slice: SLICE.to_owned(),
            timeout_s: 90,
            ending: Ending::Term,
            wanted_by: if started_by_another { Vec::new() } else { vec!["multi-user.target".to_owned()] },
            stdin: None,
            stdout: None,
            inputs: None,
        };
        let text = unit.render(&unit_name("service"));
        let desired = match (started_by_another, running) {
            (false, running) => own(text, running, Some(running), None),
            (true, true) => own(text, false, None, None),
            (true, false) => own(text, false, Some(false), None),
        };
        let service = id(Kind::Service, unit_name("service"));
        let owned = |id, desired, needs| Wanted { id, desired, needs, owner: Some(name.to_string()) };
        self.add(place, owned(service.clone(), desired, needs));
        if let Some(on_calendar) = &wanted.on_calendar {
            let timer =
                TimerUnit { description: wanted.description.clone(), on_calendar: on_calendar.clone(), jitter_s: 0 };
            let desired = own(timer.render(), running, Some(running), None);
            self.add(place, owned(id(Kind::Service, unit_name("timer")), desired, [service.clone()].into()));
        }
        if let Some(listen) = &wanted.listen {
            let socket = SocketUnit { description: wanted.description.clone(), listen: listen.clone(), private: false };
            let desired = own(socket.render(), running, Some(running), None);
            self.add(place, owned(id(Kind::Service, unit_name("socket")), desired, [service].into()));
        }
    }

    /// The services that the timers start come with the program: `socle-backup@.service`,
    /// `socle-backup-remote@.service`, which reaches its repository by the way made here, `socle-drill@.service`.
    fn repositories(&mut self, document: &Document) {
        for (name, repository) in &document.repositories {
            if let Some(server) = repository.location.place().server() {
                self.way_to(name, server);
            }
            let timer = TimerUnit {
                description: format!("socle: backup to {name}"),
                on_calendar: repository.on_calendar.clone(),
                // Not every server of an owner at the same minute.
                jitter_s: 1800,
            };
            let desired = own(timer.render(), true, Some(true), None);
            let service = if repository.location.is_remote() { "socle-backup-remote" } else { "socle-backup" };
            let timer = id(Kind::Service, format!("{service}@{name}.timer"));
            self.simple(&place("repositories", name), timer, desired, BTreeSet::new());
            let drill = TimerUnit {
                description: format!("socle: a drill of a backup in {name}"),
                // When the night's backups are made, as a rule.
                on_calendar: "*-*-* 04:30:00".to_owned(),
                jitter_s: 3600,
            };
            let desired = own(drill.render(), true, Some(true), None);
            let drill = id(Kind::Service, format!("socle-drill@{name}.timer"));
            self.simple(&place("repositories", name), drill, desired, BTreeSet::new());
        }
    }

    /// A socket of root's that leads to the server of a repository and nowhere else: who reads every file of this
    /// server for a backup has no network.
    fn way_to(&mut self, name: &Name, server: String) {
        let description = format!("socle: the way to the repository {name}");
        let idle = "--exit-idle-time=30s".to_owned();
        let unit = ServiceUnit {
            description: description.clone(),
            after: Vec::new(),
            readiness: Readiness::Notify,
            exec: vec!["/usr/lib/systemd/systemd-socket-proxyd".to_owned(), idle, server],
            reload: None,
            user: None,
            environment: BTreeMap::new(),
            working_directory: None,
            runtime_directory: None,
            sandbox: Sandbox::default(),
            limits: Limits::default(),
            slice: SLICE.to_owned(),
            timeout_s: 90,
            ending: Ending::Term,
            wanted_by: Vec::new(),
            stdin: None,
            stdout: None,
            inputs: None,
        };
        let unit_name = |suffix| format!("socle-reach@{name}.{suffix}");
        let service = id(Kind::Service, unit_name("service"));
        let desired = own(unit.render(&unit_name("service")), false, None, None);
        self.simple(&place("repositories", name), service.clone(), desired, BTreeSet::new());
        let socket = SocketUnit { description, listen: format!("/run/socle/reach/{name}"), private: true };
        let desired = own(socket.render(), true, Some(true), None);
        let socket = id(Kind::Service, unit_name("socket"));
        self.simple(&place("repositories", name), socket, desired, [service].into());
    }

    fn instance(
        &mut self,
        document: &Document,
        (name, instance): (&Name, &Instance),
        catalog: &Catalog,
        context: &Context<'_>,
    ) {
        if instance.state == InstanceState::Absent {
            return;
        }
        if name.as_str() == SCRATCH {
            self.problems.push(kept_for_drills(&["instances", SCRATCH]));
            return;
        }
        let Some(recipe) = catalog.get(&instance.recipe) else {
            let known: Vec<_> = catalog.iter().map(|recipe| recipe.app.id.as_str()).collect();
            let hint = match catalog.meant(&instance.recipe) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known: {}", known.join(", ")),
            };
            let reason = format!("there is no recipe `{}`", instance.recipe);
            self.problems.push(CompileProblem::new(&["instances", name.as_str(), "recipe"], reason, Some(hint)));
            return;
        };
        let https = Https { names: document.certificate_of(name, instance).names, hsts: document.hsts_of(instance) };
        match compile(name, instance, recipe, context, &https) {
            Ok(resources) => {
                let place = place("instances", name);
                resources.into_iter().for_each(|wanted| self.add(&place, wanted));
            }
            Err(problems) => {
                let place = ["instances", name.as_str()];
                self.problems.extend(problems.into_iter().map(|problem| problem.below(place)));
            }
        }
    }
}

fn kept_for_drills(path: &[&str]) -> CompileProblem {
    CompileProblem::new(path, format!("the name `{SCRATCH}` is kept for drills of backups"), None)
}

/// Packages come before anything that may be part of them: users, units, directories.
fn packages(document: &Document) -> BTreeSet<ResourceId> {
    document.packages.iter().filter(|(_, present)| **present).map(|(name, _)| id(Kind::Package, name)).collect()
}

fn accounts<'a>(document: &Document, users: impl IntoIterator<Item = &'a String>) -> BTreeSet<ResourceId> {
    let declared = |user: &String| document.accounts.keys().any(|name| name.as_str() == user);
    users.into_iter().filter(|user| declared(user)).map(|user| id(Kind::Account, user)).collect()
}

fn same(left: &AnyDesired, right: &AnyDesired) -> bool {
    match (left, right) {
        (AnyDesired::Package(left), AnyDesired::Package(right)) => left == right,
        (AnyDesired::Account(left), AnyDesired::Account(right)) => left == right,
        (AnyDesired::Directory(left), AnyDesired::Directory(right)) => left == right,
        (AnyDesired::File(left), AnyDesired::File(right)) => left == right,
        (AnyDesired::Release(left), AnyDesired::Release(right)) => left == right,
        (AnyDesired::Database(left), AnyDesired::Database(right)) => left == right,
        (AnyDesired::Service(left), AnyDesired::Service(right)) => left == right,
        (AnyDesired::Site(left), AnyDesired::Site(right)) => left == right,
        (AnyDesired::Setup(left), AnyDesired::Setup(right)) => left == right,
        _ => false,
    }
}

const _: () = assert!(NAME_MAX == 32 - "socle-".len());
