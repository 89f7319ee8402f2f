use super::*;

pub async fn apply(_host: &Host, _name: &str, _change: &Change) -> Result<(), ApplyError> {
    unimplemented!()
}
