//! What the agent would do, and that it is enough: `tests/plans/<case>/world.txt` makes a server (commands
//! of [`server`]; no such file: a blank one), the plan of `document.toml` on it is `plan.txt`. Below the line
//! stands what is left when the plan was executed, and then whether a second apply has anything to do.
//!
//! A new case needs no code. `UPDATE=1` writes what came out; read the difference before committing.

mod server;

use std::path::Path;

use server::Server;

#[tokio::test(start_paused = true)]
async fn plans() {
    if server::skipped() {
        return;
    }
    let mut wrong = Vec::new();
    for case in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")).unwrap() {
        let case = case.unwrap().path();
        let text = outcome(&case).await;
        let golden = case.join("plan.txt");
        if std::env::var_os("UPDATE").is_some() {
            #[expect(clippy::disallowed_methods, reason = "writes what came out, when asked to")]
            std::fs::write(&golden, &text).unwrap();
        }
        if std::fs::read_to_string(&golden).ok().as_deref() != Some(&text) {
            wrong.push(golden);
        }
    }
    assert!(wrong.is_empty(), "not what came out: {wrong:#?}");
}

async fn outcome(case: &Path) -> String {
    let server = Server::new(case, 13);
    let world = std::fs::read_to_string(case.join("world.txt")).unwrap_or_default();
    for command in world.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let said = server.tell(command).await;
        assert!(!said.starts_with("error"), "{}: {command}: {said}", case.display());
    }
    let plan = server.plan("document.toml").await;
    assert_eq!(plan, server.plan("document.toml").await, "a plan changes nothing");
    let first = server.tell("given document.toml").await;
    let second = server.tell("given document.toml").await;
    format!("{plan}--\n{first}{second}")
}
