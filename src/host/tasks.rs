//! Programs of an application, each run to its end as a unit of its own: the port [`Tasks`].
//!
//! The unit's file lives in `/run/systemd/system` and goes when the task is over; a reboot forgets it, and
//! the next pass runs the task again.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::process::printable;
use super::{PortError, PortResult, TaskOutput, Tasks, Units};
use crate::durable;
use crate::model::Content;
use crate::model::unit::ServiceUnit;

/// How much of a task's output is kept: its end.
const OUTPUT: u64 = 16 << 10;

const UNITS: &str = "run/systemd/system";
/// Standard input and output of tasks, root's alone.
const FILES: &str = "run/socle/tasks";

pub struct UnitTasks {
    root: PathBuf,
    units: Arc<dyn Units>,
}

impl UnitTasks {
    pub fn new(root: PathBuf, units: Arc<dyn Units>) -> Self {
        Self { root, units }
    }
}

/// Where the parts of one task are.
struct Task {
    unit: String,
    unit_file: PathBuf,
    stdin: PathBuf,
    stdout: PathBuf,
}

impl Task {
    fn new(root: &Path, name: &str) -> Self {
        let unit = format!("socle-task-{name}.service");
        let file = |suffix: &str| root.join(FILES).join(format!("{name}.{suffix}"));
        Self { unit_file: root.join(UNITS).join(&unit), stdin: file("in"), stdout: file("out"), unit }
    }

    fn write(&self, unit: &ServiceUnit, stdin: Option<&Content>) -> Result<(), TaskError> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = self.stdin.parent().unwrap_or(Path::new("/"));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| TaskError::Directory { path: directory.to_owned(), source })?;
        let mut unit = unit.clone();
        if let Some(stdin) = stdin {
            durable::write(&self.stdin, stdin.bytes(), 0o600).map_err(TaskError::Write)?;
            unit.stdin = Some(self.stdin.display().to_string());
        }
        // Emptied: systemd writes from the beginning of a file, and an older output may be longer.
        durable::write(&self.stdout, b"", 0o600).map_err(TaskError::Write)?;
        unit.stdout = Some(self.stdout.display().to_string());
        std::fs::create_dir_all(self.unit_file.parent().unwrap_or(Path::new("/")))
            .map_err(|source| TaskError::Directory { path: self.unit_file.clone(), source })?;
        durable::write(&self.unit_file, unit.render(&self.unit).as_bytes(), 0o644).map_err(TaskError::Write)
    }

    fn output(&self) -> Result<String, TaskError> {
        let read = || {
            let mut file = std::fs::File::open(&self.stdout)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(printable(&bytes))
        };
        read().map_err(|source| TaskError::Output { path: self.stdout.clone(), source })
    }

    fn remove(&self) -> Result<(), TaskError> {
        for path in [&self.stdin, &self.stdout, &self.unit_file] {
            durable::remove(path).map_err(TaskError::Write)?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error("cannot make the directory `{path}`")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("cannot keep the files of a task")]
    Write(#[source] durable::DurableError),
    #[error("cannot read `{path}`")]
    Output { path: PathBuf, source: std::io::Error },
}

impl From<TaskError> for PortError {
    fn from(error: TaskError) -> PortError {
        PortError::new("task.files", error.to_string()).because(error)
    }
}

#[async_trait]
impl Tasks for UnitTasks {
    async fn run(&self, name: &str, unit: &ServiceUnit, stdin: Option<&Content>) -> PortResult<TaskOutput> {
        let task = Task::new(&self.root, name);
        let names = BTreeSet::from([task.unit.clone()]);
        let before = self.units.states(&names).await?.remove(&task.unit).unwrap_or_default();
        if before.active == "activating" || before.active == "active" {
            self.units.stop(&task.unit).await?;
        }
        task.write(unit, stdin)?;
        let ended = self.units.start(&task.unit).await;
        let state = self.units.details(&names).await?.remove(&task.unit).unwrap_or_default();
        let output = task.output()?;
        task.remove()?;
        match ended {
            Ok(()) => Ok(TaskOutput { code: 0, output }),
            // It ran and ended with a code: the caller judges that.
            Err(_) if state.result == "exit-code" => Ok(TaskOutput { code: state.exit, output }),
            Err(error) => Err(error),
        }
    }
}
