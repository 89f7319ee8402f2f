//! PostgreSQL: `psql` and `pg_dump` as the system user `postgres`, whom the server knows by peer
//! authentication. Nothing in `pg_hba.conf` is changed: Debian's own lets every system user in as the
//! role of the same name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dump::{self, Notes, Part};
use super::name::{SqlName, literals};
use super::{ASK, CHANGE, COPY, SqlError, States, nothing, read_states};
use crate::host::DumpStream;
use crate::host::files::Names;
use crate::host::process::{self, Command, Output, tail_of};
use crate::model::Digest;
use crate::model::document::Engine::Postgresql as ENGINE;

const SOCKETS: &str = "/run/postgresql";
/// First line: PID of the server on the default port.
const LOCK: &str = "/run/postgresql/.s.PGSQL.5432.lock";
/// `<version>/bin/postgres` below it.
const SERVERS: &str = "/usr/lib/postgresql";
/// `<version>/<cluster>` below it.
const DATA: &str = "/var/lib/postgresql";

#[derive(Clone)]
pub(super) struct Postgresql {
    pub root: PathBuf,
}

/// The server that runs, and its own version of the clients: a newer `pg_dump` writes what an older
/// server cannot read back. (`/usr/bin/psql` is a Perl wrapper that finds the same in 30 ms more.)
struct Server {
    bin: PathBuf,
    major: u32,
}

impl Postgresql {
    pub async fn states(&self, names: &[SqlName<'_>]) -> Result<States, SqlError> {
        if !self.installed()? {
            return self.not_installed(names);
        }
        let answer = self.sql(states_question(names), "postgres", ASK, "tell what there is").await?;
        Ok(read_states(&String::from_utf8_lossy(&answer.stdout), names))
    }

    pub async fn create_role(&self, role: SqlName<'_>) -> Result<(), SqlError> {
        let sql = format!(
            "SELECT {} WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) \\gexec\n\
             ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;\n",
            quoted(&format!("CREATE ROLE {}", role.double_quoted())),
            role.literal(),
            role.double_quoted(),
        );
        self.sql(sql, "postgres", CHANGE, &format!("create the role `{role}`")).await.map(drop)
    }

    pub async fn create_database(&self, name: SqlName<'_>, owner: SqlName<'_>) -> Result<(), SqlError> {
        self.sql(create(name, owner), "postgres", CHANGE, &format!("create the database `{name}`")).await.map(drop)
    }

    pub async fn grant(&self, name: SqlName<'_>, owner: SqlName<'_>) -> Result<(), SqlError> {
        let sql = format!("ALTER DATABASE {} OWNER TO {};", name.double_quoted(), owner.double_quoted());
        self.sql(sql, "postgres", CHANGE, &format!("make `{owner}` the owner of `{name}`")).await.map(drop)
    }

    /// By the superuser: the owner never becomes one to get an extension.
    pub async fn create_extension(&self, name: SqlName<'_>, extension: SqlName<'_>) -> Result<(), SqlError> {
        let sql = format!("CREATE EXTENSION IF NOT EXISTS {};", extension.double_quoted());
        let act = format!("create the extension `{extension}` in `{name}`");
        self.sql(sql, name.as_str(), CHANGE, &act).await.map(drop)
    }

    pub async fn drop_database(&self, name: SqlName<'_>) -> Result<(), SqlError> {
        self.sql(drop_database(name), "postgres", CHANGE, &format!("drop the database `{name}`")).await.map(drop)
    }

    pub async fn drop_role(&self, role: SqlName<'_>) -> Result<(), SqlError> {
        let sql = format!("DROP ROLE IF EXISTS {};", role.double_quoted());
        self.sql(sql, "postgres", CHANGE, &format!("drop the role `{role}`")).await.map(drop)
    }

    /// The dump names no owner, no right and no extension: a restore makes the owner the owner of
    /// everything, as it was, and creates the extensions noted in the header first.
    pub async fn dump(&self, name: SqlName<'_>, to: &Path) -> Result<Digest, SqlError> {
        let act = format!("dump the database `{name}`");
        let (command, notes) = self.dump_of(name, &act).await?;
        let part = Part::begin(ENGINE, to, &notes)?;
        self.run(command.stdout_to(part.output()?), &act).await?;
        tokio::task::spawn_blocking(|| part.finish()).await.expect("finishing a dump does not panic")
    }

    pub async fn dump_stream(&self, name: SqlName<'_>) -> Result<DumpStream, SqlError> {
        let act = format!("dump the database `{name}`");
        let (command, notes) = self.dump_of(name, &act).await?;
        let server = self.clone();
        let run = |output| async move { server.run(command.stdout_to(output), &act).await.map(drop) };
        dump::stream(ENGINE, &notes, run).await
    }

    /// How many rows each table has.
    pub async fn rows(&self, name: SqlName<'_>) -> Result<super::scan::Rows, SqlError> {
        let sql = "SELECT pg_catalog.format('SELECT %L, count(*) FROM %I.%I', \
                   pg_catalog.format('%I.%I', schemaname, tablename), schemaname, tablename) \
                   FROM pg_catalog.pg_tables \
                   WHERE schemaname NOT IN ('pg_catalog', 'information_schema') \\gexec\n";
        let answer = self.sql(sql.to_owned(), name.as_str(), CHANGE, &format!("count the rows of `{name}`")).await?;
        Ok(super::read_rows(&String::from_utf8_lossy(&answer.stdout)))
    }

    /// The command that dumps, and what its dump does not say of the database.
    async fn dump_of(&self, name: SqlName<'_>, act: &str) -> Result<(Command, Notes), SqlError> {
        let question = "SELECT extname FROM pg_catalog.pg_extension ORDER BY oid;\n".to_owned();
        let answer = self.sql(question, name.as_str(), ASK, act).await?;
        let extensions = String::from_utf8_lossy(&answer.stdout);
        let notes: Notes = extensions.lines().map(|extension| ("extension".to_owned(), extension.to_owned())).collect();
        let server = self.server()?;
        let command = self
            .client(&server, "pg_dump", "postgres")?
            .args(["--no-owner", "--no-privileges", "--no-password", "--encoding=UTF8"])
            // Comments on extensions can be set by a superuser only. Before version 17 there was no
            // other way than to leave out all comments.
            .arg(if server.major >= 17 { "--exclude-extension=*" } else { "--no-comments" })
            .arg(format!("--dbname={name}"))
            .timeout(COPY);
        Ok((command, notes))
    }

    /// Guarantees: nothing is destroyed before the dump is known to be complete; `DROP … FORCE` ends
    /// the sessions of an interrupted restore together with what they wrote; the dump is read in one
    /// transaction. So a repetition ends with exactly the dump.
    ///
    /// Read back as the owner, not as the superuser: a dump holds code of the application (functions
    /// in checks and indexes) that runs on the way.
    pub async fn restore(&self, name: SqlName<'_>, owner: SqlName<'_>, from: &Path) -> Result<(), SqlError> {
        let act = format!("restore the database `{name}`");
        let (file, notes) = dump::open(ENGINE, from)?;
        let mut fresh = [alone(name), drop_database(name), create(name, owner)].join("\n");
        fresh += &format!("\\connect {}\n", name.double_quoted());
        for extension in dump::noted(&notes, "extension") {
            let extension = SqlName::new(extension)?;
            fresh += &format!("CREATE EXTENSION IF NOT EXISTS {};\n", extension.double_quoted());
        }
        self.sql(fresh, "postgres", CHANGE, &act).await?;
        let server = self.server()?;
        let command = psql(self.client(&server, "psql", owner.as_str())?, name.as_str())
            .args(["--single-transaction", "--file=-"])
            .stdin_from(file)
            .tail(4096)
            .timeout(COPY);
        self.run(command, &act).await.map(drop)
    }

    async fn sql(&self, sql: String, database: &str, limit: Duration, act: &str) -> Result<Output, SqlError> {
        let server = self.server()?;
        let command = psql(self.client(&server, "psql", "postgres")?, database).stdin(sql).timeout(limit);
        self.run(command, act).await
    }

    /// A client of that server, as that system user.
    fn client(&self, server: &Server, program: &str, user: &str) -> Result<Command, SqlError> {
        let cannot = |error| SqlError::NoUser(user.to_owned(), error);
        let names = Names::read(&self.root).map_err(cannot)?;
        let (uid, gid) = (names.uid(user).map_err(cannot)?, names.gid(user).map_err(cannot)?);
        Ok(Command::new(server.bin.join(program))
            .dies_with_us()
            .args([format!("--host={SOCKETS}"), "--port=5432".to_owned(), format!("--username={user}")])
            .identity(uid, gid))
    }

    async fn run(&self, command: Command, act: &str) -> Result<Output, SqlError> {
        let output = process::run(command).await.map_err(|error| SqlError::Client(ENGINE, error))?;
        if output.success() {
            return Ok(output);
        }
        let said = tail_of(&output.stderr, 1000);
        // A role or database that is missing is an answer; no answer is not.
        let no_answer = [
            "No such file",
            "Connection refused",
            "is starting up",
            "is shutting down",
            "too many clients",
            "terminating connection",
            "server closed the connection",
        ];
        if no_answer.iter().any(|text| said.contains(text)) {
            return Err(SqlError::Down { engine: ENGINE, said });
        }
        Err(SqlError::Refused { engine: ENGINE, act: act.to_owned(), said })
    }

    /// The server that runs on the default port, from the lock beside its socket. A lock a crash left
    /// names a process that is no `postgres`.
    fn server(&self) -> Result<Server, SqlError> {
        let down = |said: String| SqlError::Down { engine: ENGINE, said };
        let lock = match fs::read_to_string(self.at(LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !self.installed()? {
                    return Err(SqlError::NotInstalled(ENGINE));
                }
                return Err(down(format!("there is no socket in `{SOCKETS}`")));
            }
            Err(error) => return Err(SqlError::Look(LOCK.into(), error)),
        };
        let pid: u32 = lock.lines().next().unwrap_or_default().trim().parse().unwrap_or_default();
        let exe = match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(exe) => exe,
            // A unit that sees no processes of others: the client finds out whether it runs.
            Err(error) if is_hidden(&error, pid) => {
                let said = || format!("`{LOCK}` names no data of a server");
                return self.server_of_data(&lock)?.ok_or_else(|| down(said()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(down(format!("its process {pid} is gone")));
            }
            Err(error) => return Err(SqlError::Look(format!("/proc/{pid}/exe").into(), error)),
        };
        server_of(&exe).ok_or_else(|| down(format!("process {pid} is not PostgreSQL but `{}`", exe.display())))
    }

    /// By the directory that the lock names in its second line.
    fn server_of_data(&self, lock: &str) -> Result<Option<Server>, SqlError> {
        let Some(data) = lock.lines().nth(1).filter(|data| data.starts_with('/')) else { return Ok(None) };
        let version = format!("{data}/PG_VERSION");
        let major = match fs::read_to_string(self.at(&version)) {
            Ok(major) => major,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SqlError::Look(version.into(), error)),
        };
        let server = |major: u32| Server { bin: format!("{SERVERS}/{major}/bin").into(), major };
        Ok(major.trim().parse().ok().map(server))
    }

    fn installed(&self) -> Result<bool, SqlError> {
        let versions = self.at(SERVERS);
        Ok(entries(&versions)?.iter().any(|version| version.join("bin/postgres").exists()))
    }

    /// A server that is not installed has no databases: the truth a first install is planned on. Not
    /// so if an earlier installation left its clusters.
    fn not_installed(&self, names: &[SqlName<'_>]) -> Result<States, SqlError> {
        for version in entries(&self.at(DATA))? {
            if version.is_dir() && !entries(&version)?.is_empty() {
                return Err(SqlError::LeftData { engine: ENGINE, data: DATA.into() });
            }
        }
        Ok(nothing(names))
    }

    fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

/// Whether the process is there, and not for us to look at.
fn is_hidden(error: &io::Error, pid: u32) -> bool {
    let asked = || {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)?;
        rustix::process::test_kill_process(pid).err()
    };
    match error.kind() {
        io::ErrorKind::PermissionDenied => true,
        io::ErrorKind::NotFound => asked() == Some(rustix::io::Errno::PERM),
        _ => false,
    }
}

/// What a directory holds; nothing if there is none.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, SqlError> {
    let cannot = |error| SqlError::Look(directory.to_owned(), error);
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(cannot(error)),
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(cannot)).collect(),
    }
}

/// `/usr/lib/postgresql/17/bin/postgres`, with ` (deleted)` behind it after an upgrade of the package.
fn server_of(exe: &Path) -> Option<Server> {
    let exe = exe.to_str()?;
    let bin = exe.strip_suffix(" (deleted)").unwrap_or(exe).strip_suffix("/postgres")?;
    let major = bin.strip_prefix(SERVERS)?.strip_prefix('/')?.strip_suffix("/bin")?.parse().ok()?;
    Some(Server { bin: bin.into(), major })
}

/// Reads no configuration of the admin's and stops at the first error.
fn psql(client: Command, database: &str) -> Command {
    client
        .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--field-separator=\t", "--no-password"])
        .args(["--set=ON_ERROR_STOP=1".to_owned(), format!("--dbname={database}")])
}

/// A text value; only for texts of ours made of checked names.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Other roles may not even connect: by default all roles of a server may, to every database.
fn create(name: SqlName<'_>, owner: SqlName<'_>) -> String {
    let create = format!(
        "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0",
        name.double_quoted(),
        owner.double_quoted()
    );
    format!(
        "SELECT {} WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = {}) \\gexec\n\
         ALTER DATABASE {} OWNER TO {};\n\
         REVOKE ALL ON DATABASE {} FROM PUBLIC;\n",
        quoted(&create),
        name.literal(),
        name.double_quoted(),
        owner.double_quoted(),
        name.double_quoted()
    )
}

/// Waits for the end of a restore that was interrupted while it made the database empty: its server
/// process finishes the statement it is at. The lock goes with the session.
fn alone(name: SqlName<'_>) -> String {
    format!("SET lock_timeout = '300s';\nSELECT pg_catalog.pg_advisory_lock(hashtext('socle {name}'));")
}

fn drop_database(name: SqlName<'_>) -> String {
    format!("DROP DATABASE IF EXISTS {} WITH (FORCE);", name.double_quoted())
}

/// One `psql` for all: extensions are listed inside each database, so it connects to those that
/// exist (and can be connected to: an interrupted DROP leaves one that cannot, `datconnlimit` -2).
fn states_question(names: &[SqlName<'_>]) -> String {
    let mut sql = format!(
        "SELECT 'role', rolname, '' FROM pg_catalog.pg_roles WHERE rolcanlogin;\n\
         SELECT 'database', datname, '' FROM pg_catalog.pg_database WHERE datname IN ({names});\n\
         SELECT 'owner', datname, rolname FROM pg_catalog.pg_database JOIN pg_catalog.pg_roles r ON r.oid = datdba \
         WHERE datname IN ({names});\n",
        names = literals(names)
    );
    for name in names {
        sql += &format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = {} AND datallowconn \
             AND datconnlimit <> -2) AS there \\gset\n\
             \\if :there\n\\connect {}\n\
             SELECT 'extension', current_database(), extname FROM pg_catalog.pg_extension;\n\\endif\n",
            name.literal(),
            name.double_quoted()
        );
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_are_those_of_the_running_server() {
        for exe in ["/usr/lib/postgresql/15/bin/postgres", "/usr/lib/postgresql/15/bin/postgres (deleted)"] {
            let server = server_of(Path::new(exe)).unwrap();
            assert_eq!((server.bin.to_str().unwrap(), server.major), ("/usr/lib/postgresql/15/bin", 15));
        }
        for other in ["/usr/bin/bash", "/opt/postgresql/15/bin/postgres", "/usr/lib/postgresql/bin/postgres"] {
            assert!(server_of(Path::new(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn a_server_that_is_hidden_is_known_by_its_data() {
        let root = tempfile::tempdir().unwrap();
        let postgresql = Postgresql { root: root.path().to_owned() };
        let data = root.path().join("var/lib/postgresql/17/main");
        std::fs::create_dir_all(&data).unwrap();
        let lock = "133\n/var/lib/postgresql/17/main\n1764381600\n5432\n/run/postgresql\n";
        assert!(postgresql.server_of_data(lock).unwrap().is_none());
        std::fs::write(data.join("PG_VERSION"), "17\n").unwrap();
        let server = postgresql.server_of_data(lock).unwrap().unwrap();
        assert_eq!((server.bin.to_str().unwrap(), server.major), ("/usr/lib/postgresql/17/bin", 17));
        assert!(postgresql.server_of_data("133\n").unwrap().is_none());
        let gone = io::Error::from(io::ErrorKind::NotFound);
        assert!(!is_hidden(&gone, std::process::id()) && !is_hidden(&gone, 0) && !is_hidden(&gone, u32::MAX));
        assert!(is_hidden(&io::ErrorKind::PermissionDenied.into(), 1));
    }

    #[tokio::test]
    async fn what_is_not_installed_is_empty_unless_data_was_left() {
        let root = tempfile::tempdir().unwrap();
        let postgresql = Postgresql { root: root.path().to_owned() };
        let name = SqlName::new("blog").unwrap();
        std::fs::create_dir_all(root.path().join("var/lib/postgresql/17")).unwrap();
        assert!(!postgresql.states(&[name]).await.unwrap().0["blog"].exists);
        std::fs::create_dir_all(root.path().join("var/lib/postgresql/17/main")).unwrap();
        assert!(matches!(postgresql.states(&[name]).await, Err(SqlError::LeftData { .. })));
    }

    #[tokio::test]
    async fn installed_and_not_running_is_down() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("usr/lib/postgresql/17/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("postgres"), "").unwrap();
        let postgresql = Postgresql { root: root.path().to_owned() };
        assert!(matches!(postgresql.states(&[SqlName::new("blog").unwrap()]).await, Err(SqlError::Down { .. })));
    }
}
