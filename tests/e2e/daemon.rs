//! The daemon: boot, drift, units that fail, and the local door.

use std::time::Duration;

use crate::machine::{Machine, wait_for};
use crate::wordpress;

const BLOG: &str = "blog.example.org";
/// "Seen within a minute", with the time of the repair.
const MINUTE: Duration = Duration::from_secs(75);

fn serving() -> Machine {
    let machine = Machine::new("web-trixie");
    machine.run(&["systemctl", "enable", "--now", "socle-agent.service"]).expect(0);
    machine.write("/root/blog.toml", &wordpress::document("6.8.7"));
    let applied = machine.socle(&["agent", "apply", "/root/blog.toml"]);
    assert_eq!(applied.code, 0, "{}\n{}", applied.stdout, applied.stderr);
    assert!(applied.stderr.contains("release:blog"), "progress comes through the door: {}", applied.stderr);
    machine
}

#[test]
fn repairs_drift_and_comes_back_after_a_reboot() {
    let machine = serving();
    let status = machine.run(&["systemctl", "show", "socle-agent.service", "-p", "StatusText", "--value"]).stdout;
    assert!(status.contains("as wanted"), "{status}");

    let config = "/srv/socle/blog/config/wp-config.php";
    let right = machine.read(config);
    machine.run(&["sed", "-i", "1a // edited by hand", config]).expect(0);
    wait_for("the edited file is put back", MINUTE, || (machine.read(config) == right).then_some(()));

    machine.run(&["systemctl", "kill", "--signal=SIGKILL", "socle-blog-php.service"]).expect(0);
    // Its own start may be faster: then it cancels this.
    machine.run(&["systemctl", "stop", "socle-blog-php.service"]);
    wait_for("the stopped unit runs again", MINUTE, || (machine.get(BLOG, "/").0 == 200).then_some(()));

    machine.shut_down();
    machine.up();
    wait_for("the site answers after a boot", MINUTE, || (machine.get(BLOG, "/").0 == 200).then_some(()));
    wait_for("the agent is content", MINUTE, || {
        let status = machine.run(&["systemctl", "show", "socle-agent.service", "-p", "StatusText", "--value"]).stdout;
        status.contains("as wanted").then_some(())
    });
}

#[test]
fn only_reports_drift_when_told_so() {
    let machine = serving();
    let document = wordpress::document("6.8.7").replace("schema = 1\n", "schema = 1\n[server]\ndrift = \"report\"\n");
    machine.write("/root/blog.toml", &document);
    machine.socle(&["agent", "apply", "/root/blog.toml"]).expect(0);
    let config = "/srv/socle/blog/config/wp-config.php";
    machine.run(&["sed", "-i", "1a // edited by hand", config]).expect(0);
    wait_for("the drift is told", MINUTE, || {
        let status = machine.socle(&["agent", "status"]).stdout;
        status.contains(config).then_some(())
    });
    assert!(machine.read(config).contains("edited by hand"), "and not repaired");
    machine.socle(&["agent", "apply"]).expect(0);
    assert!(!machine.read(config).contains("edited by hand"), "the admin's own apply repairs");
}

#[test]
fn the_door_refuses_what_is_bad_and_keeps_others_out() {
    let machine = serving();
    machine.write("/root/bad.toml", "schema = 1\n[instances.blog]\nrecipe = \"wordpres\"\n");
    let refused = machine.socle(&["agent", "apply", "/root/bad.toml"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("/root/bad.toml:"), "{}", refused.stderr);
    assert_eq!(machine.get(BLOG, "/").0, 200);
    let stranger = machine.run(&["runuser", "-u", "nobody", "--", "socle", "agent", "apply", "/root/blog.toml"]);
    assert_ne!(stranger.code, 0);
    let socket = machine.run(&["stat", "-c", "%a %U %G", "/run/socle/agent.sock"]).stdout;
    assert_eq!(socket.trim(), "660 root socle");
}
