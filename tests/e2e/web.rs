//! Databases and sites on real servers: who may log in, and what happens when a server is down or
//! somebody else's configuration is broken.

use crate::machine::{Done, Machine};

const DATABASES: &str = "schema = 1

[accounts.shop]
description = \"The shop\"

[databases.shop]
engine = \"mariadb\"
owner = \"shop\"

[databases.shop-wiki]
engine = \"postgresql\"
owner = \"shop\"
extensions = [\"pg_trgm\"]
";

fn site(domain: &str) -> String {
    format!("schema = 1\n[instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{domain}\"\n")
}

fn apply(machine: &Machine, document: &str) -> Done {
    machine.write("/root/web.toml", document);
    machine.socle(&["agent", "apply", "/root/web.toml", "--json"])
}

fn said(done: &Done) -> String {
    format!("{}{}", done.stdout, done.stderr)
}

/// As the system user, through the socket, with no password.
fn as_user(machine: &Machine, user: &str, program: &[&str]) -> Done {
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let mut all = vec!["setpriv", &uid, &gid, "--clear-groups"];
    all.extend(program);
    machine.run(&all)
}

#[test]
fn the_owner_logs_in_through_the_socket_and_nobody_else() {
    let machine = Machine::new("web-trixie");
    apply(&machine, DATABASES).expect(0);
    let again = apply(&machine, DATABASES);
    assert!(!said(&again).contains("\"changed\""), "{}", said(&again));
    again.expect(0);

    let mariadb = ["mariadb", "--no-defaults", "-e", "CREATE TABLE t (a INT); SELECT CURRENT_USER()", "shop"];
    assert!(as_user(&machine, "shop", &mariadb).expect(0).contains("shop@localhost"));
    let psql = |sql| ["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-d", "shop_wiki", "-c", sql];
    let sql = "CREATE TABLE t (a text); CREATE INDEX ON t USING gin (a gin_trgm_ops); \
               SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    assert!(as_user(&machine, "shop", &psql(sql)).expect(0).ends_with("f\n"), "an extension, and no superuser");

    let other = ["mariadb", "--no-defaults", "--user=shop", "-e", "SELECT 1", "shop"];
    assert_ne!(as_user(&machine, "nobody", &other).code, 0);
    machine.run(&["useradd", "--system", "stranger"]).expect(0);
    let role = ["-u", "postgres", "--", "psql", "-X", "-d", "postgres", "-c", "CREATE ROLE stranger LOGIN"];
    machine.run(&[&["runuser"], &role[..]].concat()).expect(0);
    let stranger = as_user(&machine, "stranger", &psql("SELECT 1"));
    assert!(stranger.stderr.contains("permission denied for database"), "{}", said(&stranger));
}

#[test]
fn a_server_that_is_down_is_told_and_the_rest_goes_on() {
    let machine = Machine::new("web-trixie");
    // Broken, because a server that only stands still is started by the pass.
    let broken = "/etc/mysql/mariadb.conf.d/99-broken.cnf";
    machine.write(broken, "[mariadbd]\nno-such-option = 1\n");
    machine.run(&["systemctl", "stop", "mariadb"]).expect(0);
    let done = apply(&machine, DATABASES);
    assert_eq!(done.code, 3, "{}", said(&done));
    assert!(done.stdout.contains("mariadb.down") && done.stdout.contains("systemctl start mariadb"), "{}", said(&done));
    let sql = ["psql", "-X", "-At", "-d", "shop_wiki", "-c", "SELECT 1"];
    as_user(&machine, "shop", &sql).expect(0);
    machine.run(&["rm", broken]).expect(0);
    machine.run(&["systemctl", "start", "mariadb"]).expect(0);
    apply(&machine, DATABASES).expect(0);
}

#[test]
fn a_broken_foreign_site_is_told_apart_and_breaks_nothing() {
    let machine = Machine::new("web-trixie");
    apply(&machine, &site("one.example.org")).expect(0);
    machine.write("/srv/socle/page/data/public/index.html", "hello");
    assert_eq!(machine.get("one.example.org", "/").0, 200);
    machine.write("/etc/nginx/sites-enabled/legacy", "server {\n  bogus on;\n}\n");
    let done = apply(&machine, &site("two.example.org"));
    assert_eq!(done.code, 3, "{}", said(&done));
    assert!(done.stdout.contains("nginx.broken") && done.stdout.contains("legacy:2"), "{}", said(&done));
    assert_eq!(machine.get("one.example.org", "/").0, 200, "what was served still is");
    machine.run(&["rm", "/etc/nginx/sites-enabled/legacy"]).expect(0);
    apply(&machine, &site("two.example.org")).expect(0);
    assert_eq!(machine.get("two.example.org", "/").0, 200);
}

#[test]
fn a_name_somebody_else_serves_is_not_taken() {
    let machine = Machine::new("web-trixie");
    let legacy = "server {\n listen 80;\n listen [::]:80;\n server_name page.example.org;\n return 200 legacy;\n}\n";
    machine.write("/etc/nginx/sites-enabled/legacy", legacy);
    machine.run(&["systemctl", "reload", "nginx"]).expect(0);
    let done = apply(&machine, &site("page.example.org"));
    assert_eq!(done.code, 3, "{}", said(&done));
    assert!(done.stdout.contains("site.name-taken") && done.stdout.contains("legacy"), "{}", said(&done));
    assert_eq!(machine.get("page.example.org", "/"), (200, "legacy".to_owned()));
}

#[test]
fn whoever_has_the_port_is_named() {
    let machine = Machine::new("web-trixie");
    machine.run(&["systemctl", "stop", "nginx"]).expect(0);
    let other = ["systemd-run", "--unit=other", "/usr/bin/python3", "-m", "http.server", "80"];
    machine.run(&other).expect(0);
    crate::machine::wait_for("the other server", std::time::Duration::from_secs(10), || {
        machine.run(&["curl", "-sf", "http://127.0.0.1/"]).ok()
    });
    let done = apply(&machine, &site("page.example.org"));
    assert_eq!(done.code, 3, "{}", said(&done));
    assert!(done.stdout.contains("port 80 is taken by `python3`"), "{}", said(&done));
    assert!(done.stdout.contains("other.service"), "{}", said(&done));
    machine.run(&["systemctl", "stop", "other"]).expect(0);
    apply(&machine, &site("page.example.org")).expect(0);
    machine.write("/srv/socle/page/data/public/index.html", "hello");
    assert_eq!(machine.get("page.example.org", "/").0, 200);
}
