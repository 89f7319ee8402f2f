use super::observe::DIRECTORY;
use super::*;
use crate::durable;
use crate::host::PortError;
use crate::host::systemd::JOB_FAILED;
use crate::model::unit::INPUTS_DIR;
use crate::resources::About;

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let units = &host.units;
    let path = host.path(format!("{DIRECTORY}/{name}"));
    match change {
        Change::WriteUnit { text, .. } => {
            durable::write(&path, text.as_bytes(), 0o644).map_err(|e| ApplyError::host("service.write", &e, None))
        }
        Change::RemoveUnit => {
            let gone = durable::remove(&path).and_then(|()| durable::remove(&host.path(format!("{INPUTS_DIR}/{name}"))));
            gone.map_err(|error| ApplyError::host("service.remove", &error, None))?;
            units.daemon_reload().await.map_err(about)
        }
        Change::Enable => units.enable(name).await.map_err(about),
        Change::Disable => units.disable(name).await.map_err(about),
        Change::Mask => units.mask(name).await.map_err(about),
        Change::Unmask => units.unmask(name).await.map_err(about),
        Change::Start => units.start(name).await.map_err(about),
        Change::Restart => units.restart(name).await.map_err(about),
        Change::Stop => units.stop(name).await.map_err(about),
        Change::Reload => units.daemon_reload().await.map_err(about),
    }
}

/// That a unit's own program failed speaks about the release; everything else about the host.
fn about(error: PortError) -> ApplyError {
    let about = if error.code == JOB_FAILED { About::Release } else { About::Host };
    ApplyError { report: error.report(), about }
}
