use super::set;
use crate::host::{PackageState, Packages, Quiet};

/// `known` can be installed and removed without anything else coming or going, and its download is not kept;
/// nobody knows `unknown`. Ends with `known` installed.
pub async fn packages(packages: &dyn Packages, known: &str, unknown: &str) {
    let look = async |name: &str| packages.states(&set([name])).await.expect("states")[name].clone();
    assert!(packages.states(&set([])).await.expect("about nothing").is_empty());
    assert_eq!(packages.states(&set([known, unknown])).await.expect("about both").len(), 2);
    assert!(matches!(look(unknown).await, PackageState::Unknown { .. }));

    // Taking away what is not there is fine, whether it could be there or not.
    packages.remove(&set([unknown]), &Quiet).await.expect("nothing to remove");
    for _ in 0..2 {
        packages.remove(&set([known]), &Quiet).await.expect("removes");
    }
    let PackageState::Absent { candidate } = look(known).await else { panic!("`{known}` is still there") };
    assert!(!candidate.is_empty(), "the lists are read");
    assert!(packages.download_size(&set([known])).await.expect("a size") > 0);
    assert!(packages.download_size(&set([unknown])).await.is_err());

    // All of them or none.
    let error = packages.install(&set([known, unknown]), &Quiet).await.unwrap_err();
    assert_eq!(error.code, "package.unknown");
    assert!(error.message.contains(unknown), "{error}");
    assert_eq!(look(known).await, PackageState::Absent { candidate: candidate.clone() });

    for _ in 0..2 {
        packages.install(&set([known]), &Quiet).await.expect("installs");
    }
    assert_eq!(look(known).await, PackageState::Installed { version: candidate });
    assert_eq!(packages.download_size(&set([known])).await.expect("a size"), 0);

    for name in ["-y", "nginx=1", "nginx-", "a b", ""] {
        let names = set([name]);
        assert_eq!(packages.states(&names).await.unwrap_err().code, "package.name", "{name:?}");
        assert_eq!(packages.install(&names, &Quiet).await.unwrap_err().code, "package.name", "{name:?}");
        assert_eq!(packages.remove(&names, &Quiet).await.unwrap_err().code, "package.name", "{name:?}");
        assert_eq!(packages.download_size(&names).await.unwrap_err().code, "package.name", "{name:?}");
    }
}
