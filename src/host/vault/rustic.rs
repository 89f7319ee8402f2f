//! [`RusticVault`]: every act in a child of its own.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::wire::{Act, Beside, GO, Line, Request, Word, items};
use super::{
    Access, Checked, Depth, KeyInfo, Moment, Order, Pruned, Renamed, Restored, SUBCOMMAND, Saved, Snapshot, SnapshotId,
    Vault,
};
use crate::host::process::{self, Command};
use crate::host::{PortError, PortResult, Progress, Quiet};
use crate::model::Secret;

/// For the C library's allocator (mallopt(3)): by default each thread keeps memory of its own, up to 64 MiB of it that
/// nobody uses.
const ONE_ARENA: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// No backup takes longer: a unit's own limit comes before it.
const LIMIT: Duration = Duration::from_hours(14 * 24);

/// A repository through `rustic_core`, in a child process that holds the key and the memory and dies with us.
pub struct RusticVault {
    program: PathBuf,
}

impl RusticVault {
    /// `program`: this binary, which knows [`SUBCOMMAND`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    async fn ask<T: DeserializeOwned>(&self, access: &Access, act: Act) -> PortResult<T> {
        self.converse(&Request::new(access, act), Beside::default(), &Quiet).await
    }

    async fn converse<T: DeserializeOwned>(
        &self,
        request: &Request,
        beside: Beside,
        progress: &dyn Progress,
    ) -> PortResult<T> {
        let lost =
            |error: io::Error| PortError::new("vault.child", "cannot speak with the backup process").because(error);
        let (ours, theirs) = UnixStream::pair().map_err(lost)?;
        let mut line = serde_json::to_vec(request)
            .map_err(|error| PortError::new("vault.child", "the request cannot be written").because(error))?;
        line.push(b'\n');
        send_descriptors(&ours, &line[..1], &beside.descriptors).map_err(lost)?;
        drop(beside.descriptors);
        let child = Command::new(&self.program)
            .arg(SUBCOMMAND)
            .env(ONE_ARENA.0, ONE_ARENA.1)
            .stdin_from(File::from(OwnedFd::from(theirs)))
            .timeout(LIMIT);
        let waiting = (beside.words, beside.moment);
        let (ended, heard) = tokio::join!(process::run(child), talk(ours, &line[1..], waiting, progress));
        let ended = ended.map_err(|error| error.port("vault.child"))?;
        match heard.map_err(lost)? {
            Some(Line::Ready) => Err(PortError::new("vault.given-up", "the backup was given up")),
            Some(Line::Answer(value)) => serde_json::from_value(value).map_err(|error| {
                PortError::new("vault.child", "the backup process answered something else").because(error)
            }),
            Some(Line::Failed(failure)) => Err(failure.into_port()),
            _ => {
                let said = process::tail_of(&ended.stderr, 2000);
                let message = format!("the backup process {} without an answer: {said}", ended.exit);
                Err(PortError::new("vault.child", message).retryable())
            }
        }
    }
}

/// Sends the request and the words about its streams, hears lines until the last or the end.
async fn talk(
    socket: UnixStream,
    request: &[u8],
    (words, mut moment): (Vec<tokio::sync::oneshot::Receiver<Result<(), String>>>, Option<Moment>),
    progress: &dyn Progress,
) -> io::Result<Option<Line>> {
    socket.set_nonblocking(true)?;
    let (from, mut to) = tokio::net::UnixStream::from_std(socket)?.into_split();
    // A child that is gone already told why, or says nothing: the end of its lines is what counts.
    let _ = to.write_all(request).await;
    let mut words: FuturesUnordered<_> = words
        .into_iter()
        .enumerate()
        .map(|(stream, word)| async move {
            let ended = word.await.unwrap_or_else(|_| Err("its program was given up".to_owned()));
            Word { stream, ended }
        })
        .collect();
    let mut lines = BufReader::new(from).lines();
    let mut read = None;
    loop {
        tokio::select! {
            // Reading a line is cancel-safe: what was read of it stays in the reader.
            line = lines.next_line() => match line? {
                None => return Ok(None),
                Some(line) => match serde_json::from_str(&line)? {
                    Line::Bytes { done, total } => progress.bytes(done, total),
                    Line::Say(text) => progress.say(&text),
                    Line::Ready => {
                        let Some(moment) = moment.take() else { continue };
                        // The child waits for nothing else meanwhile.
                        let Some(telling) = moment.come().await else { return Ok(Some(Line::Ready)) };
                        read = Some(telling);
                        send(&mut to, &Word { stream: GO, ended: Ok(()) }).await?;
                    }
                    Line::Read => {
                        // Whoever waited may have gone.
                        let _ = read.take().map(|read| read.send(()));
                    }
                    last => return Ok(Some(last)),
                },
            },
            Some(word) = words.next() => send(&mut to, &word).await?,
        }
    }
}

async fn send(to: &mut (impl AsyncWrite + Unpin), word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    // A child that is gone is known by the end of its lines.
    let _ = to.write_all(&line).await;
    Ok(())
}

fn send_descriptors(socket: &UnixStream, byte: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many streams for one snapshot"));
    }
    sendmsg(socket, &[IoSlice::new(byte)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[async_trait]
impl Vault for RusticVault {
    async fn make(&self, access: &Access) -> PortResult<bool> {
        self.ask(access, Act::Make).await
    }

    async fn save(&self, access: &Access, order: Order, progress: &dyn Progress) -> PortResult<Saved> {
        let Order { host, tags, at, entries, parent, moment } = order;
        let (entries, beside) = items(entries);
        let beside = Beside { moment, ..beside };
        let (parent, waits) = (parent.map(|id| id.0), beside.moment.is_some());
        let act = Act::Save { host, tags, at, entries, parent, waits };
        self.converse(&Request::new(access, act), beside, progress).await
    }

    async fn snapshots(&self, access: &Access) -> PortResult<Vec<Snapshot>> {
        self.ask(access, Act::Snapshots).await
    }

    async fn restore_as(
        &self,
        access: &Access,
        snapshot: &SnapshotId,
        path: &Path,
        to: &Path,
        owners: &Renamed,
        progress: &dyn Progress,
    ) -> PortResult<Restored> {
        let (snapshot, owners) = (snapshot.0.clone(), owners.clone());
        let act = Act::Restore { snapshot, path: path.to_owned(), to: to.to_owned(), owners };
        self.converse(&Request::new(access, act), Beside::default(), progress).await
    }

    async fn read(&self, access: &Access, snapshot: &SnapshotId, path: &Path, to: File) -> PortResult<u64> {
        let act = Act::Read { snapshot: snapshot.0.clone(), path: path.to_owned() };
        let beside = Beside { descriptors: vec![to.into()], ..Beside::default() };
        self.converse(&Request::new(access, act), beside, &Quiet).await
    }

    async fn check(&self, access: &Access, depth: Depth, progress: &dyn Progress) -> PortResult<Checked> {
        self.converse(&Request::new(access, Act::Check { depth }), Beside::default(), progress).await
    }

    async fn forget(&self, access: &Access, snapshots: &[SnapshotId]) -> PortResult<()> {
        let snapshots = snapshots.iter().map(|id| id.0.clone()).collect();
        self.ask(access, Act::Forget { snapshots }).await
    }

    async fn prune(&self, access: &Access, keep: Duration, progress: &dyn Progress) -> PortResult<Pruned> {
        let act = Act::Prune { keep_seconds: keep.as_secs() };
        self.converse(&Request::new(access, act), Beside::default(), progress).await
    }

    async fn keys(&self, access: &Access) -> PortResult<Vec<KeyInfo>> {
        self.ask(access, Act::Keys).await
    }

    async fn add_key(&self, access: &Access, password: &Secret, user: &str) -> PortResult<KeyInfo> {
        let act = Act::AddKey { password: password.expose().to_owned(), user: user.to_owned() };
        self.ask(access, act).await
    }

    async fn remove_key(&self, access: &Access, id: &str) -> PortResult<()> {
        self.ask(access, Act::RemoveKey { id: id.to_owned() }).await
    }
}
