use super::person::Person;
use super::personal::{self, Masks};
use super::*;
use crate::model::event::{Action, Event, Field, Head, Kind};
use crate::model::record::Role;
use crate::model::time::{Precision, SECOND};
use proptest::prelude::*;

fn event(out: &mut Vec<u8>, at: i64, kind: Kind, action: Option<Action>, line: &str, fields: &[(Field, &str)]) {
    let spans: Vec<Span> = fields
        .iter()
        .map(|(field, value)| Span { field: *field, start: line.find(value).unwrap() as u32, len: value.len() as u32 })
        .collect();
    let head = Head { kind, action, time: at * SECOND, precision: Precision::Second, written: at, ordinal: 0 };
    encode(out, &head, &spans, line.as_bytes(), b"");
}

fn record(role: Role, queue_id: &str, events: Vec<u8>) -> StoredRecord {
    let slot = Slot { host: "mx1".into(), instance: "postfix".into(), queue_id: queue_id.into() };
    StoredRecord { key: slot.key(), slot, reused: false, mta: "postfix".into(), role, events }
}

fn mail() -> StoredRecord {
    let mut e = vec![];
    let line = "Mar  2 08:00:00 mx1 postfix/smtpd[1]: 4Ab: client=mail.b.example[192.0.2.7], sasl_username=alice";
    event(
        &mut e,
        1,
        Kind::Arrival,
        None,
        line,
        &[(Field::QueueId, "4Ab"), (Field::ClientName, "mail.b.example"), (Field::ClientIp, "192.0.2.7"), (Field::AuthUser, "alice")],
    );
    let line = "Mar  2 08:00:00 mx1 postfix/cleanup[2]: 4Ab: message-id=<77.alice@b.example>";
    event(&mut e, 1, Kind::Queued, None, line, &[(Field::QueueId, "4Ab"), (Field::MessageId, "77.alice@b.example")]);
    let line = "Mar  2 08:00:00 mx1 postfix/qmgr[3]: 4Ab: from=<Alice@b.example>, size=7, nrcpt=2 (queue active)";
    event(&mut e, 1, Kind::Queued, None, line, &[(Field::QueueId, "4Ab"), (Field::EnvelopeFrom, "Alice@b.example")]);
    for (to, action, status) in [("bob@c.example", Action::Relayed, "2.0.0"), ("carl@c.example", Action::Failed, "5.1.1")] {
        let line = format!(
            "Mar  2 08:00:01 mx1 postfix/smtp[4]: 4Ab: to=<{to}>, relay=mx.c.example[198.51.100.4]:25, dsn={status}, status=x \
             (550 {status} <{to}>: no access from 192.0.2.7, mail.b.example)"
        );
        event(
            &mut e,
            2,
            Kind::Attempt,
            Some(action),
            &line,
            &[
                (Field::QueueId, "4Ab"),
                (Field::FinalRecipient, to),
                (Field::RemoteMta, "mx.c.example"),
                (Field::RemoteIp, "198.51.100.4"),
                (Field::Status, status),
                (Field::Diagnostic, &line[line.find("550").unwrap()..line.len() - 1]),
            ],
        );
    }
    rebuilt(&record(Role::Hop, "4Ab", vec![]), &e, None)
}

fn anonymized(r: &StoredRecord, key: &MaskKey, masks: Masks) -> Option<StoredRecord> {
    personal::anonymized(r, key, masks, &|name| name == "mx.own.example")
}

fn is_plain(r: &StoredRecord) -> bool {
    personal::is_plain(r, &|name| name == "mx.own.example")
}

fn text_of(r: &StoredRecord) -> String {
    r.events().map(|e| String::from_utf8_lossy(e.whole()).into_owned() + "\n").collect()
}

#[test]
fn an_address_is_found_in_its_forms_and_only_where_it_stands_for_itself() {
    let p = Person::new("<User@Example.ORG>").unwrap();
    for (text, want) in [
        ("to=<user@example.org>, x", "to=<masked@masked.invalid>, x"),
        ("USER@EXAMPLE.ORG", "masked@masked.invalid"),
        ("from=user@example.org.", "from=masked@masked.invalid."),
        ("<\"user\"@example.org>", "<masked@masked.invalid>"),
        ("<@relay.example:user@example.org>", "<@relay.example:masked@masked.invalid>"),
        ("<prvs=0123=user@example.org>", "<prvs=0123=masked@masked.invalid>"),
        ("<bounces+user=example.org@lists.example>", "<bounces+masked=masked.invalid@lists.example>"),
        ("<list-return-7-user=example.org@lists.example>", "<list-return-7-masked=masked.invalid@lists.example>"),
        ("rfc822;user+40example.org", "rfc822;masked=masked.invalid"),
        ("<user%example.org@relay.example>", "<masked=masked.invalid@relay.example>"),
        ("<SRS0=HH=TT=example.org=user@fwd.example>", "<SRS0=HH=TT=masked=masked.invalid@fwd.example>"),
        ("user@example.org,user@example.org", "masked@masked.invalid,masked@masked.invalid"),
        ("xuser@example.org user@example.org", "xuser@example.org masked@masked.invalid"),
    ] {
        assert_eq!(p.masked(text.as_bytes()).map(|t| String::from_utf8(t).unwrap()).as_deref(), Some(want), "{text}");
        assert_eq!(p.masked(want.as_bytes()), None, "{want}");
    }
    for text in [
        "superuser@example.org",
        "a.user@example.org",
        "tag+user@example.org",
        "user@example.org.uk",
        "user@example.organic",
        "user@example.org-x",
        "user@exampleXorg",
        "user+tag@example.org",
        "bounces+a.user=example.org@l.example",
        "",
    ] {
        assert_eq!(p.masked(text.as_bytes()), None, "{text}");
    }
    for bad in ["", "user", "@", "a@", "@b", "a@b c", "a\n@b", "<<a@b>,<c@d>>"] {
        assert!(Person::new(bad).is_err(), "{bad:?}");
    }
    let tag = Person::new("a+b=c@d.example").unwrap();
    assert!(tag.is_in(b"A+2BB+3DC+40d.example") && tag.is_in(b"<a+b=c@d.example>"));
    let json = serde_json::to_string(&p).unwrap();
    assert_eq!((json.as_str(), serde_json::from_str::<Person>(&json).unwrap().address()), ("\"user@example.org\"", "user@example.org"));
}

#[test]
fn a_forgotten_recipient_is_masked_in_fields_and_lines_and_the_rest_stays() {
    let (old, p) = (mail(), Person::new("carl@c.example").unwrap());
    let (new, lines) = p.forgotten(&old).unwrap();
    assert_eq!(lines, 1);
    assert!(!text_of(&new).contains("carl"));
    let (a, b) = (old.derive(), new.derive());
    let named = |r: &crate::model::record::Record| r.recipients.iter().map(|x| x.final_recipient.clone()).collect::<Vec<_>>();
    let mut want = named(&a);
    want.iter_mut().filter(|x| x.as_str() == "carl@c.example").for_each(|x| *x = FORGOTTEN.into());
    let mut got = named(&b);
    want.sort();
    got.sort();
    assert_eq!(got, want);
    let failed = b.recipients.iter().find(|x| x.final_recipient == FORGOTTEN).unwrap();
    assert_eq!((failed.status.as_str(), failed.remote_ip.as_deref(), failed.action), ("5.1.1", Some("198.51.100.4"), Action::Failed));
    let said = "550 5.1.1 <masked@masked.invalid>: no access from 192.0.2.7, mail.b.example";
    assert_eq!(failed.diagnostic.as_deref(), Some(said));
    assert_eq!((new.key.as_str(), p.forgotten(&new)), (old.key.as_str(), None));
    assert!(!p.owns(&old) && Person::new("alice@b.example").unwrap().owns(&old));
}

#[test]
fn a_rejects_key_forgets_too() {
    let mut e = vec![];
    event(&mut e, 9, Kind::Reject, Some(Action::Failed), "x reject: <bob@c.example>: no", &[(Field::FinalRecipient, "bob@c.example")]);
    let old = record(Role::Reject, "9/bob@c.example", e);
    let (new, _) = Person::new("bob@c.example").unwrap().forgotten(&old).unwrap();
    assert_eq!(new.key, "mx1/postfix/9/masked@masked.invalid");
    let key = MaskKey::new([1; 32]);
    let aged = anonymized(&old, &key, Masks::Numbers).unwrap();
    assert!(aged.key.starts_with("mx1/postfix/9/m-") && !is_plain(&aged) && !text_of(&aged).contains("bob"), "{}", aged.key);
}

#[test]
fn old_records_lose_people_and_keep_the_rest() {
    let (old, key) = (mail(), MaskKey::new([7; 32]));
    assert!(is_plain(&old));
    for masks in [Masks::Hashes, Masks::Numbers] {
        let new = anonymized(&old, &key, masks).unwrap();
        let text = text_of(&new);
        for gone in ["Alice@", "sasl_username=alice", "bob@", "carl@", "192.0.2.7", "[mail.b", ", mail.b"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        assert!(!is_plain(&new) && anonymized(&new, &key, masks).is_none(), "{text}");
        let (a, b) = (old.derive(), new.derive());
        assert_eq!((&b.message_id, &b.queue_id, b.arrival_date), (&a.message_id, &a.queue_id, a.arrival_date));
        assert_eq!(b.recipients.len(), 2, "{masks:?}");
        let of = |r: &crate::model::record::Record| {
            let mut all: Vec<_> = r.recipients.iter().map(|x| (x.status.clone(), x.remote_mta.clone(), x.remote_ip.clone())).collect();
            all.sort();
            all
        };
        assert_eq!(of(&a), of(&b));
        assert!(b.recipients.iter().all(|x| x.final_recipient.ends_with(".invalid")));
    }
    let (again, other) = (anonymized(&old, &key, Masks::Hashes), anonymized(&old, &MaskKey::new([8; 32]), Masks::Hashes));
    assert_eq!(again, anonymized(&old, &key, Masks::Hashes));
    assert_ne!(again, other);
}

#[test]
fn a_late_line_is_masked_like_the_others_and_numbers_go_on() {
    let key = MaskKey::new([7; 32]);
    for (masks, recipients) in [(Masks::Hashes, 2), (Masks::Numbers, 3)] {
        let new = anonymized(&mail(), &key, masks).unwrap();
        let mut late = vec![];
        let line = "Mar  3 09:00:01 mx1 postfix/smtp[4]: 4Ab: to=<bob@c.example>, status=sent";
        event(
            &mut late,
            90_000,
            Kind::Attempt,
            Some(Action::Relayed),
            line,
            &[(Field::QueueId, "4Ab"), (Field::FinalRecipient, "bob@c.example")],
        );
        let with = new.joined(&record(Role::Hop, "4Ab", late));
        assert!(is_plain(&with));
        let done = anonymized(&with, &key, masks).unwrap();
        assert_eq!((done.derive().recipients.len(), is_plain(&done)), (recipients, false));
    }
}

#[test]
fn clients_are_masked_where_no_field_names_them() {
    let line = "mx1 postfix/smtpd[1]: 4Ab: client=localhost[127.0.0.1], orig_client=pc7.b.example[2001:db8::7], by mx.own.example[192.0.2.9]. [IPv6:2001:db8::8] v1.2.3.4a 5.7.1 10:00:00";
    let mut e = vec![];
    event(
        &mut e,
        1,
        Kind::Arrival,
        None,
        line,
        &[(Field::QueueId, "4Ab"), (Field::ClientName, "localhost"), (Field::ClientIp, "127.0.0.1")],
    );
    let new = anonymized(&record(Role::Hop, "4Ab", e), &MaskKey::new([7; 32]), Masks::Numbers).unwrap();
    let want = "mx1 postfix/smtpd[1]: 4Ab: client=localhost[127.0.0.1], orig_client=masked.invalid[ip-masked], by mx.own.example[ip-masked]. [IPv6:ip-masked] v1.2.3.4a 5.7.1 10:00:00\n";
    assert_eq!((text_of(&new).as_str(), is_plain(&new)), (want, false));
}

#[test]
fn hashes_are_hmac_sha_1() {
    // RFC 2202, test case 2; zeros behind a key do not count.
    let mut key = [0; 32];
    key[..4].copy_from_slice(b"Jefe");
    assert_eq!(MaskKey::new(key).hash(b"what do ya want for nothing?", 40), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
}

#[test]
fn texts_of_json_are_changed_plain_and_packed() {
    let p = Person::new("a@b.example").unwrap();
    let packed = STANDARD_NO_PAD.encode(b"\xff to=<a@b.example>");
    let mut v = serde_json::json!({"path": "/x/a@b.example", "l": ["to=<A@b.example>", packed, 7], "a@b.example": null});
    assert_eq!(change_texts(&mut v, &["path"], &|t| p.masked(t)), 2);
    assert_eq!(v["l"][0], "to=<masked@masked.invalid>");
    assert_eq!(STANDARD_NO_PAD.decode(v["l"][1].as_str().unwrap()).unwrap(), b"\xff to=<masked@masked.invalid>");
    assert_eq!(v["path"], "/x/a@b.example");
}

proptest! {
    #[test]
    fn spans_stay_right(parts in proptest::collection::vec(prop_oneof![Just("a@b.example".to_string()), "[ -~]{0,12}"], 1..12), extra in 0usize..12) {
        let p = Person::new("a@b.example").unwrap();
        let (mut text, mut spans) = (Vec::new(), Vec::new());
        let cut = extra.min(parts.len());
        let mut line_len = 0;
        for (n, part) in parts.iter().enumerate() {
            if n == cut { line_len = text.len(); }
            text.extend_from_slice(b" ");
            spans.push(Span { field: Field::FinalRecipient, start: text.len() as u32, len: part.len() as u32 });
            text.extend_from_slice(part.as_bytes());
            text.extend_from_slice(b" ");
        }
        if cut == parts.len() { line_len = text.len(); }
        let head = Head { kind: Kind::Attempt, action: None, time: 5, precision: Precision::Micro, written: 0, ordinal: 0 };
        let mut e = vec![];
        encode(&mut e, &head, &spans, &text[..line_len], &text[line_len..]);
        let old = record(Role::Hop, "q", e);
        let new = p.forgotten(&old).map_or(old.clone(), |(r, _)| r);
        let event = Event::decode(&new.events).unwrap().0;
        for ((_, value), part) in event.fields().zip(&parts) {
            let want = p.masked(part.as_bytes()).unwrap_or(part.clone().into_bytes());
            prop_assert_eq!(value, want.as_slice());
        }
        prop_assert_eq!(event.fields().count(), parts.len());
        prop_assert!(!p.is_in(event.whole()));
    }

    #[test]
    fn hostile_events_are_masked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let r = record(Role::Reject, "1/x", bytes);
        let _ = (Person::new("a@b").unwrap().forgotten(&r), anonymized(&r, &MaskKey::new([0; 32]), Masks::Hashes));
    }
}
