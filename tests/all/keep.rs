//! Whose data it is: forgetting, export and import, who may read what, which way mail goes; by the program, with and without a daemon.

use crate::support::{Index, msgtrk};
use msgtrk::daemon::figures::Figures;
use msgtrk::daemon::writer::{Job, Pace, Upkeep, WriterThread};
use msgtrk::ingest::commit::{Committer, Forget, Sink, Work, without};
use msgtrk::ingest::live::LiveWork;
use msgtrk::ledger::Change;
use msgtrk::model::event::{Field, Head, Kind, Span, encode};
use msgtrk::model::query::{Pattern, Query};
use msgtrk::model::record::{Role, Slot, StoredRecord};
use msgtrk::model::redact::person::Person;
use msgtrk::model::time::Precision;
use msgtrk::store::Store;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// One person's mail in all forms, beside another's; the last lines are one that no pattern knows and one that the next file's first may repeat.
const LOG: &str = "\
2026-03-02T08:00:00+00:00 mx1 postfix/smtpd[1]: 4AbcdEFGHz: client=mail.b.example[192.0.2.7], sasl_method=PLAIN, sasl_username=Rob.Roe@c.example
2026-03-02T08:00:00+00:00 mx1 postfix/cleanup[2]: 4AbcdEFGHz: message-id=<one@b.example>
2026-03-02T08:00:00+00:00 mx1 postfix/qmgr[3]: 4AbcdEFGHz: from=<rob.roe@c.example>, size=2006, nrcpt=2 (queue active)
2026-03-02T08:00:01+00:00 mx1 postfix/smtp[4]: 4AbcdEFGHz: to=<ann@d.example>, relay=mx.d.example[198.51.100.4]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.d.example[198.51.100.4] said: 550 5.1.1 <ann@d.example>: mail of rob.roe@c.example is not wanted)
2026-03-02T08:00:01+00:00 mx1 postfix/qmgr[3]: 4AbcdEFGHz: removed
2026-03-02T08:01:00+00:00 mx1 postfix/smtpd[1]: 4AbcdEFGJz: client=unknown[192.0.2.8]
2026-03-02T08:01:00+00:00 mx1 postfix/cleanup[2]: 4AbcdEFGJz: message-id=<two@lists.example>
2026-03-02T08:01:00+00:00 mx1 postfix/qmgr[3]: 4AbcdEFGJz: from=<bounces+rob.roe=c.example@lists.example>, size=206, nrcpt=2 (queue active)
2026-03-02T08:01:01+00:00 mx1 postfix/local[4]: 4AbcdEFGJz: to=<rob@c.example>, orig_to=<ROB.ROE@c.example>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to mailbox)
2026-03-02T08:01:01+00:00 mx1 postfix/local[4]: 4AbcdEFGJz: to=<ann@c.example>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to mailbox)
2026-03-02T08:01:01+00:00 mx1 postfix/qmgr[3]: 4AbcdEFGJz: removed
2026-03-02T08:02:00+00:00 mx1 postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.9]: 554 5.7.1 <x@e.example>: Relay access denied; from=<y@f.example> to=<x@e.example> proto=ESMTP helo=<rob.roe.c.example>
2026-03-02T08:02:01+00:00 mx1 postfix/smtpd[1]: something that no pattern knows of rob.roe@c.example
2026-03-02T08:02:02+00:00 mx1 postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.9]: 550 5.1.1 <rob.roe@c.example>: Recipient address rejected; from=<y@f.example> to=<rob.roe@c.example> proto=ESMTP helo=<h>
";

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mail.log"), LOG).unwrap();
        let config = "[site]\ndomains = [\"c.example\"]\n[query_log]\nmode = \"on\"\n";
        std::fs::write(dir.path().join("msgtrk.toml"), config).unwrap();
        Files { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let config = self.at("msgtrk.toml");
        msgtrk(&self.at("index"), &[&["--config", config.to_str().unwrap()], args].concat())
    }

    fn good(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let text = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
        assert_eq!(out.status.code(), Some(0), "{args:?}: {text}");
        text
    }

    fn fill(&self) {
        let (mail, fold) = (self.at("mail.log"), std::path::absolute("tests/fixtures/fold.log").unwrap());
        self.good(&["backfill", "--year", "2026", mail.to_str().unwrap(), fold.to_str().unwrap()]);
    }

    /// A daemon on the index, ended with this.
    fn daemon(&self) -> Daemon {
        let mut c = Command::new(env!("CARGO_BIN_EXE_msgtrk"));
        c.arg("--index").arg(self.at("index")).arg("--config").arg(self.at("msgtrk.toml"));
        c.arg("serve").arg("--watch").arg(self.at("none.log")).env("TZ", "UTC").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = c.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "{line}");
        Daemon(child)
    }

    /// Places where the index still holds an address: what is stored, read, and the bare bytes of all files.
    fn holders(&self, address: &str) -> Vec<String> {
        let person = Person::new(address).unwrap();
        let index = self.at("index");
        let store = Store::open(&index).unwrap();
        let mut found = Vec::new();
        for r in all(&store) {
            if r.events().any(|e| person.is_in(e.whole())) || person.is_in(r.key.as_bytes()) {
                found.push(r.key);
            }
        }
        let sources = store.source_documents().unwrap();
        found.extend(sources.into_iter().filter(|(_, json)| without(&person, json) != *json).map(|(key, _)| format!("source {key}")));
        found.extend(store.positions().unwrap().filter(|json| without(&person, json) != *json).map(|_| "positions".to_string()));
        for query in [
            Query { from: Some(Pattern::new("*rob.roe*")), ..Query::default() },
            Query { to: Some(Pattern::new("rob.roe*")), ..Query::default() },
            Query { user: Some(Pattern::new("rob.roe*")), ..Query::default() },
        ] {
            found.extend(store.find(&query).unwrap().records.iter().map(|r| format!("search {}", r.key)));
        }
        for entry in std::fs::read_dir(&index).unwrap().flatten() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default().to_ascii_lowercase();
            let holds = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
            if person.is_in(&bytes) || holds(address) || holds(&address.replace('@', "=")) {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        found
    }
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

fn all(store: &Store) -> Vec<StoredRecord> {
    let mut all = Vec::new();
    store
        .scan(&mut |r| {
            all.push(r);
            true
        })
        .unwrap();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

fn forgets(files: &Files, remove: bool) {
    files.good(&["search", "--from", "rob.roe@c.example"]);
    let before = all(&Store::open(&files.at("index")).unwrap());
    assert!(files.holders("rob.roe@c.example").len() > 6, "{:?}", files.holders("rob.roe@c.example"));
    let dry = files.good(&["forget", "rob.roe@c.example", "--dry-run"]);
    assert!(dry.contains("3 would be masked (6 lines), 0 would be removed"), "{dry}");
    assert_eq!(all(&Store::open(&files.at("index")).unwrap()), before);
    let said = files.good(&["forget", "<Rob.Roe@C.example>", if remove { "--remove" } else { "--mask" }]);
    let want = if remove { "1 masked (2 lines), 2 removed" } else { "3 masked (6 lines), 0 removed" };
    assert!(said.contains(want) && said.contains("1 lines of the query log"), "{said}");
    assert_eq!(files.holders("rob.roe@c.example"), [] as [String; 0]);
    let after = all(&Store::open(&files.at("index")).unwrap());
    assert_eq!(after.len(), before.len() - if remove { 2 } else { 0 });
    // Everybody else's is as it was.
    let same = after.iter().filter(|r| before.contains(r)).count();
    assert_eq!(same, before.len() - 3);
    let list = files.good(&["search", "--to", "ann@c.example", "--json"]);
    assert!(list.contains("bounces+masked=masked.invalid@lists.example") && list.contains("masked@masked.invalid"), "{list}");
    // Logs that were read do not bring it back.
    files.fill();
    assert_eq!(files.holders("rob.roe@c.example"), [] as [String; 0]);
    assert_eq!(files.run(&["forget", "rob.roe@c.example"]).status.code(), Some(1));
    assert_eq!(files.run(&["forget", "rob.roe"]).status.code(), Some(2));
    assert_eq!(Store::open(&files.at("index")).unwrap().stats().unwrap().deleted, 0, "what was deleted is in no file");
    assert!(Store::verify(&files.at("index")).unwrap().is_ok());
}

#[test]
fn a_person_is_masked_everywhere() {
    let files = Files::new();
    files.fill();
    forgets(&files, false);
}

#[test]
fn a_persons_records_are_removed_through_the_daemon() {
    let files = Files::new();
    files.fill();
    let _daemon = files.daemon();
    forgets(&files, true);
}

#[test]
fn positions_that_the_live_loop_still_had_in_mind_are_stored_without_the_person() {
    let index = Index::new();
    let store = Arc::new(index.store());
    let thread = WriterThread {
        store: Arc::clone(&store),
        open: Arc::default(),
        figures: Arc::new(Figures::default()),
        stop: Arc::default(),
        upkeep: Arc::new(Upkeep::default()),
        clock: msgtrk::ingest::wall::WallClock::system(),
        pace: Pace::default(),
    };
    let positions = r#"{"tails":[],"streams":{},"cursors":{"x":"to=<a@b.example>"}}"#;
    let live = || Job::Live(LiveWork { positions: positions.into(), ..LiveWork::default() });
    let (jobs, queue) = std::sync::mpsc::sync_channel(8);
    let (reply, done) = std::sync::mpsc::sync_channel(1);
    let forget = Forget { person: Person::new("a@b.example").unwrap(), keys: vec![], remove: false };
    jobs.send(live()).unwrap();
    jobs.send(Job::Other(Box::new(Work { forget: Some(forget), purge: true, ..Work::default() }), reply)).unwrap();
    jobs.send(live()).unwrap();
    drop(jobs);
    thread.run(thread.committer().unwrap(), &queue);
    done.recv().unwrap().unwrap();
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let want = value(&positions.replace("a@b", "masked@masked").replace("example", "invalid"));
    assert_eq!(value(&store.positions().unwrap().unwrap()), want);
}

/// A host that always has mail has no quiet time; its merges are done all the same.
#[test]
fn a_writer_that_is_never_idle_keeps_its_segments_few() {
    let change = |n: usize| {
        let (id, text) = (format!("4AB{n:07}zGHJK"), format!("message-id=<m{n}@c.test>"));
        let span = Span { field: Field::MessageId, start: 12, len: text.len() as u32 - 13 };
        let time = 1_772_438_500_000_001;
        let head = Head { kind: Kind::Queued, action: None, time, precision: Precision::Micro, written: time / 1_000_000, ordinal: 0 };
        let mut events = vec![];
        encode(&mut events, &head, &[span], text.as_bytes(), b"");
        let slot = Slot { host: "mx1".into(), instance: "postfix".into(), queue_id: id };
        Change { slot, mta: "postfix".into(), role: Role::Hop, reused: false, events }
    };
    let segments = |overdue| {
        let index = Index::new();
        let store = Arc::new(index.store());
        let thread = WriterThread {
            store: Arc::clone(&store),
            open: Arc::default(),
            figures: Arc::new(Figures::default()),
            stop: Arc::default(),
            upkeep: Arc::new(Upkeep::default()),
            clock: msgtrk::ingest::wall::WallClock::system(),
            pace: Pace { most_merged: 4, overdue, ..Pace::default() },
        };
        let (jobs, queue) = std::sync::mpsc::sync_channel(64);
        for n in 0..30 {
            let changes = Arc::new(vec![change(n)]);
            jobs.send(Job::Live(LiveWork { changes, positions: "{}".into(), ..LiveWork::default() })).unwrap();
        }
        drop(jobs);
        thread.run(thread.committer().unwrap(), &queue);
        let stats = store.stats().unwrap();
        assert_eq!(stats.hops, 30);
        stats.segments
    };
    assert_eq!(segments(Duration::from_secs(600)), 30);
    let few = segments(Duration::ZERO);
    // Seven fewer for each merge; how many there are depends on how long one takes.
    assert!(few <= 23, "{few}");
}

#[test]
fn files_are_their_owners_only() {
    let files = Files::new();
    std::fs::create_dir(files.at("index")).unwrap();
    std::fs::set_permissions(files.at("index"), PermissionsExt::from_mode(0o755)).unwrap();
    files.fill();
    files.good(&["search", "--limit", "1"]);
    let _daemon = files.daemon();
    let mode = |p: &Path| std::fs::symlink_metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files.at("index")), 0o700);
    let mut seen = 0;
    for entry in std::fs::read_dir(files.at("index")).unwrap().flatten() {
        assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
        seen += 1;
    }
    assert!(seen > 8, "{seen}");
    let asked = std::fs::read_to_string(files.at("index/queries.jsonl")).unwrap();
    let uid = format!("\"who\":{{\"uid\":{}}}", rustix::process::getuid().as_raw());
    assert!(asked.contains("\"what\":\"search\"") && asked.contains(&uid), "{asked}");
    files.good(&["trace", "one@b.example"]);
    let asked = std::fs::read_to_string(files.at("index/queries.jsonl")).unwrap();
    let traces: Vec<&str> = asked.lines().filter(|l| l.contains("\"what\":\"trace\"")).collect();
    assert!(traces.len() == 1 && traces[0].contains("\"via\":\"control\"") && traces[0].contains(&uid), "{asked}");
}

#[test]
fn mail_goes_in_out_within_and_through() {
    let files = Files::new();
    let mail = files.at("mail.log");
    files.good(&["backfill", mail.to_str().unwrap()]);
    for (way, want) in [
        ("outbound", vec!["4AbcdEFGHz"]),
        ("inbound", vec!["(rejected)", "4AbcdEFGJz", "ROB.ROE@c.example"]),
        ("relay", vec!["(rejected)"]),
    ] {
        let out = files.good(&["search", "--direction", way]);
        for id in &want {
            assert!(out.contains(id), "{way}: {out}");
        }
        assert_eq!(out.lines().filter(|l| l.contains(" 2026-") || l.starts_with("2026-")).count(), want.len(), "{way}: {out}");
    }
    assert_eq!(files.run(&["search", "--direction", "internal"]).status.code(), Some(1));
    assert_eq!(files.run(&["search", "--direction", "up"]).status.code(), Some(2));
    let without = msgtrk(&files.at("index"), &["search", "--direction", "inbound"]);
    assert!(without.status.code() == Some(2) && String::from_utf8_lossy(&without.stderr).contains("[site] domains"));
}

/// Binds an envelope id to a record, as a grant does.
fn grant(store: &Store) {
    let id = "4AbcdEFGHz";
    let text = "granted AbC 27charactersofbase64xxxxxxx";
    let span = |field, value: &str| Span { field, start: text.find(value).unwrap() as u32, len: value.len() as u32 };
    let head = Head {
        kind: Kind::Binding,
        action: None,
        time: 1_772_438_500_000_001,
        precision: Precision::Micro,
        written: 1_772_438_500,
        ordinal: 0,
    };
    let mut events = vec![];
    encode(&mut events, &head, &[span(Field::EnvelopeId, "AbC"), span(Field::Certifier, "27characters")], text.as_bytes(), b"");
    let old = all(store).into_iter().find(|r| r.slot.queue_id == id).unwrap();
    let change = Change { slot: old.slot, mta: old.mta, role: old.role, reused: old.reused, events };
    Committer::new(store).unwrap().commit(Work { changes: vec![change], ..Work::default() }).unwrap();
}

#[test]
fn what_is_exported_and_imported_is_the_same() {
    let files = Files::new();
    files.fill();
    grant(&Store::open(&files.at("index")).unwrap());
    let want = all(&Store::open(&files.at("index")).unwrap());
    assert!(want.len() > 100 && want.iter().any(|r| r.reused));
    let plain = files.run(&["export"]);
    std::fs::write(files.at("a.jsonl"), &plain.stdout).unwrap();
    let daemon = files.daemon();
    files.good(&["export", "--output", files.at("a.jsonl.zst").to_str().unwrap()]);
    drop(daemon);
    let packed = std::fs::read(files.at("a.jsonl.zst")).unwrap();
    assert!(packed.len() * 2 < plain.stdout.len() && zstd::decode_all(packed.as_slice()).unwrap().len() == plain.stdout.len());
    for (name, served) in [("a.jsonl", false), ("a.jsonl.zst", true)] {
        let other = Files::new();
        std::fs::copy(files.at(name), other.at(name)).unwrap();
        if served {
            Store::open_or_create(&other.at("index")).unwrap();
        }
        let daemon = served.then(|| other.daemon());
        let said = other.good(&["import", other.at(name).to_str().unwrap()]);
        assert!(said.contains(&format!("{} records read, {} new or changed; 2 log files known", want.len(), want.len())), "{said}");
        assert_eq!(all(&Store::open(&other.at("index")).unwrap()), want);
        let again = other.good(&["import", other.at(name).to_str().unwrap()]);
        assert!(again.contains("records read, 0 new or changed"), "{again}");
        // The logs themselves are known.
        let (mail, fold) = (files.at("mail.log"), std::path::absolute("tests/fixtures/fold.log").unwrap());
        let read = other.good(&["backfill", "--year", "2026", mail.to_str().unwrap(), fold.to_str().unwrap()]);
        assert!(read.contains("0 read, 2 with nothing new"), "{read}");
        assert_eq!(other.run(&["import", other.at(name).to_str().unwrap(), "--positions"]).status.code(), Some(if served { 2 } else { 0 }));
        drop(daemon);
    }
    let part = files.run(&["export", "--since", "2026-03-02T08:01:00Z", "--until", "2026-03-02T08:01:01Z"]);
    let part = String::from_utf8(part.stdout).unwrap();
    assert!(part.contains("4AbcdEFGJz") && !part.contains("4AbcdEFGHz") && !part.contains("{\"source\""));
}

#[test]
fn a_damaged_export_is_named_by_its_line() {
    let files = Files::new();
    let mail = files.at("mail.log");
    files.good(&["backfill", mail.to_str().unwrap()]);
    let whole = String::from_utf8(files.run(&["export"]).stdout).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let records = lines.iter().filter(|l| l.starts_with("{\"record\"")).count();
    assert_eq!(lines.len(), records + 3);
    let broken = |change: &dyn Fn(&mut Vec<String>)| {
        let mut all: Vec<String> = lines.iter().map(|l| l.to_string() + "\n").collect();
        change(&mut all);
        all.concat()
    };
    let head = lines[0].replace("\"version\":1", "\"version\":2");
    for (text, stored, want) in [
        (broken(&|l| l.truncate(3)), 2, "line 4: the file is cut off here"),
        (broken(&|l| l[2].truncate(40)), 1, "line 3: "),
        (broken(&|l| l.insert(2, "garbage\n".into())), 1, "line 3: expected value"),
        (broken(&|l| l[2] = l[2].replace("\"events\":\"", "\"events\":\"AAAA")), 1, "line 3: "),
        (broken(&|l| drop(l.remove(1))), records - 1, "records and 1 log files were exported"),
        (broken(&|l| l[0] = head.clone() + "\n"), 0, "in version 2 of the format"),
        (broken(&|l| drop(l.remove(0))), 0, "line 1: this is no file that `msgtrk export` wrote"),
        (String::new(), 0, "line 1: "),
    ] {
        let other = Files::new();
        std::fs::write(other.at("x"), text).unwrap();
        let out = other.run(&["import", other.at("x").to_str().unwrap()]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && said.contains(want), "{want}: {said}");
        let store = Store::open(&other.at("index"));
        let got = store.map_or((0, 0), |s| (all(&s).len(), s.sources().unwrap().len()));
        assert_eq!(got, (stored, 0), "{want}");
        // The whole file afterwards.
        std::fs::write(other.at("x"), &whole).unwrap();
        other.good(&["import", other.at("x").to_str().unwrap()]);
        assert_eq!(all(&Store::open(&other.at("index")).unwrap()).len(), records);
    }
}

#[test]
fn backfill_says_what_is_too_old_to_be_kept() {
    let files = Files::new();
    let mail = files.at("mail.log");
    std::fs::write(files.at("msgtrk.toml"), "[retention]\nretention_days = 30\n").unwrap();
    let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    let mut log = LOG.to_string();
    log.push_str(
        &LOG.replace("2026-03-02T08:0", "@")
            .lines()
            .filter(|l| l.contains("4AbcdEFGHz"))
            .map(|l| format!("{now}{}\n", &l[l.find(" mx1").unwrap()..]))
            .collect::<String>()
            .replace("4AbcdEFGHz", "4ZZZZEFGHz"),
    );
    std::fs::write(&mail, log).unwrap();
    let said = files.good(&["backfill", mail.to_str().unwrap()]);
    assert!(said.contains("13 lines older than what is kept"), "{said}");
    let store = Store::open(&files.at("index")).unwrap();
    assert_eq!(all(&store).iter().map(|r| r.slot.queue_id.as_str()).collect::<Vec<_>>(), ["4ZZZZEFGHz"]);
}

/// A log of 200 days up to now, with enough mail for segments of their own for each month.
fn long_log() -> String {
    let now = chrono::Utc::now().timestamp();
    let mut log = String::new();
    for n in 0..16_000i64 {
        let at = now - (16_000 - n) * 1080;
        let at = chrono::DateTime::from_timestamp(at, 0).unwrap().format("%Y-%m-%dT%H:%M:%S+00:00");
        let id = format!("4{:0>9}z", format!("{n:X}").replace(['A', 'E'], "B"));
        log.push_str(&format!(
            "{at} mx1 postfix/smtpd[1]: {id}: client=h{n}.b.example[192.0.2.7]\n{at} mx1 postfix/cleanup[2]: {id}: message-id=<{n}.{id}@b.example>\n\
             {at} mx1 postfix/qmgr[3]: {id}: from=<from{n}@b.example>, size=2006, nrcpt=1 (queue active)\n\
             {at} mx1 postfix/smtp[4]: {id}: to=<to{n}@d.example>, relay=mx.d.example[198.51.100.4]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, \
             status=sent (250 2.0.0 Ok: queued as N{id})\n{at} mx1 postfix/qmgr[3]: {id}: removed\n"
        ));
    }
    log
}

#[test]
fn on_a_full_disk_what_is_too_old_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let p = |name: &str| dir.path().join(name);
    std::fs::create_dir(p("disk")).unwrap();
    std::fs::write(p("mail.log"), long_log()).unwrap();
    std::fs::write(p("new.log"), LOG.replace("2026-03-02T08:0", &chrono::Utc::now().format("%Y-%m-%dT%H:0").to_string())).unwrap();
    std::fs::write(p("all.toml"), "[retention]\nretention_days = 3000\n").unwrap();
    std::fs::write(p("some.toml"), "[retention]\nretention_days = 40\n").unwrap();
    let script = r#"set -e; cd "$1"; mount -t tmpfs -o size=48m none disk
        run() { c=0; "$2" --index disk/index --config "$1" backfill --quiet "$3" || c=$?; echo "code $c"; df -P disk | tail -1 | sed 's/  */ /g' | cut -d' ' -f3 | sed 's/^/used /'; }
        run all.toml "$2" mail.log
        cat /dev/zero > disk/full 2>/dev/null || true
        run all.toml "$2" new.log
        run some.toml "$2" new.log
        rm disk/full
        "$2" --index disk/index verify
        "$2" --index disk/index stats | grep records"#;
    let mut c = Command::new("unshare");
    c.args(["-rm", "sh", "-c", script, "sh"]).arg(dir.path()).arg(env!("CARGO_BIN_EXE_msgtrk"));
    let out = match c.env_remove("MSGTRK_INDEX").env("TZ", "UTC").stdin(Stdio::null()).output() {
        Ok(out) if out.status.success() => out,
        other => {
            eprintln!("skipped: no small file system can be mounted here: {other:?}");
            return;
        }
    };
    let (said, errors) = (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned());
    let of = |word: &str| said.lines().filter_map(|l| l.strip_prefix(word)?.trim().parse::<u64>().ok()).collect::<Vec<_>>();
    assert_eq!(of("code "), [0, 2, 0], "{said}{errors}");
    let used = of("used ");
    // Besides the reserve, most of what 160 of 200 days took came back.
    let reserve = 4096;
    assert!(used[1] - used[2] > reserve + (used[0] - reserve) / 2, "{said}{errors}");
    assert!(said.contains("all is well") && said.contains("messages at an MTA"), "{said}{errors}");
}

/// What is to stay of a message when people are masked: how it went, and by which ids it joins.
fn stays(index: &Index, id: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for j in index.trace(id) {
        let mut said: Vec<String> = j.endings.iter().map(|e| format!("{:?} {} {:?}", e.last.action, e.last.status, e.at)).collect();
        said.extend(j.edges.iter().map(|e| format!("{} {} {:?}", tail(&e.from), tail(&e.to), e.by)));
        said.extend(j.records.iter().flat_map(|r| &r.recipients).map(|x| format!("{:?} {} {:?}", x.action, x.status, x.remote_queue_id)));
        said.sort();
        all.push(said);
    }
    all.sort();
    all
}

/// A key without what may be a person's.
fn tail(key: &str) -> &str {
    key.split('/').nth(2).unwrap_or(key)
}

#[test]
fn real_logs_without_people_still_say_what_happened() {
    use msgtrk::config::{Anonymize, Retention};
    for anonymize in [Anonymize::Hash, Anonymize::Drop] {
        let index = Index::new();
        let logs = ["sample-logs/exim", "sample-logs/postfix/mail.log", "sample-logs/dovecot", "tests/fixtures/fold.log"];
        index.fill(&logs.map(PathBuf::from), "mx1");
        let before = all(&index.store());
        let mut ids: Vec<String> = before.iter().filter_map(|r| r.derive().message_id).collect();
        ids.sort();
        ids.dedup();
        let told: Vec<_> = ids.iter().map(|id| stays(&index, id)).collect();
        let store = index.store();
        let retention = Retention { anonymize_after_days: Some(1), anonymize, ..Retention::default() };
        let mut committer = Committer::new(&store).unwrap();
        let now = 4_000_000_000_000_000;
        assert!(before.len() > 1_000, "{}", before.len());
        assert_eq!(committer.upkeep(&retention, now).unwrap().masked as usize, before.len());
        assert_eq!(committer.upkeep(&retention, now).unwrap().masked, 0);
        drop(committer);
        let after = all(&store);
        let went = |all: &[StoredRecord]| {
            let of =
                |r: &StoredRecord| r.derive().recipients.iter().map(|x| format!("{:?} {} {}", x.action, x.status, x.attempts)).collect();
            let mut all: Vec<Vec<String>> = all.iter().map(of).collect();
            all.iter_mut().for_each(|r| r.sort());
            all.sort();
            all
        };
        assert_eq!(went(&after), went(&before));
        let mut people: Vec<String> = Vec::new();
        for r in &before {
            let r = r.derive();
            people.extend(r.recipients.iter().flat_map(|x| [x.original_recipient.clone(), x.final_recipient.clone()]));
            people.extend(r.envelope_from.into_iter().chain(r.auth_user).chain(r.subject).chain(r.client.ip));
        }
        people.retain(|p| p.len() > 5 && (p.contains('@') || p.contains('.')) && p != "127.0.0.1");
        people.sort();
        people.dedup();
        let kept: String = after.iter().flat_map(|r| r.ids(&r.derive())).map(|id| id + "\n").collect();
        let text: String = after.iter().flat_map(|r| r.events()).map(|e| String::from_utf8_lossy(e.whole()) + "\n").collect();
        // An id that holds an address is kept, and so are mail hosts.
        people.retain(|p| !kept.contains(p) && !store.is_mail_host(p).unwrap());
        let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || ".-_+=".contains(c));
        let stands = |line: &str, p: &str| {
            line.match_indices(p).any(|(at, _)| !joined(line[..at].chars().last()) && !joined(line[at + p.len()..].chars().next()))
        };
        let line_of = |p: &str| text.contains(p).then(|| text.lines().find(|l| stands(l, p))).flatten().map(|line| format!("{p}: {line}"));
        let left: Vec<String> = people.iter().filter_map(|p| line_of(p)).collect();
        assert!(people.len() > 300, "{}", people.len());
        assert_eq!(left, [] as [String; 0]);
        // Numbers mean nothing to another record: then only ids join.
        for (id, told) in ids.iter().zip(told).filter(|_| anonymize == Anonymize::Hash) {
            assert_eq!(stays(&index, id), told, "{id} {anonymize:?}");
        }
    }
}
