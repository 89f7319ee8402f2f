//! A restore beside what is there: a new instance of the same recipe and version, with the data of a snapshot and a
//! domain of its own, while the one that was saved goes on.
//!
//! What runs is what the accepted document says, so the new instance becomes a part of it: its table is added to the
//! end of the text, and that text is applied like any other. Where the document comes from a controller it is not
//! ours to write; once the fleet has the instance, the same command brings the snapshot into it.

use serde::Serialize;

use super::BackupError;
use super::content::Manifest;
use super::restore::RestorePlan;
use crate::agent::ledger::{Accepted, Ledger};
use crate::agent::reconcile::{Agent, AgentError};
use crate::host::vault::Access;
use crate::model::document::Instance;
use crate::model::fleet::Origin;
use crate::model::{Domain, Name};
use crate::resources::setup::{self, State};

/// What a restore beside would do, for the person who decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BesidePlan {
    #[serde(flatten)]
    pub restore: RestorePlan,
    /// The new instance.
    #[serde(rename = "as")]
    pub other: Name,
    pub domain: Domain,
    /// What the document gets; `None` if it has the instance already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// Where the accepted document came from: the new instance is not in there.
    pub file: String,
}

impl Agent {
    /// Like [`Agent::plan_restore`], for another instance than the one that was saved.
    pub async fn plan_beside(
        &self,
        from: &(String, Access),
        (name, at): (&Name, Option<&str>),
        other: &Name,
        domain: Option<&Domain>,
    ) -> Result<(BesidePlan, Manifest), BackupError> {
        if name == other {
            return Err(BackupError::Itself(name.clone()));
        }
        let (restore, manifest) = self.plan_restore(from, name, at).await?;
        let ledger = Ledger::load(&self.state).map_err(AgentError::from)?;
        let document = self.accepted(&ledger)?;
        let accepted = ledger.accepted.as_ref().ok_or(AgentError::NothingAccepted)?;
        let (other, file) = (other.clone(), accepted.file.clone());
        if let Some(known) = document.instances.get(&other) {
            let domain = fits(&other, known, &manifest, domain)?;
            return Ok((BesidePlan { restore, other, domain, written: None, file }, manifest));
        }
        let domain = domain.ok_or(BackupError::NoDomain)?.clone();
        let written = written(&other, &manifest.wanted, &domain);
        if accepted.origin == Origin::Controller {
            return Err(BackupError::Fed { other, written });
        }
        self.is_free(&other)?;
        // Every problem there is with it, before anything is done.
        self.check(&accepted.file, &extended(accepted, &written))?;
        Ok((BesidePlan { restore, other, domain, written: Some(written), file }, manifest))
    }

    /// Gets the new instance ready. What it answers is to be applied; `None`: the accepted document, as it is.
    pub async fn stage_beside(
        &self,
        access: &Access,
        plan: &BesidePlan,
        manifest: &Manifest,
    ) -> Result<Option<(String, String)>, BackupError> {
        self.own_account(&plan.other).await?;
        self.stage(access, &plan.restore.snapshot, manifest, &plan.other).await?;
        let Some(written) = &plan.written else { return Ok(None) };
        // As it is now: it may have changed while the data was brought here.
        let ledger = Ledger::load(&self.state).map_err(AgentError::from)?;
        let accepted = ledger.accepted.as_ref().ok_or(AgentError::NothingAccepted)?;
        Ok(Some((accepted.file.clone(), extended(accepted, written))))
    }

    /// Nothing of an earlier instance of this name is here; what such a restore left that was interrupted is no
    /// matter.
    fn is_free(&self, other: &Name) -> Result<(), BackupError> {
        let seen = setup::observe::read(&self.host, other.as_str())
            .map_err(|error| crate::host::PortError::new("setup.unreadable", error.to_string()))?;
        let begun = matches!(seen.state, Some(State::Returned { .. }));
        let data = self.host.path(format!("/srv/socle/{other}/data")).exists();
        match begun || (seen.state.is_none() && !data) {
            true => Ok(()),
            false => Err(BackupError::LeftOver(other.clone())),
        }
    }
}

fn fits(other: &Name, known: &Instance, manifest: &Manifest, domain: Option<&Domain>) -> Result<Domain, BackupError> {
    let needs = &manifest.wanted.recipe;
    if known.recipe != *needs {
        let (has, needs) = (known.recipe.clone(), needs.clone());
        return Err(BackupError::OtherRecipe { other: other.clone(), has, needs });
    }
    if domain.is_some_and(|domain| *domain != known.domain) {
        return Err(BackupError::OtherDomain { other: other.clone(), domain: known.domain.to_string() });
    }
    Ok(known.domain.clone())
}

fn extended(accepted: &Accepted, written: &str) -> String {
    format!("{}\n\n{written}", accepted.text.trim_end())
}

/// The instance as it is written in a document: as it was saved, but for what is its own. Secrets come with the
/// snapshot; a certificate of another domain is of no use.
fn written(other: &Name, was: &Instance, domain: &Domain) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!("[instances.{other}]\n");
    let mut line = |key: &str, value: String| text += &format!("{key} = {value}\n");
    line("recipe", quoted(was.recipe.as_str()));
    line("version", quoted(was.version.as_str()));
    line("domain", quoted(domain.as_str()));
    if let Some(member) = &was.member {
        line("member", quoted(member.as_str()));
    }
    if let Some(source) = &was.source {
        let digest = source.sha256.map(|sha256| format!(", sha256 = {}", quoted(&sha256.to_string())));
        line("source", format!("{{ url = {}{} }}", quoted(&source.url), digest.unwrap_or_default()));
    }
    let limits = &was.limits;
    let limits = [("memory_mb", limits.memory_mb), ("cpu_percent", limits.cpu_percent), ("tasks", limits.tasks)];
    let limits: Vec<String> =
        limits.iter().filter_map(|(key, value)| value.map(|value| format!("{key} = {value}"))).collect();
    if !limits.is_empty() {
        line("limits", format!("{{ {} }}", limits.join(", ")));
    }
    if !was.params.is_empty() {
        text += &format!("\n[instances.{other}.params]\n");
        for (name, value) in &was.params {
            text += &format!("{name} = {}\n", quoted(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::parse;

    #[test]
    fn what_is_written_is_read_as_the_same_instance() {
        let text = "schema = 1\n[instances.blog]\nrecipe = \"wordpress\"\nversion = \"6.8.7\"\ndomain = \"blog.example.org\"\n\
                    member = \"velo\"\nlimits = { memory_mb = 300, tasks = 9 }\n\
                    source = { url = \"https://example.org/a.tar.gz\", sha256 = \"SHA\" }\n[instances.blog.params]\n\
                    title = \"Les \\\"amis\\\"\\u00e9 \\\\ #\"\nadmin-email = \"a@example.org\"\npublic = false\n"
            .replace("SHA", &"ab".repeat(32));
        let was = parse("a.toml", &text).unwrap().instances.into_values().next().unwrap();
        let other: Name = "copy".parse().unwrap();
        let domain: Domain = "copy.example.org".parse().unwrap();
        let both = format!("{text}\n{}", written(&other, &was, &domain));
        let read = parse("a.toml", &both).unwrap();
        assert_eq!(read.instances.len(), 2);
        assert_eq!(read.instances[&other], Instance { domain, ..was });
    }
}
