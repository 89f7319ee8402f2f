//! One server's document out of its own file, its instances' files and the fleet's defaults.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeValue;

use super::layout::File;
use super::text::{Composer, Step};
use super::{Composed, Part, Parts, Problems, as_table, known_form, place};
use crate::model::Name;
use crate::model::document::{self, Found, Wrong};
use crate::model::problem::Problem;

/// Every server whose document is valid. Instances of no known server are judged all the same.
pub(super) fn compose_all(parts: &Parts<'_>, problems: &mut Problems<'_>) -> BTreeMap<Name, Composed> {
    let mut composed = BTreeMap::new();
    let mut homes: BTreeMap<&str, Vec<(&Name, &Part<'_>)>> = BTreeMap::new();
    for instance in &parts.instances {
        // None is the server of nobody: no server has an empty name.
        homes.entry(instance.1.text("server").map_or("", |(on, _)| on)).or_default().push(instance);
    }
    for (name, part) in &parts.servers {
        known_form(part, "servers", problems);
        own_fields(name, part, problems);
        let instances = homes.remove(name.as_str()).unwrap_or_default();
        if let Some(server) = compose(parts, Some((name, part)), &instances, problems) {
            composed.insert(name.clone(), server);
        }
    }
    for instance in homes.into_values().flatten() {
        compose(parts, None, &[instance], problems);
    }
    composed
}

/// What a server's file may not say, though a document may.
fn own_fields(name: &Name, part: &Part<'_>, problems: &mut Problems<'_>) {
    let Some(own) = part.table("server").and_then(|server| server.get("name")) else { return };
    if let Some(other) = own.get_ref().as_str()
        && other != name.as_str()
    {
        let wrong = Wrong::new(format!("the server of this file is called `{name}`, as the file is"));
        problems.add(part.file.path, wrong.hint("take this line out, or rename the file").at(own.span().start));
    }
}

fn compose(
    parts: &Parts<'_>,
    server: Option<(&Name, &Part<'_>)>,
    instances: &[(&Name, &Part<'_>)],
    problems: &mut Problems<'_>,
) -> Option<Composed> {
    let mut composer = Composer::default();
    introduce(&mut composer, parts, server, instances);
    composer.text.push_str("schema = 1\n");
    if let Some((name, part)) = server {
        server_tables(&mut composer, parts, name, part);
    }
    for (name, part) in instances.iter().filter(|(_, part)| part.readable) {
        instance_tables(&mut composer, parts, name, part);
    }
    let Composer { text, origins } = composer;
    match document::values(&text) {
        Ok(document) => Some(Composed { text, document, origins }),
        Err(found) => {
            let place = |found: Found| Problem {
                at: place(problems.files, &origins, found.offset),
                reason: found.wrong.reason,
                hint: found.wrong.hint,
            };
            let found: Vec<_> = found.into_iter().map(place).collect();
            problems.list.extend(found);
            None
        }
    }
}

/// For whoever reads the document on the server.
fn introduce(
    composer: &mut Composer,
    parts: &Parts<'_>,
    server: Option<(&Name, &Part<'_>)>,
    instances: &[(&Name, &Part<'_>)],
) {
    let (Some((name, part)), Some(fleet)) = (server, &parts.fleet) else { return };
    let fleet = fleet.text("name").map_or("", |(name, _)| name).escape_debug().to_string();
    composer
        .comment(&format!("The server `{name}` of the fleet `{fleet}`, put together from these files of the fleet's"));
    composer.comment("directory. Change them there: `socle fleet apply` writes this anew.");
    composer.comment(&format!("  {}", part.file.path));
    for (_, part) in instances {
        composer.comment(&format!("  {}", part.file.path));
    }
}

fn server_tables(composer: &mut Composer, parts: &Parts<'_>, name: &Name, part: &Part<'_>) {
    let file = part.file;
    let skip = ["schema", "server", "instances"];
    composer.fields(file, &part.all, &skip);
    let own = part.all.get("server");
    let at = own.map_or(0, |own| own.span().start);
    composer.header(file, at, &[Step { written: "server", offset: at }]);
    composer.stand_in(&format!("name = \"{name}\"\n"), file, at);
    let own = as_table(own);
    if let Some((fleet, drift)) = default(parts, "drift")
        && own.is_none_or(|own| !own.contains_key("drift"))
    {
        composer.stand_in("drift", fleet, drift.span().start);
        composer.text.push_str(" = ");
        composer.stand_in(&fleet.text[drift.span()], fleet, drift.span().start);
        composer.text.push('\n');
    }
    if let Some(own) = own {
        composer.fields(file, own, &["name"]);
        composer.tables(file, own, &[Step { written: "server", offset: at }], &["name"]);
    }
    composer.tables(file, &part.all, &[], &skip);
}

fn instance_tables(composer: &mut Composer, parts: &Parts<'_>, name: &Name, part: &Part<'_>) {
    let file = part.file;
    let steps = ["instances", name.as_str()].map(|written| Step { written, offset: 0 });
    composer.header(file, 0, &steps);
    let limits = part.all.get("limits");
    let own_form = limits.is_none_or(|limits| limits.get_ref().is_table());
    // Limits get a header, whatever they are written as, so that defaults find room in them.
    let skip: &[&str] = if own_form { &["server", "limits"] } else { &["server"] };
    composer.fields(file, &part.all, skip);
    composer.tables(file, &part.all, &steps, skip);
    if own_form {
        instance_limits(composer, parts, file, &steps, limits);
    }
}

fn instance_limits(
    composer: &mut Composer,
    parts: &Parts<'_>,
    file: File<'_>,
    steps: &[Step<'_>],
    limits: Option<&Spanned<DeValue<'_>>>,
) {
    let own = as_table(limits);
    let from_fleet = default(parts, "limits").and_then(|(fleet, limits)| Some((fleet, limits.get_ref().as_table()?)));
    let missing = |key: &str| own.is_none_or(|own| !own.contains_key(key));
    if own.is_none() && from_fleet.is_none_or(|(_, limits)| limits.is_empty()) {
        return;
    }
    let at = limits.map_or(0, |limits| limits.span().start);
    let steps = [steps, &[Step { written: "limits", offset: at }]].concat();
    composer.header(file, at, &steps);
    if let Some(own) = own {
        composer.fields(file, own, &[]);
        composer.tables(file, own, &steps, &[]);
    }
    if let Some((fleet, defaults)) = from_fleet {
        let there: Vec<_> = defaults.keys().map(|key| key.get_ref().as_ref()).filter(|key| !missing(key)).collect();
        composer.fields(fleet, defaults, &there);
    }
}

/// A value of `[defaults]` that has the right form.
fn default<'p, 'a>(parts: &'p Parts<'a>, field: &str) -> Option<(File<'a>, &'p Spanned<DeValue<'a>>)> {
    let part = parts.fleet.as_ref()?;
    Some((part.file, part.table("defaults")?.get(field)?))
}
