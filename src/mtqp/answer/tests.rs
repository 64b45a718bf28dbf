//! What an answer shows, and what it must not.

use super::*;
use crate::model::event::{Action, Field, Head, Kind, Span, encode};
use crate::model::journey::{Lookup, journey_of};
use crate::model::record::{Addressed, Record, Role, Slot, StoredRecord};
use crate::model::time::{Precision, SECOND};
use crate::trkstat::write;

const T: i64 = 978_380_115;

fn event(out: &mut Vec<u8>, kind: Kind, action: Option<Action>, at: i64, fields: &[(Field, &str)]) {
    let mut text = String::new();
    let mut spans = Vec::new();
    for (field, value) in fields.iter().filter(|(_, v)| !v.is_empty()) {
        spans.push(Span { field: *field, start: text.len() as u32, len: value.len() as u32 });
        text.push_str(value);
    }
    let head = Head { kind, action, time: at * SECOND, precision: Precision::Second, written: at, ordinal: 0 };
    encode(out, &head, &spans, text.as_bytes(), b"");
}

/// A recipient: original, final, action, next host, its address, its queue id.
type To<'a> = (&'a str, &'a str, Action, &'a str, &'a str, &'a str);

/// A record of a host that had the message from `client`, `after` seconds after the first.
fn hop(host: &str, id: &str, client: (&str, &str), message_id: &str, after: i64, to: &[To]) -> Record {
    let slot = Slot { host: host.into(), instance: "postfix".into(), queue_id: id.into() };
    let mut events = Vec::new();
    event(&mut events, Kind::Arrival, None, T + after, &[(Field::ClientName, client.0), (Field::ClientIp, client.1)]);
    event(&mut events, Kind::Queued, None, T + after, &[(Field::MessageId, message_id)]);
    for (first, last, action, mta, ip, next) in to {
        let fields = [
            (Field::OriginalRecipient, *first),
            (Field::FinalRecipient, *last),
            (Field::RemoteMta, *mta),
            (Field::RemoteIp, *ip),
            (Field::RemoteQueueId, *next),
        ];
        event(&mut events, Kind::Attempt, Some(*action), T + after + 1, &fields);
    }
    if !to.iter().any(|t| t.2 == Action::Delayed) && !to.is_empty() {
        event(&mut events, Kind::Closed, None, T + after + 2, &[]);
    }
    StoredRecord { key: slot.key(), slot, reused: false, mta: "postfix".into(), role: Role::Hop, events }.derive()
}

struct All(Vec<Record>);

impl Lookup for All {
    type Error = std::convert::Infallible;

    fn by_id(&mut self, id: &str) -> Result<Vec<Record>, Self::Error> {
        let ids = |r: &Record| {
            let next: Vec<&String> = r.recipients.iter().filter_map(|p| p.remote_queue_id.as_ref()).collect();
            [&r.queue_id, &r.message_id].into_iter().flatten().chain(next).any(|i| i == id)
        };
        Ok(self.0.iter().filter(|r| ids(r)).cloned().collect())
    }
}

fn own() -> Policy {
    Policy { own_domains: vec!["x.test".into()], ..Policy::default() }
}

/// The answer for the first record, as `host: original>final action status [next host]` a recipient.
fn show(records: &[Record], policy: &Policy) -> Vec<String> {
    show_only(records, policy, None)
}

fn show_only(records: &[Record], policy: &Policy, only: Option<&str>) -> Vec<String> {
    let journey = journey_of(&mut All(records.to_vec()), records[0].clone()).unwrap().unwrap();
    let opened = Opened { journey, root: records[0].key.clone(), only: only.map(str::to_string), ends: 0 };
    let a = answer(&[opened], policy, "e@x");
    write(&a.parts).unwrap();
    let line = |p: &Part, r: &crate::trkstat::Recipient| {
        let next = r.remote_mta.as_ref().map(|m| format!(" -> {}", m.name)).unwrap_or_default();
        let who = (&r.original_recipient.value, &r.final_recipient.value);
        format!("{}: {}>{} {} {}{next}", p.reporting_mta.name, who.0, who.1, r.action.as_str(), r.status)
    };
    a.parts.iter().flat_map(|p| p.recipients.iter().map(move |r| line(p, r))).collect()
}

const OUT: (&str, &str) = ("sender.example", "198.51.100.9");
const MX: (&str, &str) = ("mx.x.test", "192.0.2.1");

fn two_hops() -> Vec<Record> {
    vec![
        hop("mx.x.test", "A1", OUT, "m@s", 0, &[("u@x.test", "u@x.test", Action::Relayed, "store.x.test", "192.0.2.2", "B2")]),
        hop("store.x.test", "B2", MX, "m@s", 1, &[("u@x.test", "u@x.test", Action::Delivered, "", "", "")]),
    ]
}

#[test]
fn rfc3886_3_3_3_transferred_where_the_next_part_is_in_the_answer() {
    assert_eq!(
        show(&two_hops(), &own()),
        ["mx.x.test: u@x.test>u@x.test transferred 2.4.0 -> store.x.test", "store.x.test: u@x.test>u@x.test delivered 2.0.0"]
    );
}

#[test]
fn rfc3886_3_3_4_relayed_is_2_1_9_where_nothing_follows() {
    assert_eq!(show(&two_hops()[..1], &own()), ["mx.x.test: u@x.test>u@x.test relayed 2.1.9 -> store.x.test"]);
    let known = Policy { tracking_domains: vec!["x.test".into()], ..own() };
    assert_eq!(show(&two_hops()[..1], &known), ["mx.x.test: u@x.test>u@x.test transferred 2.4.0 -> store.x.test"]);
}

#[test]
fn rfc3887_2_4_how_far_inside_an_answer_looks() {
    let mut three = two_hops();
    three[1] = hop("in.x.test", "B2", MX, "m@s", 1, &[("u@x.test", "u@x.test", Action::Relayed, "store.x.test", "192.0.2.3", "C3")]);
    three[0] = hop("mx.x.test", "A1", OUT, "m@s", 0, &[("u@x.test", "u@x.test", Action::Relayed, "in.x.test", "192.0.2.2", "B2")]);
    three.push(hop("store.x.test", "C3", ("in.x.test", "192.0.2.2"), "m@s", 2, &[("u@x.test", "u@x.test", Action::Delivered, "", "", "")]));
    assert_eq!(show(&three, &own()).len(), 3);
    let last = Policy { look: Look::FinalHop, ..own() };
    assert_eq!(
        show(&three, &last),
        ["mx.x.test: u@x.test>u@x.test transferred 2.4.0 -> store.x.test", "store.x.test: u@x.test>u@x.test delivered 2.0.0"]
    );
    // RFC 3887, example 11: the last hop's word in the first hop's name.
    let combined = Policy { look: Look::Combined, ..own() };
    assert_eq!(show(&three, &combined), ["mx.x.test: u@x.test>u@x.test delivered 2.0.0"]);
    let edge = Policy { look: Look::EdgeOnly, ..own() };
    assert_eq!(show(&three, &edge), ["mx.x.test: u@x.test>u@x.test relayed 2.1.9 -> in.x.test"]);
    let hidden = Policy { hide_hosts: true, public_name: Some("mail.x.test".into()), ..last };
    assert_eq!(
        show(&three, &hidden),
        ["mail.x.test: u@x.test>u@x.test transferred 2.4.0 -> mail.x.test", "mail.x.test: u@x.test>u@x.test delivered 2.0.0"]
    );
    let edge = Policy { look: Look::EdgeOnly, hide_hosts: true, ..own() };
    assert_eq!(show(&three, &edge), ["mx.x.test: u@x.test>u@x.test relayed 2.1.9 -> mx.x.test"]);
}

#[test]
fn r8_a_mail_that_copies_a_message_id_opens_nothing() {
    let mut records =
        vec![hop("mx.x.test", "A1", OUT, "m@s", 0, &[("u@x.test", "u@x.test", Action::Relayed, "store.x.test", "192.0.2.2", "")])];
    // Same Message-ID, same recipient, the right host, the right client, a second later: likely, and not proven.
    records.push(hop("store.x.test", "Z9", MX, "m@s", 1, &[("u@x.test", "secret@y.test", Action::Delivered, "", "", "")]));
    let journey = journey_of(&mut All(records.clone()), records[0].clone()).unwrap().unwrap();
    assert_eq!(journey.records.len(), 2, "the operator's journey joins them");
    assert_eq!(show(&records, &own()), ["mx.x.test: u@x.test>u@x.test relayed 2.1.9 -> store.x.test"]);
}

#[test]
fn r8_a_remote_reply_that_names_anothers_queue_id_opens_nothing() {
    let victim =
        |client, message_id| hop("store.x.test", "B2", client, message_id, 1, &[("v@x.test", "v@x.test", Action::Delivered, "", "", "")]);
    let asked =
        |mta: &str, ip: &str| hop("mx.x.test", "A1", OUT, "m@s", 0, &[("u@evil.test", "u@evil.test", Action::Relayed, mta, ip, "B2")]);
    // The sender's own server, spoken to under its own name, claims the id; or under our store's name, from elsewhere.
    for (mta, ip) in [("mx.evil.test", "198.51.100.66"), ("store.evil.test", "198.51.100.66"), ("store", "198.51.100.66")] {
        for (client, id) in [(MX, "other@s"), (MX, "m@s"), (OUT, "m@s"), (("", ""), "m@s")] {
            let said = show(&[asked(mta, ip), victim(client, id)], &own());
            let relay_is_short_and_all_else_agrees = mta == "store" && client == MX && id == "m@s";
            if !relay_is_short_and_all_else_agrees {
                assert_eq!(said, [format!("mx.x.test: u@evil.test>u@evil.test relayed 2.1.9 -> {mta}")], "{mta} {client:?} {id}");
            }
        }
    }
    // Even with the right name: another Message-ID, another client, another day.
    for c in [
        victim(MX, "other@s"),
        victim(OUT, "m@s"),
        hop("store.x.test", "B2", MX, "m@s", 15 * 3600, &[("v@x.test", "v@x.test", Action::Delivered, "", "", "")]),
    ] {
        assert_eq!(show(&[asked("store.x.test", "192.0.2.2"), c], &own()).len(), 1);
    }
}

#[test]
fn r8_a_short_log_name_is_a_full_one_inside_the_own_domains_or_where_both_ends_share_one() {
    let hops = |mta: &str, client: &str| {
        vec![
            hop("mx", "A1", OUT, "m@s", 0, &[("u@x.test", "u@x.test", Action::Relayed, mta, "192.0.2.2", "B2")]),
            hop("store", "B2", (client, "192.0.2.1"), "m@s", 1, &[("u@x.test", "u@x.test", Action::Delivered, "", "", "")]),
        ]
    };
    assert_eq!(show(&hops("store.x.test", "mx.x.test"), &Policy::default()).len(), 2, "share a domain");
    assert_eq!(show(&hops("store.x.test", "mx.y.test"), &Policy::default()).len(), 1);
    assert_eq!(show(&hops("store.x.test", "mx.y.test"), &own()).len(), 1, "the client's is not ours");
    let both = Policy { own_domains: vec!["x.test".into(), "y.test".into()], ..own() };
    assert_eq!(show(&hops("store.x.test", "mx.y.test"), &both).len(), 2);
    assert_eq!(show(&hops("mail.z.test", "mx.x.test"), &own()).len(), 1);
    let alias = [("mail.z.test".to_string(), "store".to_string())].into();
    assert_eq!(show(&hops("mail.z.test", "mx.x.test"), &Policy { aliases: alias, ..own() }).len(), 2, "[hosts] names them");
}

#[test]
fn r8_a_program_that_prints_anothers_queue_id_opens_nothing() {
    let r = hop("mx.x.test", "A1", OUT, "m@s", 0, &[("u@x.test", "u@x.test", Action::Delivered, "", "", "B2")]);
    for id in ["other@s", ""] {
        let c = hop("mx.x.test", "B2", ("", ""), id, 1, &[("v@x.test", "v@x.test", Action::Delivered, "", "", "")]);
        assert_eq!(show(&[r.clone(), c], &own()), ["mx.x.test: u@x.test>u@x.test delivered 2.0.0"]);
    }
}

#[test]
fn clocks_may_differ_by_a_zone_where_there_is_proof() {
    let mut records = two_hops();
    records[1] = hop("store.x.test", "B2", MX, "m@s", -13 * 3600, &[("u@x.test", "u@x.test", Action::Delivered, "", "", "")]);
    assert_eq!(show(&records, &own()).len(), 2);
}

#[test]
fn rfc3886_4_2_members_of_a_list_are_never_shown() {
    // Two members and another recipient go on in one transaction; only the other one is followed.
    let r = hop(
        "mx.x.test",
        "A1",
        OUT,
        "m@s",
        0,
        &[
            ("list@x.test", "one@x.test", Action::Relayed, "store.x.test", "192.0.2.2", "B2"),
            ("list@x.test", "two@x.test", Action::Relayed, "store.x.test", "192.0.2.2", "B2"),
            ("u@x.test", "u@x.test", Action::Relayed, "store.x.test", "192.0.2.2", "B2"),
        ],
    );
    let to = |who| (who, who, Action::Delivered, "", "", "");
    let c = hop("store.x.test", "B2", MX, "m@s", 1, &[to("one@x.test"), to("two@x.test"), to("u@x.test")]);
    let said = show(&[r, c], &own());
    assert_eq!(
        said,
        [
            "mx.x.test: list@x.test>list@x.test expanded 2.0.0",
            "mx.x.test: u@x.test>u@x.test transferred 2.4.0 -> store.x.test",
            "store.x.test: u@x.test>u@x.test delivered 2.0.0",
        ]
    );
}

#[test]
fn rfc3886_4_2_a_list_forwarded_under_a_new_id_shows_no_members() {
    let r = hop("mx.x.test", "A1", OUT, "m@s", 0, &[("list@x.test", "list@x.test", Action::Relayed, "", "", "F1")]);
    let to = |who| ("list@x.test", who, Action::Delivered, "", "", "");
    let c = hop("mx.x.test", "F1", ("", ""), "m@s", 1, &[to("one@y.test"), to("two@y.test")]);
    assert_eq!(show(&[r.clone(), c], &own()), ["mx.x.test: list@x.test>list@x.test expanded 2.0.0"]);
    // One that expands at the next host, too.
    let mut two = two_hops();
    two[1] = hop(
        "store.x.test",
        "B2",
        MX,
        "m@s",
        1,
        &[
            ("u@x.test", "one@y.test", Action::Relayed, "y.test", "198.51.100.1", "Q"),
            ("u@x.test", "two@y.test", Action::Delivered, "", "", ""),
        ],
    );
    assert_eq!(show(&two, &own())[1..], ["store.x.test: u@x.test>u@x.test expanded 2.0.0"]);
    // RFC 3885, 3.3: one member is an ordinary forward.
    let one =
        hop("mx.x.test", "F1", ("", ""), "m@s", 1, &[("list@x.test", "one@y.test", Action::Relayed, "mx.y.test", "198.51.100.1", "Q")]);
    assert_eq!(show(&[r, one], &own())[1..], ["mx.x.test: list@x.test>one@y.test relayed 2.1.9 -> mx.y.test"]);
}

#[test]
fn rfc3886_4_2_forwarding_addresses_are_hidden_by_rule() {
    let forward = [hop(
        "mx.x.test",
        "A1",
        OUT,
        "m@s",
        0,
        &[("u@x.test", "private@phone.test", Action::Relayed, "mx.phone.test", "198.51.100.1", "Q")],
    )];
    assert_eq!(show(&forward, &own()), ["mx.x.test: u@x.test>private@phone.test relayed 2.1.9 -> mx.phone.test"]);
    let hide = Policy { hide_forwarding_of: vec!["*@x.test".into()], ..own() };
    assert_eq!(show(&forward, &hide), ["mx.x.test: u@x.test>u@x.test relayed 2.1.9"]);
    let delivered = Policy { hidden_forwarding: Forwarding::Delivered, ..hide.clone() };
    assert_eq!(show(&forward, &delivered), ["mx.x.test: u@x.test>u@x.test delivered 2.0.0"]);
    let local = [
        hop("mx.x.test", "A1", OUT, "m@s", 0, &[("u@x.test", "u@x.test", Action::Relayed, "", "", "F1")]),
        hop(
            "mx.x.test",
            "F1",
            ("", ""),
            "m@s",
            1,
            &[("private@phone.test", "private@phone.test", Action::Relayed, "mx.phone.test", "198.51.100.1", "Q")],
        ),
    ];
    assert_eq!(show(&local, &hide), ["mx.x.test: u@x.test>u@x.test relayed 2.1.9"]);
    // What is not forwarded is followed as ever.
    assert_eq!(show(&two_hops(), &hide).len(), 2);
}

#[test]
fn who_was_added_on_the_way_is_not_shown_where_a_rule_says_so() {
    let to = |who| (who, who, Action::Relayed, "store.x.test", "192.0.2.2", "B2");
    let last = |who| (who, who, Action::Delivered, "", "", "");
    let records = [
        hop("mx.x.test", "A1", OUT, "m@s", 0, &[to("u@x.test"), to("archive@x.test")]),
        hop("store.x.test", "B2", MX, "m@s", 1, &[last("u@x.test"), last("archive@x.test")]),
    ];
    let rule = Policy { never_show: vec!["archive@*".into()], ..own() };
    let said = show(&records, &rule);
    assert!(said.len() == 2 && !said.concat().contains("archive"), "{said:?}");
}

/// RFC 3464, 2.3.1, and RFC 3886, 3.3.3: what the sender named, as it named it; members that it did not name stay untold.
#[test]
fn where_the_envelope_is_known_only_those_that_the_sender_named_are_told() {
    let last = |who| (who, who, Action::Delivered, "", "", "");
    let mut one = hop("mx.x.test", "A1", OUT, "m@s", 0, &[last("u@x.test"), last("carl@x.test"), last("team@x.test")]);
    let named = |address: &str, orcpt: Option<&str>| Addressed { address: address.into(), orcpt: orcpt.map(str::to_string) };
    one.envelope = vec![named("U@x.test", Some("rfc822;u+2Bown@first.test")), named("team@x.test", None)];
    let said = show(std::slice::from_ref(&one), &own());
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains(": u+own@first.test>u@x.test ") && said[1].contains(": team@x.test>"), "{said:?}");
    // The log tells nothing of one of them: the others may be what became of it.
    one.envelope.push(named("gone@x.test", None));
    assert_eq!(show(&[one], &own()).len(), 3);
}

#[test]
fn a_grant_for_one_recipient_shows_that_one_only() {
    let to = |who| (who, who, Action::Relayed, "store.x.test", "192.0.2.2", "B2");
    let last = |who| (who, who, Action::Delivered, "", "", "");
    let records = [
        hop("mx.x.test", "A1", OUT, "m@s", 0, &[to("u@x.test"), to("v@x.test")]),
        hop("store.x.test", "B2", MX, "m@s", 1, &[last("u@x.test"), last("v@x.test")]),
    ];
    assert_eq!(show(&records, &own()).len(), 4);
    let said = show_only(&records, &own(), Some("V@x.test"));
    assert!(said.len() == 2 && said.iter().all(|l| l.contains(": v@x.test>")), "{said:?}");
}

#[test]
fn rfc3886_3_3_7_what_lies_queued_says_until_when() {
    let queued = hop("mx.x.test", "A1", OUT, "m@s", 0, &[("u@x.test", "u@x.test", Action::Delayed, "mx.y.test", "198.51.100.1", "")]);
    let journey = journey_of(&mut All(vec![queued.clone()]), queued.clone()).unwrap().unwrap();
    let opened = Opened { journey, root: queued.key.clone(), only: None, ends: 0 };
    assert!(is_queued(&opened, &own()));
    let r = answer(&[opened], &own(), "e@x").parts.remove(0).recipients.remove(0);
    assert_eq!((r.action, r.status.as_str(), r.will_retry_until), (Action::Delayed, "4.0.0", Some(T + 5 * 86_400)));
    assert_eq!(r.last_attempt_date, Some(T + 1));
    // RFC 3886, 3: a part has a recipient, even if no line named one yet; and then no attempt was made (3.3.5, 3.3.6).
    let fresh = hop("mx.x.test", "A1", OUT, "m@s", 0, &[]);
    assert_eq!(show(std::slice::from_ref(&fresh), &own()), ["mx.x.test: unknown>unknown delayed 4.0.0"]);
    let journey = journey_of(&mut All(vec![fresh.clone()]), fresh.clone()).unwrap().unwrap();
    let a = answer(&[Opened { journey, root: fresh.key, only: None, ends: 0 }], &own(), "e@x");
    assert_eq!(a.parts[0].recipients[0].will_retry_until, Some(T + 5 * 86_400));
    let mut untold = two_hops();
    untold[1] = hop("store.x.test", "B2", MX, "m@s", 1, &[]);
    assert_eq!(show(&untold, &own())[1..], ["store.x.test: u@x.test>u@x.test delayed 4.0.0"]);
}

#[test]
fn a_loop_of_hosts_ends() {
    let a = hop(
        "mx.x.test",
        "A1",
        ("store.x.test", "192.0.2.2"),
        "m@s",
        0,
        &[("u@x.test", "u@x.test", Action::Relayed, "store.x.test", "192.0.2.2", "B2")],
    );
    let b = hop("store.x.test", "B2", MX, "m@s", 1, &[("u@x.test", "u@x.test", Action::Relayed, "mx.x.test", "192.0.2.1", "A1")]);
    assert_eq!(show(&[a, b], &own()).len(), 2);
}

#[test]
fn log_text_of_strangers_makes_no_field() {
    let hostile = "u@x.test\r\nAction: delivered\r\n\r\n--=_tracking--\r\n.\r\n+OK";
    let long = format!("{}@x.test", "é".repeat(3_000));
    let r = hop(
        "mx.x.test",
        "A1",
        OUT,
        "m@s",
        0,
        &[(hostile, hostile, Action::Relayed, "evil\u{1b}[31m .test", "", ""), (&long, &long, Action::Failed, "", "", "")],
    );
    let journey = journey_of(&mut All(vec![r.clone()]), r.clone()).unwrap().unwrap();
    let a = answer(&[Opened { journey, root: r.key.clone(), only: None, ends: 0 }], &own(), "e@x");
    let lines = write(&a.parts).unwrap();
    assert!(lines.iter().all(|l| l.len() <= 998 && l.bytes().all(|b| b == b' ' || b.is_ascii_graphic())));
    assert_eq!(lines.iter().filter(|l| l.starts_with("Action:")).count(), 2);
    assert!(a.onward.is_empty(), "no such host is asked");
}

#[test]
fn rfc3887_4_a_claim_of_two_records_of_one_message_shows_each_once() {
    let records = two_hops();
    let open = |r: &Record| Opened {
        journey: journey_of(&mut All(records.clone()), r.clone()).unwrap().unwrap(),
        root: r.key.clone(),
        only: None,
        ends: 0,
    };
    let a = answer(&[open(&records[0]), open(&records[1])], &own(), "e@x");
    assert_eq!(a.parts.len(), 2);
}

#[test]
fn rfc3887_4_1_combined_blocks_show_each_recipient_once_as_it_ended() {
    let to = |who, last| (who, last, Action::Relayed, "store.x.test", "192.0.2.2", "B2");
    let records = [
        hop(
            "mx.x.test",
            "A1",
            OUT,
            "m@s",
            0,
            &[
                ("one@x.test", "one@x.test", Action::Relayed, "mx.y.test", "198.51.100.1", "Q"),
                to("two@x.test", "two@x.test"),
                to("list@x.test", "a@x.test"),
                to("list@x.test", "b@x.test"),
                ("three@x.test", "three@x.test", Action::Delayed, "mx.z.test", "198.51.100.2", ""),
            ],
        ),
        hop("store.x.test", "B2", MX, "m@s", 1, &[("two@x.test", "four@x.test", Action::Delivered, "", "", "")]),
    ];
    let combined = Policy { look: Look::Combined, ..own() };
    assert_eq!(
        show(&records, &combined),
        [
            "mx.x.test: one@x.test>one@x.test relayed 2.1.9 -> mx.y.test",
            "mx.x.test: list@x.test>list@x.test expanded 2.0.0",
            "mx.x.test: three@x.test>three@x.test delayed 4.0.0 -> mx.z.test",
            "mx.x.test: two@x.test>four@x.test delivered 2.0.0",
        ]
    );
    let journey = journey_of(&mut All(records.to_vec()), records[0].clone()).unwrap().unwrap();
    let opened = Opened { journey, root: records[0].key.clone(), only: None, ends: 0 };
    let a = answer(&[opened], &combined, "e@x");
    assert_eq!(a.parts.len(), 1);
    // For chaining: the place of the recipient that went on elsewhere is its place in the one part.
    assert_eq!(a.onward, [Onward { part: 0, recipient: 0, host: "mx.y.test".into() }]);
}
