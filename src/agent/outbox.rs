//! What is to be told to the controller and must not be lost: one file each, removed when the controller has
//! stored it.
//!
//! # Guarantees
//!
//! Durable before [`Outbox::put`] returns. Numbers grow and are never used twice, also after all was
//! delivered. A damaged item is set aside and an alarm goes in its place: nothing behind it waits. Bounded: the oldest reports give way to newer ones (the newest says where the server stands);
//! alarms do not.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError};
use crate::model::report::ErrorReport;
use crate::wire::message::{Item, OutboxItem};

/// Reports kept while the controller is away.
const MAX_REPORTS: usize = 200;
/// Alarms kept while the controller is away. A server that raises more says nothing new.
const MAX_ALARMS: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    #[error("cannot keep what is to be told to the controller")]
    Keep(#[source] DurableError),
    #[error("cannot list `{0}`")]
    List(PathBuf, #[source] std::io::Error),
    #[error("`{path}` in the outbox is damaged")]
    Damaged { path: PathBuf, source: serde_json::Error },
}

pub struct Outbox {
    directory: PathBuf,
}

/// The number given out last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Last {
    sequence: u64,
}

impl Outbox {
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("outbox") }
    }

    /// Keeps an item. Callers hold the host lock, so that a number is given out once.
    pub fn put(&self, item: Item, at: jiff::Timestamp, _lock: &durable::HostLock) -> Result<(), OutboxError> {
        std::fs::create_dir_all(&self.directory).map_err(|error| OutboxError::List(self.directory.clone(), error))?;
        let waiting = self.sequences()?;
        let last = self.last()?.max(waiting.last().copied().unwrap_or(0));
        let sequence = last + 1;
        // The number first: a crash in between leaves a gap, not a number used twice.
        let bytes = serde_json::to_vec(&Last { sequence }).expect("a number is plain data");
        durable::write(&self.directory.join("last"), &bytes, 0o600).map_err(OutboxError::Keep)?;
        let kept = serde_json::to_vec(&OutboxItem { sequence, at, item }).expect("an item is plain data");
        durable::write(&self.path(sequence), &kept, 0o600).map_err(OutboxError::Keep)?;
        self.make_room(&waiting)
    }

    /// What waits, oldest first, at most `count`, from after `sequence`.
    pub fn after(&self, sequence: u64, count: usize) -> Result<Vec<OutboxItem>, OutboxError> {
        let waiting = self.sequences()?;
        let mut items = Vec::new();
        for sequence in waiting.into_iter().filter(|waiting| *waiting > sequence).take(count) {
            items.extend(self.read(sequence)?);
        }
        Ok(items)
    }

    /// Forgets everything up to a number: the controller has it.
    pub fn stored(&self, sequence: u64) -> Result<(), OutboxError> {
        for waiting in self.sequences()?.into_iter().filter(|waiting| *waiting <= sequence) {
            durable::remove(&self.path(waiting)).map_err(OutboxError::Keep)?;
        }
        Ok(())
    }

    /// Numbers what waits from after `sequence` on, if it was numbered from an earlier state of this server: a
    /// disk put back from a copy would number new items like old ones, and they would be taken for those.
    pub fn resume(&self, sequence: u64, _lock: &durable::HostLock) -> Result<(), OutboxError> {
        if self.last()? >= sequence {
            return Ok(());
        }
        let waiting = self.after(0, usize::MAX)?;
        let last = sequence + waiting.len() as u64;
        // From the last one: whatever interrupts, no number is there twice and none is lost.
        for (index, item) in waiting.into_iter().enumerate().rev() {
            let sequence = sequence + 1 + index as u64;
            let old = self.path(item.sequence);
            let kept = serde_json::to_vec(&OutboxItem { sequence, ..item }).expect("an item is plain data");
            durable::write(&self.path(sequence), &kept, 0o600).map_err(OutboxError::Keep)?;
            durable::remove(&old).map_err(OutboxError::Keep)?;
        }
        let bytes = serde_json::to_vec(&Last { sequence: last }).expect("a number is plain data");
        durable::write(&self.directory.join("last"), &bytes, 0o600).map_err(OutboxError::Keep)
    }

    /// Whether the controller has stored more than was ever numbered here.
    pub fn is_behind(&self, sequence: u64) -> Result<bool, OutboxError> {
        Ok(self.last()? < sequence)
    }

    fn make_room(&self, waiting: &[u64]) -> Result<(), OutboxError> {
        if waiting.len() < MAX_REPORTS.min(MAX_ALARMS) {
            return Ok(());
        }
        let (mut reports, mut alarms) = (Vec::new(), Vec::new());
        for item in self.after(0, usize::MAX)? {
            match item.item {
                Item::Report { .. } => reports.push(item.sequence),
                Item::Alarm { .. } => alarms.push(item.sequence),
            }
        }
        let old = reports.iter().rev().skip(MAX_REPORTS);
        // The first alarms say how it began.
        for sequence in old.chain(alarms.iter().skip(MAX_ALARMS)) {
            durable::remove(&self.path(*sequence)).map_err(OutboxError::Keep)?;
        }
        Ok(())
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.directory.join(format!("{sequence:020}.json"))
    }

    fn last(&self) -> Result<u64, OutboxError> {
        let path = self.directory.join("last");
        match durable::read(&path).map_err(OutboxError::Keep)? {
            None => Ok(0),
            Some(bytes) => serde_json::from_slice::<Last>(&bytes)
                .map(|last| last.sequence)
                .map_err(|source| OutboxError::Damaged { path, source }),
        }
    }

    fn sequences(&self) -> Result<Vec<u64>, OutboxError> {
        let failed = |error| OutboxError::List(self.directory.clone(), error);
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut sequences = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            sequences.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok()));
        }
        sequences.sort_unstable();
        Ok(sequences)
    }

    /// `None`: given way or stored meanwhile.
    fn read(&self, sequence: u64) -> Result<Option<OutboxItem>, OutboxError> {
        let path = self.path(sequence);
        let Some(bytes) = durable::read(&path).map_err(OutboxError::Keep)? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(item) => Ok(Some(item)),
            Err(source) => self.set_aside(sequence, &bytes, OutboxError::Damaged { path, source }).map(Some),
        }
    }

    /// Keeps the damaged bytes beside the outbox, and puts an alarm of the same number in their place. May be
    /// repeated: whatever interrupts, the item is there, damaged or as the alarm.
    fn set_aside(&self, sequence: u64, bytes: &[u8], damage: OutboxError) -> Result<OutboxItem, OutboxError> {
        let path = self.path(sequence);
        let aside = path.with_extension("damaged");
        durable::write(&aside, bytes, 0o600).map_err(OutboxError::Keep)?;
        let written = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        let written = written.map_err(|error| OutboxError::List(path.clone(), error))?;
        let at = jiff::Timestamp::try_from(written).unwrap_or_default();
        let hint = Some(format!("look at `{}`, then remove it", aside.display()));
        let error = ErrorReport::of("outbox.damaged", &damage, hint);
        let alarm = OutboxItem { sequence, at, item: Item::Alarm { error } };
        let kept = serde_json::to_vec(&alarm).expect("an item is plain data");
        durable::write(&path, &kept, 0o600).map_err(OutboxError::Keep)?;
        Ok(alarm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::HostLock;
    use crate::model::report::Report;

    fn alarm(code: &str) -> Item {
        Item::Alarm { error: ErrorReport { code: code.into(), message: String::new(), causes: vec![], hint: None } }
    }

    fn report(generation: u64) -> Item {
        let generation = crate::model::Generation(generation);
        let report = Report {
            generation,
            converged: true,
            notes: vec![],
            lines: vec![],
            certificates: vec![],
            backups: vec![],
            duration_ms: 0,
        };
        Item::Report { report, position: None }
    }

    fn outbox() -> (tempfile::TempDir, HostLock, Outbox) {
        let state = tempfile::tempdir().unwrap();
        let lock = HostLock::take(&state.path().join("lock"), "test").unwrap();
        let outbox = Outbox::new(state.path());
        (state, lock, outbox)
    }

    fn sequences(outbox: &Outbox) -> Vec<u64> {
        outbox.after(0, usize::MAX).unwrap().iter().map(|item| item.sequence).collect()
    }

    #[test]
    fn numbers_grow_also_over_an_empty_outbox() {
        let (_state, lock, outbox) = outbox();
        for code in ["a", "b"] {
            outbox.put(alarm(code), jiff::Timestamp::UNIX_EPOCH, &lock).unwrap();
        }
        assert_eq!(outbox.after(1, 9).unwrap()[0].item, alarm("b"));
        outbox.stored(2).unwrap();
        assert_eq!(sequences(&outbox), Vec::<u64>::new());
        outbox.put(alarm("c"), jiff::Timestamp::UNIX_EPOCH, &lock).unwrap();
        assert_eq!(sequences(&outbox), [3]);
        outbox.stored(1).unwrap();
        assert_eq!(sequences(&outbox), [3], "what is not stored stays");
    }

    #[test]
    fn old_reports_give_way_and_alarms_stay() {
        let (_state, lock, outbox) = outbox();
        outbox.put(alarm("a"), jiff::Timestamp::UNIX_EPOCH, &lock).unwrap();
        for generation in 0..(MAX_REPORTS as u64 + 10) {
            outbox.put(report(generation), jiff::Timestamp::UNIX_EPOCH, &lock).unwrap();
        }
        let kept = sequences(&outbox);
        assert_eq!((kept.len(), kept[0]), (MAX_REPORTS + 1, 1));
        assert_eq!(*kept.last().unwrap(), MAX_REPORTS as u64 + 11);
    }

    #[test]
    fn a_disk_put_back_from_a_copy_numbers_on_where_the_controller_is() {
        let (_state, lock, outbox) = outbox();
        for code in ["a", "b"] {
            outbox.put(alarm(code), jiff::Timestamp::UNIX_EPOCH, &lock).unwrap();
        }
        outbox.resume(2, &lock).unwrap();
        assert_eq!(sequences(&outbox), [1, 2], "nothing was put back");
        outbox.resume(7, &lock).unwrap();
        assert_eq!(sequences(&outbox), [8, 9]);
        assert_eq!(outbox.after(8, 1).unwrap()[0].item, alarm("b"));
        outbox.put(alarm("c"), jiff::Timestamp::UNIX_EPOCH, &lock).unwrap();
        assert_eq!(sequences(&outbox), [8, 9, 10]);
    }

    #[test]
    fn a_damaged_item_is_set_aside_told_and_holds_nothing_back() {
        let (_state, lock, outbox) = outbox();
        for code in ["a", "b"] {
            outbox.put(alarm(code), jiff::Timestamp::UNIX_EPOCH, &lock).unwrap();
        }
        std::fs::write(outbox.path(1), "{").unwrap();
        let items = outbox.after(0, 9).unwrap();
        let Item::Alarm { error } = &items[0].item else { panic!("{items:?}") };
        assert_eq!((items[0].sequence, error.code.as_str()), (1, "outbox.damaged"));
        assert_eq!(items[1].item, alarm("b"));
        assert_eq!(std::fs::read(outbox.path(1).with_extension("damaged")).unwrap(), b"{");
        assert_eq!(outbox.after(0, 9).unwrap(), items, "it stays as it was told");
        outbox.stored(2).unwrap();
        assert_eq!(sequences(&outbox), Vec::<u64>::new());
    }
}
