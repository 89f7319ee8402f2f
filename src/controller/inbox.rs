//! What many agents report, stored in few transactions.
//!
//! Whatever came while the last transaction ran goes into the next one. An agent is answered when its items
//! are on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::store::{Greeting, Received, Store, StoreError};
use crate::model::Name;
use crate::model::fleet::Position;

/// What waits for the store. More makes agents wait, not the memory grow.
const WAITING: usize = 4096;
/// When what the store did not take is offered again, if nothing else comes.
const AGAIN: Duration = Duration::from_secs(1);

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

/// What is to be stored. What was not stays, and goes with the next attempt.
#[derive(Default)]
struct Batch {
    greetings: BTreeMap<Name, Greeting>,
    gone: BTreeSet<Name>,
    positions: BTreeMap<Name, Position>,
    received: Vec<Received>,
    answers: Vec<(Name, oneshot::Sender<u64>)>,
}

impl Batch {
    /// Of one server the last word counts.
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Greeting(greeting) => {
                self.gone.remove(&greeting.server);
                self.positions.remove(&greeting.server);
                self.greetings.insert(greeting.server.clone(), greeting);
            }
            Entry::Gone(name) => {
                self.greetings.remove(&name);
                self.gone.insert(name);
            }
            Entry::Position(name, position) => {
                self.positions.insert(name, position);
            }
            Entry::Items(items, answer) => {
                self.answers.push((items.server.clone(), answer));
                self.received.push(items);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.greetings.is_empty() && self.gone.is_empty() && self.positions.is_empty()
    }

    async fn store(&mut self, store: &Store, instance: Uuid, now: jiff::Timestamp) -> Result<(), StoreError> {
        // Unanswered, the agents send their items again: these do not stay here.
        let (received, answers) = (std::mem::take(&mut self.received), std::mem::take(&mut self.answers));
        if !self.greetings.is_empty() {
            let greetings: Vec<_> = self.greetings.values().cloned().collect();
            store.connected(&greetings, instance, now).await?;
            self.greetings.clear();
        }
        if !self.gone.is_empty() {
            let gone: Vec<_> = self.gone.iter().cloned().collect();
            store.disconnected(&gone, instance, now).await?;
            self.gone.clear();
        }
        if !self.positions.is_empty() {
            let positions: Vec<_> = self.positions.clone().into_iter().collect();
            store.note_positions(&positions, now).await?;
            self.positions.clear();
        }
        if received.is_empty() {
            return Ok(());
        }
        let stored = store.take_outboxes(&received, now).await?;
        for (server, answer) in answers {
            if let Some(sequence) = stored.get(&server) {
                // The session may have ended meanwhile.
                let _ = answer.send(*sequence);
            }
        }
        Ok(())
    }
}

async fn keep(mut queue: mpsc::Receiver<Entry>, store: Store, instance: Uuid, now: fn() -> jiff::Timestamp) {
    let mut batch = Batch::default();
    let mut entries = Vec::new();
    loop {
        let came = queue.recv_many(&mut entries, WAITING);
        // Cancel-safe: what was not received stays in the queue.
        let came = if batch.is_empty() { Ok(came.await) } else { tokio::time::timeout(AGAIN, came).await };
        entries.drain(..).for_each(|entry| batch.add(entry));
        if let Err(error) = batch.store(&store, instance, now()).await {
            tracing::error!("{}", crate::model::report::ErrorReport::of("store", &error, None));
        }
        if came == Ok(0) {
            return;
        }
    }
}
