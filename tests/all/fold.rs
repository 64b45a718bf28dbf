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
