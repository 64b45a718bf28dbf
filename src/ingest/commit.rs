//! A commit: what the ledger gathered, joined with what the store has, in one atomic step with the positions.

use crate::ledger::{Change, Merged, merge};
use crate::store::{Batch, KeyFilter, Store, StoreError, Writer};
use rayon::prelude::*;

/// Owns the writer during an ingest.
pub struct Committer<'a> {
    store: &'a Store,
    writer: Writer,
    /// Commits so far.
    pub commits: u64,
    /// Records written so far.
    pub records: u64,
}

impl<'a> Committer<'a> {
    /// Takes the store's writer.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process writes.
    pub fn new(store: &'a Store) -> Result<Self, StoreError> {
        let writer = store.writer()?;
        store.reload()?;
        Ok(Committer { store, writer, commits: 0, records: 0 })
    }

    /// Stores changes and positions of sources in one commit. Does nothing when there is nothing.
    ///
    /// # Errors
    /// After any error the writer is shut: nothing of this commit counts, and the run ends (R2).
    pub fn commit(&mut self, changes: Vec<Change>, sources: Vec<(String, String)>) -> Result<(), StoreError> {
        if changes.is_empty() && sources.is_empty() {
            return Ok(());
        }
        let store = self.store;
        let known = self.writer.known()?;
        let merged: Vec<Merged> = changes.into_par_iter().map(|c| one(store, known, c)).collect::<Result<_, _>>()?;
        let mut batch = Batch { sources, positions: store.positions()?.unwrap_or_default(), ..Batch::default() };
        for m in merged {
            batch.put.extend(m.put);
            batch.remove.extend(m.remove);
        }
        self.records += batch.put.len() as u64;
        self.writer.apply(batch)?;
        self.commits += 1;
        self.store.reload()
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
