//! The content of files, by windows: what lies together in a pack is read at once, verified blob by blob, and
//! written where it belongs.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustic_core::Id;
use rustix::fs::{Mode, OFlags, fstat, ftruncate, openat, renameat};

use super::Restore;
use super::place::{Spot, finish, release};
use super::walk::{Batch, Job};
use crate::host::vault::error::VaultError;
use crate::host::vault::format::{hash, hex, part};
use crate::host::vault::index::{Blob, BlobKind};
use crate::host::vault::node::wide;
use crate::host::vault::sealed::Opener;
use crate::host::vault::store::Kind;

/// Most bytes of packs that one thread holds at once.
pub const WINDOW: u64 = 8 << 20;

/// What lies between two wanted parts of a pack is read along if it is no more than this.
const GAP: u64 = 64 << 10;

/// Runs of zeros are left out as holes in pieces of this size.
const PIECE: usize = 32 << 10;

pub fn write_batches(shared: &Restore<'_>, batches: &Mutex<Receiver<Batch>>) {
    let mut opener = shared.repo.opener();
    loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return };
        // After a failure the rest is only taken, so that nobody waits for us.
        if !shared.has_failed()
            && let Err(error) = write(shared, &mut opener, batch)
        {
            shared.fail(error);
        }
    }
}

/// A file on its way to its name.
struct Target {
    job: Job,
    file: File,
    temporary: std::ffi::OsString,
    length: u64,
}

/// One blob of one file.
struct Piece {
    blob: Blob,
    id: Id,
    target: usize,
    at: u64,
}

fn write(shared: &Restore<'_>, opener: &mut Opener, batch: Batch) -> Result<(), VaultError> {
    let mut targets = Vec::new();
    let mut pieces = Vec::new();
    for job in batch {
        let mut length = 0;
        let mut of_job = Vec::new();
        for id in job.node.content.iter().flatten() {
            let blob = *shared.index.find(BlobKind::Data, id).next().ok_or_else(|| VaultError::Damaged {
                file: "index".to_owned(),
                what: format!("no pack is known that holds {} of `{}`", hex(id), job.spot.path().display()),
            })?;
            of_job.push(Piece { blob, id: **id, target: targets.len(), at: length });
            length += u64::from(blob.plain);
        }
        if let Some(fd) = there(&job, &of_job, length)? {
            finish(&job.spot.directory.fd, &job.spot.name, Some(&fd), &job.node, &shared.owners)
                .map_err(|error| job.spot.fault(error))?;
            count(shared, length);
            release(job.spot.directory, &shared.owners)?;
            continue;
        }
        let (file, temporary) = temporary(&job.spot)?;
        targets.push(Target { job, file, temporary, length });
        pieces.append(&mut of_job);
    }
    let mut from = 0;
    while from < pieces.len() {
        let mut size = 0;
        let window = pieces[from..].iter().take_while(|piece| {
            let first = size == 0;
            size += u64::from(piece.blob.length);
            first || size <= WINDOW
        });
        let to = from + window.count();
        fill(shared, opener, &mut pieces[from..to], &targets)?;
        from = to;
    }
    targets.into_iter().try_for_each(|target| put(shared, target))
}

/// The file that is there, if it is the same byte for byte.
fn there(job: &Job, pieces: &[Piece], length: u64) -> Result<Option<OwnedFd>, VaultError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = openat(&job.spot.directory.fd, &*job.spot.name, flags, Mode::empty()) else { return Ok(None) };
    let stat = fstat(&fd).map_err(|error| job.spot.fault(error))?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    // A file of more names than it should have may have one elsewhere.
    let is_ours = wide(stat.st_nlink) <= job.node.meta.links.max(1);
    let file = File::from(fd);
    let is_same = is_file && is_ours && stat.st_size as u64 == length && has_content(&file, pieces);
    Ok(is_same.then(|| OwnedFd::from(file)))
}

fn has_content(file: &File, pieces: &[Piece]) -> bool {
    let mut buffer = Vec::new();
    pieces.iter().all(|piece| {
        buffer.resize(piece.blob.plain as usize, 0);
        file.read_exact_at(&mut buffer, piece.at).is_ok() && hash(&buffer) == piece.id
    })
}

fn temporary(spot: &Spot) -> Result<(File, std::ffi::OsString), VaultError> {
    let random = getrandom::u64().map_err(|error| spot.fault(io::Error::other(error.to_string())))?;
    // What an interruption leaves of it is in no snapshot, so the next restore removes it.
    let name = std::ffi::OsString::from(format!(".socle-restore-{random:016x}"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&spot.directory.fd, &*name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| spot.fault(error))?;
    Ok((File::from(fd), name))
}

/// Reads what the pieces want, in runs, and writes it to where they belong.
fn fill(shared: &Restore<'_>, opener: &mut Opener, pieces: &mut [Piece], targets: &[Target]) -> Result<(), VaultError> {
    pieces.sort_unstable_by_key(|piece| (piece.blob.pack, piece.blob.offset));
    let mut from = 0;
    while from < pieces.len() {
        let first = pieces[from].blob;
        let start = u64::from(first.offset);
        let mut end = start + u64::from(first.length);
        let run = pieces[from..].iter().take_while(|piece| {
            let (at, length) = (u64::from(piece.blob.offset), u64::from(piece.blob.length));
            let near = piece.blob.pack == first.pack && at <= end + GAP;
            if near {
                end = end.max(at + length);
            }
            near
        });
        let to = from + run.count();
        let pack = shared.index.pack(&first);
        let read = shared.repo.store.read_part(Kind::Pack, pack, start, (end - start) as usize).ok();
        if let Some(bytes) = &read {
            shared.repo.down.pass(bytes.len());
        }
        let mut last: Option<(Id, Vec<u8>)> = None;
        for piece in &pieces[from..to] {
            let plain = match last.take() {
                Some((id, plain)) if id == piece.id => plain,
                _ => plain(shared, opener, read.as_ref(), start, piece)?,
            };
            let target = &targets[piece.target];
            write_sparse(&target.file, &plain, piece.at).map_err(|error| target.job.spot.fault(error))?;
            last = Some((piece.id, plain));
        }
        from = to;
    }
    Ok(())
}

/// A blob out of what was read; if that is not it, from wherever else it is.
fn plain(
    shared: &Restore<'_>,
    opener: &mut Opener,
    read: Option<&Bytes>,
    start: u64,
    piece: &Piece,
) -> Result<Vec<u8>, VaultError> {
    let opened = read
        .and_then(|bytes| part(bytes, start, &piece.blob).ok())
        .and_then(|sealed| opener.blob(&sealed, &piece.blob, &piece.id).ok());
    match opened {
        Some(plain) => Ok(plain),
        None => shared.repo.blob(shared.index, opener, BlobKind::Data, &piece.id),
    }
}

fn write_sparse(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let is_zero = |piece: &[u8]| piece.iter().all(|byte| *byte == 0);
    let mut written = 0;
    while written < bytes.len() {
        let rest = &bytes[written..];
        let zeros = rest.chunks(PIECE).take_while(|piece| is_zero(piece)).map(<[u8]>::len).sum::<usize>();
        let data = rest[zeros..].chunks(PIECE).take_while(|piece| !is_zero(piece)).map(<[u8]>::len).sum::<usize>();
        if data > 0 {
            file.write_all_at(&rest[zeros..zeros + data], at + (written + zeros) as u64)?;
        }
        written += zeros + data;
    }
    Ok(())
}

/// Gives a complete file the rest of what it is, and its name.
fn put(shared: &Restore<'_>, target: Target) -> Result<(), VaultError> {
    let Target { job, file, temporary, length } = target;
    let spot = &job.spot;
    let fd = OwnedFd::from(file);
    ftruncate(&fd, length).map_err(|error| spot.fault(error))?;
    let parent = &spot.directory.fd;
    finish(parent, &temporary, Some(&fd), &job.node, &shared.owners).map_err(|error| spot.fault(error))?;
    let rename = || renameat(parent, &*temporary, parent, &*spot.name);
    match rename() {
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => {
            spot.clear()?;
            rename().map_err(|error| spot.fault(error))?;
        }
        renamed => renamed.map_err(|error| spot.fault(error))?,
    }
    count(shared, length);
    release(job.spot.directory, &shared.owners)
}

fn count(shared: &Restore<'_>, length: u64) {
    use std::sync::atomic::Ordering;
    shared.files.fetch_add(1, Ordering::Relaxed);
    shared.bytes.fetch_add(length, Ordering::Relaxed);
    shared.tell.bytes(length, None);
}
