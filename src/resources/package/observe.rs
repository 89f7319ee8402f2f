use super::*;
use crate::host::PackageState;

/// A package is never ours alone: others may use it, so an unwanted one is not looked for.
pub async fn list(_host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    Ok(BTreeSet::new())
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let states = match host.packages.states(names).await {
        Ok(states) => states,
        Err(error) => return names.iter().map(|name| (name.clone(), Err(error.report()))).collect(),
    };
    names.iter().map(|name| (name.clone(), observed(name, states.get(name)))).collect()
}

fn observed(name: &str, state: Option<&PackageState>) -> Result<Observed, ErrorReport> {
    Ok(match state.cloned() {
        Some(PackageState::Unknown { hint }) => Observed::Unknown { hint },
        Some(PackageState::Absent { candidate }) => Observed::Absent { candidate },
        Some(PackageState::Installed { version }) => Observed::Installed { version },
        Some(PackageState::Broken { state }) => Observed::Broken { state },
        None => {
            return Err(ErrorReport {
                code: "package.no-answer".to_owned(),
                message: format!("the package manager did not answer about `{name}`"),
                causes: Vec::new(),
                hint: None,
            });
        }
    })
}
