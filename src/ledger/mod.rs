//! Folds events into records: a table of what was learnt since the last commit, over the store.
//!
//! The table holds *changes*: the events of each slot (host, instance, queue id) in their encoded
//! form, those of all slots one behind the other as they came. [`Ledger::drain`] hands them out at a commit; [`merge`] then joins a
//! slot's new events with those the store has and says which records are to be written. Fold is set
//! union, so nothing depends on order or repetition (R1), and memory is bounded by committing when
//! [`Ledger::bytes`] passes a budget, whatever the input.

use crate::model::event::{Head, Span, decode_all, encode};
use crate::model::incarnation::{self, Incarnation};
use crate::model::record::{Role, Slot, StoredRecord};
use hashbrown::HashMap;
use rayon::prelude::*;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

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

#[derive(Debug)]
struct Open {
    role: Role,
    reused: bool,
    /// Bytes of its events.
    bytes: usize,
    /// Its latest event, in [`Ledger::places`].
    latest: u32,
}

/// Where an event lies in [`Ledger::chunks`].
#[derive(Debug)]
struct Place {
    chunk: u32,
    start: u32,
    len: u32,
    /// The place of the slot's event before this one; [`NONE`] for its first.
    before: u32,
}

/// Number of the origin, and queue id.
type Key = (u32, SmallVec<[u8; 24]>);

/// No place.
const NONE: u32 = u32::MAX;
/// Bytes of events that lie together; one that is longer lies alone.
const CHUNK: usize = 1 << 20;

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
    slots: HashMap<Key, Open, FxBuildHasher>,
    /// Bytes that `slots` takes.
    slot_bytes: usize,
    /// The encoded events of all slots, as they came.
    chunks: Vec<Vec<u8>>,
    /// Bytes in `chunks`.
    event_bytes: usize,
    places: Vec<Place>,
    /// Chunks of portions before: fresh memory costs more than what is written to it.
    spare: Vec<Vec<u8>>,
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
        self.event_bytes + self.places.len() * size_of::<Place>() + self.slot_bytes
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
        let slot_bytes = &mut self.slot_bytes;
        let open = self.slots.entry((e.origin, e.queue_id.into())).or_insert_with(|| {
            *slot_bytes += e.queue_id.len() + size_of::<(Key, Open)>() + 16;
            Open { role: e.role, reused: reused(), bytes: 0, latest: NONE }
        });
        if open.bytes > MAX_SLOT_BYTES || self.places.len() >= NONE as usize {
            self.overfull += 1;
            return;
        }
        let most = e.line.len() + e.extra.len() + (e.spans.len() + 4) * 16;
        if self.chunks.last().is_none_or(|c| c.len() + most > CHUNK) {
            self.chunks.push(self.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK)));
        }
        let number = self.chunks.len() - 1;
        let Some(chunk) = self.chunks.last_mut() else { return };
        let start = chunk.len();
        encode(chunk, &e.head, e.spans, e.line, e.extra);
        let len = chunk.len() - start;
        open.bytes += len;
        self.event_bytes += len;
        let before = std::mem::replace(&mut open.latest, self.places.len() as u32);
        self.places.push(Place { chunk: number as u32, start: start as u32, len: len as u32, before });
    }

    /// Hands out all that was gathered, in the order of the latest events; the table is empty then.
    pub fn drain(&mut self) -> Vec<Change> {
        self.slot_bytes = 0;
        let mut slots: Vec<(Key, Open)> = self.slots.drain().collect();
        // In the order of the log, as their events lie: it is read through from end to end then, and what lies together is alike.
        slots.par_sort_unstable_by_key(|(_, open)| open.latest);
        let changes = slots.into_par_iter().filter_map(|(key, open)| self.change(&key, &open)).collect();
        self.places.clear();
        self.event_bytes = 0;
        let emptied = |mut chunk: Vec<u8>| {
            chunk.clear();
            chunk
        };
        self.spare.extend(self.chunks.drain(..).map(emptied));
        changes
    }

    /// What was gathered under slots that name an id, the ledger staying as it is. Looks at every event held.
    pub fn naming(&self, id: &[u8]) -> Vec<Change> {
        let named = self.slots.iter().filter(|(key, open)| key.1.as_slice() == id || self.latest_first(open).any(|e| names(e, id)));
        named.filter_map(|(key, open)| self.change(key, open)).collect()
    }

    /// What was gathered of a slot, the ledger staying as it is.
    pub fn of_slot(&self, slot: &Slot) -> Vec<Change> {
        let same = |o: &Origin| o.host == slot.host && o.instance == slot.instance;
        let origins = self.origins.iter().enumerate().filter(|(_, o)| same(o));
        let found = origins.filter_map(|(n, _)| {
            let key = (n as u32, slot.queue_id.as_bytes().into());
            self.change(&key, self.slots.get(&key)?)
        });
        found.collect()
    }

    /// A slot's events, the latest one first.
    fn latest_first(&self, open: &Open) -> impl Iterator<Item = &[u8]> {
        let place = |n: u32| self.places.get(n as usize);
        let places = std::iter::successors(place(open.latest), move |p| place(p.before));
        places.filter_map(|p| self.chunks.get(p.chunk as usize)?.get(p.start as usize..(p.start + p.len) as usize))
    }

    fn change(&self, (origin, queue_id): &Key, open: &Open) -> Option<Change> {
        let mut events: SmallVec<[&[u8]; 16]> = self.latest_first(open).collect();
        events.reverse();
        let origin = self.origins.get(*origin as usize)?;
        let queue_id = String::from_utf8_lossy(queue_id).into_owned();
        let slot = Slot { host: origin.host.clone(), instance: origin.instance.clone(), queue_id };
        Some(Change { slot, mta: origin.mta.clone(), role: open.role, reused: open.reused, events: events.concat() })
    }
}

/// Joins a slot's new events with the records the store has of it: which are to be written, and which are no more.
///
/// A record that would be written as it already is, is left alone: a second reading of a log changes nothing.
pub fn merge(change: Change, stored: &[StoredRecord]) -> Merged {
    let Change { slot, mta, role, reused, events: mut all } = change;
    for record in stored {
        all.extend_from_slice(&record.events);
    }
    // Most are one message's events as they are.
    let own = |i: Incarnation| (i.began, (!i.is_whole(&all)).then(|| i.events.concat()));
    let parts: SmallVec<[(i64, Option<Vec<u8>>); 1]> = incarnation::split(&all, reused).into_iter().map(own).collect();
    let names = std::iter::repeat_n((slot, mta), parts.len());
    let (mut put, mut same) = (Vec::new(), Vec::new());
    for ((began, events), (slot, mta)) in parts.into_iter().zip(names) {
        let key = if reused { slot.key_at(began) } else { slot.key() };
        let events = events.unwrap_or_else(|| std::mem::take(&mut all));
        if stored.iter().any(|s| s.key == key && s.events == events) {
            same.push(key);
        } else {
            put.push(StoredRecord { key, slot, reused, mta, role, events });
        }
    }
    let is_there = |key: &String| same.contains(key) || put.iter().any(|p: &StoredRecord| p.key == *key);
    let remove = stored.iter().map(|s| &s.key).filter(|key| !is_there(key)).cloned().collect();
    Merged { put, remove }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Kind;
    use crate::model::time::Precision;

    fn add(ledger: &mut Ledger, host: &str, queue_id: &str, second: i64, text: &[u8]) -> Vec<u8> {
        let mta = || String::from("postfix");
        let origin = ledger.origin(Origin { host: host.into(), instance: mta(), mta: mta(), role: Role::Hop });
        let head = Head { kind: Kind::Queued, action: None, time: second, precision: Precision::Micro, written: 0, ordinal: 0 };
        let queue_id = queue_id.as_bytes();
        ledger.add(&Entry { origin, role: Role::Hop, queue_id, head, spans: &[], line: b"line", extra: text }, || false);
        let mut encoded = Vec::new();
        encode(&mut encoded, &head, &[], b"line", text);
        encoded
    }

    #[test]
    fn events_of_a_slot_come_together_in_the_order_of_the_log_portion_after_portion() {
        let mut ledger = Ledger::default();
        let long = "an id that is longer than the table has room for";
        for portion in 0..3 {
            let big = vec![b'x'; CHUNK / 2 + 1];
            let huge = vec![b'y'; 2 * CHUNK];
            let mut one = add(&mut ledger, "mx1", "4Ab", portion, b"first");
            let two = add(&mut ledger, "mx2", "4Ab", portion, &big);
            one.extend(add(&mut ledger, "mx1", "4Ab", portion + 1, &huge));
            let three = add(&mut ledger, "mx1", long, portion, &big);
            one.extend(add(&mut ledger, "mx1", "4Ab", portion + 2, b"last"));
            assert!(ledger.bytes() > 3 * CHUNK && ledger.len() == 3);

            let slot = |host: &str, id: &str| Slot { host: host.into(), instance: "postfix".into(), queue_id: id.into() };
            assert_eq!(ledger.of_slot(&slot("mx2", "4Ab")).len(), 1);
            assert_eq!(ledger.naming(long.as_bytes()).len(), 1);
            assert_eq!(ledger.naming(b"4Ab").len(), 2);
            let drained: Vec<(Slot, Vec<u8>)> = ledger.drain().into_iter().map(|c| (c.slot, c.events)).collect();
            assert!(drained == [(slot("mx2", "4Ab"), two), (slot("mx1", long), three), (slot("mx1", "4Ab"), one)]);
            assert!(ledger.is_empty() && ledger.bytes() == 0 && ledger.drain().is_empty());
        }
    }
}
