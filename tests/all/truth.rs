//! Real logs of real mail systems, and a generated site, against what really happened to each message.

use crate::support::Index;
use msgtrk::model::event::Action;
use msgtrk::model::journey::{Ending, Journey, same_address};
use msgtrk::model::query::{Pattern, Query};
use msgtrk::model::record::Role;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// One recipient of one message that a client sent, and what became of it.
#[derive(Deserialize)]
struct Sent {
    message_id: Option<String>,
    to: String,
    outcome: String,
    scenario: String,
    accepted: bool,
    reply: Option<String>,
    mta: String,
    #[serde(default)]
    path: Vec<String>,
}

fn truth(folder: &str) -> Vec<Sent> {
    let text = std::fs::read_to_string(format!("sample-logs/{folder}/truth.jsonl")).unwrap();
    let all: Vec<Sent> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(all.len() > 100);
    all
}

/// The queue id in a server's reply.
fn queue_id(reply: &str) -> Option<&str> {
    let before_accepted = || reply.strip_suffix(" Message accepted for delivery")?.rsplit_once(' ');
    let behind = ["queued as ", "id=", "Ok. "].iter().find_map(|p| reply.split_once(p)).or_else(before_accepted);
    behind.map(|(_, id)| id.split([' ', '/']).next().unwrap())
}

/// The one way in which it ended for a recipient of a journey's message; several different ones are all named.
fn ending(journeys: &[Journey], to: &str) -> String {
    let mine: Vec<&Ending> = journeys.iter().flat_map(|j| &j.endings).filter(|e| same_address(&e.original_recipient, to)).collect();
    let expanded: Vec<&Ending> = mine.iter().copied().filter(|e| e.last.action == Action::Expanded).collect();
    let counted = if expanded.is_empty() { mine } else { expanded };
    let mut words: Vec<String> = counted.iter().map(|e| word(e)).collect();
    words.sort();
    words.dedup();
    if words.is_empty() { "nothing".into() } else { words.join("+") }
}

fn word(e: &Ending) -> String {
    match (e.last.action, e.last.disposition.as_deref()) {
        (Action::Opaque, Some(d)) => d.to_string(),
        (a, _) => a.as_str().to_string(),
    }
}

/// What differs: (scenario, what the truth says, what the logs say) and how often.
type Differences = BTreeMap<(String, String, String), usize>;

/// Holds every accepted recipient against the journey, found by the queue id in the reply and by Message-ID.
fn differences(index: &Index, sent: &[Sent]) -> Differences {
    differences_by(index, sent, true)
}

/// As [`differences`]; `by_mail`: also by Message-ID where there is a queue id.
fn differences_by(index: &Index, sent: &[Sent], by_mail: bool) -> Differences {
    let store = index.store();
    let trace = |id: &str| msgtrk::model::journey::trace(&mut store.walk(), id).unwrap();
    let check = |s: &Sent| {
        let id = s.reply.as_deref().and_then(queue_id);
        let mut said = Vec::new();
        if let Some(id) = id {
            let mut journeys = trace(id);
            // Two hosts may have given the same id (Courier's are time and process): the one that was spoken to.
            if journeys.len() > 1 {
                journeys.retain(|j| j.records.iter().any(|r| r.reporting_mta == s.mta));
            }
            said.push(ending(&journeys, &s.to));
        }
        // OpenSMTPD and Courier log no Message-ID: only the hosts behind them do.
        if let Some(m) = s.message_id.as_ref().filter(|_| id.is_none() || by_mail) {
            let mut journeys = trace(m);
            // A Message-ID that was used twice: the journey of this transaction.
            if journeys.len() > 1 && id.is_some() {
                journeys.retain(|j| j.records.iter().any(|r| r.queue_id.as_deref() == id));
            }
            said.push(ending(&journeys, &s.to));
        }
        said.dedup();
        (s.scenario.clone(), s.outcome.clone(), said.join(" / "))
    };
    let all: Vec<_> = sent.par_iter().filter(|s| s.accepted).map(check).collect();
    let mut out = Differences::new();
    for d in all.into_iter().filter(|(_, want, said)| want != said) {
        *out.entry(d).or_default() += 1;
    }
    out
}

fn expected(rows: &[(&str, &str, &str, usize)]) -> Differences {
    rows.iter().map(|(s, w, g, n)| ((s.to_string(), w.to_string(), g.to_string()), *n)).collect()
}

fn sample(name: &str) -> PathBuf {
    PathBuf::from("sample-logs").join(name)
}

/// In `plus` the message goes to bob+tag and to BOB; the store refuses bob+tag (its log and the bounce say 550 5.1.1),
/// and the truth, which looked into bob's mailbox, took the other copy for it.
const PLUS: (&str, &str, &str, usize) = ("plus", "delivered", "failed", 3);
/// Refused at RCPT in a session whose other recipients were accepted: the line names neither queue id nor Message-ID.
const REFUSED: (&str, &str, &str, usize) = ("reject-rcpt", "failed", "nothing", 3);

fn postfix_differences() -> Differences {
    expected(&[
        // No line names the second recipient of a message that a check or milter discarded or held, or one it removed.
        ("content:discard", "discarded", "nothing", 3),
        ("milter:discard", "discarded", "nothing", 3),
        ("milter:quarantine", "delayed", "nothing", 3),
        ("milter:delrcpt", "discarded", "nothing", 3),
        PLUS,
        REFUSED,
    ])
}

fn exim_differences() -> Differences {
    expected(&[
        // exim1 logs no recipients at arrival, and nothing but the discard after it.
        ("content:discard", "discarded", "nothing", 4),
        // Sent to team and to bob, who is of the team: Exim delivers to him once, as a member.
        ("bulk", "delivered", "nothing", 1),
        PLUS,
        REFUSED,
    ])
}

fn dovecot_differences() -> Differences {
    expected(&[
        ("plus", "failed", "nothing", 3),
        // Straight into Dovecot's LMTP: a refused RCPT is not logged, nor the +tag that was addressed; what Sieve
        // discarded is called delivered by the truth, since the client was told "Saved".
        ("lmtp-direct", "failed", "nothing", 5),
        ("lmtp-direct", "delivered", "nothing", 5),
        ("lmtp-direct", "delivered", "discarded", 5),
    ])
}

fn sendmail_differences() -> Differences {
    expected(&[
        // sm1 logs at LogLevel 9, the default: who an address stood for is not told, and only the members appear.
        ("alias:fwd", "relayed", "nothing", 2),
        ("alias:list", "expanded", "nothing", 2),
        ("alias:mix", "expanded", "nothing", 2),
        ("alias:team", "expanded", "nothing", 2),
        ("alias:u3", "delivered", "nothing", 2),
        ("bulk", "expanded", "nothing", 25),
        // Sent to the alias and to a member: the member is delivered to once, as `u1` without a domain.
        ("bulk", "delivered", "nothing", 1),
        ("virtual", "expanded", "nothing", 2),
        // Nor whom a discarded message was for.
        ("content:discard", "discarded", "nothing", 4),
        ("milter:discard", "discarded", "nothing", 4),
        PLUS,
        // Sendmail's line does name the queue id, but what is refused before the end of the data is a record of its own.
        REFUSED,
    ])
}

#[test]
fn sendmail() {
    let index = Index::new();
    let done = index.fill(&[sample("sendmail")], "h");
    assert_eq!((done.files, done.counts.unparsed_lines(), done.orphans), (3, 0, 0), "{:?}", done.counts.unparsed);
    let sent = truth("sendmail");
    assert_eq!(differences(&index, &sent), sendmail_differences());
    refused_found(&index, &sent, &["reject-unknown", "alias:nosuch", "defer-rcpt"]);
}

fn opensmtpd_differences() -> Differences {
    expected(&[
        // The rule only marked it: the truth's own evidence is the mail in the mailbox.
        ("content:discard", "discarded", "delivered", 6),
        PLUS,
        REFUSED,
    ])
}

#[test]
fn opensmtpd() {
    let index = Index::new();
    let done = index.fill(&[sample("opensmtpd")], "h");
    assert_eq!((done.files, done.counts.unparsed_lines(), done.orphans), (3, 0, 0), "{:?}", done.counts.unparsed);
    let sent = truth("opensmtpd");
    assert_eq!(differences_by(&index, &sent, false), opensmtpd_differences());
    refused_found(&index, &sent, &["reject-relay", "reject-unknown", "alias:nosuch", "defer-rcpt"]);
    // The client stands at the session's beginning only, which may lie in an older file.
    let from_client = |r: &msgtrk::model::record::Record| r.client.ip.as_deref() == Some("198.51.100.1");
    let known = index.records().iter().map(msgtrk::model::derive::derive).filter(|r| r.mta == "opensmtpd" && from_client(r)).count();
    assert!(known > 300, "only {known} messages of the client");
}

fn courier_differences() -> Differences {
    expected(&[
        // Aliases are replaced when the message comes in: no line names them.
        ("alias:fwd", "relayed", "nothing", 3),
        ("alias:list", "expanded", "nothing", 3),
        ("alias:mix", "expanded", "nothing", 3),
        ("alias:team", "expanded", "nothing", 3),
        ("bulk", "expanded", "nothing", 34),
        ("virtual", "expanded", "nothing", 3),
        PLUS,
        REFUSED,
    ])
}

#[test]
fn courier() {
    let index = Index::new();
    let done = index.fill(&[sample("courier")], "h");
    assert_eq!((done.files, done.counts.unparsed_lines(), done.orphans), (3, 0, 0), "{:?}", done.counts.unparsed);
    let sent = truth("courier");
    assert_eq!(differences_by(&index, &sent, false), courier_differences());
    refused_found(&index, &sent, &["reject-relay", "reject-unknown", "alias:nosuch", "defer-rcpt"]);
}

fn mixed_differences() -> Differences {
    expected(&[
        // An alias or .forward with one member is an ordinary forward (RFC 3885, 3.3): how it ended there.
        ("alias:fwd", "expanded", "relayed", 1),
        ("alias:u3", "expanded", "delivered", 1),
        ("out", "expanded", "relayed", 1),
        // The client and the notification were told "Saved"; Dovecot's own line says that Sieve discarded it.
        ("sieve:disc", "delivered", "discarded", 1),
        ("plus", "delivered", "failed", 1),
    ])
}

/// Postfix, Exim (an hour ahead, no zone in any stamp), Sendmail, OpenSMTPD, Courier, Postfix with Dovecot: one file of a log host.
#[test]
fn a_chain_of_all_mtas() {
    let index = Index::new();
    let done = index.fill(&[sample("mixed")], "h");
    assert_eq!((done.counts.unparsed_lines(), done.orphans), (0, 0), "{:?}", done.counts.unparsed);
    let sent = truth("mixed");
    assert_eq!(differences(&index, &sent), mixed_differences());
    let store = index.store();
    let (mut hops, mut wrong) = (0, Vec::new());
    // bob has one mailbox for several addresses: for these two the truth took another copy of the message for it.
    let bulk = Some("<mx1.0088.p6l1mm@client.example.test>");
    let other_copy = |s: &&Sent| s.to == "bob+tag@example.test" || (s.message_id.as_deref() == bulk && s.to == "bob@lmtp.test");
    assert_eq!(sent.iter().filter(other_copy).count(), 2);
    for s in sent.iter().filter(|s| s.accepted && !s.path.is_empty() && !other_copy(s)) {
        let Some(m) = &s.message_id else { continue };
        let journeys = msgtrk::model::journey::trace(&mut store.walk(), m).unwrap();
        let mut want: Vec<&str> = s.path.iter().map(|h| h.split('.').next().unwrap()).filter(|h| *h != "localhost").collect();
        want.dedup();
        let way = |e: &Ending| e.path.iter().map(|k| k.split('/').next().unwrap().to_string()).collect::<Vec<_>>();
        let mut ways: Vec<Vec<String>> =
            journeys.iter().flat_map(|j| &j.endings).filter(|e| same_address(&e.original_recipient, &s.to)).map(way).collect();
        ways.iter_mut().for_each(|w| w.dedup());
        if journeys.len() != 1 || !ways.iter().any(|w| *w == want) {
            wrong.push(format!("{} {} ({}): {} journeys, {want:?} but {ways:?}", m, s.to, s.scenario, journeys.len()));
        }
        hops += want.len();
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(hops > 300, "only {hops} hops in the truth");
}

fn fill_dovecot(index: &Index) {
    index.fill(&[sample("dovecot/central.rfc5424.log.bz2"), sample("dovecot/store2.postfix.log")], "store");
    index.fill(&[sample("own/store/dovecot.log")], "store");
}

#[test]
fn postfix_rotated_and_compressed() {
    let index = Index::new();
    let done = index.fill(&[sample("postfix")], "h");
    assert_eq!((done.files, done.no_logs, done.counts.unparsed_lines()), (5, 1, 0), "{:?}", done.problems);
    assert_eq!(differences(&index, &truth("postfix")), postfix_differences());
}

#[test]
fn exim_by_syslog_and_with_its_own_files_beside() {
    let index = Index::new();
    let done = index.fill(&[sample("exim/mail.log"), sample("exim/mail.log-20261123.zst")], "h");
    assert_eq!(done.counts.unparsed_lines(), 0, "{:?}", done.counts.unparsed);
    assert_eq!(differences(&index, &truth("exim")), exim_differences());
    let counts = |i: &Index| {
        let all = i.records();
        (all.len(), all.iter().map(|r| r.events().count()).sum::<usize>())
    };
    let before = counts(&index);
    for host in ["exim1", "exim2"] {
        let own = index.fill(&[sample(&format!("own/{host}"))], host);
        assert_eq!(own.counts.unparsed_lines(), 0, "{:?}", own.counts.unparsed);
        assert!(own.counts.events > 500 && own.files == 2);
    }
    assert_eq!(counts(&index), before, "the programs' own files say nothing that their syslog copy does not");
    assert_eq!(differences(&index, &truth("exim")), exim_differences());
}

#[test]
fn dovecot_behind_postfix_and_alone() {
    let index = Index::new();
    fill_dovecot(&index);
    assert_eq!(differences(&index, &truth("dovecot")), dovecot_differences());
}

/// Refused recipients are found as rejects.
fn refused_found(index: &Index, sent: &[Sent], scenarios: &[&str]) {
    let store = index.store();
    let mut seen = 0;
    for s in sent.iter().filter(|s| !s.accepted && scenarios.contains(&s.scenario.as_str())) {
        let query = Query { role: Some(Role::Reject), to: Some(Pattern::new(&s.to)), action: Some(Action::Failed), ..Query::default() };
        assert!(!store.find(&query).unwrap().records.is_empty(), "{} {}", s.scenario, s.to);
        seen += 1;
    }
    assert!(seen > 5, "only {seen} refused recipients in the truth");
}

#[test]
fn refused_recipients_are_found_as_rejects() {
    let index = Index::new();
    index.fill(&[sample("postfix"), sample("exim")], "h");
    let kinds = ["reject-client", "reject-rcpt", "reject-relay", "reject-sender", "reject-unknown", "defer-rcpt", "greyin", "alias:nosuch"];
    refused_found(&index, &truth("postfix"), &kinds);
    refused_found(&index, &truth("exim"), &["reject-rcpt", "reject-relay", "defer-rcpt", "greyin", "reject-client"]);
}

#[test]
fn every_sample_log_has_a_reader() {
    let mut logs = Vec::new();
    let mut todo = vec![PathBuf::from("sample-logs")];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Reports have their own tests, `reports.rs`.
                todo.extend((!path.ends_with("dsn")).then_some(path));
            } else if !path.extension().is_some_and(|e| e == "md" || e == "jsonl") {
                logs.push(path);
            }
        }
    }
    let read = ["postfix", "exim", "own", "dovecot", "sendmail", "opensmtpd", "courier", "mixed", "filters", "haraka"]
        .map(|f| format!("sample-logs/{f}"));
    assert_eq!(logs.len(), 29, "a log was added or lost: read it in a test of this file, then count it here");
    for log in logs {
        assert!(read.iter().any(|r| log.starts_with(r)), "no test reads {}", log.display());
    }
}

/// One message of the generated site.
#[derive(Deserialize)]
struct SiteMessage {
    message_id: String,
    hosts: Vec<SiteHost>,
    recipients: Vec<SiteRecipient>,
}

#[derive(Deserialize)]
struct SiteHost {
    host: String,
    queue_id: String,
}

#[derive(Deserialize)]
struct SiteRecipient {
    address: String,
    action: String,
    status: String,
}

/// For every message: the same hosts and queue ids in order, and for every recipient the same action and status.
fn check_site(index: &Index, truth: &str) {
    let messages: Vec<SiteMessage> = truth.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(messages.len() > 100);
    let store = index.store();
    let wrong: Vec<String> = messages
        .par_iter()
        .filter_map(|m| {
            let journeys = msgtrk::model::journey::trace(&mut store.walk(), &m.message_id).unwrap();
            let [j] = journeys.as_slice() else { return Some(format!("{}: {} journeys", m.message_id, journeys.len())) };
            let want: Vec<(&str, &str)> = m.hosts.iter().map(|h| (h.host.as_str(), h.queue_id.as_str())).collect();
            let got: Vec<(&str, &str)> =
                j.records.iter().map(|r| (r.reporting_mta.as_str(), r.queue_id.as_deref().unwrap_or(""))).collect();
            if want != got {
                return Some(format!("{}: {want:?} but {got:?}", m.message_id));
            }
            let mut want: Vec<_> = m.recipients.iter().map(|r| (r.address.as_str(), r.action.as_str(), r.status.as_str())).collect();
            let mut got: Vec<_> =
                j.endings.iter().map(|e| (e.original_recipient.as_str(), e.last.action.as_str(), e.last.status.as_str())).collect();
            want.sort();
            got.sort();
            (want != got).then(|| format!("{}: {want:?} but {got:?}", m.message_id))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} messages differ:\n{}", wrong.len(), messages.len(), wrong[..wrong.len().min(5)].join("\n"));
}

fn unpacked(path: &str) -> String {
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_generated_site() {
    for name in ["site", "site.short"] {
        let index = Index::new();
        index.fill(&[format!("tests/fixtures/{name}.log.zst").into()], "h");
        check_site(&index, &unpacked(&format!("tests/fixtures/{name}.truth.jsonl.zst")));
    }
}

/// Cut into 7 pieces between two seconds, compressed in 5 ways, named without relation, given in any order, in several runs.
#[test]
fn the_generated_site_in_pieces() {
    for name in ["site", "site.short"] {
        let index = Index::new();
        let pieces = cut(&unpacked(&format!("tests/fixtures/{name}.log.zst")), 7, index.dir.path());
        let order = [3usize, 0, 6, 2, 5, 1, 4];
        index.fill(&order[..4].iter().map(|i| pieces[*i].clone()).collect::<Vec<_>>(), "h");
        index.fill(&order[4..].iter().map(|i| pieces[*i].clone()).collect::<Vec<_>>(), "h");
        check_site(&index, &unpacked(&format!("tests/fixtures/{name}.truth.jsonl.zst")));
    }
}

fn cut(log: &str, pieces: usize, dir: &Path) -> Vec<PathBuf> {
    let lines: Vec<&str> = log.lines().collect();
    let mut at: Vec<usize> = (0..=pieces).map(|i| i * lines.len() / pieces).collect();
    for a in &mut at {
        while *a > 0 && *a < lines.len() && lines[*a][..15] == lines[*a - 1][..15] {
            *a += 1;
        }
    }
    at.windows(2)
        .enumerate()
        .map(|(i, w)| packed(dir, i, lines[w[0]..w[1]].iter().flat_map(|l| [l.as_bytes(), b"\n"]).collect::<Vec<_>>().concat()))
        .collect()
}

fn packed(dir: &Path, n: usize, bytes: Vec<u8>) -> PathBuf {
    let path = dir.join(format!("{}.part", ["tiger", "apple", "quill", "delta", "night", "extra", "zebra"][n]));
    let packed = |mut r: Box<dyn Read + '_>| {
        let mut out = Vec::new();
        r.read_to_end(&mut out).unwrap();
        out
    };
    let out = match n % 5 {
        0 => bytes.clone(),
        1 => packed(Box::new(flate2::read::GzEncoder::new(&bytes[..], flate2::Compression::fast()))),
        2 => packed(Box::new(bzip2::read::BzEncoder::new(&bytes[..], bzip2::Compression::fast()))),
        3 => packed(Box::new(liblzma::read::XzEncoder::new(&bytes[..], 1))),
        _ => zstd::encode_all(&bytes[..], 1).unwrap(),
    };
    std::fs::write(&path, out).unwrap();
    path
}

/// A larger site, where the generator is at hand: `MSGTRK_SITE_LOG` and `MSGTRK_SITE_TRUTH` name its log and truth.
#[test]
fn a_site_of_any_size() {
    let (Ok(log), Ok(truth)) = (std::env::var("MSGTRK_SITE_LOG"), std::env::var("MSGTRK_SITE_TRUTH")) else {
        eprintln!("skipped: MSGTRK_SITE_LOG and MSGTRK_SITE_TRUTH are not set");
        return;
    };
    let index = Index::new();
    let paths: Vec<PathBuf> = log.split(':').map(PathBuf::from).collect();
    index.fill(&paths, "h");
    check_site(&index, &std::fs::read_to_string(truth).unwrap());
}

fn told(lines: &[&str], id: &str) -> Vec<(String, String)> {
    let index = Index::new();
    let path = index.dir.path().join("mail.log");
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    index.fill(&[path], "h");
    index.trace(id).iter().flat_map(|j| &j.endings).map(|e| (e.original_recipient.clone(), word(e))).collect()
}

#[test]
fn a_recipient_not_yet_tried_at_the_next_host_is_delayed_there() {
    let got = told(
        &[
            "Mar  2 08:00:00 mx1 postfix/cleanup[1]: 4AAAAAAAAAz1AA: message-id=<m@x.example>",
            "Mar  2 08:00:00 mx1 postfix/smtp[1]: 4AAAAAAAAAz1AA: to=<a@o.example>, relay=store.o.example[192.0.2.9]:25, delay=1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4BBBBBBBBBz1BB)",
            "Mar  2 08:00:00 mx1 postfix/smtp[1]: 4AAAAAAAAAz1AA: to=<b@o.example>, relay=store.o.example[192.0.2.9]:25, delay=1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4BBBBBBBBBz1BB)",
            "Mar  2 08:00:00 store postfix/cleanup[1]: 4BBBBBBBBBz1BB: message-id=<m@x.example>",
            "Mar  2 08:00:00 store postfix/qmgr[1]: 4BBBBBBBBBz1BB: from=<s@x.example>, size=1, nrcpt=2 (queue active)",
            "Mar  2 08:00:00 store postfix/local[1]: 4BBBBBBBBBz1BB: to=<a@o.example>, relay=local, delay=1, dsn=2.0.0, status=sent (delivered to maildir)",
        ],
        "m@x.example",
    );
    assert!(
        got.contains(&("a@o.example".into(), "delivered".into())) && got.contains(&("b@o.example".into(), "delayed".into())),
        "{got:?}"
    );
}

#[test]
fn a_filter_spoken_to_by_lmtp_is_followed() {
    let got = told(
        &[
            "Mar  2 08:00:00 mx1 postfix/cleanup[1]: 4AAAAAAAAAz1AA: message-id=<m@x.example>",
            "Mar  2 08:00:00 mx1 postfix/lmtp[1]: 4AAAAAAAAAz1AA: to=<a@o.example>, relay=127.0.0.1[127.0.0.1]:10024, delay=1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4BBBBBBBBBz1BB)",
            "Mar  2 08:00:00 mx1 postfix/cleanup[1]: 4BBBBBBBBBz1BB: message-id=<m@x.example>",
            "Mar  2 08:00:01 mx1 postfix/smtp[1]: 4BBBBBBBBBz1BB: to=<a@o.example>, relay=mx.o.example[192.0.2.9]:25, delay=1, dsn=5.1.1, status=bounced (no such user)",
        ],
        "m@x.example",
    );
    assert_eq!(got, [("a@o.example".to_string(), "failed".to_string())]);
}
