//! Which servers to look at again: something about them was changed, here or by another controller.
//!
//! A notice carries no state, and one may be lost or come twice: the watcher reads what is in the database then.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::Stream;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::url::Place;
use super::{During, Store, StoreError};
use crate::model::Name;

/// How many notices a slow watcher may be behind before it is told to look at everything.
pub(super) const BACKLOG: usize = 16_384;

pub(super) const CHANNEL: &str = "socle_changed";

/// PostgreSQL takes payloads under 8000 bytes; a name has at most 31.
const NAMES_A_NOTICE: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// A document was put for the server, or it was enrolled, banned or evicted.
    Server(Name),
    /// Notices may have been lost: look at all servers.
    Everything,
}

/// The text of one NOTIFY: names with a space between.
pub(super) struct Notice(pub String);

impl Notice {
    pub fn about(servers: &[Name]) -> impl Iterator<Item = Notice> {
        servers.chunks(NAMES_A_NOTICE).map(|names| Notice(names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ")))
    }

    /// What cannot be read is answered by looking at everything.
    fn read(payload: &str) -> VecDeque<Changed> {
        let names: Result<_, _> = payload.split(' ').map(|name| name.parse().map(Changed::Server)).collect();
        names.unwrap_or_else(|_| VecDeque::from([Changed::Everything]))
    }
}

/// Notices from the moment of [`Store::watch`] on. Ask [`Watch::next`] in a loop.
pub struct Watch {
    source: Source,
    waiting: VecDeque<Changed>,
}

enum Source {
    Local(Receiver<Changed>),
    /// No listener: the connection was lost.
    Postgres {
        url: String,
        listener: Option<Box<PgListener>>,
    },
}

/// Between two tries to listen again, in a database that does not answer.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

impl Store {
    /// Listens. Changes committed after this returned are seen.
    pub async fn watch(&self) -> Result<Watch, StoreError> {
        let source = match &self.inner.url.0 {
            Place::Sqlite(_) => Source::Local(self.inner.changed.subscribe()),
            Place::Postgres(url) => {
                let listener = listen(url).await.during("listen for changes")?;
                Source::Postgres { url: url.clone(), listener: Some(listener) }
            }
        };
        Ok(Watch { source, waiting: VecDeque::new() })
    }
}

impl Watch {
    /// The next change; `None` when the store is gone. A lost connection is not the end: it is made again and
    /// answered by [`Changed::Everything`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<Changed> {
        loop {
            if let Some(changed) = self.waiting.pop_front() {
                return Some(changed);
            }
            match &mut self.source {
                Source::Local(receiver) => match receiver.recv().await {
                    Ok(changed) => self.waiting.push_back(changed),
                    Err(RecvError::Lagged(_)) => self.waiting.push_back(Changed::Everything),
                    Err(RecvError::Closed) => return None,
                },
                Source::Postgres { url, listener } => match listener {
                    Some(listening) => match listening.try_recv().await {
                        Ok(Some(notice)) => self.waiting = Notice::read(notice.payload()),
                        Ok(None) => *listener = None,
                        Err(error) => {
                            tracing::warn!(%error, "the connection on which changes are heard was lost");
                            *listener = None;
                        }
                    },
                    // What was sent meanwhile is missed. Everything is looked at after listening began, so that
                    // nothing falls between.
                    None => match listen(url).await {
                        Ok(listening) => {
                            *listener = Some(listening);
                            self.waiting.push_back(Changed::Everything);
                        }
                        Err(error) => {
                            tracing::debug!(%error, "changes cannot be heard yet");
                            tokio::time::sleep(AGAIN_AFTER).await;
                        }
                    },
                },
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Changed> + Send {
        futures_util::stream::unfold(self, async |mut watch| watch.next().await.map(|changed| (changed, watch)))
    }
}

async fn listen(url: &str) -> Result<Box<PgListener>, sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    Ok(Box::new(listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_back_and_stays_below_the_limit() {
        let names: Vec<Name> = (0..1000).map(|n| format!("{n:a>31}", n = format!("a{n}")).parse().unwrap()).collect();
        let mut read = Vec::new();
        for Notice(payload) in Notice::about(&names) {
            assert!(payload.len() < 8000, "{}", payload.len());
            read.extend(Notice::read(&payload));
        }
        assert_eq!(read, names.into_iter().map(Changed::Server).collect::<Vec<_>>());
        assert_eq!(Notice::read("ks1 ../x"), [Changed::Everything]);
    }
}
