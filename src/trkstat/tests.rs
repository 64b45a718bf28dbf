use super::*;
use proptest::prelude::*;

fn part() -> Part {
    Part {
        envelope_id: "12345-20010101@example.com".into(),
        reporting_mta: Mta::dns("example2.com"),
        arrival_date: 978_380_115,
        extensions: vec![],
        recipients: vec![Recipient {
            original_recipient: Address::mail("user1@example1.com"),
            final_recipient: Address::mail("user1@example1.com"),
            action: Action::Delayed,
            status: "4.4.1".into(),
            remote_mta: Some(Mta::dns("example3.com")),
            last_attempt_date: Some(978_394_503),
            will_retry_until: Some(978_639_315),
            extensions: vec![],
        }],
    }
}

fn one(change: impl FnOnce(&mut Recipient)) -> Result<String, WriteError> {
    let mut p = part();
    change(&mut p.recipients[0]);
    write(&[p]).map(|l| l.join("\r\n"))
}

#[test]
fn rfc3886_3_a_part_as_it_is_written() {
    let want = "Content-Type: multipart/related; boundary=\"=_tracking\"; type=\"message/tracking-status\"\r\n\r\n\
                --=_tracking\r\nContent-Type: message/tracking-status\r\n\r\n\
                Original-Envelope-Id: 12345-20010101@example.com\r\nReporting-MTA: dns; example2.com\r\n\
                Arrival-Date: Mon, 1 Jan 2001 20:15:15 +0000\r\n\r\n\
                Original-Recipient: rfc822; user1@example1.com\r\nFinal-Recipient: rfc822; user1@example1.com\r\n\
                Action: delayed\r\nStatus: 4.4.1\r\nRemote-MTA: dns; example3.com\r\n\
                Last-Attempt-Date: Tue, 2 Jan 2001 00:15:03 +0000\r\nWill-Retry-Until: Thu, 4 Jan 2001 20:15:15 +0000\r\n\r\n\
                --=_tracking--";
    assert_eq!(one(|_| ()).unwrap(), want);
    assert_eq!(read(want.as_bytes()).unwrap(), [part()]);
    assert_eq!(read(want.replace("\r\n", "\n").as_bytes()).unwrap(), [part()]);
}

#[test]
fn rfc3886_3_2_the_per_message_fields_are_required() {
    for field in ["Original-Envelope-Id", "Reporting-MTA", "Arrival-Date", "Original-Recipient", "Action", "Status"] {
        let whole = one(|_| ()).unwrap();
        let without: String = whole.split("\r\n").filter(|l| !l.starts_with(field)).map(|l| format!("{l}\r\n")).collect();
        let got = read(without.as_bytes());
        match field {
            // RFC 3464 knows reports without it: the final one says who is meant.
            "Original-Recipient" => assert_eq!(got.unwrap(), [part()]),
            _ => assert_eq!(got, Err(ReadError::Missing { part: 1, field: leak(field) })),
        }
    }
    let mut p = part();
    p.envelope_id.clear();
    assert!(matches!(write(&[p]), Err(WriteError::Value { field: "Original-Envelope-Id", .. })));
    let mut p = part();
    p.recipients.clear();
    assert_eq!(write(&[p]), Err(WriteError::Empty("no recipient")));
    assert_eq!(write(&[]), Err(WriteError::Empty("no part")));
}

fn leak(s: &str) -> &'static str {
    String::from(s).leak()
}

#[test]
fn rfc3886_3_3_4_the_status_goes_with_the_action_and_2_1_9_with_relayed_only() {
    let with = |action, status: &str| {
        one(|r| {
            r.action = action;
            r.status = status.into();
            r.will_retry_until = None;
        })
    };
    assert!(with(Action::Relayed, "2.1.9").is_ok());
    for (action, status) in [
        (Action::Transferred, "2.1.9"),
        (Action::Delivered, "2.1.9"),
        (Action::Delivered, "4.0.0"),
        (Action::Failed, "2.0.0"),
        (Action::Delayed, "5.0.0"),
        (Action::Delivered, "2.0"),
        (Action::Delivered, "2.0.0000"),
        (Action::Delivered, ""),
    ] {
        assert!(matches!(with(action, status), Err(WriteError::Status { .. })), "{action:?} {status}");
    }
}

#[test]
fn rfc3886_3_3_5_no_remote_mta_without_an_attempt_or_with_opaque() {
    let misplaced = |field| Err(WriteError::Misplaced { field, action: "delayed" });
    assert_eq!(one(|r| r.last_attempt_date = None), misplaced("Remote-MTA"));
    let opaque = |r: &mut Recipient| {
        r.action = Action::Opaque;
        r.status = "2.0.0".into();
        r.will_retry_until = None;
    };
    assert_eq!(one(opaque), Err(WriteError::Misplaced { field: "Remote-MTA", action: "opaque" }));
}

#[test]
fn rfc3886_3_3_6_no_last_attempt_date_with_opaque() {
    let got = one(|r| {
        r.action = Action::Opaque;
        r.status = "2.0.0".into();
        r.will_retry_until = None;
        r.remote_mta = None;
    });
    assert_eq!(got, Err(WriteError::Misplaced { field: "Last-Attempt-Date", action: "opaque" }));
    let a = Address::mail("a@b");
    let mut p = part();
    p.recipients = vec![Recipient::opaque(a.clone(), a)];
    assert!(write(&[p]).is_ok());
}

#[test]
fn rfc3886_3_3_7_will_retry_until_only_while_queued() {
    let got = one(|r| {
        r.action = Action::Failed;
        r.status = "5.0.0".into();
    });
    assert_eq!(got, Err(WriteError::Misplaced { field: "Will-Retry-Until", action: "failed" }));
}

#[test]
fn rfc3886_3_1_lines_are_7bit_folded_and_never_longer_than_998() {
    let mut p = part();
    p.recipients[0].final_recipient = Address::mail("jörg\u{1b}[31m+x=1\\@exämple.test");
    p.extensions = vec![("x-note".into(), "word ".repeat(500).trim().into())];
    let lines = write(&[p.clone()]).unwrap();
    assert!(lines.iter().all(|l| l.len() <= 120 && l.is_ascii() && !l.bytes().any(|b| b < b' ')), "{lines:?}");
    assert!(
        lines.join("").contains("Final-Recipient: utf-8; j\\x{F6}rg\\x{1B}[31m\\x{2B}x\\x{3D}1\\x{5C}@ex\\x{E4}mple.test"),
        "{lines:?}"
    );
    assert_eq!(read(lines.join("\r\n").as_bytes()).unwrap(), [p.clone()]);
    p.envelope_id = "x".repeat(1_000);
    assert!(matches!(write(&[p]), Err(WriteError::Value { .. })));
}

#[test]
fn line_breaks_in_values_never_make_a_field() {
    for hostile in ["a@b\r\nAction: delivered", "a@b\n\nx", "a\r", "a\0b"] {
        let text = one(|r| r.final_recipient = Address::mail(hostile)).unwrap();
        assert_eq!(text.lines().filter(|l| l.starts_with("Action:")).count(), 1);
        assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']));
        let mut p = part();
        p.envelope_id = hostile.into();
        assert!(write(&[p]).is_err());
        assert!(one(|r| r.remote_mta = Some(Mta::dns(hostile))).is_err());
    }
}

#[test]
fn rfc3887_4_1_the_slips_of_the_examples_are_read() {
    let text = "Content-Type: multipart/related; boundary=%%%%; type=tracking-status\n.Dot-Stuffed-Header: as an example\n\n--%%%%\n\
                Content-Type: message/tracking-status\n\nOriginal-Envelope-Id: 12345-20010101@example.com\nReporting-MTA: dns; example2.com\n\
                Arrival-Date: Mon,  1 Jan 2001 15:15:15 -0500\n\nOriginal-Recipient: rfc822; user1@example1.com\n\
                Final-Recipient: rfc822; user1@example1.com\nAction: delayed\nStatus: 4.4.1 (No answer from host)\nRemote-MTA: dns; example3.com\n\
                Last-Attempt-Date: Mon, 1 Jan 2001 19:15:03 -0500\nWill-Retry-Until: Thu, 4 Jan 2001 15:15:15 -0500\n\n\
                Original-Recipient: rfc822; user2@example1.com\nFinal-Recipient: rfc822; user2@example1.com\nAction: failed\n\
                Status 5.2.2 (Mailbox full)\nRemote-MTA: dns; example3.com\nLast-Attempt-Date: Mon, 1 Jan 2001 19:15:03 -0500\n\n--%%%%--\n";
    let parts = read(text.as_bytes()).unwrap();
    let mut want = part();
    want.recipients.push(Recipient {
        original_recipient: Address::mail("user2@example1.com"),
        final_recipient: Address::mail("user2@example1.com"),
        action: Action::Failed,
        status: "5.2.2".into(),
        will_retry_until: None,
        ..want.recipients[0].clone()
    });
    assert_eq!(parts, [want]);
}

#[test]
fn xtext_goes_there_and_back_and_what_is_none_stays() {
    assert_eq!(to_xtext("a+b=c d"), "a+2Bb+3Dc+20d");
    assert_eq!(from_xtext("a+2Bb+3Dc"), "a+b=c");
    for none in ["a+", "a+2", "a+2b", "+ZZ", "+FF"] {
        assert_eq!(from_xtext(none), none);
    }
}

#[test]
fn a_reply_of_many_parts_and_recipients_is_read_within_bounds() {
    let mut text = String::from(
        "Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: message/tracking-status\n\n\
                                 Original-Envelope-Id: a@b\nReporting-MTA: x\nArrival-Date: Mon, 1 Jan 2001 15:15:15 -0500\n",
    );
    for n in 0..MAX_RECIPIENTS + 10 {
        text.push_str(&format!("\nFinal-Recipient: rfc822; u{n}@b\nAction: relayed\nStatus: 2.1.9\n"));
    }
    assert_eq!(read(text.as_bytes()).unwrap()[0].recipients.len(), MAX_RECIPIENTS);
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![".{1,40}", "[a-z0-9.+=\\\\{}]{1,20}@[a-z.]{1,20}"].prop_map(|v| Address::mail(v.replace('\0', "0")))
}

prop_compose! {
    fn recipient()(original in address(), last in address(), action in 1u8..=7, a in 0u32..1000, b in 0u32..1000, mta in "[a-z0-9.-]{1,40}",
                   attempted in any::<bool>(), date in 0i64..4_000_000_000, retry in proptest::option::of(0i64..4_000_000_000)) -> Recipient {
        let action = Action::from_u8(action).unwrap();
        let class = match action { Action::Failed => 5, Action::Delayed => 4, _ => 2 };
        let (a, b) = if (a, b) == (1, 9) { (0, 0) } else { (a, b) };
        let attempted = attempted && action != Action::Opaque;
        Recipient {
            original_recipient: original, final_recipient: last, action, status: format!("{class}.{a}.{b}"),
            remote_mta: attempted.then(|| Mta::dns(mta)), last_attempt_date: attempted.then_some(date),
            will_retry_until: retry.filter(|_| action == Action::Delayed), extensions: vec![],
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(recipients in proptest::collection::vec(recipient(), 1..6), id in "[!-~]{1,80}", date in 0i64..4_000_000_000,
                               note in "[!-~]{1,300}( [!-~]{1,300}){0,4}") {
        let p = Part { envelope_id: id, reporting_mta: Mta::dns("mx.example.org"), arrival_date: date,
                       extensions: vec![("x-msgtrk-note".into(), note)], recipients };
        let lines = write(&[p.clone(), p.clone()]).unwrap();
        prop_assert!(lines.iter().all(|l| l.len() <= MAX_LINE && l.bytes().all(|b| b == b' ' || b.is_ascii_graphic())));
        prop_assert_eq!(read(lines.join("\r\n").as_bytes()).unwrap(), vec![p.clone(), p]);
    }

    #[test]
    fn any_bytes_are_parts_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
        let _ = read(&[&b"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: message/tracking-status\n\n"[..], &bytes].concat());
    }

    #[test]
    fn half_an_answer_never_panics(cut in 0usize..700) {
        let whole = one(|_| ()).unwrap();
        let _ = read(&whole.as_bytes()[..cut.min(whole.len())]);
    }
}
