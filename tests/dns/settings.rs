//! What each kind of provider asks for: all that is missing or too much is told at once, and no secret with it.

use std::collections::BTreeMap;

use socle::host::dns::settings::{kinds, problems};
use socle::model::Secret;
use socle::model::certificate::Provider;

use super::provider;

/// Base64, since one kind asks for that.
const HUSH: &str = "aHVzaC1odXNo";

fn word(name: &str) -> &'static str {
    match name {
        "server" => "192.0.2.53:53",
        "endpoint" => "https://dns.example.net",
        _ => "example",
    }
}

/// What the problems of an empty provider ask for.
fn filled(kind: &str) -> Provider {
    let mut full = provider(kind, &[], &[], &[]);
    for problem in problems(&full) {
        let name = problem.split('`').nth(1).unwrap_or_default();
        match (name, problem.starts_with("the secret")) {
            ("command", _) => full.command = vec!["/usr/local/bin/dns-hook".to_owned()],
            (name, true) => drop(full.secrets.insert(name.to_owned(), Secret::new(HUSH))),
            (name, false) => drop(full.settings.insert(name.to_owned(), word(name).to_owned())),
        }
    }
    full
}

#[test]
fn everything_that_is_missing_is_told_at_once() {
    // `exec`, `ovh`, `rfc2136`, and those of the library.
    assert_eq!(kinds().count(), 3 + 62);
    for kind in kinds() {
        let asked = problems(&provider(kind, &[], &[], &[]));
        assert!(!asked.is_empty() && asked.iter().all(|says| says.contains("missing")), "{kind}: {asked:?}");
        let full = filled(kind);
        assert_eq!(problems(&full), Vec::<String>::new(), "{kind}");
        assert_eq!(full.settings.len() + full.secrets.len() + full.command.len(), asked.len(), "{kind}");
        // One by one: each is asked for by its own name, and an empty text is none.
        for name in full.settings.keys() {
            for less in [None, Some(String::new())] {
                let mut settings = full.settings.clone();
                settings.remove(name);
                settings.extend(less.map(|empty| (name.clone(), empty)));
                assert_eq!(problems(&Provider { settings, ..full.clone() }), [format!("`{name}` is missing")]);
            }
        }
        for name in full.secrets.keys() {
            let secrets: BTreeMap<_, _> = full.secrets.clone().into_iter().filter(|(other, _)| other != name).collect();
            assert_eq!(problems(&Provider { secrets, ..full.clone() }), [format!("the secret `{name}` is missing")]);
        }
    }
}

#[test]
fn everything_that_is_too_much_is_told_at_once() {
    for kind in kinds() {
        let mut more = filled(kind);
        more.settings.insert("endpont".to_owned(), "x".to_owned());
        more.settings.insert("colour".to_owned(), "x".to_owned());
        let told = problems(&more).join("\n");
        for name in ["endpont", "colour"] {
            assert!(told.contains(&format!("`{name}` is no setting of `{kind}`")), "{kind}: {told}");
        }
        if kind == "exec" {
            continue;
        }
        more.secrets.insert("tokn".to_owned(), Secret::new(HUSH));
        more.command = vec!["/bin/true".to_owned()];
        let told = problems(&more);
        assert_eq!(told.len(), 4, "{kind}: {told:?}");
        assert!(told[2].contains(&format!("`tokn` is no secret of `{kind}`: it has")), "{kind}: {told:?}");
        assert!(told[3].contains("`command` is for `exec`"), "{kind}: {told:?}");
    }
}

/// What is there and wrong: the message quotes a setting, never a secret.
#[test]
fn what_is_wrong_is_quoted_unless_it_is_secret() {
    let exec = |settings: &[(&str, &str)], secrets: &[(&str, &str)], command: &[&str]| {
        problems(&provider("exec", settings, secrets, command))
    };
    let rfc2136 = |settings: &[(&str, &str)], key: &str| {
        let all = [&[("server", "192.0.2.53"), ("key_name", "socle")], settings].concat();
        problems(&provider("rfc2136", &all, &[("key", key)], &[]))
    };
    let ovh = |settings: &[(&str, &str)]| {
        let keys = ["application_key", "application_secret", "consumer_key"].map(|name| (name, HUSH));
        problems(&provider("ovh", settings, &keys, &[]))
    };
    let cases = [
        (problems(&provider("gandy", &[], &[], &[])), "`gandy` is not a provider: one of exec, ovh, rfc2136, alidns"),
        (rfc2136(&[("algorithm", "md5")], HUSH), "`algorithm` is `md5`: one of "),
        (rfc2136(&[("zone", "not a zone")], HUSH), "`zone` is `not a zone`, which is no domain"),
        (rfc2136(&[], "?? not base64 ??"), "the secret `key` is not base64"),
        (ovh(&[("endpoint", "ovh-mars")]), "`endpoint` is `ovh-mars`: one of ovh-eu"),
        (ovh(&[("endpoint", "http://api.example.net/1.0")]), "or an https address"),
        (exec(&[], &[], &["hook"]), "`command` begins with `hook`, which is no absolute path"),
        (exec(&[("timeout", "0")], &[], &["/bin/hook"]), "`timeout` is `0`: 1 to 3600 seconds"),
        (exec(&[("timeout", "3601")], &[], &["/bin/hook"]), "`timeout` is `3601`: 1 to 3600 seconds"),
        (exec(&[], &[("token", HUSH)], &["/bin/hook"]), "the secret `token` cannot be a variable of the program"),
        (exec(&[], &[("LD_PRELOAD", HUSH)], &["/bin/hook"]), "the secret `LD_PRELOAD` cannot be a variable"),
        (exec(&[], &[("PATH", HUSH)], &["/bin/hook"]), "the secret `PATH` cannot be a variable"),
    ];
    for (told, expected) in cases {
        assert_eq!(told.len(), 1, "{expected}: {told:?}");
        assert!(told[0].contains(expected), "{expected}: {told:?}");
        assert!(!told[0].contains(HUSH) && !told[0].contains("not base64 ??"), "{told:?}");
    }
}
