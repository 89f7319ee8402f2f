#![expect(clippy::disallowed_methods, reason = "the place that starts programs")]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Capture, Command, Exit, Input, Output, ProcessError};

/// What every program finds: where Debian keeps its programs, and messages that can be read.
pub(super) const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C.UTF-8")];

/// How much of the standard error is kept: its end.
const ERROR_TAIL: usize = 64 << 10;

/// How long a stream that a grandchild still holds open is read after the child's end.
const DRAIN: Duration = Duration::from_secs(2);

/// A started child. Its process group dies with this value unless the child has ended.
pub(super) struct Running {
    program: PathBuf,
    child: tokio::process::Child,
    group: Option<i32>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    whole: Option<usize>,
}

impl Running {
    pub(super) fn start(command: Command) -> Result<Self, ProcessError> {
        let Command { program, args, env, stdin, identity, cwd, capture, dies, .. } = command;
        let cannot = |error| ProcessError::Start(program.clone(), error);
        let mut child = tokio::process::Command::new(&program);
        child.args(args).env_clear().envs(ENVIRONMENT).envs(env);
        child.current_dir(cwd.as_deref().unwrap_or(Path::new("/")));
        let stdin = match stdin {
            Input::Bytes(bytes) => {
                child.stdin(if bytes.is_empty() { Stdio::null() } else { Stdio::piped() });
                bytes
            }
            Input::File(file) => {
                child.stdin(file);
                Vec::new()
            }
        };
        let whole = match capture {
            Capture::Whole(limit) => Some(limit),
            Capture::Tail(_) | Capture::File(_) => None,
        };
        let tail = match capture {
            Capture::Whole(limit) => limit.saturating_add(1),
            Capture::Tail(limit) => limit,
            Capture::File(_) => 0,
        };
        match capture {
            Capture::File(file) => child.stdout(file).stderr(Stdio::piped()),
            Capture::Whole(_) | Capture::Tail(_) => child.stdout(Stdio::piped()).stderr(Stdio::piped()),
        };
        if let Some((uid, gid)) = identity {
            child.uid(uid).gid(gid);
        }
        own_session(&mut child);
        if dies {
            die_with_us(&mut child);
        }
        let mut child = child.spawn().map_err(cannot)?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok());
        feed(child.stdin.take(), stdin);
        let stdout = child.stdout.take().map(|from| Reader::start(from, tail, whole.is_some()));
        let stderr = child.stderr.take().map(|from| Reader::start(from, ERROR_TAIL, false));
        Ok(Self { program, child, group, stdout, stderr, whole })
    }

    /// Waits for the child, or for its standard output to grow over the limit.
    pub(super) async fn end(&mut self) -> io::Result<Option<Exit>> {
        let full = async {
            match &self.stdout {
                Some(reader) => reader.full.notified().await,
                None => std::future::pending().await,
            }
        };
        let status = tokio::select! {
            status = self.child.wait() => status?,
            () = full => return Ok(None),
        };
        self.group = None;
        Ok(Some(match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        }))
    }

    pub(super) async fn collect(mut self, exit: Option<Exit>) -> Result<Output, ProcessError> {
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let stdout = Reader::finish(stdout).await;
        let stderr = Reader::finish(stderr).await;
        match (exit, self.whole) {
            (Some(exit), whole) if whole.is_none_or(|limit| stdout.len() <= limit) => {
                Ok(Output { exit, stdout, stderr })
            }
            (_, limit) => Err(ProcessError::TooMuch(self.program.clone(), limit.unwrap_or_default())),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // Only fails if the group is gone already. The runtime reaps the child.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// A session of its own (a terminal's signals do not reach it, and it can be ended as a group) and
/// Debian's usual umask, whatever ours is.
#[allow(unsafe_code)]
fn own_session(child: &mut tokio::process::Command) {
    // SAFETY: runs between fork and exec and calls only setsid(2) and umask(2), both
    // async-signal-safe; it allocates nothing.
    unsafe {
        child.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
            Ok(())
        });
    }
}

/// The kernel's word on the parent's death (prctl(2), PR_SET_PDEATHSIG). It is set after the change of
/// identity, which would clear it.
#[allow(unsafe_code)]
fn die_with_us(child: &mut tokio::process::Command) {
    let us = rustix::process::getpid();
    // SAFETY: runs between fork and exec and calls only prctl(2) and getppid(2), both
    // async-signal-safe; it allocates nothing.
    unsafe {
        child.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // We may have died before the kernel knew.
            match rustix::process::getppid() == Some(us) {
                true => Ok(()),
                false => Err(io::ErrorKind::Interrupted.into()),
            }
        });
    }
}

/// A program that does not read all of its input closes the pipe; that is its own affair.
fn feed(to: Option<tokio::process::ChildStdin>, bytes: Vec<u8>) {
    if let Some(mut to) = to {
        tokio::spawn(async move {
            let _ = to.write_all(&bytes).await;
        });
    }
}

/// Reads a stream to its end into a bounded buffer.
struct Reader {
    kept: Arc<Mutex<Vec<u8>>>,
    full: Arc<tokio::sync::Notify>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Keeps the last `keep` bytes; with `head`, the first, and says when there are that many.
    fn start(mut from: impl AsyncRead + Unpin + Send + 'static, keep: usize, head: bool) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let full = Arc::new(tokio::sync::Notify::new());
        let (into, tell) = (kept.clone(), full.clone());
        let task = tokio::spawn(async move {
            let mut chunk = vec![0; 32 << 10];
            while let Ok(read @ 1..) = from.read(&mut chunk).await {
                let mut kept = lock(&into);
                kept.extend_from_slice(&chunk[..read]);
                if head && kept.len() >= keep {
                    kept.truncate(keep);
                    tell.notify_one();
                    return;
                }
                // Cut only now and then: dropping the front moves everything behind it.
                if kept.len() > keep * 2 {
                    let from = kept.len() - keep;
                    kept.drain(..from);
                }
            }
            let mut kept = lock(&into);
            let from = kept.len().saturating_sub(keep);
            kept.drain(..from);
        });
        Self { kept, full, task }
    }

    async fn finish(reader: Option<Self>) -> Vec<u8> {
        let Some(mut reader) = reader else { return Vec::new() };
        if timeout(DRAIN, &mut reader.task).await.is_err() {
            reader.task.abort();
        }
        std::mem::take(&mut *lock(&reader.kept))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
