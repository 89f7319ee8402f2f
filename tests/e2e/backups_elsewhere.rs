//! Backups on storage of others: restic's REST protocol by rclone, and S3, behind nginx with a certificate of an
//! authority of one's own.

use std::time::Duration;

use crate::backups::counted;
use crate::certificates::{authority, issued};
use crate::machine::{Machine, wait_for};
use crate::storage::{BUCKET, KEY, REGION, SECRET, Storage, garage};

/// Where nginx is asked, and what it asks: a REST server that only takes, the same directory by one that also deletes,
/// and S3.
const DOORS: [(u16, u16); 3] = [(8443, 8000), (8444, 8001), (3443, 3900)];

/// Who keeps the backups.
struct Keeper {
    machine: Machine,
    storage: Storage,
    roots: String,
}

impl Keeper {
    fn new() -> Self {
        let machine = Machine::blank("web-trixie");
        let roots = doors(&machine);
        machine.lab("push", &["/usr/bin/rclone", "/usr/bin/rclone"]);
        rest(&machine, "rest", &["--addr", "127.0.0.1:8000", "--user", "ks1", "--pass", "hush", "--append-only"]);
        rest(&machine, "rest-of-who-deletes", &["--addr", "127.0.0.1:8001", "--user", "sigrid", "--pass", "hush-hush"]);
        let storage = Storage::start(&machine);
        Self { machine, storage, roots }
    }

    fn at(&self, port: u16) -> String {
        format!("{}.lab.test:{port}", self.machine.name())
    }
}

/// nginx before everything else, with a certificate that only `roots` vouches for, which it answers.
fn doors(machine: &Machine) -> String {
    let (issuer, roots) = authority();
    let (chain, key) = issued(&issuer, &[&format!("{}.lab.test", machine.name())], 1);
    machine.write("/etc/ssl/keeper.pem", &chain);
    machine.write("/etc/ssl/private/keeper.key", &key);
    machine.run(&["chmod", "0600", "/etc/ssl/private/keeper.key"]).expect(0);
    let server = |(port, behind): &(u16, u16)| {
        format!(
            "server {{\n    listen {port} ssl;\n    ssl_certificate /etc/ssl/keeper.pem;\n    \
             ssl_certificate_key /etc/ssl/private/keeper.key;\n    client_max_body_size 0;\n    \
             proxy_request_buffering off;\n    location / {{\n        proxy_pass http://127.0.0.1:{behind};\n        \
             proxy_set_header Host $http_host;\n    }}\n}}\n"
        )
    };
    machine.write("/etc/nginx/sites-enabled/keeper.conf", &DOORS.iter().map(server).collect::<String>());
    machine.run(&["systemctl", "restart", "nginx.service"]).expect(0);
    roots
}

fn rest(machine: &Machine, unit: &str, more: &[&str]) {
    let unit = format!("--unit={unit}");
    let serve = ["systemd-run", &unit, "-p", "Environment=HOME=/root", "rclone", "serve", "restic"];
    machine.run(&[&serve[..], more, &["/srv/rest"]].concat()).expect(0);
}

fn secret(machine: &Machine, path: &str, text: &str) {
    machine.write(path, text);
    machine.run(&["chmod", "0600", path]).expect(0);
}

/// A page and a database, saved by REST and on S3.
fn document(keeper: &Keeper, rest: u16, user: &str) -> String {
    format!(
        "schema = 1\n[server]\nname = \"ks1\"\n[instances.page]\nrecipe = \"static\"\nversion = \"1\"\n\
         domain = \"page.example.org\"\n[instances.seven]\nrecipe = \"counted\"\nversion = \"1\"\n\
         domain = \"seven.example.org\"\n\
         [repositories.rest]\nlocation = \"rest:https://{user}@{}/ks1/\"\nroots = \"/etc/socle/roots.pem\"\n\
         secret_files = {{ password = \"/etc/socle/secrets/rest\" }}\nappend_only = true\n\
         keep = {{ last = 1, daily = 0, weekly = 0, monthly = 0, tags = [\"kept\"] }}\n\
         [repositories.s3]\nlocation = \"s3:https://{}/{BUCKET}/ks1\"\nroots = \"/etc/socle/roots.pem\"\n\
         region = \"{REGION}\"\nsecret_files = {{ access-key-id = \"/etc/socle/secrets/id\", \
         secret-access-key = \"/etc/socle/secrets/key\" }}\n",
        keeper.at(rest),
        keeper.at(3443),
    )
}

fn unit(machine: &Machine, name: &str) -> (i32, String) {
    let unit = format!("socle-backup-remote@{name}.service");
    let started = machine.run(&["systemctl", "start", &unit]);
    let since = machine.run(&["systemctl", "show", "-P", "InvocationID", &unit]).stdout;
    let of = format!("_SYSTEMD_INVOCATION_ID={}", since.trim());
    (started.code, machine.run(&["journalctl", "--no-pager", &of]).stdout)
}

fn listed(machine: &Machine, repository: &str) -> Vec<serde_json::Value> {
    let listed = machine.socle(&["agent", "backup", "list", "page", "--repository", repository, "--json"]).json();
    listed.as_array().unwrap().clone()
}

#[test]
fn backups_over_rest_and_on_s3_come_back() {
    let keeper = Keeper::new();
    let machine = Machine::new("web-trixie");
    counted(&machine);
    secret(&machine, "/etc/socle/secrets/rest", "hush");
    secret(&machine, "/etc/socle/secrets/id", KEY);
    secret(&machine, "/etc/socle/secrets/key", SECRET);
    machine.write("/root/page.toml", &document(&keeper, 8443, "ks1"));
    machine.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    machine.write("/srv/socle/page/data/public/index.html", "<h1>Bonjour</h1>");

    // The roots are looked for, and then nothing else is trusted.
    let unread = machine.socle(&["agent", "backup", "now"]);
    assert!(unread.code == 1 && unread.stderr.contains("/etc/socle/roots.pem"), "{}", unread.stderr);
    machine.write("/etc/socle/roots.pem", &authority().1);
    let (code, journal) = unit(&machine, "rest");
    assert!(code != 0 && journal.contains("certificate of the server is not trusted"), "{journal}");
    machine.write("/etc/socle/roots.pem", &keeper.roots);

    for name in ["rest", "s3"] {
        let (code, journal) = unit(&machine, name);
        assert_eq!(code, 0, "{journal}");
        for hidden in ["hush", SECRET] {
            assert!(!journal.contains(hidden), "{journal}");
        }
        // It has no network: that was its way.
        let way = format!("socle-reach@{name}.service");
        assert_eq!(machine.run(&["systemctl", "is-active", &way]).stdout.trim(), "active", "{way}");
        machine.socle(&["agent", "backup", "check", "--all", "--repository", name]).expect(0);
    }
    only_added_to(&keeper, &machine);
    away_for_a_while(&keeper, &machine);

    let key = machine.socle(&["agent", "backup", "key", "--repository", "s3"]).expect(0);
    drop(machine);
    let blank = Machine::new("web-trixie");
    counted(&blank);
    secret(&blank, "/root/key", &key);
    let brought = format!(
        "access-key-id = \"{KEY}\"\nsecret-access-key = \"{SECRET}\"\nregion = \"{REGION}\"\nroots = \"\"\"\n{}\"\"\"\n",
        keeper.roots
    );
    secret(&blank, "/root/credentials.toml", &brought);
    let location = format!("s3:https://{}/{BUCKET}/ks1", keeper.at(3443));
    let recover = ["agent", "recover", "--repository", &location, "--key-file", "/root/key"];
    let back = blank.socle(&[&recover[..], &["--credentials", "/root/credentials.toml"]].concat());
    assert_eq!(back.code, 0, "{} {}", back.stdout, back.stderr);
    assert_eq!(blank.get("page.example.org", "/").1, "<h1>Bonjour</h1>");
    let count =
        ["runuser", "-u", "postgres", "--", "psql", "-XAtd", "seven", "-c", "select count(*) from \"Odd name\""];
    assert_eq!(blank.run(&count).expect(0).trim(), "7");
    // It is that server now, with what was brought.
    let (code, journal) = unit(&blank, "s3");
    assert_eq!(code, 0, "{journal}");
    assert_eq!(listed(&blank, "s3").len(), 3);
}

/// The server takes nothing out, and could not: somebody else does, elsewhere, and what carries a tag of the rules stays.
fn only_added_to(keeper: &Keeper, machine: &Machine) {
    machine.socle(&["agent", "backup", "now", "--repository", "rest", "--tag", "kept"]).expect(0);
    let tagged = machine.socle(&["agent", "backup", "show", "page", "--repository", "rest", "--json"]).json();
    assert_eq!(tagged["tags"], serde_json::json!(["kept"]));
    machine.socle(&["agent", "backup", "now", "--repository", "rest"]).expect(0);
    let shown = machine.socle(&["agent", "backup", "list", "page", "--repository", "rest"]).expect(0);
    assert_eq!(shown.matches("[kept]").count(), 1, "{shown}");
    assert_eq!(listed(machine, "rest").len(), 3);
    secret(machine, "/root/credentials.toml", "password = \"hush\"\n");
    let prune = ["agent", "backup", "prune", "--repository", "rest", "--credentials"];
    let refused = machine.socle(&[&prune[..], &["/root/credentials.toml"]].concat());
    assert!(refused.code == 1 && refused.stderr.contains("may not be written to"), "{}", refused.stderr);
    let key = machine.socle(&["agent", "backup", "key", "--repository", "rest"]).expect(0);
    secret(machine, "/root/key", &key);
    secret(machine, "/root/credentials.toml", "password = \"hush-hush\"\n");
    machine.write("/root/elsewhere.toml", &document(keeper, 8444, "sigrid"));
    let elsewhere = ["/root/credentials.toml", "--document", "/root/elsewhere.toml", "--key-file", "/root/key"];
    let pruned = machine.socle(&[&prune[..], &elsewhere].concat()).expect(0);
    // One of each instance: the first.
    assert!(pruned.contains("2 snapshots let go"), "{pruned}");
    assert_eq!(listed(machine, "rest").len(), 2);
    machine.socle(&["agent", "backup", "check", "--all", "--repository", "rest"]).expect(0);
}

/// A storage that does not answer is told, and nothing is called saved; when it is back the same unit goes on.
fn away_for_a_while(keeper: &Keeper, machine: &Machine) {
    keeper.storage.stop(&keeper.machine);
    let (code, journal) = unit(machine, "s3");
    assert!(code != 0 && journal.contains("does not answer"), "{journal}");
    keeper.storage.go_on(&keeper.machine);
    let (code, journal) = unit(machine, "s3");
    assert_eq!(code, 0, "{journal}");
    assert_eq!(listed(machine, "s3").len(), 2);
}

/// Garage on three machines, each piece of data on all of them; the agent is on the first. One burns.
#[test]
#[ignore = "needs Garage: `scripts/test e2e --full` runs it"]
fn one_of_three_nodes_of_garage_is_lost() {
    garage().expect("`cargo install --locked garage --version 2.5.0`, as scripts/test does");
    let machine = Machine::new("web-trixie");
    let others = [Machine::blank("base-trixie"), Machine::blank("base-trixie")];
    Storage::spread(&[&machine, &others[0], &others[1]]);
    machine.write("/etc/socle/roots.pem", &doors(&machine));
    secret(&machine, "/etc/socle/secrets/id", KEY);
    secret(&machine, "/etc/socle/secrets/key", SECRET);
    let document = format!(
        "schema = 1\n[instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"page.example.org\"\n\
         [repositories.s3]\nlocation = \"s3:https://{}.lab.test:3443/{BUCKET}/ks1\"\nregion = \"{REGION}\"\n\
         roots = \"/etc/socle/roots.pem\"\nsecret_files = {{ access-key-id = \"/etc/socle/secrets/id\", \
         secret-access-key = \"/etc/socle/secrets/key\" }}\n",
        machine.name()
    );
    machine.write("/root/page.toml", &document);
    machine.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    let picture = "/srv/socle/page/data/public/picture.bin";
    machine.run(&["cp", "/usr/bin/socle", picture]).expect(0);
    let (code, journal) = unit(&machine, "s3");
    assert_eq!(code, 0, "{journal}");
    let [second, third] = others;
    third.power_cut();
    drop(third);
    // Two of three are enough to write and to read.
    machine.write("/srv/socle/page/data/public/index.html", "<h1>Bonjour</h1>");
    wait_for("a backup on two of three", Duration::from_secs(300), || (unit(&machine, "s3").0 == 0).then_some(()));
    machine.socle(&["agent", "backup", "check", "--all"]).expect(0);
    machine.run(&["rm", picture]).expect(0);
    machine.socle(&["agent", "restore", "page", "--yes"]).expect(0);
    machine.run(&["cmp", "/usr/bin/socle", picture]).expect(0);
    // With one left it is told, and what was saved is there when the second comes back.
    second.run(&["systemctl", "stop", "garage.service"]).expect(0);
    let (code, journal) = unit(&machine, "s3");
    assert!(code != 0 && journal.contains("does not answer"), "{journal}");
    second.run(&["systemctl", "start", "garage.service"]).expect(0);
    wait_for("a backup again", Duration::from_secs(300), || (unit(&machine, "s3").0 == 0).then_some(()));
    machine.socle(&["agent", "backup", "check", "--all"]).expect(0);
}
