//! What an instance stands on: packages, its account, directories, files, databases.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::Value;

use super::{Build, content, id};
use crate::model::document::Engine;
use crate::model::{Content, Kind, ResourceId};
use crate::recipe::schema::{Owner, SourceKind, Write};
use crate::recipe::secret;
use crate::resources::{AnyDesired, account, database, directory, file, package, service};

/// The user nginx works as on Debian.
const WEB_SERVER_USER: &str = "www-data";

impl Build<'_> {
    pub(super) fn packages(&mut self) {
        let mut names: BTreeSet<String> = ["nginx-light".to_owned()].into();
        names.extend(self.recipe.apt.packages.clone().iter().map(|package| self.fill(package)));
        let php = &self.context.facts.php;
        if let Some(runtime) = &self.recipe.runtime.php {
            names.extend([format!("php{php}-fpm"), format!("php{php}-cli")]);
            names.extend(runtime.extensions.iter().map(|extension| format!("php{php}-{extension}")));
        }
        names.extend(self.recipe.dbs.iter().map(|db| server_package(db.engine).to_owned()));
        if self.recipe.source.kind == SourceKind::Venv {
            names.insert("python3-venv".to_owned());
        }
        for name in names {
            self.share(Kind::Package, name, AnyDesired::Package(package::Desired { present: true }), &[]);
        }
    }

    /// The web server and the database servers, which run whatever instance needs them.
    pub(super) fn shared_services(&mut self) {
        let mut units = vec![("nginx.service", "nginx-light")];
        units.extend(self.recipe.dbs.iter().map(|db| (server_unit(db.engine), server_package(db.engine))));
        units.dedup();
        for (unit, package) in units {
            let enabled = AnyDesired::Service(service::Desired::Needed);
            self.share(Kind::Service, unit, enabled, &[id(Kind::Package, package)]);
        }
    }

    pub(super) fn account_and_directories(&mut self) {
        let (user, home) = (self.user().to_owned(), self.home().to_owned());
        let account = self.want(
            Kind::Account,
            &user,
            AnyDesired::Account(account::Desired {
                present: true,
                description: format!("socle {} {}", self.recipe.app.name, self.name),
                home: home.clone(),
                groups: BTreeSet::new(),
                readers: [WEB_SERVER_USER.to_owned()].into(),
            }),
            &[],
        );
        let base = self.shared_directory("/srv/socle", 0o755);
        let top = self.directory(&home, "root", &user, 0o750, &[base, account]);
        // The application reads its configuration and programs and writes its data; releases belong
        // to root, and their modes come from the unpacking.
        for path in ["releases", "config", "recipe"] {
            self.directory(&format!("{home}/{path}"), "root", &user, 0o750, std::slice::from_ref(&top));
        }
        self.whole_directory(&format!("{home}/data"), &user, &user, 0o750, std::slice::from_ref(&top));
        if self.recipe.runtime.php.is_some() {
            self.directory(&format!("{home}/sessions"), &user, &user, 0o700, &[top]);
        }
        for wanted in &self.recipe.layout.directory {
            let path = format!("{home}/{}", wanted.path);
            let owner = self.owner(wanted.owner);
            let above = self.above(&path);
            match self.recipe.layout.besides().contains(&wanted.path.as_str()) {
                true => self.whole_directory(&path, &owner, &user, wanted.mode.0, &above),
                false => self.directory(&path, &owner, &user, wanted.mode.0, &above),
            };
        }
    }

    fn shared_directory(&mut self, path: &str, mode: u32) -> ResourceId {
        let (owner, group) = ("root".to_owned(), "root".to_owned());
        let desired = directory::Desired { present: true, owner, group, mode, whole: false };
        self.share(Kind::Directory, path, AnyDesired::Directory(desired), &[])
    }

    fn directory(&mut self, path: &str, owner: &str, group: &str, mode: u32, needs: &[ResourceId]) -> ResourceId {
        let (owner, group) = (owner.to_owned(), group.to_owned());
        let desired = directory::Desired { present: true, owner, group, mode, whole: false };
        self.want(Kind::Directory, path, AnyDesired::Directory(desired), needs)
    }

    /// Of data: backups and upgrades take it as a whole.
    fn whole_directory(&mut self, path: &str, owner: &str, group: &str, mode: u32, needs: &[ResourceId]) -> ResourceId {
        let (owner, group) = (owner.to_owned(), group.to_owned());
        let desired = directory::Desired { present: true, owner, group, mode, whole: true };
        self.want(Kind::Directory, path, AnyDesired::Directory(desired), needs)
    }

    /// The nearest wanted directory above `path`.
    fn above(&self, path: &str) -> Vec<ResourceId> {
        let directories = self.wanted(&[Kind::Directory]);
        let above = directories.into_iter().filter(|directory| path.starts_with(&format!("{}/", directory.name)));
        above.max_by_key(|directory| directory.name.len()).into_iter().collect()
    }

    fn owner(&self, owner: Owner) -> String {
        match owner {
            Owner::App => self.user().to_owned(),
            Owner::Root => "root".to_owned(),
        }
    }

    pub(super) fn secret_files(&mut self) {
        if self.recipe.secrets.is_empty() {
            return;
        }
        let base = self.shared_directory(secret::DIRECTORY, 0o700);
        let own = self.directory(&format!("{}/{}", secret::DIRECTORY, self.name), "root", "root", 0o700, &[base]);
        for spec in &self.recipe.secrets {
            let value = self.secrets.get(spec.name.as_str()).map(ToString::to_string).unwrap_or_default();
            let desired = file::Desired {
                present: true,
                content: Content::new(value),
                owner: "root".to_owned(),
                group: "root".to_owned(),
                mode: 0o600,
                write: file::Write::Once,
            };
            let path = format!("{}/{}", own.name, spec.name);
            self.want(Kind::File, path, AnyDesired::File(desired), std::slice::from_ref(&own));
        }
    }

    pub(super) fn files(&mut self) {
        for wanted in &self.recipe.files {
            let values = self.values([("secret", self.secrets())]);
            let text = self.render(&wanted.template, values);
            let path = format!("{}/{}", self.home(), wanted.dest);
            let owner = self.owner(wanted.owner);
            let write = match wanted.write {
                Write::Always => file::Write::Always,
                Write::Once => file::Write::Once,
            };
            self.file(&path, text, &owner, wanted.mode.0, write);
        }
        if let Some(php) = &self.recipe.runtime.php {
            let ini = self.fill_map(&php.ini).into_iter().map(|(key, value)| (key, Value::from(value)));
            let ini = Value::from(ini.collect::<BTreeMap<_, _>>());
            let values = self.values([("ini", ini), ("children", Value::from(php.children))]);
            let text = self.render_text("php-fpm.ini", include_str!("php-fpm.ini"), values);
            self.file(&format!("{}/config/php-fpm.ini", self.home()), text, "root", 0o440, file::Write::Always);
        }
    }

    pub(super) fn file(&mut self, path: &str, text: String, owner: &str, mode: u32, write: file::Write) {
        let content = content(text);
        // What the application takes over is its own, and the recipe's programs are no input of a
        // running service.
        if write == file::Write::Always && !path.starts_with(&format!("{}/recipe/", self.home())) {
            self.configuration.insert(path.to_owned(), content.digest());
        }
        let desired = file::Desired {
            present: true,
            content,
            owner: owner.to_owned(),
            group: self.user().to_owned(),
            mode,
            write,
        };
        let above = self.above(path);
        self.want(Kind::File, path, AnyDesired::File(desired), &above);
    }

    pub(super) fn databases(&mut self) {
        for db in &self.recipe.dbs {
            let needs = [id(Kind::Service, server_unit(db.engine)), id(Kind::Account, self.user())];
            let desired =
                database::Desired { present: true, owner: self.user().to_owned(), extensions: db.extensions.clone() };
            let name = format!("{}:{}", db.engine.as_str(), self.words["db"]);
            self.want(Kind::Database, name, AnyDesired::Database(desired), &needs);
        }
    }
}

pub(super) fn server_package(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => "mariadb-server",
        Engine::Postgresql => "postgresql",
    }
}

pub(super) fn server_unit(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => "mariadb.service",
        Engine::Postgresql => "postgresql.service",
    }
}
