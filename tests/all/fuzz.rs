//! The fuzz targets' entries over made-up bytes, and over what fuzzing once found (`fuzz/found/TARGET/`).

#[path = "../../fuzz/entries/mod.rs"]
mod entries;

use entries::{TARGETS, ingest, mtqp, smtp};
use proptest::prelude::*;
use std::collections::BTreeSet;

const MTQP: &[&str] = &[
    "TRACK ",
    "<a@b>",
    " YWJj",
    "COMMENT",
    "STARTTLS ",
    "a.b",
    "QUIT",
    "\r\n",
    "\n",
    ".\r\n",
    "..",
    "+OK",
    "+OK+",
    "-ERR/noinfo",
    "/MTQP",
    "mtqp://",
    "h.test:1",
    "/track/",
    "a%2Fb@c",
    "/",
    "%",
    "Content-Type: multipart/related; boundary=b\n\n",
    "--b\n",
    "--b--\n",
    "Content-Type: message/tracking-status\n\n",
    "Original-Envelope-Id: a@b\n",
    "Reporting-MTA: dns; x\n",
    "Arrival-Date: Mon, 1 Jan 2001 15:15:15 -0500\n",
    "\nFinal-Recipient: rfc822; a@b\n",
    "Final-Recipient: utf-8; \\x{E9}\\x{\n",
    "Action: delayed\n",
    "Action: opaque\n",
    "Status: 4.0.0\n",
    "Status 2.0.0 (x)\n",
    "Remote-MTA: y\n",
    "Last-Attempt-Date: Mon, 1 Jan 2001 15:15:15 GMT\n",
    " folded\n",
    "X-Y: z\n",
];

const SMTP: &[&str] = &[
    "EHLO c\r\n",
    "MAIL FROM:<a@b>",
    " MTRK=",
    "qUqP5cyxm6YcTAhz05Hph5gvu9M",
    ":86400",
    " ENVID=1@h",
    "+2B",
    " RET=HDRS",
    "RCPT TO:<c@d>",
    " ORCPT=rfc822;c@d",
    "DATA\r\n",
    "BDAT 5 LAST\r\n",
    "BDAT 3\r\n",
    "RSET\r\n",
    "STARTTLS\r\n",
    "AUTH LOGIN\r\n",
    "QUIT\r\n",
    "GET / HTTP/1.1\r\n",
    "XCLIENT ADDR=::1\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    ".",
    "\r\n.\r\n",
    "\n.\n",
    "\"",
    "\\",
    "<",
    ">",
    "220 x\r\n",
    "250\r\n",
    "250-\r\n",
    "250 Ok\r\n",
    "250-x\r\n250-DSN\r\n250-CHUNKING\r\n250 AUTH LOGIN\r\n",
    "354 go\r\n",
    "334 x\r\n",
    "421 bye\r\n",
    "550 5.1.1 no\r\n",
    "250 2.0.0 Ok: queued as 4AbC\r\n",
];

/// Of logs, syslog's framing, and mails.
const TEXT: &[&str] = &[
    "<22>",
    "<22>1 2026-11-23T12:00:00.5Z h p 7 - - ",
    "17 <13>some message",
    "Nov 23 12:00:00 mx1 postfix/smtp[4]: 4AAAAA1: ",
    "to=<a@c.test>, relay=mx.c[198.51.100.4]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok: queued as 9F2AAAA)",
    "Nov 23 12:00:00 mx1 exim[7]: [1/2] 1uAbCd-000001-0A <= a@b H=h [192.0.2.9] ",
    "Nov 23 12:00:00 mx1 exim[7]: [2/2] id=m1@x",
    "2026-11-23 12:00:00 1uAbCd-000001-0A => a@b R=r T=t H=h [192.0.2.9] C=\"250 ok id=1uAbCe-000002-0B\"\n",
    "Nov 23 12:00:00 mx1 last message repeated 3 times\n",
    "message repeated 2 times: [ ",
    "@400000006553f0a1075bcd15 status: local 1/10\n",
    "date-time,client-ip,event-id,message-id,recipient-address\n",
    "#Fields: date-time,client-ip,client-hostname,event-id\r\n",
    "\"a\nb\",,",
    "{\"type\":\"Delivery\",\"id\":\"\\u00e9\"",
    "}\n",
    "\n",
    "\n\n",
    "\r",
    "\0",
    "\u{fc}",
    "From x@y Mon Nov 23 12:00:00 2026\n",
    ">From it\n",
    "From: MAILER-DAEMON <>\n",
    "Return-Path: <>\n",
    "Subject: Undeliverable =?utf-8?B?8J+Y?= =?x?q?=zz?=\n",
    "--b\n",
    "--b--\n",
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
    "Action: failed\n",
    "Status: 5.1.1\n",
    "Arrival-Date: Mon, 99 Foo 99999 99:99:99 +9999\n",
    "Date: Mon, 1 Jan 0000 00:00:00 -9999\n",
    "Hi. This is the qmail-send program at x.\n",
    "<a@b>:\n5.1.1 \n",
    "Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B",
];

fn bytes(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        5 => proptest::sample::select(words).prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (1usize..9000).prop_map(|n| vec![b'a'; n]),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|v| v.concat())
}

/// Pieces with their owner and length in front, as [`smtp::session`] takes them: mostly those that belong to whom speaks.
fn moves() -> impl Strategy<Value = Vec<u8>> {
    let piece = (any::<bool>(), proptest::sample::select(SMTP)).prop_map(|(odd, w)| {
        let backend = w.as_bytes()[0].is_ascii_digit() ^ (odd && w.len() % 7 == 0);
        let mut out = vec![((w.len() as u8) << 1) | u8::from(backend)];
        out.extend_from_slice(w.as_bytes());
        out
    });
    proptest::collection::vec(piece, 0..60).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mtqp_command(data in bytes(MTQP)) { mtqp::command(&data); }

    #[test]
    fn mtqp_reply(data in bytes(MTQP)) { mtqp::reply(&data); }

    #[test]
    fn mtqp_session(data in bytes(MTQP)) { mtqp::session(&data); }

    #[test]
    fn mtqp_uri(data in bytes(MTQP)) { mtqp::uri(&data); }

    #[test]
    fn trkstat_read(data in bytes(MTQP)) { mtqp::trkstat(&data); }

    #[test]
    fn smtp_line(data in bytes(SMTP)) { smtp::line(&data); }

    #[test]
    fn smtp_reply(data in bytes(SMTP)) { smtp::reply(&data); }

    #[test]
    fn smtp_content(data in bytes(SMTP)) { smtp::content(&data); }

    #[test]
    fn smtp_session(data in prop_oneof![moves(), bytes(SMTP)]) { smtp::session(&data); }

    #[test]
    fn syslog(data in bytes(TEXT)) { ingest::syslog(&data); }

    #[test]
    fn log_line(data in bytes(TEXT)) { ingest::log_line(&data); }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn log_block(data in bytes(TEXT)) { ingest::log_block(&data); }

    #[test]
    fn mailbox(data in bytes(TEXT)) { ingest::mailbox(&[b"From x@y Mon Nov 23 12:00:00 2026\nSubject: x\n", data.as_slice()].concat()); }

    #[test]
    fn dsn(data in bytes(TEXT)) { ingest::dsn(&data); }
}

/// Every target is in the table, and nothing that fuzzing found comes back.
#[test]
fn what_fuzzing_found_stays_mended() {
    let files = |dir: &str| std::fs::read_dir(dir).map(|d| d.map(|e| e.unwrap().path()).collect::<Vec<_>>()).unwrap_or_default();
    let names: BTreeSet<String> = TARGETS.iter().map(|t| t.0.to_string()).collect();
    let there = files("fuzz/fuzz_targets").iter().map(|p| p.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, there);
    let cargo = std::fs::read_to_string("fuzz/Cargo.toml").unwrap();
    let bins: BTreeSet<String> =
        cargo.lines().filter_map(|l| Some(l.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\"")?.into())).collect();
    assert_eq!(names, bins);
    for (name, entry) in TARGETS {
        for found in files(&format!("fuzz/found/{name}")) {
            println!("{}", found.display());
            entry(&std::fs::read(found).unwrap());
        }
    }
}
