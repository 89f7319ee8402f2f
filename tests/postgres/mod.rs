//! A real PostgreSQL for tests, from Debian's package.

#![allow(dead_code, reason = "no test uses all of it")]

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Connection;

/// One cluster in a temporary directory, on a Unix socket only, as a user that is not root.
pub struct Server {
    process: Child,
    pub directory: tempfile::TempDir,
    /// On 127.0.0.1, with TLS.
    pub port: u16,
    databases: AtomicU32,
}

impl Server {
    /// `None` without Debian's package `postgresql`; where the tests' means are required that is a failure.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            println!("skipped: no PostgreSQL in /usr/lib/postgresql; install the package `postgresql`");
            assert_ne!(std::env::var("SOCLE_REQUIRE_FIXTURES").as_deref(), Ok("1"), "PostgreSQL is required");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let user = user(directory.path());
        let data = directory.path().join("data");
        let made = user
            .command(&programs.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--no-locale", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        certify(directory.path(), &user);
        let mut process = user
            .command(&programs.join("postgres"))
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "ssl=on",
                "-c",
                "fsync=off",
                "-c",
                "log_min_messages=log",
                "-c",
                "lc_messages=C",
            ])
            .args(["-c", "max_connections=100", "-c"])
            .arg(format!("unix_socket_directories={}", directory.path().display()))
            .args(["-c", &format!("port={port}")])
            .args(["-c", &format!("ssl_cert_file={}", directory.path().join("cert.pem").display())])
            .args(["-c", &format!("ssl_key_file={}", directory.path().join("key.pem").display())])
            .arg("-D")
            .arg(&data)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("PostgreSQL ended: {said:?}")).unwrap();
            if line.contains("ready to accept connections") {
                break;
            }
            said.push(line);
        }
        // Read on, or it blocks when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, directory, port, databases: AtomicU32::new(0) })
    }

    fn url(&self, database: &str) -> String {
        let socket = self.directory.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://postgres@localhost:{}/{database}?host={socket}", self.port)
    }

    /// A new database; gives its URL.
    pub async fn database(&self, case: &str) -> String {
        // PostgreSQL cuts names at 63 bytes.
        let short: String = case.chars().take(40).collect();
        let database = format!("{short}_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {database}")).await;
        self.url(&database)
    }

    async fn execute(&self, sql: &str) {
        let mut connection = sqlx::PgConnection::connect(&self.url("postgres")).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A certificate for `localhost` that no known authority signed.
fn certify(directory: &Path, user: &User) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(directory.join("key.pem"), Permissions::from_mode(0o600)).unwrap();
    user.own(&directory.join("key.pem"));
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.retain(|programs| programs.join("initdb").exists());
    found.sort();
    found.pop()
}

/// The database as text; bytes in it are hexadecimal.
pub fn dump(url: &str) -> Vec<u8> {
    let dumped = Command::new(programs().unwrap().join("pg_dump")).arg(url).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    dumped.stdout
}

struct User(Vec<String>);

/// PostgreSQL refuses root: then it runs as the user of the package, who gets the directory.
fn user(directory: &Path) -> User {
    if std::fs::metadata(directory).unwrap().uid() != 0 {
        return User(Vec::new());
    }
    let user = User(["--reuid=postgres", "--regid=postgres", "--clear-groups"].map(str::to_owned).to_vec());
    user.own(directory);
    user
}

impl User {
    fn own(&self, path: &Path) {
        if !self.0.is_empty() {
            assert!(Command::new("chown").arg("postgres:").arg(path).status().unwrap().success());
        }
    }

    /// Ends with this process, however that ends: QUIT is PostgreSQL's immediate shutdown.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(&self.0).args(["--pdeathsig", "QUIT", "--"]).arg(program);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}
