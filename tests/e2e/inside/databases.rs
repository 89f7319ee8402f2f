//! Both database servers: the contract, restores that are cut, and what a server that is down says.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use socle::host::Databases;
use socle::host::fake::contract;
use socle::host::sql::Sql;
use socle::model::document::Engine;

const OWNER: &str = "socle-sqltest";

fn make_owner() {
    let _ = Command::new("useradd").args(["--system", OWNER]).output().unwrap();
}

/// SQL as the owner itself, through the socket, without a password.
fn as_owner(engine: Engine, database: &str, sql: &str) -> String {
    let client: &[&str] = match engine {
        Engine::Mariadb => {
            &["mariadb", "--no-defaults", "--default-character-set=utf8mb4", "--batch", "--raw", "--skip-column-names"]
        }
        Engine::Postgresql => &["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"],
    };
    let (user, group) = (format!("--reuid={OWNER}"), format!("--regid={OWNER}"));
    let mut child = Command::new("setpriv")
        .args([user.as_str(), group.as_str(), "--clear-groups"])
        .args(client)
        .arg(database)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{sql}");
    String::from_utf8(output.stdout).unwrap()
}

/// Also removes what a failed test left.
async fn fresh(sql: &Sql, engine: Engine, names: &[&str]) {
    make_owner();
    for name in names {
        sql.drop_database(engine, name).await.unwrap();
    }
    sql.drop_role(engine, OWNER).await.unwrap();
}

/// A restore in a process of its own, to be killed.
fn restore_elsewhere(engine: Engine, name: &str, dump: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "inside::databases::restore_to_be_killed"])
        .env("RESTORE", format!("{}\t{name}\t{}", engine.as_str(), dump.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "started by a test of both servers"]
async fn restore_to_be_killed() {
    let Ok(what) = std::env::var("RESTORE") else { return };
    let what: Vec<&str> = what.split('\t').collect();
    let engine = if what[0] == "mariadb" { Engine::Mariadb } else { Engine::Postgresql };
    sql().restore(engine, what[1], OWNER, Path::new(what[2])).await.unwrap();
}

fn sql() -> Sql {
    Sql::new("/".into())
}

pub async fn all() {
    both_keep_the_contract().await;
    a_restore_cut_anywhere_is_made_good_by_the_next().await;
    a_server_that_is_down_is_not_without_databases().await;
    what_the_question_of_a_pass_costs().await;
}

async fn both_keep_the_contract() {
    for engine in [Engine::Mariadb, Engine::Postgresql] {
        fresh(&sql(), engine, &["socle_t2", "socle_t-1"]).await;
        let scratch = tempfile::tempdir().unwrap();
        contract::databases(&sql(), engine, "socle_t-1", OWNER, scratch.path()).await;
    }
}

/// Views, triggers, routines, keys, bytes and comments come back, and a restore that is cut at any
/// moment is made good by the next one.
async fn a_restore_cut_anywhere_is_made_good_by_the_next() {
    for engine in [Engine::Mariadb, Engine::Postgresql] {
        let (sql, name) = (sql(), "socle_t2");
        fresh(&sql, engine, &[name]).await;
        let scratch = tempfile::tempdir().unwrap();
        let dump = scratch.path().join("t2.sql");
        sql.create_role(engine, OWNER).await.unwrap();
        sql.create_database(engine, name, OWNER).await.unwrap();
        if engine == Engine::Postgresql {
            sql.create_extension(engine, name, "pg_trgm").await.unwrap();
        }
        as_owner(engine, name, fill(engine));
        let before = as_owner(engine, name, look(engine));
        sql.dump(engine, name, &dump).await.unwrap();
        let began = Instant::now();
        sql.restore(engine, name, OWNER, &dump).await.unwrap();
        let whole = began.elapsed();
        assert_eq!(as_owner(engine, name, look(engine)), before, "{engine:?}");
        for tenth in 0..10 {
            as_owner(engine, name, "INSERT INTO post (title) VALUES ('of the failed upgrade');");
            let mut other = restore_elsewhere(engine, name, &dump);
            std::thread::sleep(whole * tenth / 10);
            // Its client lives on, reading the rest of the dump.
            other.kill().unwrap();
            other.wait().unwrap();
            sql.restore(engine, name, OWNER, &dump).await.unwrap();
            assert_eq!(as_owner(engine, name, look(engine)), before, "{engine:?} cut after {tenth} tenths");
        }
        println!("{engine:?}: a restore of {} bytes takes {whole:?}", std::fs::metadata(&dump).unwrap().len());
        sql.drop_database(engine, name).await.unwrap();
        sql.drop_role(engine, OWNER).await.unwrap();
    }
}

fn fill(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => {
            "CREATE TABLE post (id INT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(200) COMMENT 'a comment', body BLOB, seen INT DEFAULT 0);
             CREATE TABLE other (post INT, FOREIGN KEY (post) REFERENCES post (id)) COLLATE utf8mb4_bin;
             INSERT INTO post (title, body) SELECT CONCAT('é 🐘 \\' \"', seq), RANDOM_BYTES(400) FROM seq_1_to_20000;
             INSERT INTO other SELECT id FROM post;
             CREATE VIEW titles AS SELECT title FROM post;
             CREATE FUNCTION twice(x INT) RETURNS INT DETERMINISTIC RETURN x * 2;
             CREATE TRIGGER onpost BEFORE INSERT ON post FOR EACH ROW SET NEW.seen = twice(NEW.id);
             CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO DELETE FROM other;"
        }
        Engine::Postgresql => {
            "CREATE SCHEMA s; CREATE TABLE post (id SERIAL PRIMARY KEY, title TEXT, body BYTEA, CHECK (length(title) > 0));
             COMMENT ON TABLE post IS 'a comment';
             CREATE TABLE s.other (post INT REFERENCES post (id));
             INSERT INTO post (title, body) SELECT 'é 🐘 '' \" ' || n, sha256(n::text::bytea) FROM generate_series(1, 50000) n;
             INSERT INTO s.other SELECT id FROM post;
             CREATE INDEX ON post USING gin (title gin_trgm_ops);
             CREATE VIEW titles AS SELECT title FROM post;
             CREATE FUNCTION twice(x INT) RETURNS INT LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN x * 2; END $$;
             CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             CREATE TRIGGER onpost BEFORE INSERT ON post FOR EACH ROW EXECUTE FUNCTION t();"
        }
    }
}

fn look(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => {
            "SELECT COUNT(*), MD5(GROUP_CONCAT(MD5(CONCAT(id, title, HEX(body), seen)) ORDER BY id)) FROM post;
             SELECT COUNT(*) FROM other; SELECT COUNT(*), twice(4) FROM titles;
             SHOW CREATE TABLE other; SHOW CREATE VIEW titles;
             SELECT trigger_name, action_statement, definer FROM information_schema.triggers WHERE trigger_schema = DATABASE(); SHOW CREATE DATABASE socle_t2;
             SELECT routine_name, definer FROM information_schema.routines WHERE routine_schema = DATABASE();
             SELECT event_name, definer FROM information_schema.events WHERE event_schema = DATABASE();"
        }
        Engine::Postgresql => {
            "SELECT count(*), md5(string_agg(id || title || body::text, ',' ORDER BY id)) FROM post;
             SELECT count(*) FROM s.other; SELECT count(*), twice(4) FROM titles;
             SELECT relname, rolname FROM pg_class c JOIN pg_roles r ON r.oid = relowner
               WHERE relnamespace IN ('public'::regnamespace, 's'::regnamespace) ORDER BY 1;
             SELECT extname, rolname FROM pg_extension e JOIN pg_roles r ON r.oid = extowner ORDER BY 1;
             SELECT nextval('post_id_seq') > 50000;
             SELECT datdba::regrole, datacl FROM pg_database WHERE datname = current_database();
             SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user;"
        }
    }
}

fn cluster() -> String {
    let version = std::fs::read_dir("/usr/lib/postgresql").unwrap().next().unwrap().unwrap().file_name();
    format!("postgresql@{}-main.service", version.to_str().unwrap())
}

async fn a_server_that_is_down_is_not_without_databases() {
    for (engine, unit) in [(Engine::Mariadb, "mariadb.service".to_owned()), (Engine::Postgresql, cluster())] {
        let systemctl = |verb: &str| assert!(Command::new("systemctl").args([verb, &unit]).status().unwrap().success());
        systemctl("stop");
        let error = sql().states(engine, &["blog".to_owned()].into()).await.unwrap_err();
        systemctl("start");
        assert!(error.code.ends_with(".down") && error.retryable && error.hint.is_some(), "{error:?}");
        println!("{error} / {:?}", error.hint);
    }
}

async fn what_the_question_of_a_pass_costs() {
    for engine in [Engine::Mariadb, Engine::Postgresql] {
        let names: BTreeSet<String> = (0..10).map(|n| format!("socle-none-{n}")).collect();
        let began = Instant::now();
        for _ in 0..10 {
            sql().states(engine, &names).await.unwrap();
        }
        let each = began.elapsed() / 10;
        println!("{engine:?}: {each:?}");
        assert!(each < Duration::from_secs(1));
    }
}
