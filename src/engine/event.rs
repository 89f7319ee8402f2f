//! Who is told of a pass while it runs: the terminal, a client of the local door, the controller.

pub use crate::model::event::{Event, Finished};

/// Receives events. Must not block for long: the pass waits for it.
pub trait Events: Send + Sync {
    fn event(&self, event: Event);
}

/// Receives and drops.
pub struct Silent;

impl Events for Silent {
    fn event(&self, _: Event) {}
}

impl<E: Events + ?Sized> Events for std::sync::Arc<E> {
    fn event(&self, event: Event) {
        (**self).event(event);
    }
}
