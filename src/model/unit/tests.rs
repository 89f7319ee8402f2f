use proptest::prelude::*;

use super::*;

fn service() -> ServiceUnit {
    ServiceUnit {
        description: "Blog".into(),
        after: vec![],
        readiness: Readiness::Exec,
        exec: vec!["/usr/bin/true".into()],
        reload: None,
        user: Some("socle-blog".into()),
        environment: BTreeMap::new(),
        working_directory: None,
        runtime_directory: None,
        sandbox: Sandbox::default(),
        limits: Limits::default(),
        slice: "socle-blog.slice".into(),
        timeout_s: 60,
        wanted_by: vec!["multi-user.target".into()],
        stdin: None,
        stdout: None,
        inputs: None,
    }
}

/// The kinds of unit a recipe makes, by file name.
fn samples() -> Vec<(&'static str, String)> {
    let php = ServiceUnit {
        after: vec!["mariadb.service".into()],
        readiness: Readiness::Notify,
        exec: ["/usr/sbin/php-fpm8.4", "--nodaemonize", "--fpm-config", "/srv/socle/blog/config/php-fpm.conf"]
            .map(String::from)
            .to_vec(),
        reload: Some(["/usr/bin/kill", "-USR2", "$MAINPID"].map(String::from).to_vec()),
        runtime_directory: Some("socle-blog".into()),
        sandbox: Sandbox { writable: vec!["/srv/socle/blog/data".into()], ..Sandbox::default() },
        limits: Limits { memory_mb: Some(512), cpu_percent: Some(150), tasks: Some(100) },
        inputs: Some(Digest::of("inputs")),
        ..service()
    };
    let python = ServiceUnit {
        exec: vec!["/srv/socle/cal/current/bin/radicale".into(), "--config=/srv/socle/cal/config/a b".into()],
        user: Some("socle-cal".into()),
        environment: [("LANG".into(), "C.UTF-8".into()), ("PERCENT".into(), "100% $HOME \"quoted\" \\".into())].into(),
        working_directory: Some("/srv/socle/cal/data".into()),
        sandbox: Sandbox {
            writable: vec!["/srv/socle/cal/data".into()],
            network: Network::Loopback,
            ..Sandbox::default()
        },
        inputs: Some(Digest::of("inputs")),
        ..service()
    };
    let own = ServiceUnit { user: None, slice: "socle.slice".into(), ..service() };
    let task = ServiceUnit {
        readiness: Readiness::Oneshot,
        wanted_by: vec![],
        stdin: Some("/run/socle/tasks/x.in".into()),
        stdout: Some("/run/socle/tasks/x.out".into()),
        ..php.clone()
    };
    let local = ServiceUnit { sandbox: Sandbox { network: Network::None, ..Sandbox::default() }, ..service() };
    let low = ServiceUnit { sandbox: Sandbox { low_ports: true, ..Sandbox::default() }, ..service() };
    let node = ServiceUnit { sandbox: Sandbox { write_execute: true, ..Sandbox::default() }, ..service() };
    let timer = TimerUnit { description: "Nightly".into(), on_calendar: "*-*-* 03:00:00".into(), jitter_s: 600 };
    let socket = SocketUnit { description: "Door".into(), listen: "127.0.0.1:8080".into() };
    vec![
        ("socle-php.service", php.render("socle-php.service")),
        ("socle-cal.service", python.render("socle-cal.service")),
        ("socle-own.service", own.render("socle-own.service")),
        ("socle-task.service", task.render("socle-task.service")),
        ("socle-local.service", local.render("socle-local.service")),
        ("socle-low.service", low.render("socle-low.service")),
        ("socle-node.service", node.render("socle-node.service")),
        ("socle-own.timer", timer.render()),
        ("socle-own.socket", socket.render()),
    ]
}

/// Writes the samples for a look with systemd's own tools: `SOCLE_UNITS=DIR cargo test write_samples`.
#[test]
fn write_samples() {
    let Some(directory) = option_env_at_run("SOCLE_UNITS") else { return };
    for (name, text) in samples() {
        std::fs::write(std::path::Path::new(&directory).join(name), text).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own parameter")]
fn option_env_at_run(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
