//! Children: programs run by argument vector, in a clean environment, within bounds.
//!
//! The only place that starts programs (`clippy.toml` says so to the rest). There is no shell and no
//! search path of the caller: the environment is empty but for `PATH`, `LC_ALL=C.UTF-8` and what the
//! command names. Secrets go in by standard input or environment, never by argument: arguments are
//! shown in errors and to every user of the machine.

mod child;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use super::PortError;
use child::Running;

/// How much of each stream is kept when nothing else is said.
const CAPTURE: usize = 16 << 20;

/// A program to run. `Debug` shows neither the standard input nor the environment's values.
pub struct Command {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Input,
    identity: Option<(u32, u32)>,
    cwd: Option<PathBuf>,
    timeout: Duration,
    capture: Capture,
    dies: bool,
}

/// What the program reads.
enum Input {
    Bytes(Vec<u8>),
    /// From where this file stands, so that a large input never goes through our memory.
    File(File),
}

/// What becomes of what the program prints.
enum Capture {
    /// Kept whole; more than this many bytes on standard output ends the program and is an error, so
    /// that a parser never sees a cut text.
    Whole(usize),
    /// Only the last bytes are kept.
    Tail(usize),
    /// Standard output goes to this file, the end of the standard error is kept.
    File(File),
}

impl Command {
    /// `program` is looked up in the fixed `PATH` unless it is absolute. Stopped after 60 s unless
    /// another limit is set.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Input::Bytes(Vec::new()),
            identity: None,
            cwd: None,
            timeout: Duration::from_secs(60),
            capture: Capture::Whole(CAPTURE),
            dies: false,
        }
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Bytes for its standard input; without them it reads end of file.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// A file for its standard input, read from where it stands.
    pub fn stdin_from(mut self, file: File) -> Self {
        self.stdin = Input::File(file);
        self
    }

    /// Its standard output goes into this file, at where it stands.
    pub fn stdout_to(mut self, file: File) -> Self {
        self.capture = Capture::File(file);
        self
    }

    /// Runs as this user and group, without supplementary groups.
    pub fn identity(mut self, uid: u32, gid: u32) -> Self {
        self.identity = Some((uid, gid));
        self
    }

    pub fn cwd(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Most bytes of standard output; more is [`ProcessError::TooMuch`].
    pub fn limit(mut self, bytes: usize) -> Self {
        self.capture = Capture::Whole(bytes);
        self
    }

    /// Keeps only the last bytes of standard output.
    pub fn tail(mut self, bytes: usize) -> Self {
        self.capture = Capture::Tail(bytes);
        self
    }

    /// For a program that must not go on without us: the kernel kills it when the thread that started
    /// it ends. So not to be started from a thread that ends sooner than the program.
    pub fn dies_with_us(mut self) -> Self {
        self.dies = true;
        self
    }

    /// The program and its arguments, for somebody else to run.
    pub(super) fn words(&self) -> Vec<String> {
        std::iter::once(self.program.display().to_string()).chain(self.args.iter().cloned()).collect()
    }

    /// Its whole environment, as `NAME=value`.
    pub(super) fn environment(&self) -> Vec<String> {
        let own = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        child::ENVIRONMENT.into_iter().chain(own).map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "ended with code {code}"),
            Exit::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

#[derive(Debug)]
pub struct Output {
    pub exit: Exit,
    pub stdout: Vec<u8>,
    /// The end of it, at most 64 KiB.
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}

/// A program that could not be run to its end, or (from [`run_ok`]) that failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start `{}`", .0.display())]
    Start(PathBuf, #[source] io::Error),
    #[error("cannot follow `{}`", .0.display())]
    Follow(PathBuf, #[source] io::Error),
    #[error("`{}` did not end within {} s and was stopped", .0.display(), .1.as_secs())]
    Timeout(PathBuf, Duration),
    #[error("`{}` printed more than {} bytes and was stopped", .0.display(), .1)]
    TooMuch(PathBuf, usize),
    #[error("`{}` {exit}: {tail}", .program.display())]
    Failed { program: PathBuf, exit: Exit, tail: String },
}

impl ProcessError {
    /// As a port's answer under that port's own code.
    pub fn port(self, code: &'static str) -> PortError {
        let error = PortError::new(code, self.to_string());
        match self {
            ProcessError::Start(_, source) | ProcessError::Follow(_, source) => error.because(source),
            ProcessError::Timeout(..) => error.retryable(),
            ProcessError::TooMuch(..) | ProcessError::Failed { .. } => error,
        }
    }
}

/// Runs the program to its end, whatever that end is. Dropping the future kills the program and its
/// process group. For one that must not be broken off see `Systemd::run_apart`.
pub async fn run(command: Command) -> Result<Output, ProcessError> {
    let program = command.program.clone();
    let limit = command.timeout;
    let mut running = Running::start(command)?;
    let Ok(ended) = timeout(limit, running.end()).await else {
        return Err(ProcessError::Timeout(program, limit));
    };
    let exit = ended.map_err(|error| ProcessError::Follow(program.clone(), error))?;
    running.collect(exit).await
}

/// Runs the program; an end other than code 0 is an error that carries the last lines it printed.
pub async fn run_ok(command: Command) -> Result<Output, ProcessError> {
    let program = command.program.clone();
    let output = run(command).await?;
    if output.success() {
        return Ok(output);
    }
    let said = if output.stderr.iter().all(u8::is_ascii_whitespace) { &output.stdout } else { &output.stderr };
    Err(ProcessError::Failed { program, exit: output.exit, tail: tail_of(said, 2000) })
}

/// The last `limit` bytes as text, beginning at a line's start if there is one, escaped by
/// [`printable`].
pub fn tail_of(bytes: &[u8], limit: usize) -> String {
    let from = bytes.len().saturating_sub(limit);
    let mut tail = &bytes[from..];
    if from > 0
        && let Some(line) = tail.iter().position(|b| *b == b'\n').filter(|at| at + 1 < tail.len())
    {
        tail = &tail[line + 1..];
    }
    printable(tail).trim_end().to_owned()
}

/// What a program printed, made safe for a terminal and a page: line breaks and tabs stay, other
/// control characters are escaped, bytes that are no UTF-8 are replaced.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\n' | '\t' => text.push(c),
            // A bare carriage return redraws a progress line; as a line break it reads well.
            '\r' => text.push('\n'),
            c if c.is_control() => text.extend(c.escape_unicode()),
            c => text.push(c),
        }
    }
    text
}

/// Becomes another program, for good: it gets our terminal and our exit code. Returns only if it cannot
/// be started.
#[expect(clippy::disallowed_methods, reason = "the place that starts programs")]
pub fn hand_over(program: &str, args: &[String]) -> io::Error {
    use std::os::unix::process::CommandExt;
    std::process::Command::new(program).args(args).exec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn hands_over_input_and_gets_output() {
        let output = run(Command::new("cat").stdin("hello")).await.unwrap();
        assert_eq!((output.exit, output.stdout.as_slice()), (Exit::Code(0), b"hello".as_slice()));
    }

    #[tokio::test]
    async fn files_go_in_and_out_from_where_they_stand() {
        use std::io::{Read, Seek, SeekFrom, Write};
        let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all(b"header\nbody\n").unwrap();
        from.seek(SeekFrom::Start(7)).unwrap();
        to.write_all(b"before\n").unwrap();
        run_ok(Command::new("cat").stdin_from(from).stdout_to(to.try_clone().unwrap())).await.unwrap();
        let mut text = String::new();
        to.rewind().unwrap();
        to.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before\nbody\n");
    }

    #[tokio::test]
    async fn the_environment_is_clean() {
        let output = run(Command::new("env").env("ONE", "1")).await.unwrap();
        let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["LC_ALL=C.UTF-8", "ONE=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    }

    #[tokio::test]
    async fn bounds_hold() {
        let endless = run(Command::new("cat").arg("/dev/zero").limit(1000)).await;
        assert!(matches!(endless, Err(ProcessError::TooMuch(_, 1000))), "{endless:?}");
        let exact = run(Command::new("head").args(["-c", "1000", "/dev/zero"]).limit(1000)).await.unwrap();
        assert_eq!(exact.stdout.len(), 1000);
        let one_more = run(Command::new("head").args(["-c", "1001", "/dev/zero"]).limit(1000)).await;
        assert!(matches!(one_more, Err(ProcessError::TooMuch(..))), "{one_more:?}");
        let tail = run(Command::new("seq").args(["1", "100000"]).tail(13)).await.unwrap();
        assert_eq!(tail.stdout, b"99999\n100000\n");
    }

    #[tokio::test]
    async fn a_slow_program_and_its_children_are_stopped() {
        let began = Instant::now();
        let slow =
            run(Command::new("setsid").args(["--wait", "sleep", "100"]).timeout(Duration::from_millis(200))).await;
        assert!(matches!(slow, Err(ProcessError::Timeout(..))), "{slow:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn failures_say_how() {
        assert!(matches!(run(Command::new("/nonexistent")).await, Err(ProcessError::Start(..))));
        let error = run_ok(Command::new("ls").arg("/nonexistent")).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`ls` ended with code 2") && text.contains("No such file"), "{text}");
    }

    #[test]
    fn output_is_made_safe() {
        assert_eq!(printable(b"a\x1b[31mb\xff\n"), "a\\u{1b}[31mb\u{fffd}\n");
        assert_eq!(tail_of(b"first\nsecond\nthird\n", 10), "third");
    }
}
