use crate::machine::Machine;

const DOMAIN: &str = "blog.example.org";

pub fn document(version: &str) -> String {
    format!(
        r#"schema = 1
[instances.blog]
recipe = "wordpress"
version = "{version}"
domain = "{DOMAIN}"
[instances.blog.params]
title = "Les amis du vélo"
admin-email = "admin@example.org"
"#
    )
}

/// The main job: a machine, a document, one command.
fn brings_wordpress_up(image: &str) {
    let machine = Machine::new(image);
    machine.write("/root/blog.toml", &document("6.8.7"));

    let plan = machine.socle(&["agent", "plan", "/root/blog.toml"]).expect(3);
    assert!(plan.contains("release:blog"), "{plan}");
    assert!(!machine.root().join("srv/socle").exists(), "a plan changes nothing");

    machine.socle(&["agent", "apply", "/root/blog.toml"]).expect(0);
    let (status, body) = machine.get(DOMAIN, "/");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("Les amis du vélo"), "{body}");

    let again = machine.socle(&["agent", "apply", "/root/blog.toml"]).expect(0);
    assert!(again.contains("nothing to do"), "{again}");
    machine.socle(&["agent", "plan", "/root/blog.toml"]).expect(0);

    let status = machine.socle(&["agent", "status", "--json"]);
    assert_eq!(status.json()["instances"][0]["state"], "running");
    assert_eq!(status.json()["instances"][0]["running_version"], "6.8.7");
}

#[test]
fn wordpress_on_debian_13() {
    brings_wordpress_up("web-trixie");
}

#[test]
fn wordpress_on_debian_12() {
    brings_wordpress_up("web-bookworm");
}
