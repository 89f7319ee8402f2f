//! `[packages]`, `[accounts]`, `[files]` and `[databases]`.

use std::collections::BTreeMap;

use super::super::parse::Wrong;
use super::super::written::Presence;
use super::super::{Account, Database, Engine, File, value, written};
use super::Checker;
use crate::model::Name;
use crate::model::problem::shown;

impl Checker<'_> {
    pub(super) fn packages(&mut self, written: BTreeMap<String, bool>) -> BTreeMap<String, bool> {
        for (package, wanted) in &written {
            let path = ["packages", package];
            self.keep_key(&path, value::package(package));
            if !wanted {
                self.keep_key(&path, value::removable(package));
            }
        }
        written
    }

    pub(super) fn accounts(&mut self, written: BTreeMap<String, written::Account>) -> BTreeMap<Name, Account> {
        let mut accounts = BTreeMap::new();
        for (key, account) in written {
            let at = |field: &'static str| ["accounts", &key, field];
            let name = self.keep_key(&["accounts", &key], value::account_name(&key));
            let description = self.read(&at("description"), Some(&account.description), value::gecos);
            let home = self.read(&at("home"), account.home.as_deref(), value::free_path);
            let groups = self.list(&at("groups"), &account.groups, value::user);
            if let (Some(name), Some(description)) = (name, description) {
                let present = account.state == Presence::Present;
                accounts.insert(name, Account { description, home, groups, present });
            }
        }
        accounts
    }

    pub(super) fn files(&mut self, written: BTreeMap<String, written::File>) -> BTreeMap<String, File> {
        let present: Vec<_> =
            written.iter().filter(|(_, file)| file.state == Presence::Present).map(|(path, _)| path.clone()).collect();
        // A longer path is refused for itself, and comparing its many parents would take long.
        for path in present.iter().filter(|path| path.len() <= 4095) {
            let parents = path.match_indices('/').map(|(end, _)| path[..end].to_owned());
            if let Some(parent) = parents.into_iter().find(|parent| present.binary_search(parent).is_ok()) {
                let wrong =
                    Wrong::new(format!("{} cannot be a directory: it is a file of this document", shown(&parent)));
                self.at_key(&["files", path], wrong.hint("change one of the two paths"));
            }
        }
        written.into_iter().filter_map(|(path, file)| self.file(&path, file)).collect()
    }

    fn file(&mut self, key: &str, written: written::File) -> Option<(String, File)> {
        let at = |field: &'static str| ["files", key, field];
        let path = self.keep_key(&["files", key], value::free_path(key));
        let owner = self.read(&at("owner"), Some(&written.owner), value::user);
        let group = self.read(&at("group"), Some(&written.group), value::user);
        let mode = self.read(&at("mode"), Some(&written.mode), value::mode);
        let present = written.state == Presence::Present;
        if present {
            self.needs_user(&at("owner"), owner.as_ref());
            if written.content.is_none() && !self.was_cut(&at("content")) {
                let wrong = Wrong::new(format!("the file {} has no `content`", shown(key)));
                self.at(
                    &["files", key],
                    wrong.hint("add `content = \"…\"`, or `state = \"absent\"` to remove the file"),
                );
            }
        }
        if !present && written.content.is_some() {
            let wrong = Wrong::new(format!("the file {} is to be absent, and has a `content`", shown(key)));
            self.at_key(&at("content"), wrong.hint("take out `content`, or `state`"));
        }
        let content = written.content.unwrap_or_default();
        Some((path?, File { content, owner: owner?, group: group?, mode: mode?, present }))
    }

    pub(super) fn databases(&mut self, written: BTreeMap<String, written::Database>) -> BTreeMap<Name, Database> {
        let mut databases = BTreeMap::new();
        for (key, database) in written {
            let at = |field: &'static str| ["databases", &key, field];
            let name = self.keep_key(&["databases", &key], value::database_name(&key));
            let owner = self.read(&at("owner"), database.owner.as_deref(), value::database_owner);
            self.needs_user(&at("owner"), owner.as_ref());
            let extensions = self.list(&at("extensions"), &database.extensions, value::extension);
            if database.engine == Some(Engine::Mariadb) && !database.extensions.is_empty() {
                let wrong = Wrong::new("MariaDB has no extensions");
                self.at_key(&at("extensions"), wrong.hint("take them out, or use `engine = \"postgresql\"`"));
            }
            if let (Some(name), Some(owner), Some(engine)) = (name, owner, database.engine) {
                databases.insert(name, Database { engine, owner, extensions });
            }
        }
        databases
    }
}
