//! A blank machine with Debian's own cloud-init enrols by the user data that the controller prints.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::fleet::Fleet;
use crate::machine::{Machine, wait_for};

const PLACES: [&str; 8] = ["/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var"];
/// What a provider shows the server, in the form that needs no network.
const SEED: &str = "/var/lib/cloud/seed/nocloud";
/// Of cloud-init: the user data as it was given.
const KEPT: &str = "/var/lib/cloud/instances/i-1/user-data.txt";

/// Where a join token can be read.
pub fn left_on(machine: &Machine) -> String {
    let left = machine.run(&[&["grep", "-rlaE", "socle1_[A-Za-z0-9_-]{40}"], &PLACES[..]].concat());
    // 1: looked everywhere and found nothing; 2 would be "could not look".
    assert!([0, 1].contains(&left.code), "{}", left.stderr);
    left.stdout
}

/// With other user data in one message, as `cloud-init devel make-mime` does it: no search for its letters finds the token.
fn in_mime(user_data: &str) -> String {
    let encoded = BASE64_STANDARD.encode(user_data);
    let lines: Vec<&str> = encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let head = "Content-Type: multipart/mixed; boundary=\"==socle==\"\nMIME-Version: 1.0\n\n--==socle==\n\
        Content-Type: text/cloud-config; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\
        Content-Disposition: attachment; filename=\"socle.yaml\"\n\n";
    format!("{head}{}\n--==socle==--\n", lines.join("\n"))
}

/// The user data in a message that [`in_mime`] made.
fn out_of_mime(message: &str) -> String {
    let body = message.split("\n\n").nth(2).unwrap().split("\n--").next().unwrap();
    String::from_utf8(BASE64_STANDARD.decode(body.replace('\n', "")).unwrap()).unwrap()
}

#[test]
fn cloud_init_enrols_a_server_and_the_token_is_nowhere_also_after_another_boot() {
    let fleet = Fleet::new();
    let machine = Machine::blank("cloud-trixie");
    machine.lab("localapt", &[]);
    let user_data = fleet.socle(&["controller", "server", "add", "ks1", "--user-data"]).expect(0);
    let token = user_data.lines().find(|line| line.contains("socle1_")).expect("a token").trim().to_owned();
    let provider = |user_data: &str| {
        machine.write(&format!("{SEED}/user-data"), user_data);
        machine.write(&format!("{SEED}/meta-data"), &format!("instance-id: i-1\nlocal-hostname: {}\n", machine.name()));
    };
    provider(&user_data);
    // The lab has connected the machine already.
    machine.write("/etc/cloud/cloud.cfg.d/99-lab.cfg", "network: { config: disabled }\n");
    assert!(left_on(&machine).contains(SEED), "the search finds a token");
    machine.shut_down();
    machine.up();
    let connected = || fleet.server_status("ks1")["connected"].as_bool().filter(|connected| *connected);
    wait_for("the server is connected", Duration::from_secs(120), connected);
    let state = || machine.run(&["systemctl", "show", "-p", "Result,SubState", "socle-first-boot.service"]).stdout;
    wait_for("the unit is done", Duration::from_secs(30), || state().contains("SubState=dead").then_some(()));
    assert!(state().contains("Result=success"), "{}", state());
    let cloud_init = || {
        wait_for("cloud-init is done", Duration::from_secs(60), || {
            Some(machine.run(&["cloud-init", "status"]).stdout).filter(|said| !said.contains("running"))
        })
    };
    assert!(cloud_init().contains("done"));
    assert_eq!(left_on(&machine), "", "the token is left behind");
    assert!(machine.read(KEPT).contains("socle1_...."), "all else of the user data is there");
    let key = machine.read("/etc/ssh/ssh_host_ed25519_key.pub");

    // The provider still shows user data, in another form. After an upgrade of Python, say, cloud-init cannot read what it
    // kept, and takes it anew: what it keeps then is made unreadable again, and the server is still the one it set up.
    provider(&in_mime(&user_data));
    std::fs::remove_file(machine.root().join("var/lib/cloud/instances/i-1/obj.pkl")).unwrap();
    machine.shut_down();
    machine.up();
    assert!(cloud_init().contains("done"));
    let again = machine.read("/var/log/cloud-init-output.log");
    assert!(again.contains("the join token was made unreadable in /var/lib/cloud"), "{again}");
    assert_eq!(left_on(&machine), "", "the token is left behind");
    assert_eq!(out_of_mime(&in_mime(&user_data)), user_data);
    let kept = out_of_mime(&machine.read(KEPT));
    assert_eq!(kept, user_data.replace(&token, &format!("socle1_{}", ".".repeat(token.len() - 7))));
    assert_eq!(machine.read("/etc/ssh/ssh_host_ed25519_key.pub"), key, "no other server to cloud-init");
    wait_for("the server is connected again", Duration::from_secs(60), connected);
}
