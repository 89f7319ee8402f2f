//! Python virtual environments: the port [`crate::host::Builds`] by the system's `python3` and pip
//! ([`PipVenv`]), as a user without powers. Needs the Debian package `python3-venv`.
//!
//! The environment is built in a directory of its own, because the user who builds must reach it and
//! may not reach an instance. Then the path it was built at is replaced by the path it will work at
//! (`pyvenv.cfg` and the scripts in `bin` hold it, nothing else that runs), the modules are compiled
//! for that path, and the tree is handed to root and copied to the stage.
//!
//! Only wheels are taken: building from source would run the code of strangers on this machine before
//! anybody decided to.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::archive::settle::{Links, SettleError, Terms, settle};
use super::{Builds, PortError, PortResult, Progress};

/// In the range Debian reserves, beside the user who unpacks.
pub const BUILD_USER: u32 = 65532;
const PYTHON: &str = "/usr/bin/python3";
/// Where builds are made, each in a directory of a random name.
const WORK: &str = "/var/cache/socle/builds";
const TIME: Duration = Duration::from_secs(20 * 60);
/// Files of an environment: scientific packages have some tens of thousands.
const ENTRIES: u64 = 500_000;
/// Lines of output kept for an error.
const TAIL: usize = 30;

#[derive(Debug, thiserror::Error)]
enum VenvError {
    #[error("building needs root, to hand the work to a user without powers")]
    NotRoot,
    #[error("`{0}` is not a requirement: a project name, then versions, as in `radicale==3.5.0`")]
    Requirement(String),
    #[error("`{0}` is not an index: an `https` or `http` URL, or an absolute path")]
    Index(String),
    #[error("cannot prepare `{0}`")]
    Prepare(PathBuf, #[source] io::Error),
    #[error("cannot start `{0}`")]
    Start(String, #[source] io::Error),
    #[error("{what} took longer than {time:?} and was stopped")]
    Time { what: &'static str, time: Duration },
    #[error("{what} failed ({status}): {tail}")]
    Failed { what: &'static str, status: String, tail: String },
    #[error("cannot take over the environment")]
    Settle(#[source] SettleError),
    #[error("cannot copy the environment to `{0}`")]
    Copy(PathBuf, #[source] io::Error),
}

impl From<VenvError> for PortError {
    fn from(error: VenvError) -> Self {
        let (code, hint) = match &error {
            VenvError::NotRoot => ("build.not-root", Some("run socle as root")),
            VenvError::Requirement(_) | VenvError::Index(_) => ("build.requirement", None),
            VenvError::Prepare(..) | VenvError::Copy(..) => ("build.write", None),
            VenvError::Start(..) => ("build.python", Some("install the package `python3-venv`")),
            VenvError::Time { .. } => ("build.timeout", None),
            VenvError::Failed { what: "python -m venv", .. } => {
                ("build.python", Some("install the package `python3-venv`"))
            }
            VenvError::Failed { .. } => ("build.pip", None),
            VenvError::Settle(_) => ("build.tree", None),
        };
        let mut port = PortError::new(code, error.to_string());
        port.hint = hint.map(str::to_owned);
        port.retryable = code != "build.requirement" && code != "build.not-root";
        port.source = match error {
            VenvError::Prepare(_, source) | VenvError::Start(_, source) | VenvError::Copy(_, source) => {
                Some(source.into())
            }
            VenvError::Settle(source) => Some(source.into()),
            _ => None,
        };
        port
    }
}

/// The port [`Builds`] by `python3 -m venv` and pip.
pub struct PipVenv {
    work: PathBuf,
    user: u32,
    time: Duration,
}

impl Default for PipVenv {
    fn default() -> Self {
        Self::new(WORK)
    }
}

impl PipVenv {
    /// `work` must be below directories that anybody may pass through.
    pub fn new(work: impl Into<PathBuf>) -> Self {
        Self { work: work.into(), user: BUILD_USER, time: TIME }
    }
}

/// Where one build takes place.
struct Site {
    /// Removed when dropped.
    _root: tempfile::TempDir,
    environment: PathBuf,
    home: PathBuf,
    user: u32,
    time: Duration,
}

#[async_trait]
impl Builds for PipVenv {
    async fn venv(
        &self,
        stage: &Path,
        target: &Path,
        requirements: &[String],
        index: Option<&str>,
        progress: &dyn Progress,
    ) -> PortResult<()> {
        let from = check(requirements, index)?;
        let site = self.site()?;
        let python = site.environment.join("bin/python3").to_string_lossy().into_owned();
        let environment = site.environment.to_string_lossy().into_owned();
        site.run("python -m venv", PYTHON, &["-m", "venv", &environment], index, progress).await?;
        let mut pip = vec!["-m", "pip", "install", "--no-input", "--no-cache-dir", "--no-compile"];
        pip.extend(["--disable-pip-version-check", "--only-binary", ":all:", "--progress-bar", "off"]);
        pip.extend(from.iter().map(String::as_str));
        pip.push("--");
        pip.extend(requirements.iter().map(String::as_str));
        site.run("pip install", &python, &pip, index, progress).await?;
        relocate(&site.environment, target)?;
        let place = target.to_string_lossy().into_owned();
        // Checked by nobody at run time, so neither times nor owners matter; nobody may write there.
        let mut compile = vec!["-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"];
        compile.extend(["-s", &environment, "-p", &place, &environment]);
        match site.run("python -m compileall", PYTHON, &compile, index, progress).await {
            // Packages ship files for other versions of Python; they are compiled if they are ever used.
            Ok(()) | Err(VenvError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let stage = stage.to_owned();
        let finished = tokio::task::spawn_blocking(move || finish(&site, &stage)).await;
        finished
            .map_err(|panic| PortError::new("build.tree", "taking over the environment broke off").because(panic))??;
        Ok(())
    }
}

impl PipVenv {
    fn site(&self) -> Result<Site, VenvError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(VenvError::NotRoot);
        }
        let failed = |error: io::Error| VenvError::Prepare(self.work.clone(), error);
        fs::create_dir_all(&self.work).map_err(failed)?;
        // Whatever our umask is: the user who builds passes through.
        fs::set_permissions(&self.work, fs::Permissions::from_mode(0o711)).map_err(failed)?;
        let root = tempfile::Builder::new().prefix("venv-").tempdir_in(&self.work).map_err(failed)?;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).map_err(failed)?;
        let (environment, home) = (root.path().join("environment"), root.path().join("home"));
        for directory in [&environment, &home] {
            fs::create_dir(directory).map_err(failed)?;
            std::os::unix::fs::chown(directory, Some(self.user), Some(self.user)).map_err(failed)?;
        }
        Ok(Site { _root: root, environment, home, user: self.user, time: self.time })
    }
}

impl Site {
    /// Runs a program as the user without powers, in a clean environment; its lines are progress.
    async fn run(
        &self,
        what: &'static str,
        program: &str,
        arguments: &[&str],
        index: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<(), VenvError> {
        #[expect(clippy::disallowed_methods, reason = "its output is told line by line while it runs")]
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .env("PYTHONNOUSERSITE", "1")
            .current_dir(&self.home)
            // Groups are cleared with it.
            .uid(self.user)
            .gid(self.user)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if index.is_some() {
            // Without an index of the document, what the administrator set in /etc/pip.conf holds.
            command.env("PIP_CONFIG_FILE", "/dev/null");
        }
        let mut child = command.spawn().map_err(|error| VenvError::Start(program.to_owned(), error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let watched = tokio::time::timeout(self.time, async {
            let (said, complained) = tokio::join!(follow(stdout, progress), follow(stderr, progress));
            (child.wait().await, if complained.is_empty() { said } else { complained })
        });
        match watched.await {
            Ok((Ok(status), _)) if status.success() => Ok(()),
            Ok((Ok(status), tail)) => {
                Err(VenvError::Failed { what, status: status.to_string(), tail: tail.join("\n") })
            }
            Ok((Err(error), _)) => Err(VenvError::Start(program.to_owned(), error)),
            Err(_) => {
                child.kill().await.map_err(|error| VenvError::Start(program.to_owned(), error))?;
                Err(VenvError::Time { what, time: self.time })
            }
        }
    }
}

/// Hands on the lines of a program and keeps the last.
async fn follow(output: Option<impl AsyncRead + Unpin>, progress: &dyn Progress) -> Vec<String> {
    let mut tail = std::collections::VecDeque::new();
    if let Some(output) = output {
        let mut lines = BufReader::new(output).split(b'\n');
        // Unreadable output ends it: whether the program succeeded is told by its exit.
        while let Ok(Some(line)) = lines.next_segment().await {
            let line: String = String::from_utf8_lossy(&line).chars().take(400).collect();
            let line: String = line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            if line.is_empty() {
                continue;
            }
            progress.say(&line);
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }
    tail.into()
}

/// Where pip is to look, if nothing asked for is more than a name with versions.
pub(super) fn check(requirements: &[String], index: Option<&str>) -> PortResult<Vec<String>> {
    match requirements.iter().find(|requirement| !is_requirement(requirement)) {
        Some(bad) => Err(VenvError::Requirement(bad.clone()).into()),
        None => Ok(index_arguments(index)?),
    }
}

/// Only a name with extras and versions (PEP 508): no option, path, URL or marker.
fn is_requirement(text: &str) -> bool {
    text.len() <= 200
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-[],=<>!~*+ ".contains(c))
}

fn index_arguments(index: Option<&str>) -> Result<Vec<String>, VenvError> {
    let bad = |index: &str| VenvError::Index(index.to_owned());
    let Some(index) = index else { return Ok(Vec::new()) };
    if index.chars().any(|c| c.is_control() || c == ' ') {
        return Err(bad(index));
    }
    if index.starts_with("https://") || index.starts_with("http://") {
        return Ok(vec!["--index-url".to_owned(), index.to_owned()]);
    }
    let path = index.strip_prefix("file://").unwrap_or(index);
    if !path.starts_with('/') {
        return Err(bad(index));
    }
    Ok(vec!["--no-index".to_owned(), "--find-links".to_owned(), path.to_owned()])
}

/// Replaces the path the environment was built at by the one it will work at. `#!` lines longer than
/// the kernel takes are written by pip as a little shell script, which holds the same path.
fn relocate(environment: &Path, target: &Path) -> Result<(), VenvError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| VenvError::Prepare(path, error)
    };
    let (from, to) = (environment.to_string_lossy().into_owned(), target.to_string_lossy().into_owned());
    let bin = environment.join("bin");
    let mut files = vec![environment.join("pyvenv.cfg")];
    for entry in fs::read_dir(&bin).map_err(failed(&bin))? {
        files.push(entry.map_err(failed(&bin))?.path());
    }
    for path in files {
        // The build user wrote this tree: no link of it is followed.
        let meta = path.symlink_metadata().map_err(failed(&path))?;
        if !meta.is_file() || meta.len() > 1 << 20 {
            continue;
        }
        let Ok(text) = String::from_utf8(fs::read(&path).map_err(failed(&path))?) else { continue };
        if text.contains(&from) {
            #[expect(
                clippy::disallowed_methods,
                reason = "a stage directory: the whole is fsynced before it gets its name"
            )]
            fs::write(&path, text.replace(&from, &to)).map_err(failed(&path))?;
        }
    }
    Ok(())
}

fn finish(site: &Site, stage: &Path) -> Result<(), VenvError> {
    let failed = |error| VenvError::Prepare(site.environment.clone(), error);
    let tree = fs::File::open(&site.environment).map_err(failed)?.into();
    let terms = Terms { from: site.user, to: 0, links: Links::Anywhere, entries: ENTRIES };
    settle(&tree, &terms).map_err(VenvError::Settle)?;
    copy_tree(&site.environment, stage).map_err(|error| VenvError::Copy(stage.to_owned(), error))
}

/// Copies files with their modes, directories and links. The tree is root's already.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_names_with_versions() {
        for good in ["radicale==3.5.0", "uvicorn[standard]>=0.30, <1", "a"] {
            assert!(is_requirement(good), "{good}");
        }
        for bad in ["", "--index-url=x", "-r x", "git+https://x", "a @ https://x", "./a", "/a", "a;b", "a\nb", "a b'"] {
            assert!(!is_requirement(bad), "{bad}");
        }
    }

    #[test]
    fn indexes() {
        assert_eq!(index_arguments(None).unwrap(), [] as [&str; 0]);
        assert_eq!(index_arguments(Some("https://x/simple")).unwrap(), ["--index-url", "https://x/simple"]);
        assert_eq!(index_arguments(Some("/srv/w")).unwrap(), ["--no-index", "--find-links", "/srv/w"]);
        assert_eq!(index_arguments(Some("file:///srv/w")).unwrap(), ["--no-index", "--find-links", "/srv/w"]);
        for bad in ["w", "--x", "ftp://x", "https://x y", "/a\n"] {
            assert!(index_arguments(Some(bad)).is_err(), "{bad}");
        }
    }

    /// With the lab's wheels: builds at one place, runs at another.
    #[tokio::test]
    async fn an_environment_works_where_it_is_moved_to() {
        let wheels = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/cache/fixtures/pypi");
        if !nix::unistd::geteuid().is_root() || !wheels.join("done").exists() {
            println!("skipped: needs root and the lab's fixtures");
            return;
        }
        let yard = tempfile::tempdir().unwrap();
        fs::set_permissions(yard.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (stage, target) = (yard.path().join("stage"), yard.path().join("target"));
        fs::create_dir(&stage).unwrap();
        let here = yard.path().join("wheels");
        fs::create_dir(&here).unwrap();
        for entry in fs::read_dir(&wheels).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, here.join(path.file_name().unwrap())).unwrap();
            }
        }
        let port = PipVenv::new(yard.path().join("work"));
        let index = here.to_str();
        let quiet = &crate::host::Quiet;
        let missing = port.venv(&stage, &target, &["radicale==0.0.1".into()], index, quiet).await.unwrap_err();
        assert_eq!(missing.code, "build.pip");
        assert!(missing.message.contains("radicale"), "{}", missing.message);
        port.venv(&stage, &target, &["radicale==3.9.0".into()], index, quiet).await.unwrap();
        fs::rename(&stage, &target).unwrap();
        for (program, arguments) in
            [("bin/radicale", &["--version"][..]), ("bin/python", &["-m", "radicale", "--version"])]
        {
            let output = std::process::Command::new(target.join(program)).args(arguments).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3.9.0", "{output:?}");
        }
        assert_eq!(fs::read_dir(yard.path().join("work")).unwrap().count(), 0, "the build is left");
        let found = std::process::Command::new("grep").arg("-rlI").arg(yard.path().join("work")).arg(&target).output();
        assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "", "files still name the place of the build");
        let odd = std::process::Command::new("find")
            .arg(&target)
            .args(["-not", "-user", "0", "-o", "-perm", "/6022", "-not", "-type", "l"])
            .output();
        assert_eq!(String::from_utf8_lossy(&odd.unwrap().stdout), "");
    }
}
