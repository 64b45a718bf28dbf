//! Binding events: what opens a record to a tracking user agent enters it as all else does, as an event (R1).

use crate::ledger::{Change, merge};
use crate::model::event::{Field, Head, Kind, Span, encode};
use crate::model::record::StoredRecord;
use crate::model::time::{Precision, SECOND, rfc3339};

/// What is bound to a record, or taken back.
#[derive(Debug, Clone)]
pub struct Bind<'a> {
    /// Envelope id, not in xtext.
    pub envelope_id: &'a str,
    /// SHA-1 of the secret, base64 without padding.
    pub certifier: &'a str,
    /// Until when, seconds since 1970; `None`: the server's default from arrival on.
    pub expires: Option<i64>,
    /// Only this recipient is shown.
    pub recipient: Option<&'a str>,
    /// Who did it, for the event's line (`msgtrk grant`).
    pub by: &'a str,
    /// When it was done, microseconds since 1970: said in the line; the event itself stands within the record.
    pub now: i64,
}

/// A binding could not be written to a record.
#[derive(Debug, thiserror::Error)]
#[error("{key}: its queue id was used again so soon that a binding cannot be told from the next message's")]
pub struct BindError {
    /// Key of the record.
    pub key: String,
}

/// The change that adds a binding to a record; hand it to [`super::commit::Sink::commit`].
///
/// Queue ids return: an event of today would belong to the latest message that had the id. So it stands at the end of
/// the record's own last second.
///
/// # Errors
/// [`BindError`] where that does not tell it from the next incarnation.
pub fn change(record: &StoredRecord, b: &Bind) -> Result<Change, BindError> {
    let shown = record.derive();
    let last = shown.last_event_date;
    let end = match last.precision {
        Precision::Second => last.micros.div_euclid(SECOND) * SECOND + SECOND - 1,
        Precision::Milli => last.micros.div_euclid(1000) * 1000 + 999,
        Precision::Micro => last.micros,
    };
    for time in [end, last.micros, shown.arrival_date.micros] {
        let change = at(record, b, time);
        let probe = at(record, b, time);
        let mine = |m: &StoredRecord| m.key == record.key && m.derive().bindings.iter().any(|x| x.certifier == b.certifier);
        if merge(change, std::slice::from_ref(record)).put.iter().any(mine) || is_there(record, b) {
            return Ok(probe);
        }
    }
    Err(BindError { key: record.key.clone() })
}

fn is_there(record: &StoredRecord, b: &Bind) -> bool {
    record.derive().bindings.iter().any(|x| x.certifier == b.certifier && x.envelope_id == b.envelope_id && x.expires == b.expires)
}

fn at(record: &StoredRecord, b: &Bind, time: i64) -> Change {
    let mut line = Line { text: format!("{} at {}:", b.by, rfc3339(b.now, Precision::Second)), spans: Vec::new() };
    line.field("envelope id", Field::EnvelopeId, b.envelope_id);
    line.field("certifier", Field::Certifier, b.certifier);
    if let Some(expires) = b.expires {
        line.field("expires", Field::Expires, &expires.to_string());
    }
    if let Some(recipient) = b.recipient {
        line.field("recipient", Field::NamedRecipient, recipient);
    }
    let head = Head { kind: Kind::Binding, action: None, time, precision: Precision::Micro, written: time.div_euclid(SECOND), ordinal: 0 };
    let mut events = Vec::new();
    encode(&mut events, &head, &line.spans, line.text.as_bytes(), b"");
    Change { slot: record.slot.clone(), mta: record.mta.clone(), role: record.role, reused: record.reused, events }
}

struct Line {
    text: String,
    spans: Vec<Span>,
}

impl Line {
    fn field(&mut self, name: &str, field: Field, value: &str) {
        self.text.push_str(&format!(" {name} "));
        self.spans.push(Span { field, start: self.text.len() as u32, len: value.len() as u32 });
        self.text.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Role, Slot};

    fn event(kind: Kind, seconds: i64, precision: Precision, message_id: &str) -> Vec<u8> {
        let head = Head { kind, action: None, time: seconds * SECOND, precision, written: seconds, ordinal: 0 };
        let spans = [Span { field: Field::MessageId, start: 0, len: message_id.len() as u32 }];
        let mut out = Vec::new();
        encode(&mut out, &head, if message_id.is_empty() { &[] } else { &spans }, message_id.as_bytes(), b"");
        out
    }

    /// Two messages that had one queue id.
    fn two() -> Vec<StoredRecord> {
        let slot = Slot { host: "mx".into(), instance: "postfix".into(), queue_id: "1A2B".into() };
        let mut events = Vec::new();
        for (at, id) in [(100, "one@x"), (200, "two@x")] {
            events.extend(event(Kind::Arrival, at, Precision::Second, ""));
            events.extend(event(Kind::Queued, at, Precision::Second, id));
            events.extend(event(Kind::Closed, at + 2, Precision::Second, ""));
        }
        merge(Change { slot, mta: "postfix".into(), role: Role::Hop, reused: true, events }, &[]).put
    }

    fn grant() -> Bind<'static> {
        Bind { envelope_id: "e@x", certifier: "c", expires: Some(9_999), recipient: None, by: "msgtrk grant", now: 5_000 * SECOND }
    }

    #[test]
    fn a_binding_of_today_belongs_to_the_message_that_had_the_id_then() {
        let stored = two();
        for n in [0, 1] {
            let merged = merge(change(&stored[n], &grant()).unwrap(), &stored);
            assert_eq!(merged.put.len(), 1, "{merged:?}");
            assert!(merged.remove.is_empty());
            assert_eq!(merged.put[0].key, stored[n].key);
            let shown = merged.put[0].derive();
            assert_eq!(shown.bindings.len(), 1);
            assert_eq!(shown.last_event_date, stored[n].derive().last_event_date);
        }
    }

    #[test]
    fn a_binding_stays_with_its_message_when_finer_copies_of_the_lines_come_later() {
        let stored = two();
        let bound = merge(change(&stored[1], &grant()).unwrap(), &stored).put.remove(0);
        let mut copy = event(Kind::Arrival, 200, Precision::Micro, "");
        copy.extend(event(Kind::Closed, 202, Precision::Micro, ""));
        let slot = bound.slot.clone();
        let merged =
            merge(Change { slot, mta: "postfix".into(), role: Role::Hop, reused: true, events: copy }, &[stored[0].clone(), bound]);
        let with: Vec<_> = merged.put.iter().filter(|r| !r.derive().bindings.is_empty()).collect();
        assert_eq!(with.len(), 1);
        assert_eq!(with[0].derive().message_id.as_deref(), Some("two@x"));
    }

    #[test]
    fn taken_back_is_taken_back_whatever_the_order_and_twice_is_once() {
        let stored = two();
        let revoke = Bind { expires: Some(0), by: "msgtrk revoke", ..grant() };
        let mut one = stored[0].clone();
        for b in [&grant(), &revoke, &grant(), &grant()] {
            if let Some(r) = merge(change(&one, b).unwrap(), &[one.clone()]).put.pop() {
                one = r;
            }
        }
        let mut other = stored[0].clone();
        for b in [&revoke, &grant()] {
            other = merge(change(&other, b).unwrap(), &[other.clone()]).put.pop().unwrap();
        }
        assert_eq!(one.derive().bindings, other.derive().bindings);
        assert!(one.derive().bindings[0].revoked);
        assert_eq!(one.events().filter(|e| e.head.kind == Kind::Binding).count(), 2);
    }
}
