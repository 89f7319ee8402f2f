use std::time::Duration;

use crate::host::{TaskOutput, Tasks};
use crate::model::Content;
use crate::model::unit::ServiceUnit;

/// Units that end well without a word, with code 7 and the words `it broke`, and not at all.
pub struct Ends<'a> {
    pub good: &'a ServiceUnit,
    pub bad: &'a ServiceUnit,
    pub never: &'a ServiceUnit,
}

/// Tasks are named `contract-good`, `contract-bad` and `contract-never` after what they do.
pub async fn tasks(tasks: &dyn Tasks, ends: &Ends<'_>) {
    let good = TaskOutput { code: 0, output: String::new() };
    let secret = Content::new("canary");
    for stdin in [None, Some(&secret)] {
        assert_eq!(tasks.run("contract-good", ends.good, stdin).await.expect("it ends"), good);
    }
    let bad = tasks.run("contract-bad", ends.bad, None).await.expect("it ends");
    assert_eq!(bad, TaskOutput { code: 7, output: "it broke".to_owned() });

    let late = ServiceUnit { timeout_s: 1, ..ends.never.clone() };
    assert_eq!(tasks.run("contract-never", &late, None).await.unwrap_err().code, "task.timeout");

    // Whoever waits may go away; the next one ends what is left and begins anew.
    let never = tasks.run("contract-never", ends.never, None);
    assert!(tokio::time::timeout(Duration::from_secs(2), never).await.is_err(), "it does not end");
    assert_eq!(tasks.run("contract-never", &late, None).await.unwrap_err().code, "task.timeout");
}
