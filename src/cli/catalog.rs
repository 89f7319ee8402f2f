use clap::Subcommand;
use serde::Serialize;

use super::{Exit, print};
use crate::agent::real;
use crate::model::Name;
use crate::recipe::Recipe;

#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// List the recipes
    List,
    /// Show a recipe: its parameters, versions and what it brings
    Show { recipe: Name },
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    homepage: &'a str,
    license: &'a str,
    versions: Vec<&'a str>,
    parameters: Vec<Parameter<'a>>,
    notices: &'a [String],
}

#[derive(Serialize)]
struct Parameter<'a> {
    name: &'a str,
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<&'a str>,
    help: &'a str,
}

pub fn run(command: &CatalogCommand, json: bool) -> anyhow::Result<Exit> {
    let catalog = match real::catalog(std::path::Path::new("/")) {
        Ok(catalog) => catalog,
        Err(real::SetupError::Recipes(problems)) => {
            print::problems(&problems);
            return Ok(Exit::BadInput);
        }
        Err(error) => return Err(error.into()),
    };
    match command {
        CatalogCommand::List => {
            let rows: Vec<Row> = catalog.iter().map(row).collect();
            if json { print::json(&rows)? } else { print::raw(list(&rows).as_bytes())? }
        }
        CatalogCommand::Show { recipe } => {
            let Some(found) = catalog.get(recipe) else {
                let hint = catalog.meant(recipe).map(|meant| format!("did you mean `{meant}`?"));
                let hint = hint.unwrap_or_else(|| "socle catalog list".to_owned());
                print::error(&format!("there is no recipe `{recipe}`"), Some(&hint));
                return Ok(Exit::BadInput);
            };
            let row = row(found);
            if json { print::json(&row)? } else { print::raw(show(&row).as_bytes())? }
        }
    }
    Ok(Exit::Converged)
}

fn list(rows: &[Row]) -> String {
    rows.iter().map(|row| format!("{:<12} {:<14} {}\n", row.id, row.name, row.versions.join(" "))).collect()
}

fn show(row: &Row) -> String {
    let mut text = format!("{} ({})\n{}\nlicence {}\n", row.name, row.id, row.homepage, row.license);
    if !row.versions.is_empty() {
        text.push_str(&format!("seen working: {}\n", row.versions.join(", ")));
    }
    for notice in row.notices {
        text.push_str(&format!("note: {notice}\n"));
    }
    if !row.parameters.is_empty() {
        text.push_str("parameters:\n");
    }
    for parameter in &row.parameters {
        let rest = match (parameter.required, parameter.default) {
            (true, _) => " (required)".to_owned(),
            (false, Some(default)) => format!(" (default `{default}`)"),
            (false, None) => String::new(),
        };
        text.push_str(&format!("  {}{rest}: {}\n", parameter.name, parameter.help));
    }
    text
}

fn row(recipe: &Recipe) -> Row<'_> {
    let parameters = recipe.params.iter().map(|param| Parameter {
        name: param.name.as_str(),
        required: param.required,
        default: param.default.as_deref(),
        help: &param.help,
    });
    Row {
        id: recipe.app.id.as_str(),
        name: &recipe.app.name,
        homepage: &recipe.app.homepage,
        license: &recipe.app.license,
        versions: recipe.releases.iter().map(|release| release.version.as_str()).collect(),
        parameters: parameters.collect(),
        notices: &recipe.app.notices,
    }
}
