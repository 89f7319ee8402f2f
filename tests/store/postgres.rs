//! A real PostgreSQL for the tests, and what only PostgreSQL has.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use socle::controller::store::{BackupError, Changed, PutError, Store, StoreError};
use sqlx::Connection;

use crate::place::{Place, by, direct, name, put};

/// One cluster in a temporary directory, on a Unix socket only, as a user that is not root.
pub struct Server {
    process: Child,
    directory: tempfile::TempDir,
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
        let mut process = user
            .command(&programs.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_min_messages=log", "-c", "lc_messages=C"])
            .args(["-c", "max_connections=100", "-c"])
            .arg(format!("unix_socket_directories={}", directory.path().display()))
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
        Some(Self { process, directory, databases: AtomicU32::new(0) })
    }

    fn url(&self, database: &str) -> String {
        let socket = self.directory.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://postgres@localhost/{database}?host={socket}")
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
    let given = Command::new("chown").arg("postgres:").arg(directory).status().unwrap();
    assert!(given.success());
    User(["--reuid=postgres", "--regid=postgres", "--clear-groups"].map(str::to_owned).to_vec())
}

impl User {
    /// Ends with this process, however that ends: QUIT is PostgreSQL's immediate shutdown.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(&self.0).args(["--pdeathsig", "QUIT", "--"]).arg(program);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_on_postgres() {
    let Some(server) = Server::start() else { return };
    a_push_is_heard_by_the_other_controller(Place::postgres(&server, "heard").await).await;
    a_lost_connection_is_answered_by_everything(Place::postgres(&server, "lost").await).await;
    a_full_disk_is_told_and_nothing_half(Place::postgres(&server, "full").await).await;
    a_backup_is_left_to_pg_dump(Place::postgres(&server, "backup").await).await;
}

async fn a_push_is_heard_by_the_other_controller(place: Place) {
    let (here, there) = (place.fleet(2).await, place.open().await);
    let mut watch = there.watch().await.unwrap();
    put(&here, &direct([("s0", "a"), ("s1", "b")])).await;
    assert_eq!(watch.next().await, Some(Changed::Server(name("s0"))));
    assert_eq!(watch.next().await, Some(Changed::Server(name("s1"))));
    here.ban(&name("s1"), &by(11)).await.unwrap();
    assert_eq!(watch.next().await, Some(Changed::Server(name("s1"))));
}

async fn a_lost_connection_is_answered_by_everything(place: Place) {
    let store = place.fleet(1).await;
    let mut watch = store.watch().await.unwrap();
    place
        .execute(
            "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .await;
    assert_eq!(watch.next().await, Some(Changed::Everything));
    put(&store, &direct([("s0", "after")])).await;
    assert_eq!(watch.next().await, Some(Changed::Server(name("s0"))));
}

/// The server says so with the code of a full disk; here a trigger says it in its place.
async fn a_full_disk_is_told_and_nothing_half(place: Place) {
    let store = place.fleet(1).await;
    place
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    let refused = store.put_documents(&direct([("s0", "text")]), &by(10), |_| Vec::new()).await;
    assert!(matches!(refused, Err(PutError::Store(StoreError::Full { .. }))), "{refused:?}");
    assert_eq!(store.newest(&name("s0")).await.unwrap(), None);
    place.execute("DROP TRIGGER refuse ON documents").await;
    put(&store, &direct([("s0", "text")])).await;
}

async fn a_backup_is_left_to_pg_dump(place: Place) {
    let store = place.open().await;
    let refused = store.backup(Path::new("/var/backups/fleet"), &by(0)).await.unwrap_err();
    let BackupError::UsePostgres { command } = &refused else { panic!("{refused}") };
    assert!(
        command.starts_with("pg_dump --format=custom --file=/var/backups/fleet 'postgres://postgres@"),
        "{command}"
    );
    let refused = Store::restore(&place.url, Path::new("/var/backups/fleet")).await.unwrap_err();
    assert!(refused.hint().unwrap().starts_with("pg_restore "), "{refused}");
}
