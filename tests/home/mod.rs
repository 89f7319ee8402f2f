//! A controller as a process, with all that is its own in a directory that goes away.

#![allow(dead_code, reason = "no test uses all of it")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `socle controller …`, of this home.
    pub fn controller(&self) -> Command {
        let mut command = self.socle("controller");
        command.arg("--home").arg(self.path("home")).arg("--config").arg(self.path("controller.toml"));
        command
    }

    pub fn fleet(&self) -> Command {
        self.socle("fleet")
    }

    pub fn socle(&self, group: &str) -> Command {
        let mut command = Command::cargo_bin("socle").unwrap();
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("NO_COLOR");
        command.arg(group).arg("--socket").arg(self.path("api.sock"));
        command
    }

    pub fn init(&self) -> String {
        let args = ["init", "--fleet", "sol", "--host", "localhost", "--host", "127.0.0.1", "--bootstrap-url", ""];
        said(self.controller().args(args))
    }

    pub fn socle_agent(&self) -> Command {
        let mut command = Command::cargo_bin("socle").unwrap();
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("NO_COLOR").arg("agent");
        command
    }

    /// Starts the service and waits until it says that it is ready.
    pub fn start(&self) -> Service {
        let ready = self.path("ready");
        let _ = std::fs::remove_file(&ready);
        let notify = UnixDatagram::bind(&ready).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let child = Program::new(assert_cmd::cargo::cargo_bin("socle"))
            .args(["controller", "--home"])
            .arg(self.path("home"))
            .arg("--config")
            .arg(self.path("controller.toml"))
            .arg("run")
            .env("NOTIFY_SOCKET", &ready)
            .env("RUNTIME_DIRECTORY", self.0.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.path("log")).unwrap())
            .spawn()
            .unwrap();
        let service = Service(child);
        let mut message = [0; 64];
        let length = notify.recv(&mut message).unwrap_or_else(|error| {
            panic!("{error}: {}", std::fs::read_to_string(self.path("log")).unwrap());
        });
        assert_eq!(&message[..length], b"READY=1\n");
        service
    }
}

pub struct Service(Child);

impl Service {
    /// As systemd ends it.
    pub fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Service {
    /// As nobody foresaw it.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn said(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

pub fn json(command: &mut Command) -> Value {
    serde_json::from_str(&said(command.arg("--json"))).unwrap()
}

pub fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
