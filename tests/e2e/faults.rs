//! Bad input and bad surroundings: a clear error, the right exit code, and nothing lost.

use crate::machine::Machine;
use crate::wordpress;

const BLOG: &str = "blog.example.org";

fn apply(machine: &Machine, document: &str) -> crate::machine::Done {
    machine.write("/root/fault.toml", document);
    machine.socle(&["agent", "apply", "/root/fault.toml"])
}

fn said(done: &crate::machine::Done) -> String {
    format!("{}{}", done.stdout, done.stderr)
}

fn page(extra: &str) -> String {
    format!(
        "schema = 1\n[instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"page.example.org\"\n{extra}"
    )
}

#[test]
fn bad_input_is_refused_before_any_effect() {
    let machine = Machine::new("web-trixie");
    for (document, expected) in [
        (
            "schema = 1\n[instances.blog]\nrecipe = \"wordpres\"\nversion = \"1\"\ndomain = \"a.example.org\"\n",
            "did you mean `wordpress`",
        ),
        (&*wordpress::document("6.8.7").replace("admin-email", "admin-mail"), "admin-email"),
        (
            &*format!(
                "{}[instances.b]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"page.example.org\"\n",
                page("")
            ),
            "page.example.org",
        ),
        ("schema = 1\n[", "/root/fault.toml:2:"),
    ] {
        let refused = apply(&machine, document);
        assert_eq!(refused.code, 2, "{}", said(&refused));
        assert!(said(&refused).contains(expected), "{}", said(&refused));
        assert!(!machine.root().join("var/lib/socle/ledger.json").exists(), "nothing was accepted");
    }
}

#[test]
fn bad_downloads_change_nothing() {
    let machine = Machine::new("web-trixie");
    let from = |url: &str, sha256: &str| {
        let source = format!("source = {{ url = \"{url}\"{sha256} }}\n[instances.blog.params]");
        wordpress::document("6.8.7").replace("[instances.blog.params]", &source)
    };
    let site = "https://mirror.lab.test";
    let file = "wordpress.org/wordpress-6.8.7.tar.gz";
    let wrong = format!(", sha256 = \"{}\"", "0".repeat(64));
    for (document, expected) in [
        (from(&format!("{site}/{file}"), &wrong), "SHA-256"),
        (from(&format!("{site}/status/404/{file}"), ""), "404"),
        (from(&format!("{site}/html/{file}"), ""), "HTML"),
        (from(&format!("{site}/truncate/1000000/{file}"), ""), ""),
        (from(&format!("{site}/corrupt/{file}"), ""), ""),
        (from(&format!("{site}/redirect-file/"), ""), ""),
        (from("file:///nonexistent.tar.gz", ""), "/nonexistent.tar.gz"),
    ] {
        let failed = apply(&machine, &document);
        assert_eq!(failed.code, 3, "{}", said(&failed));
        assert!(said(&failed).contains(expected), "{expected}: {}", said(&failed));
        let releases =
            machine.run(&["find", "/srv/socle/blog/releases", "-mindepth", "1", "-maxdepth", "1", "-name", "[0-9]*"]);
        assert_eq!(releases.stdout, "", "no release of a bad download");
    }
    let good = apply(&machine, &wordpress::document("6.8.7"));
    assert_eq!(good.code, 0, "{}", said(&good));
}

#[test]
fn mariadb_down_is_said_and_other_sites_go_on() {
    let machine = Machine::new("web-trixie");
    let both = format!("{}{}", wordpress::document("6.8.7"), page("").replace("schema = 1\n", ""));
    apply(&machine, &both).expect(0);
    machine.run(&["systemctl", "mask", "--now", "mariadb.service"]).expect(0);
    let failed = apply(&machine, &both);
    assert_eq!(failed.code, 3, "{}", said(&failed));
    assert!(said(&failed).to_lowercase().contains("mariadb"), "{}", said(&failed));
    assert_ne!(machine.get("page.example.org", "/").0, 0);
    machine.run(&["systemctl", "unmask", "mariadb.service"]).expect(0);
    apply(&machine, &both).expect(0);
    assert_eq!(machine.get(BLOG, "/").0, 200);
}

#[test]
fn an_unknown_package_does_not_hold_up_the_rest() {
    let machine = Machine::new("web-trixie");
    machine.lab("localapt", &[]);
    machine.run(&["apt-get", "update", "-qq"]).expect(0);
    let failed = apply(&machine, &page("[packages]\nno-such-package-at-all = true\n"));
    assert_eq!(failed.code, 3, "{}", said(&failed));
    assert!(said(&failed).contains("no-such-package-at-all"), "{}", said(&failed));
    assert!(
        machine.root().join("etc/nginx/sites-enabled/socle-page.conf").symlink_metadata().is_ok(),
        "the site is up all the same"
    );
}

#[test]
fn a_full_disk_is_told_before_anything_is_lost() {
    let machine = Machine::new("web-trixie");
    apply(&machine, &wordpress::document("6.1.9")).expect(0);
    let free = machine.run(&["stat", "-f", "-c", "%a %S", "/"]).stdout;
    let (blocks, size) = free.trim().split_once(' ').unwrap();
    let leave: u64 = 100 << 20;
    let fill = blocks.parse::<u64>().unwrap() * size.parse::<u64>().unwrap() - leave;
    machine.run(&["fallocate", "-l", &fill.to_string(), "/filler"]).expect(0);
    let failed = apply(&machine, &wordpress::document("6.8.7"));
    assert_eq!(failed.code, 3, "{}", said(&failed));
    assert!(said(&failed).contains("space"), "{}", said(&failed));
    assert!(machine.get(BLOG, "/").1.contains("6.1.9"), "the old version is served");
    machine.run(&["rm", "/filler"]).expect(0);
    apply(&machine, &wordpress::document("6.8.7")).expect(0);
}

#[test]
fn a_held_dpkg_lock_is_waited_for_and_its_holder_told() {
    let machine = Machine::new("base-trixie");
    machine.lab("localapt", &[]);
    let hold = "import fcntl,time; f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f,fcntl.LOCK_EX); \
                open('/run/held','w').close(); time.sleep(8)";
    machine.run(&["systemd-run", "--unit=holder", "python3", "-c", hold]).expect(0);
    crate::machine::wait_for("the lock is held", std::time::Duration::from_secs(10), || {
        machine
            .root()
            .join("run/held")
            .exists()
            .then_some(())
            .or_else(|| (machine.run(&["test", "-e", "/run/held"]).code == 0).then_some(()))
    });
    let done = apply(&machine, "schema = 1\n[packages]\nunzip = true\n");
    assert_eq!(done.code, 0, "{}", said(&done));
    assert!(done.stderr.contains("python3"), "the holder is told: {}", done.stderr);
}

/// Stopped, not ended: it keeps its socket and answers nobody.
#[test]
fn a_database_server_that_hangs_does_not_keep_php_from_coming_back() {
    let machine = Machine::new("web-trixie");
    apply(&machine, &wordpress::document("6.8.7")).expect(0);
    let php = "socle-blog-php.service";
    machine.run(&["systemctl", "stop", php]).expect(0);
    machine.run(&["systemctl", "kill", "--signal=STOP", "mariadb.service"]).expect(0);
    let done = machine.socle(&["agent", "apply", "--json"]);
    machine.run(&["systemctl", "kill", "--signal=CONT", "mariadb.service"]).expect(0);
    assert_eq!(done.code, 3, "{}", said(&done));
    assert!(done.stdout.contains("mariadb.client") && done.stdout.contains("did not end within"), "{}", said(&done));
    assert_eq!(machine.run(&["systemctl", "is-active", php]).stdout.trim(), "active", "{}", said(&done));
    machine.socle(&["agent", "apply"]).expect(0);
    assert_eq!(machine.get(BLOG, "/").0, 200);
}

/// After a boot nginx has read every site already.
#[test]
fn nothing_is_reloaded_after_a_boot() {
    let machine = Machine::new("web-trixie");
    apply(&machine, &page("")).expect(0);
    machine.reboot();
    let done = machine.socle(&["agent", "apply"]);
    assert!(said(&done).contains("nothing to do"), "{}", said(&done));
    done.expect(0);
}
