//! What was noted, where it belongs.

use crate::ingest::open::OpenRecords;
use crate::ledger::{Entry, Origin, merge};
use crate::model::event::{Field, Head, Kind, Span};
use crate::model::record::{Role, StoredRecord};
use crate::model::time::{Precision, SECOND};
use crate::parse::Parsers;
use crate::smtp::binding::{Binder, Next, Place, Unbound};
use crate::smtp::command::Mark;
use crate::smtp::config::SmtpConfig;
use crate::smtp::session::Accepted;
use std::sync::Arc;

fn binder() -> Binder {
    Binder { open: Arc::default(), bell: Arc::default(), parsers: Parsers::load(None).unwrap(), config: SmtpConfig::default() }
}

fn place() -> Place {
    Place { host: "mx1".into(), mta: "postfix".into(), instance: "postfix".into() }
}

fn accepted(envid: &str, at: i64, reply: &str) -> Accepted {
    let mark = Mark { envelope_id: envid.into(), certifier: "qUqP5cyxm6YcTAhz05Hph5gvu9M".into(), timeout: Some(600) };
    let recipients = vec![(b"bob@b.test".to_vec(), Some(b"rfc822;bob@b.test".to_vec())), (b"a>,<evil@x".to_vec(), None)];
    Accepted { mark, sender: b"ann@a.test".to_vec(), recipients, reply: reply.as_bytes().to_vec(), at }
}

/// A message's lines, as Postfix logs them with stamps of whole seconds.
fn logged(open: &OpenRecords, queue_id: &[u8], from: i64, to: i64, message_id: &str) {
    open.with(|ledger| {
        let role = Role::Hop;
        let origin = ledger.origin(Origin { host: "mx1".into(), instance: "postfix".into(), mta: "postfix".into(), role });
        let mut add = |kind, seconds: i64, text: &str| {
            let spans = [Span { field: Field::MessageId, start: 0, len: text.len() as u32 }];
            let head = Head { kind, action: None, time: seconds * SECOND, precision: Precision::Second, written: seconds, ordinal: 0 };
            let spans = if text.is_empty() { &[][..] } else { &spans };
            ledger.add(&Entry { origin, role, queue_id, head, spans, line: text.as_bytes(), extra: b"" }, || true);
        };
        add(Kind::Arrival, from, "");
        add(Kind::Queued, from, message_id);
        add(Kind::Closed, to, "");
    });
}

fn records(open: &OpenRecords) -> Vec<StoredRecord> {
    open.with(|ledger| ledger.drain()).into_iter().flat_map(|c| merge(c, &[]).put).collect()
}

#[test]
fn of_messages_that_had_one_queue_id_each_gets_its_own_binding_whatever_the_order() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let b = binder();
        let bind = |n: usize| {
            let at = (100 * (n as i64 + 1)) * SECOND + 300_000;
            b.accepted(&place(), &accepted(&format!("{n}@h"), at, "250 2.0.0 Ok: queued as 1A2B3C")).unwrap();
        };
        // Before, between and behind the lines of the log.
        bind(order[0]);
        for n in 0..3 {
            logged(&b.open, b"1A2B3C", 100 * (n + 1), 100 * (n + 1) + 1, &format!("{n}@m"));
        }
        bind(order[1]);
        bind(order[2]);
        let all = records(&b.open);
        assert_eq!(all.len(), 3);
        for r in all.iter().map(StoredRecord::derive) {
            let n = r.message_id.as_deref().unwrap().chars().next().unwrap();
            assert_eq!(r.bindings.iter().map(|b| b.envelope_id.clone()).collect::<Vec<_>>(), [format!("{n}@h")]);
            assert_eq!(r.bindings[0].expires, Some(r.arrival_date.micros / SECOND + 600));
        }
    }
}

#[test]
fn what_a_client_writes_adds_no_recipient_and_what_cannot_be_noted_is_said() {
    let b = binder();
    assert_eq!(b.accepted(&place(), &accepted("1@h", SECOND, "250 2.0.0 Ok: queued as 4QabcDEFghzXY")).unwrap(), "4QabcDEFghzXY");
    let one = records(&b.open).remove(0).derive();
    assert_eq!(one.recipients.iter().map(|r| r.final_recipient.as_str()).collect::<Vec<_>>(), ["bob@b.test"]);
    assert_eq!((one.envelope_from.as_deref(), one.closed), (Some("ann@a.test"), false));
    assert!(matches!(b.accepted(&place(), &accepted("1@h", 1, "250 thank you")), Err(Unbound::NoQueueId(_))));
    let nowhere = Place { mta: "no-such".into(), ..place() };
    assert!(matches!(
        b.accepted(&nowhere, &accepted("1@h", 1, "250 2.0.0 Ok: queued as 4Q")),
        Err(Unbound::NoQueueId(_) | Unbound::NoParser(_))
    ));
}

#[test]
fn behind_the_mta_the_gateway_knows_the_next_host_better() {
    let b = binder();
    b.accepted(&place(), &accepted("1@h", SECOND, "250 2.0.0 Ok: queued as 4QabcDEFghzXY")).unwrap();
    let next = Next { host: "mx.b.test".into(), ip: Some("192.0.2.9".into()), tracks: true };
    b.next_host(&place(), b"4QabcDEFghzXY", b"Bob@b.test", &next, 2 * SECOND).unwrap();
    let one = records(&b.open).remove(0).derive();
    let r = &one.recipients[0];
    assert_eq!((r.remote_mta.as_deref(), r.remote_ip.as_deref(), r.next_tracks), (Some("mx.b.test"), Some("192.0.2.9"), true));
}
