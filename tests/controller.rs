//! A controller as its owner meets it: the program, its service as a process, its doors. Servers of a fleet are in
//! `tests/fleet` and `tests/e2e`.
#![expect(clippy::disallowed_methods, reason = "tests write files and run programs")]

mod home;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use predicates::prelude::*;
use predicates::str::{contains, is_empty};
use serde_json::Value;

use home::{Home, free_port, json, private, said};

#[test]
fn a_fleet_is_made_once() {
    let home = Home::new();
    let said = home.init();
    assert!(said.contains("servers dial localhost:7443 127.0.0.1:7443"), "{said}");
    assert!(said.contains("fingerprint of its authority: sha256:"), "{said}");
    assert!(said.contains("keep safe") && said.contains("home/keys"), "{said}");
    let again = ["init", "--fleet", "sol", "--host", "localhost"];
    home.controller().args(again).assert().code(2).stderr(contains("already holds the fleet `sol`"));
    let other = Home::new();
    other.controller().arg("init").write_stdin("").assert().code(2).stderr(contains("nobody to ask"));
    let bad = ["init", "--fleet", "sol", "--host", "a b"];
    other.controller().args(bad).assert().code(2).stderr(contains("neither a host name nor an address"));
    assert!(!other.path("home/controller.db").exists(), "what is refused makes nothing");
}

/// What is done on this machine takes no address of another, and does not speak of one.
#[test]
fn only_what_is_asked_of_a_controller_says_where_it_is() {
    let home = Home::new();
    for here in ["init", "run", "restore", "openapi"] {
        let help = said(home.controller().args([here, "--help"]));
        assert!(!help.contains("--controller") && !help.contains("--fingerprint"), "{here}: {help}");
        let elsewhere = [here, "--controller", "https://controller.example.org:8443"];
        home.controller().args(elsewhere).assert().code(2).stderr(contains("unexpected argument '--controller'"));
    }
    for asked in [&["server", "add"][..], &["token", "list"], &["api-token", "add"], &["audit"], &["backup"]] {
        let help = said(home.controller().args(asked).arg("--help"));
        assert!(help.contains("--controller <URL>"), "{asked:?}: {help}");
    }
}

#[test]
fn without_a_controller_there_is_a_next_step() {
    let home = Home::new();
    for command in [&["status"][..], &["history"], &["diff"], &["plan", "examples/fleet"], &["apply", "examples/fleet"]]
    {
        home.fleet()
            .args(command)
            .assert()
            .code(1)
            .stdout(is_empty())
            .stderr(contains("systemctl status socle-controller"));
    }
    home.controller().arg("run").assert().code(1).stderr(contains("socle controller init"));
}

#[test]
fn a_controller_serves_its_operators() {
    let home = Home::new();
    home.init();
    let port = free_port();
    std::fs::write(
        home.path("controller.toml"),
        format!("listen = \"127.0.0.1:0\"\napi_listen = \"127.0.0.1:{port}\"\n"),
    )
    .unwrap();
    let service = home.start();

    // Nothing yet, and what to do.
    let status = said(home.fleet().arg("status"));
    assert!(
        status.contains("nothing was applied yet") && status.contains("socle controller server add NAME"),
        "{status}"
    );

    // A server is invited: the line on standard output, the rest beside it.
    let add = home.controller().args(["server", "add", "ks1"]).assert().success().stderr(contains("once, until"));
    let line = String::from_utf8(add.get_output().stdout.clone()).unwrap();
    assert!(
        line.starts_with("printf '%s\\n' socle1_") && line.ends_with("| socle agent join --token-file -\n"),
        "{line}"
    );
    let tokens = json(home.controller().args(["token", "list"]));
    assert_eq!((&tokens[0]["server"], &tokens[0]["state"]), (&"ks1".into(), &"open".into()));
    let id = tokens[0]["id"].as_str().unwrap();
    assert_eq!(said(home.controller().args(["token", "revoke", id])), "done\n");
    assert!(said(home.controller().args(["token", "list"])).contains("revoked"));
    home.controller()
        .args(["token", "revoke", "../servers"])
        .assert()
        .code(2)
        .stderr(contains("there is no join token"));

    // A fleet is applied, although nobody has enrolled.
    home.fleet().args(["plan", "examples/fleet"]).assert().code(3).stdout(contains("blog: added: wordpress 6.8.7"));
    let apply = home.fleet().args(["apply", "examples/fleet", "-m", "the beginning"]).assert().code(3);
    apply.stderr(contains("revision 1 is stored").and(contains("ks1: has not enrolled")));
    home.fleet()
        .args(["apply", "examples/fleet", "--expect", "0"])
        .assert()
        .code(2)
        .stderr(contains("revision 1 was applied meanwhile"));
    let history = said(home.fleet().arg("history"));
    assert!(history.starts_with("revision 1 by uid:") && history.contains(": the beginning"), "{history}");
    assert!(said(home.fleet().arg("diff")).contains("wiki: added: mediawiki"));
    home.fleet().args(["diff", "1", "7"]).assert().code(2).stderr(contains("there is no revision `7`"));
    let status = home.fleet().arg("status").assert().code(3);
    status.stdout(contains("ks2").and(contains("not enrolled")).and(contains("socle controller server add ks2")));

    // What is wrong is told where the user has it.
    let bad = home.path("bad");
    std::fs::create_dir_all(bad.join("servers")).unwrap();
    std::fs::write(bad.join("fleet.toml"), "schema = 1\nname = \"sol\"\n").unwrap();
    std::fs::write(bad.join("servers/ks1.toml"), "[pakages]\n").unwrap();
    let place = format!("{}:1:2: `pakages`", bad.join("servers/ks1.toml").display());
    home.fleet().arg("apply").arg(&bad).assert().code(2).stdout(is_empty()).stderr(contains(place));

    // One server's document, through the controller.
    let remote = ["apply", "--server", "ks1", "examples/static.toml"];
    home.socle_agent()
        .args(remote)
        .arg("--socket")
        .arg(home.path("api.sock"))
        .assert()
        .code(2)
        .stderr(contains("there is no server `ks1`"));

    // Operators from elsewhere.
    let made = json(home.controller().args(["api-token", "add", "ci", "--scope", "read"]));
    let token = home.path("token");
    private(&token, made["token"].as_str().unwrap());
    let url = format!("https://localhost:{port}");
    let certificate = home.path("home/keys/authority.pem");
    let remote = |file: &Path| {
        let mut command = home.fleet();
        command.args(["status", "--json", "--controller", &url, "--api-token-file"]).arg(file);
        command
    };
    let told: Value = {
        let out = remote(&token).arg("--authority").arg(&certificate).assert().code(3).get_output().stdout.clone();
        serde_json::from_slice(&out).unwrap()
    };
    assert_eq!(told["fleet"], "sol");
    remote(&token).assert().code(2).stderr(contains("--fingerprint"));
    let other = format!("sha256:{}", "0".repeat(64));
    remote(&token)
        .args(["--fingerprint", &other])
        .assert()
        .code(1)
        .stderr(contains("does not show that it is the controller"));
    let mut apply = home.fleet();
    apply.args(["apply", "examples/fleet", "--controller", &url, "--api-token-file"]).arg(&token);
    apply
        .arg("--authority")
        .arg(&certificate)
        .assert()
        .code(2)
        .stderr(contains("needs write").and(contains("--scope write")));
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    remote(&token).arg("--authority").arg(&certificate).assert().code(2).stderr(contains("chmod 600"));
    private(&token, made["token"].as_str().unwrap());
    said(home.controller().args(["api-token", "revoke", made["id"].as_str().unwrap()]));
    remote(&token).arg("--authority").arg(&certificate).assert().code(2);
    let audit = said(home.controller().arg("audit"));
    for what in ["api-token.revoke", "documents.put", "join-token.create", "fleet.create"] {
        assert!(audit.contains(what), "{audit}");
    }

    // A backup is a secret, and makes another machine this controller.
    let file = home.path("backup.tar");
    home.controller().arg("backup").arg(&file).assert().success().stderr(contains("keep it secret"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    home.controller().arg("restore").arg(&file).assert().code(1).stderr(contains("systemctl stop socle-controller"));
    service.stop();
    let new = Home::new();
    new.controller().arg("restore").arg(home.path("token")).assert().code(1);
    assert!(said(new.controller().arg("restore").arg(&file)).starts_with("restored\n"));
    std::fs::write(new.path("controller.toml"), "listen = \"127.0.0.1:0\"\n").unwrap();
    let service = new.start();
    assert!(said(new.fleet().arg("history")).contains("the beginning"));
    service.stop();
}

#[test]
fn the_description_is_the_published_one() {
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/openapi.json");
    assert_eq!(said(Home::new().controller().arg("openapi")), std::fs::read_to_string(published).unwrap());
}
