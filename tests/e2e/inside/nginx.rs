//! nginx: what its test says and touches, and when a reload ends.

use std::fs;
use std::time::{Duration, Instant};

use socle::host::nginx::Nginx;
use socle::host::probe::LocalProbe;
use socle::host::{Probes, WebServer};

const ENABLED: &str = "/etc/nginx/sites-enabled";

pub async fn all(nginx: &Nginx) {
    candidates_are_judged_without_touching_what_is_live(nginx).await;
    a_reload_ends_when_the_new_configuration_is_served(nginx).await;
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

async fn candidates_are_judged_without_touching_what_is_live(nginx: &Nginx) {
    let before = live();
    nginx.test("blog", Some(&server("blog.test"))).await.unwrap();
    nginx.test("blog", None).await.unwrap();

    let error = nginx.test("blog", Some("server {\n  listen 80;\n  bogus on;\n}\n")).await.unwrap_err();
    assert_eq!(error.code, "site.rejected");
    assert!(error.message.contains("socle-blog.conf:3") && error.message.contains("`bogus on;`"), "{error}");
    println!("{error}");

    let foreign = format!("{ENABLED}/legacy");
    fs::write(&foreign, server("taken.test")).unwrap();
    let error = nginx.test("blog", Some(&server("taken.test"))).await.unwrap_err();
    assert_eq!(error.code, "site.name-taken");
    println!("{error} / {:?}", error.hint);
    nginx.test("blog", Some(&server("blog.test"))).await.unwrap();

    fs::write(&foreign, "server {\n listen 80\n}\n").unwrap();
    for text in [Some(server("blog.test")), Some("bogus".to_owned()), None] {
        let error = nginx.test("blog", text.as_deref()).await.unwrap_err();
        assert_eq!(error.code, "nginx.broken");
        assert!(error.message.contains("/legacy:3"), "{error}");
        println!("{error}");
    }
    fs::remove_file(&foreign).unwrap();
    assert_eq!(live(), before);
    assert!(
        !fs::read_dir("/run/socle").unwrap().any(|e| e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("nginx-test"))
    );
}

async fn a_reload_ends_when_the_new_configuration_is_served(nginx: &Nginx) {
    let file = format!("{ENABLED}/socle-reload.conf");
    let probe = LocalProbe::new();
    for round in 0..5 {
        let name = format!("r{round}.test");
        fs::write(&file, server(&name)).unwrap();
        let began = Instant::now();
        nginx.reload().await.unwrap();
        println!("reload: {:?}", began.elapsed());
        for _ in 0..20 {
            let answer = probe.get(&name, "/", Duration::from_secs(5)).await.unwrap();
            assert_eq!(answer.body, name);
        }
    }
    fs::write(&file, "bogus").unwrap();
    let error = nginx.reload().await.unwrap_err();
    println!("{error}");
    assert!(error.message.contains("bogus") || error.code == "systemd.job-failed", "{error}");
    fs::remove_file(&file).unwrap();
    nginx.reload().await.unwrap();
}
