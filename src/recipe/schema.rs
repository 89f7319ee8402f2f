//! `recipe.toml` as types. What a field means is said here; that its values make sense together is
//! checked in [`super::parse`].

mod app;
mod disk;
mod run;
mod web;

pub use app::{App, Param, ParamKind, Platform, Release, Rule, Source, SourceKind, Versions};
pub use disk::{Db, Directory, File, Layout, Link, Mode, OURS, Owner, Secret, Write, is_below};
pub use run::{Apt, Backup, Command, Exceptions, Php, Run, Runtime, Seed, Service, Step, Timer};
pub use web::{Health, Web, WebKind};

/// The only version of this form.
pub const SCHEMA: u32 = 1;
