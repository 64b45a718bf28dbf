//! Tests of the store as a whole.

use super::*;
use crate::model::event::{Action, Event, Field, Head, Kind, Span, encode};
use crate::model::query::{Pattern, Query, Sort};
use crate::model::record::{Role, Slot};
use crate::model::time::{Precision, SECOND};
use std::path::Path;

pub(super) const T0: i64 = 1_772_438_400;

fn event(kind: Kind, action: Option<Action>, at: i64, fields: &[(Field, &str)], line: &str) -> Vec<u8> {
    let (mut extra, mut spans) = (String::new(), vec![]);
    for (field, value) in fields {
        let start = match line.find(value) {
            Some(at) => at,
            None => {
                extra.push_str(value);
                line.len() + extra.len() - value.len()
            }
        };
        spans.push(Span { field: *field, start: start as u32, len: value.len() as u32 });
    }
    let head = Head { kind, action, time: at * SECOND, precision: Precision::Second, written: at, ordinal: 0 };
    let mut out = vec![];
    encode(&mut out, &head, &spans, line.as_bytes(), extra.as_bytes());
    out
}

fn record(host: &str, id: &str, at: i64, events: &[Vec<u8>]) -> StoredRecord {
    let slot = Slot { host: host.into(), instance: "postfix".into(), queue_id: id.into() };
    assert!(at > 0);
    StoredRecord { key: slot.key(), slot, reused: false, mta: "postfix".into(), role: Role::Hop, events: events.concat() }
}

fn arrival(id: &str, at: i64) -> Vec<u8> {
    event(
        Kind::Arrival,
        None,
        at,
        &[(Field::QueueId, id), (Field::ClientName, "mail.b.example"), (Field::ClientIp, "192.0.2.7")],
        &format!("Mar  2 08:00:00 mx1 postfix/smtpd[321]: {id}: client=mail.b.example[192.0.2.7]"),
    )
}

pub(super) fn mail(host: &str, id: &str, at: i64, from: &str, to: &str, action: Action) -> StoredRecord {
    let mid = format!("{id}.x@b.example");
    let queued = event(
        Kind::Queued,
        None,
        at,
        &[(Field::QueueId, id), (Field::MessageId, &mid)],
        &format!("Mar  2 08:00:00 {host} postfix/cleanup[322]: {id}: message-id=<{mid}>"),
    );
    let sender = event(
        Kind::Queued,
        None,
        at,
        &[(Field::QueueId, id), (Field::EnvelopeFrom, from), (Field::Size, "2006")],
        &format!("Mar  2 08:00:00 {host} postfix/qmgr[32]: {id}: from=<{from}>, size=2006, nrcpt=1 (queue active)"),
    );
    let (status, text) = match action {
        Action::Failed => ("5.1.1", "550 5.1.1 User unknown in virtual mailbox table"),
        Action::Delayed => ("4.2.0", "451 4.2.0 Greylisted, come back"),
        _ => ("2.0.0", "250 2.0.0 Ok: queued as NEXT"),
    };
    let attempt = event(
        Kind::Attempt,
        Some(action),
        at + 1,
        &[
            (Field::QueueId, id),
            (Field::FinalRecipient, to),
            (Field::Status, status),
            (Field::RemoteMta, "mx.c.example"),
            (Field::RemoteIp, "198.51.100.4"),
            (Field::Diagnostic, text),
        ],
        &format!(
            "Mar  2 08:00:01 {host} postfix/smtp[33]: {id}: to=<{to}>, relay=mx.c.example[198.51.100.4]:25, delay=1.2, \
            delays=0.1/0.01/0.5/0.59, dsn={status}, status=x ({text})"
        ),
    );
    let mut events = vec![arrival(id, at), queued, sender, attempt];
    if action != Action::Delayed {
        events.push(event(
            Kind::Closed,
            None,
            at + 1,
            &[(Field::QueueId, id)],
            &format!("Mar  2 08:00:01 {host} postfix/qmgr[32]: {id}: removed"),
        ));
    }
    record(host, id, at, &events)
}

fn simple(n: usize) -> StoredRecord {
    mail("mx1", &format!("4Q{n:05}"), T0 + n as i64, &format!("a{n}@b.example"), &format!("r{n}@c.example"), Action::Relayed)
}

pub(super) fn batch(put: Vec<StoredRecord>, positions: &str) -> Batch {
    Batch { put, positions: positions.into(), ..Batch::default() }
}

fn filled(dir: &Path) -> Store {
    let mut store = Store::open_or_create(dir).unwrap();
    let mut w = store.writer().unwrap();
    let mut put = vec![
        mail("mx1", "4A", T0, "Alice@b.example", "Rob@c.example", Action::Relayed),
        mail("mx2", "4B", T0 + 60, "", "x@sub.c.example", Action::Failed),
        mail("mx2", "4C", T0 + 120, "carol@d.example", "y@e.example", Action::Delayed),
        record("mx1", "4D", T0 + 180, &[arrival("4D", T0 + 180)]),
    ];
    let mut reject = mail("mx1", "9/192.0.2.7", T0 + 240, "spam@z.example", "rob@c.example", Action::Failed);
    reject.role = Role::Reject;
    let mut witness = mail("st1", "s9", T0 + 300, "w@b.example", "rob@c.example", Action::Delivered);
    witness.role = Role::Witness;
    put.extend([reject, witness]);
    w.apply(batch(put, "p1")).unwrap();
    drop(w);
    store = Store::open(store.dir()).unwrap();
    store
}

fn ids_found(store: &Store, q: &Query) -> Vec<String> {
    store.find(q).unwrap().records.iter().map(|r| r.key.rsplit('/').next().unwrap().to_owned()).collect()
}

fn pat(s: &str) -> Option<Pattern> {
    Some(Pattern::new(s))
}

#[test]
fn records_come_back_as_they_went_in_and_are_replaced_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let dir = &dir.path().join("index");
    let store = Store::open_or_create(dir).unwrap();
    assert_eq!(store.positions().unwrap(), None);
    let mut w = store.writer().unwrap();
    let mut a = simple(1);
    a.reused = true;
    a.key = a.slot.key_at(T0 + 1);
    let mut later = a.clone();
    later.key = a.slot.key_at(T0 + 900);
    w.apply(batch(vec![a.clone(), simple(2), later.clone(), simple(3)], "p1")).unwrap();
    let mut changed = simple(2);
    changed.events = mail("mx1", "4Q00002", T0 + 2, "new@b.example", "n@c.example", Action::Failed).events;
    // Twice in one batch: the later counts.
    let info = w.apply(Batch { remove: vec![simple(3).key], ..batch(vec![simple(2), changed.clone()], "p2") }).unwrap();
    assert_eq!((info.put, info.segments), (2, 2));
    assert!(store.get(&a.key).unwrap().is_none(), "not seen before reload");
    store.reload().unwrap();
    assert_eq!(store.get(&a.key).unwrap().unwrap(), a);
    assert_eq!(store.get(&changed.key).unwrap().unwrap(), changed);
    assert_eq!(store.get(&simple(3).key).unwrap(), None);
    assert_eq!(store.by_slot(&a.slot).unwrap(), vec![a.clone(), later]);
    assert_eq!(store.by_slot(&changed.slot).unwrap().len(), 1);
    assert_eq!(store.positions().unwrap().as_deref(), Some("p2"));
    assert_eq!(store.stats().unwrap().hops, 3);
    let known = w.known().unwrap();
    assert!(known.may_contain(&a.slot.key()) && known.may_contain(&changed.key) && !known.may_contain("mx9/postfix/nix"));
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir).unwrap().permissions()) & 0o777, 0o700);
    assert!(Store::verify(dir).unwrap().is_ok());
}

#[test]
fn positions_and_sources_survive_merges_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(dir.path()).unwrap();
    let mut w = store.writer().unwrap();
    let mut merges = 0;
    for n in 0..40 {
        let sources = vec![(format!("f{}", n % 3), format!("{{\"n\":{n}}}"))];
        let info = w.apply(Batch { sources, ..batch(vec![simple(n), simple(n / 2)], &format!("p{n}")) }).unwrap();
        assert!(info.segments < 16, "{info:?}");
        merges += info.merges;
        assert_eq!(store.positions().unwrap(), Some(format!("p{n}")), "after {} merges", info.merges);
    }
    assert!(merges > 3);
    let info = w.compact().unwrap();
    assert_eq!(info.segments, 1);
    drop(w);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.positions().unwrap().as_deref(), Some("p39"));
    let mut sources = store.sources().unwrap();
    sources.sort();
    assert_eq!(sources, ["{\"n\":37}", "{\"n\":38}", "{\"n\":39}"]);
    let stats = store.stats().unwrap();
    assert_eq!((stats.hops, stats.deleted, stats.segments), (40, 0, 1));
    assert!(Store::verify(dir.path()).unwrap().is_ok());
}

#[test]
fn a_second_writer_is_told_who_has_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(dir.path()).unwrap();
    let w = store.writer().unwrap();
    let error = store.writer().err().unwrap().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    drop(w);
    store.writer().unwrap();
}

#[test]
fn absent_foreign_and_old_indexes_are_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::open(dir.path()).err().unwrap().to_string().contains("backfill"));
    std::fs::write(dir.path().join("letter.txt"), "x").unwrap();
    assert!(matches!(Store::open_or_create(dir.path()), Err(StoreError::Damaged { .. })));
    let dir = tempfile::tempdir().unwrap();
    let mut b = tantivy::schema::Schema::builder();
    b.add_bytes_field("msgtrk_format_0", tantivy::schema::STORED);
    tantivy::Index::create_in_dir(dir.path(), b.build()).unwrap();
    let error = Store::open_or_create(dir.path()).err().unwrap().to_string();
    assert!(error.contains("format 0") && error.contains("rebuild"), "{error}");
}

#[test]
fn every_filter_finds_what_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let s = filled(dir.path());
    let q = Query::default;
    let check = |q: Query, want: &[&str]| assert_eq!(ids_found(&s, &q), want, "{q:?}");
    check(q(), &["192.0.2.7", "4C", "4B", "4A"]);
    check(Query { sort: Sort::Oldest, ..q() }, &["4A", "4B", "4C", "192.0.2.7"]);
    check(Query { from: pat("alice@B.example"), ..q() }, &["4A"]);
    check(Query { from: pat("<>"), ..q() }, &["4B"]);
    check(Query { from: pat("*@d.example"), ..q() }, &["4C"]);
    check(Query { from: pat("c*l@*"), ..q() }, &["4C"]);
    check(Query { to: pat("rob@c.example"), ..q() }, &["192.0.2.7", "4A"]);
    check(Query { to: pat("*@*c.example"), ..q() }, &["192.0.2.7", "4B", "4A"]);
    check(Query { to: pat("*.c.example"), ..q() }, &["4B"]);
    check(Query { message_id: pat("4A.x@b.example"), ..q() }, &["4A"]);
    check(Query { message_id: pat("4*.X@b.example"), ..q() }, &["4C", "4B", "4A"]);
    check(Query { queue_id: pat("4b"), ..q() }, &["4B"]);
    check(Query { envelope_id: pat("4b"), ..q() }, &[]);
    check(Query { host: pat("mx2"), ..q() }, &["4C", "4B"]);
    check(Query { client: pat("192.0.2.*"), host: pat("mx2"), ..q() }, &["4C", "4B"]);
    check(Query { action: Some(Action::Failed), ..q() }, &["192.0.2.7", "4B"]);
    check(Query { status: pat("5.*"), ..q() }, &["192.0.2.7", "4B"]);
    check(Query { status: pat("4.2.0"), relay: pat("198.51.100.4"), ..q() }, &["4C"]);
    check(Query { mta: pat("postfix"), since: Some((T0 + 60) * SECOND), until: Some((T0 + 120) * SECOND), ..q() }, &["4B"]);
    check(Query { open: true, ..q() }, &["4C"]);
    check(Query { role: Some(Role::Witness), ..q() }, &["s9"]);
    check(Query { role: Some(Role::Reject), ..q() }, &["192.0.2.7"]);
    check(Query { words: vec!["greylist".into()], ..q() }, &["4C"]);
    check(Query { words: vec!["known in virt".into(), "550".into()], ..q() }, &["192.0.2.7", "4B"]);
    check(Query { size: Some((1, 10)), ..q() }, &[]);
    check(Query { user: pat("*"), ..q() }, &[]);
    let stats = s.stats().unwrap();
    assert_eq!((stats.hops, stats.rejects, stats.witnesses, stats.open), (3, 1, 1, 1));
    assert_eq!(s.by_id("4A.x@b.example", 9, &mut Seen::default()).unwrap().len(), 1);
    assert_eq!(s.by_id("4a.x@b.example", 9, &mut Seen::default()).unwrap().len(), 0, "ids are exact");
    assert_eq!(s.by_id("s9", 9, &mut Seen::default()).unwrap().len(), 1);
}

#[test]
fn aborted_transactions_are_kept_but_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let s = filled(dir.path());
    assert!(s.get("mx1/postfix/4D").unwrap().is_some());
    let slot = Slot { host: "mx1".into(), instance: "postfix".into(), queue_id: "4D".into() };
    assert_eq!(s.by_slot(&slot).unwrap().len(), 1);
    assert!(s.by_id("4D", 9, &mut Seen::default()).unwrap().is_empty());
    assert_eq!(ids_found(&s, &Query { queue_id: pat("4D"), ..Query::default() }), Vec::<String>::new());
}

#[test]
fn limits_totals_and_order_hold_over_segments() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(dir.path()).unwrap();
    let mut w = store.writer().unwrap();
    for part in 0..5 {
        w.apply(batch((0..300).map(|n| simple(n * 5 + part)).collect(), "p")).unwrap();
    }
    store.reload().unwrap();
    let found = store.find(&Query { limit: Some(100), ..Query::default() }).unwrap();
    assert_eq!(found.total, Total::Exact(1500));
    let want: Vec<String> = (1400..1500).rev().map(|n| simple(n).key).collect();
    assert_eq!(found.records.iter().map(|r| r.key.clone()).collect::<Vec<_>>(), want);
    // Words and sizes are tested on the record: the total is then a lower bound, or exact when all was seen.
    let q = Query { size: Some((0, 9999)), limit: Some(10), ..Query::default() };
    assert!(matches!(store.find(&q).unwrap().total, Total::AtLeast(n) if n >= 10));
    let all = store.find(&Query { size: Some((0, 9999)), ..Query::default() }).unwrap();
    assert_eq!((all.records.len(), all.total), (1500, Total::Exact(1500)));
    // Far fewer matches than candidates: the search goes on behind the first page.
    let q = Query { size: Some((0, 9999)), from: pat("a7@b*"), limit: Some(1), sort: Sort::Oldest, ..Query::default() };
    assert_eq!(ids_found(&store, &q), ["4Q00007"]);
    let cover = store.coverage(None, None).unwrap();
    assert_eq!((cover.hosts[0].records, cover.hosts[0].first), (1500, T0 * SECOND));
    let (from, until) = ((T0 - 7200) * SECOND, (T0 + 9000) * SECOND);
    assert_eq!(cover.hosts[0].gaps(from, until, 600 * SECOND), [(from, T0 * SECOND), ((T0 + 1500) * SECOND, until)]);
    let info = w.apply(Batch { expire_before: Some((T0 + 1000) * SECOND), positions: "q".into(), ..Batch::default() }).unwrap();
    assert_eq!(info.put, 0);
    store.reload().unwrap();
    assert_eq!(store.stats().unwrap().hops, 500, "records that arrived before are gone");
}

#[test]
fn every_damaged_or_missing_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut seen = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name.ends_with(".lock") || name == "meta.json" {
            continue;
        }
        seen += 1;
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[0] ^= 1;
        for content in [Some(bad), Some(good[..good.len() / 2].to_vec()), None] {
            std::fs::remove_file(&path).unwrap();
            if let Some(c) = content {
                std::fs::write(&path, c).unwrap();
            }
            let report = Store::verify(dir.path()).unwrap();
            assert_eq!(report.damaged, std::slice::from_ref(&path));
            let _ = std::fs::write(&path, &good);
        }
    }
    assert!(seen > 3, "{seen}");
    let report = Store::verify(dir.path()).unwrap();
    assert!(report.is_ok() && report.records == 6 && report.files == seen, "{report:?} {seen}");
    std::fs::write(dir.path().join("meta.json"), "{").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Damaged { .. })));
}

/// Fails the n-th write for every n: after it the writer refuses, and the folder opened afresh holds either the old
/// or the new state in full, with the positions that belong to it; the batch applied again ends in the new state.
#[test]
fn a_failed_write_loses_nothing_and_doubles_nothing() {
    let old = tempfile::tempdir().unwrap();
    let mut w = Store::open_or_create(old.path()).unwrap().writer().unwrap();
    for part in 0..7 {
        w.apply(batch((part * 10..part * 10 + 10).map(simple).collect(), "old")).unwrap();
    }
    drop(w);
    let mut n = 0;
    loop {
        n += 1;
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(old.path()).unwrap().flatten() {
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        let mut w = Store::open(dir.path()).unwrap().writer().unwrap();
        let new = || batch((65..100).map(simple).collect(), "new");
        let failed = w.apply_failing_at(n, new());
        if let Ok(info) = failed {
            assert!(n > 20 && info.merges == 1, "{n} writes, a merge's among them: {info:?}");
            break;
        }
        let Err(error) = failed else { unreachable!() };
        assert!(error.is_storage_full(), "write {n}: {error}");
        assert!(matches!(w.apply(new()), Err(StoreError::Stopped { .. })));
        drop(w);
        let check = |store: &Store, full: bool| {
            let want = if full { 100 } else { 70 };
            assert_eq!(store.stats().unwrap().hops, want, "write {n}");
            assert!((0..want as usize).all(|i| store.get(&simple(i).key).unwrap().is_some()));
        };
        let store = Store::open(dir.path()).unwrap();
        check(&store, store.positions().unwrap().as_deref() == Some("new"));
        let mut w = store.writer().unwrap();
        w.apply(new()).unwrap();
        store.reload().unwrap();
        check(&store, true);
        assert!(Store::verify(dir.path()).unwrap().is_ok());
    }
}

#[test]
fn readers_of_another_handle_go_on_while_a_writer_merges() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(dir.path()).unwrap();
    let mut w = store.writer().unwrap();
    w.apply(batch(vec![simple(0)], "p")).unwrap();
    let path = dir.path().to_owned();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let reader = std::thread::spawn(move || {
        let store = Store::open(&path).unwrap();
        let mut seen = 0;
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            let found = store.find(&Query::default()).unwrap().records.len();
            assert!(found >= seen);
            seen = found;
            store.reload().unwrap();
        }
    });
    for n in 0..60 {
        w.apply(batch(vec![simple(n)], "p")).unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    reader.join().unwrap();
}

#[test]
fn hostile_stored_bytes_are_no_record() {
    for bytes in [&b""[..], b"\x02", b"\x02h\xff\xff\xff\xff\xff\xff", b"\0h\x05abc", b"\0x"] {
        assert!(schema::decode(bytes).is_none());
    }
    assert!(Event::decode(b"").is_none());
}

#[test]
fn a_bulk_batch_over_windows_keeps_them_apart_and_bears_a_failure() {
    let month = 30 * 86_400;
    let many = |from: i64| -> Vec<StoredRecord> {
        let one = |n: i64| mail("mx1", &format!("4Q{n:05}"), T0 + n % 3 * month + n, "a@b.example", "r@c.example", Action::Relayed);
        (from..from + 3_300).map(one).collect()
    };
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_or_create(dir.path()).unwrap();
    let mut w = store.writer().unwrap();
    w.apply(batch(many(0), "first")).unwrap();
    let span = |s: &SegmentFigures| s.span.map(|(a, z)| (z - a) / SECOND);
    store.reload().unwrap();
    let segments = store.segments().unwrap();
    assert!(segments.len() >= 3 && segments.iter().all(|s| span(s).unwrap() < 2 * 3_600), "{segments:?}");
    assert_eq!(segments.iter().map(|s| s.alive).sum::<u64>(), 3_300);
    let mut failed = 0;
    for n in [1, 9, 30, 60] {
        let (from, name) = (4_000 * n as i64, format!("p{n}"));
        let done = w.apply_failing_at(n, batch(many(from), &name));
        if done.is_err() {
            failed += 1;
            drop(w);
            store = Store::open(dir.path()).unwrap();
            // Before the last commit nothing says that the batch was read, whatever there is of its records.
            let read = store.positions().unwrap().as_deref() == Some(name.as_str());
            assert!(!read || store.stats().unwrap().hops.is_multiple_of(3_300), "{n}");
            w = store.writer().unwrap();
            w.apply(batch(many(from), &name)).unwrap();
        }
        store.reload().unwrap();
        assert_eq!(store.positions().unwrap(), Some(name));
        assert_eq!(store.stats().unwrap().hops, 3_300 * (1 + [1, 9, 30, 60].iter().filter(|m| **m <= n).count() as u64));
    }
    assert!(failed >= 3, "{failed}");
    drop(w);
    assert!(Store::verify(dir.path()).unwrap().is_ok());
}
