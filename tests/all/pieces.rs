//! R1 where it is hardest: one stream of lines, cut at any byte of a line's end into rotated files, some of them
//! compressed, read in several runs that stop anywhere, gives the records of one run over one file.

use crate::support::Index;
use proptest::prelude::*;
use proptest::sample;
use proptest::test_runner::{Config, TestRunner};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Every event of every record: key, time, ordinal, line.
fn all(index: &Index) -> Vec<(String, i64, u32, String)> {
    let mut out = Vec::new();
    for r in index.records() {
        out.extend(r.events().map(|e| (r.key.clone(), e.head.time, e.head.ordinal, String::from_utf8_lossy(e.line()).into_owned())));
    }
    out
}

fn reject(second: u32, who: u32) -> String {
    format!(
        "Mar  2 08:00:{second:02} mx1 postfix/smtpd[1]: NOQUEUE: reject: RCPT from a[192.0.2.1]: 554 5.7.1 <x@y>: Relay access denied; from=<a{who}@b> to=<x@y> proto=ESMTP helo=<h>"
    )
}

/// A line of what: which sort, and a number that tells such lines apart.
fn line(second: u32, what: u8, n: u32) -> String {
    let at = format!("Mar  2 08:00:{second:02}");
    let id = ["1A2B3C4D5E", "4AbcXy1zzz", "2A2B3C4D5E"][n as usize % 3];
    match what {
        0..=2 => reject(second, n % 2),
        3 => format!("{at} mx1 last message repeated {} times", 1 + n % 3),
        4 => format!(
            "{at} mx1 postfix/smtpd[1]: message repeated 2 times: [ {}]",
            reject(second, n % 2).split("]: ").skip(1).collect::<Vec<_>>().join("]: ")
        ),
        5 => format!("{at} mx1 postfix/smtpd[2]: {id}: client=c[192.0.2.2]"),
        6 => format!("{at} mx1 postfix/cleanup[3]: {id}: message-id=<{n}@x>"),
        7 => format!(
            "{at} mx1 postfix/smtp[4]: {id}: to=<r@s>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (connect to s[192.0.2.3]:25: Connection refused)"
        ),
        8 => format!("{at} mx1 postfix/qmgr[5]: {id}: removed"),
        9 => format!("{at} mx2 other[6]: nothing"),
        // Fragments of one Exim entry: part 1 and the rest come as two lines.
        10 => format!("{at} mx1 exim[7]: [1/2] 1uAbCd-00000{}-0A <= a@b H=h [192.0.2.9] P=esmtp S=100 ", n % 3),
        _ => format!("{at} mx1 exim[7]: [2/2] id=m{}@x", n % 3),
    }
}

fn log(lines: &[(bool, u8, u32)]) -> Vec<String> {
    let mut second = 0;
    let mut out = Vec::new();
    for (later, what, n) in lines {
        second += u32::from(*later);
        out.push(line(second.min(59), *what, *n));
    }
    out
}

fn gzip(text: &str) -> Vec<u8> {
    let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    w.write_all(text.as_bytes()).unwrap();
    w.finish().unwrap()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|l| format!("{l}\n")).collect()
}

/// Rotates the folder: `mail.log` to `mail.log.1`, that to `.2`, ... The one that becomes the second is compressed, if so asked.
fn rotate(dir: &Path, compress: bool) {
    for n in (1..20).rev() {
        for end in ["", ".gz"] {
            let from = dir.join(format!("mail.log.{n}{end}"));
            if from.exists() {
                std::fs::rename(from, dir.join(format!("mail.log.{}{end}", n + 1))).unwrap();
            }
        }
    }
    if dir.join("mail.log").exists() {
        std::fs::rename(dir.join("mail.log"), dir.join("mail.log.1")).unwrap();
    }
    let second = dir.join("mail.log.2");
    if compress && second.exists() {
        std::fs::write(dir.join("mail.log.2.gz"), gzip(&std::fs::read_to_string(&second).unwrap())).unwrap();
        std::fs::remove_file(second).unwrap();
    }
}

/// One thing that happens between two pieces of the log.
#[derive(Debug, Clone)]
struct Step {
    cut: sample::Index,
    rotate: bool,
    compress: bool,
    /// A run of backfill; with a budget of one byte it commits after each block.
    run: bool,
    small: bool,
    /// The run is told to stop after so many files.
    stop_after: Option<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    let stop = prop::option::weighted(0.3, 0usize..3);
    (any::<sample::Index>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), stop)
        .prop_map(|(cut, rotate, compress, run, small, stop_after)| Step { cut, rotate, compress, run, small, stop_after })
}

#[test]
fn a_stream_in_pieces_and_runs_is_the_stream() {
    let config = Config { cases: 24, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let lines = prop::collection::vec((prop::bool::weighted(0.2), 0u8..12, 0u32..6), 1..40);
    TestRunner::new(config)
        .run(&(lines, prop::collection::vec(step(), 0..5)), |(lines, mut steps)| {
            let lines = log(&lines);
            let whole = Index::new();
            let path: PathBuf = whole.dir.path().join("mail.log");
            std::fs::write(&path, text(&lines)).unwrap();
            whole.fill(&[path], "h");

            let index = Index::new();
            let dir = index.dir.path().join("log");
            std::fs::create_dir(&dir).unwrap();
            steps.sort_by_key(|s| s.cut.index(lines.len() + 1));
            // A file that begins with all that was read of another one is taken for a copy of it: no test of borders.
            let borders = steps.iter().filter(|s| s.rotate).map(|s| s.cut.index(lines.len() + 1));
            let mut firsts: Vec<&String> =
                [0].into_iter().chain(borders).collect::<std::collections::BTreeSet<_>>().iter().filter_map(|n| lines.get(*n)).collect();
            let all_firsts = firsts.len();
            firsts.sort();
            firsts.dedup();
            if firsts.len() < all_firsts {
                return Ok(());
            }
            let mut from = 0;
            let mut append = |to: usize| {
                let mut file = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("mail.log")).unwrap();
                file.write_all(text(&lines[from..to]).as_bytes()).unwrap();
                from = to;
            };
            for s in &steps {
                append(s.cut.index(lines.len() + 1));
                if s.run {
                    let budget = if s.small { 1 } else { 64 << 20 };
                    index.fill_until(std::slice::from_ref(&dir), budget, s.stop_after);
                }
                if s.rotate {
                    rotate(&dir, s.compress);
                }
            }
            append(lines.len());
            index.fill(std::slice::from_ref(&dir), "h");
            let (got, want) = (all(&index), all(&whole));
            prop_assert!(got == want, "{:#?}\nwant {:#?}\nlog {:#?}", got, want, lines);
            Ok(())
        })
        .unwrap();
}

fn events(files: &[(&str, &[String])]) -> usize {
    let index = Index::new();
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|(name, lines)| {
            let path = index.dir.path().join(name);
            std::fs::write(&path, text(lines)).unwrap();
            path
        })
        .collect();
    index.fill(&paths, "h");
    all(&index).len()
}

#[test]
fn siblings_that_overlap_double_nothing() {
    let lines: Vec<String> = [0, 1, 1, 2, 2, 3, 3, 3].map(|s| reject(s, 0)).into();
    assert_eq!(events(&[("mail.log", &lines)]), 8);
    assert_eq!(events(&[("mail.log.1", &lines[..6]), ("mail.log", &lines[1..])]), 8, "five lines are in both");
    assert_eq!(events(&[("mail.log.1", &lines[3..]), ("mail.log", &lines)]), 8);
    assert_eq!(events(&[("mail.log.1", &lines[..6]), ("mail.log", &lines[6..])]), 8, "within one second");
}

#[test]
fn refusals_of_one_second_are_told_apart_and_have_one_attempt() {
    let index = Index::new();
    let path = index.dir.path().join("a.log");
    std::fs::write(&path, text(&[reject(1, 0), reject(1, 1), reject(2, 1), reject(2, 1)])).unwrap();
    // The same with finer stamps and a zone.
    let fine: Vec<String> =
        [(1, 0), (1, 1), (2, 1), (2, 1)].map(|(s, who)| format!("2026-03-02T08:00:0{s}.250000+00:00{}", &reject(s, who)[15..])).into();
    index.fill(&[path], "h");
    let path = index.dir.path().join("b.log");
    std::fs::write(&path, text(&fine)).unwrap();
    index.fill(&[path], "h");
    let records: Vec<_> = index.records().iter().map(msgtrk::model::derive::derive).collect();
    let said: Vec<_> = records.iter().map(|r| (r.envelope_from.clone().unwrap(), r.recipients[0].attempts)).collect();
    let mut sorted = said.clone();
    sorted.sort();
    assert_eq!(sorted, [("a0@b".to_string(), 1), ("a1@b".to_string(), 1), ("a1@b".to_string(), 2)]);
    assert!(records.iter().all(|r| r.queue_id.is_none() && r.key.starts_with("mx1/postfix/17724384")), "{:?}", records[0].key);
}

#[test]
fn a_folder_is_read_without_the_index_in_it_and_what_is_no_log() {
    let index = Index::new();
    let lines = [reject(1, 0), reject(2, 0)];
    std::fs::write(index.dir.path().join("mail.log"), text(&lines)).unwrap();
    std::fs::write(index.dir.path().join("truth.jsonl"), "{\"a\":1}\n").unwrap();
    index.fill(&[], "h");
    let done = index.fill(&[index.dir.path().to_path_buf()], "h");
    assert_eq!((done.files, done.no_logs, done.counts.lines), (1, 1, 3), "{:?}", done.problems);
    assert!(done.barren.is_empty() && done.problems.is_empty() && !done.incomplete, "{:?} {:?}", done.barren, done.problems);
    // Named itself, it deserves a word; a compressed copy of what was read counts no line again.
    let done = index.fill(&[index.dir.path().join("truth.jsonl")], "h");
    assert_eq!(done.unchanged, 1);
    std::fs::write(index.dir.path().join("other.jsonl"), "{\"b\":1}\n").unwrap();
    assert_eq!(index.fill(&[index.dir.path().join("other.jsonl")], "h").barren.len(), 1);
    let lines_of = |index: &Index| -> u64 {
        let states = index.store().sources().unwrap();
        let states = states.iter().map(|s| serde_json::from_str::<msgtrk::source::FileState>(s).unwrap());
        states.map(|s| msgtrk::ingest::backfill::Extra::of(&s).counts.lines).sum()
    };
    assert_eq!(lines_of(&index), 4);
    std::fs::write(index.dir.path().join("mail.log.1.gz"), gzip(&text(&lines))).unwrap();
    let done = index.fill(&[index.dir.path().to_path_buf()], "h");
    assert_eq!((done.counts.lines, lines_of(&index)), (0, 4));
}
