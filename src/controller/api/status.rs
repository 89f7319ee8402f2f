//! What to say of a server. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::FailedLine;
use crate::model::backup::BackupStanding;
use crate::model::certificate;
use crate::model::fleet::{Mark, Origin, Position};
use crate::model::report::{ErrorReport, Report, Status};
use crate::model::{Digest, Kind, ResourceId};

/// How a server stands towards what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It has the newest document and brought all of it about.
    AsWanted,
    /// It has the newest document and works on it.
    Applying,
    /// It has the newest document and could not bring all of it about.
    Failing,
    /// It has the newest document, and what it last reported cannot be read here.
    Unknown,
    /// It has not accepted the newest document yet.
    Behind,
    /// Somebody applied another document on the server itself.
    LocalBranch,
    /// It accepted a newer document of a controller than is known here: this one came back from an older backup.
    Ahead,
    /// It has another document of the same number: two controllers that do not know of each other.
    Conflict,
    /// Nothing is wanted of it yet.
    NoDocument,
    /// It is in the fleet's directory and has not enrolled.
    NotEnrolled,
    Evicted,
    Banned,
}

/// What a server last said of itself.
#[derive(Debug, Clone, PartialEq)]
pub enum LastReport {
    /// It has not reported yet.
    Missing,
    Read(Report),
    /// It is stored and cannot be read: of another version of the agent, or damaged.
    Unreadable,
}

impl LastReport {
    pub fn parse(json: &str) -> Self {
        serde_json::from_str(json).map_or(LastReport::Unreadable, LastReport::Read)
    }

    pub fn read(&self) -> Option<&Report> {
        match self {
            LastReport::Read(report) => Some(report),
            LastReport::Missing | LastReport::Unreadable => None,
        }
    }
}

impl Standing {
    /// `newest`: mark and digest of the newest document.
    pub fn of(newest: Option<(Mark, Digest)>, position: Option<&Position>, report: &LastReport) -> Self {
        let Some(position) = position else {
            return if newest.is_some() { Standing::Behind } else { Standing::NoDocument };
        };
        let local = position.origin == Origin::Local;
        let Some((mark, digest)) = newest else {
            return if local { Standing::LocalBranch } else { Standing::Ahead };
        };
        match position.mark.cmp(&mark) {
            std::cmp::Ordering::Greater if local => Standing::LocalBranch,
            std::cmp::Ordering::Greater => Standing::Ahead,
            std::cmp::Ordering::Less => Standing::Behind,
            std::cmp::Ordering::Equal if position.digest != digest && local => Standing::LocalBranch,
            std::cmp::Ordering::Equal if position.digest != digest => Standing::Conflict,
            std::cmp::Ordering::Equal => brought_about(position, report),
        }
    }

    pub fn is_as_wanted(self) -> bool {
        self == Standing::AsWanted
    }

    /// In words, and what to do about it.
    pub fn words(self, server: &str, connected: bool) -> (Option<String>, Option<String>) {
        let apply = || Some("to put the fleet's document in its place: socle fleet apply DIR".to_owned());
        let (note, hint) = match self {
            Standing::AsWanted | Standing::Applying => (None, None),
            Standing::Failing => (None, None),
            Standing::Unknown => {
                let hint = format!("socle --version here, and on the server: ssh {server} socle agent status");
                (Some("what it last reported cannot be read by this controller"), Some(hint))
            }
            Standing::Behind if connected => (Some("the newest document is on its way"), None),
            Standing::Behind => (Some("gets the newest document when it connects"), None),
            Standing::LocalBranch => (Some("runs a document that was applied on the server itself"), apply()),
            Standing::Ahead => (Some("has a newer document than this controller knows: was it restored?"), apply()),
            Standing::Conflict => (Some("has another document of the same number than this controller"), apply()),
            Standing::NoDocument => (Some("enrolled, and nothing is wanted of it yet"), apply()),
            Standing::NotEnrolled => (Some("has not enrolled"), Some(format!("socle controller server add {server}"))),
            Standing::Evicted => {
                (Some("was put out until it enrols anew"), Some(format!("socle controller server add {server}")))
            }
            Standing::Banned => (Some("was banned"), None),
        };
        let away = "systemctl status socle-link on the server";
        let hint = hint.or_else(|| (!connected && self.is_of_an_agent()).then(|| away.to_owned()));
        (note.map(str::to_owned), hint)
    }

    /// Whether an agent is expected to be connected.
    fn is_of_an_agent(self) -> bool {
        !matches!(self, Standing::NotEnrolled | Standing::Evicted | Standing::Banned)
    }
}

fn brought_about(position: &Position, report: &LastReport) -> Standing {
    let generation = position.mark.generation;
    let report = match report {
        LastReport::Unreadable => return Standing::Unknown,
        LastReport::Missing => None,
        LastReport::Read(report) => Some(report),
    };
    if position.brought_about == Some(generation) {
        // Drift since may have failed to be put back.
        return match report {
            Some(report) if report.generation == generation && !report.converged => Standing::Failing,
            _ => Standing::AsWanted,
        };
    }
    match report {
        Some(report) if report.generation == generation => Standing::Failing,
        _ => Standing::Applying,
    }
}

/// What a report says is not as wanted, the causes first: what only waits for another comes after it.
pub fn failed(report: &Report) -> Vec<FailedLine> {
    let mut bad: Vec<_> = report.lines.iter().filter(|line| line.status.is_bad()).collect();
    bad.sort_by_key(|line| matches!(line.status, Status::Blocked { .. } | Status::Pending { .. }));
    let lines = bad.into_iter().map(|line| FailedLine {
        resource: line.resource.clone(),
        instance: line.owner.clone(),
        what: line.status.to_string(),
        hint: error_of(&line.status).and_then(|error| error.hint.clone()),
    });
    lines
        .chain(report.certificates.iter().filter_map(certificate))
        .chain(report.backups.iter().filter_map(backup))
        .collect()
}

/// Of a certificate that somebody must look after. That one could not be ordered yet is no failed pass.
fn certificate(standing: &certificate::Standing) -> Option<FailedLine> {
    let error = standing.last_error.as_ref().or(standing.served.as_ref());
    let what = match (standing.alert, error) {
        (Some(alert), Some(error)) => format!("{}: {error}", alert.words()),
        (Some(alert), None) => alert.words().to_owned(),
        (None, Some(error)) => error.to_string(),
        (None, None) => return None,
    };
    let name = standing.name.to_string();
    let hint = error.and_then(|error| error.hint.clone());
    let hint = hint.or_else(|| Some(format!("on the server: socle agent cert check {name}")));
    Some(FailedLine { resource: ResourceId::new(Kind::Certificate, name.as_str()), instance: Some(name), what, hint })
}

/// Of an instance that is not saved as promised. Its data is its setup's.
fn backup(standing: &BackupStanding) -> Option<FailedLine> {
    let name = standing.instance.to_string();
    Some(FailedLine {
        resource: ResourceId::new(Kind::Setup, name.as_str()),
        instance: Some(name),
        what: standing.problem()?,
        hint: Some(format!("on the server: socle agent backup now {}", standing.instance)),
    })
}

fn error_of(status: &Status) -> Option<&ErrorReport> {
    match status {
        Status::Failed { error, .. } | Status::Refused { error } | Status::Unknown { error } => Some(error),
        Status::InSync | Status::Changed { .. } | Status::Pending { .. } | Status::Blocked { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;

    fn mark(generation: u64) -> Mark {
        Mark { epoch: 0, generation: Generation(generation) }
    }

    fn position(generation: u64, origin: Origin, brought_about: Option<u64>) -> Position {
        let brought_about = brought_about.map(Generation);
        Position { mark: mark(generation), digest: Digest::of("a"), origin, brought_about }
    }

    fn report(generation: u64, converged: bool) -> Report {
        Report {
            generation: Generation(generation),
            converged,
            notes: Vec::new(),
            lines: Vec::new(),
            certificates: Vec::new(),
            backups: Vec::new(),
            duration_ms: 1,
        }
    }

    #[test]
    fn a_certificate_somebody_must_look_after_is_told() {
        let standing = |alert, error: Option<&str>| certificate::Standing {
            name: "blog".parse().unwrap(),
            names: Vec::new(),
            source: None,
            authority: None,
            not_after: None,
            next: None,
            missing: Vec::new(),
            last_error: error.map(|text| ErrorReport {
                code: "x".into(),
                message: text.into(),
                causes: Vec::new(),
                hint: None,
            }),
            alert,
            order: None,
            served: None,
        };
        let certificates = vec![
            standing(None, None),
            standing(None, Some("the authority is away")),
            standing(Some(certificate::Alert::Fifth), Some("the authority is away")),
        ];
        let told = failed(&Report { certificates, ..report(1, true) });
        let whats: Vec<&str> = told.iter().map(|line| line.what.as_str()).collect();
        assert_eq!(whats, ["the authority is away", "it ends soon and could not be renewed: the authority is away"]);
        assert!(told[0].hint.as_ref().unwrap().contains("socle agent cert check blog"));
    }

    #[test]
    fn every_standing() {
        use Origin::{Controller, Local};
        let three = Some((mark(3), Digest::of("a")));
        let cases = [
            (None, None, None, Standing::NoDocument),
            (three, None, None, Standing::Behind),
            (three, Some(position(2, Controller, Some(2))), Some(report(2, true)), Standing::Behind),
            // A local branch that was overtaken by a push is only behind.
            (three, Some(position(2, Local, Some(2))), None, Standing::Behind),
            (three, Some(position(3, Controller, Some(3))), Some(report(3, true)), Standing::AsWanted),
            (three, Some(position(3, Controller, Some(3))), None, Standing::AsWanted),
            (three, Some(position(3, Controller, Some(3))), Some(report(3, false)), Standing::Failing),
            (three, Some(position(3, Controller, Some(2))), Some(report(2, true)), Standing::Applying),
            (three, Some(position(3, Controller, None)), Some(report(3, false)), Standing::Failing),
            (three, Some(position(4, Local, Some(4))), Some(report(4, true)), Standing::LocalBranch),
            (three, Some(position(4, Controller, Some(4))), None, Standing::Ahead),
            (None, Some(position(1, Local, Some(1))), None, Standing::LocalBranch),
            (None, Some(position(1, Controller, Some(1))), None, Standing::Ahead),
            (Some((mark(3), Digest::of("b"))), Some(position(3, Controller, Some(3))), None, Standing::Conflict),
        ];
        for (newest, position, report, standing) in cases {
            let report = report.map_or(LastReport::Missing, LastReport::Read);
            assert_eq!(Standing::of(newest, position.as_ref(), &report), standing, "{newest:?} {position:?}");
        }
        // What cannot be read is not fine, and hides nothing that is known without it.
        for (at, brought, standing) in
            [(3, Some(3), Standing::Unknown), (3, None, Standing::Unknown), (2, Some(2), Standing::Behind)]
        {
            let position = position(at, Controller, brought);
            assert_eq!(Standing::of(three, Some(&position), &LastReport::parse("{")), standing, "{position:?}");
        }
    }

    #[test]
    fn who_is_away_has_a_hint_and_who_is_out_has_not() {
        assert!(Standing::AsWanted.words("ks1", false).1.unwrap().contains("socle-link"));
        assert_eq!(Standing::AsWanted.words("ks1", true), (None, None));
        assert_eq!(Standing::Banned.words("ks1", false).1, None);
        assert_eq!(Standing::NotEnrolled.words("ks1", false).1.unwrap(), "socle controller server add ks1");
    }
}
