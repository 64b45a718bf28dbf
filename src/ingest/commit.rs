//! A commit: what the ledger gathered, joined with what the store has, in one atomic step with the positions.

use super::retention::{Done, free_reserve};
use crate::config::Retention;
use crate::ledger::{Change, Merged, merge};
use crate::model::event::decode_all;
use crate::model::record::StoredRecord;
use crate::model::redact::{change_texts, person::Person};
use crate::store::{Batch, KeyFilter, Store, StoreError, Writer};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// One person to be taken out of records. The records are read anew for the commit, so that nothing written meanwhile is lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Forget {
    /// Whom.
    pub person: Person,
    /// Keys of the records that hold the address.
    pub keys: Vec<String>,
    /// Take records away that are this person's alone; else (and all others) mask the address in them.
    pub remove: bool,
}

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
    /// Personal data was taken out of all of these.
    pub masked: bool,
    /// Keys of records to take away.
    pub remove: Vec<String>,
    /// Take away records that arrived before this time, microseconds since 1970 (see [`Batch::expire_before`]).
    pub expire_before: Option<i64>,
    /// Take a person out of records, and out of the positions.
    pub forget: Option<Forget>,
    /// Afterwards, write every segment anew in which something is deleted: it is in no file any more then.
    pub purge: bool,
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
            && self.forget.is_none()
            && !self.purge
    }
}

/// Where finished work goes: the index itself, or the daemon that writes it.
pub trait Sink: Send {
    /// Stores work in one atomic commit; returns how many records were written.
    ///
    /// # Errors
    /// Nothing of this work counts then.
    fn commit(&mut self, work: Work) -> Result<u64, StoreError>;

    /// Does what the config says of retention, where that is this sink's to do: a daemon does so by itself.
    ///
    /// # Errors
    /// As [`Sink::commit`].
    fn upkeep(&mut self, _retention: &Retention, _now: i64) -> Result<Done, StoreError> {
        Ok(Done::default())
    }
}

/// Owns the writer during an ingest.
pub struct Committer<'a> {
    pub(super) store: &'a Store,
    pub(super) writer: Writer,
    /// Documents that a merge on the way may make one segment of.
    most_merged: u64,
}

impl<'a> Committer<'a> {
    /// Takes the store's writer.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process writes.
    pub fn new(store: &'a Store) -> Result<Self, StoreError> {
        let writer = match store.writer() {
            // To take the writer away what an interrupted commit left takes room, too.
            Err(e) if e.is_storage_full() && free_reserve(store.dir()) => store.writer()?,
            taken => taken?,
        };
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

    /// Tests: the `n`-th write to the index' folder from here on fails, as on a full disk.
    #[cfg(test)]
    pub(crate) fn fail_at(&self, n: usize) {
        self.writer.fail_at(n);
    }

    /// Does one of the merges that were left, however long it takes, or makes one window that is over one segment.
    /// Says whether there was anything to do: there may be more then.
    ///
    /// # Errors
    /// As [`Sink::commit`].
    pub fn tidy(&mut self) -> Result<bool, StoreError> {
        let merged = self.writer.tidy_one(u64::MAX)? || self.writer.settle()?.merges > 0;
        if merged {
            self.store.reload()?;
        }
        Ok(merged)
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
        let (sources, expire_before) = (work.sources, work.expire_before);
        let mut batch = Batch { put: work.replace, masked: work.masked, remove: work.remove, sources, positions, expire_before };
        if let Some(forget) = &work.forget {
            take_out(store, forget, &mut batch)?;
        }
        let arrival = |c: &Change| decode_all(&c.events).next().map_or(0, |e| e.head.time);
        let records = self.writer.commit_made(batch, work.changes, arrival, |known, change| {
            let Merged { put, remove } = one(store, known, change)?;
            Ok((put, remove))
        })?;
        self.store.reload()?;
        let mut merges = self.writer.tidy(self.most_merged)?.merges;
        if work.purge {
            merges += self.writer.purge(0.0)?.merges;
        }
        if merges > 0 {
            self.store.reload()?;
        }
        Ok(records)
    }

    fn upkeep(&mut self, retention: &Retention, now: i64) -> Result<Done, StoreError> {
        let mut all = Done::default();
        loop {
            let done = self.retain(retention, now)?;
            all.expired += done.expired;
            all.masked += done.masked;
            if !done.more {
                return Ok(all);
            }
        }
    }
}

/// Takes a person out of the records that are named, and out of the positions.
fn take_out(store: &Store, forget: &Forget, batch: &mut Batch) -> Result<(), StoreError> {
    batch.positions = without(&forget.person, &batch.positions);
    let mut put: FxHashMap<String, StoredRecord> = FxHashMap::default();
    for key in &forget.keys {
        let Some(stored) = store.get(key)? else { continue };
        let Some((new, _)) = forget.person.forgotten(&stored) else { continue };
        if forget.remove && forget.person.owns(&stored) {
            batch.remove.push(stored.key);
            continue;
        }
        let moved = new.key != stored.key;
        if moved {
            batch.remove.push(stored.key);
        }
        // Two keys may become one: what is there already is joined.
        let there = match put.remove(&new.key) {
            None if moved => store.get(&new.key)?,
            other => other,
        };
        let joined = there.map_or(new.clone(), |other| new.joined(&other));
        put.insert(joined.key.clone(), joined);
    }
    batch.put.extend(put.into_values());
    Ok(())
}

/// Positions (or a finished source's JSON) without a person. Paths stay: sources are found by them.
pub fn without(person: &Person, json: &str) -> String {
    let Ok(mut value) = serde_json::from_str(json) else { return json.into() };
    match change_texts(&mut value, &["path"], &|text| person.masked(text)) {
        0 => json.into(),
        _ => value.to_string(),
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
