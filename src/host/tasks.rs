//! Tasks as units of systemd: they run under their own user in their own sandbox, and one that an earlier
//! pass left running is found again by its name.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::process::tail_of;
use super::systemd::JOB_FAILED;
use super::{PortError, PortResult, TaskOutput, Tasks, Units};
use crate::durable::{self, DurableError};
use crate::model::Content;
use crate::model::unit::{Readiness, ServiceUnit};

const UNITS: &str = "/run/systemd/system";
/// Input and output of tasks; only root may look in.
const FILES: &str = "/run/socle/tasks";
/// How much of the output is told.
const OUTPUT: usize = 64 << 10;

pub struct UnitTasks {
    root: PathBuf,
    units: Arc<dyn Units>,
}

#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error("cannot make `{0}`")]
    Directory(PathBuf, #[source] io::Error),
    #[error("cannot write the files of the task `{0}`")]
    Write(String, #[source] DurableError),
    #[error("cannot read what the task `{0}` printed")]
    Output(String, #[source] DurableError),
    #[error("the task `{0}` did not end within {1} s and was stopped; its last words: {2}")]
    Timeout(String, u32, String),
}

impl From<TaskError> for PortError {
    fn from(error: TaskError) -> PortError {
        let text = error.to_string();
        match error {
            TaskError::Directory(_, source) => PortError::new("task.files", text).because(source),
            TaskError::Write(_, source) | TaskError::Output(_, source) => {
                PortError::new("task.files", text).because(source)
            }
            TaskError::Timeout(..) => PortError::new("task.timeout", text),
        }
    }
}

impl UnitTasks {
    pub fn new(root: &Path, units: Arc<dyn Units>) -> Self {
        Self { root: root.to_owned(), units }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

/// The files of one task. Removed when dropped: one of them may hold a secret.
struct Files {
    unit: PathBuf,
    stdin: PathBuf,
    stdout: PathBuf,
}

impl Files {
    fn write(&self, name: &str, text: &str, stdin: Option<&Content>) -> Result<(), TaskError> {
        for (file, mode) in [(&self.unit, 0o755), (&self.stdin, 0o700)] {
            directory(file.parent().unwrap_or(Path::new("/")), mode)?;
        }
        let failed = |source| TaskError::Write(name.to_owned(), source);
        durable::write(&self.unit, text.as_bytes(), 0o644).map_err(failed)?;
        if let Some(content) = stdin {
            durable::write(&self.stdin, content.bytes(), 0o600).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in [&self.unit, &self.stdin, &self.stdout] {
            // On a memory file system that root owns; what stays is replaced by the next run.
            let _ = durable::remove(file);
        }
    }
}

fn directory(path: &Path, mode: u32) -> Result<(), TaskError> {
    let failed = |source| TaskError::Directory(path.to_owned(), source);
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        directory(parent, 0o755)?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

#[async_trait]
impl Tasks for UnitTasks {
    async fn run(&self, name: &str, unit: &ServiceUnit, stdin: Option<&Content>) -> PortResult<TaskOutput> {
        let unit_name = format!("socle-task-{name}.service");
        let (input, output) = (format!("{FILES}/{name}.in"), format!("{FILES}/{name}.out"));
        let files =
            Files { unit: self.path(UNITS).join(&unit_name), stdin: self.path(&input), stdout: self.path(&output) };
        // Of an earlier pass that was killed.
        self.units.stop(&unit_name).await?;
        let text = ServiceUnit {
            readiness: Readiness::Oneshot,
            // It would be taken from a service of the instance when the task ends.
            runtime_directory: None,
            inputs: None,
            wanted_by: Vec::new(),
            stdin: stdin.map(|_| input),
            stdout: Some(output),
            ..unit.clone()
        }
        .render(&unit_name);
        files.write(name, &text, stdin)?;

        let started = self.units.start(&unit_name).await;
        let ended = self.end(name, &unit_name, unit.timeout_s, started, &files).await;
        // Forgets a failure; without it systemd would keep the unit in memory.
        let forgotten = self.units.stop(&unit_name).await;
        drop(files);
        let ended = ended?;
        forgotten?;
        Ok(ended)
    }
}

impl UnitTasks {
    async fn end(
        &self,
        name: &str,
        unit: &str,
        timeout_s: u32,
        started: PortResult<()>,
        files: &Files,
    ) -> PortResult<TaskOutput> {
        let printed = durable::read(&files.stdout).map_err(|error| TaskError::Output(name.to_owned(), error))?;
        let output = tail_of(&printed.unwrap_or_default(), OUTPUT);
        let error = match started {
            Ok(()) => return Ok(TaskOutput { code: 0, output }),
            Err(error) if error.code == JOB_FAILED => error,
            Err(error) => return Err(error),
        };
        let states = self.units.details(&[unit.to_owned()].into()).await?;
        let state = states.get(unit).cloned().unwrap_or_default();
        match state.result.as_str() {
            "timeout" => Err(TaskError::Timeout(name.to_owned(), timeout_s, output).into()),
            // It did not get so far as to end.
            _ if state.exit == 0 => Err(error),
            // Its program may not have been started at all: systemd's own words are in the journal.
            _ if output.is_empty() => Ok(TaskOutput { code: state.exit, output: error.report().to_string() }),
            _ => Ok(TaskOutput { code: state.exit, output }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeUnits;

    fn unit() -> ServiceUnit {
        ServiceUnit {
            description: "Install".into(),
            after: vec![],
            readiness: Readiness::Exec,
            exec: vec!["/usr/bin/php".into()],
            reload: None,
            user: Some("socle-blog".into()),
            environment: Default::default(),
            working_directory: None,
            runtime_directory: Some("socle-blog".into()),
            sandbox: Default::default(),
            limits: Default::default(),
            slice: "socle.slice".into(),
            timeout_s: 60,
            ending: Default::default(),
            wanted_by: vec!["multi-user.target".into()],
            stdin: None,
            stdout: None,
            inputs: None,
        }
    }

    #[tokio::test]
    async fn runs_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let units = Arc::new(FakeUnits::below(root.path()));
        let tasks = UnitTasks::new(root.path(), units.clone());
        let secret = Content::new("canary-secret");
        assert_eq!(tasks.run("blog-install", &unit(), Some(&secret)).await.unwrap().code, 0);

        units.fail("socle-task-blog-install.service", 3);
        let failed = tasks.run("blog-install", &unit(), Some(&secret)).await.unwrap();
        assert_eq!(failed.code, 3);
        assert!(!failed.output.contains("canary"));

        let unit = "socle-task-blog-install.service";
        assert_eq!(
            units.calls().iter().filter(|call| call.starts_with("start")).collect::<Vec<_>>(),
            [&format!("start {unit}"), &format!("start {unit}")]
        );
        for left in ["run/systemd/system", "run/socle/tasks"] {
            assert_eq!(std::fs::read_dir(root.path().join(left)).unwrap().count(), 0, "{left}");
        }
        let mode = std::fs::metadata(root.path().join("run/socle/tasks")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_task_left_running_is_stopped_first() {
        let root = tempfile::tempdir().unwrap();
        let units = Arc::new(FakeUnits::below(root.path()).packaged("socle-task-x.service", "static", "activating"));
        UnitTasks::new(root.path(), units.clone()).run("x", &unit(), None).await.unwrap();
        assert_eq!(units.calls()[0], "stop socle-task-x.service");
    }
}
