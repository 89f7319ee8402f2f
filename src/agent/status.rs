//! What runs, in which version, since when, what failed, and what to try next. Looks; changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Ledger;
use super::reconcile::{Agent, AgentError};
use crate::host::UnitState;
use crate::model::backup::BackupStanding;
use crate::model::certificate::Standing;
use crate::model::document::{Document, Instance, InstanceState};
use crate::model::report::{Report, Status as LineStatus};
use crate::model::{Generation, Name};
use crate::resources::{AnyDesired, service};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub generation: Generation,
    /// When the document was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<jiff::Timestamp>,
    /// What the last pass said: everything as wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converged: Option<bool>,
    pub instances: Vec<InstanceStatus>,
    pub services: Vec<UnitStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Standing>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<BackupStanding>,
    /// What is wrong outside of instances.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    pub name: Name,
    pub recipe: Name,
    pub domain: String,
    pub state: State,
    pub wanted_version: String,
    /// The version that is current on disk, if any was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_version: Option<String>,
    /// Since when all of its units run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    pub units: Vec<UnitStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// One command to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Stopped,
    Failed,
    Absent,
    /// Could not be looked at, or no pass was made yet.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    pub unit: String,
    pub active: String,
    pub sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Agent {
    pub async fn status(&self) -> Result<Status, AgentError> {
        let ledger = Ledger::load(&self.state)?;
        let document = match self.accepted(&ledger) {
            Err(AgentError::NothingAccepted) => Document::default(),
            document => document?,
        };
        let mut problems = Vec::new();
        let report = self.last_report()?.and_then(|report| match report {
            Ok(report) => Some(report),
            Err(error) => {
                problems.push(format!(
                    "the report of the last pass is damaged ({error}); `socle agent apply` writes it anew"
                ));
                None
            }
        });
        let names = self.units_of(&ledger, &document)?;
        let all: BTreeSet<String> = names.values().flatten().cloned().collect();
        let units = match self.host.units.details(&all).await {
            Ok(units) => units,
            Err(error) => {
                problems.push(error.report().to_string());
                BTreeMap::new()
            }
        };
        if let Some(report) = &report {
            problems.extend(failures(report, None));
        }
        let instances = document
            .instances
            .iter()
            .map(|(name, instance)| {
                let mine = names.get(name.as_str()).into_iter().flatten();
                let mine = mine.map(|unit| unit_status(unit, units.get(unit))).collect();
                self.instance(name, instance, &ledger, report.as_ref(), mine)
            })
            .collect();
        let services = document.services.keys().flat_map(|name| names.get(name.as_str()).into_iter().flatten());
        Ok(Status {
            generation: ledger.generation(),
            accepted_at: ledger.accepted.as_ref().map(|accepted| accepted.at),
            converged: report.as_ref().map(|report| report.converged),
            instances,
            certificates: self.standings(&document),
            backups: self.backup_standings(&document, ledger.accepted.as_ref().map(|accepted| accepted.at)),
            services: services.map(|unit| unit_status(unit, units.get(unit))).collect(),
            problems,
        })
    }

    fn instance(
        &self,
        name: &Name,
        instance: &Instance,
        ledger: &Ledger,
        report: Option<&Report>,
        units: Vec<UnitStatus>,
    ) -> InstanceStatus {
        let current = std::fs::read_link(self.host.path(format!("/srv/socle/{name}/current"))).ok();
        let running_version = current.and_then(|target| {
            let id = target.file_name()?.to_str()?.to_owned();
            Some(id.rsplit_once('-').map_or(id.clone(), |(version, _)| version.to_owned()))
        });
        let mut problems = report.map(|report| failures(report, Some(name.as_str()))).unwrap_or_default();
        if let Some(condemned) = ledger.condemned.get(name) {
            problems.push(format!("version {} was condemned: {}", condemned.version, condemned.reason));
        }
        let down = units.iter().find(|unit| unit.active == "failed");
        let state = match instance.state {
            InstanceState::Absent => State::Absent,
            _ if report.is_none() => State::Unknown,
            _ if down.is_some() || running_version.is_none() => State::Failed,
            InstanceState::Stopped => State::Stopped,
            InstanceState::Running if units.iter().all(|unit| unit.active == "active") => State::Running,
            InstanceState::Running => State::Failed,
        };
        let next = match (&down, problems.is_empty(), state) {
            (Some(_), ..) => Some(format!("socle agent logs {name}")),
            (None, false, _) => Some("socle agent apply".to_owned()),
            (None, true, State::Failed | State::Unknown) => Some("socle agent apply".to_owned()),
            _ => None,
        };
        InstanceStatus {
            name: name.clone(),
            recipe: instance.recipe.clone(),
            domain: instance.domain.to_string(),
            state,
            wanted_version: instance.version.to_string(),
            running_version,
            since: units.iter().filter_map(|unit| unit.since).max(),
            units,
            problems,
            next,
        }
    }

    /// `None`: no pass was made yet. A damaged one is not that.
    fn last_report(&self) -> Result<Option<serde_json::Result<Report>>, AgentError> {
        let bytes = crate::durable::read(&self.state.join("report.json")).map_err(AgentError::Report)?;
        Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)))
    }

    /// The units of each instance and service, by owner. A unit that another one starts (behind a timer
    /// or a socket) is left out: that it does not run now says nothing.
    fn units_of(&self, ledger: &Ledger, document: &Document) -> Result<BTreeMap<String, Vec<String>>, AgentError> {
        let target = ledger.target(ledger.generation(), document);
        let mut units: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for w in self.compile(ledger, &target)? {
            let (AnyDesired::Service(desired), Some(owner)) = (&w.desired, w.owner) else { continue };
            let on_demand = matches!(desired, service::Desired::Own(own) if own.active.is_none());
            if !on_demand {
                units.entry(owner).or_default().push(w.id.name);
            }
        }
        Ok(units)
    }
}

fn unit_status(unit: &str, state: Option<&UnitState>) -> UnitStatus {
    let known = state.cloned().unwrap_or_default();
    let since = i64::try_from(known.since_us).ok().filter(|us| *us > 0);
    UnitStatus {
        unit: unit.to_owned(),
        active: if state.is_some() { known.active } else { "unknown".to_owned() },
        sub: known.sub,
        since: since.and_then(|us| jiff::Timestamp::from_microsecond(us).ok()),
        memory_bytes: known.memory,
    }
}

/// What the last pass could not bring about for an owner.
fn failures(report: &Report, owner: Option<&str>) -> Vec<String> {
    let mine = report.lines.iter().filter(|line| line.owner.as_deref() == owner);
    mine.filter_map(|line| {
        let resource = &line.resource;
        match &line.status {
            LineStatus::Failed { change, error } => Some(format!("{resource}: {change} failed: {error}")),
            LineStatus::Refused { error } => Some(format!("{resource}: refused: {error}")),
            LineStatus::Unknown { error } => Some(format!("{resource}: could not be looked at: {error}")),
            LineStatus::Blocked { by } => Some(format!("{resource}: waits for {by}")),
            LineStatus::Pending { changes } => Some(format!("{resource}: still to do: {}", changes.join(", "))),
            LineStatus::InSync | LineStatus::Changed { .. } => None,
        }
    })
    .collect()
}
