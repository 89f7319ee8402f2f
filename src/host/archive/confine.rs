//! How the unpacking child gives up its powers before it reads a byte.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Address space: decoders need at most 128 MiB each; the rest is the program itself and room.
const MEMORY: u64 = 1 << 30;
/// Standard streams, the stage, the directory and file being written, and room.
const OPEN_FILES: u64 = 64;

#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("cannot become user {0}")]
    User(u32, #[source] nix::Error),
    #[error("cannot drop capabilities")]
    Capabilities(#[source] rustix::io::Errno),
    #[error("cannot give up new privileges")]
    Privileges(#[source] nix::Error),
    #[error("cannot set a resource limit")]
    Limit(#[source] nix::Error),
    #[error("cannot set up landlock")]
    Landlock(#[source] landlock::RulesetError),
    #[error("still has powers after dropping them")]
    StillPowerful,
}

/// What the child may still use.
pub struct Cage<'a> {
    pub stage: BorrowedFd<'a>,
    /// User and group.
    pub user: u32,
    /// Longest file.
    pub file_bytes: u64,
    pub cpu_seconds: u64,
}

/// Drops every power but writing below the stage and using descriptors that are open already.
///
/// Guarantees, or an error: an unprivileged user without groups, no capability, no way to gain any,
/// limits on memory, CPU, files; no second process after [`forbid_processes`]. Best effort, told in the notes: no network
/// (namespace), no other file (Landlock, Linux 5.13). The process must have one thread: credentials
/// and Landlock are a thread's.
pub fn confine(cage: &Cage<'_>) -> Result<Vec<String>, ConfineError> {
    let mut notes = Vec::new();
    // While still root. In a container that may not be allowed; then Landlock denies TCP.
    if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
        notes.push(format!("no network namespace: {error}"));
    }
    become_user(cage.user, &mut notes)?;
    nix::sys::prctl::set_no_new_privs().map_err(ConfineError::Privileges)?;
    nix::sys::prctl::set_dumpable(false).map_err(ConfineError::Privileges)?;
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(ConfineError::Privileges)?;
    for (resource, limit) in [
        (Resource::RLIMIT_AS, MEMORY),
        (Resource::RLIMIT_CPU, cage.cpu_seconds),
        (Resource::RLIMIT_FSIZE, cage.file_bytes),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, limit, limit).map_err(ConfineError::Limit)?;
    }
    landlock(cage.stage, &mut notes).map_err(ConfineError::Landlock)?;
    check(cage.user)?;
    Ok(notes)
}

/// From now on no process and no thread is started.
pub fn forbid_processes() -> Result<(), ConfineError> {
    setrlimit(Resource::RLIMIT_NPROC, 0, 0).map_err(ConfineError::Limit)
}

fn become_user(user: u32, notes: &mut Vec<String>) -> Result<(), ConfineError> {
    let failed = |error| ConfineError::User(user, error);
    for capability in CapabilitySet::all().iter() {
        // The bounding set only matters to a set-user-ID program, which `no_new_privs` forbids too.
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => {
                notes.push(format!("capability bounding set kept: {error}"));
                break;
            }
        }
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    nix::unistd::setgroups(&[]).map_err(failed)?;
    nix::unistd::setresgid(gid, gid, gid).map_err(failed)?;
    nix::unistd::setresuid(uid, uid, uid).map_err(failed)?;
    rustix::thread::clear_ambient_capability_set().map_err(ConfineError::Capabilities)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).map_err(ConfineError::Capabilities)
}

fn landlock(stage: BorrowedFd<'_>, notes: &mut Vec<String>) -> Result<(), landlock::RulesetError> {
    let abi = ABI::V6;
    let allowed = AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::WriteFile
        | AccessFs::ReadDir
        | AccessFs::Refer;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(stage, allowed))?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => notes.push("landlock enforced in part: an older kernel".to_owned()),
        RulesetStatus::NotEnforced => notes.push("no landlock: the kernel does not offer it here".to_owned()),
    }
    Ok(())
}

/// Looks again: nothing above is believed.
fn check(user: u32) -> Result<(), ConfineError> {
    let uid = nix::unistd::getresuid().map_err(|error| ConfineError::User(user, error))?;
    let gid = nix::unistd::getresgid().map_err(|error| ConfineError::User(user, error))?;
    let groups = nix::unistd::getgroups().map_err(|error| ConfineError::User(user, error))?;
    let left = rustix::thread::capabilities(None).map_err(ConfineError::Capabilities)?;
    let plain = [uid.real, uid.effective, uid.saved].iter().all(|id| id.as_raw() == user)
        && [gid.real, gid.effective, gid.saved].iter().all(|id| id.as_raw() == user)
        && groups.is_empty()
        && (left.effective | left.permitted | left.inheritable).is_empty()
        && rustix::thread::no_new_privs().map_err(ConfineError::Capabilities)?;
    if plain && user != 0 { Ok(()) } else { Err(ConfineError::StillPowerful) }
}
