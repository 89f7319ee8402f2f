//! The units of an instance: its PHP, its services, its timers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Build, id};
use crate::model::unit::{Ending, Readiness, Sandbox, ServiceUnit, TimerUnit};
use crate::model::{Kind, ResourceId};
use crate::recipe::schema::Exceptions;
use crate::resources::AnyDesired;
use crate::resources::release::ReleaseId;
use crate::resources::service::{Desired, Own};

use super::layout::server_unit;

/// Every unit of every instance is below this one, so that a look at it shows what all cost.
pub(super) const SLICE: &str = "socle.slice";

impl Build<'_> {
    pub(super) fn units(&mut self, release: &ReleaseId) {
        self.php(release);
        self.services(release);
        self.timers();
    }

    pub(super) fn php(&mut self, release: &ReleaseId) {
        let Some(php) = self.recipe.runtime.php.clone() else { return };
        let mut unit = self.unit("PHP", &php.sandbox, 90);
        unit.readiness = Readiness::Notify;
        // Whoever has asked gets an answer: it is given the time that `process_control_timeout` says, and some more.
        unit.ending = Ending::Quit;
        // The just-in-time compilers want memory that is writable and executable, at start already.
        let settings = ["pcre.jit=0", "opcache.jit=disable", "opcache.jit_buffer_size=0"];
        unit.exec = vec![format!("/usr/sbin/php-fpm{}", self.context.facts.php), "--nodaemonize".to_owned()];
        unit.exec.extend(settings.iter().flat_map(|setting| ["-d".to_owned(), (*setting).to_owned()]));
        unit.exec.extend(["--fpm-config".to_owned(), format!("{}/config/php-fpm.ini", self.home())]);
        unit.runtime_directory = Some(format!("socle-{}", self.name));
        self.service("php", unit, release);
    }

    pub(super) fn services(&mut self, release: &ReleaseId) {
        for service in &self.recipe.services {
            let mut unit = self.unit(service.name.as_str(), &service.sandbox, service.timeout_s);
            unit.readiness = service.readiness;
            unit.exec = self.fill_all(&service.exec);
            unit.environment.extend(self.fill_map(&service.env));
            unit.runtime_directory = service.socket.then(|| format!("socle-{}", self.name));
            self.service(service.name.as_str(), unit, release);
        }
    }

    pub(super) fn service(&mut self, part: &str, mut unit: ServiceUnit, release: &ReleaseId) {
        unit.inputs = Some(self.inputs(release));
        unit.wanted_by = vec!["multi-user.target".to_owned()];
        let name = format!("socle-{}-{part}.service", self.name);
        let text = unit.render(&name);
        self.unit_texts.insert(name.clone(), text.clone());
        let running = self.running();
        let own = own(text, running, Some(running), unit.inputs);
        let needs = self.before_start();
        self.want(Kind::Service, name, own, &needs);
    }

    fn timers(&mut self) {
        for timer in &self.recipe.timers {
            let name = format!("socle-{}-{}", self.name, timer.name);
            let mut unit = self.unit(timer.name.as_str(), &timer.sandbox, timer.timeout_s);
            unit.readiness = Readiness::Oneshot;
            unit.exec = self.fill_all(&timer.exec);
            unit.environment.extend(self.fill_map(&timer.env));
            let service = format!("{name}.service");
            let text = unit.render(&service);
            self.unit_texts.insert(service.clone(), text.clone());
            let needs = self.before_start();
            let service = self.want(Kind::Service, service, own(text, false, None, None), &needs);
            let text = TimerUnit {
                description: format!("socle: {}: {}", self.name, timer.name),
                on_calendar: timer.on_calendar.clone(),
                jitter_s: timer.jitter_s,
            }
            .render();
            self.unit_texts.insert(format!("{name}.timer"), text.clone());
            let running = self.running();
            self.want(Kind::Service, format!("{name}.timer"), own(text, running, Some(running), None), &[service]);
        }
    }

    /// What must be as wanted before a process of the instance starts.
    fn before_start(&self) -> Vec<ResourceId> {
        let kinds = [Kind::Package, Kind::Account, Kind::Directory, Kind::File, Kind::Release, Kind::Database];
        let mut needs = self.wanted(&kinds);
        needs.push(id(Kind::Setup, self.name.as_str()));
        needs
    }

    /// A unit of the instance's user in the default sandbox, with these exceptions. It has nothing
    /// to run yet.
    pub(super) fn unit(&self, part: &str, exceptions: &Exceptions, timeout_s: u32) -> ServiceUnit {
        let (home, data) = (self.home().to_owned(), self.words["data"].clone());
        let mut writable = vec![data.clone()];
        if self.recipe.runtime.php.is_some() {
            writable.push(format!("{home}/sessions"));
        }
        let outside = self.recipe.layout.directory.iter().filter(|directory| !directory.path.starts_with("data/"));
        writable.extend(outside.map(|directory| format!("{home}/{}", directory.path)));
        ServiceUnit {
            description: format!("socle: {}: {part}", self.name),
            after: self.recipe.dbs.iter().map(|db| server_unit(db.engine).to_owned()).collect(),
            readiness: Readiness::Exec,
            exec: Vec::new(),
            reload: None,
            user: Some(self.user().to_owned()),
            environment: BTreeMap::from([("HOME".to_owned(), data)]),
            working_directory: Some(home),
            runtime_directory: None,
            sandbox: Sandbox {
                writable,
                write_execute: exceptions.write_execute,
                network: exceptions.network,
                low_ports: false,
                system_calls: exceptions.system_calls.clone(),
            },
            limits: self.instance.limits.clone(),
            slice: SLICE.to_owned(),
            timeout_s,
            ending: Ending::Term,
            wanted_by: Vec::new(),
            stdin: None,
            stdout: None,
            inputs: None,
        }
    }
}

/// A unit we write. `active`: it runs, it does not run, or (None) something else starts it.
pub(super) fn own(
    text: impl Into<Arc<str>>,
    enabled: bool,
    active: Option<bool>,
    inputs: Option<crate::model::Digest>,
) -> AnyDesired {
    AnyDesired::Service(Desired::Own(Box::new(Own { text: text.into(), enabled, active, inputs })))
}
