//! Backups of real applications: brought back in place, and on a blank server.

use crate::machine::Machine;
use crate::wordpress;

const BLOG: &str = "blog.example.org";

fn document() -> String {
    format!("{}[repositories.home]\nlocation = \"/srv/backup\"\n", wordpress::document("6.8.7"))
}

fn sql(machine: &Machine, statement: &str) -> String {
    machine.run(&["mariadb", "-N", "blog", "-e", statement]).expect(0)
}

fn title(machine: &Machine) -> String {
    sql(machine, "select option_value from wp_options where option_name = 'blogname'").trim().to_owned()
}

fn digest(machine: &Machine, path: &str) -> String {
    machine.run(&["sha256sum", path]).expect(0).split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_lost_instance_and_a_lost_server_come_back() {
    let machine = Machine::new("web-trixie");
    machine.write("/root/blog.toml", &document());
    machine.socle(&["agent", "apply", "/root/blog.toml"]).expect(0);
    let picture = "/srv/socle/blog/data/wp-content/picture.bin";
    machine.run(&["install", "-o", "socle-blog", "-g", "www-data", "-m", "640", "/usr/bin/socle", picture]).expect(0);
    sql(&machine, "update wp_options set option_value = 'Avant' where option_name = 'blogname'");
    let (kept, salt) = (digest(&machine, picture), machine.read("/var/lib/socle/secrets/blog/auth-salt"));

    // As the timer does it, in its own unit.
    let timers = machine.run(&["systemctl", "is-active", "socle-backup@home.timer"]).stdout;
    assert_eq!(timers.trim(), "active");
    machine.run(&["systemctl", "start", "socle-backup@home.service"]).expect(0);
    let saved = machine.socle(&["agent", "backup", "now"]).expect(0);
    assert!(saved.contains("blog") && saved.contains("saved to home: snapshot"), "{saved}");
    let listed = machine.socle(&["agent", "backup", "list", "blog", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    machine.socle(&["agent", "backup", "check", "--all"]).expect(0);
    keys_come_and_go(&machine);
    let pruned = machine.socle(&["agent", "backup", "prune"]).expect(0);
    assert!(pruned.contains("home: 0 snapshots let go"), "{pruned}");
    let shown = machine.socle(&["agent", "backup", "show", "blog"]).expect(0);
    assert!(shown.contains("version 6.8.7") && shown.contains("mariadb blog"), "{shown}");
    let key = machine.socle(&["agent", "backup", "key"]).expect(0);
    assert_eq!(key.trim().len(), 39, "{key}");
    let journal = machine.run(&["journalctl", "--no-pager", "--unit=socle-backup@home.service"]).stdout;
    assert!(!journal.contains(key.trim()), "{journal}");

    // Everything of it is lost or spoilt.
    sql(&machine, "update wp_options set option_value = 'Après' where option_name = 'blogname'");
    sql(&machine, "drop table wp_posts");
    machine.run(&["rm", picture]).expect(0);
    machine.write("/srv/socle/blog/data/wp-content/virus.php", "<?php");
    let plan = machine.socle(&["agent", "restore", "blog"]).expect(3);
    assert!(plan.contains("takes the place of what is there now"), "{plan}");
    assert_eq!(title(&machine), "Après");
    machine.socle(&["agent", "restore", "blog", "--yes"]).expect(0);
    assert_eq!((title(&machine), digest(&machine, picture)), ("Avant".to_owned(), kept.clone()));
    assert!(!machine.root().join("srv/socle/blog/data/wp-content/virus.php").exists());
    let (status, body) = machine.get(BLOG, "/");
    assert!(status == 200 && body.contains("Avant"), "{status} {body}");
    machine.socle(&["agent", "apply"]).expect(0);

    // The server burns; its repository was elsewhere.
    let other = Machine::new("web-trixie");
    machine.copy_to(&other, "/srv/backup");
    drop(machine);
    other.write("/root/key", "not-the-key\n");
    let wrong = other.socle(&["agent", "recover", "--repository", "/srv/backup", "--key-file", "/root/key"]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    assert!(!other.root().join("srv/socle").exists());
    other.write("/root/key", &key);
    other.socle(&["agent", "recover", "--repository", "/srv/backup", "--key-file", "/root/key"]).expect(0);
    assert_eq!((title(&other), digest(&other, picture)), ("Avant".to_owned(), kept));
    assert_eq!(other.read("/var/lib/socle/secrets/blog/auth-salt"), salt);
    let cron = other.run(&["systemctl", "is-active", "socle-blog-cron.timer"]).stdout;
    assert_eq!(cron.trim(), "active");
    let owner = other.run(&["stat", "-c", "%U:%G %a", picture]).expect(0);
    assert_eq!(owner.trim(), "socle-blog:www-data 640");
    let (status, body) = other.get(BLOG, "/");
    assert!(status == 200 && body.contains("Avant"), "{status} {body}");
    // It is that server now: it goes on with the same repository and key.
    other.socle(&["agent", "backup", "now"]).expect(0);
    assert_eq!(other.socle(&["agent", "backup", "key"]).expect(0).trim(), key.trim());
    let again = other.socle(&["agent", "recover", "--repository", "/srv/backup", "--key-file", "/root/key"]);
    assert_eq!(again.code, 2, "{}", again.stderr);
}

#[test]
fn a_damaged_repository_is_told_and_no_backup_is_good() {
    let machine = Machine::new("web-trixie");
    let site = "schema = 1\n[instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"page.example.org\"\n\
                [repositories.home]\nlocation = \"/srv/backup\"\n";
    machine.write("/root/page.toml", site);
    machine.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    machine.socle(&["agent", "backup", "now"]).expect(0);
    let packs = machine.run(&["find", "/srv/backup/data", "-type", "f"]).expect(0);
    let pack = packs.lines().next().unwrap();
    machine.flip(pack);
    let checked = machine.socle(&["agent", "backup", "check", "--all"]);
    assert_eq!(checked.code, 3);
    assert!(
        checked.stdout.contains("DAMAGED") && checked.stderr.contains(pack.rsplit('/').next().unwrap()),
        "{}",
        checked.stderr
    );
    machine.run(&["mv", "/srv/backup", "/srv/elsewhere"]).expect(0);
    machine.write("/srv/backup", "a file is in its place");
    let gone = machine.socle(&["agent", "backup", "now"]);
    assert!(gone.code == 1 && gone.stderr.contains("/srv/backup"), "{} {}", gone.code, gone.stderr);
}

/// Keys of the repository `home`: a second one, a new one, and the second one gone.
fn keys_come_and_go(machine: &Machine) {
    let of = |act: &[&str]| machine.socle(&[&["agent", "backup", "key"][..], act].concat());
    let first = of(&[]).expect(0);
    let friend = of(&["add", "--label", "a friend"]).expect(0);
    assert_ne!(first, friend);
    let listed = of(&["list", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let second = of(&["rotate"]).expect(0);
    assert_ne!(first, second);
    assert_eq!(of(&[]).expect(0), second);
    machine.socle(&["agent", "backup", "list"]).expect(0);
    let keys = of(&["list", "--json"]).json();
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 2, "the first one is gone: {keys:?}");
    let theirs = keys.iter().find(|key| key["user"] == "a friend").unwrap()["id"].as_str().unwrap();
    let ours = keys.iter().find(|key| key["ours"] == true).unwrap()["id"].as_str().unwrap();
    assert_ne!(of(&["remove", &ours[..8]]).code, 0, "the server's own key stays");
    of(&["remove", &theirs[..8]]).expect(0);
    assert_eq!(of(&["list", "--json"]).json().as_array().unwrap().len(), 1);
    let unknown = of(&["remove", "nothing"]);
    assert!(unknown.code != 0 && unknown.stderr.contains("no key of `home` is `nothing`"), "{}", unknown.stderr);
}

/// An application with a PostgreSQL database, as an association might write its own.
pub const COUNTED: &str = r#"schema = 1
[app]
id = "counted"
name = "Counted"
homepage = "https://www.example.org"
license = "EUPL-1.2"
[versions]
scheme = "any"
[source]
kind = "empty"
[[db]]
engine = "postgresql"
[layout]
directory = [{ path = "uploads" }, { path = "shared/deep", mode = "0700" }]
[[install]]
name = "count"
[install.run]
argv = ["/usr/bin/psql", "-X", "-d", "{db}", "-c", "create table \"Odd name\" as select generate_series(1, 7) as n"]
[web]
kind = "static"
root = "{data}"
locations = "nginx.conf"
[[health]]
path = "/"
contains = "counted at {domain}"
"#;

pub fn rows(machine: &Machine, database: &str) -> String {
    let count = "select count(*) from \"Odd name\"";
    machine.run(&["runuser", "-u", "postgres", "--", "psql", "-XAtd", database, "-c", count]).expect(0)
}

fn letters(machine: &Machine, instance: &str) -> [String; 2] {
    ["uploads", "shared/deep"].map(|place| machine.read(&format!("/srv/socle/{instance}/{place}/letter")))
}

pub fn counted(machine: &Machine) {
    machine.write("/etc/socle/recipes/counted/recipe.toml", COUNTED);
    let locations = "location = / {\n    return 200 {{ \"counted at \" ~ domain }};\n}\n";
    machine.write("/etc/socle/recipes/counted/nginx.conf", locations);
}

#[test]
fn every_kind_of_application_comes_back() {
    let machine = Machine::new("web-trixie");
    counted(&machine);
    let instance = |name: &str, recipe: &str, version: &str| {
        format!("[instances.{name}]\nrecipe = \"{recipe}\"\nversion = \"{version}\"\ndomain = \"{name}.example.org\"\n")
    };
    let document = [
        "schema = 1\n".to_owned(),
        instance("cal", "radicale", "3.9.0"),
        instance("page", "static", "1"),
        instance("seven", "counted", "1"),
        "[repositories.home]\nlocation = \"/srv/backup\"\n".to_owned(),
    ];
    machine.write("/root/all.toml", &document.concat());
    machine.socle(&["agent", "apply", "/root/all.toml"]).expect(0);
    machine.write("/srv/socle/page/data/public/index.html", "<h1>Bonjour</h1>");
    // Beside `data`, where its recipe has it.
    for place in ["uploads", "shared/deep"] {
        machine.write(&format!("/srv/socle/seven/{place}/letter"), "Chère amie");
    }
    // As the timer does it: a unit that sees no process of the database server.
    machine.run_unit("socle-backup@home.service");
    for (name, tables) in [("cal", 0), ("page", 0), ("seven", 1)] {
        let drilled = machine.socle(&["agent", "backup", "drill", name, "--json"]);
        assert_eq!(drilled.code, 0, "{name}: {} {}", drilled.stdout, drilled.stderr);
        assert_eq!(drilled.json()["tables"], tables, "{name}");
    }
    let aside = ["agent", "restore", "seven", "--as", "eight", "--domain", "eight.example.org", "--yes"];
    machine.socle(&aside).expect(0);
    assert_eq!(rows(&machine, "eight").trim(), "7");
    assert_eq!(letters(&machine, "eight"), ["Chère amie"; 2]);
    assert_eq!(machine.get("eight.example.org", "/").1, "counted at eight.example.org");
    machine.socle(&["agent", "backup", "now"]).expect(0);
    let key = machine.socle(&["agent", "backup", "key"]).expect(0);

    let other = Machine::new("web-trixie");
    machine.copy_to(&other, "/srv/backup");
    let modes = |machine: &Machine| {
        let stat = ["find", "/srv/socle/cal/data", "/srv/socle/seven/data", "-printf", "%p %u:%g %m\n"];
        let mut lines: Vec<String> = machine.run(&stat).expect(0).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = modes(&machine);
    drop(machine);
    other.write("/root/key", &key);
    let back = other.socle(&["agent", "recover", "--repository", "/srv/backup", "--key-file", "/root/key"]);
    assert_eq!(back.code, 0, "{} {}", back.stdout, back.stderr);
    assert!(back.stderr.contains("brought back in"), "{}", back.stderr);
    assert!(other.read("/etc/socle/recipes/counted/recipe.toml") == COUNTED, "its recipe came back too");
    assert!(!other.root().join("etc/socle/recipes.recovered").exists());
    assert_eq!(modes(&other), before);
    assert_eq!((rows(&other, "seven").trim(), rows(&other, "eight").trim()), ("7", "7"));
    assert_eq!(letters(&other, "seven"), ["Chère amie"; 2]);
    let deep = other.run(&["stat", "-c", "%U %a", "/srv/socle/seven/shared/deep"]).expect(0);
    assert_eq!(deep.trim(), "socle-seven 700");
    assert_eq!(other.get("page.example.org", "/").1, "<h1>Bonjour</h1>");
    assert!(other.get("cal.example.org", "/.web/").1.contains("Radicale"));
    for timer in ["socle-backup@home.timer", "socle-drill@home.timer"] {
        assert_eq!(other.run(&["systemctl", "is-active", timer]).stdout.trim(), "active", "{timer}");
    }
}

/// A page and a database, and their backups with a friend who has OpenSSH.
fn page(keeper: &Machine, host_key: &str) -> String {
    format!(
        "schema = 1\n[instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"page.example.org\"\n\
         [instances.seven]\nrecipe = \"counted\"\nversion = \"1\"\ndomain = \"seven.example.org\"\n\
         [repositories.friend]\nlocation = \"sftp://ks1@{}/socle\"\nhost_keys = [\"{host_key}\"]\n",
        keeper.address()
    )
}

/// The friend lets the server's own key in.
fn let_in(keeper: &Machine, machine: &Machine) {
    let key = machine.socle(&["agent", "backup", "ssh-key"]).expect(0);
    assert!(key.starts_with("ssh-ed25519 "), "{key}");
    assert_eq!(machine.socle(&["agent", "backup", "ssh-key"]).expect(0), key);
    keeper.write("/home/ks1/.ssh/authorized_keys", &key);
    keeper.run(&["chown", "-R", "ks1:", "/home/ks1/.ssh"]).expect(0);
}

#[test]
fn a_lost_server_comes_back_from_a_friend_over_sftp() {
    let keeper = Machine::blank("web-trixie");
    keeper.run(&["useradd", "--create-home", "ks1"]).expect(0);
    keeper.run(&["ssh-keygen", "-A"]).expect(0);
    keeper.run(&["systemctl", "start", "ssh.service"]).expect(0);
    let host_key = keeper.read("/etc/ssh/ssh_host_ed25519_key.pub");
    let location = format!("sftp://ks1@{}/socle", keeper.address());

    let machine = Machine::new("web-trixie");
    counted(&machine);
    machine.write("/root/page.toml", &page(&keeper, host_key.trim()));
    machine.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    machine.write("/srv/socle/page/data/public/index.html", "<h1>Bonjour</h1>");
    let stranger = machine.socle(&["agent", "backup", "now"]);
    assert!(stranger.code == 1 && stranger.stderr.contains("does not let our SSH key in"), "{}", stranger.stderr);
    let_in(&keeper, &machine);
    // As the timers do it, in units of their own.
    for timer in ["socle-backup-remote@friend.timer", "socle-drill@friend.timer"] {
        assert_eq!(machine.run(&["systemctl", "is-active", timer]).stdout.trim(), "active", "{timer}");
    }
    for unit in ["socle-backup-remote@friend.service", "socle-drill@friend.service"] {
        let started = machine.run(&["systemctl", "start", unit]);
        let journal = machine.run(&["journalctl", "--no-pager", "--unit", unit]).stdout;
        assert_eq!(started.code, 0, "{journal}");
        assert!(!journal.contains("PRIVATE KEY"), "{journal}");
    }
    assert!(keeper.root().join("home/ks1/socle/config").exists());
    assert_eq!(machine.socle(&["agent", "backup", "list", "--json"]).json().as_array().unwrap().len(), 2);
    let key = machine.socle(&["agent", "backup", "key"]).expect(0);

    // Somebody else in the friend's place.
    let other_key = keeper.read("/home/ks1/.ssh/authorized_keys");
    machine.write("/root/other.toml", &page(&keeper, other_key.trim()));
    machine.socle(&["agent", "apply", "/root/other.toml"]).expect(0);
    let refused = machine.socle(&["agent", "backup", "check"]);
    assert!(refused.code == 1 && refused.stderr.contains("none of its `host_keys`"), "{}", refused.stderr);
    drop(machine);

    let blank = Machine::new("web-trixie");
    counted(&blank);
    let_in(&keeper, &blank);
    blank.write("/root/key", &key);
    let recover = ["agent", "recover", "--repository", &location, "--key-file", "/root/key"];
    let unknown = blank.socle(&recover);
    assert!(unknown.code == 2 && unknown.stderr.contains("host-keys"), "{} {}", unknown.code, unknown.stderr);
    blank.write("/root/credentials.toml", &format!("host-keys = [\"{}\"]\n", host_key.trim()));
    blank.run(&["chmod", "600", "/root/credentials.toml"]).expect(0);
    let back = blank.socle(&[&recover[..], &["--credentials", "/root/credentials.toml"]].concat());
    assert_eq!(back.code, 0, "{} {}", back.stdout, back.stderr);
    assert_eq!(blank.get("page.example.org", "/").1, "<h1>Bonjour</h1>");
    assert_eq!(rows(&blank, "seven").trim(), "7");
    // It is that server now.
    blank.run(&["systemctl", "start", "socle-backup-remote@friend.service"]).expect(0);
    assert_eq!(blank.socle(&["agent", "backup", "list", "--json"]).json().as_array().unwrap().len(), 4);
}
