//! What many agents report, stored in few transactions.
//!
//! Whatever came while the last transaction ran goes into the next one. An agent is answered when its items
//! are on disk.

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::store::{Greeting, Received, Store, StoreError};
use crate::model::Name;
use crate::model::fleet::Position;

/// What waits for the store. More makes agents wait, not the memory grow.
const WAITING: usize = 4096;

pub(super) enum Entry {
    Greeting(Greeting),
    Gone(Name),
    Position(Name, Position),
    /// Answered with the number up to which everything of the server is stored.
    Items(Received, oneshot::Sender<u64>),
}

#[derive(Clone)]
pub(super) struct Inbox(mpsc::Sender<Entry>);

#[derive(Debug, thiserror::Error)]
#[error("the store takes nothing at the moment")]
pub(super) struct NotStored;

impl Inbox {
    pub fn start(store: Store, instance: Uuid, now: fn() -> jiff::Timestamp) -> Self {
        let (sender, queue) = mpsc::channel(WAITING);
        tokio::spawn(keep(queue, store, instance, now));
        Self(sender)
    }

    pub async fn put(&self, entry: Entry) -> Result<(), NotStored> {
        self.0.send(entry).await.map_err(|_| NotStored)
    }

    /// When it is on disk. An error: it is not; the agent keeps it and sends it again.
    pub async fn store(&self, received: Received) -> Result<u64, NotStored> {
        let (answer, answered) = oneshot::channel();
        self.put(Entry::Items(received, answer)).await?;
        answered.await.map_err(|_| NotStored)
    }
}

async fn keep(mut queue: mpsc::Receiver<Entry>, store: Store, instance: Uuid, now: fn() -> jiff::Timestamp) {
    let mut entries = Vec::new();
    while queue.recv_many(&mut entries, WAITING).await > 0 {
        if let Err(error) = keep_all(std::mem::take(&mut entries), &store, instance, now()).await {
            // Unanswered, the agents send their items again; the rest they say again when they come back.
            tracing::error!("{}", crate::model::report::ErrorReport::of("store", &error, None));
        }
    }
}

async fn keep_all(entries: Vec<Entry>, store: &Store, instance: Uuid, now: jiff::Timestamp) -> Result<(), StoreError> {
    let (mut greetings, mut gone, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    let (mut received, mut answers) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            Entry::Greeting(greeting) => {
                gone.retain(|name| *name != greeting.server);
                greetings.push(greeting);
            }
            Entry::Gone(name) => {
                greetings.retain(|greeting| greeting.server != name);
                gone.push(name);
            }
            Entry::Position(name, position) => positions.push((name, position)),
            Entry::Items(items, answer) => {
                answers.push((items.server.clone(), answer));
                received.push(items);
            }
        }
    }
    if !greetings.is_empty() {
        store.connected(&greetings, instance, now).await?;
    }
    if !gone.is_empty() {
        store.disconnected(&gone, instance, now).await?;
    }
    if !positions.is_empty() {
        store.note_positions(&positions, now).await?;
    }
    if !received.is_empty() {
        let stored = store.take_outboxes(&received, now).await?;
        for (server, answer) in answers {
            if let Some(sequence) = stored.get(&server) {
                // The session may have ended meanwhile.
                let _ = answer.send(*sequence);
            }
        }
    }
    Ok(())
}
