//! Who has asked gets an answer, though the service ends.

use std::time::Duration;

use crate::machine::{Machine, wait_for};

const DOMAIN: &str = "slow.example.org";

const RECIPE: &str = r#"schema = 1
[app]
id = "slow"
name = "Slow"
homepage = "https://www.example.org"
license = "EUPL-1.2"
[versions]
scheme = "any"
[source]
kind = "empty"
[runtime.php]
range = ">=8,<9"
[[file]]
template = "page.php"
dest = "recipe/page.php"
owner = "root"
mode = "0440"
[[install]]
name = "page"
[install.run]
argv = ["/usr/bin/install", "-m", "0644", "{recipe}/page.php", "{data}/index.php"]
[web]
kind = "php-fpm"
root = "{data}"
locations = "nginx.conf"
[[health]]
path = "/index.php"
contains = "ready"
"#;

/// A signal does not wake it: it waits for the clock.
const PAGE: &str = "<?php
if (isset($_GET['slow'])) {
    touch(__DIR__ . '/begun');
    for ($until = microtime(true) + 6; microtime(true) < $until;) {
        usleep(20000);
    }
    exit('answered');
}
echo 'ready';
";

const LOCATIONS: &str = "location ~ \\.php$ {
    try_files $uri =404;
    {{ fastcgi | indent(4) }}
}
";

#[test]
fn a_request_in_flight_gets_its_answer_when_the_service_is_stopped() {
    let machine = Machine::new("web-trixie");
    let place = "/etc/socle/recipes/slow";
    machine.write(&format!("{place}/recipe.toml"), RECIPE);
    machine.write(&format!("{place}/page.php"), &format!("{{% raw %}}{PAGE}{{% endraw %}}"));
    machine.write(&format!("{place}/nginx.conf"), LOCATIONS);
    let document = format!(
        "schema = 1\n[instances.slow]\nrecipe = \"slow\"\nversion = \"1\"\ndomain = \"{DOMAIN}\"\n\
         [repositories.home]\nlocation = \"/srv/backup\"\n"
    );
    machine.write("/root/slow.toml", &document);
    machine.socle(&["agent", "apply", "/root/slow.toml"]).expect(0);
    let begun = "/srv/socle/slow/data/begun";
    let ask = || {
        let (resolve, url) = (format!("{DOMAIN}:80:127.0.0.1"), format!("http://{DOMAIN}/index.php?slow=1"));
        let curl = ["curl", "-sS", "--max-time", "60", "--resolve", &resolve, "-w", " %{http_code}", &url];
        let asked = machine.start(&curl);
        wait_for("the request is in flight", Duration::from_secs(60), || machine.exists(begun).then_some(()));
        machine.run(&["rm", begun]).expect(0);
        asked
    };
    let answer = |asked: std::process::Child| {
        let answered = asked.wait_with_output().unwrap();
        String::from_utf8_lossy(&answered.stdout).into_owned() + &String::from_utf8_lossy(&answered.stderr)
    };
    let asked = ask();
    machine.run(&["systemctl", "stop", "socle-slow-php.service"]).expect(0);
    assert_eq!(answer(asked).trim(), "answered 200");
    let result = machine.run(&["systemctl", "show", "--value", "-p", "Result", "socle-slow-php.service"]).stdout;
    assert_eq!(result.trim(), "success");
    machine.run(&["systemctl", "start", "socle-slow-php.service"]).expect(0);
    // A backup stops it, too.
    let asked = ask();
    machine.socle(&["agent", "backup", "now"]).expect(0);
    assert_eq!(answer(asked).trim(), "answered 200");
    assert_eq!(machine.get(DOMAIN, "/index.php"), (200, "ready".to_owned()));
}
