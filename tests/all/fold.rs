//! R1: a record is a set of events. Whatever the order of the sources, however often and in how many
//! pieces and runs a log is read, the records are the same.

use crate::support::Index;
use msgtrk::model::record::StoredRecord;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::path::{Path, PathBuf};

/// Real lines of two hosts and three programs, with bounces, forwards, retries and short ids that return.
const LOG: &str = include_str!("../fixtures/fold.log");

fn write(dir: &Path, name: &str, lines: &[&str]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    path
}

/// Everything a record is; of two stamps of one event the finer one.
fn plain(records: Vec<StoredRecord>) -> Vec<(String, Vec<(i64, String)>)> {
    let event = |e: msgtrk::model::event::Event| (e.head.time, String::from_utf8_lossy(e.line()).into_owned());
    records.into_iter().map(|r| (r.key.clone(), r.events().map(event).collect())).collect()
}

fn whole() -> Vec<(String, Vec<(i64, String)>)> {
    let index = Index::new();
    let lines: Vec<&str> = LOG.lines().collect();
    let path = write(index.dir.path(), "all.log", &lines);
    index.fill(&[path], "h");
    plain(index.records())
}

/// Lines of one second stay in one piece: equal lines of one second are counted within their source.
fn pieces(cuts: &[prop::sample::Index]) -> Vec<Vec<&'static str>> {
    let lines: Vec<&str> = LOG.lines().collect();
    let mut at: Vec<usize> = cuts.iter().map(|c| c.index(lines.len())).collect();
    for a in &mut at {
        while *a > 0 && *a < lines.len() && lines[*a][..19] == lines[*a - 1][..19] {
            *a += 1;
        }
    }
    at.extend([0, lines.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| lines[w[0]..w[1]].to_vec()).filter(|p| !p.is_empty()).collect()
}

#[test]
fn order_copies_pieces_and_restarts_do_not_matter() {
    let want = whole();
    assert!(want.len() > 40, "{} records", want.len());
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    let strategy = (
        prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        any::<u64>(),
        prop::collection::vec(any::<bool>(), 8),
        prop::collection::vec(any::<bool>(), 16),
    );
    TestRunner::new(config)
        .run(&strategy, |(cuts, seed, twice, restart)| {
            let index = Index::new();
            let mut parts = pieces(&cuts);
            // A piece that is there twice is another copy of the same log: its name and one byte behind it differ.
            for (n, again) in twice.iter().enumerate() {
                if *again && n < parts.len() {
                    let copy = parts[n].clone();
                    parts.push(copy);
                }
            }
            let mut order: Vec<usize> = (0..parts.len()).collect();
            order.sort_by_key(|n| seed.rotate_left(*n as u32 * 7) ^ (*n as u64).wrapping_mul(0x9E37_79B9));
            let mut batch = Vec::new();
            for (step, n) in order.iter().enumerate() {
                let mut lines = parts[*n].clone();
                let comment = format!("Mar  2 08:00:00 h copy[{step}]: nothing");
                lines.insert(0, &comment);
                batch.push(write(index.dir.path(), &format!("part-{}.log", ["a", "b", "c", "d"][step % 4].repeat(step / 4 + 1)), &lines));
                if restart[step % restart.len()] {
                    index.fill_with(&batch, "h", 1);
                    batch.clear();
                }
            }
            index.fill(&batch, "h");
            prop_assert_eq!(plain(index.records()), want.clone());
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_copy_with_finer_stamps_refines_and_doubles_nothing() {
    let index = Index::new();
    let coarse: Vec<&str> = LOG.lines().collect();
    let fine: Vec<String> = coarse.iter().enumerate().map(|(n, l)| fine_stamp(l, n)).collect();
    let fine: Vec<&str> = fine.iter().map(String::as_str).collect();
    index.fill(&[write(index.dir.path(), "coarse.log", &coarse)], "h");
    let before = plain(index.records());
    index.fill(&[write(index.dir.path(), "fine.log", &fine)], "h");
    let after = plain(index.records());
    assert_eq!(before.len(), after.len());
    for (b, a) in before.iter().zip(&after) {
        assert_eq!(b.0, a.0);
        assert_eq!(b.1.len(), a.1.len(), "{}", b.0);
        assert!(a.1.iter().all(|(time, line)| time % 1_000_000 != 0 && line.starts_with("2026-")), "{}", a.0);
    }
    let again = Index::new();
    again.fill(&[write(again.dir.path(), "fine.log", &fine)], "h");
    again.fill(&[write(again.dir.path(), "coarse.log", &coarse)], "h");
    assert_eq!(plain(again.records()), after);
}

/// The RFC 3164 stamp of a line as RFC 3339 with decimals, UTC.
fn fine_stamp(line: &str, n: usize) -> String {
    let month =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"].iter().position(|m| *m == &line[..3]).unwrap()
            + 1;
    format!("2026-{month:02}-{:0>2}T{}.{:06}+00:00{}", line[4..6].trim(), &line[7..15], n % 900_000 + 1, &line[15..])
}

#[test]
fn equal_lines_of_one_second_are_as_many_as_they_are() {
    let index = Index::new();
    let reject = "Mar  2 08:00:00 mx1 postfix/smtpd[1]: NOQUEUE: reject: RCPT from a[192.0.2.1]: 554 5.7.1 <x@y>: Relay access denied; from=<a@b> to=<x@y> proto=ESMTP helo=<h>";
    let repeated = "Mar  2 08:00:01 mx1 postfix/smtpd[1]: message repeated 3 times: [ NOQUEUE: reject: RCPT from a[192.0.2.1]: 554 5.7.1 <x@y>: Relay access denied; from=<a@b> to=<x@y> proto=ESMTP helo=<h>]";
    let path = write(index.dir.path(), "a.log", &[reject, reject, repeated]);
    let other = write(index.dir.path(), "b.log", &["Mar  2 08:00:00 mx1 other[1]: x", reject, reject, repeated]);
    index.fill(&[path], "h");
    index.fill(&[other], "h");
    let events: usize = index.records().iter().map(|r| r.events().count()).sum();
    assert_eq!(events, 5);
}

#[test]
fn a_rotated_series_counts_equal_lines_over_its_border() {
    let index = Index::new();
    let reject = "Mar  2 08:00:00 mx1 postfix/smtpd[1]: NOQUEUE: reject: RCPT from a[192.0.2.1]: 554 5.7.1 <x@y>: Relay access denied; from=<a@b> to=<x@y> proto=ESMTP helo=<h>";
    let newer = write(index.dir.path(), "mail.log", &[reject, "Mar  2 08:00:05 mx1 other[1]: y"]);
    let older = write(index.dir.path(), "mail.log.1", &["Mar  2 07:00:00 mx1 other[1]: x", reject]);
    index.fill(&[newer, older], "h");
    assert_eq!(index.records().iter().map(|r| r.events().count()).sum::<usize>(), 2);
}

/// Short ids that return, of messages that live less than a second, one with two Message-ID headers; bounces have no arrival.
/// `(second, micros, text)`.
fn short_lives() -> Vec<(u32, u32, String)> {
    let mut lines = Vec::new();
    for life in 0..6u32 {
        let (at, id) = (life * 50, format!("9A4D6A0683{}", life % 2));
        let mut put = |micros: u32, text: String| lines.push((at + micros / 1_000_000, micros % 1_000_000, text));
        if life % 3 != 2 {
            put(200_000, format!("smtpd[1]: {id}: client=c.example[192.0.2.1]"));
        }
        put(210_000, format!("cleanup[2]: {id}: message-id=<{life}@c.example>"));
        if life % 3 == 0 {
            put(220_000, format!("cleanup[2]: {id}: message-id=<second-{life}@c.example>"));
        }
        put(300_000, format!("qmgr[3]: {id}: from=<s{life}@c.example>, size=420, nrcpt=1 (queue active)"));
        let over = if life % 2 == 0 { 0 } else { 900_000 };
        put(
            500_000 + over,
            format!(
                "local[4]: {id}: to=<r@o.example>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to maildir)"
            ),
        );
        put(500_001 + over, format!("qmgr[3]: {id}: removed"));
    }
    lines
}

fn rendered(line: &(u32, u32, String), fine: bool) -> String {
    let (second, micros, text) = line;
    let (minute, second) = (second / 60, second % 60);
    match fine {
        true => format!("2026-03-02T08:{minute:02}:{second:02}.{micros:06}+00:00 mx1 postfix/{text}"),
        false => format!("Mar  2 08:{minute:02}:{second:02} mx1 postfix/{text}"),
    }
}

#[test]
fn short_ids_of_short_lives_are_the_same_messages_in_every_copy() {
    let lives = short_lives();
    let words = |index: &Index| -> Vec<(String, Vec<String>)> {
        let word = |e: msgtrk::model::event::Event| {
            let line = String::from_utf8_lossy(e.line()).into_owned();
            line.split_once(" mx1 ").unwrap().1.to_string()
        };
        let each = |r: StoredRecord| {
            let mut all: Vec<String> = r.events().map(word).collect();
            all.sort();
            (r.key.clone(), all)
        };
        index.records().into_iter().map(each).collect()
    };
    let coarse: Vec<String> = lives.iter().map(|l| rendered(l, false)).collect();
    let index = Index::new();
    index.fill(&[write(index.dir.path(), "all.log", &coarse.iter().map(String::as_str).collect::<Vec<_>>())], "h");
    let want = words(&index);
    assert_eq!(want.len(), 6, "{want:?}");
    let config = Config { cases: 8, max_shrink_iters: 8, failure_persistence: None, ..Config::default() };
    // For each line: whether the coarse copy has it, whether the fine one has, which file it stands in, in which order the files come.
    let strategy = (prop::collection::vec((0..3u8, 0..3usize), lives.len()), any::<u8>(), any::<bool>());
    TestRunner::new(config)
        .run(&strategy, |(copies, order, restart)| {
            let index = Index::new();
            let mut files: Vec<Vec<String>> = vec![vec![]; 6];
            for (line, (copy, place)) in lives.iter().zip(&copies) {
                if *copy != 1 {
                    files[*place].push(rendered(line, false));
                }
                if *copy != 0 {
                    files[3 + *place].push(rendered(line, true));
                }
            }
            let name = |n: usize| ["a", "b", "c", "d", "e", "f"][(n + usize::from(order)) % 6];
            let mut paths = Vec::new();
            for n in (0..6).map(|n| (n * 5 + usize::from(order)) % 6) {
                if files[n].is_empty() {
                    continue;
                }
                let lines: Vec<&str> = files[n].iter().map(String::as_str).collect();
                paths.push(write(index.dir.path(), &format!("{}.log", name(n).repeat(n + 1)), &lines));
                if restart {
                    index.fill_with(&paths, "h", 1);
                }
            }
            index.fill(&paths, "h");
            prop_assert_eq!(words(&index), want.clone());
            Ok(())
        })
        .unwrap();
}
