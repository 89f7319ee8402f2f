//! Removal for good: what an instance keeps after it was withdrawn.

use std::collections::BTreeSet;

use super::Ledger;
use super::reconcile::{Agent, AgentError};
use crate::engine::{Events, consequence, pass};
use crate::model::document::{Document, Instance, InstanceState};
use crate::model::report::Report;
use crate::model::{Content, Kind, Name, ResourceId};
use crate::resources::{AnyDesired, Wanted};
use crate::resources::{account, database, directory, file, setup};

impl Agent {
    /// What a purge would remove.
    pub async fn plan_purge(&self, name: &Name) -> Result<consequence::Preview, AgentError> {
        let ledger = Ledger::load(&self.state)?;
        let wanted = self.unwanted(&ledger, name)?;
        let plan = pass::preview(&self.host, &wanted).await;
        Ok(consequence::preview(&self.host, &plan, Vec::new()).await)
    }

    /// Removes data, databases, account and secrets of an instance no document wants running.
    pub async fn purge(&self, name: &Name, events: &dyn Events) -> Result<Report, AgentError> {
        let lock = self.lock("socle agent purge")?;
        // What a killed backup left in its home cannot be removed like files.
        let woken = self.wake_left(&lock).await?;
        let mut ledger = Ledger::load(&self.state)?;
        let wanted = self.unwanted(&ledger, name)?;
        let target = pass::Target {
            generation: ledger.generation(),
            wanted: &wanted,
            notes: Vec::new(),
            journal: &self.state,
            at: (self.now)(),
        };
        let passed = pass::run(&self.host, target, &lock, events).await.map_err(AgentError::Journal)?;
        if passed.report.converged {
            // Only now: until everything is gone, a purge interrupted half-way knows what to remove.
            ledger.good.remove(name);
            ledger.previous.remove(name);
            ledger.condemned.remove(name);
            ledger.store(&self.state, &lock)?;
        }
        let mut report = passed.report;
        report.notes.extend(woken.notes());
        Ok(report)
    }

    /// Everything else as it is wanted, and of this instance only what must go.
    fn unwanted(&self, ledger: &Ledger, name: &Name) -> Result<Vec<Wanted>, AgentError> {
        let document = match self.accepted(ledger) {
            Err(AgentError::NothingAccepted) => Document::default(),
            document => document?,
        };
        let written = document.instances.get(name);
        if written.is_some_and(|instance| instance.state != InstanceState::Absent) {
            return Err(AgentError::StillWanted(name.clone()));
        }
        let was = ledger.good.get(name).map(|good| &good.instance).or(written);
        let was = was.ok_or_else(|| AgentError::NoSuchInstance(name.clone()))?;
        let mut target = ledger.target(ledger.generation(), &document);
        let present = Instance { state: InstanceState::Running, ..was.clone() };
        target.document.instances.insert(name.clone(), present);
        let wanted = self.compile(ledger, &target)?;
        let (of_it, others): (Vec<Wanted>, Vec<Wanted>) =
            wanted.into_iter().partition(|w| w.owner.as_deref() == Some(name.as_str()));
        let gone: Vec<Wanted> = of_it.iter().filter_map(|w| gone(w, name)).collect();
        Ok(others
            .into_iter()
            .chain(gone)
            .chain([root_only_gone(name, "secrets"), root_only_gone(name, "tls")])
            .collect())
    }
}

/// The opposite of a resource of the instance; `None` where nothing need be said: its units and its site
/// are withdrawn because nobody wants them, its files lie in its directories.
fn gone(w: &Wanted, name: &Name) -> Option<Wanted> {
    let home = format!("/srv/socle/{name}");
    let desired = match &w.desired {
        AnyDesired::Database(desired) => AnyDesired::Database(database::Desired { present: false, ..desired.clone() }),
        AnyDesired::Account(desired) => AnyDesired::Account(account::Desired { present: false, ..desired.clone() }),
        AnyDesired::Setup(desired) => AnyDesired::Setup(setup::Desired { present: false, ..desired.clone() }),
        AnyDesired::Directory(desired) if w.id.name == home => {
            AnyDesired::Directory(directory::Desired { present: false, ..desired.clone() })
        }
        AnyDesired::File(desired) if !below(&w.id.name, &home) => {
            AnyDesired::File(file::Desired { present: false, content: Content::new(""), ..desired.clone() })
        }
        _ => return None,
    };
    // The account goes last: until then its number must not be given to somebody else.
    let needs = match w.id.kind {
        Kind::Account => BTreeSet::from([ResourceId::new(Kind::Directory, home)]),
        _ => BTreeSet::new(),
    };
    Some(Wanted { id: w.id.clone(), desired, needs, owner: w.owner.clone() })
}

fn below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// A directory of the instance below the state directory.
fn root_only_gone(name: &Name, what: &str) -> Wanted {
    let (owner, group) = ("root".into(), "root".into());
    let desired = directory::Desired { present: false, owner, group, mode: 0o700, whole: false };
    Wanted {
        id: ResourceId::new(Kind::Directory, format!("/var/lib/socle/{what}/{name}")),
        desired: AnyDesired::Directory(desired),
        needs: BTreeSet::new(),
        owner: Some(name.to_string()),
    }
}
