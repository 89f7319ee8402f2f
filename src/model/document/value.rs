//! What one value must be. Each function gives the valid value, or what is wrong and what would be
//! right.

use std::net::IpAddr;

use reqwest::Url;

use super::parse::Wrong;
use crate::model::problem::{did_you_mean, shown};
use crate::model::{Digest, Domain, Name, Version};

pub(super) fn name(text: &str) -> Result<Name, Wrong> {
    text.parse().map_err(|_| {
        let wrong = Wrong::new(format!(
            "{} is not a name: 1 to 31 of `a` to `z`, `0` to `9` and `-`, beginning with a letter",
            shown(text)
        ));
        let near: String = text
            .to_lowercase()
            .chars()
            .map(|c| if matches!(c, '_' | ' ' | '.') { '-' } else { c })
            .skip_while(|c| !c.is_ascii_lowercase())
            .collect();
        did_you_mean_name(wrong, &near)
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

/// Units `socle-agent…` and `socle-controller…` are the program's own.
pub(super) fn service_name(text: &str) -> Result<Name, Wrong> {
    not_our_own(name(text)?)
}

fn not_our_own(name: Name) -> Result<Name, Wrong> {
    let own = |role| name.as_str() == role || name.as_str().starts_with(&format!("{role}-"));
    if own("agent") || own("controller") {
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

pub(super) fn version(text: &str) -> Result<Version, Wrong> {
    if ["latest", "stable", "newest", "current", "*"].contains(&text) {
        let wrong = Wrong::new(format!("`{text}` is not a version: it would change by itself"));
        return Err(wrong.hint("write the exact version, such as `6.8.7`"));
    }
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
        "file" if rest.starts_with('/') => Ok(text.to_owned()),
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
    const NEEDED: [&str; 9] = ["apt", "base-files", "coreutils", "dbus", "dpkg", "libc6", "nginx", "socle", "systemd"];
    if NEEDED.contains(&package) {
        return Err(
            Wrong::new(format!("`{package}` cannot be removed: socle itself needs it")).hint("take this line out")
        );
    }
    Ok(())
}

/// A text that becomes one line of a unit file or of the user database.
pub(super) fn line(text: &str) -> Result<String, Wrong> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(Wrong::new(format!("{} has {} in it", shown(text), control(c))).hint("write it on one line")),
        None => Ok(text.to_owned()),
    }
}

fn control(c: char) -> String {
    match c {
        '\n' | '\r' => "a line break".to_owned(),
        '\t' => "a tab".to_owned(),
        c => format!("the control character U+{:04X}", u32::from(c)),
    }
}

/// The description of a user stands between colons in `/etc/passwd`.
pub(super) fn gecos(text: &str) -> Result<String, Wrong> {
    match text.contains(':') {
        true => Err(Wrong::new(format!("{} has a `:` in it", shown(text))).hint("the user database cannot hold one")),
        false => line(text),
    }
}

/// A path from the root, written in the only way.
pub(super) fn path(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &str| Wrong::new(format!("{} {why}", shown(text)));
    if !text.starts_with('/') {
        return Err(wrong("is not an absolute path").hint("begin with `/`"));
    }
    line(text)?;
    let clean: Vec<_> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if clean.contains(&"..") {
        return Err(wrong("goes up with `..`").hint("write the path it leads to"));
    }
    if text.len() > 4095 || clean.iter().any(|part| part.len() > 255) {
        return Err(wrong("is too long for a path").hint("255 bytes a name, 4095 in all"));
    }
    let clean = format!("/{}", clean.join("/"));
    if clean != text {
        return Err(wrong("is not written plainly").hint(format!("write {}", shown(&clean))));
    }
    Ok(clean)
}

/// A path the document may decide about.
pub(super) fn free_path(text: &str) -> Result<String, Wrong> {
    let path = path(text)?;
    const KEPT: [(&str, &str); 9] = [
        ("/var/lib/socle", "the agent keeps its own state there"),
        ("/srv/socle", "instances are there, and the agent manages them from `[instances]`"),
        ("/etc/socle", "the server's administrator configures the agent there"),
        ("/run", "it is emptied at each boot"),
        ("/var/run", "it is emptied at each boot"),
        ("/proc", "it is the kernel's"),
        ("/sys", "it is the kernel's"),
        ("/dev", "it is the kernel's"),
        ("/boot", "it is the boot loader's"),
    ];
    const BEGIN: [(&str, &str); 3] = [
        ("/etc/systemd/system/socle-", "declare the unit in `[services]`"),
        ("/etc/nginx/sites-available/socle-", "the agent writes the sites of `[instances]`"),
        ("/etc/nginx/sites-enabled/socle-", "the agent writes the sites of `[instances]`"),
    ];
    const USERS: [&str; 6] = ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid"];
    let below = |parent: &str| path == parent || path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'));
    let why = if path == "/" {
        Some("name a file in it")
    } else if USERS.contains(&path.as_str()) {
        Some("declare users in `[accounts]`")
    } else {
        let below = KEPT.iter().find(|(parent, _)| below(parent));
        below.or_else(|| BEGIN.iter().find(|(begin, _)| path.starts_with(begin))).map(|(_, why)| *why)
    };
    match why {
        Some(why) => Err(Wrong::new(format!("{} is not for a document to decide", shown(&path))).hint(why)),
        None => Ok(path),
    }
}

/// A path a service may write. Its own sandbox must not become empty words.
pub(super) fn writable_path(text: &str) -> Result<String, Wrong> {
    let path = path(text)?;
    let kept = ["/", "/etc", "/usr", "/boot", "/proc", "/sys", "/dev", "/etc/socle", "/var/lib/socle"];
    let below = |parent: &str| path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'));
    if kept.contains(&path.as_str())
        || below("/etc/socle")
        || below("/var/lib/socle")
        || below("/proc")
        || below("/sys")
    {
        let wrong = Wrong::new(format!("a service cannot be given {} to write", shown(&path)));
        return Err(wrong.hint("name the one directory it needs, such as `/srv/ticker`"));
    }
    Ok(path)
}

pub(super) fn program(text: &str) -> Result<String, Wrong> {
    if text.contains(char::is_whitespace) && text.starts_with('/') && !text.contains('\n') {
        let words: Vec<_> = text.split_whitespace().collect();
        let wrong = Wrong::new(format!("{} is a whole command line", shown(text)));
        return Err(wrong.hint(format!("one word each: {}", shown(&format!("exec = {words:?}")))));
    }
    path(text).map_err(|wrong| match text.starts_with('/') {
        true => wrong,
        false => Wrong::new(format!("{} is not the absolute path of a program", shown(text))).hint(format!(
            "`command -v {}` prints it",
            text.split_whitespace().next().unwrap_or("NAME").escape_debug()
        )),
    })
}

pub(super) fn variable(text: &str) -> Result<(), Wrong> {
    let bytes = text.as_bytes();
    let good = !bytes.is_empty()
        && !bytes[0].is_ascii_digit()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if good {
        return Ok(());
    }
    let wrong = Wrong::new(format!("{} is not the name of an environment variable", shown(text)));
    Err(wrong.hint("letters, digits and `_`, not beginning with a digit"))
}

pub(super) fn system_call(text: &str) -> Result<(), Wrong> {
    let bytes = text.strip_prefix('@').unwrap_or(text).as_bytes();
    let good =
        !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(b));
    if good {
        return Ok(());
    }
    let wrong = Wrong::new(format!("{} is not a system call or a group of them", shown(text)));
    Err(wrong.hint("such as `mlock` or `@chown`: `systemd-analyze syscall-filter` lists the groups"))
}

/// Permission bits from their octal digits.
pub(super) fn mode(text: &str) -> Result<u32, Wrong> {
    let wrong = |why: &str| Wrong::new(format!("{} {why}", shown(text)));
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(mode),
        Ok(mode) if digits => {
            let hint =
                format!("write `{:04o}`: the set-user, set-group and sticky bits are not given to files", mode & 0o777);
            Err(wrong("has more than permission bits").hint(hint))
        }
        _ => Err(wrong("is not a mode: 3 or 4 octal digits").hint("such as `0644`, `0640` or `0755`")),
    }
}

/// An existing unit, by its full name (systemd.unit(5)).
pub(super) fn unit(text: &str) -> Result<String, Wrong> {
    const KINDS: [&str; 7] = ["service", "socket", "timer", "path", "mount", "automount", "target"];
    let wrong = |why: &str| Wrong::new(format!("{} {why}", shown(text)));
    let good = !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b));
    if !good {
        return Err(
            wrong("is not the name of a unit").hint("such as `ssh.service`: `systemctl list-unit-files` lists them")
        );
    }
    let stem = match text.rsplit_once('.') {
        Some((stem, kind)) if !stem.is_empty() && KINDS.contains(&kind) => stem,
        _ => {
            let wrong = wrong("does not say what kind of unit it is");
            return Err(wrong.hint(format!("write the full name, such as `{text}.service`")));
        }
    };
    if text.starts_with("socle-") {
        return Err(wrong("is a unit of socle itself")
            .hint("use `exec` for a unit of your own, `[instances]` for an application"));
    }
    if ["dbus", "dbus-broker"].contains(&stem) {
        return Err(wrong("cannot be managed: the agent reaches systemd through it").hint("take this service out"));
    }
    if stem.ends_with('@') {
        let hint = format!("name an instance of it, such as `{stem}1.{}`", &text[stem.len() + 1..]);
        return Err(wrong("is a template: it cannot run").hint(hint));
    }
    Ok(text.to_owned())
}

/// What a socket unit listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listen {
    Path(String),
    /// `None`: every address.
    Port(Option<IpAddr>, u16),
}

impl Listen {
    pub fn clashes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(a), Self::Path(b)) => a == b,
            (Self::Port(a, port), Self::Port(b, other)) => port == other && (a.is_none() || b.is_none() || a == b),
            _ => false,
        }
    }
}

pub(super) fn listen(text: &str) -> Result<Listen, Wrong> {
    let wrong = |why: &str| Wrong::new(format!("{} {why}", shown(text)));
    if text.starts_with('/') {
        return path(text).map(Listen::Path);
    }
    let (address, port) = match text.rsplit_once(':') {
        Some((address, port)) => (Some(address), port),
        None => (None, text),
    };
    let unbracketed = address.map(|a| a.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(a));
    let ip = match unbracketed.map(str::parse::<IpAddr>) {
        None => None,
        Some(Ok(IpAddr::V6(_))) if !text.starts_with('[') => {
            return Err(wrong("needs brackets around its address").hint("such as `[::1]:9000`"));
        }
        Some(Ok(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
        Some(Err(_)) => {
            let wrong = wrong("is not an address and port, nor a path");
            return Err(wrong.hint("such as `127.0.0.1:9000`, `9000` or `/run/ticker.sock`"));
        }
    };
    match port.parse::<u16>() {
        Ok(80 | 443) => {
            let wrong = wrong("is nginx's: it serves every site on ports 80 and 443");
            Err(wrong.hint("listen on another port of 127.0.0.1"))
        }
        Ok(port) if port > 0 && !text.contains('+') => Ok(Listen::Port(ip, port)),
        _ if address.is_none() && !port.bytes().all(|b| b.is_ascii_digit()) => {
            let wrong = wrong("is not an address and port, nor a path");
            Err(wrong.hint("such as `127.0.0.1:9000`, `9000` or `/run/ticker.sock`"))
        }
        _ => Err(wrong("has no valid port").hint("1 to 65535")),
    }
}

/// The shape of systemd.time(7), "CALENDAR EVENTS"; systemd has the last word.
pub(super) fn calendar(text: &str) -> Result<String, Wrong> {
    const WORDS: [&str; 9] =
        ["minutely", "hourly", "daily", "monthly", "weekly", "yearly", "quarterly", "semiannually", "annually"];
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let wrong = Wrong::new(format!("{} is not a time of systemd", shown(text)));
    let lower = text.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) {
        return Ok(text.to_owned());
    }
    let fields: Vec<_> = text.split_whitespace().collect();
    let of_cron = |field: &&str| field.bytes().all(|b| b.is_ascii_digit() || b"*/,-".contains(&b));
    if fields.len() == 5 && fields.iter().all(of_cron) {
        return Err(wrong.hint("this looks like a line for cron; every day at 03:00 is `*-*-* 03:00:00`"));
    }
    let begins_with_day = DAYS.iter().any(|day| lower.starts_with(day));
    let plausible = (begins_with_day || text.starts_with(|c: char| c.is_ascii_digit() || c == '*'))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"*-,./: ~_+".contains(&b))
        && (begins_with_day || text.contains(':') || text.contains('-'));
    if plausible {
        return Ok(text.to_owned());
    }
    Err(match did_you_mean(&lower, WORDS) {
        Some(meant) => wrong.hint(format!("did you mean `{meant}`?")),
        None => {
            wrong.hint("such as `hourly`, `daily` or `Mon *-*-* 03:00:00`: `systemd-analyze calendar TIME` explains it")
        }
    })
}
