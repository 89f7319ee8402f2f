//! Recipes with mistakes, and exactly what is said about them.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

use std::collections::BTreeMap;

use socle::recipe::Recipe;

/// A recipe without mistakes, of which each case changes something.
const GOOD: &str = r#"schema = 1
[app]
id = "demo"
name = "Demo"
homepage = "https://www.example.org"
license = "EUPL-1.2"
[versions]
scheme = "numeric"
range = ">=1,<2"
[source]
kind = "archive"
url = "https://www.example.org/demo-{version}.tar.gz"
[[param]]
name = "title"
type = "text"
required = true
[[secret]]
name = "key"
[[file]]
template = "demo.cfg"
dest = "config/demo.cfg"
[[install]]
name = "install"
[install.run]
argv = ["{current}/bin/install", "--into", "{data}"]
[[service]]
name = "web"
exec = ["{current}/bin/demo", "{run}/web.sock"]
socket = true
[web]
kind = "proxy"
root = "{current}"
locations = "nginx.conf"
upstream = "unix:{run}/web.sock"
[[health]]
path = "/"
contains = "{title}"
"#;

const CONFIG: &str = "title = {{ param.title }}\nkey = {{ secret.key }}\n";
const NGINX: &str = "location / {\n    {{ upstream }}\n}\n";

fn problems(text: &str, config: &str) -> Vec<String> {
    let files = [("recipe.toml", text), ("demo.cfg", config), ("nginx.conf", NGINX)];
    let files: BTreeMap<_, _> = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    match Recipe::parse("demo", "demo", files) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_good_one_has_none() {
    assert_eq!(problems(GOOD, CONFIG), Vec::<String>::new());
}

/// What to replace, by what, and what is said then.
const CASES: &[(&str, &str, &str)] = &[
    ("schema = 1", "schema = 2", "demo/recipe.toml:1:10: schema 2 is not known\n  hint: this program reads schema 1"),
    ("schema = 1\n", "", "demo/recipe.toml:1:1: `schema` is missing"),
    (
        "[[health]]",
        "[[heath]]\npath = \"/\"\n[[health]]",
        "demo/recipe.toml:35:3: `heath` is no section of a recipe\n  hint: did you mean `health`?",
    ),
    (
        "license =",
        "licence =",
        "demo/recipe.toml:6:1: unknown field `licence`, expected one of `id`, `name`, `homepage`, `license`, `notices`\n  \
         hint: did you mean `license`?",
    ),
    (
        "id = \"demo\"",
        "id = \"Demo\"",
        "demo/recipe.toml:3:6: `Demo` is not a name: 1 to 31 of a-z, 0-9 and -, beginning with a letter",
    ),
    (
        "id = \"demo\"",
        "id = \"other\"",
        "demo/recipe.toml:3:6: `other` is not its id\n  hint: its directory is called `demo`",
    ),
    (
        "[[secret]]",
        "[layout]\ndirectory = [{ path = \"sessions/own\" }]\n[[secret]]",
        "demo/recipe.toml:18:23: what an application keeps in `sessions` is in no backup\n  \
         hint: put it below `data/`, or give it a name of its own: then backups hold it",
    ),
    (
        "[[service]]",
        "[[backup.enter]]\nname = \"on\"\nargv = [\"{current}/bin/pause\"]\n[[service]]",
        "demo/recipe.toml:26:3: one of `enter` and `leave` is missing\n  \
         hint: what is entered is left again, whatever happens: `[[backup.enter]]` and `[[backup.leave]]`",
    ),
    (
        "[[service]]",
        "[[backup.enter]]\nname = \"on\"\nargv = [\"/bin/sh\"]\n[[backup.leave]]\nname = \"off\"\nargv = [\"/bin/true\"]\n[[service]]",
        "demo/recipe.toml:28:8: `sh` is not run\n  hint: name the program itself, one word an argument",
    ),
    ("range = \">=1,<2\"", "range = \"1.x\"", "demo/recipe.toml:9:9: `1.x` is not a range like `>=7.4,<8.5`"),
    (
        "https://www.example.org/demo-{version}",
        "http://x/{version}",
        "demo/recipe.toml:12:7: `http://x/{version}.tar.gz` is not an https address",
    ),
    (
        "demo-{version}",
        "demo-{versoin}",
        "demo/recipe.toml:12:7: `{versoin}` is no placeholder\n  hint: did you mean `{version}`?",
    ),
    ("demo-{version}", "demo-{version", "demo/recipe.toml:12:7: `{` without `}`"),
    (
        "template = \"demo.cfg\"",
        "template = \"demo.cgf\"",
        "demo/recipe.toml:20:12: there is no file `demo.cgf` beside the recipe\n  hint: did you mean `demo.cfg`?",
    ),
    (
        "dest = \"config/demo.cfg\"",
        "dest = \"config/../../x\"",
        "demo/recipe.toml:21:8: `config/../../x` is no path inside\n  \
         hint: write a relative path of letters, digits, `.`, `_` and `-`",
    ),
    (
        "dest = \"config/demo.cfg\"",
        "dest = \"/etc/passwd\"",
        "demo/recipe.toml:21:8: `/etc/passwd` is no path inside\n  \
         hint: write a relative path of letters, digits, `.`, `_` and `-`",
    ),
    (
        "dest = \"config/demo.cfg\"",
        "dest = \"data/demo.cfg\"",
        "demo/recipe.toml:21:8: not below `config/` or `recipe/`\n  \
         hint: what lies in `data/` is the application's: a step of the installation puts it there",
    ),
    (
        "dest = \"config/demo.cfg\"",
        "dest = \"config/demo.cfg\"\nmode = \"0640\"",
        "demo/recipe.toml:22:8: the file holds a secret\n  hint: only its owner may read it: `0400`",
    ),
    (
        "dest = \"config/demo.cfg\"",
        "dest = \"config/demo.cfg\"\nmode = \"0666\"",
        "demo/recipe.toml:22:8: `0666` lets everybody write",
    ),
    (
        "argv = [\"{current}/bin/install\"",
        "argv = [\"/bin/sh\", \"-c\"",
        "demo/recipe.toml:25:8: `sh` is not run\n  hint: name the program itself, one word an argument",
    ),
    ("argv = [\"{current}/bin/install\"", "argv = [\"php\"", "demo/recipe.toml:25:8: `php` is not an absolute path"),
    (
        "\"{data}\"]",
        "\"{title}\"]",
        "demo/recipe.toml:25:8: `{title}` is no placeholder\n  hint: known: {name} {domain} {version} {series} {php} {user} {db} {home} {current} {data} {config} {recipe} {run} {scheme}",
    ),
    (
        "[install.run]\nargv",
        "[install.seed]\nargv",
        "demo/recipe.toml:25:1: unknown field `argv`, expected one of `from`, `to`, `replace`",
    ),
    (
        "name = \"install\"\n",
        "name = \"install\"\nseed = { from = \"a\", to = \"data/a\" }\n",
        "demo/recipe.toml:22:1: a step is exactly one of `run` and `seed`",
    ),
    (
        "socket = true",
        "socket = true\nsandbox = { network = \"full\" }",
        "demo/recipe.toml:30:11: an exception from the sandbox without a reason\n  \
         hint: say in `why` what would not work without it",
    ),
    (
        "upstream = \"unix:{run}/web.sock\"",
        "upstream = \"127.0.0.1:80\"",
        "demo/recipe.toml:34:12: `127.0.0.1:80` is no socket\n  \
         hint: instances meet at sockets: `unix:{run}/name.sock`",
    ),
    ("upstream = \"unix:{run}/web.sock\"\n", "", "demo/recipe.toml:30:1: `upstream` is missing"),
    (
        "[[health]]\npath = \"/\"\ncontains = \"{title}\"\n",
        "",
        "demo/recipe.toml:1:1: `[[health]]` is missing\n  hint: without a question nobody knows whether an upgrade went well",
    ),
    ("path = \"/\"", "path = \"index\"", "demo/recipe.toml:36:8: `index` does not begin with `/`"),
    (
        "name = \"key\"",
        "name = \"key\"\nlength = 4",
        "demo/recipe.toml:19:10: a secret of 4 characters\n  hint: 16 to 256",
    ),
    ("name = \"title\"", "name = \"domain\"", "demo/recipe.toml:13:1: `{domain}` is a placeholder already"),
    (
        "kind = \"archive\"",
        "kind = \"zip\"",
        "demo/recipe.toml:11:8: unknown variant `zip`, expected one of `archive`, `file`, `venv`, `empty`",
    ),
];

#[test]
fn each_mistake_is_said() {
    let mut wrong = String::new();
    for (from, to, expected) in CASES {
        assert!(GOOD.contains(from), "{from}");
        let found = problems(&GOOD.replacen(from, to, 1), CONFIG);
        if !found.iter().any(|problem| problem == expected) {
            wrong += &format!("{to:?}\n  expected {expected}\n  found    {}\n", found.join("\n           "));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn mistakes_in_templates_are_said() {
    let said = |config: &str| problems(GOOD, config).join("\n");
    assert_eq!(said("{{ param.titel }}"), "demo/demo.cfg:1:1: `param.titel` does not exist here");
    assert_eq!(said("{{ secret.kee }}"), "demo/demo.cfg:1:1: `secret.kee` does not exist here");
    assert_eq!(said("{{ domian }}"), "demo/demo.cfg:1:1: `domian` does not exist here\n  hint: did you mean `domain`?");
    assert!(said("\n{% if %}").starts_with("demo/demo.cfg:2:1: "), "{}", said("\n{% if %}"));
}

#[test]
fn an_own_recipe_in_jinja_files_is_right() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes/own");
    let read = |name: &str| (name.to_owned(), std::fs::read_to_string(folder.join(name)).unwrap());
    let files = ["recipe.toml", "nginx.conf.j2"].map(read).into();
    let (catalog, problems) = socle::recipe::Catalog::new(&[("own".to_owned(), files)].into());
    assert_eq!(problems, []);
    assert!(catalog.get(&"own".parse().unwrap()).unwrap().is_own());
}

#[test]
fn all_at_once() {
    let text = GOOD
        .replace("license =", "licence =")
        .replace("kind = \"archive\"", "kind = \"zip\"")
        .replace("type = \"text\"", "type = \"txt\"");
    let found = problems(&text, CONFIG);
    assert_eq!(found.len(), 3, "one of each section that cannot be read: {found:?}");
    let text = GOOD.replace("{current}/bin/demo", "bin/demo").replace("{current}/bin/install", "bin/install");
    assert_eq!(problems(&text, "{{ x }}").len(), 3);
}
