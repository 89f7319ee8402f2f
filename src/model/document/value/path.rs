//! Lines and paths.

use super::Wrong;
use crate::model::problem::shown;

/// A text that becomes one line of a unit file or of the user database.
pub(in crate::model::document) fn line(text: &str) -> Result<String, Wrong> {
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
pub(in crate::model::document) fn gecos(text: &str) -> Result<String, Wrong> {
    match text.contains(':') {
        true => Err(Wrong::new(format!("{} has a `:` in it", shown(text))).hint("the user database cannot hold one")),
        false => line(text),
    }
}

/// A path from the root, written in the only way.
pub(in crate::model::document) fn path(text: &str) -> Result<String, Wrong> {
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
pub(in crate::model::document) fn free_path(text: &str) -> Result<String, Wrong> {
    let path = path(text)?;
    const KEPT: [(&str, &str); 10] = [
        ("/var/lib/socle", "the agent keeps its own state there"),
        ("/srv/socle", "instances are there, and the agent manages them from `[instances]`"),
        ("/etc/socle", "the server's administrator configures the agent there"),
        ("/run", "it is emptied at each boot"),
        ("/var/run", "it is emptied at each boot"),
        ("/tmp", "it is emptied at each boot"),
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
    // Nothing else of ours writes there either: the agent's own sandbox forbids it.
    const PACKAGES: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
    let why = if path == "/" {
        Some("name a file in it")
    } else if PACKAGES.into_iter().any(below) && !below("/usr/local") {
        Some("packages bring what is there; yours goes below `/usr/local`")
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
pub(in crate::model::document) fn writable_path(text: &str) -> Result<String, Wrong> {
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

/// Permission bits from their octal digits.
pub(in crate::model::document) fn mode(text: &str) -> Result<u32, Wrong> {
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
