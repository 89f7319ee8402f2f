use super::*;

pub async fn list(_host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    unimplemented!()
}

pub async fn observe(_host: &Host, _names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    unimplemented!()
}
