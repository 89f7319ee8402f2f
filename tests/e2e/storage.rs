//! S3 inside a machine, on 127.0.0.1:3900: Garage, run as the program it is, or where it was not built `s3s-fs`, by
//! this very program.

use std::path::PathBuf;
use std::time::Duration;

use crate::machine::{Machine, project, wait_for};

pub const BUCKET: &str = "association";
pub const REGION: &str = "garage";
/// As Garage makes them: it takes no others.
pub const KEY: &str = "GK31c2f218a2e44f485b94239e";
pub const SECRET: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";

const PORT: u16 = 3900;
const RPC: u16 = 3901;
const SOON: Duration = Duration::from_secs(60);

/// The program, if `scripts/test` installed it.
pub fn garage() -> Option<PathBuf> {
    let program = project().join("target/tools/bin/garage");
    program.exists().then_some(program)
}

pub struct Storage {
    unit: &'static str,
}

impl Storage {
    /// One node.
    pub fn start(machine: &Machine) -> Self {
        if garage().is_some() {
            Self::spread(&[machine]);
            return Self { unit: "garage.service" };
        }
        let program = std::env::current_exe().unwrap();
        machine.lab("push", &[program.to_str().unwrap(), "/root/e2e"]);
        machine.run(&["mkdir", "-p", &format!("/srv/s3/{BUCKET}")]).expect(0);
        let unit = "[Service]\nExecStart=/root/e2e --ignored --exact storage::serves --nocapture\n";
        machine.write("/etc/systemd/system/s3.service", unit);
        machine.run(&["systemctl", "start", "s3.service"]).expect(0);
        answers(machine);
        Self { unit: "s3.service" }
    }

    pub fn stop(&self, machine: &Machine) {
        machine.run(&["systemctl", "stop", self.unit]).expect(0);
    }

    pub fn go_on(&self, machine: &Machine) {
        machine.run(&["systemctl", "start", self.unit]).expect(0);
        answers(machine);
    }

    /// Garage on these machines, everything on each, with the bucket and a key for it.
    pub fn spread(machines: &[&Machine]) {
        let program = garage().expect("Garage is installed");
        for machine in machines {
            machine.lab("push", &[program.to_str().unwrap(), "/usr/bin/garage"]);
            let config = format!(
                "metadata_dir = \"/var/lib/garage/meta\"\ndata_dir = \"/var/lib/garage/data\"\ndb_engine = \"lmdb\"\n\
                 replication_factor = {}\nrpc_bind_addr = \"0.0.0.0:{RPC}\"\nrpc_public_addr = \"{}:{RPC}\"\n\
                 rpc_secret = \"{}\"\n[s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{PORT}\"\n",
                machines.len(),
                machine.address(),
                "7a".repeat(32),
            );
            machine.write("/etc/garage.toml", &config);
            machine.run(&["chmod", "0600", "/etc/garage.toml"]).expect(0);
            machine.write(
                "/etc/systemd/system/garage.service",
                "[Service]\nExecStart=/usr/bin/garage server\nStateDirectory=garage\n",
            );
            machine.run(&["systemctl", "start", "garage.service"]).expect(0);
        }
        let first = machines[0];
        let say = |words: &[&str]| first.run(&[&["garage"], words].concat()).expect(0);
        for machine in machines {
            let node = wait_for("a node", SOON, || machine.run(&["garage", "node", "id", "-q"]).ok());
            let (id, _) = node.trim().split_once('@').expect("an identifier and an address");
            if machine.name() != first.name() {
                let to = node.trim().to_owned();
                wait_for("the nodes meet", SOON, || first.run(&["garage", "node", "connect", &to]).ok());
            }
            wait_for("its place", SOON, || {
                first.run(&["garage", "layout", "assign", id, "-z", machine.name(), "-c", "1G"]).ok()
            });
        }
        say(&["layout", "apply", "--version", "1"]);
        wait_for("the bucket", SOON, || first.run(&["garage", "bucket", "create", BUCKET]).ok());
        say(&["key", "import", "--yes", KEY, SECRET, "-n", "ks1"]);
        say(&["bucket", "allow", "--read", "--write", BUCKET, "--key", KEY]);
        answers(first);
    }
}

fn answers(machine: &Machine) {
    let url = format!("http://127.0.0.1:{PORT}/");
    wait_for("S3 answers", SOON, || machine.run(&["curl", "-s", "-o", "/dev/null", &url]).ok());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "serves until it is ended; run inside a machine by the others"]
async fn serves() {
    use hyper_util::rt::TokioIo;
    let files = s3s_fs::FileSystem::new("/srv/s3").unwrap();
    let mut builder = s3s::service::S3ServiceBuilder::new(files);
    builder.set_auth(s3s::auth::SimpleAuth::from_single(KEY, SECRET));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
        tokio::spawn(served);
    }
}
