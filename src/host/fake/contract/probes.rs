use std::time::Duration;

use crate::host::{ProbeAnswer, Probes};

const LIMIT: Duration = Duration::from_secs(5);

/// `host` answers 418 with the body `contract` at every path; whoever asks for `silent` gets no answer.
pub async fn probes(probes: &dyn Probes, host: &str, silent: &str) {
    for path in ["/", "/some/path?query=1"] {
        let answer = probes.get(host, path, LIMIT).await.expect("an answer");
        assert_eq!(answer, ProbeAnswer { status: 418, body: "contract".to_owned() });
    }
    let none = probes.get(silent, "/", LIMIT).await.unwrap_err();
    assert_eq!((none.code, none.retryable), ("probe.no-answer", true));
    assert_eq!(probes.get(host, "no/path", LIMIT).await.unwrap_err().code, "probe.path");
    assert_eq!(probes.get(host, "http://other.example.org/", LIMIT).await.unwrap_err().code, "probe.path");
    assert_eq!(probes.get("two\nlines", "/", LIMIT).await.unwrap_err().code, "probe.host");
}
