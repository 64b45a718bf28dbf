//! An answer's parts as a journey, so that it is shown as `trace` shows one.

use crate::model::event::{Action, Field, Head, Kind, Span, encode};
use crate::model::journey::{By, Edge, Ending, Journey, same_address};
use crate::model::record::{Record, Role, Slot, StoredRecord};
use crate::model::time::{Precision, SECOND};
use crate::trkstat::{Part, Recipient};

/// Whether a part says nothing.
pub fn is_opaque(p: &Part) -> bool {
    p.recipients.iter().all(|r| r.action == Action::Opaque)
}

/// The journey that an answer tells of.
pub fn journey(parts: &[Part]) -> Journey {
    let records: Vec<Record> = parts.iter().enumerate().map(|(n, p)| record(n, p)).collect();
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for (from, p) in parts.iter().enumerate() {
        for r in &p.recipients {
            if let Some(to) = next(parts, from, r).filter(|to| !edges.contains(&(from, *to))) {
                edges.push((from, to));
            }
        }
    }
    let key = |n: usize| records.get(n).map(|r| r.key.clone()).unwrap_or_default();
    let mut endings = Vec::new();
    for (n, p) in parts.iter().enumerate() {
        for r in p.recipients.iter().filter(|r| next(parts, n, r).is_none()) {
            let (first, last) = (&r.original_recipient.value, &r.final_recipient.value);
            let of =
                |x: &&crate::model::record::Recipient| same_address(&x.final_recipient, last) && same_address(&x.original_recipient, first);
            let Some(said) = records.get(n).and_then(|rec| rec.recipients.iter().find(of)) else { continue };
            endings.push(Ending {
                original_recipient: first.clone(),
                last: said.clone(),
                at: p.reporting_mta.name.clone(),
                path: way(n, &edges).into_iter().map(key).collect(),
                member: false,
            });
        }
    }
    let edges = edges.iter().map(|&(a, b)| Edge { from: key(a), to: key(b), by: By::EnvelopeId }).collect();
    Journey { records, witnesses: vec![], edges, endings, truncated: false }
}

/// The part that a recipient's way goes on in: a later one of the host it was handed to, that names it.
fn next(parts: &[Part], from: usize, r: &Recipient) -> Option<usize> {
    let host = r.remote_mta.as_ref().filter(|_| r.action == Action::Transferred)?;
    let names = |p: &Part| {
        p.recipients.iter().any(|x| {
            same_address(&x.original_recipient.value, &r.original_recipient.value)
                || same_address(&x.original_recipient.value, &r.final_recipient.value)
        })
    };
    let later = parts.iter().enumerate().skip(from + 1);
    later.filter(|(_, p)| p.reporting_mta.name.eq_ignore_ascii_case(&host.name)).find(|(_, p)| names(p)).map(|(n, _)| n)
}

/// From the root to a part. Edges go to later parts only, so this ends.
fn way(to: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut way = vec![to];
    let mut at = to;
    while let Some((from, _)) = edges.iter().find(|(_, b)| *b == at) {
        way.push(*from);
        at = *from;
    }
    way.reverse();
    way
}

/// A part as a record: what it says of each recipient becomes an event, as a log line would.
fn record(n: usize, p: &Part) -> Record {
    let host = p.reporting_mta.name.clone();
    let slot = Slot { host, instance: "mtqp".into(), queue_id: (n + 1).to_string() };
    let mut events = Vec::new();
    event(&mut events, Kind::Arrival, None, p.arrival_date, &[(Field::EnvelopeId, p.envelope_id.clone())]);
    let mut last = p.arrival_date;
    for r in &p.recipients {
        let mut fields = vec![
            (Field::OriginalRecipient, r.original_recipient.value.clone()),
            (Field::FinalRecipient, r.final_recipient.value.clone()),
            (Field::Status, r.status.clone()),
        ];
        fields.extend(r.remote_mta.as_ref().map(|m| (Field::RemoteMta, m.name.clone())));
        let when = r.last_attempt_date.unwrap_or(p.arrival_date);
        last = last.max(when);
        event(&mut events, Kind::Attempt, Some(r.action), when, &fields);
    }
    if !p.recipients.iter().any(|r| r.action == Action::Delayed) {
        event(&mut events, Kind::Closed, None, last, &[]);
    }
    let key = format!("{}#{}", slot.host, n + 1);
    let mut record = StoredRecord { key, slot, reused: false, mta: "mtqp".into(), role: Role::Hop, events }.derive();
    record.queue_id = None;
    record
}

fn event(out: &mut Vec<u8>, kind: Kind, action: Option<Action>, seconds: i64, fields: &[(Field, String)]) {
    let mut text = String::new();
    let mut spans = Vec::new();
    for (field, value) in fields {
        spans.push(Span { field: *field, start: text.len() as u32, len: value.len() as u32 });
        text.push_str(value);
    }
    let head = Head { kind, action, time: seconds.saturating_mul(SECOND), precision: Precision::Second, written: seconds, ordinal: 0 };
    encode(out, &head, &spans, text.as_bytes(), b"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trkstat::{Address, Mta};

    fn part(host: &str, to: &[(&str, Action, Option<&str>)]) -> Part {
        let recipient = |(who, action, remote): &(&str, Action, Option<&str>)| Recipient {
            action: *action,
            status: "2.0.0".into(),
            remote_mta: remote.map(Mta::dns),
            last_attempt_date: Some(1_000),
            ..Recipient::opaque(Address::mail(*who), Address::mail(*who))
        };
        Part {
            envelope_id: "e@x".into(),
            reporting_mta: Mta::dns(host),
            arrival_date: 900,
            extensions: vec![],
            recipients: to.iter().map(recipient).collect(),
        }
    }

    #[test]
    fn parts_become_a_tree_and_endings() {
        let parts = [
            part("a.test", &[("u@x", Action::Transferred, Some("B.test")), ("v@x", Action::Delivered, None)]),
            part("b.test", &[("u@x", Action::Transferred, Some("a.test"))]),
        ];
        let j = journey(&parts);
        assert_eq!(j.edges.len(), 1);
        let ends: Vec<_> = j.endings.iter().map(|e| (e.original_recipient.as_str(), e.last.action, e.path.len())).collect();
        assert_eq!(ends, [("v@x", Action::Delivered, 1), ("u@x", Action::Transferred, 2)]);
    }

    #[test]
    fn what_a_server_says_twice_or_in_a_loop_ends() {
        let a = part("a.test", &[("u@x", Action::Transferred, Some("a.test"))]);
        let j = journey(&[a.clone(), a.clone(), a]);
        assert_eq!((j.records.len(), j.endings.len()), (3, 1));
    }
}
