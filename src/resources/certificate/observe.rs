use super::*;
use crate::host::certificates::StoreError;
use crate::model::Name;

/// Two small files each: the link and the description.
pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let (store, names) = (store(host), names.clone());
    let look = move || names.into_iter().map(|name| (name.clone(), look(&store, &name))).collect();
    tokio::task::spawn_blocking(look).await.expect("reading files does not panic")
}

fn look(store: &Store, name: &str) -> Result<Observed, ErrorReport> {
    // Instances have names; nobody else's certificate is asked for.
    let Ok(name) = name.parse::<Name>() else { return Ok(Observed::default()) };
    match store.present(&name) {
        Ok(present) => Ok(Observed { present: present.map(|present| (present.generation, present.meta)) }),
        Err(error @ StoreError::Damaged { .. }) => {
            let directory = format!("{STATE}/tls/{name}");
            let hint = format!("mv {directory} {directory}.damaged; socle agent apply");
            Err(ErrorReport::of("certificate.damaged", &error, Some(hint)))
        }
        Err(error) => Err(ErrorReport::of("certificate.look", &error, None)),
    }
}
