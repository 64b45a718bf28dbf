//! MTAs whose lines name a session or delivery instead of the message, and programs beside the MTA: what no real log at hand shows.

use crate::support::Index;
use msgtrk::model::event::Action;
use msgtrk::model::journey::Journey;
use msgtrk::model::record::Role;
use std::io::Write;
use std::path::PathBuf;

struct Logs {
    index: Index,
}

impl Logs {
    fn new() -> Self {
        Logs { index: Index::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.index.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut f = std::fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        f.write_all(text.as_bytes()).unwrap();
    }

    fn fill(&self, name: &str, host: &str) -> msgtrk::ingest::backfill::Summary {
        self.index.fill(&[self.path(name)], host)
    }

    fn endings(&self, id: &str) -> Vec<(String, Action, String)> {
        let all = self.index.trace(id);
        all.iter().flat_map(|j| &j.endings).map(|e| (e.original_recipient.clone(), e.last.action, e.at.clone())).collect()
    }
}

fn hosts(journeys: &[Journey]) -> Vec<&str> {
    journeys.iter().flat_map(|j| &j.records).map(|r| r.reporting_mta.as_str()).collect()
}

/// 2026-03-02 08:00:00 UTC and some seconds, as multilog writes it; `line` makes stamps of one second differ.
fn tai(second: u64, line: usize) -> String {
    format!("@{:016x}{:08x}", (1u64 << 62) + 10 + 1_772_438_400 + second, 500_000_000 + line * 1_000)
}

fn qmail_send() -> Vec<String> {
    [
        (1, "new msg 706430"),
        (1, "info msg 706430: bytes 2737 from <a@b.example> qp 4567 uid 1001"),
        (1, "starting delivery 17: msg 706430 to remote c@d.example"),
        (1, "status: local 0/10 remote 1/20"),
        (1, "starting delivery 18: msg 706430 to local bob@mx2.example"),
        (2, "delivery 18: success: did_1+0+0/"),
        (3, "delivery 17: success: 192.0.2.9_accepted_message./Remote_host_said:_250_2.0.0_Ok:_queued_as_4CCCCCCCCCz1CC/"),
        (3, "end msg 706430"),
        // The inode and the delivery's number come back at once for another message.
        (3, "new msg 706430"),
        (3, "info msg 706430: bytes 99 from <x@b.example> qp 4570 uid 1001"),
        (4, "starting delivery 18: msg 706430 to remote e@f.example"),
        (5, "delivery 18: failure: 192.0.2.8_does_not_like_recipient./Remote_host_said:_550_5.1.1_no/Giving_up_on_192.0.2.8./"),
        (5, "bounce msg 706430 qp 4575"),
        (5, "end msg 706430"),
    ]
    .iter()
    .enumerate()
    .map(|(n, (at, text))| format!("{} {text}\n", tai(*at, n)))
    .collect()
}

const BEFORE: &str = "\
Mar  2 08:00:00 mx1 postfix/smtpd[1]: 4AAAAAAAAAz1AA: client=client.example[192.0.2.7]
Mar  2 08:00:00 mx1 postfix/cleanup[1]: 4AAAAAAAAAz1AA: message-id=<m@b.example>
Mar  2 08:00:01 mx1 postfix/smtp[1]: 4AAAAAAAAAz1AA: to=<c@d.example>, relay=mx2.example[192.0.2.2]:25, delay=1, dsn=2.0.0, status=sent (250 ok 1772438401 qp 4567)
Mar  2 08:00:03 store postfix/smtpd[1]: 4CCCCCCCCCz1CC: client=mx2.example[192.0.2.2]
Mar  2 08:00:03 store postfix/cleanup[1]: 4CCCCCCCCCz1CC: message-id=<m@b.example>
Mar  2 08:00:04 store postfix/local[1]: 4CCCCCCCCCz1CC: to=<c@d.example>, relay=local, delay=1, dsn=2.0.0, status=sent (delivered to maildir)
";

#[test]
fn qmail_in_the_middle_of_a_way_and_inodes_that_return() {
    let logs = Logs::new();
    logs.append("current", &qmail_send().concat());
    logs.append("mail.log", BEFORE);
    let done = logs.fill("current", "mx2.example");
    assert_eq!((done.counts.unparsed_lines(), done.orphans), (0, 0), "{:?}", done.counts.unparsed);
    let records: Vec<_> = logs.index.records().iter().map(msgtrk::model::derive::derive).collect();
    let said: Vec<_> = records
        .iter()
        .map(|r| {
            (
                r.envelope_from.as_deref().unwrap_or(""),
                r.closed,
                r.recipients.iter().map(|p| (p.final_recipient.as_str(), p.action)).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("a@b.example", true, vec![("bob@mx2.example", Action::Delivered), ("c@d.example", Action::Relayed)]),
            ("x@b.example", true, vec![("e@f.example", Action::Failed)]),
        ]
    );
    logs.fill("mail.log", "h");
    let journeys = logs.index.trace("m@b.example");
    assert_eq!(hosts(&journeys), ["mx1", "mx2.example", "store"], "{journeys:?}");
    assert_eq!(logs.endings("4AAAAAAAAAz1AA"), [("c@d.example".into(), Action::Delivered, "store".into())]);
}

/// A stop between `starting delivery 17` and its result, at every line: the same records as in one go (R1, R2).
#[test]
fn a_stop_between_two_lines_of_a_delivery_orphans_nothing() {
    let whole = Logs::new();
    whole.append("current", &qmail_send().concat());
    whole.fill("current", "mx2.example");
    let lines = qmail_send();
    for at in 1..lines.len() {
        let logs = Logs::new();
        logs.append("current", &lines[..at].concat());
        logs.fill("current", "mx2.example");
        logs.append("current", &lines[at..].concat());
        let done = logs.fill("current", "mx2.example");
        assert_eq!(done.orphans, 0, "stopped before line {at}");
        assert_eq!(logs.index.records(), whole.index.records(), "stopped before line {at}");
    }
}

#[test]
fn a_result_whose_beginning_was_never_read_is_counted_and_makes_no_record() {
    let logs = Logs::new();
    logs.append("current", &qmail_send()[5..8].concat());
    let done = logs.fill("current", "mx2.example");
    assert_eq!(done.orphans, 2);
    assert_eq!(logs.index.records().len(), 1, "only `end msg`");
}

/// multilog's file and the same lines by splogger in a log host's file: nothing is doubled.
#[test]
fn qmail_by_two_ways_is_one_record_each() {
    let logs = Logs::new();
    logs.append("current", &qmail_send().concat());
    let by_syslog = |(n, line): (usize, &String)| {
        let second = u64::from_str_radix(&line[1..17], 16).unwrap() - (1 << 62) - 10;
        let zone_ahead = second - 1_772_438_400 + 3600;
        format!(
            "Mar  2 09:{:02}:{:02} mx2.example qmail: {second}.{:06} {}",
            zone_ahead % 3600 / 60,
            zone_ahead % 60,
            500_000 + n,
            &line[26..]
        )
    };
    logs.append("mail.log", &qmail_send().iter().enumerate().map(by_syslog).collect::<String>());
    logs.fill("current", "mx2.example");
    let before = logs.index.records();
    assert_eq!(before.len(), 2);
    let done = logs.fill("mail.log", "h");
    assert_eq!((done.counts.unparsed_lines(), done.orphans), (0, 0), "{:?}", done.counts.unparsed);
    let after = logs.index.records();
    let figures = |all: &[msgtrk::model::record::StoredRecord]| all.iter().map(|r| (r.key.clone(), r.events().count())).collect::<Vec<_>>();
    assert_eq!(figures(&after), figures(&before));
}

/// Two hosts in one log, each with a delivery 17: the numbers are each host's own.
#[test]
fn sessions_of_two_hosts_are_kept_apart() {
    let logs = Logs::new();
    let line = |host: &str, text: &str| format!("Mar  2 08:00:01 {host} qmail: {text}\n");
    for (host, msg, to) in [("a", "1", "x@a.example"), ("b", "2", "x@b.example")] {
        logs.append("mail.log", &line(host, &format!("new msg {msg}")));
        logs.append("mail.log", &line(host, &format!("starting delivery 17: msg {msg} to local {to}")));
    }
    logs.append("mail.log", &line("a", "delivery 17: success: did_1+0+0/"));
    logs.append("mail.log", &line("b", "delivery 17: deferral: busy_(#4.3.0)/"));
    logs.fill("mail.log", "h");
    let records: Vec<_> = logs.index.records().iter().map(msgtrk::model::derive::derive).collect();
    let said: Vec<_> =
        records.iter().map(|r| (r.reporting_mta.as_str(), r.recipients[0].final_recipient.as_str(), r.recipients[0].action)).collect();
    assert_eq!(said, [("a", "x@a.example", Action::Delivered), ("b", "x@b.example", Action::Delayed)]);
}

/// Until 6.3 OpenSMTPD wrote one line a recipient when it took a message: still one record.
#[test]
fn a_message_of_several_recipients_by_an_old_opensmtpd() {
    let logs = Logs::new();
    let line = |to: &str| {
        format!(
            "Mar  2 08:00:01 mx1 smtpd[71]: 8f4864084ecc48f4 smtp event=message msgid=7077717e from=<a@b.example> to=<{to}> size=605 ndest=1 proto=ESMTP\n"
        )
    };
    let connected = "Mar  2 08:00:00 mx1 smtpd[71]: 8f4864084ecc48f4 smtp event=connected address=192.0.2.7 host=client.example\n";
    let done = "Mar  2 08:00:02 mx1 smtpd[71]: 8f4864084ecc48f5 mta event=delivery evpid=7077717e797a776e from=<a@b.example> to=<c@d.example> rcpt=<-> source=\"192.0.2.1\" relay=\"192.0.2.9 (mx.d.example)\" delay=1s result=\"Ok\" stat=\"250 ok\"\n";
    logs.append("mail.log", &[connected, &line("c@d.example"), &line("e@d.example"), done].concat());
    assert_eq!(logs.fill("mail.log", "h").counts.unparsed_lines(), 0);
    let records: Vec<_> = logs.index.records().iter().map(msgtrk::model::derive::derive).collect();
    let [r] = records.as_slice() else { panic!("{} records", records.len()) };
    assert_eq!(r.client.ip.as_deref(), Some("192.0.2.7"));
    let mut said: Vec<_> = r.recipients.iter().map(|p| (p.final_recipient.as_str(), p.action)).collect();
    said.sort();
    assert_eq!(said, [("c@d.example", Action::Relayed), ("e@d.example", Action::Delayed)]);
    assert!(!r.closed);
}

#[test]
fn mailscanner_puts_a_mail_back_under_another_id() {
    let logs = Logs::new();
    logs.append(
        "mail.log",
        "\
Mar  2 08:00:00 mx1 postfix/smtpd[1]: 4A5CDEF012: client=client.example[192.0.2.7]
Mar  2 08:00:00 mx1 postfix/cleanup[1]: 4A5CDEF012: hold: header Received: from x from client.example[192.0.2.7]; from=<a@b.example> to=<c@d.example> proto=ESMTP helo=<x>
Mar  2 08:00:00 mx1 postfix/cleanup[1]: 4A5CDEF012: message-id=<m@b.example>
Mar  2 08:00:02 mx1 MailScanner[71]: Message 4A5CDEF012.A1B2C from 192.0.2.7 (a@b.example) to d.example is not spam, SpamAssassin (score=0.1)
Mar  2 08:00:03 mx1 MailScanner[71]: Requeue: 4A5CDEF012.A1B2C to 9F2A41C345
Mar  2 08:00:03 mx1 postfix/qmgr[1]: 9F2A41C345: from=<a@b.example>, size=99, nrcpt=2 (queue active)
Mar  2 08:00:04 mx1 postfix/smtp[1]: 9F2A41C345: to=<c@d.example>, relay=mx.d.example[192.0.2.9]:25, delay=1, dsn=2.0.0, status=sent (250 ok)
Mar  2 08:00:04 mx1 postfix/smtp[1]: 9F2A41C345: to=<e@d.example>, relay=mx.d.example[192.0.2.9]:25, delay=1, dsn=5.1.1, status=bounced (550 no)
Mar  2 08:00:04 mx1 postfix/qmgr[1]: 9F2A41C345: removed
",
    );
    logs.fill("mail.log", "h");
    for id in ["m@b.example", "9F2A41C345"] {
        let journeys = logs.index.trace(id);
        assert_eq!(journeys.len(), 1, "{id}");
        assert_eq!(journeys[0].records.iter().filter_map(|r| r.queue_id.as_deref()).collect::<Vec<_>>(), ["4A5CDEF012", "9F2A41C345"]);
        assert!(journeys[0].witnesses.iter().any(|w| w.verdict.as_deref() == Some("not spam")), "{:?}", journeys[0].witnesses);
        let said = logs.endings(id);
        assert_eq!(said, [("c@d.example".into(), Action::Relayed, "mx1".into()), ("e@d.example".into(), Action::Failed, "mx1".into())]);
    }
}

/// What milters and filters say stands beside the record: each of its own mail, though queue ids return.
#[test]
fn filters_speak_of_the_mail_that_had_the_id_then() {
    let logs = Logs::new();
    for (minute, mail, verdict) in [(0, "one", "pass"), (30, "two", "fail")] {
        let at = |s: u32| format!("Mar  2 08:{minute:02}:{s:02} mx1");
        logs.append(
            "mail.log",
            &format!(
                "\
{a} postfix/smtpd[1]: 4A5CDEF012: client=client.example[192.0.2.7]
{a} postfix/cleanup[1]: 4A5CDEF012: message-id=<{mail}@b.example>
{a} opendkim[71]: 4A5CDEF012: DKIM verification successful
{a} opendmarc[71]: 4A5CDEF012: b.example {verdict}
{a} spamd[71]: spamd: result: Y 15 - BAYES_99 scantime=1.2,size=2345,user=spamd,uid=101,required_score=5.0,rhost=localhost,raddr=127.0.0.1,rport=4711,mid=<{mail}@b.example>,autolearn=no
{a} rspamd[71]: <a1b2c3>; task; rspamd_task_write_log: id: <{mail}@b.example>, qid: <4A5CDEF012>, ip: 192.0.2.7, from: <a@b.example>, (default: F (no action): [1.20/15.00] [X(0.00){{}}]), len: 2345, time: 120.1ms, dns req: 5, digest: <01>
{b} postfix/smtp[1]: 4A5CDEF012: to=<c@d.example>, relay=mx.d.example[192.0.2.9]:25, delay=1, dsn=2.0.0, status=sent (250 ok)
{b} postfix/qmgr[1]: 4A5CDEF012: removed
",
                a = at(1),
                b = at(2)
            ),
        );
    }
    let done = logs.fill("mail.log", "h");
    assert_eq!(done.counts.unparsed_lines(), 0, "{:?}", done.counts.unparsed);
    let records = logs.index.records();
    assert_eq!(records.iter().filter(|r| r.role == Role::Witness).count(), 8, "each mail's own");
    for (mail, verdict) in [("one", "b.example pass"), ("two", "b.example fail")] {
        let journeys = logs.index.trace(&format!("{mail}@b.example"));
        let [journey] = journeys.as_slice() else { panic!("{} journeys", journeys.len()) };
        let mut said: Vec<&str> = journey.witnesses.iter().filter_map(|w| w.verdict.as_deref()).collect();
        said.sort();
        assert!(said.contains(&verdict) && said.contains(&"Y 15"), "{mail}: {said:?}");
    }
}

#[test]
fn cyrus_tells_the_folder_and_what_sieve_did() {
    let logs = Logs::new();
    logs.append(
        "mail.log",
        "\
Mar  2 08:00:00 store postfix/cleanup[1]: 4A5CDEF012: message-id=<m@b.example>
Mar  2 08:00:01 store postfix/lmtp[1]: 4A5CDEF012: to=<bob@d.example>, relay=store[/run/cyrus/socket/lmtp], delay=1, dsn=2.1.5, status=sent (250 2.1.5 Ok SESSIONID=<cyrus-71-1-1-1>)
Mar  2 08:00:01 store postfix/lmtp[1]: 4A5CDEF012: to=<eve@d.example>, relay=store[/run/cyrus/socket/lmtp], delay=1, dsn=2.1.5, status=sent (250 2.1.5 Ok SESSIONID=<cyrus-71-1-1-1>)
Mar  2 08:00:01 store cyrus/lmtpunix[71]: Delivered: <m@b.example> to mailbox: user.bob.Junk
Mar  2 08:00:01 store cyrus/lmtpunix[71]: auditlog: discard-reject sessionid=<cyrus-71-1-1-1> message-id=<m@b.example> userid=<eve@d.example>
",
    );
    logs.fill("mail.log", "h");
    let journeys = logs.index.trace("m@b.example");
    let said: Vec<_> = journeys
        .iter()
        .flat_map(|j| &j.endings)
        .map(|e| (e.original_recipient.as_str(), e.last.action, e.last.disposition.as_deref()))
        .collect();
    assert_eq!(said, [("bob@d.example", Action::Delivered, Some("folder:Junk")), ("eve@d.example", Action::Opaque, Some("discarded"))]);
}

#[test]
fn mailman_writes_the_year_behind_the_clock() {
    let logs = Logs::new();
    logs.append(
        "smtp.log",
        "Mar 02 08:00:00 2024 (4711) <x@b.example> post to list@d.example from a@b.example, 2345 bytes\n\
         Mar 02 08:00:01 2024 (4711) <x@b.example> delivery to c@d.example failed with code 550, 5.1.1 no such user\n",
    );
    let done = logs.fill("smtp.log", "lists");
    assert_eq!(done.counts.events, 2, "{:?}", done.counts);
    let records = logs.index.records();
    assert!(records.iter().all(|r| r.role == Role::Witness && r.slot.host == "lists"));
    let first = records.iter().flat_map(|r| r.events().map(|e| e.head.time)).min().unwrap();
    assert_eq!(first, 1_709_366_400_000_000);
}

/// The worked example of parsers/README.md holds, and reads what it says it reads.
#[test]
fn the_worked_example_of_the_description() {
    let text = std::fs::read_to_string("parsers/README.md").unwrap();
    let (_, example) = text.split_once("## A home-made MTA").unwrap();
    let example = example.split("\n## ").next().unwrap();
    let blocks: Vec<&str> = example.split("```").collect();
    let lines = blocks[1].trim_start();
    let toml: String = blocks.iter().filter_map(|b| b.strip_prefix("toml\n")).collect();
    let logs = Logs::new();
    let folder = logs.path("my");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("shopmail.toml"), toml).unwrap();
    let parsers = msgtrk::parse::Parsers::load(Some(&folder)).unwrap();
    let wrong = msgtrk::parse::Matcher::new(parsers).check_samples();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    logs.append("mail.log", lines);
    let index = logs.index.dir.path().join("index");
    let ran = |args: &[&str]| {
        let out = crate::support::msgtrk(&index, &[&["--parsers", folder.to_str().unwrap()], args].concat());
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    let (code, said) = ran(&["backfill", "--year", "2026", logs.path("mail.log").to_str().unwrap()]);
    // The fourth line's connection was never opened.
    assert!(code == Some(0) && said.contains("1 lines that name only a delivery or session"), "{said}");
    let (code, said) = ran(&["trace", "x@b.example"]);
    assert!(code == Some(0) && said.contains("c@d.example  relayed") && said.contains("mx.d.example"), "{said}");
}

/// Every sentence of a stranger in the skeleton's samples stays a sample: the file it makes passes the check.
#[test]
fn a_skeleton_from_the_program() {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().unwrap();
    let log = std::fs::read_to_string("sample-logs/opensmtpd/mail.log").unwrap();
    let mine: String = log.lines().filter(|l| l.contains(" smtpd[")).map(|l| l.replacen(" smtpd[", " mymta[", 1) + "\n").collect();
    std::fs::write(dir.path().join("lines.log"), mine).unwrap();
    let input = std::fs::File::open(dir.path().join("lines.log")).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_msgtrk")).args(["parsers", "new", "mine"]).stdin(Stdio::from(input)).output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("programs    = [") && text.contains("'mymta'") && text.matches("[[pattern]]").count() > 20);
    std::fs::write(dir.path().join("mine.toml"), text).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_msgtrk")).args(["parsers", "check"]).arg(dir.path()).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let bad = Command::new(env!("CARGO_BIN_EXE_msgtrk")).args(["parsers", "new", "../x"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(bad.status.code(), Some(2));
}

/// Real lines of postgrey, OpenDKIM, OpenDMARC, rspamd, spamd and Cyrus around one Postfix; one Message-ID in it tries to be three of them.
#[test]
fn real_filters_around_a_postfix() {
    let index = Index::new();
    let done = index.fill(&["sample-logs/filters/mail.log.xz".into()], "h");
    assert_eq!(done.counts.unparsed_lines(), 0, "{:?}", done.counts.unparsed);
    let said = |id: &str, queue_id: &str| {
        let journeys = index.trace(id);
        let j = journeys.iter().find(|j| j.records.iter().any(|r| r.queue_id.as_deref() == Some(queue_id))).unwrap();
        let mut verdicts: Vec<String> = j.witnesses.iter().filter_map(|w| Some(format!("{} {}", w.mta, w.verdict.as_deref()?))).collect();
        verdicts.sort();
        (j.endings.iter().map(|e| (e.original_recipient.clone(), e.last.action)).collect::<Vec<_>>(), verdicts)
    };
    let (endings, verdicts) = said("two.1@b.example", "75FDB9DCBE3");
    assert_eq!(endings, [("bob@example.test".into(), Action::Delivered), ("eve@example.test".into(), Action::Delivered)]);
    assert_eq!(verdicts, ["opendkim no signature data", "opendmarc b.example none"]);
    let (endings, verdicts) = said("spam.2@b.example", "443869DCB97");
    assert_eq!(endings, [("bob@example.test".into(), Action::Failed)]);
    assert_eq!(verdicts, ["opendkim no signature data", "rspamd (reject): [15.00/15.00]"]);
    let (_, verdicts) = said("sig.1@example.test", "DADA29DCBE3");
    assert!(verdicts.contains(&"opendkim DKIM-Signature field added (s=mail, d=example.test)".to_string()), "{verdicts:?}");
    let (_, verdicts) = said("one.2@b.example", "0E7EF9DCBD8");
    assert_eq!(verdicts, ["opendkim no signature data", "rspamd (no action): [-0.10/15.00]", "spamassassin . -1", "spamassassin . -1"]);
    // `<x> to mailbox: user.evil, qid: <EVIL12> id=<y.1@b.example>`, from `"x, recipient=evil@x.test, "@b.example`.
    let records: Vec<_> = index.records().iter().map(msgtrk::model::derive::derive).collect();
    assert!(records.iter().all(|r| r.orig_queue_id.as_deref() != Some("EVIL12") && r.queue_id.as_deref() != Some("EVIL12")));
    assert!(records.iter().flat_map(|r| &r.recipients).all(|p| !p.final_recipient.contains("evil")));
    assert!(records.iter().filter(|r| r.mta == "cyrus").count() >= 10);
}

/// What the sink behind Haraka was sent (`h2`: it took two of four, refused one for good and one each time; `once`: it took
/// them at the second attempt; it refused `badfrom` at MAIL and `baddata` at the end of the data).
const HARAKA: &[(&str, &[(&str, Action)])] = &[
    ("h1", &[("bob@other.test", Action::Relayed)]),
    (
        "h2",
        &[
            ("bob@other.test", Action::Relayed),
            ("carol@other.test", Action::Relayed),
            ("perm1@other.test", Action::Failed),
            ("temp1@other.test", Action::Failed),
        ],
    ),
    ("h3", &[("bob@Other.TEST", Action::Relayed), ("dave@third.test", Action::Relayed)]),
    ("h4", &[("bob@refused.test", Action::Failed)]),
    (
        "h5",
        &[
            ("bob@nullmx.test", Action::Failed),
            ("x@denied.test", Action::Failed),
            ("y@soft.test", Action::Failed),
            ("z@nxdomain.invalid", Action::Failed),
        ],
    ),
    ("h6", &[("bob@other.test", Action::Failed), ("c@other.test", Action::Failed)]),
    ("h7", &[("bob@other.test", Action::Failed)]),
    // Both failed at two domains as a whole: no line says which.
    ("h8", &[("bob@other.test", Action::Delayed), ("d@third.test", Action::Delayed)]),
    ("h9", &[("bob@other.test", Action::Relayed)]),
    ("h10", &[("bob@other.test", Action::Relayed)]),
    ("h12", &[("bob@other.test", Action::Failed)]),
    ("h13", &[("bob@other.test", Action::Relayed)]),
    ("h15", &[("perm@other.test", Action::Failed)]),
    ("h17", &[("bob@[127.0.0.1]", Action::Relayed)]),
    ("h20", &[("once1@other.test", Action::Relayed)]),
    ("h21", &[("bob@other.test", Action::Relayed), ("once2@other.test", Action::Relayed), ("temp2@other.test", Action::Failed)]),
    ("h22", &[("once3@other.test", Action::Relayed), ("once4@other.test", Action::Relayed)]),
    ("h23", &[("bob@refused.test", Action::Failed), ("dave@third.test", Action::Relayed)]),
    ("h24", &[("laterdata@third.test", Action::Relayed), ("perm@other.test", Action::Failed)]),
];

#[test]
fn haraka_names_a_domain_where_others_name_recipients() {
    // In logfmt and JSON an address in quotes (`h19`) is escaped once more, and is not read.
    for (log, unparsed) in [("haraka1.log", 0), ("logfmt.log.xz", 2), ("json.log.xz", 2)] {
        let logs = Logs::new();
        let done = logs.index.fill(&[PathBuf::from("sample-logs/haraka").join(log)], "haraka1");
        assert_eq!((done.counts.unparsed_lines(), done.orphans), (unparsed, 0), "{log}: {:?}", done.counts.unparsed);
        for (id, want) in HARAKA {
            let mut said: Vec<_> = logs.endings(&format!("{id}@sender.test")).into_iter().map(|(to, action, _)| (to, action)).collect();
            said.sort();
            let want: Vec<_> = want.iter().map(|(to, action)| (to.to_string(), *action)).collect();
            assert_eq!(said, want, "{log}: {id}");
        }
        let client = |r: &msgtrk::model::record::Record| r.client.ip.as_deref() == Some("127.0.0.1");
        let known = logs.index.records().iter().map(msgtrk::model::derive::derive).filter(client).count();
        assert!(known > 20, "{log}: only {known} with their client");
    }
}

#[test]
fn haraka_that_forwards_at_once_speaks_of_all_recipients() {
    let logs = Logs::new();
    let done = logs.index.fill(&["sample-logs/haraka/forward.log.xz".into()], "haraka1");
    assert_eq!((done.counts.unparsed_lines(), done.orphans), (0, 0), "{:?}", done.counts.unparsed);
    for (id, n, action) in [("h1", 1, Action::Relayed), ("h3", 2, Action::Relayed), ("h2", 4, Action::Failed), ("h8", 2, Action::Failed)] {
        let said = logs.endings(&format!("{id}@sender.test"));
        assert_eq!((said.len(), said.iter().all(|e| e.1 == action)), (n, true), "{id}: {said:?}");
    }
}

/// Haraka in the middle of a way, joined by the id it tells its client and the one the next host tells it; the deferral and the
/// delivery of one second, in a log without parts of a second, are told apart.
#[test]
fn haraka_between_two_postfixes() {
    let uuid = "8C0B9C5E-6F0E-4E0B-9A4A-0D6C3F1B2A11";
    let lines = [
        "mx1 postfix/cleanup[1]: 4AAAAAAAAAz1AA: message-id=<m@b.example>".to_string(),
        format!("mx1 postfix/smtp[1]: 4AAAAAAAAAz1AA: to=<c@d.example>, relay=mx2.example[192.0.2.2]:25, delay=1, dsn=2.0.0, status=sent (250 Message Queued ({uuid}.1))"),
        format!("mx1 postfix/smtp[1]: 4AAAAAAAAAz1AA: to=<e@d.example>, relay=mx2.example[192.0.2.2]:25, delay=1, dsn=2.0.0, status=sent (250 Message Queued ({uuid}.1))"),
        format!("mx2.example haraka[7]: [NOTICE] [{uuid}] [core] connect ip=192.0.2.1 port=1 local_ip=192.0.2.2 local_port=25"),
        format!("mx2.example haraka[7]: [NOTICE] [{uuid}.1] [core] sender <a@b.example> code=CONT msg=\"\""),
        format!("mx2.example haraka[7]: [NOTICE] [{uuid}.1] [core] recipient <c@d.example> code=OK msg=\"\" sender=a@b.example"),
        format!("mx2.example haraka[7]: [NOTICE] [{uuid}.1] [core] recipient <e@d.example> code=OK msg=\"\" sender=a@b.example"),
        format!("mx2.example haraka[7]: [NOTICE] [{uuid}.1] [core] message mid=<m@b.example> size=93 rcpts=2/0/0 delay=0 code=CONT msg=\"\""),
        format!("mx2.example haraka[7]: [NOTICE] [{uuid}.1.1] [outbound] recipient <e@d.example> deferred: 450 4.2.1 busy"),
        format!("mx2.example haraka[7]: [NOTICE] [{uuid}.1.1] [outbound]  delivered file=1_1_0_1_a_1_h domain=d.example host=store.example ip=192.0.2.3 port=25 mode=SMTP tls=N auth=N response=\"Ok: queued as 4CCCCCCCCCz1CC\" delay=0.1 fails=0 rcpts=1/1/0"),
        "store.example postfix/smtpd[1]: 4CCCCCCCCCz1CC: client=mx2.example[192.0.2.2]".to_string(),
        "store.example postfix/cleanup[1]: 4CCCCCCCCCz1CC: message-id=<m@b.example>".to_string(),
        "store.example postfix/local[1]: 4CCCCCCCCCz1CC: to=<c@d.example>, relay=local, delay=1, dsn=2.0.0, status=sent (delivered to maildir)".to_string(),
    ];
    let logs = Logs::new();
    logs.append("mail.log", &lines.iter().map(|l| format!("Mar  2 08:00:01 {l}\n")).collect::<String>());
    let done = logs.fill("mail.log", "h");
    assert_eq!((done.counts.unparsed_lines(), done.orphans), (0, 0), "{:?}", done.counts.unparsed);
    let journeys = logs.index.trace("m@b.example");
    assert_eq!((journeys.len(), hosts(&journeys)), (1, vec!["mx1", "mx2.example", "store.example"]));
    let mut said = logs.endings("m@b.example");
    said.sort();
    assert_eq!(
        said,
        [("c@d.example".into(), Action::Delivered, "store.example".into()), ("e@d.example".into(), Action::Delayed, "mx2.example".into())]
    );
}

fn lines_of(tag: &str, lines: &[&str]) -> String {
    lines.iter().enumerate().map(|(n, l)| format!("Mar  2 08:00:{n:02} {tag} {l}\n")).collect()
}

#[test]
fn ironport_splits_and_rewrites_go_on_under_a_new_mid() {
    let lines = lines_of(
        "esa1 mail_logs:",
        &[
            "Info: New SMTP ICID 5 interface Data 1 (192.0.2.4) address 192.0.2.7 reverse dns host mail.sender.test verified yes",
            "Info: Start MID 8 ICID 5",
            "Info: MID 8 ICID 5 From: <alice@sender.test>",
            "Info: MID 8 ICID 5 RID 0 To: <bob@example.test>",
            "Info: MID 8 ICID 5 RID 1 To: <carol@example.test>",
            "Info: MID 8 ICID 5 RID 2 To: <dave@example.test>",
            "Info: MID 8 Message-ID '<m8@sender.test>'",
            "Info: MID 8 ready 100 bytes from <alice@sender.test>",
            "Info: Start MID 9 ICID 0",
            "Info: MID 9 ICID 0 From: <alice@sender.test>",
            "Info: MID 9 ICID 0 RID 0 To: <carol@example.test>",
            "Info: MID 8 was split creating MID 9 due to a per-recipient policy (p1)",
            "Info: Start MID 10 ICID 0",
            "Info: MID 10 ICID 0 From: <alice@sender.test>",
            "Info: MID 10 ICID 0 RID 0 To: <carol@example.test>",
            "Info: MID 9 rewritten to MID 10 by add-footer filter 'f'",
            "Info: Message finished MID 9 done",
            "Info: New SMTP DCID 30 interface 192.0.2.4 address 192.0.2.9 port 25",
            "Info: Delivery start DCID 30 MID 8 to RID [0]",
            "Info: New SMTP DCID 31 interface 192.0.2.4 address 192.0.2.11 port 25",
            "Info: Delivery start DCID 31 MID 8 to RID [2]",
            "Info: Message done DCID 30 MID 8 to RID [0] [('X-SBRS', 'None')]",
            "Info: MID 8 RID [0] Response 2.0.0 Ok: queued as 4CCCCCCCCCz1CC",
            "Info: Delayed: DCID 31 MID 8 to RID 2 - 4.1.0 - Unknown address error ('450', ['busy']) []",
            "Info: Delivery start DCID 31 MID 10 to RID [0]",
            "Info: Bounced: DCID 31 MID 10 to RID 0 - 5.1.0 - Unknown address error ('550', ['no such user']) []",
            "Info: MID 11 was generated for bounce of MID 10",
            "Info: Message finished MID 10 done",
        ],
    );
    let logs = Logs::new();
    logs.append("mail.log", &lines);
    let done = logs.fill("mail.log", "h");
    assert_eq!((done.counts.unparsed_lines(), done.orphans), (0, 0), "{:?}", done.counts.unparsed);
    let mut said: Vec<_> = logs.endings("m8@sender.test").into_iter().map(|(to, action, _)| (to, action)).collect();
    said.sort();
    let want = [("bob", Action::Relayed), ("carol", Action::Failed), ("dave", Action::Delayed)];
    assert_eq!(said, want.map(|(to, action)| (format!("{to}@example.test"), action)));
    // Each delivery has the address of its own connection.
    let journeys = logs.index.trace("8");
    let first = journeys.iter().flat_map(|j| &j.records).find(|r| r.queue_id.as_deref() == Some("8")).unwrap();
    let at = |to: &str| first.recipients.iter().find(|p| p.final_recipient.starts_with(to)).and_then(|p| p.remote_ip.as_deref());
    assert_eq!((at("bob"), at("dave")), (Some("192.0.2.9"), Some("192.0.2.11")));
    assert_eq!(first.client.ip.as_deref(), Some("192.0.2.7"));
    // `finished` ends what no other line spoke of, and only then.
    logs.append("mail.log", "Mar  2 08:05:00 esa1 mail_logs: Info: Message finished MID 8 done\n");
    logs.fill("mail.log", "h");
    let said = logs.endings("m8@sender.test");
    assert!(said.iter().any(|e| e.0 == "dave@example.test" && e.1 == Action::Relayed), "{said:?}");
    assert!(said.iter().any(|e| e.0 == "carol@example.test" && e.1 == Action::Failed), "{said:?}");
}

/// Dovecot as an LMTP proxy before the store: what it was told is Dovecot's word to the MTA, refusals too.
#[test]
fn a_dovecot_proxy_between_postfix_and_the_store() {
    let lines = [
        "mx postfix/cleanup[1]: 4AAAAAAAAAz1AA: message-id=<m@b.example>",
        "mx dovecot: lmtp(230): lmtp-server: conn 127.0.0.1:5 [1]: rcpt bob@d.example: <gNmGBJ1rB2uzFwAAg+zDdQ>: Sent message to <bob@d.example> at 192.0.2.3:24: 250 2.0.0 <bob@d.example> BACKEND5BGsxAQAA1odl2w Saved (1/2 at 5 ms)",
        "mx dovecot: lmtp(230): lmtp-server: conn 127.0.0.1:5 [1]: rcpt eve@d.example: <gNmGBJ1rB2uzFwAAg+zDdQ:R2>: Failed to send message to <eve@d.example> at 192.0.2.3:24: 552 5.2.2 full (2/2 at 5 ms)",
        "mx postfix/lmtp[1]: 4AAAAAAAAAz1AA: to=<bob@d.example>, relay=mx[private/dovecot-lmtp], delay=1, dsn=2.0.0, status=sent (250 2.0.0 <bob@d.example> gNmGBJ1rB2uzFwAAg+zDdQ Saved)",
        "mx postfix/lmtp[1]: 4AAAAAAAAAz1AA: to=<eve@d.example>, relay=mx[private/dovecot-lmtp], delay=1, dsn=5.2.2, status=bounced (host mx[private/dovecot-lmtp] said: 552 5.2.2 <eve@d.example> full (in reply to end of DATA command))",
    ];
    let logs = Logs::new();
    logs.append("mail.log", &lines.iter().map(|l| format!("Mar  2 08:00:01 {l}\n")).collect::<String>());
    let done = logs.fill("mail.log", "h");
    assert_eq!(done.counts.unparsed_lines(), 0, "{:?}", done.counts.unparsed);
    let mut said: Vec<_> = logs.endings("m@b.example").into_iter().map(|(to, action, _)| (to, action)).collect();
    said.sort();
    assert_eq!(said, [("bob@d.example".to_string(), Action::Delivered), ("eve@d.example".to_string(), Action::Failed)]);
}
