//! An instance cannot read another's files, its units are tight, its limits hold.

use crate::machine::Machine;
use crate::wordpress;

#[test]
fn two_instances_do_not_see_each_other() {
    let machine = Machine::new("web-trixie");
    let second = wordpress::document("6.8.7").replace("schema = 1\n", "").replace("blog", "news");
    machine.write("/root/two.toml", &format!("{}{second}", wordpress::document("6.8.7")));
    machine.socle(&["agent", "apply", "/root/two.toml"]).expect(0);
    for path in [
        "/srv/socle/news/config/wp-config.php",
        "/srv/socle/news/data/wp-content/index.php",
        "/srv/socle/news/current/wp-login.php",
        "/var/lib/socle/ledger.json",
        "/var/lib/socle/secrets/news/admin-password",
        "/var/lib/socle/secrets/blog/admin-password",
    ] {
        assert!(machine.root().join(path.trim_start_matches('/')).symlink_metadata().is_ok(), "{path} exists");
        let read = machine.run(&["runuser", "-u", "socle-blog", "--", "cat", path]);
        assert_ne!(read.code, 0, "socle-blog reads {path}");
    }
    let database = machine.run(&["runuser", "-u", "socle-blog", "--", "mariadb", "news", "-e", "select 1"]);
    assert_ne!(database.code, 0, "socle-blog reads the database of news");
    // What nginx serves it must read, but never what holds secrets.
    let www = |path: &str| machine.run(&["runuser", "-u", "www-data", "--", "cat", path]).code;
    assert_eq!(www("/srv/socle/blog/current/wp-includes/css/buttons.css"), 0);
    assert_ne!(www("/srv/socle/blog/config/wp-config.php"), 0);
}

/// The units that we ship, and the highest exposure that each may have, times ten. The files say what is counted.
const SHIPPED: [(&str, u32); 6] = [
    ("socle-agent", 43),
    ("socle-link", 15),
    ("socle-controller", 15),
    ("socle-backup@", 20),
    ("socle-backup-remote@", 20),
    ("socle-drill@", 43),
];

/// `systemd-analyze security` of every generated and every shipped unit, by the rules of this machine's systemd.
fn exposure(image: &str) {
    let machine = Machine::new(image);
    let wiki = "[instances.cal]\nrecipe = \"radicale\"\nversion = \"3.9.0\"\ndomain = \"cal.example.org\"\n";
    let far = "[repositories.far]\nlocation = \"rest:https://backup.example.org/\"\n";
    machine.write("/root/units.toml", &format!("{}{wiki}{far}", wordpress::document("6.8.7")));
    machine.socle(&["agent", "apply", "/root/units.toml"]).expect(0);
    let units = machine.run(&["systemctl", "list-unit-files", "--no-legend", "--plain", "socle-*.service"]).stdout;
    let units: Vec<&str> = units.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let shipped = |unit: &str| {
        ["socle-agent.service", "socle-backup@.service", "socle-backup-remote@.service", "socle-drill@.service"]
            .contains(&unit)
    };
    let ours: Vec<&&str> = units.iter().filter(|unit| !shipped(unit)).collect();
    assert!(ours.len() >= 4 && ours.contains(&&"socle-reach@far.service"), "{units:?}");
    for unit in ours {
        let tight = machine.run(&["systemd-analyze", "security", "--threshold=20", "--no-pager", unit]);
        assert_eq!(tight.code, 0, "{unit} is above 2.0:\n{}", tight.stdout);
    }
    for (unit, limit) in SHIPPED {
        let file = format!("units/systemd/{unit}.service");
        let path = format!("/etc/systemd/system/{unit}.service");
        machine.lab("push", &[crate::machine::project().join(file).to_str().unwrap(), &path]);
        let threshold = format!("--threshold={limit}");
        let tight = machine.run(&["systemd-analyze", "security", "--offline=true", "--no-pager", &threshold, &path]);
        assert_eq!(tight.code, 0, "{unit} is above {}:\n{}", f64::from(limit) / 10.0, tight.stdout);
        let verified = machine.run(&["systemd-analyze", "verify", "--man=no", &path]);
        assert_eq!(verified.stderr, "", "{unit}");
    }
}

#[test]
fn units_are_tight_by_the_rules_of_systemd_257() {
    exposure("web-trixie");
}

#[test]
fn units_are_tight_by_the_rules_of_systemd_252() {
    exposure("web-bookworm");
}

#[test]
fn limits_hold() {
    let machine = Machine::new("web-trixie");
    let limited = wordpress::document("6.8.7").replace(
        "[instances.blog.params]",
        "limits = { memory_mb = 200, tasks = 40, cpu_percent = 150 }\n[instances.blog.params]",
    );
    machine.write("/root/blog.toml", &limited);
    machine.socle(&["agent", "apply", "/root/blog.toml"]).expect(0);
    let shown =
        machine.run(&["systemctl", "show", "socle-blog-php.service", "-p", "MemoryMax,TasksMax,CPUQuotaPerSecUSec"]);
    for expected in ["MemoryMax=209715200", "TasksMax=40", "CPUQuotaPerSecUSec=1.5"] {
        assert!(shown.stdout.contains(expected), "{}", shown.stdout);
    }
}
