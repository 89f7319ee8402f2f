//! Stories of one server: in `tests/scenarios/<name>.txt` each line that begins with `> ` is a command of
//! [`server`], and what follows it is what it says. Documents stand beside them.
//!
//! A new story needs no code. `UPDATE=1` writes what came out; read the difference before committing.

mod server;

use std::path::Path;

use server::Server;

#[tokio::test(start_paused = true)]
async fn scenarios() {
    if server::skipped() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut wrong = Vec::new();
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let story = std::fs::read_to_string(&file).unwrap();
        let told = retold(&folder, &story).await;
        if std::env::var_os("UPDATE").is_some() {
            #[expect(clippy::disallowed_methods, reason = "writes what came out, when asked to")]
            std::fs::write(&file, &told).unwrap();
        } else if story != told {
            wrong.push(format!("{}:\n{told}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "not as told:\n{}", wrong.join("\n"));
}

async fn retold(folder: &Path, story: &str) -> String {
    let server = Server::new(folder, 13);
    let mut told = String::new();
    for line in story.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            told.push_str(&format!("{line}\n{}", server.tell(command).await));
        } else if line.starts_with('#') || line.is_empty() && !told.ends_with("\n\n") {
            told.push_str(&format!("{line}\n"));
        }
    }
    told
}
