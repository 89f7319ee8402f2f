//! A writer in a process of its own, to be killed while it writes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use socle::model::fleet::Mark;

use crate::place::{Place, direct, mark, put};

const WRITER: &str = "killed::put_until_killed";

/// Starts a writer, kills it after it told of `pushes` pushes, at whatever it does then. Gives the marks it told.
pub fn put_and_kill(place: &Place, pushes: usize) -> Vec<Mark> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", WRITER])
        .env("SOCLE_TEST_STORE", &place.raw)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told: Vec<Mark> = lines.by_ref().filter_map(|line| read(&line)).take(pushes).collect();
    writer.kill().unwrap();
    writer.wait().unwrap();
    told.extend(lines.filter_map(|line| read(&line)));
    assert!(told.len() >= pushes, "the writer ended by itself");
    told
}

fn read(line: &str) -> Option<Mark> {
    Some(mark(0, line.strip_prefix("put ")?.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test that kills it"]
async fn put_until_killed() {
    let Ok(url) = std::env::var("SOCLE_TEST_STORE") else { return };
    let store = socle::controller::store::Store::open(&url.parse().unwrap()).await.unwrap();
    loop {
        let put = put(&store, &direct([("s0", "to s0"), ("s1", "to s1")])).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "put {}", put.marks[&crate::place::name("s0")].generation).unwrap();
        out.flush().unwrap();
    }
}
