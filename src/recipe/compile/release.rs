//! Which release: the version the instance names, from the source the recipe knows for it.

use super::{Build, CompileProblem, id};
use crate::model::document::Source;
use crate::model::problem::did_you_mean;
use crate::model::{Kind, Version};
use crate::recipe::Recipe;
use crate::recipe::schema::{Release, Rule, SourceKind};
use crate::resources::AnyDesired;
use crate::resources::release::{self, Link, Origin, Spec};

impl Recipe {
    /// Why an instance whose data is of version `from` cannot go to `to`. Going back together with
    /// the data of that version is always possible and is not asked here.
    pub fn refuses(&self, from: &Version, to: &Version) -> Option<CompileProblem> {
        let older = self.versions.scheme.compare(to.as_str(), from.as_str()).is_some_and(|order| order.is_lt());
        let forbidden = self.rules.iter().any(|rule| matches!(rule, Rule::NoDowngrade {}));
        (older && forbidden).then(|| {
            let reason = format!("version {to} is older than {from}, which is installed");
            let hint = "its data cannot go back; restore a backup from before the upgrade".to_owned();
            CompileProblem::new(&["version"], reason, Some(hint))
        })
    }
}

impl Build<'_> {
    /// The server fits the recipe.
    pub(super) fn platform(&mut self) {
        let facts = self.context.facts;
        let debian = &self.recipe.platform.debian;
        if !debian.is_empty() && !debian.contains(&facts.debian) {
            let known = debian.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let reason = format!("{} is not known to work on Debian {}", self.recipe.app.name, facts.debian);
            self.problems.push(CompileProblem::new(&["recipe"], reason, Some(format!("known: {known}"))));
        }
        if let Some(php) = self.recipe.runtime.php.as_ref().filter(|php| !php.range.contains(&facts.php)) {
            let reason = format!("{} needs PHP {}, this server has {}", self.recipe.app.name, php.range, facts.php);
            self.problems.push(CompileProblem::new(&["recipe"], reason, None));
        }
        self.rules();
    }

    fn rules(&mut self) {
        let version = &self.instance.version;
        for rule in &self.recipe.rules {
            match rule {
                Rule::NoDowngrade {} => {}
                Rule::Requires { to, php } => {
                    let has = &self.context.facts.php;
                    if to.contains(version.as_str()) && !php.contains(has) {
                        let app = &self.recipe.app.name;
                        let reason = format!("{app} {version} needs PHP {php}, this server has {has}");
                        self.problems.push(CompileProblem::new(&["version"], reason, None));
                    }
                }
            }
        }
    }

    /// None with a problem noted.
    pub(super) fn spec(&mut self) -> Option<Spec> {
        let known = self.known_release()?;
        let source = self.origin(known.as_ref())?;
        let links = self.recipe.layout.link.iter();
        let links = links.map(|link| Link { path: link.path.clone(), target: link.target.clone() }).collect();
        Some(Spec { version: self.instance.version.clone(), source, links })
    }

    /// What the recipe lists of the wanted version; `Some(None)` for one it does not list but takes.
    fn known_release(&mut self) -> Option<Option<Release>> {
        let (versions, wanted) = (&self.recipe.versions, &self.instance.version);
        if let Some(release) = self.recipe.releases.iter().find(|release| release.version == *wanted) {
            return Some(Some(release.clone()));
        }
        let reason = if !versions.scheme.accepts(wanted.as_str()) {
            format!("`{wanted}` is not a version like `{}`", versions.scheme.example())
        } else if versions.range.as_ref().is_some_and(|range| !range.contains(wanted.as_str())) {
            let range = versions.range.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("version {wanted} is not one this recipe knows how to handle ({range})")
        } else {
            return Some(None);
        };
        let known: Vec<_> = self.recipe.releases.iter().map(|release| release.version.as_str()).collect();
        let hint = match did_you_mean(wanted.as_str(), known.iter().copied()) {
            Some(meant) => Some(format!("did you mean `{meant}`?")),
            None if known.is_empty() => None,
            None => Some(format!("known: {}", known.join(", "))),
        };
        self.problems.push(CompileProblem::new(&["version"], reason, hint));
        None
    }

    fn origin(&mut self, known: Option<&Release>) -> Option<Origin> {
        let recipe = &self.recipe.source;
        if let Some(source) = &self.instance.source {
            return match recipe.kind {
                SourceKind::Archive | SourceKind::Empty => {
                    Some(Origin::Archive { source: source.clone(), strip: recipe.strip, file: None })
                }
                SourceKind::File => {
                    Some(Origin::Archive { source: source.clone(), strip: 0, file: recipe.name.clone() })
                }
                SourceKind::Venv => {
                    let reason = format!("{} is built by pip, not from an archive", self.recipe.app.name);
                    let hint = "leave `source` out; pip's own configuration chooses the index".to_owned();
                    self.problems.push(CompileProblem::new(&["source"], reason, Some(hint)));
                    None
                }
            };
        }
        Some(match recipe.kind {
            SourceKind::Empty => Origin::Empty,
            SourceKind::Venv => Origin::Venv {
                requirements: self.fill_all(&self.recipe.source.requirements),
                index: self.context.python_index.map(str::to_owned),
            },
            SourceKind::Archive | SourceKind::File => {
                let url = known.and_then(|release| release.url.as_ref()).or(recipe.url.as_ref())?;
                let source = Source { url: self.fill(url), sha256: known.and_then(|release| release.sha256) };
                let file = self.recipe.source.name.clone().filter(|_| self.recipe.source.kind == SourceKind::File);
                Origin::Archive { source, strip: self.recipe.source.strip, file }
            }
        })
    }

    pub(super) fn release(&mut self, spec: Spec) {
        let mut needs = vec![id(Kind::Directory, format!("{}/releases", self.home()))];
        if matches!(spec.source, Origin::Venv { .. }) {
            needs.extend(self.wanted(&[Kind::Package]));
        }
        let keep = self.context.keep.get(self.name).cloned().unwrap_or_default();
        let seen = match &spec.source {
            Origin::Archive { source, .. } => self.context.seen.get(&source.url).copied(),
            Origin::Venv { .. } | Origin::Empty => None,
        };
        let desired = release::Desired { spec: Some(spec.into()), keep, seen };
        self.want(Kind::Release, self.name.as_str(), AnyDesired::Release(desired), &needs);
    }
}
