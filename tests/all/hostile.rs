//! Log text that strangers write (BAR, L1 to L6): whatever a HELO, an address, a Message-ID, a subject, a login name or a
//! remote's reply says, it adds no field to a record, reaches no other queue id's record, and fakes no outcome.
//!
//! Most tests compare: the same lines, once with a harmless word and once with a hostile one in its place, must make the
//! same records, the word itself apart. `Same` demands just that; `NoMore` allows a line that is not understood
//! (counted as unparsed), so that facts may be missing, but never that a fact is added or another.

use crate::support::{Index, msgtrk};
use msgtrk::model::event::Action;
use msgtrk::model::record::{Record, Role, StoredRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// How the hostile records have to compare with the harmless ones.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Same,
    NoMore,
}
use Wanted::{NoMore, Same};

/// Lines of one host, in which `{P}` is what the attacker wrote.
struct Scene {
    name: &'static str,
    lines: &'static str,
    wanted: Wanted,
}

/// The victim's messages on each host: Postfix's is deferred, Exim's is frozen, both still queued.
const VICTIMS: &str = "\
postfix/qmgr[1]: 0BADCAFE123: from=<boss@v.example>, size=1, nrcpt=1 (queue active)
postfix/cleanup[2]: 0BADCAFE123: message-id=<victim@v.example>
postfix/smtp[3]: 0BADCAFE123: to=<victim@v.example>, relay=none, delay=1, delays=0/0/0/1, dsn=4.4.1, status=deferred (connect to mx.v.example[203.0.113.1]:25: Connection timed out)
exim[4]: 1zzzzz-000001-ZZ <= boss@v.example H=v.example [203.0.113.1] P=esmtp S=300 id=victim2@v.example
exim[4]: 1zzzzz-000001-ZZ == victim@v.example R=dnslookup T=remote_smtp defer (110): Connection timed out
";

/// What attackers write. No payload holds `@`, `<` at its start or a quote unless it says so: those are made by `quoted`.
const PAYLOADS: &[&str] = &[
    "x, status=sent (250 2.0.0 Ok: queued as 0BADCAFE123)",
    "x>, relay=mx.v.example[203.0.113.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 0BADCAFE123)",
    "x> to=<victim@v.example> proto=ESMTP helo=<y>",
    "0BADCAFE123: removed",
    "x#012Mar  2 08:00:09 {H} postfix/qmgr[1]: 0BADCAFE123: removed",
    "x\\nMar  2 08:00:09 {H} postfix/smtp[3]: 0BADCAFE123: to=<victim@v.example>, relay=mx.v.example[203.0.113.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)",
    "x from evil.example[203.0.113.66]; from=<forged@v.example> to=<victim@v.example> proto=ESMTP helo=<y",
    "x from evil.example[203.0.113.66]: 250 2.0.0 ok; from=<forged@v.example> to=<victim@v.example> proto=ESMTP helo=<y>: z",
    "1zzzzz-000001-ZZ => victim@v.example R=dnslookup T=remote_smtp H=mx.v.example [203.0.113.9] C=\"250 OK id=1yyyyy-000001-YY\"",
    "1zzzzz-000001-ZZ Completed",
    "x R=dnslookup T=remote_smtp H=mx.v.example [203.0.113.9] C=\"250 OK id=1yyyyy-000001-YY",
    "x\" T=\"y\" from <forged@v.example> for victim@v.example",
    "x S=99999 id=forged@v.example T=\"forged\" for victim@v.example",
    "x: defer (110): y <victim@v.example> R=a T=b",
    "x, Message-ID: <forged@v.example>, mail_id: 0BADCAFE1234, Hits: -, size: 1, queued_as: 0BADCAFE123, 1 ms",
    "x>: saved mail to forged",
    "x>: sieve: msgid=<forged@v.example>: forwarded to <victim@v.example>",
    "x, orig_queue_id=0BADCAFE123, orig_client=v.example[203.0.113.1], sasl_method=PLAIN, sasl_username=boss",
    "message repeated 9 times: [ 0BADCAFE123: removed]",
    "[1/2] x",
    "\u{1b}[31mx\u{7}\r\u{8}",
    "\u{202e}x\u{2066}\u{85}\u{2028}\u{feff}",
    "\u{fffd}\u{0}\u{1}\u{7f}",
    "(x) [203.0.113.66]:25 I=[203.0.113.67]:25 (y)",
    "'x' \\\" \\\\\" \\",
    "$(x) %s %n {x} \\x41 &lt;",
];

/// A quoted string's inside: quotes and backslashes escaped, as MTAs log a local part that needs quotes.
fn quoted(s: &str) -> String {
    s.replace('\\', "\\\\").replace('"', "\\\"")
}

/// What Postfix logs for control bytes (`printable()`).
fn printable(s: &str) -> String {
    s.chars().map(|c| if (c as u32) < 0x80 && c.is_control() { '?' } else { c }).collect()
}

fn same_text(s: &str) -> String {
    s.to_owned()
}

/// All that is derived of a host's records, as facts: `key | field = value`. Text of log lines and diagnostics that may
/// hold the payload is left out or has it replaced.
fn facts(records: &[StoredRecord], host: &str, payload: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for r in records.iter().filter(|r| r.slot.host == host).map(StoredRecord::derive) {
        // A refusal's key ends in a hash of all that was refused, the payload too.
        let key = if r.role == Role::Reject { r.key.rsplit_once('/').unwrap().0.to_owned() } else { r.key.clone() };
        let mut put = |what: String| {
            let fact = format!("{key} | {what}").replace(payload, "*").replace("harmless", "*");
            all.insert(fact.replace(host, "H"));
        };
        put(format!("record {:?}", r.role));
        for (name, value) in scalars(&r) {
            put(format!("{name} = {value}"));
        }
        for p in &r.recipients {
            let who = format!("{} ({})", p.final_recipient, p.original_recipient);
            let o = |v: &Option<String>| v.clone().unwrap_or_default();
            put(format!("to {who} = {} {} x{}", p.action.as_str(), p.status, p.attempts));
            put(format!("to {who}: next {} [{}] {}", o(&p.remote_mta), o(&p.remote_ip), o(&p.relay)));
            put(format!("to {who}: id {}", o(&p.remote_queue_id)));
            put(format!("to {who}: {} {}", o(&p.disposition), o(&p.redirected_to)));
        }
    }
    all
}

fn scalars(r: &Record) -> Vec<(&'static str, String)> {
    let mut all = vec![("reporting_mta", r.reporting_mta.clone()), ("mta", r.mta.clone()), ("instance", r.instance.clone())];
    let options = [
        ("queue_id", &r.queue_id),
        ("message_id", &r.message_id),
        ("envelope_id", &r.envelope_id),
        ("envelope_from", &r.envelope_from),
        ("client name", &r.client.name),
        ("client ip", &r.client.ip),
        ("auth_user", &r.auth_user),
        ("subject", &r.subject),
        ("orig_queue_id", &r.orig_queue_id),
        ("notice_of", &r.notice_of),
        ("verdict", &r.verdict),
    ];
    all.extend(options.into_iter().filter_map(|(n, v)| Some((n, v.clone()?))));
    all.extend(r.size.map(|s| ("size", s.to_string())));
    all.extend(r.recipient_count.map(|s| ("recipient_count", s.to_string())));
    all.extend(r.notices.iter().map(|n| ("notice", format!("{n:?}"))));
    if r.closed {
        all.push(("closed", "yes".into()));
    }
    all
}

fn put_log(index: &Index, text: &[u8]) -> PathBuf {
    let path = index.dir.path().join("hostile.log");
    std::fs::write(&path, text).unwrap();
    path
}

/// Plays every scene with every payload, each on a host of its own, and compares with the harmless ones.
#[track_caller]
fn play(scenes: &[Scene], written: fn(&str) -> String, payloads: &[&str]) {
    let mut log = String::new();
    let mut cast: Vec<(String, &Scene, String)> = Vec::new();
    for (s, scene) in scenes.iter().enumerate() {
        for (n, payload) in std::iter::once(&"harmless").chain(payloads).enumerate() {
            let host = format!("h{s:02}x{n:02}");
            let payload = written(&payload.replace("{H}", &host));
            for line in VICTIMS.lines().chain(scene.lines.lines()) {
                log += &format!("Mar  2 08:00:00 {host} {}\n", line.replace("{P}", &payload));
            }
            cast.push((host, scene, payload));
        }
    }
    let index = Index::new();
    index.fill(&[put_log(&index, log.as_bytes())], "loghost");
    let records = index.records();
    let mut by_host: BTreeMap<&str, usize> = BTreeMap::new();
    records.iter().for_each(|r| *by_host.entry(&r.slot.host).or_default() += 1);
    let mut wrong = Vec::new();
    let mut harmless = BTreeSet::new();
    for (host, scene, payload) in &cast {
        let got = facts(&records, host, payload);
        if payload == "harmless" {
            assert!(got.len() > 20, "{}: the victims and the scene are there", scene.name);
            harmless = got;
            continue;
        }
        let more: Vec<_> = got.difference(&harmless).collect();
        let less: Vec<_> = harmless.difference(&got).collect();
        // Where a line can be read in two ways, what is in doubt is left out; but nothing is ever added.
        let in_doubt = ["; from=<", "@v.example>, relay="].iter().any(|twice| payload.contains(twice));
        if !more.is_empty() || (scene.wanted == Same && !less.is_empty() && !in_doubt) {
            wrong.push(format!("{}: `{}`\n  added {more:#?}\n  missing {less:#?}", scene.name, payload.escape_debug()));
        }
    }
    let hosts: BTreeSet<&str> = cast.iter().map(|c| c.0.as_str()).collect();
    let strange: Vec<_> = by_host.keys().filter(|h| !hosts.contains(*h)).collect();
    assert!(strange.is_empty(), "records of hosts that wrote nothing: {strange:?}");
    assert!(wrong.is_empty(), "{} of {} went wrong:\n{}", wrong.len(), cast.len(), wrong.join("\n"));
}

const POSTFIX: &[Scene] = &[
    Scene {
        name: "postfix: HELO of a refused client",
        lines: "postfix/smtpd[9]: NOQUEUE: reject: RCPT from c.example[192.0.2.1]: 554 5.7.1 <r@o.example>: Relay access denied; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<{P}>",
        wanted: Same,
    },
    Scene {
        name: "postfix: sender in quotes",
        lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/cleanup[9]: 0C0FFEE0001: message-id=<ok@c.example>
postfix/qmgr[9]: 0C0FFEE0001: from=<\"{P}\"@c.example>, size=500, nrcpt=1 (queue active)
postfix/smtp[9]: 0C0FFEE0001: to=<r@o.example>, relay=none, delay=1, delays=0/0/0/1, dsn=4.4.1, status=deferred (connect to o.example[192.0.2.2]:25: Connection refused)
postfix/qmgr[9]: 0C0FFEE0001: from=<\"{P}\"@c.example>, status=expired, returned to sender
postfix/bounce[9]: 0C0FFEE0001: sender non-delivery notification: 0C0FFEE0002
postfix/smtpd[9]: NOQUEUE: reject: RCPT from c.example[192.0.2.1]: 554 5.7.1 <r@o.example>: Relay access denied; from=<\"{P}\"@c.example> to=<r@o.example> proto=ESMTP helo=<c.example>",
        wanted: Same,
    },
    Scene {
        name: "postfix: recipient in quotes",
        lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=2 (queue active)
postfix/smtp[9]: 0C0FFEE0001: to=<\"{P}\"@o.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=4.2.0, status=deferred (host mx.o.example[192.0.2.2] said: 450 4.2.0 <\"{P}\"@o.example>: Greylisted (in reply to RCPT TO command))
postfix/smtp[9]: 0C0FFEE0001: to=<t@o.example>, orig_to=<\"{P}\"@c.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.o.example[192.0.2.2] said: 550 5.1.1 <t@o.example>: unknown (in reply to RCPT TO command))
postfix/smtpd[9]: NOQUEUE: reject: RCPT from c.example[192.0.2.1]: 550 5.1.1 <\"{P}\"@o.example>: Recipient address rejected: User unknown; from=<s@c.example> to=<\"{P}\"@o.example> proto=ESMTP helo=<c.example>",
        wanted: Same,
    },
    Scene {
        name: "postfix: Message-ID",
        lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/cleanup[9]: 0C0FFEE0001: message-id=<{P}>
postfix/cleanup[9]: 0C0FFEE0001: resent-message-id=<{P}>
postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)
postfix/local[9]: 0C0FFEE0001: to=<u@c.example>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to mailbox)
postfix/qmgr[9]: 0C0FFEE0001: removed",
        wanted: Same,
    },
    Scene {
        name: "postfix: subject of a header check",
        lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/cleanup[9]: 0C0FFEE0001: info: header Subject: {P} from c.example[192.0.2.1]; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<c.example>
postfix/cleanup[9]: 0C0FFEE0001: warning: header X-Odd: {P} from c.example[192.0.2.1]; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<c.example>
postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)",
        wanted: Same,
    },
    Scene {
        name: "postfix: header of a refused message",
        lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/cleanup[9]: 0C0FFEE0001: reject: header Subject: {P} from c.example[192.0.2.1]; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<c.example>: 5.7.1 no such mail here",
        wanted: Same,
    },
    Scene {
        name: "postfix: a remote that defers",
        lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)
postfix/smtp[9]: 0C0FFEE0001: host mx.o.example[192.0.2.2] said: 450 4.2.0 {P} (in reply to RCPT TO command)
postfix/smtp[9]: 0C0FFEE0001: to=<r@o.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=4.2.0, status=deferred (host mx.o.example[192.0.2.2] said: 450 4.2.0 {P} (in reply to RCPT TO command))",
        wanted: Same,
    },
    Scene {
        name: "postfix: a remote that refuses",
        lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)
postfix/smtp[9]: 0C0FFEE0001: to=<r@o.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=5.0.0, status=bounced (host mx.o.example[192.0.2.2] said: 550 {P} (in reply to end of DATA command))
postfix/qmgr[9]: 0C0FFEE0001: removed",
        wanted: Same,
    },
    Scene {
        name: "postfix: a delivery agent's output",
        lines: "postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)
postfix/pipe[9]: 0C0FFEE0001: to=<r@o.example>, relay=filter, delay=1, delays=0/0/0/1, dsn=4.3.0, status=deferred (temporary failure. Command output: {P} )",
        wanted: Same,
    },
];

#[test]
fn l1_what_strangers_write_into_postfix_lines_adds_nothing() {
    play(POSTFIX, |s| printable(&quoted(s)), PAYLOADS);
}

#[test]
fn l1_the_helo_of_a_message_that_a_header_check_refused() {
    let scenes = &[Scene {
        name: "postfix: HELO of a refused message",
        lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/cleanup[9]: 0C0FFEE0001: reject: header Subject: odd from c.example[192.0.2.1]; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<{P}>: 5.7.1 no such mail here
postfix/cleanup[9]: 0C0FFEE0001: milter-reject: END-OF-MESSAGE from c.example[192.0.2.1]: 5.7.1 Command rejected; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<{P}>",
        wanted: Same,
    }];
    play(scenes, printable, PAYLOADS);
}

#[test]
fn l1_a_login_name_is_not_told_apart_into_fields() {
    let scenes = &[Scene {
        name: "postfix: SASL name",
        lines: "postfix/submission/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1], sasl_method=PLAIN, sasl_username={P}
postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)",
        wanted: NoMore,
    }];
    play(scenes, printable, PAYLOADS);
}

/// Lines whose program is not the MTA's: what an attacker makes another daemon write (its own tag in front), or what
/// stands in front of the trusted prefix.
#[test]
fn l1_only_the_prefix_says_who_writes() {
    let scenes = &[
        Scene {
            name: "sshd",
            lines: "sshd[7]: Invalid user postfix/qmgr[1]: {P} from 192.0.2.66 port 22\nsshd[7]: {P}\nexim-fake[7]: {P}",
            wanted: Same,
        },
        Scene { name: "web server", lines: "httpd[7]: \"GET /?postfix/smtp[3]: {P}\" 404\nkernel: {P}\nmy/app[7]: {P}", wanted: Same },
        Scene {
            name: "tags that begin alike",
            lines: "postfixx/smtp[3]: {P}\nexim_mainlog[3]: {P}\ndovecot-x: lmtp(x)<1><aaaaaaaaaaaaaaaa>: msgid=<{P}>: saved mail to INBOX",
            wanted: Same,
        },
        Scene {
            name: "other daemons of Postfix",
            lines: "postfix/anvil[3]: statistics: {P}\npostfix/smtpd[3]: warning: {P}\npostfix/smtpd[3]: connect from {P}\npostfix/smtpd[3]: lost connection after {P}\npostfix/smtpd[3]: warning: c.example[192.0.2.1]: SASL LOGIN authentication failed: {P}",
            wanted: Same,
        },
        Scene {
            name: "chatter of Dovecot",
            lines: "dovecot: imap-login: Login: user=<{P}>, method=PLAIN\ndovecot: auth: passwd-file({P},192.0.2.1): unknown user\ndovecot: imap(x)<7><aaaaaaaaaaaaaaaa>: {P}",
            wanted: Same,
        },
        Scene {
            name: "chatter of Exim",
            lines: "exim[7]: SMTP connection from {P} [192.0.2.1] lost\nexim[7]: rejected EHLO from {P}\nexim[7]: no host name found for IP address {P}",
            wanted: NoMore,
        },
    ];
    play(scenes, same_text, PAYLOADS);
}

#[test]
fn l1_what_strangers_write_into_lines_of_dovecot_and_amavis_adds_nothing() {
    let scenes = &[
        Scene {
            name: "dovecot: Message-ID",
            lines: "dovecot: lmtp(bob@o.example)<7><KJIxFDsoBGvmAAAA1odl2w>: msgid=<{P}>: saved mail to INBOX
dovecot: lmtp(bob@o.example)<7><KJIxFDsoBGvmAAAA1odl2x>: sieve: msgid=<{P}>: stored mail into mailbox 'INBOX'
dovecot: lmtp(bob@o.example)<7><KJIxFDsoBGvmAAAA1odl2y>: sieve: msgid=<{P}>: marked message to be discarded if not explicitly delivered (discard action)
dovecot: lmtp(bob@o.example)<7><KJIxFDsoBGvmAAAA1odl2z>: sieve: msgid=<{P}>: forwarded to <own@o.example>
dovecot: lmtp(bob@o.example)<7><KJIxFDsoBGvmAAAA1odl3a>: msgid=<{P}>: save failed to INBOX: Quota exceeded (mailbox for user is full)",
            wanted: NoMore,
        },
        Scene {
            name: "dovecot: Message-ID without brackets",
            lines: "dovecot: lmtp(bob@o.example)<7><KJIxFDsoBGvmAAAA1odl2w>: msgid={P}: saved mail to INBOX",
            wanted: NoMore,
        },
        Scene {
            name: "amavis: sender, Message-ID",
            lines: "amavis[7]: (00107-10-17) Passed CLEAN {RelayedInbound}, [192.0.2.1]:59902 [192.0.2.1] <\"{P}\"@c.example> -> <bob@o.example>, Queue-ID: 4jY4JP3t3cz1XDTm, Message-ID: <ok@c.example>, mail_id: argBtSXwx_o7, Hits: -, size: 649, queued_as: 4jY4JP4RRjz1XDjj, 78 ms
amavis[7]: (00107-10-18) Passed CLEAN {RelayedInbound}, [192.0.2.1]:59902 [192.0.2.1] <a@c.example> -> <bob@o.example>, Queue-ID: 4jY4JP3t3cz1XDTn, Message-ID: <{P}>, mail_id: argBtSXwx_o8, Hits: -, size: 649, queued_as: 4jY4JP4RRjz1XDjk, 78 ms
amavis[7]: (00107-10-19) Blocked SPAM {DiscardedInbound}, [192.0.2.1]:54450 [192.0.2.1] <a@c.example> -> <\"{P}\"@o.example>, Queue-ID: 9A4D6A06831, Message-ID: <{P}>, mail_id: argBtSXwx_o9, Hits: 16.31, size: 605, 404 ms",
            wanted: NoMore,
        },
    ];
    play(scenes, |s| printable(&quoted(s)), PAYLOADS);
}

/// Control bytes come as `?`; spaces, `=`, `>` and `,` survive. From 3.5 on local parts that need it stand in quotes; older
/// ones and RHEL 8's do not.
#[test]
fn l2_postfix_local_parts_are_read_quoted_and_not() {
    let scenes = &[
        Scene {
            name: "postfix 3.4: recipient without quotes",
            lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)
postfix/smtp[9]: 0C0FFEE0001: to=<{P}@o.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=4.2.0, status=deferred (host mx.o.example[192.0.2.2] said: 450 4.2.0 Greylisted (in reply to RCPT TO command))",
            wanted: Same,
        },
        Scene {
            name: "postfix 3.4: sender without quotes",
            lines: "postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1]
postfix/qmgr[9]: 0C0FFEE0001: from=<{P}@c.example>, size=500, nrcpt=1 (queue active)
postfix/pickup[9]: 0C0FFEE0003: uid=1000 from=<{P}>
postfix/cleanup[9]: 0C0FFEE0003: message-id=<ok@c.example>",
            wanted: Same,
        },
    ];
    let odd = [
        "a b",
        "a, status=sent (250 ok)",
        "a=b, dsn=2.0.0",
        "a>, status=sent",
        "x> to=<victim@v.example",
        "0BADCAFE123: removed",
        "a, nrcpt=9 (queue active)",
        "a>, size=9, nrcpt=9 (queue active)",
        "?[31ma?",
        "a;b:c",
        "a(b)",
    ];
    play(scenes, printable, &odd);
}

/// A local part that holds a delivery line's whole grammar: no reading of it can be sure, so none may call it delivered.
#[test]
fn l2_an_unquoted_local_part_with_the_whole_grammar_fakes_no_delivery() {
    let text = "Mar  2 08:00:00 mx1 postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)\n\
        Mar  2 08:00:01 mx1 postfix/smtp[9]: 0C0FFEE0001: to=<x@v.example>, relay=mx.v.example[203.0.113.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)@o.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.o.example[192.0.2.2] said: 550 5.1.1 unknown (in reply to RCPT TO command))\n";
    let index = Index::new();
    index.fill(&[put_log(&index, text.as_bytes())], "mx1");
    for r in index.records().iter().map(StoredRecord::derive) {
        for p in &r.recipients {
            assert!(!matches!(p.action, Action::Relayed | Action::Delivered), "{p:?}");
            assert_ne!(p.final_recipient, "x@v.example");
        }
    }
}

const EXIM: &[Scene] = &[
    Scene {
        name: "exim: sender in quotes",
        lines: "exim[9]: 1aaaaa-000001-AA <= \"{P}\"@c.example H=c.example [192.0.2.1] P=esmtp S=500 id=ok@c.example
exim[9]: H=c.example [192.0.2.1] F=<\"{P}\"@c.example> rejected RCPT <r@o.example>: relay not permitted",
        wanted: NoMore,
    },
    Scene {
        name: "exim: HELO with junk allowed",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=({P}) [192.0.2.1] P=esmtp S=500 id=ok@c.example
exim[9]: 1aaaaa-000001-AA => r@o.example R=dnslookup T=remote_smtp H=mx.o.example [192.0.2.2] C=\"250 OK id=1bbbbb-000001-BB\"
exim[9]: H=c.example ({P}) [192.0.2.1] F=<s@c.example> rejected RCPT <r@o.example>: relay not permitted",
        wanted: NoMore,
    },
    Scene {
        name: "exim: login name",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtpa A=login:{P} S=500 id=ok@c.example",
        wanted: NoMore,
    },
    Scene {
        name: "exim: certificate's and server's names",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtps X=TLS1.3:a:256 CV=no DN=\"CN={P}\" SNI=\"{P}\" S=500 id=ok@c.example
exim[9]: 1aaaaa-000001-AA => r@o.example R=dnslookup T=remote_smtp H=mx.o.example [192.0.2.2] X=TLS1.3:a:256 CV=yes DN=\"CN={P}\" C=\"250 OK id=1bbbbb-000001-BB\"",
        wanted: NoMore,
    },
];

/// Exim's text in C quotes: quotes and backslashes are escaped.
const EXIM_QUOTED: &[Scene] = &[
    Scene {
        name: "exim: subject",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtp S=500 id=ok@c.example T=\"{P}\" from <s@c.example> for r@o.example",
        wanted: Same,
    },
    Scene {
        name: "exim: what a remote answered",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtp S=500 id=ok@c.example
exim[9]: 1aaaaa-000001-AA => r@o.example R=dnslookup T=remote_smtp H=mx.o.example [192.0.2.2] C=\"250 2.0.0 Ok {P}\"
exim[9]: 1aaaaa-000001-AA Completed",
        wanted: NoMore,
    },
];

/// Free text behind a colon, written by a remote or the attacker's own address.
const EXIM_TEXT: &[Scene] = &[
    Scene {
        name: "exim: a remote that refuses",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtp S=500 id=ok@c.example
exim[9]: 1aaaaa-000001-AA ** r@o.example R=dnslookup T=remote_smtp H=mx.o.example [192.0.2.2]: SMTP error from remote mail server after RCPT TO:<r@o.example>: 550 5.1.1 {P}",
        wanted: NoMore,
    },
    Scene {
        name: "exim: a remote that defers",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtp S=500 id=ok@c.example
exim[9]: 1aaaaa-000001-AA == r@o.example R=dnslookup T=remote_smtp defer (-44) H=mx.o.example [192.0.2.2]: SMTP error from remote mail server after RCPT TO:<r@o.example>: 450 4.2.0 {P}",
        wanted: NoMore,
    },
    Scene {
        name: "exim: refused after DATA",
        lines: "exim[9]: 1aaaaa-000001-AA H=c.example [192.0.2.1] F=<s@c.example> rejected after DATA: {P}",
        wanted: NoMore,
    },
    Scene {
        name: "exim: Message-ID that holds anything",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtp S=500 id={P}",
        wanted: NoMore,
    },
    Scene {
        name: "exim: a recipient, unquoted and quoted",
        lines: "exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtp S=500 id=ok@c.example
exim[9]: 1aaaaa-000001-AA == {P}@o.example R=dnslookup T=remote_smtp defer (110): Connection timed out",
        wanted: NoMore,
    },
];

#[test]
fn l3_what_strangers_write_into_exim_lines_adds_nothing() {
    play(EXIM, quoted, PAYLOADS);
}

#[test]
fn l3_exim_text_in_quotes_adds_nothing() {
    play(EXIM_QUOTED, quoted, PAYLOADS);
}

/// Exim writes a newline in a certificate or reply as `\n`; the text is on the same line all the same.
#[test]
fn l3_exim_free_text_adds_nothing() {
    play(EXIM_TEXT, same_text, PAYLOADS);
}

/// `DN=".."` does not escape the quotes inside it.
#[test]
fn l3_a_certificate_with_quotes_adds_nothing() {
    let names = [
        "x\" A=login:boss S=99999 id=forged@v.example T=\"y",
        "x\" S=99999 id=forged@v.example T=\"forged\" for victim@v.example DN=\"",
        "x\" C=\"250 OK id=1yyyyy-000001-YY",
        "x\" H=mx.v.example [203.0.113.9] C=\"250 OK id=1yyyyy-000001-YY\" DN=\"",
    ];
    play(&EXIM[3..], same_text, &names);
}

#[test]
fn l3_queue_ids_of_both_lengths_are_told_apart() {
    let index = Index::new();
    let text = "2026-03-02 08:00:00 1rgKXp-000000005mD-2Abc <= a@b.example H=b.example [192.0.2.1] P=esmtp S=1 id=long@b.example\n\
        2026-03-02 08:00:00 1rgKXp-000000-5m <= a@b.example H=b.example [192.0.2.1] P=esmtp S=1 id=short@b.example\n\
        2026-03-02 08:00:01 1rgKXp-000000005mD-2Abc Completed\n\
        2026-03-02 08:00:02 1rgKXp-000000-5mD Completed\n\
        2026-03-02 08:00:02 x1rgKXp-000000-5m Completed\n";
    index.fill(&[put_log(&index, text.as_bytes())], "ex1");
    let all: Vec<Record> = index.records().iter().map(StoredRecord::derive).collect();
    assert_eq!(all.len(), 2);
    for r in all {
        assert_eq!(r.closed, r.message_id.as_deref() == Some("long@b.example"), "{}", r.key);
    }
}

/// Sendmail writes `\ooo` for control bytes and doubles backslashes; as lines of its own and as a remote of ours.
#[test]
fn l4_sendmail_text_stays_text() {
    let scenes = &[
        Scene {
            name: "sendmail's lines",
            lines: "sm-mta[5]: 62N800AA000123: from=<{P}@c.example>, size=1, class=0, nrcpts=1, msgid=<{P}>, relay=[192.0.2.1]
sm-mta[5]: 62N800AA000123: to=<victim@v.example>, delay=00:00:01, mailer=esmtp, relay=mx.v.example. [203.0.113.9], dsn=4.0.0, stat=Deferred: {P}",
            wanted: NoMore,
        },
        Scene {
            name: "sendmail as a remote of Postfix",
            lines: "postfix/qmgr[9]: 0C0FFEE0001: from=<s@c.example>, size=500, nrcpt=1 (queue active)
postfix/smtp[9]: 0C0FFEE0001: to=<r@o.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=4.2.0, status=deferred (host mx.o.example[192.0.2.2] said: 451 4.2.0 {P} (in reply to DATA command))",
            wanted: Same,
        },
    ];
    let octal = [
        "x\\\\012Mar  2 08:00:09 {H} postfix/qmgr[1]: 0BADCAFE123: removed",
        "x\\012Mar  2 08:00:09 {H} sm-mta[5]: 62N800AA000999: to=<victim@v.example>, stat=Sent (62N8 Message accepted for delivery)",
        "\\033[31m\\007\\\\x, stat=Sent (ok)",
        "(62N800AA000999 Message accepted for delivery)",
    ];
    play(scenes, same_text, &octal);
    play(scenes, same_text, PAYLOADS);
}

/// rsyslog writes control bytes as `#ooo`, cuts long messages, and says "message repeated N times".
#[test]
fn l5_what_rsyslog_escapes_and_repeats_stays_in_its_line() {
    let hashes = [
        "x#012Mar  2 08:00:09 {H} postfix/qmgr[1]: 0BADCAFE123: removed#012",
        "x#0122026-03-02T08:00:09+00:00 {H} postfix/qmgr[1]: 0BADCAFE123: removed",
        "x#015#012<22>1 2026-03-02T08:00:09Z {H} postfix/qmgr 1 - - 0BADCAFE123: removed",
        "x]: 0BADCAFE123: removed",
        "message repeated 3 times: [ 0BADCAFE123: removed]",
        "last message repeated 3 times",
        "x: [ 0BADCAFE123: removed]]",
    ];
    play(POSTFIX, |s| printable(&quoted(s)), &hashes);
    play(EXIM_TEXT, same_text, &hashes);
}

/// A line that syslog cut in the middle of anything never gives a part of an id or address as the whole.
#[test]
fn l5_a_cut_line_gives_no_half_fact() {
    let whole = "postfix/smtp[9]: 0C0FFEE0001: to=<r@o.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4jY3vQ57pjz1WXb2)";
    let exim =
        "exim[9]: 1aaaaa-000001-AA => r@o.example R=dnslookup T=remote_smtp H=mx.o.example [192.0.2.2] C=\"250 OK id=1bbbbb-000001-BB\"";
    let mut log = String::new();
    for (n, line) in [whole, exim].into_iter().enumerate() {
        for end in 30..line.len() {
            log += &format!("Mar  2 08:00:00 c{n}x{end} {}\n", &line[..end]);
        }
    }
    let index = Index::new();
    index.fill(&[put_log(&index, log.as_bytes())], "loghost");
    for r in index.records().iter().map(StoredRecord::derive) {
        for p in &r.recipients {
            assert_eq!(p.final_recipient, "r@o.example", "{}", r.key);
            assert!(p.remote_queue_id.is_none(), "{}: {:?}", r.key, p.remote_queue_id);
        }
        assert!(matches!(r.queue_id.as_deref(), Some("0C0FFEE0001" | "1aaaaa-000001-AA")), "{}", r.key);
    }
}

#[test]
fn l5_repetitions_are_bounded() {
    let reject = "NOQUEUE: reject: RCPT from c.example[192.0.2.1]: 554 5.7.1 <r@o.example>: Relay access denied; from=<s@c.example> to=<r@o.example> proto=ESMTP helo=<h>";
    let at = "Mar  2 08:00:00 mx1";
    let text = format!(
        "{at} postfix/smtpd[9]: message repeated 999999999 times: [ {reject}]\n{at} postfix/smtpd[9]: {reject}\n{at} last message repeated 999999999 times\n\
         {at} postfix/smtpd[9]: message repeated 99999999999999999999 times: [ {reject}]\n{at} postfix/qmgr[9]: 0BADCAFE123: removed\n"
    );
    let index = Index::new();
    let done = index.fill(&[put_log(&index, text.as_bytes())], "mx1");
    assert!(done.counts.lines == 5 && !done.incomplete);
    let all = index.records();
    assert!(all.iter().map(|r| r.events.len()).sum::<usize>() < 64 << 20);
    assert!(all.iter().any(|r| r.slot.queue_id == "0BADCAFE123"));
}

/// Raw control bytes, as a syslog daemon that escapes nothing writes them.
fn raw_log() -> Vec<u8> {
    let evil = b"\x1b]0;owned\x07\x1b[2J\x9b31m\xc2\x9b31m\xc2\x85\xe2\x80\xae\xe2\x81\xa6\x08\x7f\r\x0b\x00x\xff";
    let scenes: &[(&[u8], &[u8])] = &[
        (b"Mar  2 08:00:00 mx1 postfix/smtpd[9]: 0C0FFEE0001: client=c.example[192.0.2.1], sasl_method=PLAIN, sasl_username=", b""),
        (b"Mar  2 08:00:00 mx1 postfix/cleanup[9]: 0C0FFEE0001: message-id=<", b"@c.example>"),
        (b"Mar  2 08:00:00 mx1 postfix/cleanup[9]: 0C0FFEE0001: info: header Subject: ", b" from c.example[192.0.2.1]; from=<s@c.example>"),
        (b"Mar  2 08:00:00 mx1 postfix/qmgr[9]: 0C0FFEE0001: from=<\"", b"\"@c.example>, size=500, nrcpt=1 (queue active)"),
        (
            b"Mar  2 08:00:00 mx1 postfix/smtp[9]: 0C0FFEE0001: to=<\"",
            b"\"@o.example>, relay=none, delay=1, delays=0/0/0/1, dsn=4.0.0, status=deferred (connection refused)",
        ),
        (
            b"Mar  2 08:00:00 mx1 postfix/smtp[9]: 0C0FFEE0001: to=<r@o.example>, relay=mx.o.example[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=4.0.0, status=deferred (host said: 450 ",
            b")",
        ),
        (b"Mar  2 08:00:00 mx1 postfix/pipe[9]: 0C0FFEE0002: to=<r@o.example>, relay=", b", delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered)"),
        (b"Mar  2 08:00:00 ", b" postfix/qmgr[9]: 0C0FFEE0001: removed"),
        (b"Mar  2 08:00:00 mx1", b"x postfix/qmgr[9]: 0C0FFEE0004: from=<s@c.example>, size=500, nrcpt=1 (queue active)"),
        (b"Mar  2 08:00:00 mx1 postfix/smtp[9]: nobody knows this line: ", b""),
        (b"Mar  2 08:00:00 mx1 postfix", b"/smtp[9]: nobody knows this line"),
        (b"Mar  2 08:00:00 ex1 exim[9]: 1aaaaa-000001-AA <= s@c.example H=c.example [192.0.2.1] P=esmtp S=500 T=\"", b"\""),
        (b"Mar  2 08:00:00 ex1 exim[9]: 1aaaaa-000001-AA ** r@o.example: ", b""),
        (b"Mar  2 08:00:00 mx1 dovecot: lmtp(bob", b")<7><KJIxFDsoBGvmAAAA1odl2w>: msgid=<a@c.example>: saved mail to INBOX"),
    ];
    // The head of the file holds no NUL byte, which would make it binary.
    let mut log = Vec::new();
    for i in 0..200 {
        log.extend_from_slice(
            format!("Mar  2 08:00:00 mx1 kernel: [{i}] nothing to see in this line of an entirely different program\n").as_bytes(),
        );
    }
    for (before, after) in scenes {
        log.extend_from_slice(&[before, evil.as_slice(), after, b"\n"].concat());
    }
    log
}

/// Asserts that nothing in `text` moves a cursor, rings, recolours or turns the direction of writing; colours of our own apart.
#[track_caller]
fn assert_harmless(what: &str, text: &[u8]) {
    let text = String::from_utf8(text.to_vec()).unwrap_or_else(|e| panic!("{what}: no UTF-8: {e}"));
    let mut rest = text.as_str();
    let mut plain = String::new();
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let tail = &rest[at + 2..];
        let end = tail.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(tail.len());
        assert_eq!(tail.get(end..=end), Some("m"), "{what}: an escape sequence that is not ours: {:?}", &tail[..tail.len().min(20)]);
        rest = &tail[end + 1..];
    }
    plain.push_str(rest);
    let hostile =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if let Some(at) = plain.find(hostile) {
        let from = plain[..at].rfind('\n').map_or(0, |n| n + 1);
        panic!("{what}: {:?}", plain[from..].chars().take(300).collect::<String>());
    }
    assert!(!plain.contains("\u{2028}") && !plain.contains("\u{2029}"), "{what}: a line separator");
}

/// The program with colours, so that its filter for pipes does not hide what would reach a terminal.
fn coloured(index: &Index, args: &[&str]) -> std::process::Output {
    let mut c = std::process::Command::new(env!("CARGO_BIN_EXE_msgtrk"));
    c.env_remove("MSGTRK_INDEX").env("TZ", "UTC").env("CLICOLOR_FORCE", "1").env("COLUMNS", "400");
    c.arg("--index").arg(index.dir.path().join("index")).args(args).stdin(std::process::Stdio::null());
    c.output().unwrap()
}

fn raw_index() -> Index {
    let index = Index::new();
    index.fill(&[put_log(&index, &raw_log())], "loghost");
    assert!(index.records().len() >= 5);
    index
}

#[test]
fn l6_control_bytes_are_escaped_in_tables() {
    let index = raw_index();
    let runs: [&[&str]; 9] = [
        &["search"],
        &["search", "--lines"],
        &["trace", "0C0FFEE0001"],
        &["trace", "0C0FFEE0001", "--lines"],
        &["trace", "1aaaaa-000001-AA", "--lines"],
        &["stuck"],
        &["stats"],
        &["stats", "--unparsed"],
        &["search", "--from", "nobody@x.example"],
    ];
    for args in runs {
        let o = coloured(&index, args);
        assert!(!o.stdout.is_empty() || !o.stderr.is_empty());
        assert_harmless(&format!("{args:?}"), &o.stdout);
        assert_harmless(&format!("{args:?}, stderr"), &o.stderr);
    }
}

#[test]
fn l6_control_bytes_are_escaped_in_csv() {
    let index = raw_index();
    let o = coloured(&index, &["search", "--csv"]);
    assert_harmless("csv", &o.stdout);
    let mut csv = csv::ReaderBuilder::new().flexible(false).from_reader(o.stdout.as_slice());
    let rows: Vec<_> = csv.records().map(|r| r.unwrap()).collect();
    assert!(rows.len() >= 5);
    for cell in rows.iter().flatten() {
        assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "a spreadsheet would run {cell:?}");
    }
}

#[test]
fn l6_control_bytes_are_escaped_in_errors_and_summaries() {
    let index = Index::new();
    let name = "evil\u{1b}]0;x\u{7}\u{202e}\r.log";
    let log = index.dir.path().join(name);
    std::fs::write(
        &log,
        [raw_log(), b"Mar  2 08:00:00 mx1 post\x1b[2Jfix/smtp[9]: x\nMar  2 08:00:00 mx1 postfix/\x1b[2J[9]: x\n".to_vec()].concat(),
    )
    .unwrap();
    let path = log.to_str().unwrap();
    let binary = index.dir.path().join("b\u{1b}[2J\u{202e}.bin");
    std::fs::write(&binary, b"\0\0").unwrap();
    let missing = index.dir.path().join("m\u{1b}[2J\u{202e}.log");
    let config = index.dir.path().join("c\u{1b}[2J\u{202e}.toml");
    std::fs::write(&config, "x = \"\u{1b}[2J\u{202e}\"").unwrap();
    let evil = "\u{1b}]0;x\u{7}\u{202e}";
    let runs: [&[&str]; 9] = [
        &["backfill", path, binary.to_str().unwrap(), missing.to_str().unwrap()],
        &["trace", evil],
        &["search", "--since", evil],
        &["search", "--size", evil],
        &["search", evil],
        &["--config", config.to_str().unwrap(), "search"],
        &["--index", missing.to_str().unwrap(), "search"],
        &["--parsers", missing.to_str().unwrap(), "backfill", path],
        &["backfill", "--host", evil, path],
    ];
    for args in runs {
        let o = coloured(&index, args);
        assert_harmless(&format!("{args:?}"), &o.stdout);
        assert_harmless(&format!("{args:?}, stderr"), &o.stderr);
        assert!(!String::from_utf8_lossy(&o.stderr).contains("panicked"), "{args:?}");
    }
}

#[test]
fn l6_json_is_valid_and_whole_for_every_line() {
    let index = raw_index();
    for (args, lines) in [
        (&["search", "--json", "--lines", "--limit", "0"][..], 4),
        (&["trace", "--json", "--lines", "0C0FFEE0001"], 1),
        (&["trace", "--json", "1aaaaa-000001-AA"], 1),
        (&["stats", "--json"], 1),
        (&["stuck", "--json"], 1),
    ] {
        let o = msgtrk(&index.dir.path().join("index"), args);
        let text = String::from_utf8(o.stdout).unwrap();
        assert!(text.ends_with('\n') && text.lines().count() >= lines, "{args:?}: {text}");
        assert!(!text.bytes().any(|b| b < 0x20 && b != b'\n'), "{args:?}: a raw control byte");
        for line in text.lines() {
            let v: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{args:?}: {e}: {line}"));
            if v["key"] == "mx1/postfix/0C0FFEE0001/1772438400" {
                let id = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{fffd}31m\u{9b}31m\u{85}\u{202e}\u{2066}\u{8}\u{7f}\r\u{b}\u{0}x\u{fffd}@c.example";
                assert_eq!(v["message_id"], id, "what was logged is in the JSON, whatever it is");
            }
        }
    }
}

/// A log of several hosts, as `(host, line)`.
fn hosts_log(lines: &[(&str, &str)]) -> Index {
    let index = Index::new();
    let text: String = lines.iter().enumerate().map(|(i, (host, line))| format!("Mar  2 08:00:{i:02} {host} {line}\n")).collect();
    index.fill(&[put_log(&index, text.as_bytes())], "loghost");
    index
}

/// The victim's message: came to `store` from `relay`, was delivered there.
const STORED: &[(&str, &str)] = &[
    ("store", "postfix/smtpd[1]: 0BADCAFE123: client=relay.our.example[198.51.100.12]"),
    ("store", "postfix/cleanup[1]: 0BADCAFE123: message-id=<victim@v.example>"),
    ("store", "postfix/qmgr[1]: 0BADCAFE123: from=<boss@v.example>, size=1, nrcpt=1 (queue active)"),
    (
        "store",
        "postfix/local[1]: 0BADCAFE123: to=<victim@our.example>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to mailbox)",
    ),
    ("store", "postfix/qmgr[1]: 0BADCAFE123: removed"),
];

/// A message of `mx1` that a remote host took, saying so in `said`.
fn sent(to: &str, said: &str) -> Vec<(&'static str, String)> {
    let taken =
        format!("postfix/smtp[1]: 0C0FFEE0001: to=<r@o.example>, relay={to}:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent ({said})");
    vec![
        ("mx1", "postfix/smtpd[1]: 0C0FFEE0001: client=c.example[192.0.2.1]".into()),
        ("mx1", "postfix/cleanup[1]: 0C0FFEE0001: message-id=<mine@c.example>".into()),
        ("mx1", "postfix/qmgr[1]: 0C0FFEE0001: from=<s@c.example>, size=1, nrcpt=1 (queue active)".into()),
        ("mx1", taken),
        ("mx1", "postfix/qmgr[1]: 0C0FFEE0001: removed".into()),
    ]
}

fn keys(index: &Index, id: &str) -> Vec<Vec<String>> {
    let names = |r: &Record| format!("{} {}", r.reporting_mta, r.queue_id.clone().unwrap_or_default());
    index.trace(id).iter().map(|j| j.records.iter().map(names).collect()).collect()
}

/// The attacker's message stays alone, and so does the victim's.
#[track_caller]
fn apart(lines: &[(&'static str, String)]) {
    let mine: Vec<(&str, &str)> = lines.iter().map(|(h, l)| (*h, l.as_str())).collect();
    let index = hosts_log(&[&mine, STORED].concat());
    for id in ["mine@c.example", "0C0FFEE0001"] {
        assert_eq!(keys(&index, id), [["mx1 0C0FFEE0001"]], "by {id}");
    }
    for id in ["victim@v.example", "0BADCAFE123"] {
        assert_eq!(keys(&index, id), [["store 0BADCAFE123"]], "by {id}");
    }
    for j in index.trace("mine@c.example") {
        assert!(j.edges.is_empty() && j.endings.iter().all(|e| e.last.action == Action::Relayed && e.at == "mx1"), "{j:?}");
    }
}

#[test]
fn a_remote_that_claims_another_hosts_queue_id_is_not_believed() {
    apart(&sent("mx.evil.example[203.0.113.66]", "250 2.0.0 Ok: queued as 0BADCAFE123"));
    apart(&sent("203.0.113.66[203.0.113.66]", "250 2.0.0 0BADCAFE123 Message accepted for delivery"));
    apart(&sent("mx.evil.example[203.0.113.66]", "250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 0BADCAFE123"));
    apart(&sent("storehouse.evil.example[203.0.113.66]", "250 2.0.0 Ok: queued as 0BADCAFE123"));
    apart(&sent("mx1.our.example[203.0.113.66]", "250 2.0.0 Ok: queued as 0BADCAFE123"));
}

/// The attacker's host bears a name that begins like one of ours; client and Message-ID of the record say no.
#[test]
fn a_remote_that_bears_the_short_name_of_our_host_is_not_believed() {
    apart(&sent("store.evil.example[203.0.113.66]", "250 2.0.0 Ok: queued as 0BADCAFE123"));
}

#[test]
fn a_true_hand_over_is_believed() {
    let mine = sent("store.our.example[198.51.100.13]", "250 2.0.0 Ok: queued as 0C0FFEE0009");
    let mut lines: Vec<(&str, &str)> = mine.iter().map(|(h, l)| (*h, l.as_str())).collect();
    lines.extend([
        ("store", "postfix/smtpd[1]: 0C0FFEE0009: client=mx1.our.example[198.51.100.11]"),
        ("store", "postfix/cleanup[1]: 0C0FFEE0009: message-id=<mine@c.example>"),
        ("store", "postfix/local[1]: 0C0FFEE0009: to=<r@o.example>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to mailbox)"),
    ]);
    lines.extend(STORED);
    let index = hosts_log(&lines);
    assert_eq!(keys(&index, "mine@c.example"), [["mx1 0C0FFEE0001", "store 0C0FFEE0009"]]);
    assert_eq!(keys(&index, "victim@v.example"), [["store 0BADCAFE123"]]);
}

/// What a user's own command prints names the queue id of somebody else's message on the same host.
#[test]
fn a_commands_output_that_names_another_message_of_the_host_is_not_believed() {
    let line = "postfix/pipe[1]: 0C0FFEE0001: to=<r@our.example>, relay=procmail, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered via procmail service (250 2.0.0 Ok: queued as 0BADCAFE123))";
    let mine = [
        ("store", "postfix/smtpd[1]: 0C0FFEE0001: client=c.example[192.0.2.1]"),
        ("store", "postfix/cleanup[1]: 0C0FFEE0001: message-id=<mine@c.example>"),
        ("store", "postfix/qmgr[1]: 0C0FFEE0001: from=<s@c.example>, size=1, nrcpt=1 (queue active)"),
        ("store", line),
    ];
    let index = hosts_log(&[&mine, STORED].concat());
    assert_eq!(keys(&index, "mine@c.example"), [["store 0C0FFEE0001"]]);
    assert_eq!(keys(&index, "victim@v.example"), [["store 0BADCAFE123"]]);
}

/// A Message-ID copied from somebody else's mail names two messages; each keeps its own way.
#[test]
fn a_copied_message_id_joins_no_two_messages() {
    let mut mine = sent("mx.evil.example[203.0.113.66]", "250 2.0.0 Ok: queued as 0BADCAFE123");
    mine[1].1 = "postfix/cleanup[1]: 0C0FFEE0001: message-id=<victim@v.example>".into();
    mine[3].1 = mine[3].1.replace("queued as 0BADCAFE123", "queued as 0C0FFEE0777");
    let mine: Vec<(&str, &str)> = mine.iter().map(|(h, l)| (*h, l.as_str())).collect();
    let index = hosts_log(&[&mine, STORED].concat());
    let mut found = keys(&index, "victim@v.example");
    found.sort();
    assert_eq!(found, [["mx1 0C0FFEE0001"], ["store 0BADCAFE123"]]);
}

/// Each file says by `hostile = true` which of its samples try to fool it (a sender, a Message-ID or subject, a remote reply);
/// `parsers check` runs them. The scenes of this file try every payload on Postfix beside them.
#[test]
fn each_parser_file_has_three_hostile_samples() {
    let parsers = msgtrk::parse::Parsers::load(None).unwrap();
    let count = |f: &msgtrk::parse::file::ParserFile| f.samples.iter().filter(|s| s.hostile).count();
    let few: Vec<_> = parsers.files.iter().filter(|f| count(f) < 3).map(|f| (f.name.as_str(), count(f))).collect();
    assert!(parsers.files.len() > 30 && few.is_empty(), "fewer than three hostile samples: {few:?}");
}
