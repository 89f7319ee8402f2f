//! What the recipes say to a fleet. The controller does not know what its servers run: what is wrong on
//! every Debian is a problem, what is wrong on some is a note, and the agents have the last word.

use std::collections::BTreeMap;

use super::{Files, Fleet};
use crate::model::problem::Problem;
use crate::recipe::{Catalog, CompileProblem, Facts, check_document};

/// The Debian releases an agent may run on.
const DEBIANS: [u32; 2] = [12, 13];

/// What was found, at the places of the fleet's files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    pub problems: Vec<Problem>,
    /// Wrong on some Debian releases only; the reason names them.
    pub notes: Vec<Problem>,
}

/// Asks the recipes about every instance of a fleet that [`super::compose`] found right.
pub fn check_recipes(fleet: &Fleet, files: &Files, catalog: &Catalog) -> Checked {
    let mut checked = Checked::default();
    let debians: Vec<_> = DEBIANS.into_iter().filter_map(Facts::of_debian).collect();
    for server in fleet.servers.values() {
        let mut found: BTreeMap<CompileProblem, Vec<u32>> = BTreeMap::new();
        for facts in &debians {
            for problem in check_document(&server.document, catalog, facts) {
                found.entry(problem).or_default().push(facts.debian);
            }
        }
        for (CompileProblem { path, reason, hint }, on) in found {
            let at = server.position_of(files, &path);
            if on.len() == debians.len() {
                checked.problems.push(Problem { at, reason, hint });
            } else {
                let on: Vec<_> = on.iter().map(u32::to_string).collect();
                checked.notes.push(Problem { at, reason: format!("on Debian {}: {reason}", on.join(" and ")), hint });
            }
        }
    }
    checked.problems.sort();
    checked.notes.sort();
    checked
}
