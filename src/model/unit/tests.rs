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
        ending: Ending::Term,
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
        ending: Ending::Quit,
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
    let socket = SocketUnit { description: "Door".into(), listen: "127.0.0.1:8080".into(), private: false };
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

/// A small reader of unit files (systemd.syntax(7)): section, key and value of each directive, with
/// lines joined at a backslash.
fn parse(text: &str) -> Vec<(String, String, String)> {
    let joined = text.replace("\\\n", " ");
    let mut section = String::new();
    let mut directives = Vec::new();
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        match line.strip_prefix('[') {
            Some(name) => section = name.trim_end_matches(']').to_owned(),
            None => {
                let (key, value) = line.split_once('=').unwrap_or((line, ""));
                directives.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }
    directives
}

/// The words of a value as systemd splits it: quotes, C escapes, `%%`; `None` if a specifier or a broken
/// quote is in it.
fn words(value: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut bytes = value.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b' ' {
            continue;
        }
        if byte != b'"' {
            return None;
        }
        let mut word = Vec::new();
        loop {
            match bytes.next()? {
                b'"' => break,
                b'%' => word.push((bytes.next()? == b'%').then_some(b'%')?),
                b'\\' => word.push(match bytes.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'x' => {
                        let digits = [bytes.next()?, bytes.next()?];
                        u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                    }
                    quoted @ (b'"' | b'\\') => quoted,
                    _ => return None,
                }),
                byte => word.push(byte),
            }
        }
        words.push(String::from_utf8(word).ok()?);
    }
    Some(words)
}

fn values<'a>(directives: &'a [(String, String, String)], wanted: &str) -> Vec<&'a str> {
    directives.iter().filter(|(_, key, _)| key == wanted).map(|(_, _, value)| value.as_str()).collect()
}

/// Everything hostile to a unit file, and everything else.
fn hostile() -> impl Strategy<Value = String> {
    let nasty = prop::sample::select(vec![
        "\n",
        "\r\n",
        "\\",
        "\"",
        "'",
        "%",
        "%n",
        "$",
        "${HOME}",
        ";",
        "[Service]",
        "ExecStart=+/bin/x",
        "\0",
        "\u{85}",
        "\u{2028}",
        " ",
        "\t",
        "#",
        "+",
        "-",
        "@",
        "~",
        "\u{7f}",
        "é",
    ]);
    prop::collection::vec(prop_oneof![3 => nasty.prop_map(str::to_owned), 1 => any::<String>()], 0..8)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_value_becomes_a_directive(
        text in prop::collection::vec(hostile(), 12),
        arguments in prop::collection::vec(hostile(), 0..5),
        key in "[A-Z_]{1,8}",
        value in hostile(),
    ) {
        let unit = |word: &dyn Fn(usize) -> String, arguments: &[String], key: &str, value: &str| ServiceUnit {
            description: word(0),
            after: vec![word(1), word(2)],
            readiness: Readiness::Notify,
            exec: std::iter::once(word(3)).chain(arguments.iter().cloned()).collect(),
            reload: Some(vec![word(4), word(5)]),
            user: Some(word(6)),
            environment: [(key.to_owned(), value.to_owned())].into(),
            working_directory: Some(word(7)),
            runtime_directory: Some(word(8)),
            sandbox: Sandbox { writable: vec![word(9)], system_calls: vec![format!("x{}", word(10))], ..Sandbox::default() },
            limits: Limits::default(),
            slice: word(11),
            timeout_s: 60,
            ending: Ending::Quit,
            wanted_by: vec![word(1)],
            stdin: Some(word(9)),
            stdout: Some(word(9)),
            inputs: None,
        };
        let rendered = unit(&|i| text[i].clone(), &arguments, &key, &value).render("socle-x.service");
        let benign = unit(&|_| "/x".to_owned(), &["x".to_owned()], "X", "x").render("socle-x.service");
        let (seen, expected) = (parse(&rendered), parse(&benign));
        let keys = |all: &[(String, String, String)]| -> Vec<_> { all.iter().map(|(s, k, _)| (s.clone(), k.clone())).collect() };
        prop_assert_eq!(keys(&seen), keys(&expected), "{}", rendered);

        // What is a list of words reads back as it was, but for NUL, which has no form.
        let clean = |text: &str| text.replace('\0', "");
        let environment = words(values(&seen, "Environment")[0]).expect("words");
        prop_assert_eq!(environment, vec![clean(&format!("{key}={value}"))]);
        let command = words(values(&seen, "ExecStart")[0]).expect("words");
        prop_assert!(command[0].starts_with('/'));
        let expected: Vec<String> = arguments.iter().map(|word| clean(word).replace('$', "$$")).collect();
        prop_assert_eq!(&command[1..], &expected[..]);
        // Nothing lifts the sandbox or the user.
        prop_assert_eq!(values(&seen, "SystemCallFilter")[0], "@system-service");
        prop_assert!(!values(&seen, "SystemCallFilter")[2].starts_with('~'));
        prop_assert!(values(&seen, "ExecStartPost").iter().all(|post| post.starts_with("-+/usr/bin/install -d") || post.starts_with("-+/usr/bin/ln -sfn ")));
    }

    #[test]
    fn timers_and_sockets_too(text in hostile(), other in hostile()) {
        let timer = TimerUnit { description: text.clone(), on_calendar: other.clone(), jitter_s: 1 }.render();
        prop_assert_eq!(parse(&timer).len(), 5, "{}", timer);
        let socket = SocketUnit { description: text, listen: other, private: true }.render();
        prop_assert_eq!(parse(&socket).len(), 4, "{}", socket);
    }
}

#[test]
fn a_mark_changes_with_everything_and_is_found() {
    let base = ServiceUnit { inputs: Some(Digest::of("a")), ..service() };
    let text = base.render("socle-a.service");
    let mark = mark_of(&text).unwrap().to_owned();
    assert!(text.contains(&format!("{mark} /run/socle/inputs/socle-a.service\n")));
    let other_inputs = ServiceUnit { inputs: Some(Digest::of("b")), ..base.clone() };
    let other_text = ServiceUnit { timeout_s: 61, ..base.clone() };
    for other in [other_inputs, other_text] {
        assert_ne!(mark_of(&other.render("socle-a.service")).unwrap(), mark);
    }
    assert_eq!(mark_of(&ServiceUnit { readiness: Readiness::Oneshot, ..base }.render("x.service")), None);
    assert_eq!(mark_of("[Service]\n"), None);
}

#[test]
fn reload_knows_the_main_process() {
    let reload = Some(["kill", "-USR2", "$MAINPID", "$HOME"].map(String::from).to_vec());
    let text = ServiceUnit { reload, ..service() }.render("x.service");
    assert!(text.contains("ExecReload=\"/kill\" \"-USR2\" $MAINPID \"$$HOME\"\n"), "{text}");
}
