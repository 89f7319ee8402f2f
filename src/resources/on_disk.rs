//! What the kinds on the file system share: how they are looked at and how they are changed.

use std::collections::{BTreeMap, BTreeSet};

use super::{About, ApplyError};
use crate::host::Host;
use crate::host::files::{FilesError, Names};
use crate::model::report::ErrorReport;

type Seen<O> = BTreeMap<String, Result<O, ErrorReport>>;

/// Looks at each, with the users and groups read once for all.
pub(super) async fn observe<O: Send + 'static>(
    host: &Host,
    names: &BTreeSet<String>,
    look: fn(&Host, &Names, &str) -> Result<O, FilesError>,
) -> Seen<O> {
    let (host, names) = (host.clone(), names.clone());
    let all = move || {
        let users = host.names().map_err(|error| error.report());
        let one =
            |name: &String| look(&host, users.as_ref().map_err(Clone::clone)?, name).map_err(|error| error.report());
        names.iter().map(|name| (name.clone(), one(name))).collect()
    };
    tokio::task::spawn_blocking(all).await.expect("reading files does not panic")
}

/// Writing and removing may take long: it must not hold up the rest of the program.
pub(super) async fn apply<C: Clone + Send + 'static>(
    host: &Host,
    name: &str,
    change: &C,
    act: fn(&Host, &str, &C) -> Result<(), FilesError>,
) -> Result<(), ApplyError> {
    let (host, name, change) = (host.clone(), name.to_owned(), change.clone());
    let done = tokio::task::spawn_blocking(move || act(&host, &name, &change)).await;
    done.expect("touching files does not panic")
        .map_err(|error| ApplyError { report: error.report(), about: About::Host })
}
