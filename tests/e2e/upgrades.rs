//! Upgrades that pass, and one that must fail and be undone, data included.

use crate::machine::Machine;
use crate::wordpress;

const BLOG: &str = "blog.example.org";
const WIKI: &str = "wiki.example.org";

fn wiki(version: &str, extra: &str) -> String {
    format!(
        "schema = 1\n[instances.wiki]\nrecipe = \"mediawiki\"\nversion = \"{version}\"\ndomain = \"{WIKI}\"\n\
         [instances.wiki.params]\ntitle = \"Le wiki\"\nextra-settings = \"{extra}\"\n"
    )
}

/// A page written before must be there after.
fn post(machine: &Machine, title: &str) {
    let sql = format!(
        "insert into wp_posts (post_author, post_date, post_date_gmt, post_modified, post_modified_gmt, post_content, \
         post_title, post_excerpt, post_name, to_ping, pinged, post_content_filtered) values \
         (1, now(), now(), now(), now(), 'content kept', '{title}', '', 'kept', '', '', '')"
    );
    machine.run(&["mariadb", "blog", "-e", &sql]).expect(0);
}

#[test]
fn wordpress_in_place_with_its_content() {
    let machine = Machine::new("web-trixie");
    machine.write("/root/blog.toml", &wordpress::document("6.1.9"));
    machine.socle(&["agent", "apply", "/root/blog.toml"]).expect(0);
    post(&machine, "Sortie du dimanche");
    machine
        .run(&["install", "-o", "socle-blog", "-m", "640", "/etc/hostname", "/srv/socle/blog/data/wp-content/kept.txt"])
        .expect(0);

    machine.write("/root/blog.toml", &wordpress::document("6.8.7"));
    let plan = machine.socle(&["agent", "plan", "/root/blog.toml"]).expect(3);
    assert!(plan.contains("point of no return"), "{plan}");
    machine.socle(&["agent", "apply", "/root/blog.toml"]).expect(0);
    let (status, body) = machine.get(BLOG, "/");
    assert_eq!(status, 200);
    assert!(body.contains("Sortie du dimanche") && body.contains("6.8.7"), "{body}");
    assert!(machine.root().join("srv/socle/blog/data/wp-content/kept.txt").exists());
    let version = machine.run(&[
        "mariadb",
        "-N",
        "blog",
        "-e",
        "select option_value from wp_options where option_name='db_version'",
    ]);
    assert_eq!(version.stdout.trim(), "60421");

    // The admin may go back: release and data.
    machine.socle(&["agent", "rollback", "blog"]);
    let (status, body) = machine.get(BLOG, "/");
    assert_eq!(status, 200);
    assert!(body.contains("6.1.9") && body.contains("Sortie du dimanche"), "{body}");
}

/// With the line `wfLoadExtension( 'Renameuser' )` MediaWiki 1.43 answers 500.
#[test]
fn mediawiki_that_fails_comes_back_and_passes_when_mended() {
    let machine = Machine::new("web-trixie");
    let renameuser = "wfLoadExtension( 'Renameuser' );";
    machine.write("/root/wiki.toml", &wiki("1.39.17", renameuser));
    machine.socle(&["agent", "apply", "/root/wiki.toml"]).expect(0);
    let edit = "Ceci était là avant";
    machine
        .run(&[
            "systemd-run",
            "--quiet",
            "--wait",
            "--pipe",
            "--uid=socle-wiki",
            "--working-directory=/srv/socle/wiki/current",
            "bash",
            "-c",
            &format!("echo '{edit}' | php maintenance/edit.php --user Admin Essai"),
        ])
        .expect(0);
    let tables = |machine: &Machine| machine.run(&["mariadb", "-N", "wiki", "-e", "show tables"]).stdout;
    let before = tables(&machine);

    machine.write("/root/wiki.toml", &wiki("1.43.9", renameuser));
    let failed = machine.socle(&["agent", "apply", "/root/wiki.toml", "--json"]);
    assert_eq!(failed.code, 3, "{}\n{}", failed.stdout, failed.stderr);
    let (status, body) = machine.get(WIKI, "/index.php?title=Essai");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(edit), "{body}");
    assert!(machine.get(WIKI, "/index.php?title=Special:Version").1.contains("1.39.17"));
    assert_eq!(tables(&machine), before, "the schema is back too");
    let status = machine.socle(&["agent", "status", "--json"]).json();
    assert_eq!(status["instances"][0]["running_version"], "1.39.17");
    assert!(status["instances"][0]["problems"].to_string().contains("condemned"));
    // No ping-pong: the condemned version is not tried again by itself.
    let again = machine.socle(&["agent", "apply"]);
    assert_eq!(again.code, 3);
    assert!(again.stdout.contains("condemned"), "{}", again.stdout);

    machine.write("/root/wiki.toml", &wiki("1.43.9", ""));
    machine.socle(&["agent", "apply", "/root/wiki.toml"]).expect(0);
    let (status, body) = machine.get(WIKI, "/index.php?title=Essai");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(edit), "{body}");
    assert!(machine.get(WIKI, "/index.php?title=Special:Version").1.contains("1.43.9"));
}
