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
    versions: Vec<String>,
    own: bool,
}

pub fn run(command: &CatalogCommand, json: bool) -> anyhow::Result<Exit> {
    let catalog = match real::catalog(std::path::Path::new("/")) {
        Ok(catalog) => catalog,
        Err(problems) => {
            print::problems(&problems);
            return Ok(Exit::BadInput);
        }
    };
    match command {
        CatalogCommand::List => {
            let rows: Vec<Row> = catalog.iter().map(|recipe| row(recipe)).collect();
            if json {
                print::json(&rows)?;
            } else {
                let mut text = String::new();
                for row in &rows {
                    let own = if row.own { "  (own)" } else { "" };
                    text.push_str(&format!("{:<12} {:<14} {}{own}\n", row.id, row.name, row.versions.join(" ")));
                }
                print::raw(text.as_bytes())?;
            }
        }
        CatalogCommand::Show { recipe } => {
            let Some(found) = catalog.get(recipe) else {
                print::error(&format!("there is no recipe `{recipe}`"), Some("socle catalog list"));
                return Ok(Exit::BadInput);
            };
            if json { print::json(&found.summary())? } else { print::raw(found.describe().as_bytes())? }
        }
    }
    Ok(Exit::Converged)
}

fn row(recipe: &Recipe) -> Row<'_> {
    Row { id: recipe.id(), name: recipe.name(), versions: recipe.versions(), own: recipe.is_own() }
}
