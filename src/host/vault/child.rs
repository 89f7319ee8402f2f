//! The other side of [`super::RusticVault`]: `socle internal-vault`, a process of its own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSliceMut, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::check::check;
use super::error::{Failure, VaultError};
use super::format::Repo;
use super::restore::{read, restore};
use super::save::{Wanted, save};
use super::store::{KeptStore, LocalStore, RestStore, S3Place, S3Store, SftpPlace, SftpStore, Store};
use super::wire::{Act, Line, Place, Request, Word};
use super::{SUBCOMMAND, Way, upkeep};

/// How often the parent hears how far we are.
const TELL: Duration = Duration::from_millis(200);

/// What the acts tell the parent while they work.
pub(super) struct Tell {
    socket: Mutex<UnixStream>,
    told: Mutex<(u64, Option<Instant>)>,
}

impl Tell {
    fn line(&self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)
    }

    pub fn say(&self, text: impl Into<String>) {
        // A parent that is gone ends us by the other way.
        let _ = self.line(&Line::Say(text.into()));
    }

    /// A moment of a backup whose writers stand still.
    pub fn moment(&self, line: &Line) {
        let _ = self.line(line);
    }

    /// So many bytes more, of all if known.
    pub fn bytes(&self, more: u64, total: Option<u64>) {
        let done = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.0 += more;
            if told.1.is_some_and(|at| at.elapsed() < TELL) {
                return;
            }
            told.1 = Some(Instant::now());
            told.0
        };
        let _ = self.line(&Line::Bytes { done, total });
    }
}

/// What the parent says about the programs behind the streams.
#[derive(Default)]
pub(super) struct Words {
    said: Mutex<HashMap<usize, Result<(), String>>>,
    more: Condvar,
}

impl Words {
    /// Waits for the parent's word. It comes, or we end with the parent.
    pub fn about(&self, stream: usize) -> Result<(), String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said =
            self.more.wait_while(said, |said| !said.contains_key(&stream)).unwrap_or_else(PoisonError::into_inner);
        said.remove(&stream).unwrap_or(Ok(()))
    }

    fn hear(&self, word: Word) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(word.stream, word.ended);
        self.more.notify_all();
    }
}

/// The whole child.
pub fn child_main() -> ExitCode {
    match converse() {
        Ok(code) => code,
        Err(error) => {
            // Nobody to tell but the log: the socket is what failed.
            let _ = writeln!(io::stderr(), "{SUBCOMMAND}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn converse() -> io::Result<ExitCode> {
    raise_open_files();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (first, descriptors) = receive(&socket)?;
    let mut lines = BufReader::new(socket.try_clone()?);
    let mut line = vec![first];
    lines.read_until(b'\n', &mut line)?;
    let tell = Arc::new(Tell { socket: Mutex::new(socket), told: Mutex::default() });
    let words = Arc::new(Words::default());
    let answered = Arc::new(AtomicBool::new(false));
    listen(lines, words.clone(), answered.clone());
    let answer = serde_json::from_slice(&line)
        .map_err(|error| VaultError::Request(error.into()))
        .and_then(|request| act(request, descriptors, words, &tell));
    let (last, code) = match answer {
        Ok(value) => (Line::Answer(value), ExitCode::SUCCESS),
        Err(error) => (Line::Failed(Failure::of(&error)), ExitCode::FAILURE),
    };
    answered.store(true, Ordering::Release);
    tell.line(&last)?;
    Ok(code)
}

/// Hears the parent until its end, which is ours: a backup nobody waits for holds memory and bandwidth for
/// nothing. What is half written is swept later.
fn listen(mut lines: BufReader<UnixStream>, words: Arc<Words>, answered: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            match serde_json::from_str(&line) {
                Ok(word) => words.hear(word),
                Err(_) => break,
            }
            line.clear();
        }
        // Who has its answer goes, and we end by ourselves.
        if !answered.load(Ordering::Acquire) {
            std::process::exit(1);
        }
    });
}

fn act(
    request: Request,
    descriptors: Vec<OwnedFd>,
    words: Arc<Words>,
    tell: &Arc<Tell>,
) -> Result<serde_json::Value, VaultError> {
    let Request { at, password, pace, append_only, way, act } = request;
    let store = open(at, way)?;
    let store = if append_only { Arc::new(KeptStore(store)) } else { store };
    let repo = || Repo::open(store.clone(), &password, pace);
    match act {
        Act::Make => answer(&upkeep::make(&store, &password, pace)?),
        Act::Check { depth } => answer(&check(store, &password, pace, depth, tell)?),
        Act::Save { host, tags, at, entries, parent, waits } => {
            let wanted = Wanted { host, tags, at, entries, parent, waits, descriptors, words };
            answer(&save(&repo()?, wanted, tell)?)
        }
        Act::Snapshots => answer(&upkeep::snapshots(&repo()?, tell)?),
        Act::Restore { snapshot, path, to, owners } => answer(&restore(&repo()?, &snapshot, &path, &to, owners, tell)?),
        Act::Read { snapshot, path } => {
            let to = descriptors.into_iter().next().map(File::from).ok_or_else(|| {
                VaultError::Request(io::Error::new(io::ErrorKind::InvalidInput, "no descriptor came with it"))
            })?;
            answer(&read(&repo()?, &snapshot, &path, to)?)
        }
        Act::Forget { snapshots } => answer(&upkeep::forget(&repo()?, &snapshots)?),
        Act::Prune { keep_seconds } => answer(&upkeep::prune(&repo()?, Duration::from_secs(keep_seconds), tell)?),
        Act::Keys => answer(&upkeep::keys(&repo()?)?),
        Act::AddKey { password, user } => answer(&upkeep::add_key(&repo()?, &password, &user)?),
        Act::RemoveKey { id } => answer(&upkeep::remove_key(&repo()?, &id)?),
    }
}

fn answer<T: serde::Serialize>(value: &T) -> Result<serde_json::Value, VaultError> {
    serde_json::to_value(value).map_err(|error| VaultError::Request(error.into()))
}

fn open(place: Place, way: Way) -> Result<Arc<dyn Store>, VaultError> {
    match place {
        Place::Directory(path) => Ok(Arc::new(LocalStore::new(path))),
        Place::Rest { url, user } => Ok(Arc::new(RestStore::new(&url, user, way)?)),
        Place::Sftp { host, port, user, path, identity, host_keys } => {
            let through = way.through;
            Ok(Arc::new(SftpStore::new(SftpPlace { user, host, port, through, path, identity, host_keys })?))
        }
        Place::S3 { endpoint, region, bucket, prefix, key, secret } => {
            Ok(Arc::new(S3Store::new(S3Place { endpoint, region, bucket, prefix, way }, key, secret)?))
        }
    }
}

/// The first byte and the descriptors that came with it.
fn receive(socket: &UnixStream) -> io::Result<(u8, Vec<OwnedFd>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((byte[0], descriptors))
}

/// A directory is open as long as something in it is: deep trees take many.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it deep trees fail with a message of their own.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
