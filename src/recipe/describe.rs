//! A recipe in words, for who looks through the catalog.

use std::fmt::Write as _;

use serde::Serialize;

use super::Recipe;
use super::schema::ParamKind;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub id: String,
    pub name: String,
    pub homepage: String,
    pub license: String,
    pub notices: Vec<String>,
    pub own: bool,
    pub versions: Vec<String>,
    pub params: Vec<ParamSummary>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParamSummary {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    pub help: String,
}

impl Recipe {
    pub fn id(&self) -> &str {
        self.app.id.as_str()
    }

    pub fn name(&self) -> &str {
        &self.app.name
    }

    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The versions it was seen working with. It may take others of its range.
    pub fn versions(&self) -> Vec<String> {
        self.releases.iter().map(|release| release.version.to_string()).collect()
    }

    pub fn summary(&self) -> Summary {
        let params = self.params.iter().map(|param| ParamSummary {
            name: param.name.to_string(),
            kind: match param.kind {
                ParamKind::Text => "text",
                ParamKind::Email => "email",
                ParamKind::Bool => "bool",
                ParamKind::Int => "int",
                ParamKind::Enum => "enum",
                ParamKind::Secret => "secret",
            },
            required: param.required,
            default: param.default.clone(),
            values: param.values.iter().cloned().collect(),
            help: param.help.clone(),
        });
        Summary {
            id: self.id().to_owned(),
            name: self.name().to_owned(),
            homepage: self.app.homepage.clone(),
            license: self.app.license.clone(),
            notices: self.app.notices.clone(),
            own: self.own,
            versions: self.versions(),
            params: params.collect(),
        }
    }

    pub fn describe(&self) -> String {
        let summary = self.summary();
        let mut out = format!("{}: {} ({}, {})\n", summary.id, summary.name, summary.license, summary.homepage);
        for notice in &summary.notices {
            let _ = writeln!(out, "  {notice}");
        }
        if !summary.versions.is_empty() {
            let _ = writeln!(out, "versions: {}", summary.versions.join(" "));
        }
        for param in &summary.params {
            let need = match (&param.default, param.required) {
                (Some(default), _) => format!(", default `{default}`"),
                (None, true) => ", required".to_owned(),
                (None, false) => String::new(),
            };
            let values = if param.values.is_empty() { String::new() } else { format!(": {}", param.values.join(", ")) };
            let _ = writeln!(out, "  {} ({}{values}{need})  {}", param.name, param.kind, param.help);
        }
        out
    }
}
