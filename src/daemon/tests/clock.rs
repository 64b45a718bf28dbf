//! A wall clock that jumps while lines come: none is lost or doubled, years are right, files that are turned are found,
//! and nothing is dropped as too old.

use super::lines::lines_of;
use super::run::{Setup, Writing, records_in};
use crate::config::Retention;
use crate::ingest::live::{LiveLoop, MOST};
use crate::ingest::wall::WallClock;
use crate::model::event::decode_all;
use crate::parse::Parsers;
use crate::source::tail::TailOptions;
use crate::source::tests::history::fast_dir;
use crate::store::Store;
use chrono::{DateTime, NaiveDate};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// A host whose wall clock can be set, and that writes yearless stamps by it.
struct Host {
    dir: tempfile::TempDir,
    /// Seconds since 1970 that the wall clock shows.
    wall: Arc<AtomicI64>,
    /// Seconds that really passed.
    passed: Arc<AtomicU64>,
    begun: Instant,
    /// Of each line, what its stamp means.
    written: BTreeMap<String, i64>,
}

impl Host {
    fn log(&self) -> PathBuf {
        self.dir.path().join("mail.log")
    }

    fn now(&self) -> Instant {
        self.begun + Duration::from_secs(self.passed.load(SeqCst))
    }

    fn pass(&self, seconds: u64) {
        self.passed.fetch_add(seconds, SeqCst);
        self.wall.fetch_add(seconds as i64, SeqCst);
    }

    fn jump(&self, seconds: i64) {
        self.wall.fetch_add(seconds, SeqCst);
    }

    /// Lets the loop do what it does in some seconds.
    fn read(&self, live: &mut LiveLoop) {
        for _ in 0..4 {
            self.pass(1);
            while live.turn(self.now()) {}
        }
    }

    /// A message's line, written now.
    fn write(&mut self) {
        self.pass(1);
        let (at, n) = (self.wall.load(SeqCst), self.written.len());
        let stamp = DateTime::from_timestamp(at, 0).unwrap().format("%b %e %H:%M:%S");
        let line = format!("{stamp} mx1 postfix/cleanup[2]: 4AB{n:07}zGHJK: message-id=<m{n}@c.test>");
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        writeln!(log, "{line}").unwrap();
        log.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(at.max(0) as u64)).unwrap();
        self.written.insert(line, at);
    }
}

#[test]
fn a_clock_that_jumps_loses_and_doubles_nothing_and_drops_nothing() {
    let new_year = NaiveDate::from_ymd_opt(2027, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp();
    let mut host = Host {
        dir: fast_dir(),
        wall: Arc::new(AtomicI64::new(new_year - 4 * HOUR)),
        passed: Arc::default(),
        begun: Instant::now(),
        written: BTreeMap::new(),
    };
    let (wall, passed, begun) = (Arc::clone(&host.wall), Arc::clone(&host.passed), host.begun);
    let clock = WallClock::new(Arc::new(move || wall.load(SeqCst) * 1_000_000), move || begun + Duration::from_secs(passed.load(SeqCst)));
    let index = host.dir.path().join("index");
    let setup = Setup {
        index: index.clone(),
        log: host.log(),
        parsers: Parsers::load(None).unwrap(),
        options: TailOptions::default(),
        retention: Retention { retention_days: Some(30), ..Retention::default() },
        most: MOST,
        clock,
    };
    // Each part is a process of its own that is killed at its end; what it did not store is read again by the next.
    let jumps: [&[i64]; 4] = [
        // Forward over the new year and back.
        &[0, 6 * HOUR, -6 * HOUR, 0],
        // Backwards by hours, and right again.
        &[-5 * HOUR, 0, 5 * HOUR],
        // The new year comes in truth (hours pass); then a clock that is a year ahead, and right again.
        &[YEAR, 0, -YEAR, 0],
        // Back over the new year, and right again.
        &[-9 * HOUR, 0, 9 * HOUR, 0],
    ];
    for (part, jumps) in jumps.iter().enumerate() {
        let thread = setup.thread();
        let writing = Writing::of(&thread);
        let (mut live, _) = setup.begin(&thread, &writing);
        if part == 2 {
            (0..5).for_each(|_| host.pass(HOUR as u64));
        }
        for jump in *jumps {
            host.jump(*jump);
            host.write();
            host.write();
            // Found by the rescan timer, which goes by the time that really passes: there are no notifications.
            host.read(&mut live);
            let read = thread.open.bytes() > 0 || writing.is_out();
            assert!(read, "part {part}, jump {jump}: lines are read within seconds");
            host.read(&mut live);
            assert!(writing.store(None));
            thread.retain(&mut writing.committer.borrow_mut());
        }
        // Turned while the clock is wrong or right: its successor is found all the same.
        std::fs::rename(host.log(), host.dir.path().join(format!("mail.log.{}", 9 - part))).unwrap();
        host.write();
        host.read(&mut live);
        assert_eq!(thread.figures.status().retention.dropped, 0, "part {part}");
    }
    let thread = setup.thread();
    let writing = Writing::of(&thread);
    let (mut live, _) = setup.begin(&thread, &writing);
    for _ in 0..10 {
        host.read(&mut live);
        assert!(writing.store(None));
    }
    let records = records_in(&index);
    let mut lines: Vec<String> = lines_of(&records).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    lines.sort();
    assert_eq!(lines, host.written.keys().cloned().collect::<Vec<_>>(), "every line once");
    for event in records.iter().flat_map(|(_, events)| decode_all(events)) {
        let line = String::from_utf8_lossy(event.line()).into_owned();
        let (time, truth) = (event.head.time / 1_000_000, host.written[&line]);
        // Of a clock that is a year ahead nothing shows in a stamp without a year.
        assert!(time == truth || time == truth - YEAR, "{line}: {time}, not {truth}");
    }
    // A year ahead for a day and more is the truth: what is older than what is kept goes.
    host.jump(YEAR);
    thread.retain(&mut writing.committer.borrow_mut());
    assert_eq!(Store::open(&index).unwrap().stats().unwrap().hops, host.written.len() as u64);
    host.pass(25 * HOUR as u64);
    thread.retain(&mut writing.committer.borrow_mut());
    assert_eq!(Store::open(&index).unwrap().stats().unwrap().hops, 0);
    let status = thread.figures.status();
    assert_eq!((status.retention.dropped, status.retention.problem), (host.written.len() as u64, None));
    assert!(status.retention.last_dropped.is_some());
}
