//! A directory of another machine, over SFTP, in restic's layout.
//!
//! # Guarantees
//!
//! The server shows a key that was named before, or nothing is said to it. A file has its name only when all its
//! bytes are there: temporary file beside it, `fsync@openssh.com` where the server offers it, length compared,
//! rename (`posix-rename@openssh.com`).
//!
//! # Caveats
//!
//! The protocol has no way to bring a name to disk. A server whose power is cut in the second after a rename may
//! have lost it; the next check tells.

mod session;
mod transfer;

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use super::http::{AGAIN, runtime};
use super::{Id, Kind, Store, StoreError, StoreFault};

pub use session::SftpPlace;
use session::{Session, Trouble};

pub struct SftpStore {
    place: SftpPlace,
    /// Made when it is first needed, and again when it is broken.
    session: Mutex<Option<Arc<Session>>>,
    /// The library's threads wait.
    runtime: Runtime,
}

impl SftpStore {
    pub fn new(place: SftpPlace) -> Result<Self, StoreError> {
        let runtime = runtime();
        let runtime = runtime.map_err(|error| StoreError::new("use", &place.path, StoreFault::Other(error)))?;
        Ok(Self { place, session: Mutex::default(), runtime })
    }

    fn path(&self, kind: Kind, id: &Id) -> String {
        self.below(&kind.path(id))
    }

    fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.place.path)
    }

    /// Does it over a session, and over another one while that may help. Whatever is done may be done twice.
    fn ask<T>(
        &self,
        act: &'static str,
        file: &str,
        work: impl AsyncFn(&Session) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(async {
            let mut waits = AGAIN.into_iter();
            loop {
                let trouble = match self.session().await {
                    Ok(session) => match work(&session).await {
                        Err(trouble @ Trouble::Broken(_)) => {
                            self.give_up(&session).await;
                            trouble
                        }
                        Err(trouble) => return Err(StoreError::new(act, file, trouble.into_fault())),
                        Ok(done) => return Ok(done),
                    },
                    Err(trouble @ Trouble::Broken(_)) => trouble,
                    Err(trouble) => return Err(StoreError::new(act, file, trouble.into_fault())),
                };
                match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(StoreError::new(act, file, trouble.into_fault())),
                }
            }
        })
    }

    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let session = Arc::new(Session::open(&self.place).await?);
        *held = Some(session.clone());
        Ok(session)
    }

    /// The next one who asks makes another.
    async fn give_up(&self, broken: &Arc<Session>) {
        let mut held = self.session.lock().await;
        if held.as_ref().is_some_and(|session| Arc::ptr_eq(session, broken)) {
            *held = None;
        }
    }
}

impl Store for SftpStore {
    fn name(&self) -> String {
        let SftpPlace { user, host, port, path, .. } = &self.place;
        let port = if *port == 22 { String::new() } else { format!(":{port}") };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("sftp://{user}@{host}{port}/{path}")
    }

    fn make(&self) -> Result<(), StoreError> {
        let all = [Kind::Key, Kind::Index, Kind::Snapshot, Kind::Pack, Kind::Lock].map(Kind::directory);
        self.ask("make", &self.name(), async |session| {
            for directory in all {
                transfer::make_directory(session, &self.below(directory)).await?;
            }
            Ok(())
        })
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StoreError> {
        let directory = kind.directory();
        let path = self.below(directory);
        self.ask("list", directory, async |session| match kind {
            Kind::Config => match transfer::length(session, &path).await {
                Ok(length) => Ok(vec![(Id::default(), length)]),
                Err(trouble) if trouble.is_absent() => Ok(Vec::new()),
                Err(trouble) => Err(trouble),
            },
            Kind::Pack => {
                let listed = transfer::list_below(session, &path).await?;
                let inside = listed.into_iter().filter(|(directory, entry)| entry.name.starts_with(directory));
                Ok(inside.filter_map(|(_, entry)| named(&entry)).collect())
            }
            _ => Ok(transfer::list(session, &path).await?.iter().filter_map(named).collect()),
        })
    }

    fn read(&self, kind: Kind, id: &Id) -> Result<Bytes, StoreError> {
        let path = self.path(kind, id);
        self.ask("read", &kind.path(id), async |session| transfer::get(session, &path, None).await)
    }

    fn read_part(&self, kind: Kind, id: &Id, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let path = self.path(kind, id);
        let part = Some((offset, length));
        self.ask("read", &kind.path(id), async |session| transfer::get(session, &path, part).await)
    }

    fn write(&self, kind: Kind, id: &Id, content: &[Bytes]) -> Result<(), StoreError> {
        let (file, path) = (kind.path(id), self.path(kind, id));
        // The only name that two may want at once.
        let exclusive = kind == Kind::Config;
        self.ask("write", &file, async |session| {
            let written = match transfer::put(session, &path, content, exclusive).await {
                Err(trouble) if kind == Kind::Pack && trouble.is_absent() => {
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                    transfer::make_directory(session, parent).await?;
                    transfer::put(session, &path, content, exclusive).await
                }
                written => written,
            };
            match written {
                // A first try whose answer was lost.
                Err(Trouble::Refused(..)) if exclusive && ours(session, &path, content).await => Ok(()),
                written => written,
            }
        })
    }

    fn remove(&self, kind: Kind, id: &Id) -> Result<(), StoreError> {
        let path = self.path(kind, id);
        self.ask("remove", &kind.path(id), async |session| {
            match session.sftp.remove(&path).await.map_err(Trouble::from) {
                Err(trouble) if !trouble.is_absent() => Err(trouble),
                _ => Ok(()),
            }
        })
    }

    fn sweep(&self) -> Result<(), StoreError> {
        let flat = [Kind::Key, Kind::Index, Kind::Snapshot].map(|kind| self.below(kind.directory()));
        let (root, packs) = (self.place.path.clone(), self.below(Kind::Pack.directory()));
        self.ask("sweep", &self.name(), async |session| {
            for directory in flat.iter().chain([&root]) {
                for entry in transfer::list(session, directory).await? {
                    transfer::sweep(session, directory, &entry).await?;
                }
            }
            for (directory, entry) in transfer::list_below(session, &packs).await? {
                transfer::sweep(session, &format!("{packs}/{directory}"), &entry).await?;
            }
            Ok(())
        })
    }
}

async fn ours(session: &Session, path: &str, content: &[Bytes]) -> bool {
    transfer::get(session, path, None).await.is_ok_and(|found| found == content.concat())
}

/// A file whose name is an identifier.
fn named(entry: &transfer::Entry) -> Option<(Id, u64)> {
    Some((entry.name.parse().ok()?, entry.attributes.size?))
}
