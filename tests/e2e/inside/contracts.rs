//! The contracts of the ports, kept by the real adapters.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use socle::host::accounts::SystemAccounts;
use socle::host::apt::Apt;
use socle::host::archive::UnpackChild;
use socle::host::copies::{self, BtrfsSnapshots};
use socle::host::fake::contract::{self, Ends};
use socle::host::fetch::HttpFetch;
use socle::host::nginx::Nginx;
use socle::host::probe::LocalProbe;
use socle::host::process::{Command, run_ok};
use socle::host::systemd::Systemd;
use socle::host::tasks::UnitTasks;
use socle::host::venv::PipVenv;
use socle::host::{Snapshots, Units, WebServer};
use socle::model::Digest;
use socle::model::document::Source;

use super::task;

/// The program under test; it becomes the child that unpacks and the one that tests nginx.
const SOCLE: &str = "/usr/bin/socle";
const MIRROR: &str = "https://mirror.lab.test";

pub async fn all(systemd: &Systemd) {
    let units: Arc<dyn Units> = Arc::new(systemd.clone());
    contract::accounts(&SystemAccounts::new(Path::new("/")), "socle-contract", "games", "adm").await;
    packages().await;
    unpacking().await;
    downloads().await;
    builds().await;
    let tasks = UnitTasks::new(Path::new("/"), units.clone());
    let ends = Ends {
        good: &task(&["/usr/bin/true"]),
        bad: &task(&["/usr/bin/sh", "-c", "echo it broke; exit 7"]),
        never: &task(&["/usr/bin/sleep", "1000"]),
    };
    contract::tasks(&tasks, &ends).await;
    let nginx = Nginx::new(units, SOCLE.into());
    contract::web(&nginx, Path::new("/")).await;
    super::nginx::all(&nginx).await;
    probes(&nginx).await;
    snapshots(systemd).await;
}

async fn snapshots(systemd: &Systemd) {
    let (place, state) = (Path::new("/btrfs/contract"), tempfile::tempdir().unwrap());
    let (whole, small) = (place.join("data"), place.join("config"));
    fs::create_dir_all(&small).unwrap();
    copies::make_directory(&fs::File::open(place).unwrap(), "data".as_ref()).unwrap();
    // As it is in a backup: somebody else's.
    std::os::unix::fs::chown(&whole, Some(4242), Some(4242)).unwrap();
    let port = BtrfsSnapshots::new(systemd.clone(), SOCLE.into(), state.path().to_owned());
    assert!(!port.can(std::slice::from_ref(&small)), "a directory is none");
    contract::snapshots(&port, &whole, &small, &place.join("saving/home")).await;
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}

async fn packages() {
    run_ok(Command::new("apt-get").args(["update", "-qq"])).await.unwrap();
    contract::packages(&Apt::new(Systemd::new(), Default::default()), "unzip", "no-such-package").await;
}

async fn unpacking() {
    let scratch = tempfile::Builder::new().prefix("contract-").tempdir_in("/srv").unwrap();
    fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    contract::archives(&UnpackChild::new(SOCLE), scratch.path()).await;
}

async fn downloads() {
    let scratch = tempfile::tempdir().unwrap();
    let url = format!("{MIRROR}/download.dokuwiki.org/src/dokuwiki/dokuwiki-2022-07-31a.tgz");
    let curl = run_ok(Command::new("curl").args(["-sSf", &url]).limit(64 << 20)).await.unwrap();
    let good = Source { url, sha256: Some(Digest::of(&curl.stdout)) };
    let gone = Source { url: format!("{MIRROR}/files/no-such-file"), sha256: None };
    contract::fetch(&HttpFetch::new(Default::default()), &good, &gone, scratch.path()).await;
}

async fn builds() {
    let scratch = tempfile::Builder::new().prefix("contract-").tempdir_in("/srv").unwrap();
    let index = format!("{MIRROR}/pypi/simple/");
    contract::builds(&PipVenv::default(), "radicale==3.9.0", "radicale==0.0.1", Some(&index), scratch.path()).await;
}

async fn probes(nginx: &Nginx) {
    let site = "/etc/nginx/sites-enabled/contract";
    let server = |name: &str, answer: &str| format!("server {{ listen 80; server_name {name}; return {answer}; }}\n");
    // 444: nginx ends the connection without a word.
    let text = server("answers.example.org", "418 contract") + &server("silent.example.org", "444");
    fs::write(site, text).unwrap();
    nginx.reload().await.unwrap();
    contract::probes(&LocalProbe::new(), "answers.example.org", "silent.example.org").await;
    fs::remove_file(site).unwrap();
    nginx.reload().await.unwrap();
}
