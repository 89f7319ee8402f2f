use super::*;

/// An account nobody wants any more may own files: it is removed only by a purge.
pub async fn list(_host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    Ok(BTreeSet::new())
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    match host.accounts.states(names).await {
        Ok(states) => states
            .into_iter()
            .map(|(name, state)| {
                let seen = state.map_or(Observed::Absent, |state| Observed::Present {
                    home: state.home,
                    groups: state.groups,
                    readers: state.readers,
                });
                (name, Ok(seen))
            })
            .collect(),
        Err(error) => names.iter().map(|name| (name.clone(), Err(error.report()))).collect(),
    }
}
