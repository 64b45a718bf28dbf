//! Open records: what was read but is not committed yet, seen together with the store.
//!
//! The live loop gathers events in a ledger and commits a few times a second. In between, and while a commit or a
//! merge is under way, the daemon's own answers (MTQP, `trace`) join what is gathered with what is stored, so that a
//! line counts as soon as it is read. Joining is the commit's own [`merge`], so both ways give the same record.

use crate::ledger::{Change, Ledger, merge};
use crate::model::journey::Lookup;
use crate::model::record::{Record, Role, Slot, StoredRecord};
use crate::store::{Seen, Store, StoreError};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most records that one id is followed to.
const MOST_BY_ID: usize = 4_000;
/// How often a look-up that a commit overtook is done again.
const TRIES: usize = 4;

/// Events on their way into the store.
#[derive(Debug, Default)]
pub struct OpenRecords {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ledger: Ledger,
    /// What was gathered beside the ledger (reports that came as mail).
    more: Vec<Change>,
    /// Handed to the writer, not yet known to be stored.
    committing: Arc<Vec<Change>>,
    by_slot: FxHashMap<Slot, Vec<usize>>,
    busy: bool,
    given_up: bool,
    /// Commits that ended: whoever read the store before and this table after one looks again.
    commits: u64,
    /// Changes of any kind.
    generation: u64,
}

impl OpenRecords {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the ledger; nobody looks at it meanwhile.
    pub fn with<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut inner = self.lock();
        inner.generation += 1;
        work(&mut inner.ledger)
    }

    /// Adds changes that do not go through the ledger.
    pub fn add(&self, changes: Vec<Change>) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.more.extend(changes);
    }

    /// Something else was stored: answers that were kept may be other ones now.
    pub fn stored_elsewhere(&self) {
        let mut inner = self.lock();
        inner.commits += 1;
        inner.generation += 1;
    }

    /// A number that changes whenever an answer may.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Bytes of events that were not handed out yet.
    pub fn bytes(&self) -> usize {
        let inner = self.lock();
        inner.ledger.bytes() + inner.more.iter().map(|c| c.events.len()).sum::<usize>()
    }

    /// Empties the ledger for a commit; what it held stays visible until [`OpenRecords::committed`].
    pub fn begin_commit(&self) -> Arc<Vec<Change>> {
        let mut inner = self.lock();
        let mut changes = inner.ledger.drain();
        changes.append(&mut inner.more);
        let changes = Arc::new(changes);
        inner.by_slot.clear();
        for (n, change) in changes.iter().enumerate() {
            inner.by_slot.entry(change.slot.clone()).or_default().push(n);
        }
        inner.committing = Arc::clone(&changes);
        inner.busy = true;
        changes
    }

    /// The store has (and its reader shows) what was handed out last.
    pub fn committed(&self) {
        let mut inner = self.lock();
        inner.committing = Arc::default();
        inner.by_slot.clear();
        inner.busy = false;
        inner.commits += 1;
        inner.generation += 1;
    }

    /// What was handed out last will not be stored any more: the process ends, the next one reads it again.
    pub fn give_up(&self) {
        self.lock().given_up = true;
    }

    /// See [`OpenRecords::give_up`].
    pub fn is_given_up(&self) -> bool {
        self.lock().given_up
    }

    /// Whether something was handed out that is not stored yet.
    pub fn is_committing(&self) -> bool {
        self.lock().busy
    }

    fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn naming(&self, id: &[u8]) -> Vec<Change> {
        let inner = self.lock();
        let mut found = inner.ledger.naming(id);
        found.extend(inner.more.iter().chain(inner.committing.iter()).filter(|c| c.names(id)).cloned());
        found
    }

    fn of_slot(&self, slot: &Slot) -> Vec<Change> {
        let inner = self.lock();
        let mut found = inner.ledger.of_slot(slot);
        found.extend(inner.more.iter().filter(|c| c.slot == *slot).cloned());
        let numbers = inner.by_slot.get(slot).into_iter().flatten();
        found.extend(numbers.filter_map(|n| inner.committing.get(*n)).cloned());
        found
    }
}

/// Store and open records as one.
#[derive(Clone)]
pub struct View {
    store: Arc<Store>,
    open: Arc<OpenRecords>,
}

/// A walk over a view from id to id, for one journey.
pub struct ViewWalk<'a> {
    view: &'a View,
    seen: FxHashSet<String>,
    by_proof: bool,
}

impl View {
    /// Joins a store with what is on its way into it. Whoever commits reloads the store.
    pub fn new(store: Arc<Store>, open: Arc<OpenRecords>) -> Self {
        View { store, open }
    }

    /// Begins a walk from id to id.
    pub fn walk(&self) -> ViewWalk<'_> {
        ViewWalk { view: self, seen: FxHashSet::default(), by_proof: false }
    }

    /// A walk that never finds hops by Message-ID (R8): an answer to strangers does not follow it, and a thousand mails that
    /// copy somebody's Message-ID must not crowd out the records that matter. Witnesses are found by it: they only take away.
    pub fn walk_by_proof(&self) -> ViewWalk<'_> {
        ViewWalk { by_proof: true, ..self.walk() }
    }

    /// See [`OpenRecords::generation`].
    pub fn generation(&self) -> u64 {
        self.open.generation()
    }

    /// The store alone.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Records, stored and open events joined, that have this id (see [`Store::by_id`]).
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn by_id(&self, id: &str) -> Result<Vec<StoredRecord>, StoreError> {
        Ok(self.with_id(id, None)?.into_iter().map(|(stored, _)| stored).collect())
    }

    /// As [`View::by_id`], as they are shown but without log lines; of one role, or all.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn records(&self, id: &str, role: Option<Role>) -> Result<Vec<Record>, StoreError> {
        Ok(self.with_id(id, role)?.into_iter().map(|(_, record)| record).collect())
    }

    fn with_id(&self, id: &str, role: Option<Role>) -> Result<Vec<(StoredRecord, Record)>, StoreError> {
        let mut found = Vec::new();
        for _ in 0..TRIES {
            let before = self.open.commits();
            found = self.try_with_id(id, role)?;
            if self.open.commits() == before {
                break;
            }
        }
        Ok(found)
    }

    fn try_with_id(&self, id: &str, role: Option<Role>) -> Result<Vec<(StoredRecord, Record)>, StoreError> {
        let asked_for = |of: Role| role.is_none_or(|role| role == of);
        let named = self.open.naming(id.as_bytes()).into_iter().filter(|c| asked_for(c.role));
        let stored = self.store.with_id(id, role, MOST_BY_ID, &mut Seen::default())?;
        let mut slots: Vec<Slot> = named.map(|c| c.slot).chain(stored.iter().map(|(r, _)| r.slot.clone())).collect();
        slots.sort_unstable();
        slots.dedup();
        let mut found = Vec::new();
        let mut by_slot: FxHashMap<Slot, Vec<(StoredRecord, Record)>> = FxHashMap::default();
        for both in stored {
            by_slot.entry(both.0.slot.clone()).or_default().push(both);
        }
        for slot in slots {
            let stored = by_slot.remove(&slot).unwrap_or_default();
            let changes = self.open.of_slot(&slot);
            if changes.is_empty() {
                found.extend(stored);
                continue;
            }
            let joined = self.joined(&slot, changes)?.into_iter().map(|r| {
                let record = r.derive_bare();
                (r, record)
            });
            found.extend(joined.filter(|(r, record)| asked_for(r.role) && r.ids(record).iter().any(|own| own == id)));
        }
        Ok(found)
    }

    /// All records of a slot, as they will be stored.
    fn joined(&self, slot: &Slot, changes: Vec<Change>) -> Result<Vec<StoredRecord>, StoreError> {
        let stored = self.store.by_slot(slot)?;
        let mut changes = changes.into_iter();
        let Some(mut all) = changes.next() else { return Ok(stored) };
        changes.for_each(|c| all.events.extend_from_slice(&c.events));
        let merged = merge(all, &stored);
        let stays = |r: &StoredRecord| !merged.remove.contains(&r.key) && !merged.put.iter().any(|p| p.key == r.key);
        let mut records: Vec<StoredRecord> = stored.into_iter().filter(stays).collect();
        records.extend(merged.put);
        records.retain(|r| r.role != Role::Hop || !crate::model::incarnation::is_aborted(&r.events));
        Ok(records)
    }
}

impl Lookup for ViewWalk<'_> {
    type Error = StoreError;

    fn by_id(&mut self, id: &str) -> Result<Vec<Record>, StoreError> {
        // No MTA's queue id holds an `@`; nearly every Message-ID does.
        let only = (self.by_proof && id.contains('@')).then_some(Role::Witness);
        let found = self.view.records(id, only)?;
        Ok(found.into_iter().filter(|r| self.seen.insert(r.key.clone())).collect())
    }
}
