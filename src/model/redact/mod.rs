//! Taking people out of what is stored: one of them everywhere ([`person`]), or all of them after a time ([`personal`]).
//!
//! An event is its line plus spans, so a mask is put into the line itself, and the spans move along. What is masked
//! looks like what it stands for (an address, a host's name) and is known again as a mask, so that doing it twice
//! changes nothing. An event's identity is what it says: the same line read once more would not be known for the
//! masked one. Files that were read are not read again, so that happens only with a further copy of a log.

pub mod person;
pub mod personal;

use super::event::{Event, Span, encode};
use super::incarnation;
use super::record::{Slot, StoredRecord};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;
use sha1::{Digest, Sha1};
use std::ops::Range;

/// What stands in place of a forgotten address.
pub const FORGOTTEN: &str = "masked@masked.invalid";

/// One replacement in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Bytes that go.
    pub at: Range<usize>,
    /// What comes in their place.
    pub with: Vec<u8>,
}

/// Sorts edits and drops those that overlap an earlier one.
fn in_order(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort_by(|a, b| a.at.start.cmp(&b.at.start).then(b.at.end.cmp(&a.at.end)));
    let mut end = 0;
    edits.retain(|e| {
        let apart = e.at.start >= end;
        end = if apart { e.at.end } else { end };
        apart
    });
    edits
}

/// The text with all edits (in order) made.
fn edited(text: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for e in edits {
        out.extend_from_slice(text.get(at..e.at.start).unwrap_or_default());
        out.extend_from_slice(&e.with);
        at = e.at.end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    out
}

/// Where a position comes to lie. One amid an edit goes to its beginning, or to its end.
fn moved(position: usize, edits: &[Edit], to_end: bool) -> usize {
    let (mut gone, mut come) = (0, 0);
    for e in edits {
        if e.at.end <= position {
            gone += e.at.len();
            come += e.with.len();
        } else if e.at.start < position {
            return e.at.start + come - gone + if to_end { e.with.len() } else { 0 };
        } else {
            break;
        }
    }
    position + come - gone
}

/// Appends an event with edits (in order, none over the border between line and what is behind it) to `out`.
fn rewrite(out: &mut Vec<u8>, event: &Event, edits: &[Edit]) {
    let text = edited(event.whole(), edits);
    let (line, extra) = text.split_at_checked(moved(event.line().len(), edits, true)).unwrap_or((&text, &[]));
    let spans: Vec<Span> = event
        .spans()
        .map(|s| {
            let (start, end) = (s.start as usize, s.start as usize + s.len as usize);
            // An empty field at an edit's end stays empty behind it.
            let start = moved(start, edits, false);
            let end = moved(end, edits, true).max(start);
            Span { field: s.field, start: start as u32, len: (end - start) as u32 }
        })
        .collect();
    encode(out, &event.head, &spans, line, extra);
}

/// A record with new events and, it may be, another queue id: in order, under the key that goes with them.
fn rebuilt(stored: &StoredRecord, events: &[u8], queue_id: Option<String>) -> StoredRecord {
    let mut whole = incarnation::split(events, false).into_iter();
    let (began, events) = whole.next().map_or((0, Vec::new()), |i| (i.began, i.events.concat()));
    let mut new = StoredRecord { events, ..stored.clone() };
    if let Some(queue_id) = queue_id {
        new.slot = Slot { queue_id, ..stored.slot.clone() };
        new.key = if stored.reused { new.slot.key_at(began) } else { new.slot.key() };
    }
    new
}

/// Calls `change` for every text in a JSON value (texts that are base64 of bytes: for those bytes) and puts what it
/// returns in their place. Names of members stay, and so do values of members that are named in `not`.
pub fn change_texts(value: &mut Value, not: &[&str], change: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> u64 {
    match value {
        Value::String(text) => {
            if let Some(new) = change(text.as_bytes()) {
                *text = String::from_utf8_lossy(&new).into_owned();
                return 1;
            }
            let packed = STANDARD_NO_PAD.decode(text.as_bytes()).ok().and_then(|bytes| change(&bytes));
            packed.map_or(0, |new| {
                *text = STANDARD_NO_PAD.encode(new);
                1
            })
        }
        Value::Array(all) => all.iter_mut().map(|v| change_texts(v, not, change)).sum(),
        Value::Object(all) => {
            let members = all.iter_mut().filter(|(name, _)| !not.contains(&name.as_str()));
            members.map(|(_, v)| change_texts(v, not, change)).sum()
        }
        _ => 0,
    }
}

/// A secret of one index, by which masks are made: who has it can test a guess, nobody else can.
#[derive(Clone)]
pub struct MaskKey([u8; 32]);

impl std::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaskKey")
    }
}

impl MaskKey {
    /// A key of random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        MaskKey(bytes)
    }

    /// The first `digits` (at most 40) hexadecimal digits of the value's HMAC-SHA-1 (RFC 2104); ASCII letters count without case.
    pub fn hash(&self, value: &[u8], digits: usize) -> String {
        let pad = |with: u8| {
            let mut block = [with; 64];
            block.iter_mut().zip(self.0).for_each(|(b, k)| *b ^= k);
            block
        };
        let inner = Sha1::new().chain_update(pad(0x36)).chain_update(value.to_ascii_lowercase()).finalize();
        let outer = Sha1::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        let mut hex: String = outer.iter().map(|b| format!("{b:02x}")).collect();
        hex.truncate(digits);
        hex
    }
}

#[cfg(test)]
mod tests;
