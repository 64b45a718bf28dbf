//! What became of messages whose way is not the plain one: refused in the middle, held, deleted, requeued, probed.

use crate::support::{Index, msgtrk};
use msgtrk::model::journey::Journey;
use msgtrk::model::query::Query;
use msgtrk::model::record::{Record, StoredRecord};

/// An index of these lines of `mx1` on the second of March, `HH:MM:SS program: text` each.
fn site(lines: &[&str]) -> Index {
    let index = Index::new();
    let whole = |l: &&str| format!("Mar  2 {} mx1 {}\n", &l[..8], &l[9..]);
    let path = index.dir.path().join("mail.log");
    std::fs::write(&path, lines.iter().map(whole).collect::<String>()).unwrap();
    let summary = index.fill(&[path], "mx1");
    assert!(summary.counts.unparsed.is_empty(), "{:?}", summary.counts.unparsed);
    index
}

fn records(index: &Index) -> Vec<Record> {
    index.records().iter().map(StoredRecord::derive).collect()
}

fn only(index: &Index) -> Record {
    let mut all = records(index);
    assert_eq!(all.len(), 1, "{:?}", all.iter().map(|r| &r.key).collect::<Vec<_>>());
    all.remove(0)
}

/// `address action status disposition` of each recipient.
fn people(r: &Record) -> Vec<String> {
    let one = |p: &msgtrk::model::record::Recipient| {
        format!("{} {} {} {}", p.final_recipient, p.action.as_str(), p.status, p.disposition.as_deref().unwrap_or("-"))
    };
    let mut all: Vec<String> = r.recipients.iter().map(one).collect();
    all.sort();
    all
}

fn endings(j: &Journey) -> Vec<String> {
    let mut all: Vec<String> =
        j.endings.iter().map(|e| format!("{} {} {}", e.last.final_recipient, e.last.action.as_str(), e.last.status)).collect();
    all.sort();
    all
}

fn waiting(index: &Index) -> usize {
    let mut n = 0;
    index
        .store()
        .for_each(&Query { open: true, ..Query::default() }, &mut |_, _| {
            n += 1;
            true
        })
        .unwrap();
    n
}

const IN: [&str; 2] = [
    "08:00:00 postfix/smtpd[1]: 9A4D6A06831: client=c.example[192.0.2.1]",
    "08:00:00 postfix/cleanup[2]: 9A4D6A06831: message-id=<one@c.example>",
];
const ACTIVE: &str = "08:00:01 postfix/qmgr[3]: 9A4D6A06831: from=<s@c.example>, size=420, nrcpt=1 (queue active)";
const DEFERRED: &str = "08:00:02 postfix/smtp[4]: 9A4D6A06831: to=<r@o.example>, relay=mx.o.example[192.0.2.9]:25, delay=1, delays=0/0/0/1, dsn=4.3.0, status=deferred (host mx.o.example[192.0.2.9] said: 450 4.3.0 later (in reply to RCPT TO command))";
const SENT: &str = "08:20:00 postfix/smtp[4]: 9A4D6A06831: to=<r@o.example>, relay=mx.o.example[192.0.2.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 ok)";
const REMOVED: &str = "08:20:00 postfix/qmgr[3]: 9A4D6A06831: removed";

fn and<'a>(before: &[&'a str], after: &[&'a str]) -> Index {
    site(&[before, after].concat())
}

#[test]
fn a_message_cut_off_in_data_is_not_stuck() {
    let index = and(&IN, &["08:00:09 postfix/smtpd[1]: lost connection after DATA (312 bytes) from c.example[192.0.2.1]"]);
    let r = only(&index);
    assert!(!r.closed && !r.is_queued() && r.recipients.is_empty());
    assert_eq!(waiting(&index), 0);
    let dir = index.dir.path().join("index");
    assert_eq!(msgtrk(&dir, &["stuck"]).status.code(), Some(1));
    let shown = String::from_utf8(msgtrk(&dir, &["trace", "one@c.example"]).stdout).unwrap();
    assert!(shown.contains("not seen to be queued") && !shown.contains("still queued"), "{shown}");
    let listed = String::from_utf8(msgtrk(&dir, &["search"]).stdout).unwrap();
    assert!(listed.contains("incomplete"), "{listed}");
    // With the queue manager's line it is.
    let index = and(&IN, &[ACTIVE]);
    assert!(only(&index).is_queued());
    assert_eq!(waiting(&index), 1);
}

#[test]
fn a_message_refused_at_its_end_is_failed() {
    for (line, status) in [
        (
            "08:00:01 postfix/cleanup[2]: 9A4D6A06831: milter-reject: END-OF-MESSAGE from c.example[192.0.2.1]: 5.7.1 Command rejected; from=<s@c.example> proto=ESMTP helo=<c.example>",
            "",
        ),
        (
            "08:00:01 postfix/smtpd[1]: 9A4D6A06831: reject: END-OF-MESSAGE from c.example[192.0.2.1]: 552 5.2.3 <END-OF-MESSAGE>: End-of-data rejected: too big; from=<s@c.example> proto=ESMTP helo=<c.example>",
            "",
        ),
        (
            "08:00:01 postfix/smtpd[1]: 9A4D6A06831: reject: DATA from c.example[192.0.2.1]: 450 4.7.1 <DATA>: Data command rejected: wait; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<c.example>",
            "4.7.1",
        ),
        (
            "08:00:01 postfix/cleanup[2]: 9A4D6A06831: milter-reject: END-OF-MESSAGE from c.example[192.0.2.1]: 4.7.1 Service unavailable; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<c.example>",
            "4.7.1",
        ),
        (
            "08:00:01 postfix/cleanup[2]: 9A4D6A06831: reject: header X-Bad: yes from c.example[192.0.2.1]; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<c.example>: 5.7.1 not here",
            "5.7.1",
        ),
        (
            "08:00:01 postfix/cleanup[2]: 9A4D6A06831: reject: body bad words from c.example[192.0.2.1]; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<c.example>: no such words",
            "5.0.0",
        ),
    ] {
        let index = and(&IN, &[line]);
        let r = only(&index);
        assert!(r.closed, "{line}");
        let want = if status.is_empty() { vec![] } else { vec![format!("r@o.example failed {status} -")] };
        assert_eq!(people(&r), want, "{line}");
        assert_eq!(waiting(&index), 0, "{line}");
    }
}

#[test]
fn a_recipient_refused_for_now_keeps_its_status_beside_the_others() {
    for word in ["reject", "milter-reject"] {
        let refused = format!(
            "08:00:00 postfix/smtpd[1]: 9A4D6A06831: {word}: RCPT from c.example[192.0.2.1]: 450 4.2.0 <g@o.example>: Recipient address rejected: Greylisted; from=<s@c.example> to=<g@o.example> proto=ESMTP helo=<c.example>"
        );
        let index = and(&IN, &[&refused, ACTIVE, SENT, REMOVED]);
        assert_eq!(people(&only(&index)), ["g@o.example failed 4.2.0 -", "r@o.example relayed 2.0.0 -"]);
    }
    // What the MTA itself gave up is failed for good.
    let bounced = SENT.replace("dsn=2.0.0, status=sent (250 2.0.0 ok)", "dsn=4.4.1, status=bounced (connect: 4.4.1 timed out)");
    assert_eq!(people(&only(&and(&IN, &[ACTIVE, &bounced]))), ["r@o.example failed 5.0.0 -"]);
}

#[test]
fn what_was_held_and_released_is_not_quarantined() {
    let held = "08:00:00 postfix/cleanup[2]: 9A4D6A06831: milter-hold: END-OF-MESSAGE from c.example[192.0.2.1]: milter triggers HOLD action; from=<s@c.example> to=<team@o.example> proto=ESMTP helo=<c.example>";
    assert_eq!(people(&only(&and(&IN, &[held]))), ["team@o.example delayed 4.0.0 quarantined"]);
    let released = "08:10:00 postfix/postsuper[9]: 9A4D6A06831: released from hold";
    let r = only(&and(&IN, &[held, released]));
    assert_eq!(people(&r), ["team@o.example delayed 4.0.0 -"]);
    assert_eq!(r.remark.as_deref(), Some("released from hold"));
    // Released with all others: no line names it.
    let active = ACTIVE.replace("08:00:01", "08:10:01");
    assert_eq!(people(&only(&and(&IN, &[held, &active]))), ["team@o.example delayed 4.0.0 -"]);
    // Delivered under the names of the alias's members, with and without orig_to.
    for orig in ["", ", orig_to=<team@o.example>"] {
        let sent = SENT.replace("to=<r@o.example>", &format!("to=<r@o.example>{orig}"));
        assert_eq!(people(&only(&and(&IN, &[held, released, &active, &sent, REMOVED]))), ["r@o.example relayed 2.0.0 -"]);
    }
    let again = "08:10:00 postfix/postsuper[9]: 9A4D6A06831: placed on hold";
    assert_eq!(people(&only(&and(&IN, &[ACTIVE, DEFERRED, again]))), ["r@o.example delayed 4.0.0 quarantined"]);
}

#[test]
fn what_the_operator_deleted_is_gone() {
    let deleted = "08:10:00 postfix/postsuper[9]: 9A4D6A06831: removed";
    let index = and(&IN, &[ACTIVE, DEFERRED, deleted]);
    let r = only(&index);
    assert!(r.closed);
    assert_eq!(people(&r), ["r@o.example opaque 2.0.0 deleted"]);
    assert_eq!(waiting(&index), 0);
    let shown = msgtrk(&index.dir.path().join("index"), &["trace", "9A4D6A06831"]);
    assert!(String::from_utf8(shown.stdout).unwrap().contains("deleted by the operator"));
    // Nothing takes back a delivery.
    assert_eq!(people(&only(&and(&IN, &[ACTIVE, SENT, &deleted.replace("08:10", "08:30")]))), ["r@o.example relayed 2.0.0 -"]);
}

#[test]
fn a_requeued_message_is_followed_to_its_new_id() {
    let again = [
        "08:10:00 postfix/postsuper[9]: 9A4D6A06831: requeued",
        "08:10:05 postfix/pickup[5]: 0C0FFEE0001: uid=106 from=<s@c.example> orig_id=9A4D6A06831",
        "08:10:05 postfix/cleanup[2]: 0C0FFEE0001: message-id=<one@c.example>",
        "08:10:06 postfix/qmgr[3]: 0C0FFEE0001: from=<s@c.example>, size=600, nrcpt=2 (queue active)",
        "08:10:07 postfix/smtp[4]: 0C0FFEE0001: to=<r@o.example>, relay=mx.o.example[192.0.2.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 ok)",
        "08:10:07 postfix/smtp[4]: 0C0FFEE0001: to=<q@o.example>, relay=mx.o.example[192.0.2.9]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.o.example[192.0.2.9] said: 550 5.1.1 no)",
        "08:10:08 postfix/qmgr[3]: 0C0FFEE0001: removed",
    ];
    // Tried before it was requeued, or never; and requeued with all others, so that no line names the old id.
    for before in [vec![ACTIVE, DEFERRED], vec![ACTIVE], vec![]] {
        for skip in [0, 1] {
            let index = and(&IN, &[before.as_slice(), &again[skip..]].concat());
            let journeys = index.trace("9A4D6A06831");
            assert_eq!(journeys.len(), 1);
            assert_eq!(journeys[0].records.len(), 2);
            assert_eq!(endings(&journeys[0]), ["q@o.example failed 5.1.1", "r@o.example relayed 2.0.0"]);
            assert!(journeys[0].endings.iter().all(|e| e.path.len() == 2));
            assert_eq!(waiting(&index), if skip == 0 || before.is_empty() { 0 } else { 1 });
        }
    }
}

#[test]
fn an_earlier_id_that_returned_months_later_joins_nothing() {
    let first = "Mar  2 08:00:00 mx1 postfix/smtpd[1]: 0C0FFEE0001: client=c.example[192.0.2.1]
Mar  2 08:00:00 mx1 postfix/cleanup[2]: 0C0FFEE0001: message-id=<old@c.example>
Mar  2 08:00:01 mx1 postfix/qmgr[3]: 0C0FFEE0001: from=<s@c.example>, size=420, nrcpt=1 (queue active)
Mar  2 08:00:02 mx1 postfix/smtp[4]: 0C0FFEE0001: to=<r@o.example>, relay=127.0.0.1[127.0.0.1]:10024, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 ok)
Mar  2 08:00:02 mx1 postfix/qmgr[3]: 0C0FFEE0001: removed
";
    let later = "Aug  2 08:00:00 mx1 postfix/smtpd[1]: 0C0FFEE0002: client=localhost[127.0.0.1], orig_queue_id=0C0FFEE0001
Aug  2 08:00:00 mx1 postfix/cleanup[2]: 0C0FFEE0002: message-id=<new@c.example>
Aug  2 08:00:01 mx1 postfix/qmgr[3]: 0C0FFEE0002: from=<s@c.example>, size=420, nrcpt=1 (queue active)
";
    for (months_later, want) in [(true, 1), (false, 2)] {
        let index = Index::new();
        let path = index.dir.path().join("mail.log");
        let later = if months_later { later.to_string() } else { later.replace("Aug", "Mar") };
        std::fs::write(&path, format!("{first}{later}")).unwrap();
        index.fill(&[path], "mx1");
        let journeys = index.trace("0C0FFEE0002");
        assert_eq!(journeys.iter().map(|j| j.records.len()).sum::<usize>(), want);
    }
}

#[test]
fn expiry_keeps_where_it_was_tried() {
    let expired = "13:00:00 postfix/qmgr[3]: 9A4D6A06831: from=<s@c.example>, status=expired, returned to sender";
    let r = only(&and(&IN, &[ACTIVE, DEFERRED, expired]));
    assert_eq!(people(&r), ["r@o.example failed 5.0.0 -"]);
    let p = &r.recipients[0];
    assert_eq!((p.remote_mta.as_deref(), p.remote_ip.as_deref(), p.attempts), (Some("mx.o.example"), Some("192.0.2.9"), 1));
    assert!(p.diagnostic.as_deref().unwrap().contains("450 4.3.0 later"));
}

#[test]
fn probes_of_address_verification_are_known_lines() {
    let index = site(&[
        "08:00:00 postfix/cleanup[2]: 9A4D6A06831: message-id=<p@mx1>",
        "08:00:01 postfix/qmgr[3]: 9A4D6A06831: from=<double-bounce@mx1>, size=200, nrcpt=1 (queue active)",
        "08:00:02 postfix/smtp[4]: 9A4D6A06831: to=<r@o.example>, relay=mx.o.example[192.0.2.9]:25, delay=1, delays=0/0/0/1, dsn=2.1.5, status=deliverable (250 2.1.5 Ok)",
        "08:00:02 postfix/local[4]: 9A4D6A06831: to=<q@o.example>, relay=local, delay=1, delays=0/0/0/1, dsn=5.1.1, status=undeliverable (unknown user: \"q\")",
        "08:00:03 postfix/qmgr[3]: 9A4D6A06831: removed",
    ]);
    assert!(only(&index).recipients.is_empty());
}

#[test]
fn a_temporary_refusal_of_exim_without_a_code_is_one_for_now() {
    let index = site(&[
        "08:00:00 exim[1]: 2026-03-02 08:00:00 H=c.example [192.0.2.1] F=<s@c.example> temporarily rejected RCPT <r@o.example>: greylisted.",
    ]);
    assert_eq!(people(&only(&index)), ["r@o.example failed 4.0.0 -"]);
}

#[test]
fn a_temporary_refusal_of_exim_says_its_code_once() {
    let index = site(&[
        "08:00:00 exim[1]: 2026-03-02 08:00:00 H=c.example [192.0.2.1] F=<s@c.example> temporarily rejected RCPT <r@o.example>: 450 4.2.1 Mailbox busy, try later",
    ]);
    let r = only(&index);
    assert_eq!(people(&r), ["r@o.example failed 4.2.1 -"]);
    assert_eq!(r.recipients[0].diagnostic.as_deref(), Some("450 4.2.1 Mailbox busy, try later"));
}

#[test]
fn a_refusal_that_names_no_recipient_says_why() {
    let index = site(&[
        "08:00:00 postfix/smtpd[1]: NOQUEUE: reject: MAIL from c.example[192.0.2.1]: 552 5.3.4 Message size exceeds fixed limit; from=<s@c.example> proto=ESMTP helo=<c.example>",
    ]);
    let r = only(&index);
    assert_eq!(people(&r), [" failed 5.3.4 -"]);
    assert_eq!(r.recipients[0].diagnostic.as_deref(), Some("552 5.3.4 Message size exceeds fixed limit"));
    let shown = msgtrk(&index.dir.path().join("index"), &["search", "--action", "failed", "exceeds"]);
    assert!(String::from_utf8(shown.stdout).unwrap().contains("Message size exceeds"));
}

#[test]
fn a_mailbox_that_was_full_is_a_note_of_the_delivery_not_another_message() {
    let index = and(
        &IN,
        &[
            "08:00:01 postfix/qmgr[3]: 9A4D6A06831: from=<s@c.example>, size=420, nrcpt=1 (queue active)",
            "08:00:02 dovecot: lmtp(full@o.example)<237><qFkdLNQqBGv1AAAA1odl2w>: msgid=<one@c.example>: save failed to INBOX: Quota exceeded (mailbox for user is full)",
            "08:00:02 postfix/lmtp[4]: 9A4D6A06831: to=<full@o.example>, relay=mx1[private/dovecot-lmtp], delay=1, delays=0/0/0/1, dsn=4.2.2, status=deferred (host mx1[private/dovecot-lmtp] said: 452 4.2.2 <full@o.example> Quota exceeded (mailbox for user is full) (in reply to end of DATA command))",
            "08:20:02 dovecot: lmtp(full@o.example)<237><qFkdLNQqBGv2AAAA1odl2w>: msgid=<one@c.example>: saved mail to INBOX",
            "08:20:02 postfix/lmtp[4]: 9A4D6A06831: to=<full@o.example>, relay=mx1[private/dovecot-lmtp], delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 <full@o.example> qFkdLNQqBGv2AAAA1odl2w Saved)",
            "08:20:03 postfix/qmgr[3]: 9A4D6A06831: removed",
        ],
    );
    let journeys = index.trace("one@c.example");
    assert_eq!(journeys.len(), 1);
    assert_eq!((journeys[0].records.len(), journeys[0].witnesses.len()), (1, 2));
    assert_eq!(endings(&journeys[0]), ["full@o.example delivered 2.0.0"]);
    assert_eq!(journeys[0].endings[0].last.disposition.as_deref(), Some("folder:INBOX"));
}

#[test]
fn exim_says_why_it_gave_up_and_counts_only_attempts() {
    let stamp = |l: &str| format!("{} exim[1]: 2026-03-02 {l}", &l[..8]);
    let lines: Vec<String> = [
        "08:00:00 1xVSXc-000046-2y <= s@c.example H=c.example [192.0.2.1] P=esmtp S=404 id=one@c.example from <s@c.example> for r@o.example",
        "08:00:01 1xVSXc-000046-2y == r@o.example R=dns T=remote_smtp defer (-44) H=mx.o.example [192.0.2.9]: SMTP error from remote mail server after RCPT TO:<r@o.example>: 450 4.3.0 Temporary system problem",
        "08:10:01 1xVSXc-000046-2y == r@o.example routing defer (-52): retry time not reached",
    ].iter().map(|l| stamp(l)).collect();
    let late = stamp("09:00:00 1xVSXc-000046-2y ** r@o.example: retry timeout exceeded");
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let r = only(&site(&lines));
    assert_eq!(people(&r), ["r@o.example delayed 4.3.0 -"]);
    assert_eq!(r.recipients[0].attempts, 1);
    assert!(r.recipients[0].diagnostic.as_deref().unwrap().contains("450 4.3.0 Temporary"));
    lines.push(&late);
    let r = only(&site(&lines));
    assert_eq!(people(&r), ["r@o.example failed 5.0.0 -"]);
    let p = &r.recipients[0];
    assert_eq!((p.attempts, p.remote_mta.as_deref()), (1, Some("mx.o.example")));
    let said = p.diagnostic.as_deref().unwrap();
    assert!(said.starts_with("retry timeout exceeded; ") && said.contains("450 4.3.0 Temporary"), "{said}");
}
