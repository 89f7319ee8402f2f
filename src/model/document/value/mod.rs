//! What one value must be. Each function gives the valid value, or what is wrong and what would be
//! right.

mod certificate;
mod path;
mod repository;
mod service;

pub(super) use certificate::{contact, directory, profile, setting};
pub(super) use path::{free_path, gecos, line, mode, path, writable_path};
pub(super) use repository::{region, repository, secret_file};
pub(super) use service::{Listen, calendar, listen, program, system_call, unit, variable};

use reqwest::Url;

use super::parse::Wrong;
use crate::model::problem::shown;
use crate::model::sealed::SealedError;
use crate::model::{Digest, Domain, Name, Sealed, Version};

pub(super) fn name(text: &str) -> Result<Name, Wrong> {
    text.parse().map_err(|_| {
        let wrong = Wrong::new(format!(
            "{} is not a name: 1 to 31 of `a` to `z`, `0` to `9` and `-`, beginning with a letter",
            shown(text)
        ));
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let near = words.collect::<Vec<_>>().join("-");
        did_you_mean_name(wrong, &near)
    })
}

/// Never shows what was written: it may be the secret itself.
pub(super) fn sealed(text: &str) -> Result<Sealed, Wrong> {
    text.parse().map_err(|error: SealedError| {
        Wrong::new(error.to_string()).hint("a secret in clear must not be in a document: socle fleet seal")
    })
}

fn did_you_mean_name(wrong: Wrong, near: &str) -> Wrong {
    match near.parse::<Name>() {
        Ok(near) => wrong.hint(format!("`{near}` would be one")),
        Err(_) => wrong,
    }
}

/// An instance's name is also the end of a user's and a unit's.
pub(super) fn instance_name(text: &str) -> Result<Name, Wrong> {
    let name = name(text)?;
    // systemd refuses user names above 31 characters (UT_NAMESIZE - 1).
    const MOST: usize = 31 - "socle-".len();
    if text.len() > MOST {
        let wrong = Wrong::new(format!("`{name}` is too long for an instance: {MOST} characters at most"));
        return Err(wrong.hint(format!("its system user is called `socle-{name}`")));
    }
    not_our_own(name)
}

/// `socle-agent`, `socle-link`, `socle-door` … are units, users and groups of the program's own.
pub(super) fn service_name(text: &str) -> Result<Name, Wrong> {
    not_our_own(name(text)?)
}

fn not_our_own(name: Name) -> Result<Name, Wrong> {
    const OWN: [&str; 6] = ["agent", "apt", "backup", "controller", "door", "link"];
    let own = |role: &&str| name.as_str() == *role || name.as_str().starts_with(&format!("{role}-"));
    if OWN.iter().any(own) {
        let wrong = Wrong::new(format!("the name `{name}` is kept for socle's own units"));
        return Err(wrong.hint("choose another name"));
    }
    Ok(name)
}

pub(super) fn account_name(text: &str) -> Result<Name, Wrong> {
    let name = name(text)?;
    // Of Debian's base-passwd, its users with the same group, and servers whose packages make one.
    const SYSTEM: [&str; 32] = [
        "adm",
        "backup",
        "bin",
        "daemon",
        "disk",
        "dnsmasq",
        "games",
        "irc",
        "list",
        "lp",
        "mail",
        "man",
        "messagebus",
        "mysql",
        "news",
        "nobody",
        "nogroup",
        "polkitd",
        "postgres",
        "proxy",
        "redis",
        "root",
        "shadow",
        "sshd",
        "staff",
        "sudo",
        "sync",
        "sys",
        "tty",
        "uucp",
        "utmp",
        "www-data",
    ];
    if SYSTEM.contains(&text) || text.starts_with("systemd-") {
        return Err(Wrong::new(format!("`{name}` belongs to Debian")).hint("choose another name"));
    }
    if text == "socle" || text.starts_with("socle-") {
        let wrong = Wrong::new(format!("`{name}` is a name of socle's own users: `socle` and `socle-…`"));
        return Err(wrong.hint("choose another name"));
    }
    Ok(name)
}

/// A user or group that exists on the server, or will.
pub(super) fn user(text: &str) -> Result<String, Wrong> {
    let bytes = text.as_bytes();
    let good = (1..=31).contains(&bytes.len())
        && (bytes[0].is_ascii_lowercase() || bytes[0] == b'_')
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b));
    if good {
        return Ok(text.to_owned());
    }
    let wrong = Wrong::new(format!("{} is not the name of a user or group", shown(text)));
    Err(match text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        true => wrong.hint("write the name, not the number"),
        false => wrong.hint("1 to 31 of `a` to `z`, `0` to `9`, `-` and `_`, beginning with a letter"),
    })
}

/// The owner of a database is never an administrator of the server.
pub(super) fn database_owner(text: &str) -> Result<String, Wrong> {
    if ["root", "mysql", "postgres"].contains(&text) {
        let wrong = Wrong::new(format!("`{text}` administers the database server and cannot own a database"));
        return Err(wrong.hint("name the user of the application, or declare one in `[accounts]`"));
    }
    user(text)
}

pub(super) fn database_name(text: &str) -> Result<Name, Wrong> {
    let name = name(text)?;
    const SERVER: [&str; 7] =
        ["information-schema", "mysql", "performance-schema", "postgres", "sys", "template0", "template1"];
    if SERVER.contains(&text) {
        return Err(Wrong::new(format!("`{name}` belongs to the database server")).hint("choose another name"));
    }
    if text.starts_with("socle-") {
        let wrong = Wrong::new(format!("`{name}`: names with `socle-` are those of instances' databases"));
        return Err(wrong.hint("choose another name"));
    }
    Ok(name)
}

pub(super) fn extension(text: &str) -> Result<String, Wrong> {
    let good = (1..=63).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if good { Ok(text.to_owned()) } else { Err(Wrong::new(format!("{} is not the name of an extension", shown(text)))) }
}

pub(super) fn domain(text: &str) -> Result<Domain, Wrong> {
    let wrong = Wrong::new(format!("{} is not a domain name", shown(text)));
    if let Some(parent) = text.strip_prefix("*.") {
        let example = format!("`www.{parent}`");
        return Err(wrong.hint(format!("write each name, such as {example}: a certificate is ordered for each")));
    }
    let last_label = text.rsplit('.').next().unwrap_or("");
    match text.parse::<Domain>() {
        Ok(_) if last_label.bytes().all(|b| b.is_ascii_digit()) => {
            Err(wrong.hint("an address cannot be used: write a name that leads to this server"))
        }
        Ok(_) if !text.contains('.') => Err(wrong.hint(format!("write the whole name, such as `{text}.example.org`"))),
        Ok(domain) => Ok(domain),
        Err(_) => match nearest_domain(text) {
            Some(domain) => Err(wrong.hint(format!("did you mean `{domain}`?"))),
            None => {
                Err(wrong.hint("such as `blog.example.org`: labels of `a` to `z`, `0` to `9` and `-`, joined by dots"))
            }
        },
    }
}

/// What a browser would make of it: lower case, `xn--` for letters with accents, no path.
fn nearest_domain(text: &str) -> Option<Domain> {
    let text = text.trim();
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let domain: Domain = Url::parse(&url).ok()?.host_str()?.trim_end_matches('.').parse().ok()?;
    let is_name = domain.as_str().contains('.') && !domain.as_str().ends_with(|c: char| c.is_ascii_digit());
    is_name.then_some(domain)
}

/// Whether it is an exact one, the recipe says, and which it knows.
pub(super) fn version(text: &str) -> Result<Version, Wrong> {
    text.parse().map_err(|_| {
        let wrong = Wrong::new(format!("{} is not a version", shown(text)));
        wrong.hint("1 to 64 of letters, digits, `.`, `-`, `+`, `_` and `~`, beginning with a letter or digit")
    })
}

pub(super) fn digest(text: &str) -> Result<Digest, Wrong> {
    text.parse().map_err(|_| {
        let wrong = Wrong::new(format!("{} is not a SHA-256: 64 hexadecimal digits, lower case", shown(text)));
        let near = text.trim().trim_start_matches("sha256:").to_lowercase();
        match near.parse::<Digest>() {
            Ok(near) => wrong.hint(format!("write `{near}`")),
            Err(_) => wrong.hint(format!("this has {} characters; `sha256sum FILE` prints it", text.chars().count())),
        }
    })
}

/// The address of a release. Without a digest, nothing but the transport vouches for the bytes.
pub(super) fn url(text: &str, has_digest: bool) -> Result<String, Wrong> {
    let wrong = |why: &str| Wrong::new(format!("{} {why}", shown(text)));
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("is not an address: it has a space or line break in it"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let hint =
            if text.starts_with('/') { format!("write `file://{text}`") } else { format!("write `https://{text}`") };
        return Err(wrong("is not a whole address").hint(hint));
    };
    let parsed = Url::parse(text).map_err(|_| wrong("is not an address"))?;
    // The address is shown in plans and reports.
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let wrong = Wrong::new("the address has a user name or password in it, which every plan would show");
        return Err(wrong.hint("put the file where it can be fetched without, and give its `sha256`"));
    }
    match scheme {
        "https" => Ok(text.to_owned()),
        "http" if has_digest => Ok(text.to_owned()),
        "http" => {
            let wrong = wrong("is not protected on its way, and no `sha256` says what it must be");
            Err(wrong.hint("use `https://`, or add `sha256 = \"…\"`"))
        }
        "file" if rest.starts_with('/') => path(rest).map(|_| text.to_owned()),
        "file" => Err(wrong("does not name a file of this server").hint("write `file:///` and the path")),
        _ => Err(Wrong::new(format!("{} is not a way to fetch a release", shown(scheme)))
            .hint("`https://`, `http://` with `sha256`, or `file:///`")),
    }
}

/// A Debian package name (Debian Policy, 5.6.1).
pub(super) fn package(text: &str) -> Result<(), Wrong> {
    let bytes = text.as_bytes();
    let letter = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if bytes.len() >= 2 && letter(&bytes[0]) && bytes.iter().all(|b| letter(b) || b"+-.".contains(b)) {
        return Ok(());
    }
    let wrong = Wrong::new(format!("{} is not the name of a Debian package", shown(text)));
    let lower = text.to_lowercase();
    Err(match text.split_once(['=', ':', '/', ' ']) {
        Some((name, _)) if package(name).is_ok() => {
            wrong.hint(format!("write `{name}` only: versions and architectures are apt's choice"))
        }
        _ if lower != text && package(&lower).is_ok() => wrong.hint(format!("did you mean `{lower}`?")),
        _ => wrong.hint("`a` to `z`, `0` to `9`, `+`, `-` and `.`, two characters at least"),
    })
}

/// Without these the agent cannot look at the server any more.
pub(super) fn removable(package: &str) -> Result<(), Wrong> {
    const NEEDED: [&str; 8] = ["apt", "base-files", "coreutils", "dbus", "dpkg", "libc6", "socle", "systemd"];
    if NEEDED.contains(&package) {
        return Err(
            Wrong::new(format!("`{package}` cannot be removed: socle itself needs it")).hint("take this line out")
        );
    }
    Ok(())
}
