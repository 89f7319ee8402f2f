//! What the files of a fleet must be to each other.

use std::collections::BTreeMap;

use super::{Part, Parts, Problems};
use crate::model::document::Wrong;
use crate::model::problem::{did_you_mean, shown};
use crate::model::{Domain, Name};

pub(super) fn check(parts: &Parts<'_>, problems: &mut Problems<'_>) {
    for part in parts.instances.values() {
        known(part, "server", "servers", &parts.servers, problems);
        known(part, "member", "members", &parts.members, problems);
    }
    each_domain_once(parts, problems);
}

/// The field names a file of the directory.
fn known(part: &Part<'_>, field: &str, directory: &str, files: &BTreeMap<Name, Part<'_>>, problems: &mut Problems<'_>) {
    let Some((name, at)) = part.text(field) else { return };
    if files.keys().any(|known| known.as_str() == name) {
        return;
    }
    let wrong = Wrong::new(format!("there is no {field} {}", shown(name)));
    let hint = match (did_you_mean(name, files.keys().map(Name::as_str)), name.parse::<Name>()) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, Ok(name)) => format!("write `{directory}/{name}.toml`, or name one that is there"),
        (None, Err(_)) => format!("name a file of `{directory}/`, without `.toml`"),
    };
    problems.add(part.file.path, wrong.hint(hint).at(at));
}

/// On one server, the document itself is judged for this.
fn each_domain_once(parts: &Parts<'_>, problems: &mut Problems<'_>) {
    let mut seen: BTreeMap<Domain, (&Name, &str)> = BTreeMap::new();
    for (instance, part) in &parts.instances {
        let Some((server, _)) = part.text("server") else { continue };
        // A domain may move: an absent instance no longer answers at it.
        if part.text("state").is_some_and(|(state, _)| state == "absent") {
            continue;
        }
        for (domain, at) in domains(part) {
            match seen.get(&domain) {
                None => drop(seen.insert(domain, (instance, server))),
                Some((_, first)) if *first == server => {}
                Some((first, elsewhere)) => {
                    let wrong = Wrong::new(format!(
                        "`{domain}` is already a domain of the instance `{first}` on {}",
                        shown(elsewhere)
                    ));
                    problems.add(part.file.path, wrong.hint("a domain leads to one instance only").at(at));
                }
            }
        }
    }
}

/// The domain and the aliases, as far as they are domains.
fn domains(part: &Part<'_>) -> Vec<(Domain, usize)> {
    let domain = part.good.get("domain");
    let aliases = part.good.get("aliases").and_then(|list| list.get_ref().as_array());
    let all = domain.into_iter().chain(aliases.into_iter().flat_map(|list| list.iter()));
    all.filter_map(|value| Some((value.get_ref().as_str()?.parse().ok()?, value.span().start))).collect()
}
