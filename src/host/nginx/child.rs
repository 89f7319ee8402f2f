use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{ENABLED, PROGRAM};

/// The exit code that says nginx was never asked. nginx itself ends with 0 or 1.
pub(super) const FAILED: i32 = 120;

/// What the child does: `args` is the candidate directory. To be called before any thread exists,
/// because only a process of one thread may leave the mount namespace it shares with us.
pub fn child_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (Some(candidate), None) = (args.next(), args.next()) else {
        eprintln!("one argument: a directory");
        return ExitCode::from(FAILED as u8);
    };
    match become_nginx(Path::new(&candidate)) {
        Ok(never) => match never {},
        Err((act, error)) => {
            eprintln!("{act}: {error}");
            ExitCode::from(FAILED as u8)
        }
    }
}

fn become_nginx(candidate: &Path) -> Result<Infallible, (&'static str, nix::Error)> {
    let none = None::<&OsStr>;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| ("unshare", error))?;
    // First of all, so that nothing below reaches the mounts everybody else sees.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|error| ("private mounts", error))?;
    mount(Some(candidate), ENABLED, none, MsFlags::MS_BIND, none).map_err(|error| ("bind mount", error))?;
    let argv = ["nginx", "-T", "-q"].map(|arg| CString::new(arg).expect("no NUL in a constant"));
    let program = CString::new(PROGRAM).expect("no NUL in a constant");
    nix::unistd::execv(&program, &argv).map_err(|error| ("exec nginx", error))
}
