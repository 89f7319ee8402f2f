//! The recipes known: the ones built in, and the association's own, which come first.

use std::collections::BTreeMap;

use super::Recipe;
use crate::model::Name;
use crate::model::problem::{Problem, did_you_mean};

/// The files of a recipe by their name: `recipe.toml` and templates.
pub type Files = BTreeMap<String, String>;

macro_rules! built_in {
    ($($id:literal: $($file:literal)*;)*) => {
        const BUILT_IN: &[(&str, &[(&str, &str)])] =
            &[$(($id, &[$(($file, include_str!(concat!("../../catalog/", $id, "/", $file)))),*])),*];
    };
}

built_in! {
    "dokuwiki": "install.json" "install.php" "nginx.conf" "preload.php" "protected.php" "recipe.toml";
    "mediawiki": "LocalSettings.php" "install.json" "install.php" "nginx.conf" "recipe.toml";
    "radicale": "install.json" "install.py" "nginx.conf" "radicale.cfg" "recipe.toml" "serve.py";
    "static": "nginx.conf" "recipe.toml";
    "wordpress": "install.json" "install.php" "move.php" "nginx.conf" "recipe.toml" "upgrade.php" "wp-config.php";
}

#[derive(Debug, Clone, Default)]
pub struct Catalog {
    recipes: BTreeMap<Name, Recipe>,
}

impl Catalog {
    /// The built-in recipes, and `own` ones by id (directory name), which replace built-in ones of
    /// the same id. Every problem of every own recipe; those recipes are left out, and so are the
    /// built-in ones they would have replaced.
    pub fn new(own: &BTreeMap<String, Files>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut recipes = BTreeMap::new();
        let built_in = BUILT_IN.iter().filter(|(id, _)| !own.contains_key(*id)).map(|(id, files)| {
            let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            ((*id).to_owned(), "built-in", files, false)
        });
        let own = own.iter().map(|(id, files)| (id.clone(), "/etc/socle/recipes", files.clone(), true));
        for (id, place, files, own) in built_in.chain(own) {
            match Recipe::parse(&id, &format!("{place}/{id}"), files) {
                Ok(recipe) => drop(recipes.insert(recipe.app.id.clone(), Recipe { own, ..recipe })),
                Err(more) => problems.extend(more),
            }
        }
        (Self { recipes }, problems)
    }

    /// Only what is built in. A test ensures that it has no problems.
    pub fn built_in() -> Self {
        Self::new(&BTreeMap::new()).0
    }

    pub fn get(&self, id: &Name) -> Option<&Recipe> {
        self.recipes.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.values()
    }

    /// The recipe a misspelt id may have meant.
    pub fn meant(&self, id: &Name) -> Option<&str> {
        did_you_mean(id.as_str(), self.recipes.keys().map(Name::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_recipes_are_right_and_complete() {
        let (catalog, problems) = Catalog::new(&BTreeMap::new());
        assert_eq!(problems, []);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog");
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let id = entry.file_name().into_string().unwrap();
            assert!(catalog.get(&id.parse().unwrap()).is_some(), "{id} is not built in");
            let (_, built_in) = BUILT_IN.iter().find(|(known, _)| *known == id).unwrap();
            let mut names: Vec<_> = std::fs::read_dir(entry.path())
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let mut listed: Vec<_> = built_in.iter().map(|(name, _)| (*name).to_owned()).collect();
            listed.sort();
            assert_eq!(names, listed);
        }
    }

    #[test]
    fn an_own_recipe_replaces_a_built_in_one() {
        let (_, files) = BUILT_IN.iter().find(|(id, _)| *id == "static").unwrap();
        let mut files: Files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let text = files["recipe.toml"].replace("name = \"Static site\"", "name = \"Ours\"");
        files.insert("recipe.toml".to_owned(), text);
        let (catalog, problems) = Catalog::new(&[("static".to_owned(), files)].into());
        assert_eq!(problems, []);
        assert_eq!(catalog.get(&"static".parse().unwrap()).unwrap().app.name, "Ours");
        let (catalog, problems) = Catalog::new(&[("static".to_owned(), Files::new())].into());
        assert_eq!(problems[0].to_string(), "/etc/socle/recipes/static/recipe.toml:1:1: there is no such file");
        assert!(catalog.get(&"static".parse().unwrap()).is_none());
    }
}
