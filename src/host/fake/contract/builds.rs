use std::fs;
use std::path::Path;

use crate::host::{Builds, Quiet};

/// `known` is a requirement that can be had, `unknown` one that cannot; `scratch` an empty directory that
/// everybody may enter.
pub async fn builds(builds: &dyn Builds, known: &str, unknown: &str, index: Option<&str>, scratch: &Path) {
    let target = scratch.join("target");
    let stage = scratch.join("stage");
    fs::create_dir(&stage).unwrap();
    let build = async |requirement: &str, index: Option<&str>| {
        builds.venv(&stage, &target, &[requirement.to_owned()], index, &Quiet).await.map_err(|error| error.code)
    };
    for bad in ["-r /etc/passwd", "https://contract.example.org/a.whl", "./a", ""] {
        assert_eq!(build(bad, index).await, Err("build.requirement"), "{bad:?}");
    }
    assert_eq!(build(known, Some("ftp://contract.example.org/simple")).await, Err("build.requirement"));
    assert_eq!(build(unknown, index).await, Err("build.pip"));
    assert_eq!(fs::read_dir(&stage).unwrap().count(), 0, "what failed leaves nothing");

    build(known, index).await.expect("builds");
    fs::rename(&stage, &target).unwrap();
    assert!(target.join("bin/python3").symlink_metadata().is_ok());
    let configuration = fs::read_to_string(target.join("pyvenv.cfg")).unwrap();
    assert!(!configuration.contains(stage.to_str().unwrap()), "it works where it is moved to: {configuration}");
}
