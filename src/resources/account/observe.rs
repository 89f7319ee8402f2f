use super::*;

/// An account outlives who wanted it: files belong to its number. Who wants it gone says so.
pub async fn list(_host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    Ok(BTreeSet::new())
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let states = match host.accounts.states(names).await {
        Ok(states) => states,
        Err(error) => return names.iter().map(|name| (name.clone(), Err(error.report()))).collect(),
    };
    let of = |state: Option<&Option<crate::host::AccountState>>| match state {
        Some(Some(seen)) => {
            Observed::Present { home: seen.home.clone(), groups: seen.groups.clone(), readers: seen.readers.clone() }
        }
        _ => Observed::Absent,
    };
    names.iter().map(|name| (name.clone(), Ok(of(states.get(name))))).collect()
}
