//! On a real nginx: run in a lab machine as root, with `--ignored` and `SOCLE` naming the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command as Std;
use std::time::Instant;

use futures_util::stream::BoxStream;

use super::*;

/// systemd as far as nginx needs it.
struct Systemctl;

fn systemctl(args: &[&str]) -> PortResult<String> {
    let output = Std::new("systemctl").args(args).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(PortError::new("systemd.job-failed", format!("{args:?} failed"))),
    }
}

#[async_trait]
impl Units for Systemctl {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, UnitState>> {
        let state = |name: &String| {
            let value = |key: &str| systemctl(&["show", name, "--value", "-p", key]).unwrap().trim().to_owned();
            UnitState {
                load: value("LoadState"),
                active: value("ActiveState"),
                main_pid: value("MainPID").parse().unwrap(),
                ..UnitState::default()
            }
        };
        Ok(names.iter().map(|name| (name.clone(), state(name))).collect())
    }
    async fn start(&self, name: &str) -> PortResult<()> {
        systemctl(&["start", name]).map(drop)
    }
    async fn restart(&self, name: &str) -> PortResult<()> {
        systemctl(&["restart", name]).map(drop)
    }
    async fn reload(&self, name: &str) -> PortResult<()> {
        systemctl(&["reload", name]).map(drop)
    }
    async fn stop(&self, name: &str) -> PortResult<()> {
        systemctl(&["stop", name]).map(drop)
    }
    async fn enable(&self, name: &str) -> PortResult<()> {
        systemctl(&["enable", name]).map(drop)
    }
    async fn disable(&self, name: &str) -> PortResult<()> {
        systemctl(&["disable", name]).map(drop)
    }
    async fn mask(&self, name: &str) -> PortResult<()> {
        systemctl(&["mask", name]).map(drop)
    }
    async fn unmask(&self, name: &str) -> PortResult<()> {
        systemctl(&["unmask", name]).map(drop)
    }
    async fn daemon_reload(&self) -> PortResult<()> {
        systemctl(&["daemon-reload"]).map(drop)
    }
    async fn failures(&self) -> BoxStream<'static, String> {
        Box::pin(futures_util::stream::empty())
    }
}

fn nginx() -> Nginx {
    Nginx::new(Arc::new(Systemctl), std::env::var_os("SOCLE").expect("SOCLE names the program").into())
}

fn server(name: &str) -> String {
    format!("server {{\n  listen 80;\n  server_name {name};\n  return 200 \"{name}\";\n}}\n")
}

fn live() -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(ENABLED).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
#[ignore = "needs nginx, as root"]
async fn candidates_are_judged_without_touching_what_is_live() {
    let before = live();
    nginx().test("blog", Some(&server("blog.test"))).await.unwrap();
    nginx().test("blog", None).await.unwrap();

    let error = nginx().test("blog", Some("server {\n  listen 80;\n  bogus on;\n}\n")).await.unwrap_err();
    assert_eq!(error.code, "site.rejected");
    assert!(error.message.contains("socle-blog.conf:3") && error.message.contains("`bogus on;`"), "{error}");
    println!("{error}");

    let foreign = format!("{ENABLED}/legacy");
    fs::write(&foreign, server("taken.test")).unwrap();
    let error = nginx().test("blog", Some(&server("taken.test"))).await.unwrap_err();
    assert_eq!(error.code, "site.name-taken");
    println!("{error} / {:?}", error.hint);
    nginx().test("blog", Some(&server("blog.test"))).await.unwrap();

    fs::write(&foreign, "server {\n listen 80\n}\n").unwrap();
    for text in [Some(server("blog.test")), Some("bogus".to_owned()), None] {
        let error = nginx().test("blog", text.as_deref()).await.unwrap_err();
        assert_eq!(error.code, "nginx.broken");
        assert!(error.message.contains("/legacy:3"), "{error}");
        println!("{error}");
    }
    fs::remove_file(&foreign).unwrap();
    assert_eq!(live(), before);
    assert!(
        !fs::read_dir(SCRATCH).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with("nginx-test"))
    );
}

#[tokio::test]
#[ignore = "needs nginx, as root"]
async fn a_reload_ends_when_the_new_configuration_is_served() {
    let file = format!("{ENABLED}/socle-reload.conf");
    let probe = crate::host::probe::LocalProbe::new();
    for round in 0..5 {
        let name = format!("r{round}.test");
        fs::write(&file, server(&name)).unwrap();
        let began = Instant::now();
        nginx().reload().await.unwrap();
        println!("reload: {:?}", began.elapsed());
        for _ in 0..20 {
            let answer = crate::host::Probes::get(&probe, &name, "/", Duration::from_secs(5)).await.unwrap();
            assert_eq!(answer.body, name);
        }
    }
    fs::write(&file, "bogus").unwrap();
    let error = nginx().reload().await.unwrap_err();
    println!("{error}");
    assert!(error.message.contains("bogus") || error.code == "systemd.job-failed", "{error}");
    fs::remove_file(&file).unwrap();
    nginx().reload().await.unwrap();
}
