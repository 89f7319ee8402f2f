//! Each recipe, from nothing to its first right answer.

use crate::machine::Machine;

fn instance(name: &str, recipe: &str, version: &str, params: &str) -> String {
    format!(
        "schema = 1\n[instances.{name}]\nrecipe = \"{recipe}\"\nversion = \"{version}\"\n\
         domain = \"{name}.example.org\"\n[instances.{name}.params]\n{params}\n"
    )
}

fn comes_up(machine: &Machine, name: &str, document: &str, path: &str, contains: &str) {
    let file = format!("/root/{name}.toml");
    machine.write(&file, document);
    machine.socle(&["agent", "apply", &file]).expect(0);
    let (status, body) = machine.get(&format!("{name}.example.org"), path);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(contains), "{body}");
    let again = machine.socle(&["agent", "apply", &file]).expect(0);
    assert!(again.contains("nothing to do"), "{again}");
}

#[test]
fn mediawiki() {
    let machine = Machine::new("web-trixie");
    let document = instance("wiki", "mediawiki", "1.43.9", "title = \"Le wiki du vélo\"");
    comes_up(&machine, "wiki", &document, "/index.php?title=Main_Page", "Le wiki du vélo");
}

/// DokuWiki 2022-07-31a is of the time of PHP 8.2: Debian 12.
#[test]
fn dokuwiki() {
    let machine = Machine::new("web-bookworm");
    let document = instance("doku", "dokuwiki", "2022-07-31a", "title = \"Le wiki plat\"");
    comes_up(&machine, "doku", &document, "/doku.php", "Le wiki plat");
}

#[test]
fn radicale() {
    let machine = Machine::new("web-trixie");
    comes_up(&machine, "cal", &instance("cal", "radicale", "3.9.0", ""), "/.web/", "Radicale");
}

#[test]
fn a_static_site() {
    let machine = Machine::new("web-trixie");
    let document = instance("page", "static", "1", "");
    machine.write("/root/page.toml", &document);
    machine.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    machine.write("/srv/socle/page/data/public/index.html", "<h1>Bonjour</h1>");
    let (status, body) = machine.get("page.example.org", "/");
    assert_eq!((status, body.as_str()), (200, "<h1>Bonjour</h1>"));
}

/// A recipe of the association's own works like a built-in one.
#[test]
fn an_own_recipe() {
    let machine = Machine::new("web-trixie");
    for file in ["recipe.toml", "nginx.conf.j2"] {
        let text = std::fs::read_to_string(crate::machine::project().join("tests/recipes/own").join(file)).unwrap();
        machine.write(&format!("/etc/socle/recipes/own/{file}"), &text);
    }
    let list = machine.socle(&["catalog", "list"]).expect(0);
    assert!(list.contains("own") && list.contains("wordpress"), "{list}");
    machine.write("/root/own.toml", &instance("hello", "own", "1", ""));
    machine.socle(&["agent", "apply", "/root/own.toml"]).expect(0);
    let (status, body) = machine.get("hello.example.org", "/");
    assert_eq!((status, body.trim()), (200, "own recipe"));
}

/// Two applications beside each other; one is withdrawn and purged, the other does not notice.
#[test]
fn withdrawn_and_purged() {
    let machine = Machine::new("web-trixie");
    let wiki = "[instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"page.example.org\"\n";
    let both = format!("{}{wiki}", crate::wordpress::document("6.8.7"));
    machine.write("/root/both.toml", &both);
    machine.socle(&["agent", "apply", "/root/both.toml"]).expect(0);

    let absent = both.replace("domain = \"blog.example.org\"\n", "domain = \"blog.example.org\"\nstate = \"absent\"\n");
    machine.write("/root/absent.toml", &absent);
    let refused = machine.socle(&["agent", "purge", "blog", "--yes"]);
    assert_eq!(refused.code, 2, "what the document wants is not purged: {}", refused.stderr);
    machine.socle(&["agent", "apply", "/root/absent.toml"]).expect(0);
    assert!(!machine.get("blog.example.org", "/").1.contains("Les amis"));
    assert!(machine.root().join("srv/socle/blog/data").exists(), "data is kept until it is purged");
    assert!(machine.run(&["mariadb", "-e", "use blog"]).code == 0);

    let would = machine.socle(&["agent", "purge", "blog"]);
    assert_eq!(would.code, 3);
    assert!(machine.root().join("srv/socle/blog/data").exists());
    machine.socle(&["agent", "purge", "blog", "--yes"]).expect(0);
    assert!(!machine.root().join("srv/socle/blog").exists());
    assert_ne!(machine.run(&["mariadb", "-e", "use blog"]).code, 0);
    assert_ne!(machine.run(&["id", "socle-blog"]).code, 0);
    assert!(!machine.root().join("var/lib/socle/secrets/blog").exists());
    assert_eq!(machine.get("page.example.org", "/").0, 403, "the other site is still served, though empty");

    // And it can come back from nothing.
    machine.socle(&["agent", "apply", "/root/both.toml"]).expect(0);
    assert_eq!(machine.get("blog.example.org", "/").0, 200);
}

/// Services, packages, accounts, files and databases without a recipe.
#[test]
fn a_server_without_recipes() {
    let machine = Machine::new("web-trixie");
    machine.lab("localapt", &[]);
    let document = std::fs::read_to_string(crate::machine::project().join("tests/e2e/server.toml")).unwrap();
    machine.write("/root/server.toml", &document);
    machine.socle(&["agent", "apply", "/root/server.toml"]).expect(0);
    assert_eq!(machine.run(&["systemctl", "is-active", "socle-echo.service"]).stdout.trim(), "active");
    assert_eq!(machine.run(&["systemctl", "is-enabled", "socle-tidy.timer"]).stdout.trim(), "enabled");
    assert_eq!(machine.run(&["systemctl", "is-enabled", "fstrim.timer"]).stdout.trim(), "masked");
    assert_eq!(machine.read("/etc/motd.d/socle"), "Bonjour\n");
    machine.run(&["runuser", "-u", "shop", "--", "mariadb", "shop", "-e", "create table t (a int)"]).expect(0);
    machine
        .run(&["runuser", "-u", "shop", "--", "psql", "-d", "shopwiki", "-c", "select similarity('a','b')"])
        .expect(0);
    let superuser = machine.run(&[
        "runuser",
        "-u",
        "postgres",
        "--",
        "psql",
        "-At",
        "-c",
        "select rolsuper from pg_roles where rolname='shop'",
    ]);
    assert_eq!(superuser.stdout.trim(), "f");
    let again = machine.socle(&["agent", "apply", "/root/server.toml"]).expect(0);
    assert!(again.contains("nothing to do"), "{again}");
}
