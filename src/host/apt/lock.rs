//! Who holds apt's and dpkg's locks. They are fcntl(2) locks: the kernel knows the holder, and they
//! end with it, so the file itself means nothing and is never removed.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use tokio::time::{Instant, sleep};

use crate::host::Progress;

/// In the order apt takes them.
const LOCKS: [&str; 4] =
    ["var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", "var/lib/apt/lists/lock", "var/cache/apt/archives/lock"];

/// A process that has one of the locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    /// Its name as the kernel has it, at most 15 characters; empty if it cannot be known.
    pub name: String,
    pub lock: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.pid, self.name.as_str()) {
            // A lock of an open file, or of a process in another container.
            (..=0, _) => write!(f, "another process"),
            (pid, "") => write!(f, "PID {pid}"),
            (pid, name) => write!(f, "{name} (PID {pid})"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("cannot see who holds the lock `{}`", .0.display())]
    Probe(PathBuf, #[source] io::Error),
    #[error("`/{}` is held by {} since {} s", .0.lock, .0, .1.as_secs())]
    Held(Holder, Duration),
}

/// Waits until all locks are free, at most `limit`, and tells who holds them.
pub async fn wait_until_free(
    root: &Path,
    limit: Duration,
    poll: Duration,
    progress: &dyn Progress,
) -> Result<(), LockError> {
    let began = Instant::now();
    let mut told: Option<Holder> = None;
    while let Some(holder) = holder(root)? {
        if began.elapsed() >= limit {
            return Err(LockError::Held(holder, began.elapsed()));
        }
        if told.as_ref() != Some(&holder) {
            progress.say(&format!("waiting for `/{}`, held by {holder}", holder.lock));
            told = Some(holder);
        }
        sleep(poll).await;
    }
    Ok(())
}

/// The holder of the first lock that is held.
pub fn holder(root: &Path) -> Result<Option<Holder>, LockError> {
    for lock in LOCKS {
        let path = root.join(lock);
        let pid = held_by(&path).map_err(|error| LockError::Probe(path, error))?;
        if let Some(pid) = pid {
            let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name = crate::host::process::printable(name.trim_ascii());
            return Ok(Some(Holder { pid, name, lock: lock.to_owned() }));
        }
    }
    Ok(None)
}

fn held_by(path: &Path) -> io::Result<Option<i32>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut asked = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut asked))?;
    Ok((i32::from(asked.l_type) != nix::libc::F_UNLCK).then_some(asked.l_pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Quiet;
    use std::sync::Mutex;

    struct Said(Mutex<Vec<String>>);

    impl Progress for Said {
        fn say(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
        fn bytes(&self, _: u64, _: Option<u64>) {}
    }

    fn lock_file(root: &Path) -> PathBuf {
        std::fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
        let path = root.join(LOCKS[0]);
        std::fs::write(&path, "").unwrap();
        path
    }

    const HOLD: &str = "import fcntl,sys,time\nf=open(sys.argv[1],'w')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint('held',flush=True)\ntime.sleep(float(sys.argv[2]))";

    /// Holds the lock as another process; needs Python, as the tests' machines have it.
    async fn hold(path: &Path, seconds: &str) -> tokio::process::Child {
        use tokio::io::AsyncReadExt;
        let mut child = tokio::process::Command::new("python3")
            .args(["-c", HOLD])
            .arg(path)
            .arg(seconds)
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = [0; 4];
        child.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
        child
    }

    #[tokio::test]
    async fn free_locks_are_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        wait_until_free(dir.path(), Duration::ZERO, Duration::ZERO, &Quiet).await.unwrap();
        lock_file(dir.path());
        wait_until_free(dir.path(), Duration::ZERO, Duration::ZERO, &Quiet).await.unwrap();
    }

    #[tokio::test]
    async fn a_holder_is_named_and_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = lock_file(dir.path());
        let child = hold(&path, "0.3").await;
        let pid = child.id().unwrap();
        let said = Said(Mutex::default());
        wait_until_free(dir.path(), Duration::from_secs(20), Duration::from_millis(20), &said).await.unwrap();
        let said = said.0.into_inner().unwrap();
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("python3") && said[0].contains(&format!("(PID {pid})")), "{said:?}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = lock_file(dir.path());
        let _child = hold(&path, "30").await;
        let waited = wait_until_free(dir.path(), Duration::from_millis(50), Duration::from_millis(10), &Quiet)
            .await
            .unwrap_err();
        assert!(waited.to_string().starts_with("`/var/lib/dpkg/lock-frontend` is held by python3"), "{waited}");
    }
}
