//! `[services]`.

use std::collections::BTreeMap;

use super::super::parse::{Wrong, offset_of};
use super::super::written::ServiceState;
use super::super::{ExistingState, ExistingUnit, InstanceState, OwnService, Service, value, written};
use super::{Checker, MAX_SERVICES};
use crate::model::Name;
use crate::model::unit::Sandbox;

impl Checker<'_> {
    pub(super) fn services(
        &mut self,
        written: BTreeMap<String, written::Service>,
        instances: &[String],
    ) -> BTreeMap<Name, Service> {
        if written.len() > MAX_SERVICES {
            let wrong = Wrong::new(format!("{} services on one server: {MAX_SERVICES} at most", written.len()));
            self.at_key(&["services"], wrong.hint("spread them over several servers"));
        }
        let mut services = BTreeMap::new();
        for (key, service) in written {
            let name = self.keep_key(&["services", &key], value::service_name(&key));
            let service = match (&service.unit, &service.exec) {
                (Some(_), Some(_)) => {
                    let wrong = Wrong::new(format!("the service `{key}` has both `unit` and `exec`"));
                    let hint = "`unit` names a unit that exists already, `exec` makes a new one: keep one of them";
                    self.at_key(&["services", &key, "exec"], wrong.hint(hint));
                    None
                }
                (None, None) if ["unit", "exec"].iter().any(|field| self.was_cut(&["services", &key, field])) => None,
                (None, None) => {
                    let wrong = Wrong::new(format!("the service `{key}` has neither `exec` nor `unit`"));
                    let hint = "add `exec = [\"/usr/bin/…\"]` for a unit of its own, or `unit = \"….service\"` for one that exists";
                    self.at(&["services", &key], wrong.hint(hint));
                    None
                }
                (Some(_), None) => self.existing(&key, &service),
                (None, Some(_)) => {
                    self.not_in_an_instance(&key, instances);
                    self.own(&key, service)
                }
            };
            if let (Some(name), Some(service)) = (name, service) {
                services.insert(name, service);
            }
        }
        services
    }

    /// Units `socle-<instance>-…` are those of the instance.
    fn not_in_an_instance(&mut self, key: &str, instances: &[String]) {
        let inside = |instance: &&String| key.strip_prefix(instance.as_str()).is_some_and(|rest| rest.starts_with('-'));
        if let Some(instance) = instances.iter().find(inside) {
            let reason = format!("the unit `socle-{key}.service` would be one of the instance `{instance}`");
            let hint = format!("choose a name that does not begin with `{instance}-`");
            self.at_key(&["services", key], Wrong::new(reason).hint(hint));
        }
    }

    fn existing(&mut self, key: &str, written: &written::Service) -> Option<Service> {
        let given = [
            ("description", written.description.is_some()),
            ("user", written.user.is_some()),
            ("environment", written.environment.is_some()),
            ("working_directory", written.working_directory.is_some()),
            ("on_calendar", written.on_calendar.is_some()),
            ("listen", written.listen.is_some()),
            ("sandbox", written.sandbox.is_some()),
            ("limits", written.limits.is_some()),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            let wrong = Wrong::new(format!("`{field}` is not for a unit that exists already"));
            let hint = "take it out, or write a drop-in with `systemctl edit`";
            self.at_key(&["services", key, field], wrong.hint(hint));
        }
        let path = ["services", key, "unit"];
        let unit = self.read(&path, written.unit.as_deref(), value::unit);
        if let Some(unit) = &unit {
            self.units.push((offset_of(self.root, &path), unit.clone(), key.to_owned()));
        }
        let state = match written.state {
            Some(ServiceState::Enabled) | None => ExistingState::Enabled,
            Some(ServiceState::Disabled) => ExistingState::Disabled,
            Some(ServiceState::Masked) => ExistingState::Masked,
            Some(other) => {
                let (word, instead) = match other {
                    ServiceState::Running => ("running", "`enabled`"),
                    ServiceState::Stopped => ("stopped", "`disabled`"),
                    _ => ("absent", "`disabled` or `masked`"),
                };
                let wrong = Wrong::new(format!("`{word}` is not a state of a unit that exists already"));
                self.at(&["services", key, "state"], wrong.hint(format!("write {instead}")));
                return None;
            }
        };
        Some(Service::Existing(ExistingUnit { unit: unit?, state }))
    }

    fn own(&mut self, key: &str, written: written::Service) -> Option<Service> {
        let at = |field: &'static str| ["services", key, field];
        let state = self.own_state(key, written.state);
        let description = written.description.as_deref().unwrap_or(key);
        let description = self.read(&at("description"), Some(description), value::line);
        let exec = self.exec(key, &written.exec.unwrap_or_default());
        let user = self.read(&at("user"), written.user.as_deref(), value::user);
        let working_directory = self.read(&at("working_directory"), written.working_directory.as_deref(), value::path);
        let environment = written.environment.unwrap_or_default();
        self.environment(key, &environment);
        let sandbox = written.sandbox.unwrap_or_default();
        self.sandbox(key, &sandbox);
        let limits = written.limits.unwrap_or_default();
        self.limits(&["services", key], &limits);
        let on_calendar = self.read(&at("on_calendar"), written.on_calendar.as_deref(), value::calendar);
        let listen = self.read(&at("listen"), written.listen.as_deref(), value::listen);
        if written.on_calendar.is_some() && written.listen.is_some() {
            let wrong = Wrong::new(format!("the service `{key}` has both `on_calendar` and `listen`"));
            self.at_key(&at("on_calendar"), wrong.hint("it is started by a time or by a connection: keep one of them"));
        }
        if state != Some(InstanceState::Absent) {
            self.needs_user(&at("user"), user.as_ref());
            if let Some(listen) = listen {
                self.listens.push((offset_of(self.root, &at("listen")), listen, key.to_owned()));
            }
        }
        Some(Service::Own(Box::new(OwnService {
            description: description?,
            exec: exec?,
            user,
            environment,
            working_directory,
            sandbox,
            limits,
            state: state?,
            on_calendar,
            listen: written.listen,
        })))
    }

    fn own_state(&mut self, key: &str, written: Option<ServiceState>) -> Option<InstanceState> {
        let (word, instead) = match written {
            None | Some(ServiceState::Running) => return Some(InstanceState::Running),
            Some(ServiceState::Stopped) => return Some(InstanceState::Stopped),
            Some(ServiceState::Absent) => return Some(InstanceState::Absent),
            Some(ServiceState::Enabled) => ("enabled", "`running`"),
            Some(ServiceState::Disabled) => ("disabled", "`stopped`"),
            Some(ServiceState::Masked) => ("masked", "`stopped` or `absent`"),
        };
        let wrong =
            Wrong::new(format!("`{word}` is a state of a unit that exists already, and this one is made by `exec`"));
        self.at(&["services", key, "state"], wrong.hint(format!("write {instead}")));
        None
    }

    fn exec(&mut self, key: &str, words: &[String]) -> Option<Vec<String>> {
        let Some((program, arguments)) = words.split_first() else {
            let wrong = Wrong::new("`exec` is empty");
            self.at(&["services", key, "exec"], wrong.hint("the absolute path of a program, then its arguments"));
            return None;
        };
        let mut good = self.keep(&["services", key, "exec", "0"], value::program(program)).is_some();
        for (index, argument) in arguments.iter().enumerate() {
            let path = ["services", key, "exec", &(index + 1).to_string()];
            good &= self.keep(&path, value::line(argument)).is_some();
        }
        good.then(|| words.to_vec())
    }

    fn environment(&mut self, key: &str, variables: &BTreeMap<String, String>) {
        for (variable, text) in variables {
            let path = ["services", key, "environment", variable];
            self.keep_key(&path, value::variable(variable));
            self.keep(&path, value::line(text));
        }
    }

    fn sandbox(&mut self, key: &str, sandbox: &Sandbox) {
        self.list(&["services", key, "sandbox", "writable"], &sandbox.writable, value::writable_path);
        let calls = &sandbox.system_calls;
        self.list(&["services", key, "sandbox", "system_calls"], calls, |call| {
            value::system_call(call).map(|()| call.to_owned())
        });
    }
}
