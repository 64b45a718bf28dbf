//! A commit: what the ledger gathered, joined with what the store has, in one atomic step with the positions.

use crate::ledger::{Change, Merged, merge};
use crate::model::record::StoredRecord;
use crate::store::{Batch, KeyFilter, Store, StoreError, Writer};

/// What one commit brings.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// New events, to be joined with what the store has of their slots.
    pub changes: Vec<Change>,
    /// States of finished sources: key and JSON.
    pub sources: Vec<(String, String)>,
    /// Positions of the live sources; `None` leaves those of the commit before.
    pub positions: Option<String>,
    /// Records that take the place of what is stored under their keys, unjoined (something was taken out of them).
    pub replace: Vec<StoredRecord>,
    /// Keys of records to take away.
    pub remove: Vec<String>,
    /// Take away all records whose last event is before this time, microseconds since 1970.
    pub expire_before: Option<i64>,
}

impl Work {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.sources.is_empty()
            && self.positions.is_none()
            && self.replace.is_empty()
            && self.remove.is_empty()
            && self.expire_before.is_none()
    }
}

/// Where finished work goes: the index itself, or the daemon that writes it.
pub trait Sink: Send {
    /// Stores work in one atomic commit; returns how many records were written.
    ///
    /// # Errors
    /// Nothing of this work counts then.
    fn commit(&mut self, work: Work) -> Result<u64, StoreError>;
}

/// Owns the writer during an ingest.
pub struct Committer<'a> {
    store: &'a Store,
    writer: Writer,
    /// Documents that a merge on the way may make one segment of.
    most_merged: u64,
}

impl<'a> Committer<'a> {
    /// Takes the store's writer.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process writes.
    pub fn new(store: &'a Store) -> Result<Self, StoreError> {
        let writer = store.writer()?;
        store.reload()?;
        Ok(Committer { store, writer, most_merged: u64::MAX })
    }

    /// As [`Committer::new`], for one who commits often and may not be kept waiting: merges that would make a segment of
    /// more than `most_merged` documents are left to [`Committer::tidy`].
    ///
    /// # Errors
    /// As [`Committer::new`].
    pub fn hasty(store: &'a Store, most_merged: u64) -> Result<Self, StoreError> {
        Ok(Committer { most_merged, ..Committer::new(store)? })
    }

    /// Does the merges that were left, however long they take.
    ///
    /// # Errors
    /// As [`Sink::commit`].
    pub fn tidy(&mut self) -> Result<(), StoreError> {
        let merged = self.writer.tidy(u64::MAX)?.merges > 0;
        if merged { self.store.reload() } else { Ok(()) }
    }
}

impl Sink for Committer<'_> {
    /// After any error the writer is shut, and the run ends or begins anew with a new one (R2).
    fn commit(&mut self, work: Work) -> Result<u64, StoreError> {
        if work.is_empty() {
            return Ok(0);
        }
        let store = self.store;
        let positions = match work.positions {
            Some(positions) => positions,
            None => store.positions()?.unwrap_or_default(),
        };
        let batch = Batch { put: work.replace, remove: work.remove, sources: work.sources, positions, expire_before: work.expire_before };
        let records = self.writer.commit_made(batch, work.changes, |known, change| {
            let Merged { put, remove } = one(store, known, change)?;
            Ok((put, remove))
        })?;
        self.store.reload()?;
        if self.writer.tidy(self.most_merged)?.merges > 0 {
            self.store.reload()?;
        }
        Ok(records)
    }
}

fn one(store: &Store, known: &KeyFilter, change: Change) -> Result<Merged, StoreError> {
    let key = change.slot.key();
    let stored = match (known.may_contain(&key), change.reused) {
        (false, _) => Vec::new(),
        (true, true) => store.by_slot(&change.slot)?,
        (true, false) => store.get(&key)?.into_iter().collect(),
    };
    Ok(merge(change, &stored))
}
