//! A controller and two servers from blank machines, by the commands of the README; and what happens to them.

use std::time::Duration;

use serde_json::Value;

use crate::machine::{Done, Machine, project, wait_for};
use crate::repository::Served;
use crate::user_data::left_on;

pub const LONG: Duration = Duration::from_secs(300);
pub const SOON: Duration = Duration::from_secs(60);

pub struct Fleet {
    pub controller: Machine,
    pub served: Served,
}

impl Fleet {
    /// `apt install socle-controller`, `socle controller init`.
    pub fn new() -> Self {
        Self::on("base-trixie")
    }

    fn on(image: &str) -> Self {
        let controller = Machine::blank(image);
        controller.lab("localapt", &[]);
        let served = Served::to(&controller);
        served.trust(&controller, "one");
        let repository = served.repository("one");
        controller.write("/etc/socle/controller.toml", &format!("repository = \"{repository}\"\n"));
        let install =
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"];
        controller.run(&[&install[..], &["socle-controller"]].concat()).expect(0);
        let host = format!("{}.lab.test", controller.name());
        let bootstrap = format!("{repository}/bootstrap.sh");
        let init = ["controller", "init", "--fleet", "sol", "--host", &host, "--bootstrap-url", &bootstrap];
        let said = controller.socle(&init).expect(0);
        assert!(said.contains("keep safe"), "{said}");
        controller.run(&["systemctl", "start", "socle-controller"]).expect(0);
        Self { controller, served }
    }

    /// A blank server, and the line that `server add` prints pasted into its shell. How long that took.
    pub fn server(&self, name: &str) -> (Machine, Duration) {
        let machine = Machine::blank("web-trixie");
        machine.lab("localapt", &[]);
        let took = self.enrol(&machine, name);
        (machine, took)
    }

    /// Pastes the line that `server add` prints. How long it took until the server was connected.
    fn enrol(&self, machine: &Machine, name: &str) -> Duration {
        machine.run(&["apt-get", "update", "-qq"]).expect(0);
        machine.lab("push", &[project().join("tests/lab/agent.toml").to_str().unwrap(), "/etc/socle/agent.toml"]);
        let line = self.controller.socle(&["controller", "server", "add", name]).expect(0);
        machine.write("/root/line", &line);
        let begun = std::time::Instant::now();
        let pasted = machine.run(&["bash", "/root/line"]);
        assert_eq!(pasted.code, 0, "{}{}", pasted.stdout, pasted.stderr);
        wait_for("the server is connected", SOON, || self.server_status(name)["connected"].as_bool().filter(|c| *c));
        begun.elapsed()
    }

    pub fn socle(&self, args: &[&str]) -> Done {
        self.controller.socle(args)
    }

    pub fn status(&self) -> Value {
        self.socle(&["fleet", "status", "--json"]).json()
    }

    pub fn server_status(&self, name: &str) -> Value {
        let status = self.status();
        let servers = status["servers"].as_array().cloned().unwrap_or_default();
        servers.into_iter().find(|server| server["server"] == name).unwrap_or(Value::Null)
    }

    /// Whoever is root on the controller's machine may log in to the server.
    fn may_log_in(&self, server: &Machine) {
        self.controller.run(&["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", "/root/.ssh/id_ed25519"]).expect(0);
        server.write("/root/.ssh/authorized_keys", &self.controller.read("/root/.ssh/id_ed25519.pub"));
        let known = format!("{} {}", server.address(), server.read("/etc/ssh/ssh_host_ed25519_key.pub"));
        self.controller.write("/root/.ssh/known_hosts", &known);
        server.run(&["systemctl", "start", "ssh"]).expect(0);
    }

    /// A fleet's directory on the controller.
    pub fn write(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            self.controller.write(&format!("/root/fleet/{path}"), text);
        }
    }

    /// As wanted, says the controller.
    #[track_caller]
    pub fn converges(&self, limit: Duration) {
        wait_for("the fleet is as wanted", limit, || self.socle(&["fleet", "status"]).ok());
    }
}

pub fn file(text: &str) -> String {
    format!("[files.\"/etc/motd\"]\ncontent = \"{text}\\n\"\n")
}

/// What a newcomer does, in the README's order, and the smallest association's controller beside a server.
#[test]
fn three_machines_from_blank_to_two_sites() {
    let fleet = Fleet::new();
    let (ks1, took) = fleet.server("ks1");
    eprintln!("from the pasted line to connected: {:.1} s", took.as_secs_f64());
    let (ks2, _) = fleet.server("ks2");
    for machine in [&ks1, &ks2] {
        // Where the test itself put the line.
        std::fs::remove_file(machine.root().join("root/line")).unwrap();
        assert_eq!(left_on(machine), "", "the token is left behind");
    }
    for directory in ["", "servers", "instances", "members"] {
        for entry in std::fs::read_dir(project().join("examples/fleet").join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let name = format!("{directory}/{}", path.file_name().unwrap().to_str().unwrap());
                fleet.write(&[(name.trim_start_matches('/'), &std::fs::read_to_string(&path).unwrap())]);
            }
        }
    }
    fleet.socle(&["fleet", "check", "/root/fleet"]).expect(0);
    let plan = fleet.socle(&["fleet", "plan", "/root/fleet"]);
    assert_eq!(plan.code, 3, "{}{}", plan.stdout, plan.stderr);
    assert!(plan.stdout.contains("download"), "as the servers computed it: {}", plan.stdout);
    let apply = fleet.socle(&["fleet", "apply", "/root/fleet", "-m", "the beginning"]);
    assert_eq!(apply.code, 0, "{}{}", apply.stdout, apply.stderr);
    assert_eq!(ks1.get("blog.example.org", "/").0, 200);
    assert_eq!(ks2.get("wiki.example.org", "/index.php?title=Main_Page").0, 200);
    fleet.socle(&["fleet", "status"]).expect(0);
    let again = fleet.socle(&["fleet", "apply", "/root/fleet"]);
    assert_eq!(again.code, 0, "{}{}", again.stdout, again.stderr);
    let history = fleet.socle(&["fleet", "history"]).expect(0);
    assert!(history.contains("the beginning"), "{history}");

    // Remotely through the controller, and without it over ssh; both stream the report.
    fleet.controller.write("/root/one.toml", &format!("schema = 1\n{}", file("by the controller")));
    let through = fleet.socle(&["agent", "apply", "--server", "ks2", "/root/one.toml"]);
    assert_eq!(through.code, 0, "{}{}", through.stdout, through.stderr);
    assert_eq!(ks2.read("/etc/motd"), "by the controller\n");
    fleet.may_log_in(&ks2);
    fleet.controller.write("/root/two.toml", &format!("schema = 1\n{}", file("by hand")));
    let over_ssh = format!("ssh -o BatchMode=yes root@{} socle agent apply - </root/two.toml", ks2.address());
    let local = fleet.controller.run(&["sh", "-c", &over_ssh]);
    assert_eq!(local.code, 0, "{}{}", local.stdout, local.stderr);
    assert!(local.stdout.contains("motd") || local.stderr.contains("motd"), "{}{}", local.stdout, local.stderr);
    assert_eq!(ks2.read("/etc/motd"), "by hand\n");
    wait_for("the local change is told", SOON, || {
        let status = fleet.socle(&["fleet", "status"]);
        (status.code == 3 && status.stdout.contains("local")).then_some(())
    });
    fleet.socle(&["fleet", "apply", "/root/fleet"]).expect(0);
    assert_eq!(ks2.get("wiki.example.org", "/index.php?title=Main_Page").0, 200);
    fleet.converges(SOON);
    drop(fleet.served);
}

/// The smallest association: controller and sites on one machine. A private name has a certificate of the fleet's own
/// authority, and a secret is sealed by whoever operates the fleet.
#[test]
fn one_machine_is_controller_and_server() {
    let fleet = Fleet::on("web-trixie");
    let machine = &fleet.controller;
    fleet.enrol(machine, "ks1");
    let (name, secret) = ("cal.home.arpa", "correct-horse-battery");
    machine.write("/root/secret", secret);
    let seal = "socle fleet seal ks1 cal admin-password </root/secret";
    let sealed = machine.run(&["sh", "-c", seal]).expect(0);
    assert!(!sealed.contains(secret));
    let instance = format!(
        "server = \"ks1\"\nrecipe = \"radicale\"\nversion = \"3.9.0\"\ndomain = \"{name}\"\n\
         certificate = {{ source = \"internal\" }}\n[secrets]\n{sealed}"
    );
    fleet.write(&[
        ("fleet.toml", "schema = 1\nname = \"sol\"\n"),
        ("servers/ks1.toml", ""),
        ("instances/cal.toml", &instance),
    ]);
    let plan = fleet.socle(&["fleet", "plan", "/root/fleet"]);
    assert_eq!(plan.code, 3, "{}{}", plan.stdout, plan.stderr);
    let apply = fleet.socle(&["fleet", "apply", "/root/fleet"]);
    assert_eq!(apply.code, 0, "{}{}", apply.stdout, apply.stderr);

    let authority = fleet.socle(&["controller", "sites-authority"]).expect(0);
    machine.write("/root/sites.pem", &authority);
    let resolve = format!("{name}:443:127.0.0.1");
    let get = |user: &str| {
        machine.write("/root/curl", &format!("user = \"{user}\"\n"));
        let url = format!("https://{name}/admin/");
        let args =
            ["curl", "-sS", "-K", "/root/curl", "--cacert", "/root/sites.pem", "--resolve", &resolve, "-X", "PROPFIND"];
        machine.run(&[&args[..], &["-o", "/dev/null", "-w", "%{http_code}", &url]].concat())
    };
    wait_for("the private site has a certificate of the fleet", SOON, || get("admin:wrong").ok());
    assert_eq!(get(&format!("admin:{secret}")).expect(0), "207", "the secret is the application's");
    assert_eq!(get("admin:wrong").expect(0), "401");
    let listed = fleet.socle(&["agent", "cert", "list", "--json"]).json();
    assert_eq!(listed[0]["source"], "internal", "{listed}");
    assert!(listed[0]["next"].is_string() && listed[0]["last_error"].is_null(), "{listed}");

    // In clear it is nowhere but where the application and the agent keep it.
    let told = [
        "/var/lib/socle-controller",
        "/var/lib/socle/report.json",
        "/var/lib/socle/outbox",
        "/var/log",
        "/run/log",
        "/root/fleet",
    ];
    let leaked = machine.run(&[&["grep", "-rlFsf", "/root/secret"][..], &told].concat());
    assert_eq!(leaked.stdout, "", "{}", leaked.stderr);
    assert!(![&plan.stdout, &plan.stderr, &apply.stdout, &apply.stderr].iter().any(|text| text.contains(secret)));
    let journal = machine.run(&["sh", "-c", "journalctl --no-pager -q --output=cat | grep -cFf /root/secret"]);
    assert_eq!(journal.stdout.trim(), "0", "in the journal");

    // A push reaches the agent at once.
    fleet.write(&[("servers/ks1.toml", &file("pushed"))]);
    assert_eq!(fleet.socle(&["fleet", "apply", "/root/fleet"]).code, 0);
    assert_eq!(machine.read("/etc/motd"), "pushed\n");
    fleet.converges(SOON);
}

/// Who is cut off, killed or away when something is pushed gets it in the end; nobody waits for it.
#[test]
fn a_push_survives_what_happens_to_it() {
    let fleet = Fleet::new();
    let (ks1, _) = fleet.server("ks1");
    let (ks2, _) = fleet.server("ks2");
    let push = |round: &str| {
        let (one, two) = (file(&format!("one {round}")), file(&format!("two {round}")));
        fleet.write(&[
            ("fleet.toml", "schema = 1\nname = \"sol\"\n"),
            ("servers/ks1.toml", &one),
            ("servers/ks2.toml", &two),
        ]);
        fleet.socle(&["fleet", "apply", "/root/fleet", "-m", round])
    };
    let there = |machine: &Machine, text: &str| {
        wait_for(text, LONG, || (machine.read("/etc/motd") == format!("{text}\n")).then_some(()));
    };
    assert_eq!(push("first").code, 0);
    there(&ks1, "one first");
    there(&ks2, "two first");

    // The link of one is cut: the other is not held back, and the absent one is said to be so.
    ks1.cut();
    let pushed = push("cut");
    assert_eq!(pushed.code, 3, "{}{}", pushed.stdout, pushed.stderr);
    there(&ks2, "two cut");
    assert_eq!(ks1.read("/etc/motd"), "one first\n");
    wait_for("its absence is told", LONG, || fleet.server_status("ks1")["connected"].as_bool().filter(|c| !c));
    ks1.heal();
    there(&ks1, "one cut");
    fleet.converges(LONG);

    // The controller is killed in the middle of a push.
    let kill = ["systemctl", "kill", "-s", "KILL", "socle-controller"];
    let mut applying = fleet.controller.start(&["socle", "fleet", "apply", "/root/fleet", "-m", "the same"]);
    fleet.controller.run(&kill).expect(0);
    applying.wait().unwrap();
    wait_for("the controller is back", SOON, || fleet.socle(&["fleet", "status"]).stdout.contains("ks1").then_some(()));
    wait_for("the push is taken", SOON, || (push("killed").code == 0).then_some(()));
    there(&ks1, "one killed");
    there(&ks2, "two killed");

    // The agent of one is killed as it begins, and the link of the other.
    fleet.write(&[("servers/ks1.toml", &file("one again")), ("servers/ks2.toml", &file("two again"))]);
    let mut applying = fleet.controller.start(&["socle", "fleet", "apply", "/root/fleet"]);
    ks1.run(&["systemctl", "kill", "-s", "KILL", "socle-agent"]).expect(0);
    ks2.run(&["systemctl", "kill", "-s", "KILL", "socle-link"]).expect(0);
    applying.wait().unwrap();
    there(&ks1, "one again");
    there(&ks2, "two again");
    // A link that lost its agent connects anew; before, its server counts as absent.
    fleet.converges(LONG);

    // The controller's database is put back to an earlier one: nobody goes back with it.
    fleet.socle(&["controller", "backup", "/root/backup"]).expect(0);
    assert_eq!(push("forgotten").code, 0);
    there(&ks1, "one forgotten");
    fleet.controller.run(&["systemctl", "stop", "socle-controller"]).expect(0);
    fleet.controller.run(&["rm", "-rf", "/var/lib/socle-controller"]).expect(0);
    fleet.socle(&["controller", "restore", "/root/backup"]).expect(0);
    fleet.controller.run(&["systemctl", "start", "socle-controller"]).expect(0);
    wait_for("both are back", LONG, || {
        let both = ["ks1", "ks2"].map(|name| fleet.server_status(name)["connected"] == true);
        both.iter().all(|connected| *connected).then_some(())
    });
    assert_eq!(fleet.socle(&["fleet", "status"]).code, 3, "that the servers are ahead is said");
    assert_eq!(ks1.read("/etc/motd"), "one forgotten\n");
    assert_eq!(push("after").code, 0);
    there(&ks1, "one after");
    there(&ks2, "two after");
    fleet.converges(LONG);

    // Documents are signed by another key from now on. Who is there follows at once, who is off when it is back.
    let believed = |machine: &Machine| {
        let membership: Value = serde_json::from_str(&machine.read("/var/lib/socle/fleet.json")).unwrap();
        membership["document_keys"].clone()
    };
    let before = believed(&ks1);
    assert_eq!(before, believed(&ks2));
    ks2.run(&["systemctl", "stop", "socle-link"]).expect(0);
    fleet.socle(&["controller", "key", "rotate"]).expect(0);
    fleet.controller.run(&["systemctl", "restart", "socle-controller"]).expect(0);
    wait_for("the key is followed", LONG, || Some(believed(&ks1)).filter(|now| *now != before));
    wait_for("the push is taken", SOON, || (push("rotated").code == 3).then_some(()));
    there(&ks1, "one rotated");
    assert_eq!((believed(&ks2), ks2.read("/etc/motd")), (before, "two after\n".to_owned()));
    ks2.run(&["systemctl", "start", "socle-link"]).expect(0);
    there(&ks2, "two rotated");
    fleet.converges(LONG);
    assert_eq!(believed(&ks2), believed(&ks1));

    // Banned, it is out at once.
    fleet.socle(&["controller", "server", "ban", "ks2"]);
    wait_for("the banned one is out", SOON, || (fleet.server_status("ks2")["connected"] != true).then_some(()));
    push("banned");
    there(&ks1, "one banned");
    assert_eq!(ks2.read("/etc/motd"), "two rotated\n");
}
