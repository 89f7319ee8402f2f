//! What stands in units.

use std::net::IpAddr;

use super::{Wrong, path};
use crate::model::problem::{did_you_mean, shown};

pub(in crate::model::document) fn program(text: &str) -> Result<String, Wrong> {
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

pub(in crate::model::document) fn variable(text: &str) -> Result<(), Wrong> {
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

pub(in crate::model::document) fn system_call(text: &str) -> Result<(), Wrong> {
    let bytes = text.strip_prefix('@').unwrap_or(text).as_bytes();
    let good =
        !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(b));
    if good {
        return Ok(());
    }
    let wrong = Wrong::new(format!("{} is not a system call or a group of them", shown(text)));
    Err(wrong.hint("such as `mlock` or `@chown`: `systemd-analyze syscall-filter` lists the groups"))
}

/// An existing unit, by its full name (systemd.unit(5)).
pub(in crate::model::document) fn unit(text: &str) -> Result<String, Wrong> {
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
            return Err(match text.contains('.') {
                true => wrong.hint(format!("the full name ends in one of .{}", KINDS.join(", ."))),
                false => wrong.hint(format!("write the full name, such as `{text}.service`")),
            });
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
        let hint = format!("name an instance of it, such as `{stem}NAME.{}`", &text[stem.len() + 1..]);
        return Err(wrong("is a template: it cannot run").hint(hint));
    }
    Ok(text.to_owned())
}

/// What a socket unit listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::model::document) enum Listen {
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

pub(in crate::model::document) fn listen(text: &str) -> Result<Listen, Wrong> {
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
pub(in crate::model::document) fn calendar(text: &str) -> Result<String, Wrong> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_understands_is_accepted() {
        for good in [
            "hourly",
            "Weekly",
            "*-*-* 03:00:00",
            "Mon..Fri 22:30",
            "Sat,Sun *-*-* 12:00",
            "*:0/15",
            "2026-11-23",
            "*-*~03 4:00",
        ] {
            assert!(calendar(good).is_ok(), "{good}");
        }
        for good in ["9000", "127.0.0.1:9000", "0.0.0.0:22", "[::1]:9000", "[::]:9000", "/run/a.sock"] {
            assert!(listen(good).is_ok(), "{good}");
        }
        for good in
            ["ssh.service", "getty@tty1.service", "apt-daily.timer", "mnt-a\\x2db.mount", "systemd-timesyncd.service"]
        {
            assert!(unit(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn ports_clash_with_the_same_and_with_every_address() {
        let clash = |a: &str, b: &str| listen(a).unwrap().clashes(&listen(b).unwrap());
        assert!(clash("9000", "127.0.0.1:9000") && clash("0.0.0.0:9000", "9000") && clash("[::1]:1", "[0::1]:1"));
        assert!(!clash("127.0.0.1:9000", "[::1]:9000") && !clash("9000", "9001") && !clash("/run/a", "/run/b"));
    }
}
