use super::*;

pub fn diff(_name: &str, _desired: Option<&Desired>, _observed: &Observed) -> Diff<Change> {
    unimplemented!()
}
