//! Folds events into records: a table of what was learnt since the last commit, over the store.
//!
//! The table holds *changes*: the events of each slot (host, instance, queue id) in their encoded
//! form, one behind the other. [`Ledger::drain`] hands them out at a commit; [`merge`] then joins a
//! slot's new events with those the store has and says which records are to be written. Fold is set
//! union, so nothing depends on order or repetition (R1), and memory is bounded by committing when
//! [`Ledger::bytes`] passes a budget, whatever the input.

use crate::model::event::{Head, Span, decode_all, encode};
use crate::model::incarnation;
use crate::model::record::{Role, Slot, StoredRecord};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

/// The most bytes of events that one slot may gather between two commits (R6); what goes beyond is counted and left out.
pub const MAX_SLOT_BYTES: usize = 64 << 20;

/// What all records of one MTA instance on one host share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Host after aliases.
    pub host: String,
    /// Instance of the MTA.
    pub instance: String,
    /// Parser file.
    pub mta: String,
    /// Hop or witness; rejects are told by their events.
    pub role: Role,
}

/// Room that a slot begins with: most messages' events take some hundred bytes.
const FIRST_BYTES: usize = 512;

#[derive(Debug)]
struct Open {
    role: Role,
    reused: bool,
    events: Vec<u8>,
}

/// A slot's new events, on their way to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Host, instance, queue id.
    pub slot: Slot,
    /// Parser file.
    pub mta: String,
    /// Hop, reject or witness.
    pub role: Role,
    /// Whether the id can come again.
    pub reused: bool,
    /// Encoded events, in the order they came.
    #[serde(with = "crate::model::record::in_base64")]
    pub events: Vec<u8>,
}

impl Change {
    /// Whether the slot's queue id or one of the new events names this id.
    pub fn names(&self, id: &[u8]) -> bool {
        self.slot.queue_id.as_bytes() == id || names(&self.events, id)
    }
}

fn names(events: &[u8], id: &[u8]) -> bool {
    decode_all(events).any(|e| e.fields().any(|(field, value)| field.is_id() && value == id))
}

/// What to write for one slot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Records to write in place of those of the same key.
    pub put: Vec<StoredRecord>,
    /// Keys that are no more (an arrival found later moved their events).
    pub remove: Vec<String>,
}

/// The table.
#[derive(Debug, Default)]
pub struct Ledger {
    origins: Vec<Origin>,
    slots: HashMap<Box<[u8]>, Open, FxBuildHasher>,
    scratch: Vec<u8>,
    bytes: usize,
    /// Events that were left out because their slot was full.
    pub overfull: u64,
}

/// One event on its way in.
pub struct Entry<'a> {
    /// Number from [`Ledger::origin`].
    pub origin: u32,
    /// Hop, reject or witness.
    pub role: Role,
    /// Queue id, or a reject's second and client.
    pub queue_id: &'a [u8],
    /// Kind, action, times.
    pub head: Head,
    /// Fields.
    pub spans: &'a [Span],
    /// The line.
    pub line: &'a [u8],
    /// Values behind the line.
    pub extra: &'a [u8],
}

impl Ledger {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Slots held.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A number for an origin; the same origin gets the same number.
    pub fn origin(&mut self, origin: Origin) -> u32 {
        let at = self.origins.iter().position(|o| *o == origin).unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        at as u32
    }

    /// Adds an event. `reused` is asked once for each new slot. Doubles are dropped at the commit, by [`merge`].
    pub fn add(&mut self, e: &Entry, reused: impl FnOnce() -> bool) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&e.origin.to_le_bytes());
        self.scratch.extend_from_slice(e.queue_id);
        let open = match self.slots.get_mut(self.scratch.as_slice()) {
            Some(open) => open,
            None => {
                self.bytes += self.scratch.len() + size_of::<Open>() + 64;
                let open = Open { role: e.role, reused: reused(), events: Vec::with_capacity(FIRST_BYTES) };
                self.bytes += FIRST_BYTES;
                self.slots.entry(self.scratch.as_slice().into()).or_insert(open)
            }
        };
        if open.events.len() > MAX_SLOT_BYTES {
            self.overfull += 1;
            return;
        }
        let before = open.events.capacity();
        encode(&mut open.events, &e.head, e.spans, e.line, e.extra);
        self.bytes += open.events.capacity() - before;
    }

    /// Hands out all that was gathered; the table is empty then.
    pub fn drain(&mut self) -> Vec<Change> {
        self.bytes = 0;
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().filter_map(|(key, open)| self.change(&key, open.role, open.reused, open.events)).collect()
    }

    /// What was gathered under slots that name an id, the ledger staying as it is. Looks at every event held.
    pub fn naming(&self, id: &[u8]) -> Vec<Change> {
        let named = self.slots.iter().filter(|(key, open)| key.get(4..) == Some(id) || names(&open.events, id));
        named.filter_map(|(key, open)| self.change(key, open.role, open.reused, open.events.clone())).collect()
    }

    /// What was gathered of a slot, the ledger staying as it is.
    pub fn of_slot(&self, slot: &Slot) -> Vec<Change> {
        let same = |o: &Origin| o.host == slot.host && o.instance == slot.instance;
        let origins = self.origins.iter().enumerate().filter(|(_, o)| same(o));
        let found = origins.filter_map(|(n, _)| {
            let key = [&(n as u32).to_le_bytes(), slot.queue_id.as_bytes()].concat();
            let open = self.slots.get(key.as_slice())?;
            self.change(&key, open.role, open.reused, open.events.clone())
        });
        found.collect()
    }

    fn change(&self, key: &[u8], role: Role, reused: bool, events: Vec<u8>) -> Option<Change> {
        let origin = self.origins.get(u32::from_le_bytes(key.get(..4)?.try_into().ok()?) as usize)?;
        let queue_id = String::from_utf8_lossy(key.get(4..)?).into_owned();
        let slot = Slot { host: origin.host.clone(), instance: origin.instance.clone(), queue_id };
        Some(Change { slot, mta: origin.mta.clone(), role, reused, events })
    }
}

/// Joins a slot's new events with the records the store has of it: which are to be written, and which are no more.
///
/// A record that would be written as it already is, is left alone: a second reading of a log changes nothing.
pub fn merge(change: Change, stored: &[StoredRecord]) -> Merged {
    let mut all = change.events;
    for record in stored {
        all.extend_from_slice(&record.events);
    }
    let mut merged = Merged::default();
    let mut keys = Vec::new();
    for incarnation in incarnation::split(&all, change.reused) {
        let key = if change.reused { change.slot.key_at(incarnation.began) } else { change.slot.key() };
        keys.push(key.clone());
        let events: Vec<u8> = incarnation.events.concat();
        if stored.iter().any(|s| s.key == key && s.events == events) {
            continue;
        }
        merged.put.push(StoredRecord {
            key,
            slot: change.slot.clone(),
            reused: change.reused,
            mta: change.mta.clone(),
            role: change.role,
            events,
        });
    }
    merged.remove = stored.iter().filter(|s| !keys.contains(&s.key)).map(|s| s.key.clone()).collect();
    merged
}
