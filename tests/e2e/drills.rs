//! Drills: a restore that nobody sees and that reaches nobody; and a copy beside the original.

use crate::machine::{Machine, wait_for};
use crate::wordpress;

const BLOG: &str = "blog.example.org";

/// Tries to get out. In a drill that must fail, or its page is no page.
const REACHES: &str = r#"<?php
$reached = [];
if (@fsockopen('ADDRESS', 80, $number, $text, 2)) $reached[] = 'web';
if (@fsockopen('127.0.0.1', 25, $number, $text, 2)) $reached[] = 'local mail';
if (count(file('/proc/self/net/dev')) > 3) $reached[] = 'more networks';
if (@mail('somebody@example.org', 'subject', 'text')) $reached[] = 'mail';
$drilled = str_contains(WP_CONTENT_DIR, 'socle-drill');
if (($drilled && $reached) || isset($_GET['reaches'])) die(json_encode($reached));
"#;

/// Whoever mails is told to the journal.
const SENDMAIL: &str = "#!/bin/sh
cat >/dev/null
exec logger -t trap-mail \"$(id -un) mails\"
";

/// A program that sends mail, and a mail server of this machine.
fn traps(machine: &Machine) {
    machine.write("/usr/sbin/sendmail", SENDMAIL);
    machine.run(&["chmod", "755", "/usr/sbin/sendmail"]).expect(0);
    let server = ["systemd-run", "--unit=trap-smtp", "python3", "-m", "http.server", "25", "--bind", "127.0.0.1"];
    machine.run(&server).expect(0);
    let listens = || machine.run(&["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/25"]).ok();
    wait_for("a mail server", std::time::Duration::from_secs(30), listens);
}

fn mails(machine: &Machine) -> String {
    machine.run(&["journalctl", "--no-pager", "--identifier=trap-mail", "-o", "cat"]).stdout
}

fn document() -> String {
    format!("{}[repositories.home]\nlocation = \"/srv/backup\"\n", wordpress::document("6.8.7"))
}

fn sql(machine: &Machine, statement: &str) -> String {
    machine.run(&["mariadb", "-N", "blog", "-e", statement]).expect(0)
}

/// Names of everything a drill makes, wherever it stands.
pub fn left_of_a_drill(machine: &Machine) -> String {
    let places =
        ["/srv/socle", "/run/systemd/system", "/run/socle", "/var/lib/socle", "/var/cache/socle", "/etc/nginx"];
    let mut find = vec!["find"];
    find.extend(places);
    find.extend(["-name", "*socle-drill*", "-not", "-name", "socle-drill@*"]);
    let files = machine.run(&find).stdout;
    let users = machine.run(&["getent", "passwd", "socle-socle-drill"]).stdout;
    let databases = machine.run(&["mariadb", "-N", "-e", "show databases like 'socle_drill'"]).expect(0);
    let roles = machine.run(&["mariadb", "-N", "-e", "select User from mysql.global_priv where User like '%drill%'"]);
    let others = "select datname from pg_database where datname like '%drill%' union all select rolname from pg_roles where rolname like '%drill%'";
    let others = machine.run(&["runuser", "-u", "postgres", "--", "psql", "-XAtc", others]).expect(0);
    let units = machine.run(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "socle-*-drill-*"]).stdout;
    [files, users, databases, roles.expect(0), others, units].concat()
}

#[test]
fn a_drill_proves_a_backup_and_a_copy_stands_beside_the_original() {
    let machine = Machine::new("web-trixie");
    machine.write("/root/blog.toml", &document());
    machine.socle(&["agent", "apply", "/root/blog.toml"]).expect(0);
    let picture = "/srv/socle/blog/data/wp-content/picture.bin";
    machine.run(&["install", "-o", "socle-blog", "-g", "socle-blog", "-m", "640", "/usr/bin/true", picture]).expect(0);
    sql(&machine, "update wp_options set option_value = 'Avant' where option_name = 'blogname'");
    let link = format!("http://{BLOG}/?p=1 and http://{BLOG}.uk/");
    sql(&machine, &format!("update wp_posts set post_content = '<p>{link}</p>' where ID = 1"));
    let serialized = format!("a:1:{{s:3:\"url\";s:{}:\"http://{BLOG}/x\";}}", format!("http://{BLOG}/x").len());
    sql(&machine, &format!("insert into wp_options (option_name, option_value) values ('it', '{serialized}')"));
    sql(&machine, "create definer = `socle-blog`@localhost sql security definer view seen as select * from wp_posts");
    let reaches = REACHES.replace("ADDRESS", &machine.address());
    machine.write("/srv/socle/blog/data/wp-content/mu-plugins/reaches.php", &reaches);
    machine.run(&["chown", "-R", "socle-blog:", "/srv/socle/blog/data/wp-content/mu-plugins"]).expect(0);
    assert_eq!(machine.socle(&["agent", "backup", "drill", "blog"]).code, 2, "nothing was saved yet");
    machine.socle(&["agent", "backup", "now"]).expect(0);

    // What a drill must not reach is there, and its original reaches it.
    traps(&machine);
    assert_eq!(machine.get(BLOG, "/?reaches=1"), (200, r#"["web","local mail","more networks","mail"]"#.to_owned()));
    assert!(mails(&machine).contains("socle-blog mails"), "{}", mails(&machine));

    // The drill leaves no trace but what it found. Its release is here: nothing is downloaded.
    machine.cut();
    let drilled = machine.socle(&["agent", "backup", "drill", "blog", "--json"]);
    assert_eq!(drilled.code, 0, "{} {}", drilled.stdout, drilled.stderr);
    let found = drilled.json();
    assert!(found["rto_ms"].as_u64().unwrap() > 0 && found["tables"].as_u64().unwrap() > 10, "{found}");
    machine.heal();
    assert_eq!(left_of_a_drill(&machine), "");
    assert!(!mails(&machine).contains("drill"), "{}", mails(&machine));
    machine.socle(&["agent", "apply"]).expect(0);
    let status = machine.socle(&["agent", "status", "--json"]).json();
    assert_eq!(status["backups"][0]["drill"]["rto_ms"], found["rto_ms"], "{status}");
    // As the timer does it, after one that was killed.
    assert_eq!(machine.run(&["systemctl", "is-active", "socle-drill@home.timer"]).stdout.trim(), "active");
    let in_its_database = || {
        wait_for("a drill in its database", std::time::Duration::from_secs(60), || {
            machine.run(&["test", "-d", "/var/lib/mysql/socle_drill"]).ok()
        })
    };
    let mut ended = machine.start(&["socle", "agent", "backup", "drill", "blog"]);
    in_its_database();
    machine.run(&["pkill", "-TERM", "-o", "-x", "socle"]).expect(0);
    assert!(!ended.wait().unwrap().success());
    assert_eq!(left_of_a_drill(&machine), "");
    let mut killed = machine.start(&["socle", "agent", "backup", "drill", "blog"]);
    in_its_database();
    machine.run(&["pkill", "-KILL", "-x", "socle"]).expect(0);
    killed.wait().unwrap();
    assert_ne!(left_of_a_drill(&machine), "");
    let started = machine.run(&["systemctl", "start", "socle-drill@home.service"]);
    let journal = machine.run(&["journalctl", "--no-pager", "--unit=socle-drill@home.service"]).stdout;
    assert_eq!(started.code, 0, "{journal}");
    assert!(journal.contains("it answers after"), "{journal}");
    assert_eq!(left_of_a_drill(&machine), "");

    // Beside the original, which goes on.
    assert_eq!(machine.socle(&["agent", "restore", "blog", "--as", "copy"]).code, 2, "a domain is needed");
    let aside = ["agent", "restore", "blog", "--as", "copy", "--domain", "the-copy.example.org"];
    let plan = machine.socle(&aside).expect(3);
    assert!(plan.contains("[instances.copy]") && plan.contains("`blog` goes on"), "{plan}");
    assert!(!machine.root().join("srv/socle/copy").exists(), "a plan changes nothing");
    machine.socle(&[&aside[..], &["--yes"]].concat()).expect(0);
    let (status, body) = machine.get("the-copy.example.org", "/?p=1");
    assert!(status == 200 && body.contains("Avant"), "{status} {body}");
    assert!(body.contains("//the-copy.example.org/?p=1 and") && body.contains(&format!("http://{BLOG}.uk/")), "{body}");
    let (status, body) = machine.get(BLOG, "/?p=1");
    assert!(status == 200 && body.contains(&link), "{status} {body}");
    let of_copy = |statement: &str| machine.run(&["mariadb", "-N", "copy", "-e", statement]).expect(0);
    let moved = of_copy("select option_value from wp_options where option_name = 'it'");
    assert_eq!(moved.trim(), "a:1:{s:3:\"url\";s:29:\"http://the-copy.example.org/x\";}");
    assert_ne!(of_copy("select count(*) from seen").trim(), "0", "code runs with the copy's rights");
    let theirs = machine.run(&["stat", "-c", "%U:%G %a", "/srv/socle/copy/data/wp-content/picture.bin"]).expect(0);
    assert_eq!(theirs.trim(), "socle-copy:socle-copy 640");
    let salt = "/var/lib/socle/secrets/blog/auth-salt";
    assert_eq!(machine.read(salt), machine.read(&salt.replace("blog", "copy")));
    let again = machine.socle(&["agent", "apply"]).expect(0);
    assert!(again.contains("nothing to do"), "{again}");
    assert_eq!(
        machine.socle(&[&aside[..], &["--yes"]].concat()).code,
        0,
        "it is in the document: brought back into it"
    );

    // One byte of the largest pack: the pictures of the blog.
    let packs = machine.run(&["find", "/srv/backup/data", "-type", "f", "-printf", "%s %p\n"]).expect(0);
    let size = |line: &&str| line.split(' ').next().unwrap().parse::<u64>().unwrap();
    let pack = packs.lines().max_by_key(size).unwrap().split(' ').nth(1).unwrap();
    machine.flip(pack);
    let failed = machine.socle(&["agent", "backup", "drill", "blog"]);
    assert_eq!(failed.code, 3, "{} {}", failed.stdout, failed.stderr);
    assert!(failed.stdout.contains("blog") && failed.stdout.contains("FAILED"), "{}", failed.stdout);
    assert!(failed.stderr.contains(pack.rsplit('/').next().unwrap()), "the pack is named: {}", failed.stderr);
    println!("{}{}", failed.stdout, failed.stderr);
    assert_eq!(left_of_a_drill(&machine), "");
    let status = machine.socle(&["agent", "status"]).stdout;
    assert!(status.contains("the last drill of `blog` from `home` failed"), "{status}");
    assert_eq!(machine.get(BLOG, "/").0, 200);
}
