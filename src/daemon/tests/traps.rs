//! The two traps of the index engine, before a whole daemon: a commit that follows a failed one publishes what is left
//! of that under its own payload; a merge that ends after a failed commit publishes the new documents under the old one.
//!
//! The rule that holds them off (after any error the writer is dropped, all is opened anew from the disk, documents are
//! deleted by key before they are added) is tested by what is on the disk after every step: the records are those of
//! the lines up to the position that is stored beside them, whichever write failed.

use super::lines::{Kind, Stamps, maker, records_of, sorted};
use super::run::{Setup, Writing, records_in};
use crate::config::Retention;
use crate::ingest::live::{LiveLoop, MOST};
use crate::ingest::positions::Positions;
use crate::ingest::wall::WallClock;
use crate::parse::Parsers;
use crate::source::BlockOptions;
use crate::source::live::Live;
use crate::source::tail::TailOptions;
use crate::source::tests::history::{Rng, fast_dir};
use crate::store::Store;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Place {
    dir: tempfile::TempDir,
    parsers: Arc<Parsers>,
}

impl Place {
    fn log(&self) -> PathBuf {
        self.dir.path().join("mail.log")
    }

    fn write(&self, lines: &[Vec<u8>]) {
        std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap().write_all(&lines.concat()).unwrap();
    }

    fn setup(&self, index: &Path) -> Setup {
        Setup {
            index: index.to_owned(),
            log: self.log(),
            parsers: Arc::clone(&self.parsers),
            options: TailOptions::default(),
            // What is masked makes a commit of its own, as on a full disk a drop does.
            retention: Retention { max_index_bytes: Some(u64::MAX), ..Retention::default() },
            most: MOST,
            clock: WallClock::system(),
        }
    }

    /// How many bytes of the log are stored; the records must be just those of that.
    fn check(&self, index: &Path, when: &str) -> u64 {
        let store = Store::open(index).unwrap();
        let length = Positions::of(&store).unwrap().tails.first().map_or(0, |t| t.length);
        let log = std::fs::read(self.log()).unwrap();
        let lines = log[..length as usize].split_inclusive(|b| *b == b'\n');
        let wanted = sorted(records_of(&self.parsers, "mx1", chrono::Utc::now().timestamp(), lines));
        assert!(records_in(index) == wanted, "{when}: the records are not those of the first {length} bytes");
        length
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn whichever_write_fails_records_and_positions_stay_those_of_one_moment() {
    let place = Place { dir: fast_dir(), parsers: Parsers::load(None).unwrap() };
    let (mut make, mut rng) = (maker(Kind::Sessions, Stamps::Rfc3339), Rng::new(3));
    let mut number = 0;
    let mut lines = |count: usize| -> Vec<Vec<u8>> {
        let some = (0..count).map(|_| {
            number += 1;
            make(&mut rng, number)
        });
        some.collect()
    };
    // Seven segments: the next commit makes the eighth, and merges them.
    let old = fast_dir();
    let mut now = Instant::now();
    {
        let (setup, second) = (place.setup(old.path()), Duration::from_secs(1));
        place.write(&lines(9));
        let thread = setup.thread();
        let writing = Writing::of(&thread);
        let (mut live, _) = setup.begin(&thread, &writing);
        for round in 0..7 {
            while live.turn(now) {}
            now += second;
            live.turn(now);
            assert!(writing.store(None));
            if round < 6 {
                place.write(&lines(9));
                now += 3 * second;
            }
        }
    }
    let before = place.check(old.path(), "at first");
    assert_eq!(Store::open(old.path()).unwrap().segments().unwrap().len(), 7);
    place.write(&lines(20));
    let (first, more) = (std::fs::metadata(place.log()).unwrap().len(), lines(20));
    let log = std::fs::read(place.log()).unwrap();
    let (mut failed, mut merged) = (0, false);
    // A commit has over a hundred and fifty.
    for n in (1..40).chain((40..).step_by(7)) {
        std::fs::write(place.log(), &log).unwrap();
        let index = fast_dir();
        copy(old.path(), index.path());
        let setup = place.setup(index.path());
        let thread = setup.thread();
        let writing = Writing::of(&thread);
        let (mut live, _) = setup.begin(&thread, &writing);
        let mut now = Instant::now();
        while live.turn(now) {}
        now += Duration::from_secs(1);
        live.turn(now);
        assert!(writing.is_out());
        let done = writing.store(Some(n));
        let at = place.check(index.path(), &format!("after write {n} failed"));
        assert!(at == before || at == first);
        assert!(!done || at == first);
        failed += u32::from(!done);
        // What comes by itself afterwards: merges that were left, retention; and further lines.
        thread.tidy(&mut writing.committer.borrow_mut());
        thread.retain(&mut writing.committer.borrow_mut());
        assert_eq!(place.check(index.path(), &format!("merges and retention after write {n} failed")), at);
        place.write(&more);
        now += Duration::from_secs(3);
        while live.turn(now) {}
        // What failed first, then what came since.
        // A write that the engine did not miss (a folder's sync after the commit) is an error of the commit after.
        assert!(writing.store(None) || writing.store(None));
        now += Duration::from_secs(1);
        live.turn(now);
        assert!(writing.store(None) || writing.store(None));
        assert!(place.check(index.path(), &format!("the last commit after write {n} failed")) > first);
        assert!(Store::verify(index.path()).unwrap().is_ok());
        merged |= Store::open(index.path()).unwrap().segments().unwrap().len() < 7;
        if done {
            break;
        }
    }
    eprintln!("{failed} writes");
    assert!(failed > 20 && merged, "{failed} writes of a commit and its merge, {merged}");
}

/// SIGHUP on a full disk: the loop leaves after some seconds, what it handed in is still out, and the writer takes one at a time.
#[test]
fn a_loop_begun_anew_hands_nothing_in_while_work_of_the_one_before_is_out() {
    let place = Place { dir: fast_dir(), parsers: Parsers::load(None).unwrap() };
    let (mut make, mut rng) = (maker(Kind::Unique, Stamps::Rfc3339), Rng::new(5));
    let lines: Vec<Vec<u8>> = (1..40).map(|n| make(&mut rng, n)).collect();
    let index = fast_dir();
    let setup = place.setup(index.path());
    let thread = setup.thread();
    let writing = Writing::of(&thread);
    let mut now = Instant::now();
    let mut seconds = |live: &mut LiveLoop| {
        for _ in 0..5 {
            now += Duration::from_secs(1);
            while live.turn(now) {}
        }
    };
    place.write(&lines[..10]);
    {
        let (mut live, _) = setup.begin(&thread, &writing);
        seconds(&mut live);
        assert!(writing.is_out() && !writing.store(Some(1)));
        // Read, not handed in.
        place.write(&lines[10..20]);
        seconds(&mut live);
    }
    place.write(&lines[20..30]);
    let (mut live, _) = setup.begin(&thread, &writing);
    seconds(&mut live);
    assert!(writing.store(None));
    place.check(index.path(), "the work that was out");
    place.write(&lines[30..]);
    seconds(&mut live);
    assert!(writing.store(None));
    let length = place.check(index.path(), "all");
    assert_eq!(length, lines.concat().len() as u64);
}

/// What cannot be stored as fast as it is written waits in its file, not in memory, and `status` is told how much that is.
#[test]
fn a_log_that_grows_faster_than_it_is_stored_is_read_as_far_as_memory_goes() {
    let place = Place { dir: fast_dir(), parsers: Parsers::load(None).unwrap() };
    let (mut make, mut rng) = (maker(Kind::Unique, Stamps::Rfc3339), Rng::new(7));
    let lines: Vec<Vec<u8>> = (1..3_000).map(|n| make(&mut rng, n)).collect();
    place.write(&lines);
    let index = fast_dir();
    let mut setup = place.setup(index.path());
    (setup.most, setup.options.blocks) = (64 << 10, BlockOptions { block_size: 16 << 10, max_line: 4 << 10 });
    let thread = setup.thread();
    let writing = Writing::of(&thread);
    let (mut live, tailer) = setup.begin(&thread, &writing);
    let mut now = Instant::now();
    let mut seconds = |live: &mut LiveLoop| {
        for _ in 0..3 {
            now += Duration::from_secs(1);
            while live.turn(now) {}
            assert!(thread.open.bytes() < 256 << 10, "{}", thread.open.bytes());
        }
    };
    // One portion is out, the next one fills the memory.
    seconds(&mut live);
    let behind = tailer.health()[0].behind;
    assert!(writing.is_out() && behind > 100 << 10, "{behind}");
    seconds(&mut live);
    assert_eq!(tailer.health()[0].behind, behind);
    let mut rounds = 0;
    while tailer.health()[0].behind > 0 || writing.is_out() || thread.open.bytes() > 0 {
        assert!(writing.store(None));
        seconds(&mut live);
        rounds += 1;
        assert!(rounds < 100);
    }
    assert!(rounds > 3);
    assert_eq!(place.check(index.path(), "all"), lines.concat().len() as u64);
}
