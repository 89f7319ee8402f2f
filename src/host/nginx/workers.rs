use std::collections::BTreeSet;
use std::fs;

/// The worker processes of a master that still accept connections. One that only finishes its last
/// requests calls itself `nginx: worker process is shutting down`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Workers(BTreeSet<u32>);

impl Workers {
    /// A master that is gone has none.
    pub fn of(master: u32) -> Self {
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        let workers = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        Self(workers.filter(|pid| accepts(*pid)).collect())
    }

    /// These are new ones, and all of the old are done.
    pub fn replace(&self, old: &Self) -> bool {
        !self.0.is_empty() && self.0.is_disjoint(&old.0)
    }
}

fn accepts(pid: u32) -> bool {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let title = String::from_utf8_lossy(&title);
    title.trim_matches(['\0', ' ']) == "nginx: worker process"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ones_only() {
        let workers = |pids: &[u32]| Workers(pids.iter().copied().collect());
        assert!(workers(&[3, 4]).replace(&workers(&[1, 2])));
        assert!(!workers(&[2, 3]).replace(&workers(&[1, 2])));
        assert!(!workers(&[]).replace(&workers(&[1, 2])));
        assert_eq!(Workers::of(0), workers(&[]));
    }
}
