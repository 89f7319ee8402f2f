//! Recipes: how an application is installed natively. Data in, resources out; pure.
//!
//! Owns: the form of `recipe.toml` ([`schema`], [`parse`]), the catalog of recipes ([`catalog`]),
//! the templates' escaping ([`template`]), and [`compile`], which turns an instance into resources.
//! Never: reads a file, the clock or randomness; runs anything. Start reading at [`compile`], then
//! at `catalog/wordpress/recipe.toml`.
//!
//! Two languages fill in values, on purpose:
//! - `{name}` in `recipe.toml` is a [`placeholder`]: a fixed word, checked when the recipe is read,
//!   for paths, URLs and argument vectors. It cannot bring in an answer of a user.
//! - A template (minijinja) makes a whole file. Its format decides how every value is escaped, so a
//!   recipe cannot forget it.

pub mod catalog;
pub mod compile;
mod describe;
mod escape;
mod params;
pub mod parse;
mod placeholder;
pub mod schema;
pub mod secret;
pub mod template;
pub mod version;

pub use catalog::Catalog;
pub use compile::{
    Apart, CHALLENGES, CertificateFacts, CompileProblem, Context, Facts, Https, check_document, compile, compile_apart,
    compile_document, database_name,
};
pub use describe::Summary;
pub use parse::Recipe;
pub use secret::{Alphabet, SecretSpec};
