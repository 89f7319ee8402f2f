//! Where backups go, and what a server there is told.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use super::super::location::{RepositoryLocation, RepositoryPlace};
use super::Wrong;
use super::path::path;
use crate::model::problem::shown;

/// A repository as restic names it.
pub(in crate::model::document) fn repository(text: &str) -> Result<RepositoryLocation, Wrong> {
    let place = if let Some(rest) = text.strip_prefix("rest:") {
        self::rest(text, rest)?
    } else if let Some(s3) = text.strip_prefix("s3:") {
        self::s3(text, s3)?
    } else if text.starts_with("sftp:") {
        sftp(text)?
    } else if text.contains("://") || text.split_once(':').is_some_and(|(kind, _)| !kind.contains('/')) {
        let wrong = Wrong::new(format!("{} is not a place backups can be kept in", shown(text)));
        return Err(wrong.hint("a directory of this server, `sftp://…`, `rest:https://…` or `s3:https://…`"));
    } else {
        directory(text)?;
        RepositoryPlace::Directory
    };
    Ok(RepositoryLocation::new(text, place))
}

/// Where backups may be kept on this server: not inside what they save.
fn directory(text: &str) -> Result<(), Wrong> {
    let path = path(text)?;
    let below =
        |parent: &&str| path == **parent || path.strip_prefix(*parent).is_some_and(|rest| rest.starts_with('/'));
    const SAVED: [&str; 6] = ["/srv/socle", "/var/lib/socle", "/proc", "/sys", "/dev", "/run"];
    match SAVED.iter().find(|parent| below(parent)) {
        Some(parent) => Err(Wrong::new(format!("{} is below `{parent}`", shown(&path)))
            .hint("backups belong elsewhere than what they save: another disk, best of all")),
        None if path == "/" => {
            Err(Wrong::new("`/` is the whole server").hint("name a directory, such as `/srv/backup`"))
        }
        None => Ok(()),
    }
}

fn rest(text: &str, address: &str) -> Result<RepositoryPlace, Wrong> {
    let mut url = address_of(text, address, "rest:https://backup.example.org/ks1/")?;
    if url.password().is_some() {
        // Not shown.
        let wrong = Wrong::new("the location has a password in it, which every plan would show");
        return Err(wrong.hint("leave the user in it, and give the password in `secrets` or `secret_files`"));
    }
    let user = match url.username() {
        "" => None,
        user => Some(word(text, user)?),
    };
    // Fails only for an address without a host.
    let _ = url.set_username("");
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(RepositoryPlace::Rest { url: url.into(), user })
}

fn s3(text: &str, address: &str) -> Result<RepositoryPlace, Wrong> {
    let example = "s3:https://s3.example.org/bucket/ks1";
    let url = address_of(text, address, example)?;
    if !url.username().is_empty() || url.password().is_some() {
        let wrong = Wrong::new("the location has a user name or password in it, which every plan would show");
        return Err(wrong.hint("give `access-key-id` and `secret-access-key` in `secrets` or `secret_files`"));
    }
    let mut parts = url.path().trim_matches('/').split('/');
    let bucket = parts.next().unwrap_or_default();
    let prefix: Vec<&str> = parts.collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !part.starts_with('.')
    };
    if !(3..=63).contains(&bucket.len()) || !plain(&bucket) || !prefix.iter().all(plain) {
        let wrong = Wrong::new(format!("{} does not name a bucket", shown(text)));
        return Err(wrong.hint(format!("such as `{example}`: the bucket, and what names in it begin with")));
    }
    let endpoint = url.origin().ascii_serialization();
    Ok(RepositoryPlace::S3 { endpoint, bucket: bucket.to_owned(), prefix: prefix.join("/") })
}

/// An address without query and fragment. Credentials go over it, so it is protected unless it leads nowhere.
fn address_of(text: &str, address: &str, example: &str) -> Result<Url, Wrong> {
    let wrong = |why: &str| Wrong::new(format!("{} {why}", shown(text)));
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("is not an address: it has a space or line break in it"));
    }
    let such = format!("such as `{example}`");
    // What has a password in it is not shown.
    let hidden = |why: &str| match address.contains('@') {
        true => Wrong::new(format!("the location {why}")),
        false => wrong(why),
    };
    let url = Url::parse(address).map_err(|_| hidden("is not a whole address").hint(such.clone()))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(hidden("goes on behind its path").hint(such));
    }
    match url.scheme() {
        "https" if url.host_str().is_some() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(hidden("is not protected on its way").hint("use `https://`")),
        _ => Err(hidden("is not an address of a server").hint(such)),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

fn sftp(text: &str) -> Result<RepositoryPlace, Wrong> {
    let example = "such as `sftp://ks1@backup.example.org/socle`";
    let wrong = |why: &str| Wrong::new(format!("{} {why}", shown(text))).hint(example);
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("is not an address: it has a space or line break in it"));
    }
    if !text.starts_with("sftp://") {
        return Err(wrong("is not a whole address"));
    }
    let url = Url::parse(text).map_err(|_| match text.contains('@') {
        true => Wrong::new("the location is not a whole address").hint(example),
        false => wrong("is not a whole address"),
    })?;
    if url.password().is_some() {
        let wrong = Wrong::new("the location has a password in it, which every plan would show");
        return Err(wrong.hint("the server is let in by its key: socle agent backup ssh-key"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("goes on behind its path"));
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else { return Err(wrong("names no server")) };
    if url.username().is_empty() {
        return Err(wrong("does not say who logs in there"));
    }
    let user = word(text, url.username())?;
    // restic: one slash leads to the user's home directory, two to the root.
    let path = url.path().strip_prefix('/').unwrap_or_default();
    let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty() && ![".", ".."].contains(part) && part.bytes().all(|b| b.is_ascii_graphic() && b != b'%')
    };
    if !parts.iter().all(plain) {
        return Err(wrong("does not name a directory there"));
    }
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(RepositoryPlace::Sftp { user, host, port: url.port().unwrap_or(22), path: path.to_owned() })
}

/// A user of another machine: nothing that would have to be written in another way in an address.
fn word(text: &str, user: &str) -> Result<String, Wrong> {
    let plain = user.len() <= 64 && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match plain {
        true => Ok(user.to_owned()),
        false => Err(Wrong::new(format!("{} has a user in it that cannot be one", shown(text)))
            .hint("letters, digits, `-`, `_` and `.`")),
    }
}

/// What S3 calls the place of a bucket.
pub(in crate::model::document) fn region(text: &str) -> Result<String, Wrong> {
    let good = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{} is not a region", shown(text))).hint("such as `eu-west-3`, or `garage`"))
}

/// A file that the unit which makes backups sees: it sees no home directories.
pub(in crate::model::document) fn secret_file(text: &str) -> Result<String, Wrong> {
    let path = path(text)?;
    const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];
    match HIDDEN.iter().find(|parent| path.strip_prefix(**parent).is_some_and(|rest| rest.starts_with('/'))) {
        Some(parent) => Err(Wrong::new(format!("{} is below `{parent}`, which backups do not see", shown(&path)))
            .hint("put it into `/etc/socle/secrets`")),
        None => Ok(path),
    }
}
