//! MariaDB: `mariadb` and `mariadb-dump` as root, whom the server knows by unix_socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dump::{self, Part};
use super::name::{SqlName, literals};
use super::{ASK, CHANGE, COPY, SqlError, States, nothing, read_states};
use crate::host::DumpStream;
use crate::host::process::{self, Command, Output, ProcessError, tail_of};
use crate::model::Digest;
use crate::model::document::Engine::Mariadb as ENGINE;

const SOCKET: &str = "/run/mysqld/mysqld.sock";
const SERVER: &str = "/usr/sbin/mariadbd";
const DATA: &str = "/var/lib/mysql";

/// Client errors that say nothing of the statement: no connection (2002, 2003), connection lost
/// (2006, 2013), too many connections (1040), shutdown in progress (1053).
const DOWN: [&str; 6] = ["ERROR 2002", "ERROR 2003", "ERROR 2006", "ERROR 2013", "ERROR 1040", "ERROR 1053"];

#[derive(Clone)]
pub(super) struct Mariadb {
    pub root: PathBuf,
}

impl Mariadb {
    pub async fn states(&self, names: &[SqlName<'_>]) -> Result<States, SqlError> {
        if !self.at(SERVER).exists() && !self.at(SOCKET).exists() {
            return self.not_installed(names);
        }
        let sql = format!(
            "SELECT 'role', User, '' FROM mysql.global_priv WHERE Host = 'localhost'
             UNION ALL SELECT 'database', SCHEMA_NAME, '' FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({})
             UNION ALL SELECT 'owner', REPLACE(Db, '\\\\', ''), User FROM mysql.db WHERE Host = 'localhost'
                AND Select_priv = 'Y' AND Insert_priv = 'Y' AND Update_priv = 'Y' AND Delete_priv = 'Y'
                AND Create_priv = 'Y' AND Drop_priv = 'Y' AND Alter_priv = 'Y' AND Index_priv = 'Y'
                AND References_priv = 'Y' AND Lock_tables_priv = 'Y' AND Trigger_priv = 'Y' AND Event_priv = 'Y';",
            literals(names)
        );
        let answer = self.sql(sql, ASK, "tell what there is").await?;
        Ok(read_states(&String::from_utf8_lossy(&answer.stdout), names))
    }

    /// A server that is not installed has no databases: the truth a first install is planned on. Not
    /// so if an earlier installation left its data, which a new one takes over.
    fn not_installed(&self, names: &[SqlName<'_>]) -> Result<States, SqlError> {
        let data = self.at(DATA);
        match std::fs::read_dir(&data).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(SqlError::LeftData { engine: ENGINE, data: DATA.into() }),
            Ok(false) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(SqlError::Look(data, error)),
        }
        Ok(nothing(names))
    }

    /// No password: the server asks the kernel whether the client is the system user of that name.
    pub async fn create_role(&self, role: SqlName<'_>) -> Result<(), SqlError> {
        let sql = format!("CREATE USER IF NOT EXISTS {} IDENTIFIED VIA unix_socket;", user(role));
        self.sql(sql, CHANGE, &format!("create the role `{role}`")).await.map(drop)
    }

    pub async fn create_database(&self, name: SqlName<'_>, owner: SqlName<'_>) -> Result<(), SqlError> {
        let sql = format!("{}\n{}", create(name, None), grant(name, owner));
        self.sql(sql, CHANGE, &format!("create the database `{name}`")).await.map(drop)
    }

    pub async fn grant(&self, name: SqlName<'_>, owner: SqlName<'_>) -> Result<(), SqlError> {
        self.sql(grant(name, owner), CHANGE, &format!("make `{owner}` the owner of `{name}`")).await.map(drop)
    }

    pub async fn drop_database(&self, name: SqlName<'_>) -> Result<(), SqlError> {
        let sql = format!("DROP DATABASE IF EXISTS {};", name.backticked());
        self.sql(sql, CHANGE, &format!("drop the database `{name}`")).await.map(drop)
    }

    pub async fn drop_role(&self, role: SqlName<'_>) -> Result<(), SqlError> {
        let sql = format!("DROP USER IF EXISTS {};", user(role));
        self.sql(sql, CHANGE, &format!("drop the role `{role}`")).await.map(drop)
    }

    pub async fn dump(&self, name: SqlName<'_>, to: &Path) -> Result<Digest, SqlError> {
        let act = format!("dump the database `{name}`");
        let part = Part::begin(ENGINE, to, &self.notes(name, &act).await?)?;
        self.run(dump_of(name).stdout_to(part.output()?), &act).await?;
        tokio::task::spawn_blocking(|| part.finish()).await.expect("finishing a dump does not panic")
    }

    pub async fn dump_stream(&self, name: SqlName<'_>) -> Result<DumpStream, SqlError> {
        let act = format!("dump the database `{name}`");
        let notes = self.notes(name, &act).await?;
        let (server, command) = (self.clone(), dump_of(name));
        let run = |output| async move { server.run(command.stdout_to(output), &act).await.map(drop) };
        dump::stream(ENGINE, &notes, run).await
    }

    /// How many rows each table has.
    pub async fn rows(&self, name: SqlName<'_>) -> Result<super::scan::Rows, SqlError> {
        let act = format!("count the rows of `{name}`");
        let question = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {}
             AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED');",
            name.literal()
        );
        let tables = self.sql(question, ASK, &act).await?;
        let mut sql = String::new();
        for table in String::from_utf8_lossy(&tables.stdout).lines() {
            let (text, quoted) = (table.replace('\\', "\\\\").replace('\'', "''"), table.replace('`', "``"));
            sql += &format!("SELECT '{text}', COUNT(*) FROM {}.`{quoted}`;\n", name.backticked());
        }
        let counted = self.sql(sql, CHANGE, &act).await?;
        Ok(super::read_rows(&String::from_utf8_lossy(&counted.stdout)))
    }

    /// What a dump does not say of its database.
    async fn notes(&self, name: SqlName<'_>, act: &str) -> Result<dump::Notes, SqlError> {
        Ok(vec![("collation".to_owned(), self.collation(name, act).await?)])
    }

    /// Guarantees: nothing is destroyed before the dump is known to be complete; whatever an earlier,
    /// interrupted restore left (its data, its client still reading) is gone before the first line is
    /// read; so a repetition ends with exactly the dump.
    ///
    /// Read back as root, so that views and triggers keep the definer they have. Nothing of the
    /// application runs on the way (MariaDB calls no stored code while loading), and the dump's first
    /// line bars the client's own commands.
    pub async fn restore(&self, name: SqlName<'_>, owner: SqlName<'_>, from: &Path) -> Result<(), SqlError> {
        let act = format!("restore the database `{name}`");
        let (file, notes) = dump::open(ENGINE, from)?;
        let collation = dump::noted(&notes, "collation").next().map(SqlName::new).transpose()?;
        let empty = format!(
            "{}\nDROP DATABASE IF EXISTS {};\n{}\n{}",
            alone(name),
            name.backticked(),
            create(name, collation),
            grant(name, owner)
        );
        self.sql(empty, CHANGE, &act).await?;
        let command = client("mariadb")
            // Without it the client of an interrupted restore would come back after `alone`.
            .args(["--batch", "--skip-reconnect", "--max-allowed-packet=1G", name.as_str()])
            .stdin_from(file)
            .tail(4096)
            .timeout(COPY);
        self.run(command, &act).await.map(drop)
    }

    async fn collation(&self, name: SqlName<'_>, act: &str) -> Result<String, SqlError> {
        let sql = format!(
            "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {};",
            name.literal()
        );
        let answer = self.sql(sql, ASK, act).await?;
        let collation = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        if collation.is_empty() {
            let said = "there is no such database".to_owned();
            return Err(SqlError::Refused { engine: ENGINE, act: act.to_owned(), said });
        }
        Ok(collation)
    }

    async fn sql(&self, sql: String, limit: Duration, act: &str) -> Result<Output, SqlError> {
        let command = client("mariadb").args(["--batch", "--raw", "--skip-column-names"]).stdin(sql).timeout(limit);
        self.run(command, act).await
    }

    async fn run(&self, command: Command, act: &str) -> Result<Output, SqlError> {
        let output = match process::run(command).await {
            Err(ProcessError::Start(_, error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SqlError::NotInstalled(ENGINE));
            }
            ended => ended.map_err(|error| SqlError::Client(ENGINE, error))?,
        };
        if output.success() {
            return Ok(output);
        }
        let said = tail_of(&output.stderr, 1000);
        // mariadb-dump writes `Got error: 2002`.
        let plain = said.replace("Got error: ", "ERROR ").replace("Lost connection", "ERROR 2013");
        if DOWN.iter().any(|code| plain.contains(code)) {
            return Err(SqlError::Down { engine: ENGINE, said });
        }
        Err(SqlError::Refused { engine: ENGINE, act: act.to_owned(), said })
    }

    fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

/// Reads no configuration of the admin's, so that it does the same on every server. Without TLS, which
/// protects nothing in a socket of this machine and takes longer than the question: the client reads all
/// CA certificates first.
fn client(program: &str) -> Command {
    Command::new(program)
        .dies_with_us()
        .args(["--no-defaults", "--skip-ssl", "--user=root", "--default-character-set=utf8mb4"])
        .arg(format!("--socket={SOCKET}"))
}

fn dump_of(name: SqlName<'_>) -> Command {
    client("mariadb-dump")
        // One consistent view of all InnoDB tables while the application goes on.
        .args(["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--skip-dump-date"])
        .args(["--max-allowed-packet=1G", name.as_str()])
        .timeout(COPY)
}

fn user(role: SqlName<'_>) -> String {
    format!("{}@'localhost'", role.literal())
}

fn create(name: SqlName<'_>, collation: Option<SqlName<'_>>) -> String {
    // The set goes with the collation (`latin1_swedish_ci` is of latin1).
    let charset = match collation {
        None => "CHARACTER SET utf8mb4".to_owned(),
        Some(collation) => format!("COLLATE {collation}"),
    };
    format!("CREATE DATABASE IF NOT EXISTS {} {charset};", name.backticked())
}

fn grant(name: SqlName<'_>, owner: SqlName<'_>) -> String {
    format!("GRANT ALL PRIVILEGES ON {}.* TO {};", name.grant_pattern(), user(owner))
}

/// Waits for the end of a restore that was interrupted while it made the database empty, then ends
/// every session in the database; one that ended by itself meanwhile (1094) is fine. The lock goes with
/// the session.
fn alone(name: SqlName<'_>) -> String {
    format!(
        "DELIMITER //
BEGIN NOT ATOMIC
  DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
  IF COALESCE(GET_LOCK('socle {name}', 300), 0) <> 1 THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'another restore of this database is at work';
  END IF;
  FOR other IN (SELECT id FROM information_schema.processlist WHERE db = '{name}' AND id <> CONNECTION_ID()) DO
    EXECUTE IMMEDIATE CONCAT('KILL CONNECTION ', other.id);
  END FOR;
END //
DELIMITER ;"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_installed_is_empty_unless_data_was_left() {
        let root = tempfile::tempdir().unwrap();
        let mariadb = Mariadb { root: root.path().to_owned() };
        let name = SqlName::new("blog").unwrap();
        assert!(!mariadb.states(&[name]).await.unwrap().0["blog"].exists);
        std::fs::create_dir_all(root.path().join("var/lib/mysql/blog")).unwrap();
        assert!(matches!(mariadb.states(&[name]).await, Err(SqlError::LeftData { .. })));
    }
}
