//! Where the progress of long acts goes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{Event, Events};
use crate::host::Progress;

/// Hands the ports' progress to whoever listens just now: the terminal, or one client of the door.
#[derive(Default)]
pub struct Relay(Mutex<Option<Arc<dyn Events>>>);

impl Relay {
    /// Until the guard is dropped.
    pub fn to(self: &Arc<Self>, events: Arc<dyn Events>) -> RelayGuard {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
        RelayGuard(self.clone())
    }

    fn tell(&self, event: Event) {
        if let Some(events) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            events.event(event);
        }
    }
}

impl Progress for Relay {
    fn say(&self, text: &str) {
        self.tell(Event::Said { text: text.to_owned() });
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.tell(Event::Bytes { done, total });
    }
}

pub struct RelayGuard(Arc<Relay>);

impl Drop for RelayGuard {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
