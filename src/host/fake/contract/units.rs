use std::collections::BTreeSet;
use std::path::Path;

use crate::host::systemd::JOB_FAILED;
use crate::host::{UnitState, Units};

const UNIT: &str = "socle-contract.service";

/// Units are written to `directory` (`/etc/systemd/system` below the root of `units`). Panics where the
/// contract is broken.
pub async fn units(units: &dyn Units, directory: &Path) {
    let look = async |name: &str| -> UnitState {
        units.states(&BTreeSet::from([name.to_owned()])).await.expect("states")[name].clone()
    };
    let write = |kind: &str, exec: &str| {
        let text = format!(
            "[Unit]\nDescription=Contract\n[Service]\nType={kind}\nExecStart={exec}\n[Install]\nWantedBy=multi-user.target\n"
        );
        crate::durable::write(&directory.join(UNIT), text.as_bytes(), 0o644).expect("unit is written");
    };

    // What does not exist is said to be so; stopping and disabling it is fine, starting it is not.
    let absent = look("socle-contract-absent.service").await;
    assert_eq!((absent.load.as_str(), absent.active.as_str(), absent.enabled.as_str()), ("not-found", "inactive", ""));
    units.stop("socle-contract-absent.service").await.expect("nothing to stop");
    units.disable("socle-contract-absent.service").await.expect("nothing to disable");
    assert_eq!(units.start("socle-contract-absent.service").await.unwrap_err().code, "systemd.no-unit");
    assert_eq!(units.enable("socle-contract-absent.service").await.unwrap_err().code, "systemd.no-unit");

    // A new file needs no reload; starting twice is fine.
    write("exec", "/usr/bin/sleep 1000");
    let fresh = look(UNIT).await;
    assert_eq!(
        (fresh.load.as_str(), fresh.active.as_str(), fresh.enabled.as_str()),
        ("loaded", "inactive", "disabled")
    );
    units.start(UNIT).await.expect("starts");
    units.start(UNIT).await.expect("starts again");
    assert_eq!(look(UNIT).await.active, "active");

    units.enable(UNIT).await.expect("enables");
    units.enable(UNIT).await.expect("enables again");
    assert_eq!(look(UNIT).await.enabled, "enabled");
    units.disable(UNIT).await.expect("disables");
    assert_eq!(look(UNIT).await.enabled, "disabled");

    // A changed file is noticed, and read by a restart without being asked to.
    write("exec", "/usr/bin/sleep 2000");
    assert!(look(UNIT).await.need_reload);
    units.restart(UNIT).await.expect("restarts");
    let seen = look(UNIT).await;
    assert_eq!((seen.active.as_str(), seen.need_reload), ("active", false));
    write("exec", "/usr/bin/sleep 3000");
    units.daemon_reload().await.expect("reads its files");
    assert!(!look(UNIT).await.need_reload);

    units.stop(UNIT).await.expect("stops");
    units.stop(UNIT).await.expect("stops again");
    assert_eq!(look(UNIT).await.active, "inactive");

    // A oneshot's start ends when its work is done.
    write("oneshot", "/usr/bin/true");
    units.start(UNIT).await.expect("runs");
    assert_eq!(look(UNIT).await.active, "inactive");

    // Masking what exists only by name, and back.
    let other = "socle-contract-other.service";
    units.mask(other).await.expect("masks");
    assert_eq!(look(other).await.enabled, "masked");
    assert_eq!(units.start(other).await.unwrap_err().code, "systemd.masked");
    units.unmask(other).await.expect("unmasks");
    assert_ne!(look(other).await.enabled, "masked");

    std::fs::remove_file(directory.join(UNIT)).expect("unit is removed");
    units.daemon_reload().await.expect("reads its files");
    assert_eq!(look(UNIT).await.load, "not-found");
}

/// A unit that is there and whose start fails with exit code 3; `heal` makes it start.
pub async fn failing_unit(units: &dyn Units, name: &str, heal: impl FnOnce()) {
    let names = BTreeSet::from([name.to_owned()]);
    let failed = units.start(name).await.unwrap_err();
    assert_eq!(failed.code, JOB_FAILED, "{failed}");
    assert!(failed.to_string().contains("code 3"), "{failed}");
    let seen = units.details(&names).await.expect("details")[name].clone();
    assert_eq!((seen.active.as_str(), seen.result.as_str(), seen.exit), ("failed", "exit-code", 3));
    // A stop forgets the failure.
    units.stop(name).await.expect("stops");
    assert_eq!(units.states(&names).await.expect("states")[name].active, "inactive");
    // However often it failed before, it may be started.
    for _ in 0..8 {
        units.start(name).await.unwrap_err();
    }
    heal();
    units.start(name).await.expect("starts at last");
}
