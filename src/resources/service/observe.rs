use super::*;
use crate::model::unit::{HEADER, INPUTS_DIR};

pub const DIRECTORY: &str = "/etc/systemd/system";

/// Our unit files, known by their name and their first line.
pub async fn list(host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    let directory = host.path(DIRECTORY);
    let failed = |error: std::io::Error| ErrorReport {
        code: "service.unreadable".to_owned(),
        message: format!("cannot list `{DIRECTORY}`"),
        causes: vec![error.to_string()],
        hint: None,
    };
    let mut ours = BTreeSet::new();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ours),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let a_unit = [".service", ".timer", ".socket"].iter().any(|suffix| name.ends_with(suffix));
        if a_unit && name.starts_with("socle-") {
            let text = text(host, &name)?;
            if text.is_some_and(|text| text.starts_with(HEADER)) {
                ours.insert(name);
            }
        }
    }
    Ok(ours)
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let mut states = match host.units.states(names).await {
        Ok(states) => states,
        Err(error) => return names.iter().map(|name| (name.clone(), Err(error.report()))).collect(),
    };
    names
        .iter()
        .map(|name| {
            let state = states.remove(name).unwrap_or_default();
            let seen = text(host, name).map(|text| Observed {
                exists: !matches!(state.load.as_str(), "not-found" | ""),
                text,
                active: state.active,
                enabled: state.enabled,
                inputs: inputs(host, name),
                need_reload: state.need_reload,
            });
            (name.clone(), seen)
        })
        .collect()
}

/// The text of the unit file in `/etc`, if it is a file: a mask is a link to /dev/null.
fn text(host: &Host, name: &str) -> Result<Option<String>, ErrorReport> {
    let path = host.path(format!("{DIRECTORY}/{name}"));
    let read = match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() => std::fs::read_to_string(&path).map(Some),
        Ok(_) => Ok(None),
        Err(error) => Err(error),
    };
    match read {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ErrorReport {
            code: "service.unreadable".to_owned(),
            message: format!("cannot read `{DIRECTORY}/{name}`"),
            causes: vec![error.to_string()],
            hint: None,
        }),
    }
}

/// Unreadable is as good as unknown here: the service is then restarted.
fn inputs(host: &Host, name: &str) -> Option<String> {
    let target = std::fs::read_link(host.path(format!("{INPUTS_DIR}/{name}"))).ok()?;
    Some(target.to_string_lossy().into_owned())
}
