//! What stands in `[certificates]`, `[authorities]` and `[dns]`.

use reqwest::Url;

use super::Wrong;
use crate::model::Domain;
use crate::model::problem::shown;

/// An e-mail address, without `mailto:`.
pub(in crate::model::document) fn contact(text: &str) -> Result<String, Wrong> {
    let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control() || c == ':');
    let good = |(local, domain): (&str, &str)| {
        plain(local) && domain.contains('.') && domain.to_lowercase().parse::<Domain>().is_ok()
    };
    if text.len() <= 254 && text.is_ascii() && text.split_once('@').is_some_and(good) {
        return Ok(text.to_owned());
    }
    let wrong = Wrong::new(format!("{} is not an e-mail address", shown(text)));
    Err(match text.strip_prefix("mailto:") {
        Some(address) => wrong.hint(format!("write {}", shown(address))),
        None => wrong.hint("such as `admin@example.org`"),
    })
}

/// The address of an ACME directory. Without TLS anybody on the way could be the authority (RFC 8555, 6.1).
pub(in crate::model::document) fn directory(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &str| Wrong::new(format!("{} {why}", shown(text)));
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("is not an address: it has a space or line break in it"));
    }
    let url = Url::parse(text)
        .map_err(|_| wrong("is not a whole address").hint("such as `https://acme.example.org/directory`"))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: there it stands in logs.
        let wrong = Wrong::new("the address has a user name or password in it");
        return Err(wrong.hint("authorities know their customers by `binding`"));
    }
    if url.scheme() != "https" {
        return Err(wrong("is not protected on its way").hint("use `https://`"));
    }
    Ok(text.to_owned())
}

/// What an authority calls one of its kinds of certificate.
pub(in crate::model::document) fn profile(text: &str) -> Result<String, Wrong> {
    let good = (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{} is not the name of a profile", shown(text))).hint("such as `tlsserver` or `shortlived`"))
}

/// A setting or secret of a DNS provider.
pub(in crate::model::document) fn setting(text: &str) -> Result<(), Wrong> {
    let good = (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphabetic()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if good {
        return Ok(());
    }
    let wrong = Wrong::new(format!("{} is not the name of a setting", shown(text)));
    Err(wrong.hint("letters, digits, `_` and `-`, beginning with a letter"))
}
