//! Incarnations: which of several messages that had the same queue id an event belongs to (R3).
//!
//! Postfix's short ids are made of an inode and come back for another message. The boundaries are a
//! pure function of all events known of a slot, so that it does not matter when a line was read: a
//! line belongs to the latest arrival not after it, and what lies before every arrival to the first.
//! Boundaries are found by whole seconds and rank of kind, so that a copy with coarser stamps has the
//! same ones; within one second a Postfix id does not come back (its first digits are the microsecond). qmail's
//! inodes do: where every event of a second bears decimals, these are its order.

use super::event::{Action, Event, Field, Kind};
use super::time::{Precision, SECOND};
use rustc_hash::FxHashSet;
use std::cell::OnceCell;

/// One message's share of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation<'a> {
    /// Second of the first event, since 1970, UTC: the key's last part.
    pub began: i64,
    /// Events in [`Event::order`].
    pub events: Vec<&'a [u8]>,
}

impl Incarnation<'_> {
    /// Whether its events are all that `encoded` (what it was split from) holds, and stand there in this order.
    pub fn is_whole(&self, encoded: &[u8]) -> bool {
        let mut at = encoded.as_ptr();
        let next = |e: &&[u8]| e.as_ptr() == std::mem::replace(&mut at, e.as_ptr_range().end);
        self.events.iter().all(next) && at == encoded.as_ptr_range().end
    }
}

struct Item<'a> {
    /// [`Event::order`] is the rank and the identity; the latter is only asked for where two are alike without it.
    rank: (i64, u8),
    identity: OnceCell<u64>,
    event: Event<'a>,
    bytes: &'a [u8],
}

impl Item<'_> {
    fn identity(&self) -> u64 {
        *self.identity.get_or_init(|| self.event.identity())
    }

    fn second(&self) -> i64 {
        self.event.head.time.div_euclid(SECOND)
    }

    /// A bounce begins with the line that has its Message-ID.
    fn is_named(&self) -> bool {
        self.event.get(Field::MessageId).is_some()
    }

    /// [`Event::order`], and for what is alike in it the bytes.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank).then_with(|| self.identity().cmp(&other.identity())).then_with(|| self.bytes.cmp(other.bytes))
    }

    /// Same identity side by side.
    fn by_identity(&self, other: &Self) -> std::cmp::Ordering {
        self.event.glance().cmp(&other.event.glance()).then_with(|| self.identity().cmp(&other.identity()))
    }
}

/// Most messages have no more events.
const USUAL: usize = 8;

/// Takes encoded events (any order, doubles allowed) apart into incarnations, oldest first; no two begin in one second.
/// Doubles are dropped; of two copies the one with the finer stamp stays.
pub fn split<'a>(encoded: &'a [u8], reused: bool) -> Vec<Incarnation<'a>> {
    let mut items = distinct(encoded);
    if reused {
        // A second of which all events bear decimals has an order of its own; else ranks are the order that is sure.
        let coarse: FxHashSet<i64> = items.iter().filter(|i| i.event.head.precision == Precision::Second).map(Item::second).collect();
        let within = |i: &Item| if coarse.contains(&i.second()) { 0 } else { i.rank.0 };
        items.sort_by_key(|i| (i.second(), within(i), i.rank.1, !i.is_named(), i.rank.0, i.identity()));
    }
    let mut out: Vec<(i64, Vec<Item>)> = Vec::new();
    let mut state = State::default();
    for item in items {
        let second = item.second();
        let begins = out.last().is_none_or(|(began, _)| reused && second > *began && state.begins(&item.event));
        if begins {
            out.push((second, Vec::with_capacity(USUAL)));
            state = State::default();
        }
        state.see(&item.event);
        if let Some((_, items)) = out.last_mut() {
            items.push(item);
        }
    }
    let whole = |(began, mut items): (i64, Vec<Item<'a>>)| {
        items.sort_by(Item::compare);
        Incarnation { began, events: items.into_iter().map(|i| i.bytes).collect() }
    };
    out.into_iter().map(whole).collect()
}

/// Whether the events of a record are only arrivals that say nothing of a message (its size, how it came): an aborted
/// transaction, no record. An MTA that logs at the end of a transaction (Exim's `<=`) says so.
pub fn is_aborted(encoded: &[u8]) -> bool {
    super::event::decode_all(encoded)
        .all(|e| e.head.kind == Kind::Arrival && e.fields().all(|(f, _)| !matches!(f, Field::Size | Field::MessageId | Field::Protocol)))
}

fn distinct(encoded: &[u8]) -> Vec<Item<'_>> {
    let mut items: Vec<Item> = Vec::with_capacity(USUAL);
    let mut rest = encoded;
    while let Some((event, after)) = Event::decode(rest) {
        let bytes = rest.get(..rest.len() - after.len()).unwrap_or_default();
        items.push(Item { rank: event.rank(), identity: OnceCell::new(), event, bytes });
        rest = after;
    }
    // Same identity side by side in order of time; of those that are near each other the finest stays.
    items.sort_by(|a, b| a.by_identity(b).then_with(|| a.compare(b)));
    items.dedup_by(|later, kept| {
        let same = later.by_identity(kept).is_eq() && near(&later.event, &kept.event);
        if same && later.event.head.precision > kept.event.head.precision {
            std::mem::swap(later, kept);
        }
        same
    });
    items.sort_by(Item::compare);
    items
}

/// An identity leaves out year and zone; copies of one line are at most a zone apart, the same words a year later are another event.
fn near(a: &Event, b: &Event) -> bool {
    (a.head.time - b.head.time).abs() <= 26 * 3600 * SECOND
}

#[derive(Default)]
struct State {
    entered: bool,
    named: bool,
    closed: bool,
    /// Refused, discarded or deleted as a whole after its Message-ID was known: it left, though no line says so.
    ended: bool,
}

impl State {
    /// Whether an event is the first of the next message: an arrival, or, where none is logged (bounces, forwards), the
    /// first cleanup line after the end of the one before. A second Message-ID header of one message is no new message.
    fn begins(&self, e: &Event) -> bool {
        match e.head.kind {
            Kind::Arrival => self.entered || self.named || self.closed,
            Kind::Queued => (self.closed || self.ended) && e.get(Field::MessageId).is_some(),
            _ => false,
        }
    }

    fn see(&mut self, e: &Event) {
        match e.head.kind {
            Kind::Arrival => self.entered = true,
            Kind::Closed => self.closed = true,
            Kind::Final => self.ended |= self.named && matches!(e.head.action, Some(Action::Failed | Action::Opaque)),
            _ => {}
        }
        self.named |= e.get(Field::MessageId).is_some();
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
    fn a_second_message_id_of_one_message_begins_no_other() {
        for second in [100, 101] {
            let mut e = vec![];
            put(&mut e, 100, Kind::Arrival, Precision::Second, "");
            put(&mut e, 100, Kind::Queued, Precision::Second, "one@x");
            put(&mut e, second, Kind::Queued, Precision::Second, "two@x");
            put(&mut e, 102, Kind::Closed, Precision::Second, "");
            assert_eq!(split(&e, true).len(), 1);
        }
    }

    #[test]
    fn a_message_of_less_than_a_second_is_one_whatever_copy_its_lines_come_from() {
        let lines = [(Kind::Arrival, ""), (Kind::Queued, "one@x"), (Kind::Attempt, ""), (Kind::Closed, "")];
        for coarse in 0..1u8 << lines.len() {
            let mut e = vec![];
            for (n, (kind, id)) in lines.iter().enumerate() {
                let precision = if coarse & (1 << n) == 0 { Precision::Micro } else { Precision::Second };
                put(&mut e, 100, *kind, precision, id);
            }
            assert_eq!(split(&e, true).len(), 1, "{coarse:b}");
        }
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

    proptest::proptest! {
        #[test]
        fn no_two_begin_in_one_second_and_order_does_not_matter(
            drawn in proptest::collection::vec((0..6i64, proptest::prelude::any::<bool>(), 0..4usize, 0..3usize), 0..30), turn in 0..30usize,
        ) {
            let kinds = [Kind::Arrival, Kind::Queued, Kind::Attempt, Kind::Closed];
            let encoded = |drawn: &[(i64, bool, usize, usize)]| {
                let mut e = vec![];
                for (second, fine, kind, id) in drawn {
                    let precision = if *fine { Precision::Micro } else { Precision::Second };
                    put(&mut e, *second, kinds[*kind], precision, ["", "one@x", "two@x"][*id]);
                }
                e
            };
            let all = encoded(&drawn);
            let parts = split(&all, true);
            proptest::prop_assert!(parts.windows(2).all(|w| w[0].began < w[1].began));
            let mut turned = drawn.clone();
            turned.rotate_left(turn.min(drawn.len()));
            turned.reverse();
            let doubled = [encoded(&turned), all.clone()].concat();
            proptest::prop_assert_eq!(&split(&doubled, true), &parts);
            // A copy with coarse stamps has the same boundaries.
            let coarse: Vec<_> = drawn.iter().map(|d| (d.0, false, d.2, d.3)).collect();
            let began = |parts: &[Incarnation]| parts.iter().map(|p| p.began).collect::<Vec<_>>();
            proptest::prop_assert_eq!(began(&split(&encoded(&coarse), true)), began(&parts));
        }
    }
}
