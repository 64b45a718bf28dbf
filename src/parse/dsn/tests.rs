use super::*;
use proptest::prelude::*;

fn reader() -> &'static Reader {
    static READER: std::sync::OnceLock<Reader> = std::sync::OnceLock::new();
    READER.get_or_init(|| Reader::load(None).unwrap())
}

fn reports(mail: &str) -> Vec<Report> {
    match reader().read(mail.as_bytes()) {
        Reading::Reports(r) => r,
        Reading::Other(other) => panic!("{other:?}: {mail}"),
    }
}

#[test]
fn samples_of_all_files_agree() {
    let wrong = reader().check_samples();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(reader().dialects().len() >= 28);
}

#[test]
fn every_dialect_file_is_built_in() {
    let mut found = 0;
    for entry in std::fs::read_dir("parsers/dsn").unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        found += 1;
        assert!(name == "reasons" || reader().dialects().iter().any(|d| d.name == name), "{name} is not built in");
    }
    assert_eq!(found, reader().dialects().len() + 1);
}

const STATUS: &str = "Reporting-MTA: dns; mx.c\n\nFinal-Recipient: rfc822; a@b\nAction: failed\nStatus: 5.1.1\n";

fn report_mail(kind: &str, status: &str) -> String {
    format!(
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.c\nSubject: x\nDate: Mon, 23 Nov 2026 12:00:00 +0000\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nSorry.\n--b\nContent-Type: {kind}\n\n{status}\n\
         --b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <m@s>\nSubject: Re: it\n--b--\n"
    )
}

#[test]
fn wrong_or_missing_types_of_the_status_part() {
    for kind in [
        "message/delivery-status",
        "MESSAGE/Delivery-Status; name=x",
        "message/global-delivery-status",
        "text/plain",
        "application/octet-stream",
        "",
    ] {
        let r = reports(&report_mail(kind, STATUS));
        assert_eq!((r.len(), r[0].claims.len()), (1, 1), "{kind}");
        assert_eq!((r[0].message_id.as_deref(), r[0].reporting_mta.as_deref()), (Some("m@s"), Some("mx.c")), "{kind}");
    }
}

#[test]
fn several_reports_in_one_mail_and_tracking_status() {
    let two = report_mail(
        "message/delivery-status",
        &format!(
            "{STATUS}\n--b\nContent-Type: message/tracking-status\n\n{}",
            STATUS.replace("mx.c", "mx.d").replace("failed", "transferred").replace("5.1.1", "2.4.0")
        ),
    );
    let r = reports(&two);
    let seen: Vec<_> = r.iter().map(|r| (r.sort, r.reporting_mta.clone().unwrap(), r.claims[0].action)).collect();
    assert_eq!(seen, [(Sort::Delivery, "mx.c".into(), Action::Failed), (Sort::Tracking, "mx.d".into(), Action::Relayed)]);
}

#[test]
fn a_part_that_speaks_of_several_messages_is_several_reports() {
    let other = STATUS.replace("mx.c", "mx.d").replace("a@b", "c@d") + "Diagnostic-Code: smtp; \n";
    let r = reports(&report_mail("message/delivery-status", &format!("{STATUS}\n{other}")));
    let seen: Vec<_> =
        r.iter().map(|r| (r.reporting_mta.as_deref().unwrap(), r.claims[0].final_recipient.as_str(), r.claims.len())).collect();
    assert_eq!(seen, [("mx.c", "a@b", 1), ("mx.d", "c@d", 1)]);
    assert_eq!(r[1].claims[0].diagnostic, None, "an empty one is none");
    // As many as anybody likes to write: the rest is counted.
    let r = reports(&report_mail("message/delivery-status", &format!("{STATUS}\n").repeat(5_000)));
    assert_eq!((r.len(), r.last().unwrap().left_out), (100, 4_900));
}

#[test]
fn the_text_says_whom_and_what_the_status_part_means() {
    let with = |header: &str, text: &str, status: &str| {
        let mail = report_mail("message/delivery-status", status).replace("Sorry.", text);
        let claims = reports(&format!("{header}{mail}")).remove(0).claims;
        claims.iter().map(|c| (c.names().map(str::to_string).collect::<Vec<_>>(), c.action)).collect::<Vec<_>>()
    };
    let names = |n: &[&str]| n.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    // Exim names the alias twice in the part, and in the text the two addresses behind it.
    let text = "This message was created automatically by mail delivery software.\n\n  x@c.test\n    (generated from a@b)\n    550 no\n\n  y@c.test\n    (generated from a@b)\n    550 no\n\n";
    let twice = "Reporting-MTA: dns; mx.c\n\nAction: failed\nFinal-Recipient: rfc822;a@b\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 no\n\n\
                 Action: failed\nFinal-Recipient: rfc822;a@b\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 nope\n";
    let got = with("X-Failed-Recipients: x@c.test, y@c.test\n", text, twice);
    assert_eq!(got, [(names(&["x@c.test", "a@b"]), Action::Failed), (names(&["y@c.test", "a@b"]), Action::Failed)]);
    // Postfix calls relayed what a server of mailboxes took, and only that recipient's is put right.
    let text = "This is the mail system at host mx.c.\n\n<a@b>: delivery via mx.c[private/lmtp]: 250 2.0.0 <a@b>\n    x7 Saved\n\n<c@d>: delivery via d[192.0.2.1]:25: 250 2.0.0 Ok\n";
    let group = |to: &str| format!("Final-Recipient: rfc822; {to}\nAction: relayed\nStatus: 2.0.0\nDiagnostic-Code: smtp; 250 x\n\n");
    let got = with("", text, &format!("Reporting-MTA: dns; mx.c\n\n{}{}", group("a@b"), group("c@d")));
    assert_eq!(got, [(names(&["a@b"]), Action::Delivered), (names(&["c@d"]), Action::Relayed)]);
}

#[test]
fn a_reason_is_of_the_words_then_of_the_status_given_then_of_that_in_the_diagnostic() {
    let of = |status: &str, said: &str| {
        let status =
            format!("Reporting-MTA: dns; a\n\nFinal-Recipient: rfc822; a@b\nAction: failed\nStatus: {status}\nDiagnostic-Code: {said}\n");
        let c = reports(&report_mail("message/delivery-status", &status)).remove(0).claims.remove(0);
        (c.status, c.reason)
    };
    assert_eq!(of("5.1.1", "smtp; 550 mailbox full"), ("5.1.1".into(), Some("mailbox full".into())));
    assert_eq!(of("5.0.0", "smtp; 550 5.1.1 no"), ("5.0.0".into(), Some("user unknown".into())));
    assert_eq!(of("5.7.1", "smtp; 550 no"), ("5.7.1".into(), Some("policy".into())));
    assert_eq!(of("5.5.0", "x-unix; 69"), ("5.5.0".into(), Some("system error".into())));
    assert_eq!(of("5.5.0", "smtp; 550 no"), ("5.5.0".into(), None));
}

#[test]
fn a_forwarded_report_is_read_with_low_confidence_and_a_returned_one_is_not() {
    let forwarded = format!(
        "From: me@site\nSubject: Fwd: look\nContent-Type: multipart/mixed; boundary=o\n\n--o\n\nsee\n--o\nContent-Type: message/rfc822\n\n{}--o--\n",
        report_mail("message/delivery-status", STATUS)
    );
    let r = reports(&forwarded);
    assert!(r[0].forwarded && r[0].claims[0].low);
    // A bounce of a bounce speaks of the bounce, not of what that one spoke of.
    let inner =
        report_mail("message/delivery-status", &STATUS.replace("a@b", "inner@b")).replace("boundary=b", "boundary=i").replace("--b", "--i");
    let outer = report_mail("message/delivery-status", STATUS)
        .replace("text/rfc822-headers\n\nMessage-ID: <m@s>\nSubject: Re: it", &format!("message/rfc822\n\nMessage-ID: <dsn@x>\n{inner}"));
    let r = reports(&outer);
    assert_eq!((r.len(), r[0].claims.len(), r[0].claims[0].final_recipient.as_str()), (1, 1, "a@b"));
    assert_eq!(r[0].message_id.as_deref(), Some("dsn@x"));
}

#[test]
fn what_is_no_bounce_is_not_taken_for_one() {
    let other = |mail: &str| match reader().read(mail.as_bytes()) {
        Reading::Other(o) => o,
        Reading::Reports(r) => panic!("taken for a report: {r:?}"),
    };
    let body = "\n<boss@site.example>: 550 5.1.1 no such user\nHi. This is the qmail-send program at x.example.\n";
    let daemon = "Return-Path: <>\nFrom: MAILER-DAEMON@x.example\n";
    assert_eq!(other(&format!("{daemon}Subject: Out of Office: Undeliverable\n{body}")), Other::AutoReply);
    assert_eq!(other(&format!("{daemon}Subject: Re: Auto: hello\n{body}")), Other::AutoReply);
    assert_eq!(other(&format!("{daemon}X-Autoreply: yes\nSubject: failure notice\n{body}")), Other::AutoReply);
    assert_eq!(other(&format!("{daemon}Auto-Submitted: auto-replied (vacation)\nSubject: hello\n{body}")), Other::AutoReply);
    assert_eq!(other(&format!("{daemon}List-Id: <news.x>\nSubject: Undeliverable\n{body}")), Other::List);
    assert_eq!(other(&format!("{daemon}X-TMDA-Confirm: 1\nSubject: Undeliverable\n{body}")), Other::Challenge);
    assert_eq!(other(&format!("{daemon}Subject: Please confirm your message\n{body}")), Other::Challenge);
    assert_eq!(other("From: a@b\nAuto-Submitted: auto-replied\nSubject: hello\n\nI am away.\n"), Other::AutoReply);
    assert_eq!(other("From: a@b\nSubject: Undeliverable?\n\nc@d.example said 550 5.1.1\n"), Other::Mail);
    assert_eq!(other(""), Other::NoMail);
    assert_eq!(other(&report_mail("message/delivery-status", "Reporting-MTA: dns; mx.c\n")), Other::Empty);
}

#[test]
fn dispositions_and_complaints() {
    let mdn = |disposition: &str, header: &str| {
        format!(
            "From: u@d.example\n{header}Subject: Read\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\n\n--b\n\nread\n--b\n\
                 Content-Type: message/disposition-notification\n\nReporting-UA: pc.d.example; Mailer\nFinal-Recipient: rfc822;u@d.example\n\
                 Original-Message-ID: <m@s>\nDisposition: {disposition}\n\n--b--\n"
        )
    };
    let read = |d: &str, h: &str| {
        let r = reports(&mdn(d, h)).remove(0);
        (r.sort, r.message_id.clone().unwrap(), r.claims[0].disposition.clone().unwrap(), r.claims[0].action)
    };
    assert_eq!(
        read("manual-action/MDN-sent-manually; displayed", ""),
        (Sort::Disposition, "m@s".into(), "displayed".into(), Action::Delivered)
    );
    assert_eq!(
        read("automatic-action/MDN-sent-automatically; deleted/error", ""),
        (Sort::Disposition, "m@s".into(), "deleted".into(), Action::Opaque)
    );
    assert_eq!(read("automatic-action/MDN-sent-automatically; deleted", "Auto-Submitted: auto-replied (rejected)\n").3, Action::Failed);
    let arf = "From: fbl@isp.example\nSubject: complaint\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nx\n--b\n\
               Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: F/1\nVersion: 1\nOriginal-Rcpt-To: <u@isp.example>\n\
               Original-Rcpt-To: <v@isp.example>\n\n--b\nContent-Type: message/rfc822\n\nMessage-ID: <m@s>\nTo: u@isp.example\n\nhi\n--b--\n";
    let r = reports(arf).remove(0);
    let seen: Vec<_> = r.claims.iter().map(|c| (c.final_recipient.as_str(), c.disposition.as_deref(), c.reason.as_deref())).collect();
    assert_eq!(seen, [("u@isp.example", Some("complaint"), Some("abuse")), ("v@isp.example", Some("complaint"), Some("abuse"))]);
    assert_eq!((r.sort, r.message_id.as_deref()), (Sort::Complaint, Some("m@s")));
}

#[test]
fn a_copy_that_came_another_way_has_the_same_name() {
    let mail = report_mail("message/delivery-status", STATUS);
    let again = format!("Received: from x by y; Tue, 24 Nov 2026 12:00:00 +0000\n{}", mail.replace('\n', "\r\n"));
    assert_eq!(reports(&mail)[0].name(), reports(&again)[0].name());
    assert_ne!(reports(&mail)[0].name(), reports(&mail.replace("5.1.1", "5.1.2"))[0].name());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = reader().read(&bytes);
    }

    /// Pieces of reports in any order, cut anywhere: what a hostile mail is made of.
    #[test]
    fn shuffled_pieces_never_panic(picks in proptest::collection::vec((0usize..PIECES.len(), 0usize..40, any::<bool>()), 0..40), cut in 0usize..2000) {
        let mut mail = Vec::new();
        for (n, bytes, raw) in picks {
            mail.extend_from_slice(PIECES[n].as_bytes());
            if raw {
                mail.extend((0..bytes).map(|b| (b * 37 + n * 11) as u8));
            }
        }
        mail.truncate(cut);
        let _ = reader().read(&mail);
    }
}

const PIECES: &[&str] = &[
    "From: MAILER-DAEMON <>\n",
    "Return-Path: <>\n",
    "Subject: Undeliverable =?utf-8?B?8J+Y?= =?x?q?=zz?=\n",
    "\n",
    "\n\n",
    "--b\n",
    "--b--\n",
    "\r",
    "=",
    "\u{fc}",
    "Content-Type: multipart/report; boundary=b\n",
    "Content-Type: message/rfc822\n\n",
    "Content-Type: message/delivery-status\n\n",
    "Content-Type: text/html; charset=shift_jis\n",
    "Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: base64\n\n",
    "Content-Transfer-Encoding: quoted-printable\n",
    "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\n",
    "Content-Type: message/disposition-notification\n\nDisposition: ;;/\n",
    "Final-Recipient: rfc822; <\n",
    "Final-Recipient: utf-8; \\x{110000}\\x{\n",
    "Action: \n",
    "Status: 5.\n",
    "Status: 5.1.1\n",
    "Arrival-Date: Mon, 99 Foo 99999 99:99:99 +9999\n",
    "Date: Mon, 1 Jan 0000 00:00:00 -9999\n",
    "Hi. This is the qmail-send program at x.\n",
    "<a@b>:\n5.1.1 \n",
    "This message was created automatically by mail delivery software\n\n  a@b\n    550\n",
    "   ----- The following addresses had\n<a@b>\n    (reason: )\n",
    "a@b.example 550 5.1.1 ",
    "Remote Server returned '",
    "Content-Type: text/plain; charset=\"utf-7\n",
    "Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B",
    "Reporting-MTA: dns;[[((\n",
    "\0",
];
