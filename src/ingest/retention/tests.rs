use super::*;
use crate::ledger::Change;
use crate::model::event::{Action, Field, Head, Kind, Span, encode};
use crate::model::query::Query;
use crate::model::record::{Role, Slot};
use crate::model::time::{Precision, SECOND};
use crate::store::Store;

/// 2026-03-02 08:00:00 UTC.
const T0: i64 = 1_772_438_400;

fn change(n: i64, at: i64, closed: bool) -> Change {
    let mut events = Vec::new();
    let mut put = |kind, action, time: i64, line: &str, field, value: &str| {
        let start = line.find(value).unwrap() as u32;
        let head = Head { kind, action, time: time * SECOND, precision: Precision::Second, written: time, ordinal: 0 };
        encode(&mut events, &head, &[Span { field, start, len: value.len() as u32 }], line.as_bytes(), b"");
    };
    put(Kind::Queued, None, at, &format!("from=<from{n}@b.example>"), Field::EnvelopeFrom, &format!("from{n}@b.example"));
    let to = format!("to{n}@c.example");
    put(Kind::Attempt, Some(Action::Relayed), at + 1, &format!("to=<{to}>"), Field::FinalRecipient, &to);
    if closed {
        put(Kind::Closed, None, at + 1, "removed", Field::Remark, "removed");
    }
    let slot = Slot { host: "mx1".into(), instance: "postfix".into(), queue_id: format!("4Q{n:06}") };
    Change { slot, mta: "postfix".into(), role: Role::Hop, reused: false, events }
}

fn days(n: i64) -> i64 {
    n * 86_400
}

fn segment(span: Option<(i64, i64)>, alive: u64, deleted: u64, bytes: u64) -> SegmentFigures {
    SegmentFigures { span, alive, deleted, bytes }
}

#[test]
fn the_oldest_segments_go_until_the_rest_fits() {
    let all = [
        segment(Some((300, 399)), 10, 0, 100),
        segment(Some((0, 99)), 10, 0, 100),
        segment(None, 1, 0, 5),
        segment(Some((100, 299)), 10, 0, 100),
    ];
    assert_eq!(cut_for_size(&all, 305), None);
    assert_eq!(cut_for_size(&all, 304), Some(100));
    assert_eq!(cut_for_size(&all, 205), Some(100));
    assert_eq!(cut_for_size(&all, 204), Some(300));
    // Of the newest only a part: half of it is too much, so half of its time goes.
    assert_eq!(cut_for_size(&all, 55), Some(349));
    assert_eq!(cut_for_size(&[segment(Some((0, 100)), 10, 0, 100)], 90), Some(10));
    // What is deleted already is not dropped once more.
    assert_eq!(cut_for_size(&[segment(Some((0, 100)), 5, 5, 100)], 50), None);
    assert_eq!(cut_for_size(&[], 0), None);
    assert_eq!(cut_for_size(&[segment(Some((i64::MIN, i64::MAX)), 0, 0, 9)], 0), None);
}

#[test]
fn cuts_are_whole_days_and_windows_follow_them() {
    let r = Retention { retention_days: Some(1), ..Retention::default() };
    assert_eq!(kept_from(&r, days(10) * SECOND + 5), Some(days(9) * SECOND));
    assert_eq!(kept_from(&Retention::default(), 5), None);
    assert_eq!((window(&r), window(&Retention::default())), (DAY, 30 * DAY));
    assert_eq!(kept_from(&Retention { retention_days: Some(u32::MAX), ..r }, i64::MIN / 2).map(|t| t < 0), Some(true));
}

#[test]
fn what_is_too_old_goes_as_whole_segments_and_what_is_queued_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(dir.path()).unwrap();
    let mut c = Committer::new(&store).unwrap();
    let keep = Retention { retention_days: Some(36), ..Retention::default() };
    assert_eq!(c.retain(&keep, (T0 + days(10)) * SECOND).unwrap(), Done::default());
    // Two months in one commit; 1,200 records a window.
    let changes = (0..24_000).map(|n| change(n, T0 + n * 216, true)).collect();
    c.commit(Work { changes, positions: Some("{}".into()), ..Work::default() }).unwrap();
    // Queued since the first day, last heard of on day 59.
    let mut queued = change(900_000, T0, false);
    queued.events.extend(change(900_000, T0 + days(59), false).events);
    c.commit(Work { changes: vec![queued, change(900_001, T0, false)], ..Work::default() }).unwrap();
    let before = store.segments().unwrap();
    let narrow = before.iter().filter(|s| s.span.is_some_and(|(a, z)| z - a < days(4) * SECOND)).count();
    assert!(narrow + 1 >= before.len(), "segments keep to windows: {before:?}");
    let now = (T0 + days(60)) * SECOND;
    let cut = kept_from(&keep, now).unwrap();
    let done = c.retain(&keep, now).unwrap();
    let first_kept = (cut - T0 * SECOND) / (216 * SECOND) + 1;
    assert_eq!(done.expired as i64, first_kept + 1);
    assert_eq!(c.retain(&keep, now).unwrap().expired, 0);
    let after = store.segments().unwrap();
    // Only the window that the cut goes through has deleted records left.
    assert!(after.iter().filter(|s| s.deleted > 0).count() <= 2, "{after:?}");
    let bytes = |all: &[SegmentFigures]| all.iter().map(|s| s.bytes).sum::<u64>();
    assert!(bytes(&after) * 100 < bytes(&before) * 75, "{} of {}", bytes(&after), bytes(&before));
    assert!(store.get("mx1/postfix/4Q900000").unwrap().is_some(), "still queued");
    assert!(store.get("mx1/postfix/4Q900001").unwrap().is_none(), "never heard of since");
    assert!(Store::verify(dir.path()).unwrap().is_ok());
    // A limit of size.
    let limit = bytes(&after) / 2;
    let small = Retention { max_index_bytes: Some(limit), ..keep };
    c.retain(&small, now).unwrap();
    c.retain(&small, now).unwrap();
    let left = bytes(&store.segments().unwrap());
    assert!(left <= limit && left * 5 > limit, "{left} of {limit}");
    assert!(free_reserve(dir.path()) && !free_reserve(dir.path()));
}

#[test]
fn older_records_are_anonymized_bit_by_bit_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(dir.path()).unwrap();
    let mut c = Committer::new(&store).unwrap();
    let changes = (0..12_500).map(|n| change(n, T0 + n, true)).collect();
    c.commit(Work { changes, ..Work::default() }).unwrap();
    c.commit(Work { changes: (20_000..20_010).map(|n| change(n, T0 + days(40), true)).collect(), ..Work::default() }).unwrap();
    let r = Retention { anonymize_after_days: Some(30), ..Retention::default() };
    let now = (T0 + days(50)) * SECOND;
    assert_eq!(c.retain(&r, now).unwrap(), Done { expired: 0, masked: 10_000, more: true });
    assert_eq!(c.retain(&r, now).unwrap(), Done { expired: 0, masked: 2_500, more: false });
    assert_eq!(c.retain(&r, now).unwrap(), Done::default());
    let all = store.find(&Query::default()).unwrap().records;
    let plain = all.iter().filter(|r| r.envelope_from.as_deref().is_some_and(|f| f.ends_with("@b.example"))).count();
    assert_eq!((all.len(), plain), (12_510, 10));
    let mut masks: Vec<_> = all.iter().filter_map(|r| r.envelope_from.clone()).collect();
    masks.sort();
    masks.dedup();
    assert_eq!(masks.len(), 12_510, "hashes tell people apart");
    // A late line brings its record back into the work; the same commit again does not bring people back.
    c.commit(Work { changes: vec![change(7, T0 + 100, true)], ..Work::default() }).unwrap();
    assert_eq!(c.retain(&r, now).unwrap().masked, 1);
    assert_eq!(store.get("mx1/postfix/4Q000007").unwrap().unwrap().derive().recipients.len(), 1);
    assert!(Store::verify(dir.path()).unwrap().is_ok());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(dir.path().join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
}
