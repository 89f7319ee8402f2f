//! Where log lines go: to the journal with fields when systemd runs us, else to standard error.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// `under_systemd`: standard error is connected to the journal (systemd.exec(5), `JOURNAL_STREAM`).
pub fn init(under_systemd: bool, filter: Option<&str>) {
    let filter = EnvFilter::builder().parse_lossy(filter.unwrap_or("info"));
    let registry = tracing_subscriber::registry().with(filter);
    match under_systemd.then(tracing_journald::layer) {
        Some(Ok(journal)) => registry.with(journal.with_field_prefix(Some("SOCLE".to_owned()))).init(),
        Some(Err(_)) | None => registry.with(fmt::layer().with_writer(std::io::stderr).without_time()).init(),
    }
}
