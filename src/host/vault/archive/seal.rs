//! Chunks on their way into packs.

use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustic_core::{DataId, Id};

use super::Archive;
use super::pack::Pack;
use crate::host::vault::format::hash;
use crate::host::vault::index::BlobKind;

/// The chunks of one file. Its names are known one after the other, in any order.
#[derive(Default)]
pub(super) struct Content {
    state: Mutex<State>,
    known: Condvar,
}

#[derive(Default)]
struct State {
    ids: Vec<Option<DataId>>,
    missing: usize,
    is_lost: bool,
}

impl Content {
    /// One more chunk, which comes next in the file.
    pub fn chunk(self: &Arc<Self>, bytes: Vec<u8>) -> Chunk {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ids.push(None);
        state.missing += 1;
        Chunk { number: state.ids.len() - 1, content: self.clone(), bytes, is_known: false }
    }

    /// Waits for all of it; `None` if a part will never be known.
    pub fn ids(&self) -> Option<Vec<DataId>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self
            .known
            .wait_while(state, |state| state.missing > 0 && !state.is_lost)
            .unwrap_or_else(PoisonError::into_inner);
        // Chunks that are not lost may still come to be known.
        if state.is_lost {
            return None;
        }
        std::mem::take(&mut state.ids).into_iter().collect()
    }
}

pub(super) struct Chunk {
    content: Arc<Content>,
    number: usize,
    pub bytes: Vec<u8>,
    is_known: bool,
}

impl Chunk {
    fn is(mut self, id: Id) {
        self.is_known = true;
        let mut state = self.content.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ids[self.number] = Some(id.into());
        state.missing -= 1;
        if state.missing == 0 {
            self.content.known.notify_all();
        }
    }
}

impl Drop for Chunk {
    /// Whoever waits for one that nobody seals waits no longer.
    fn drop(&mut self) {
        if !self.is_known {
            self.content.state.lock().unwrap_or_else(PoisonError::into_inner).is_lost = true;
            self.content.known.notify_all();
        }
    }
}

/// Small chunks go together: a queue costs more than sealing one of them.
pub(super) type Batch = Vec<Chunk>;

/// Seals what comes until nothing more will.
pub(super) fn seal(archive: &Archive<'_>, batches: &Mutex<Receiver<Batch>>, packs: SyncSender<Pack>) {
    let mut sealer = archive.packer.sealer();
    loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return };
        for chunk in batch {
            // After a failure the rest is only taken, so that nobody waits for us.
            if archive.has_failed() {
                break;
            }
            let id = hash(&chunk.bytes);
            match archive.packer.put(&mut sealer, BlobKind::Data, id, &chunk.bytes, &packs) {
                Ok(()) => chunk.is(id),
                Err(error) => archive.fail(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_file_of_which_a_part_is_lost_waits_no_longer_and_the_rest_goes_on() {
        let content = Arc::<Content>::default();
        let [lost, late] = [1, 2].map(|byte| content.chunk(vec![byte]));
        drop(lost);
        assert!(content.ids().is_none());
        late.is(hash(&[2]));
        assert!(content.ids().is_none());
    }

    #[test]
    fn chunks_stand_in_their_order_whichever_is_known_first() {
        let content = Arc::<Content>::default();
        let [one, other] = [1, 2].map(|byte| content.chunk(vec![byte]));
        other.is(hash(&[2]));
        one.is(hash(&[1]));
        assert_eq!(content.ids(), Some([[1], [2]].map(|bytes| hash(&bytes).into()).to_vec()));
    }
}
