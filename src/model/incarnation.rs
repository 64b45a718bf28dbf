//! Incarnations: which of several messages that had the same queue id an event belongs to (R3).
//!
//! Postfix's short ids are made of an inode and come back for another message. The boundaries are a
//! pure function of all events known of a slot, so that it does not matter when a line was read: a
//! line belongs to the latest arrival not after it, and what lies before every arrival to the first.

use super::event::{Event, Field, Kind};
use super::time::SECOND;

/// One message's share of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation<'a> {
    /// Second of the first event, since 1970, UTC: the key's last part.
    pub began: i64,
    /// Events in [`Event::order`].
    pub events: Vec<&'a [u8]>,
}

struct Item<'a> {
    order: (i64, u8, u64),
    event: Event<'a>,
    bytes: &'a [u8],
}

/// Takes encoded events (any order, doubles allowed) apart into incarnations, oldest first.
/// Doubles are dropped; of two copies the one with the finer stamp stays.
pub fn split<'a>(encoded: &'a [u8], reused: bool) -> Vec<Incarnation<'a>> {
    let items = distinct(encoded);
    let mut out: Vec<Incarnation> = Vec::new();
    let mut state = State::default();
    for item in &items {
        if out.is_empty() || (reused && state.begins(&item.event)) {
            out.push(Incarnation { began: item.event.head.time.div_euclid(SECOND), events: Vec::new() });
            state = State::default();
        }
        state.see(&item.event);
        if let Some(i) = out.last_mut() {
            i.events.push(item.bytes);
        }
    }
    out
}

/// Whether the events of a record are only arrivals that say nothing of a message (its size, how it came): an aborted
/// transaction, no record. An MTA that logs at the end of a transaction (Exim's `<=`) says so.
pub fn is_aborted(encoded: &[u8]) -> bool {
    super::event::decode_all(encoded)
        .all(|e| e.head.kind == Kind::Arrival && e.fields().all(|(f, _)| !matches!(f, Field::Size | Field::MessageId | Field::Protocol)))
}

fn distinct(encoded: &[u8]) -> Vec<Item<'_>> {
    let mut items: Vec<Item> = Vec::new();
    let mut rest = encoded;
    while let Some((event, after)) = Event::decode(rest) {
        let bytes = rest.get(..rest.len() - after.len()).unwrap_or_default();
        items.push(Item { order: event.order(), event, bytes });
        rest = after;
    }
    // Same identity side by side in order of time; of those that are near each other the finest stays.
    items.sort_by(|a, b| a.order.2.cmp(&b.order.2).then(a.order.cmp(&b.order)).then(a.bytes.cmp(b.bytes)));
    items.dedup_by(|later, kept| {
        let same = later.order.2 == kept.order.2 && near(&later.event, &kept.event);
        if same && later.event.head.precision > kept.event.head.precision {
            std::mem::swap(later, kept);
        }
        same
    });
    items.sort_by(|a, b| a.order.cmp(&b.order).then(a.bytes.cmp(b.bytes)));
    items
}

/// An identity leaves out year and zone; copies of one line are at most a zone apart, the same words a year later are another event.
fn near(a: &Event, b: &Event) -> bool {
    (a.head.time - b.head.time).abs() <= 26 * 3600 * SECOND
}

#[derive(Default)]
struct State<'a> {
    entered: bool,
    message_id: Option<&'a [u8]>,
    closed: bool,
}

impl<'a> State<'a> {
    /// Whether an event is the first of the next message: an arrival, or, where none is logged (bounces, forwards), the first cleanup line.
    fn begins(&self, e: &Event<'a>) -> bool {
        match e.head.kind {
            Kind::Arrival => self.entered || self.message_id.is_some() || self.closed,
            Kind::Queued => match e.get(Field::MessageId) {
                Some(id) => self.closed || self.message_id.is_some_and(|known| known != id),
                None => false,
            },
            _ => false,
        }
    }

    fn see(&mut self, e: &Event<'a>) {
        match e.head.kind {
            Kind::Arrival => self.entered = true,
            Kind::Closed => self.closed = true,
            _ => {}
        }
        if let Some(id) = e.get(Field::MessageId) {
            self.message_id = Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Head, Span, encode};
    use super::super::time::Precision;
    use super::*;

    fn put(out: &mut Vec<u8>, seconds: i64, kind: Kind, precision: Precision, message_id: &str) {
        let time = seconds * SECOND + if precision == Precision::Micro { 5 } else { 0 };
        let head = Head { kind, action: None, time, precision, written: seconds, ordinal: 0 };
        let spans: &[Span] =
            if message_id.is_empty() { &[] } else { &[Span { field: Field::MessageId, start: 0, len: message_id.len() as u32 }] };
        encode(out, &head, spans, message_id.as_bytes(), b"");
    }

    #[test]
    fn ids_that_return_are_split_at_arrivals_and_at_a_bounces_cleanup() {
        let mut e = vec![];
        put(&mut e, 200, Kind::Queued, Precision::Second, "bounce@x");
        put(&mut e, 100, Kind::Arrival, Precision::Second, "");
        put(&mut e, 100, Kind::Queued, Precision::Second, "one@x");
        put(&mut e, 101, Kind::Closed, Precision::Second, "");
        put(&mut e, 201, Kind::Closed, Precision::Second, "");
        put(&mut e, 300, Kind::Arrival, Precision::Second, "");
        let began: Vec<i64> = split(&e, true).iter().map(|i| i.began).collect();
        assert_eq!(began, [100, 200, 300]);
        assert_eq!(split(&e, false).len(), 1);
    }

    #[test]
    fn of_two_copies_the_finer_stamp_stays() {
        let mut e = vec![];
        put(&mut e, 100, Kind::Closed, Precision::Second, "");
        put(&mut e, 100, Kind::Closed, Precision::Micro, "");
        let all = split(&e, false);
        assert_eq!(all[0].events.len(), 1);
        assert_eq!(Event::decode(all[0].events[0]).unwrap().0.head.precision, Precision::Micro);
    }
}
