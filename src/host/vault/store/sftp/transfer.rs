//! Files and directories over one session. Many requests are under way at once: a far server is far.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};

use super::super::StoreFault;
use super::session::{FSYNC, RENAME, STATVFS, Session, Trouble};

/// Every server takes and sends so much at once (the protocol, version 3, section 3).
const CHUNK: usize = 32 << 10;
/// Requests under way: 2 MiB, so that a line of 100 ms still carries 20 MiB a second.
const AT_ONCE: usize = 64;
const DIRECTORIES_AT_ONCE: usize = 16;

/// A temporary that nobody wrote to for so long is nobody's, whatever the clocks say.
const ABANDONED: Duration = Duration::from_hours(48);

pub(super) async fn length(session: &Session, path: &str) -> Result<u64, Trouble> {
    let attributes = session.sftp.stat(path).await?.attrs;
    attributes.size.ok_or_else(|| Trouble::Final(StoreFault::Other("the server tells no length".to_owned())))
}

/// All of it, or so many bytes from an offset.
pub(super) async fn get(session: &Session, path: &str, part: Option<(u64, usize)>) -> Result<Bytes, Trouble> {
    let handle = session.sftp.open(path, OpenFlags::READ, FileAttributes::empty()).await?.handle;
    let read = async {
        let (offset, length) = match part {
            Some(part) => part,
            None => {
                let size = session.sftp.fstat(&handle).await?.attrs.size;
                let size = size.and_then(|size| usize::try_from(size).ok());
                let unknown = || Trouble::Final(StoreFault::Other("the server tells no length".to_owned()));
                (0, size.ok_or_else(unknown)?)
            }
        };
        let chunks = stream::iter((0..length).step_by(CHUNK))
            .map(|at| chunk(session, &handle, offset + at as u64, CHUNK.min(length - at)))
            .buffered(AT_ONCE)
            .map_err(|trouble| match trouble {
                Trouble::Final(StoreFault::Length { found, .. }) => {
                    Trouble::Final(StoreFault::Length { found, wanted: offset + length as u64 })
                }
                other => other,
            });
        let all = chunks.try_fold(BytesMut::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        });
        Ok(all.await?.freeze())
    };
    let read: Result<Bytes, Trouble> = read.await;
    let closed = session.sftp.close(&handle).await;
    let bytes = read?;
    closed?;
    Ok(bytes)
}

/// Exactly so much: a server may send less at once, and the end of the file is an error.
async fn chunk(session: &Session, handle: &str, offset: u64, length: usize) -> Result<Bytes, Trouble> {
    let mut all = BytesMut::new();
    while all.len() < length {
        let wanted = u32::try_from(length - all.len()).unwrap_or(u32::MAX);
        match session.sftp.read(handle, offset + all.len() as u64, wanted).await.map_err(Trouble::from) {
            Ok(data) if data.data.is_empty() || data.data.len() > length - all.len() => {
                return Err(Trouble::Broken("the server sends another length than was asked for".to_owned()));
            }
            Ok(data) => all.extend_from_slice(&data.data),
            Err(Trouble::Refused(StatusCode::Eof, _)) => {
                let found = offset + all.len() as u64;
                return Err(Trouble::Final(StoreFault::Length { found, wanted: offset + length as u64 }));
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(all.freeze())
}

/// Under a temporary name until all of it is there. `exclusive`: what has the name already stays.
pub(super) async fn put(session: &Session, path: &str, content: &[Bytes], exclusive: bool) -> Result<(), Trouble> {
    let random = getrandom::u64().map_err(|error| Trouble::Final(StoreFault::Other(error.to_string())))?;
    let temporary = format!("{path}-tmp-{random:016x}");
    let written = async {
        fill(session, &temporary, content).await?;
        if exclusive || !session.offers(RENAME) {
            // Never over what is there (the protocol, version 3, section 6.5).
            return Ok(session.sftp.rename(&temporary, path).await.map(|_| ())?);
        }
        session.rename_over(&temporary, path).await
    };
    let written = written.await;
    if matches!(written, Err(Trouble::Refused(..) | Trouble::Final(_))) {
        // Best effort: what stays is swept later.
        let _ = session.sftp.remove(&temporary).await;
    }
    match written {
        // Without the extension a name that is taken is refused; of what has its hash for a name, one is enough.
        Err(Trouble::Refused(..))
            if !exclusive && !session.offers(RENAME) && is_there(session, path, content).await =>
        {
            Ok(())
        }
        Err(Trouble::Refused(StatusCode::Failure, why)) => match is_full(session, path, content).await {
            true => Err(Trouble::Final(StoreFault::Full)),
            false => Err(Trouble::Refused(StatusCode::Failure, why)),
        },
        written => written,
    }
}

fn bytes_of(content: &[Bytes]) -> u64 {
    content.iter().map(|bytes| bytes.len() as u64).sum()
}

async fn fill(session: &Session, path: &str, content: &[Bytes]) -> Result<(), Trouble> {
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
    let attributes = FileAttributes { permissions: Some(0o600), ..FileAttributes::empty() };
    let handle = session.sftp.open(path, flags, attributes).await?.handle;
    let write = async {
        let mut offset = 0;
        let mut chunks = Vec::new();
        for bytes in content {
            for at in (0..bytes.len()).step_by(CHUNK) {
                let chunk = bytes.slice(at..bytes.len().min(at + CHUNK));
                let length = chunk.len() as u64;
                chunks.push((offset, chunk));
                offset += length;
            }
        }
        let writes = stream::iter(chunks.into_iter().map(Ok::<_, Trouble>));
        let write = async |(offset, chunk): (u64, Bytes)| {
            session.sftp.write(&handle, offset, chunk.into()).await?;
            Ok(())
        };
        writes.try_for_each_concurrent(AT_ONCE, write).await?;
        if session.offers(FSYNC) {
            session.sftp.fsync(&handle).await?;
        }
        match session.sftp.fstat(&handle).await?.attrs.size {
            Some(found) if found == offset => Ok(()),
            found => {
                let fault = StoreFault::Length { found: found.unwrap_or(0), wanted: offset };
                Err(Trouble::Final(fault))
            }
        }
    };
    let written: Result<(), Trouble> = write.await;
    let closed = session.sftp.close(&handle).await;
    written?;
    closed?;
    Ok(())
}

async fn is_there(session: &Session, path: &str, content: &[Bytes]) -> bool {
    length(session, path).await.is_ok_and(|length| length == bytes_of(content))
}

/// The protocol has no code for it.
async fn is_full(session: &Session, path: &str, content: &[Bytes]) -> bool {
    if !session.offers(STATVFS) {
        return false;
    }
    let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
    let Ok(space) = session.sftp.statvfs(parent).await else { return false };
    space.blocks_avail.saturating_mul(space.fragment_size) < bytes_of(content) || space.inodes_avail == 0
}

/// The directory and those above it that are not there.
pub(super) async fn make_directory(session: &Session, path: &str) -> Result<(), Trouble> {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).chain([path.len()]);
    for end in ends {
        let directory = &path[..end];
        match session.sftp.stat(directory).await.map_err(Trouble::from) {
            Ok(_) => continue,
            Err(trouble) if trouble.is_absent() => {}
            Err(trouble) => return Err(trouble),
        }
        let attributes = FileAttributes { permissions: Some(0o700), ..FileAttributes::empty() };
        if let Err(error) = session.sftp.mkdir(directory, attributes).await {
            // Another server made it meanwhile.
            session.sftp.stat(directory).await.map_err(|_| Trouble::from(error))?;
        }
    }
    Ok(())
}

pub(super) struct Entry {
    pub name: String,
    pub attributes: FileAttributes,
}

pub(super) async fn list(session: &Session, path: &str) -> Result<Vec<Entry>, Trouble> {
    let handle = session.sftp.opendir(path).await?.handle;
    let mut entries = Vec::new();
    let read = loop {
        match session.sftp.readdir(&handle).await.map_err(Trouble::from) {
            Ok(page) => {
                let files = page.files.into_iter().filter(|file| ![".", ".."].contains(&file.filename.as_str()));
                entries.extend(files.map(|file| Entry { name: file.filename, attributes: file.attrs }));
            }
            Err(Trouble::Refused(StatusCode::Eof, _)) => break Ok(()),
            Err(trouble) => break Err(trouble),
        }
    };
    let closed = session.sftp.close(&handle).await;
    read?;
    closed?;
    Ok(entries)
}

/// The entries of directories below `path`, with the name of theirs.
pub(super) async fn list_below(session: &Session, path: &str) -> Result<Vec<(String, Entry)>, Trouble> {
    let directories = list(session, path).await?.into_iter().filter(|entry| entry.attributes.is_dir());
    let listed = stream::iter(directories.map(|entry| async move {
        match list(session, &format!("{path}/{}", entry.name)).await {
            Ok(entries) => Ok(entries.into_iter().map(|inner| (entry.name.clone(), inner)).collect::<Vec<_>>()),
            // Removed since the directory was read: by another server's prune.
            Err(trouble) if trouble.is_absent() => Ok(Vec::new()),
            Err(trouble) => Err(trouble),
        }
    }))
    .buffered(DIRECTORIES_AT_ONCE);
    Ok(listed.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
}

/// Removes a temporary that nobody writes to.
pub(super) async fn sweep(session: &Session, directory: &str, entry: &Entry) -> Result<(), Trouble> {
    let written = entry.attributes.mtime.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds.into()));
    if !entry.name.contains("-tmp-") || !written.is_some_and(is_abandoned) {
        return Ok(());
    }
    match session.sftp.remove(format!("{directory}/{}", entry.name)).await.map_err(Trouble::from) {
        Err(trouble) if !trouble.is_absent() => Err(trouble),
        _ => Ok(()),
    }
}

#[expect(clippy::disallowed_methods, reason = "a file's age is that of the machine's clock")]
fn is_abandoned(written: SystemTime) -> bool {
    SystemTime::now().duration_since(written).is_ok_and(|unused| unused > ABANDONED)
}
