use super::*;
use crate::host::DatabaseState;
use crate::model::document::Engine;

/// A database holds the one thing that cannot be had again, so none is ever removed because nobody
/// wants it any more: it is dropped only when a purge asks for that by name.
pub async fn list(_host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    Ok(BTreeSet::new())
}

/// One question to each engine that is asked about.
pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let mut seen = BTreeMap::new();
    let mut asked: BTreeMap<Engine, BTreeSet<String>> = BTreeMap::new();
    for name in names {
        match split(name) {
            Ok((engine, database)) => {
                asked.entry(engine).or_default().insert(database.to_owned());
            }
            Err(error) => {
                seen.insert(name.clone(), Err(error));
            }
        }
    }
    for (engine, databases) in asked {
        let answer = host.databases.states(engine, &databases).await;
        for database in databases {
            let observed = match &answer {
                Ok((states, roles)) => observed(engine, &database, states.get(&database), roles),
                Err(error) => Err(error.report()),
            };
            seen.insert(format!("{}:{database}", engine.as_str()), observed);
        }
    }
    seen
}

fn observed(
    engine: Engine,
    database: &str,
    state: Option<&DatabaseState>,
    roles: &BTreeSet<String>,
) -> Result<Observed, ErrorReport> {
    let Some(state) = state.cloned() else {
        return Err(ErrorReport {
            code: "database.no-answer".to_owned(),
            message: format!("{} did not answer about `{database}`", engine.as_str()),
            causes: Vec::new(),
            hint: None,
        });
    };
    Ok(Observed { database: state.exists, roles: roles.clone(), owners: state.owners, extensions: state.extensions })
}
