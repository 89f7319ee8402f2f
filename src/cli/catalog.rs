use clap::Subcommand;

use super::{Exit, print};
use crate::agent::real;
use crate::model::Name;
use crate::recipe::{Recipe, Summary};

#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// List the recipes
    List,
    /// Show a recipe: its parameters, versions and what it brings
    Show { recipe: Name },
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
            let rows: Vec<Summary> = catalog.iter().map(Recipe::summary).collect();
            if json { print::json(&rows)? } else { print::raw(list(&rows).as_bytes())? }
        }
        CatalogCommand::Show { recipe } => {
            let Some(found) = catalog.get(recipe) else {
                let hint = catalog.meant(recipe).map(|meant| format!("did you mean `{meant}`?"));
                let hint = hint.unwrap_or_else(|| "socle catalog list".to_owned());
                print::error(&format!("there is no recipe `{recipe}`"), Some(&hint));
                return Ok(Exit::BadInput);
            };
            if json { print::json(&found.summary())? } else { print::raw(found.describe().as_bytes())? }
        }
    }
    Ok(Exit::Converged)
}

fn list(rows: &[Summary]) -> String {
    let own = |row: &Summary| if row.own { "  (own)" } else { "" };
    rows.iter().map(|row| format!("{:<12} {:<14} {}{}\n", row.id, row.name, row.versions.join(" "), own(row))).collect()
}
