//! From a document to the resources that are wanted: refused whole with all its problems, or compiled once.

use std::collections::BTreeMap;

use super::ledger::{self, Ledger};
use super::reconcile::{Agent, AgentError};
use super::secrets::{self, Sealing};
use crate::model::document::{self, Document};
use crate::model::problem::Problem;
use crate::recipe::{self, CompileProblem, Context, Recipe};
use crate::resources::Wanted;

/// A document that can be brought about.
pub(super) struct Checked {
    pub document: Document,
    pub target: ledger::Target,
    pub wanted: Vec<Wanted>,
}

impl Agent {
    /// A document in all its aspects: its own, what the recipes say to it, and what is installed here.
    pub fn check(&self, file: &str, text: &str) -> Result<Document, AgentError> {
        let mut ledger = Ledger::load(&self.state)?;
        ledger.accept_local(file, text, (self.now)());
        Ok(self.check_with(&ledger, file, text)?.document)
    }

    pub(super) fn check_with(&self, ledger: &Ledger, file: &str, text: &str) -> Result<Checked, AgentError> {
        let document = document::parse(file, text).map_err(AgentError::Refused)?;
        let target = ledger.target(ledger.generation(), &document);
        let mut problems = self.downgrades(ledger, &target);
        problems.extend(Agent::brought_problems(&self.certificate_facts(&target.document)));
        problems.extend(self.provider_problems(&document));
        let wanted = self.resources(ledger, &target)?.unwrap_or_else(|more| {
            problems.extend(more);
            Vec::new()
        });
        if problems.is_empty() {
            return Ok(Checked { document, target, wanted });
        }
        let place = |path: &[String]| document::position_of(file, text, path);
        let mut problems: Vec<Problem> =
            problems.into_iter().map(|p| Problem { at: place(&p.path), reason: p.reason, hint: p.hint }).collect();
        problems.sort();
        Err(AgentError::Refused(problems))
    }

    /// What was accepted, compiled.
    pub(super) fn checked(&self, ledger: &Ledger) -> Result<Checked, AgentError> {
        let document = self.accepted(ledger)?;
        let target = ledger.target(ledger.generation(), &document);
        let wanted = self.compile(ledger, &target)?;
        Ok(Checked { document, target, wanted })
    }

    pub fn accepted(&self, ledger: &Ledger) -> Result<Document, AgentError> {
        let accepted = ledger.accepted.as_ref().ok_or(AgentError::NothingAccepted)?;
        document::parse(&accepted.file, &accepted.text).map_err(AgentError::Refused)
    }

    /// Instances that are asked in an older version than their data, where their recipe says that this cannot
    /// be. Going back to the last good form is another matter: that brings its data back.
    fn downgrades(&self, ledger: &Ledger, target: &ledger::Target) -> Vec<CompileProblem> {
        let asked = target.document.instances.iter().filter(|(name, _)| !target.held_back.contains_key(name));
        asked
            .filter_map(|(name, instance)| {
                let good = ledger.good.get(name).filter(|good| good.instance.recipe == instance.recipe)?;
                let mut problem =
                    self.catalog.get(&instance.recipe)?.refuses(&good.instance.version, &instance.version)?;
                problem.path.splice(0..0, ["instances".to_owned(), name.to_string()]);
                Some(problem)
            })
            .collect()
    }

    /// The resources of a target that was checked before.
    pub(super) fn compile(&self, ledger: &Ledger, target: &ledger::Target) -> Result<Vec<Wanted>, AgentError> {
        self.resources(ledger, target)?.map_err(AgentError::Uncompilable)
    }

    fn resources(
        &self,
        ledger: &Ledger,
        target: &ledger::Target,
    ) -> Result<Result<Vec<Wanted>, Vec<CompileProblem>>, AgentError> {
        let (mut secrets, mut problems, mut sealing) = (BTreeMap::new(), Vec::new(), Sealing::default());
        for (name, instance) in &target.document.instances {
            let mut of_instance = BTreeMap::new();
            for spec in self.catalog.get(&instance.recipe).map(Recipe::secrets).unwrap_or_default() {
                let made = || recipe::secret::generate(spec.alphabet, spec.length, &mut |bytes| (self.random)(bytes));
                let value = match instance.secrets.get(&spec.name) {
                    Some(sealed) => match sealing.open(&self.state, name, &spec.name, sealed)? {
                        Ok(value) => value,
                        Err(problem) => {
                            problems.push(problem);
                            continue;
                        }
                    },
                    None => secrets::read(&self.state, name, &spec.name)?.unwrap_or_else(made),
                };
                of_instance.insert(spec.name, value);
            }
            secrets.insert(name.clone(), of_instance);
        }
        if !problems.is_empty() {
            return Ok(Err(problems));
        }
        let certificates = self.certificate_facts(&target.document);
        let context = Context {
            facts: &self.facts,
            secrets: &secrets,
            keep: &target.keep,
            seen: &ledger.seen,
            python_index: self.python_index.as_deref(),
            certificates: &certificates,
            now: (self.now)(),
        };
        Ok(recipe::compile_document(&target.document, &self.catalog, &context))
    }
}
