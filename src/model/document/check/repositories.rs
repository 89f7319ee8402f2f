//! `[repositories]`.

use std::collections::BTreeMap;

use super::super::parse::Wrong;
use super::super::{
    HostKey, Repository, RepositoryLocation, RepositoryPlace, SecretSource, keep, location, value, written,
};
use super::Checker;
use crate::model::Name;

impl Checker<'_> {
    pub(super) fn repositories(
        &mut self,
        written: BTreeMap<String, written::Repository>,
    ) -> BTreeMap<Name, Repository> {
        let mut repositories = BTreeMap::new();
        let mut places: Vec<(String, RepositoryLocation)> = Vec::new();
        for (key, repository) in written {
            let found = self.repository(&key, &repository);
            if let Some((_, checked)) = &found {
                if let Some((first, _)) = places.iter().find(|(_, known)| known.leads_to(&checked.location)) {
                    let wrong = Wrong::new(format!("the repository `{first}` is already there"));
                    let path = ["repositories", &key, "location"];
                    self.at(&path, wrong.hint("a second copy of the backups belongs in another place"));
                }
                places.push((key, checked.location.clone()));
            }
            repositories.extend(found);
        }
        repositories
    }

    fn repository(&mut self, key: &str, written: &written::Repository) -> Option<(Name, Repository)> {
        let at = |field: &'static str| ["repositories", key, field];
        let name = self.keep_key(&["repositories", key], value::name(key));
        let place = self.read(&at("location"), written.location.as_deref(), value::repository);
        let on_calendar = self.read(&at("on_calendar"), Some(&written.on_calendar), value::calendar);
        let region = self.read(&at("region"), written.region.as_deref(), value::region);
        let roots = self.read(&at("roots"), written.roots.as_deref(), value::secret_file);
        let host_keys = self.list(&at("host_keys"), &written.host_keys, location::host_key);
        let secrets = self.repository_secrets(key, written);
        if written.keep.last == 0 {
            let wrong = Wrong::new("`last = 0` would keep no snapshot for certain");
            self.at(&["repositories", key, "keep", "last"], wrong.hint("1 at least"));
        }
        let tags = self.list(&["repositories", key, "keep", "tags"], &written.keep.tags, keep::tag);
        let location = place?;
        self.only_for_its_place(key, location.place(), written);
        Some((
            name?,
            Repository {
                location,
                host_keys: host_keys.into_iter().collect::<Vec<HostKey>>(),
                region,
                roots,
                secrets,
                append_only: written.append_only,
                limit_upload_kib: written.limit_upload_kib,
                limit_download_kib: written.limit_download_kib,
                on_calendar: on_calendar?,
                max_age_hours: written.max_age_hours,
                keep: written.keep.valid(tags),
            },
        ))
    }

    fn repository_secrets(&mut self, key: &str, written: &written::Repository) -> BTreeMap<Name, SecretSource> {
        let mut secrets = BTreeMap::new();
        for (secret, text) in &written.secrets {
            let path = ["repositories", key, "secrets", secret];
            let name = self.keep_key(&path, value::name(secret));
            let sealed = self.read(&path, Some(text), value::sealed);
            secrets.extend(name.zip(sealed.map(SecretSource::Sealed)));
        }
        for (secret, text) in &written.secret_files {
            let path = ["repositories", key, "secret_files", secret];
            let name = self.keep_key(&path, value::name(secret));
            if written.secrets.contains_key(secret) {
                let wrong = Wrong::new(format!("`{secret}` is in `secrets` and in `secret_files`"));
                self.at_key(&path, wrong.hint("keep one of them"));
            }
            let file = self.read(&path, Some(text), value::secret_file);
            secrets.extend(name.zip(file.map(|file| SecretSource::File(file.into()))));
        }
        secrets
    }

    /// What the place needs and is not there, and what it has no use for.
    fn only_for_its_place(&mut self, key: &str, place: &RepositoryPlace, written: &written::Repository) {
        let at = |field: &'static str| ["repositories", key, field];
        let cut = |this: &Self, field: &'static str| this.was_cut(&at(field));
        let sftp = matches!(place, RepositoryPlace::Sftp { .. });
        if sftp && written.host_keys.is_empty() && !cut(self, "host_keys") {
            let wrong = Wrong::new("nothing says which server this is: `host_keys` is missing");
            let hint = "add `host_keys = [\"ssh-ed25519 …\"]`: `ssh-keyscan -t ed25519 HOST` prints it, after the name";
            self.at(&at("location"), wrong.hint(hint));
        }
        if !sftp && !written.host_keys.is_empty() {
            let wrong = Wrong::new("`host_keys` is for repositories at `sftp://…`");
            self.at_key(&at("host_keys"), wrong.hint("take it out, or change `location`"));
        }
        if !matches!(place, RepositoryPlace::S3 { .. }) && written.region.is_some() {
            let wrong = Wrong::new("`region` is for repositories at `s3:…`");
            self.at_key(&at("region"), wrong.hint("take it out, or change `location`"));
        }
        if !place.is_protected() && written.roots.is_some() {
            let wrong = Wrong::new("`roots` is for repositories at `rest:https://…` and `s3:https://…`");
            self.at_key(&at("roots"), wrong.hint("take it out, or change `location`"));
        }
        if *place == RepositoryPlace::Directory && written.append_only {
            let wrong = Wrong::new("nothing keeps this server from deleting in a directory of its own");
            self.at_key(&at("append_only"), wrong.hint("take it out, or keep the backups elsewhere"));
        }
        let needed = place.secrets();
        let given = |name: &str| written.secrets.contains_key(name) || written.secret_files.contains_key(name);
        for name in needed.iter().filter(|name| !given(name)) {
            let was_wrong = |table| self.was_cut(&["repositories", key, table, name]) || cut(self, table);
            if was_wrong("secrets") || was_wrong("secret_files") {
                continue;
            }
            let wrong = Wrong::new(format!("the secret `{name}` is missing"));
            let hint =
                format!("add `secret_files = {{ {name} = \"/etc/socle/secrets/…\" }}`, or a sealed one in `secrets`");
            self.at(&at("location"), wrong.hint(hint));
        }
        let all = [("secrets", &written.secrets), ("secret_files", &written.secret_files)];
        for (table, names) in all {
            for name in names.keys().filter(|name| !needed.contains(&name.as_str())) {
                let wrong = Wrong::new(format!("`{name}` is no secret of this repository"));
                let hint = match needed {
                    [] if matches!(place, RepositoryPlace::Rest { .. }) => {
                        "without a user in the location there is no password".to_owned()
                    }
                    [] => "it needs none".to_owned(),
                    needed => {
                        let needed: Vec<_> = needed.iter().map(|name| format!("`{name}`")).collect();
                        format!("it needs {}", needed.join(" and "))
                    }
                };
                self.at_key(&["repositories", key, table, name], wrong.hint(hint));
            }
        }
    }
}
