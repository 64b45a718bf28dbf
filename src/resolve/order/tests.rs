use super::*;

#[test]
fn equal_events_are_counted() {
    let mut o = Ordinals::default();
    assert_eq!([o.next(1, 7), o.next(2, 7), o.next(1, 7), o.next(1, 8)], [0, 0, 1, 2]);
    for i in 100..100 + 2 * Ordinals::KEEP as u64 {
        o.next(i, 9);
    }
    assert_eq!(o.next(1, 9), 0, "forgotten after two generations");
}

fn stored<T: Serialize + serde::de::DeserializeOwned>(state: &T) -> (T, usize) {
    let json = serde_json::to_string(state).unwrap();
    (serde_json::from_str(&json).unwrap(), json.len())
}

#[test]
fn what_is_stored_counts_on_and_is_bounded() {
    let mut o = Ordinals::default();
    for second in 0..1000 {
        for id in 0..1000 {
            o.next(second * 1000 + id, second as i64);
        }
    }
    o.next(999_999, 999);
    let (mut again, bytes) = stored(&o.recent());
    assert!(bytes < 7000, "{bytes}");
    assert_eq!([again.next(999_999, 999), again.next(999_998, 999), again.next(999_999, 999)], [2, 1, 3]);
    assert_eq!(again.next(998_000, 999), 0, "an older second is forgotten");
    let (again, _) = stored(&again.recent());
    assert!(again.young.len() <= Ordinals::STORED);
}

#[test]
fn a_quiet_log_stores_little() {
    let mut o = Ordinals::default();
    for n in 0..10_000 {
        o.next(n, n as i64 * 600);
    }
    assert!(stored(&o.recent()).1 < 600);
}

#[test]
fn parts_are_joined_in_order_only() {
    let part = |part, of, continues| Fragment { part, of, continues, text: 2 };
    let mut f = Fragments::default();
    assert_eq!(f.push(b"a".into(), part(1, 3, true), b"H one", 1), None);
    assert_eq!(f.push(b"b".into(), part(2, 3, true), b"H lost", 1), None);
    f = stored(&f.recent()).0;
    assert_eq!(f.push(b"a".into(), part(2, 3, true), b"H two", 1), None);
    f = stored(&f.recent()).0;
    assert_eq!(f.push(b"a".into(), part(3, 3, false), b"H three", 1), Some(b"Honetwothree".to_vec()));
    assert_eq!(f.push(b"a".into(), part(1, 3, true), b"H one", 1), None);
    assert_eq!(f.push(b"a".into(), part(3, 3, false), b"H three", 1), None);
    assert!(f.open.is_empty());
}

#[test]
fn entries_that_never_end_are_bounded() {
    let mut f = Fragments::default();
    let line = vec![b'x'; 30_000];
    for n in 0..2000u32 {
        let part = Fragment { part: 1 + n % 2, of: 9, continues: true, text: 2 };
        f.push((n / 2).to_string().into(), part, &line, 1);
    }
    assert!(f.open.len() <= Fragments::MAX);
    assert!(stored(&f.recent()).1 < 24 * 1024);
}

#[test]
fn the_latest_line_of_a_host_is_found_within_reach() {
    let mut l = LatestLines::default();
    l.see(b"a", 0, b"one");
    l.see(b"a", 4, b"two");
    l.see(b"b", 8, b"three");
    l.advance(14);
    l = stored(&l.recent()).0;
    assert_eq!((l.of(b"a", 0), l.of(b"b", 0), l.of(b"c", 0)), (Some(&b"two"[..]), Some(&b"three"[..]), None));
    assert_eq!(l.of(b"a", LatestLines::REACH - 10), Some(&b"two"[..]));
    assert_eq!(l.of(b"a", LatestLines::REACH - 9), None);
    l.advance(LatestLines::REACH + 1);
    assert!(l.by_host.is_empty());
    for n in 0..1000 {
        l.see(format!("{n}").as_bytes(), 0, &[b'x'; 100]);
    }
    assert!(stored(&l.recent()).1 < 10 * 1024);
}
