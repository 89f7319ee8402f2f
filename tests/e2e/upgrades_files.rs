//! Upgrades that spoil files: on every file system all of it comes back, by itself.

use std::time::Instant;

use crate::machine::Machine;
use crate::wordpress;

const BLOG: &str = "blog.example.org";
const UPLOADS: &str = "/srv/socle/blog/data/wp-content/uploads";

/// Spoils what people uploaded, and the database, as soon as the new version runs; and then nothing answers.
const SPOILS: &str = r#"<?php
if (version_compare($GLOBALS['wp_version'], '6.8', '>=')) {
    $uploads = WP_CONTENT_DIR . '/uploads';
    @unlink("$uploads/2024/letter.txt");
    file_put_contents("$uploads/2024/picture.bin", 'spoilt', FILE_APPEND);
    file_put_contents("$uploads/2024/middle.bin", 'spoilt');
    file_put_contents("$uploads/debris.txt", 'new');
    $GLOBALS['wpdb']->query("update wp_options set option_value = 'spoilt' where option_name = 'blogname'");
    http_response_code(500);
    exit(0);
}
"#;

/// The form of the document is another one with another title.
fn document(version: &str, title: &str) -> String {
    wordpress::document(version).replace("Les amis du vélo", title)
}

fn apply(machine: &Machine, version: &str, title: &str) -> crate::machine::Done {
    machine.write("/root/blog.toml", &document(version, title));
    machine.socle(&["agent", "apply", "/root/blog.toml"])
}

/// Everything that is there, but for the times of directories, which a visitor's page may change.
fn files(machine: &Machine) -> String {
    let list = "cd /srv/socle/blog/data/wp-content && find . -type d -printf '%p %u:%g %m\\n' -o -printf '%p %y %u:%g %m %s %T@ %l\\n' \
                | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum";
    machine.run(&["bash", "-c", list]).expect(0)
}

fn title(machine: &Machine) -> String {
    let ask = "select option_value from wp_options where option_name = 'blogname'";
    machine.run(&["mariadb", "-N", "blog", "-e", ask]).expect(0).trim().to_owned()
}

fn as_blog(machine: &Machine, script: &str) {
    machine.run(&["runuser", "-u", "socle-blog", "--", "bash", "-ec", script]).expect(0);
}

fn kept(machine: &Machine) -> Vec<String> {
    let listed = machine.run(&["bash", "-c", "ls -A /srv/socle/blog/kept"]).expect(0);
    listed.split_whitespace().map(str::to_owned).collect()
}

/// Tells where on the disk the bytes of a file are (ioctl_fiemap(2)).
const EXTENTS: &str = r#"import fcntl, struct, sys
most = 512
about = bytearray(32 + 56 * most)
struct.pack_into("=QQLLLL", about, 0, 0, 2**64 - 1, 1, 0, most, 0)
with open(sys.argv[1], "rb") as file:
    fcntl.ioctl(file, 0xC020660B, about)
for nth in range(struct.unpack_from("=L", about, 20)[0]):
    print(*struct.unpack_from("=QQQ", about, 32 + 56 * nth))
"#;

/// A copy that has its own bytes has them elsewhere.
fn extents(machine: &Machine, path: &str) -> String {
    machine.run(&["python3", "-c", EXTENTS, path]).expect(0)
}

/// Megabytes of uploads for the measurement.
fn big() -> u64 {
    std::env::var("SOCLE_BIG_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

fn spoilt_files_come_back(machine: &Machine, what: &str, shares: bool) {
    apply(machine, "6.1.9", "Un").expect(0);
    // WordPress makes the month's directory when its timer comes, which may be at any time.
    as_blog(machine, &format!("mkdir -p {UPLOADS}/$(date +%Y/%m)"));
    as_blog(
        machine,
        &format!(
            "mkdir -p -m 750 {UPLOADS}/2024; cd {UPLOADS}/2024; echo 'Chère amie' >letter.txt; chmod 640 letter.txt; \
             head -c 5000000 /dev/urandom >picture.bin; cp picture.bin middle.bin; ln letter.txt twice.txt; ln -s letter.txt link; \
             touch -d '2024-05-06 07:08:09.123456789' picture.bin"
        ),
    );
    machine.write("/root/spoils.php", SPOILS);
    let plugins = "/srv/socle/blog/data/wp-content/mu-plugins";
    machine
        .run(&["install", "-D", "-o", "socle-blog", "-m", "644", "/root/spoils.php", &format!("{plugins}/spoils.php")])
        .expect(0);
    machine.run(&["chown", "socle-blog:", plugins]).expect(0);
    assert_eq!(machine.get(BLOG, "/").0, 200);
    let before = (files(machine), title(machine));

    let failed = apply(machine, "6.8.7", "Deux");
    assert_eq!(failed.code, 3, "{}\n{}", failed.stdout, failed.stderr);
    assert!(failed.stdout.contains("condemned"), "{}", failed.stdout);
    assert_eq!((files(machine), title(machine)), before, "{what}");
    let (status, body) = machine.get(BLOG, "/");
    assert!(status == 200 && body.contains("6.1.9"), "{what}: {status} {body}");
    assert_eq!(kept(machine), Vec::<String>::new(), "{what}");
    assert!(machine.run(&["test", "-e", "/srv/socle/blog/set-aside"]).code != 0, "nobody misses it");

    machine.run(&["rm", &format!("{plugins}/spoils.php")]).expect(0);
    let before = files(machine);
    let begun = Instant::now();
    apply(machine, "6.8.7", "Trois").expect(0);
    let small = begun.elapsed();
    assert_eq!(kept(machine).len(), 1, "{what}: what a rollback needs");
    as_blog(machine, &format!("rm {UPLOADS}/2024/letter.txt; echo since >{UPLOADS}/since.txt"));
    machine.socle(&["agent", "rollback", "blog"]);
    assert_eq!(files(machine), before, "{what}: the rollback");
    assert!(machine.get(BLOG, "/").1.contains("6.1.9"));
    let since = "cat /srv/socle/blog/set-aside/6.8.7-*/0-data/wp-content/uploads/since.txt";
    assert_eq!(machine.run(&["bash", "-c", since]).expect(0), "since\n", "{what}");

    as_blog(machine, &format!("head -c {}M /dev/urandom >{UPLOADS}/big.bin", big()));
    let begun = Instant::now();
    apply(machine, "6.8.7", "Quatre").expect(0);
    let large = begun.elapsed();
    // How long is for people and benches to judge.
    println!("{what}: upgrade {:.1} s, with {} MB of files {:.1} s", small.as_secs_f64(), big(), large.as_secs_f64());
    let again = machine.socle(&["agent", "apply"]).expect(0);
    assert!(again.contains("nothing to do"), "{again}");
    // Not by what the disk has left: space of what was removed comes back later, by a thread of the file system.
    let copy = machine.run(&["bash", "-c", "ls -d /srv/socle/blog/kept/6.1.9-*/0-data"]).expect(0);
    let copy = copy.trim().to_owned() + "/wp-content/uploads/big.bin";
    machine.run(&["cmp", &copy, &format!("{UPLOADS}/big.bin")]).expect(0);
    machine.run(&["sync", "-f", "/srv"]).expect(0);
    let (ours, theirs) = (extents(machine, &copy), extents(machine, &format!("{UPLOADS}/big.bin")));
    assert!(!ours.is_empty() && !theirs.is_empty(), "{what}");
    assert_eq!(ours == theirs, shares, "{what}: {ours:?} and {theirs:?}");
}

#[test]
fn spoilt_files_come_back_on_ext4() {
    spoilt_files_come_back(&Machine::new("web-trixie"), "ext4", false);
}

#[test]
fn spoilt_files_come_back_on_btrfs() {
    let machine = Machine::new("web-trixie");
    machine.mount("btrfs", "/srv");
    // As an admin's hand, or a version before made it.
    machine.run(&["mkdir", "-p", "/srv/socle/blog/data"]).expect(0);
    spoilt_files_come_back(&machine, "btrfs", true);
}

#[test]
fn spoilt_files_come_back_on_a_subvolume() {
    let machine = Machine::new("web-trixie");
    machine.mount("btrfs", "/srv");
    spoilt_files_come_back(&machine, "a subvolume of btrfs", true);
    let number = machine.run(&["bash", "-c", "stat -c %i /srv/socle/blog/kept/*/0-data"]).expect(0);
    assert_eq!(number.trim(), "256", "a snapshot, and no copy of each file");
}

#[test]
#[ignore = "shares blocks as btrfs does: `scripts/test e2e --full` runs it"]
fn spoilt_files_come_back_on_xfs() {
    let machine = Machine::new("web-trixie");
    machine.mount("xfs", "/srv");
    spoilt_files_come_back(&machine, "XFS", true);
}

/// A mount would go with the directory it is in.
#[test]
fn a_disk_mounted_among_the_files_is_not_lost() {
    let machine = Machine::new("web-trixie");
    apply(&machine, "6.1.9", "Un").expect(0);
    as_blog(&machine, &format!("mkdir -p {UPLOADS}/disk"));
    machine.run(&["mount", "-t", "tmpfs", "tmpfs", &format!("{UPLOADS}/disk")]).expect(0);
    machine.run(&["touch", &format!("{UPLOADS}/disk/precious")]).expect(0);
    let refused = apply(&machine, "6.8.7", "Un");
    assert_eq!(refused.code, 3, "{}", refused.stdout);
    let said = refused.stdout + &refused.stderr;
    assert!(said.contains("is mounted in") && said.contains("mount the disk above"), "{said}");
    assert!(machine.get(BLOG, "/").1.contains("6.1.9"), "it is served meanwhile");
    machine.run(&["test", "-e", &format!("{UPLOADS}/disk/precious")]).expect(0);
    machine.run(&["umount", &format!("{UPLOADS}/disk")]).expect(0);
    apply(&machine, "6.8.7", "Un").expect(0);
}
