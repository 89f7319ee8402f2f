use super::*;
use crate::durable::{self, DurableError};
use crate::host::PortError;
use crate::host::systemd::JOB_FAILED;
use crate::resources::About;

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let file = host.path(observe::UNITS).join(name);
    match change {
        Change::WriteUnit { text, .. } => durable::write(&file, text.as_bytes(), 0o644).map_err(disk),
        Change::RemoveUnit => {
            durable::remove(&file).map_err(disk)?;
            durable::remove(&host.path(crate::model::unit::INPUTS_DIR).join(name)).map_err(disk)?;
            host.units.daemon_reload().await.map_err(host_fault)
        }
        Change::Enable => host.units.enable(name).await.map_err(|error| unknown(name, error)),
        Change::Disable => host.units.disable(name).await.map_err(host_fault),
        Change::Mask => host.units.mask(name).await.map_err(host_fault),
        Change::Unmask => host.units.unmask(name).await.map_err(host_fault),
        Change::Start => host.units.start(name).await.map_err(|error| fault_of(name, error)),
        Change::Restart => host.units.restart(name).await.map_err(|error| fault_of(name, error)),
        Change::Stop => host.units.stop(name).await.map_err(host_fault),
        Change::Reload => host.units.daemon_reload().await.map_err(host_fault),
    }
}

fn disk(error: DurableError) -> ApplyError {
    ApplyError::host("service.write", &error, None)
}

fn host_fault(error: PortError) -> ApplyError {
    ApplyError { report: error.report(), about: About::Host }
}

/// A unit of ours that does not come up speaks about what it runs; everything else is the host's.
fn fault_of(name: &str, error: PortError) -> ApplyError {
    let about = if error.code == JOB_FAILED && name.starts_with("socle-") { About::Release } else { About::Host };
    ApplyError { about, ..unknown(name, error) }
}

/// systemd's "no such unit" in the words of the document.
fn unknown(name: &str, error: PortError) -> ApplyError {
    if error.code != "systemd.no-unit" {
        return host_fault(error);
    }
    let report = ErrorReport {
        code: "service.unknown-unit".to_owned(),
        message: format!("there is no unit `{name}` on this server"),
        causes: Vec::new(),
        hint: Some("is the package installed that brings it, and the name complete?".to_owned()),
    };
    ApplyError { report, about: About::Host }
}
