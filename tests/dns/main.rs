//! Providers of DNS on the real thing: BIND with its keys, a server that checks OVH's signatures, a program.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

mod bind;
mod check;
mod exec;
mod library;
mod ovh;
mod servers;
mod settings;
mod updates;

use std::collections::BTreeMap;

use socle::model::Secret;
use socle::model::certificate::Provider;

fn provider(kind: &str, settings: &[(&str, &str)], secrets: &[(&str, &str)], command: &[&str]) -> Provider {
    let texts = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
    Provider {
        kind: kind.to_owned(),
        settings: texts.collect::<BTreeMap<_, _>>(),
        secrets: secrets.collect(),
        command: command.iter().map(ToString::to_string).collect(),
    }
}
