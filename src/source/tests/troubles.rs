//! What the system does to a tailer: notifications that are lost or too many, descriptors that run out, permissions and
//! folders that come and go (T8 and T9 of the bar for tailing), and real races with who writes and turns the files.

use super::history::fast_dir;
use super::tail::Bench;
use super::tail_model::Stored;
use super::*;
use crate::source::live::{Activity, Live};
use crate::source::tail::{Hint, TailOptions};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// T8: with every notification lost, and with all of them.
#[test]
fn notifications_make_it_sooner_and_nothing_else() {
    let mut b = Bench::new();
    b.add("mail.log", b"a\n");
    b.after(1);
    b.add("mail.log", b"b\n");
    b.now += Duration::from_millis(1);
    b.pull();
    assert_eq!(b.taken(), "", "nobody said anything");
    b.tailer.hint(Hint::Written(b.path("mail.log")));
    b.pull();
    assert_eq!(b.taken(), "b\n");
    b.add("mail.log", b"c\n");
    assert_eq!(b.after(3), "c\n", "the timer is the truth");
}

/// T8: the real notify crate.
#[test]
fn real_notifications_arrive_and_sleep_while_nothing_happens() {
    let woken = Arc::new(AtomicU64::new(0));
    let count = woken.clone();
    let wake: crate::source::live::Wake = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut b = Bench::with(&["mail.log"], TailOptions { wake: Some(wake), rescan: Duration::from_secs(3600), ..TailOptions::default() });
    b.add("mail.log", b"a\n");
    b.pull();
    assert_eq!(b.taken(), "a\n");
    if !b.problems().is_empty() {
        eprintln!("skipped: no notifications to be had here");
        return;
    }
    let wait = |b: &mut Bench, expected: &str| {
        let mut all = String::new();
        for _ in 0..400 {
            std::thread::sleep(Duration::from_millis(10));
            b.now += Duration::from_millis(10);
            b.pull();
            all += &b.taken();
            if all == expected {
                return;
            }
        }
        panic!("{all:?} in place of {expected:?}");
    };
    b.add("mail.log", b"b\n");
    wait(&mut b, "b\n");
    fs::rename(b.path("mail.log"), b.path("mail.log.1")).unwrap();
    b.add("mail.log", b"c\n");
    wait(&mut b, "c\n");
    let before = woken.load(Ordering::Relaxed);
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(10));
        b.pull();
    }
    assert_eq!(woken.load(Ordering::Relaxed), before, "reading wakes nobody");
}

/// T8: the limit of inotify is reached.
#[test]
fn without_notifications_files_are_polled_until_there_are_some() {
    let mut b = Bench::with(
        &["mail.log"],
        TailOptions { wake: Some(Arc::new(|| {})), rescan: Duration::from_secs(3600), ..TailOptions::default() },
    );
    b.tailer.fail_watch(true);
    b.add("mail.log", b"a\n");
    assert_eq!(b.after(1), "a\n");
    let problems = b.problems();
    assert!(problems.len() == 1 && problems[0].0.contains("max_user_watches"), "{problems:?}");
    b.add("mail.log", b"b\n");
    assert_eq!(b.after(1), "b\n");
    assert!(b.tailer.due(b.now) <= b.now + b.options.poll);
    b.tailer.fail_watch(false);
    b.after(70);
    if b.problems().iter().any(|p| p.1) {
        assert!(b.tailer.due(b.now) > b.now + Duration::from_secs(600), "it sleeps again");
    } else {
        eprintln!("skipped: no notifications to be had here");
    }
}

/// T9
#[test]
fn few_descriptors_are_enough_and_a_deleted_file_is_read_to_its_end() {
    let mut b = Bench::with(&["*.log"], TailOptions { max_open: 4, ..TailOptions::default() });
    for n in 0..40 {
        b.add(&format!("{n}.log"), b"a\n");
    }
    assert_eq!(b.after(2).lines().count(), 40);
    for n in 0..40 {
        b.add(&format!("{n}.log"), b"b\n");
    }
    assert_eq!(b.after(3), "b\n".repeat(40));
    let held = fs::read_dir("/proc/self/fd").unwrap().filter_map(|e| fs::read_link(e.unwrap().path()).ok());
    let ours = held.filter(|p| p.starts_with(b.dir.path())).count();
    assert!(ours <= 5, "{ours} descriptors");

    let mut b = Bench::new();
    let mut writer = b.add("mail.log", b"a\n");
    b.after(1);
    fs::remove_file(b.path("mail.log")).unwrap();
    writer.write_all(b"b\nc").unwrap();
    assert_eq!(b.after(3), "b\n");
    assert_eq!(b.after(70), "c\n", "its last line has no newline and never will");
    assert!(b.problems().iter().any(|(text, over)| text.contains("mail.log") && text.contains("no such file") && !over));
    b.add("mail.log", b"d\n");
    assert_eq!(b.after(3), "d\n");
    assert!(b.problems().iter().any(|(text, over)| text.contains("no such file") && *over));
}

/// T9: descriptors run out.
#[test]
fn running_out_of_descriptors_is_survived() {
    let mut b = Bench::with(&["*.log"], TailOptions::default());
    b.add("a.log", b"a\n");
    b.add("b.log", b"b\n");
    b.tailer.fail_open(Some((b.path("b.log"), 24)));
    assert_eq!(b.after(5), "a\n");
    let problems = b.problems();
    assert_eq!(problems.len(), 1, "told once: {problems:?}");
    assert!(problems[0].0.contains("descriptors"));
    b.tailer.fail_open(None);
    assert_eq!(b.after(5), "b\n");
    assert_eq!(b.problems().iter().filter(|p| p.1).count(), 1);
}

/// Permission lost and given back.
#[test]
fn permission_lost_is_told_once_and_regained() {
    let mut b = Bench::with(&["*.log"], TailOptions::default());
    b.add("a.log", b"a\n");
    b.add("b.log", b"b\n");
    b.tailer.fail_open(Some((b.path("b.log"), 13)));
    assert_eq!(b.after(5), "a\n");
    let problems = b.problems();
    assert!(problems.len() == 1 && problems[0].0.contains("b.log: permission denied"), "{problems:?}");
    let health = b.tailer.health();
    assert_eq!(health.iter().map(|h| h.activity).collect::<Vec<_>>(), [Activity::Following, Activity::Failed]);
    assert!(health[1].error.as_ref().unwrap().contains("permission denied"));
    b.tailer.fail_open(None);
    assert_eq!(b.after(3), "b\n");
    assert!(b.problems()[0].1);
    assert_eq!(b.tailer.health()[1].error, None);
}

/// Figures are told by name: a file that is held open after it went away has one entry, not one more as missing.
#[test]
fn a_file_that_went_away_is_told_of_once() {
    let mut b = Bench::with(&["a.log"], TailOptions::default());
    b.add("a.log", b"a\n");
    assert_eq!(b.after(2), "a\n");
    fs::remove_file(b.path("a.log")).unwrap();
    assert_eq!(b.after(3), "");
    let health = b.tailer.health();
    assert_eq!(health.len(), 1, "{health:?}");
    assert!(health[0].lines == 1 && health[0].error.as_ref().is_some_and(|e| e.contains("no such file")), "{health:?}");
    assert_eq!(b.after(120), "");
    let health = b.tailer.health();
    assert!(health.len() == 1 && health[0].activity == Activity::Waiting, "{health:?}");
    b.add("a.log", b"b\n");
    assert_eq!(b.after(3), "b\n");
    let health = b.tailer.health();
    assert!(health.len() == 1 && health[0].error.is_none(), "{health:?}");
}

/// A folder that vanishes and comes back.
#[test]
fn a_vanished_folder_comes_back() {
    let mut b = Bench::with(&["logs/*.log"], TailOptions::default());
    assert_eq!(b.after(1), "");
    fs::create_dir(b.path("logs")).unwrap();
    let mut writer = b.add("logs/a.log", b"a\n");
    assert_eq!(b.after(3), "a\n");
    fs::rename(b.path("logs"), b.path("away")).unwrap();
    writer.write_all(b"b\n").unwrap();
    assert_eq!(b.after(3), "b\n");
    b.commit();
    fs::rename(b.path("away"), b.path("logs")).unwrap();
    writer.write_all(b"c\n").unwrap();
    assert_eq!(b.after(3), "c\n");
    fs::remove_dir_all(b.path("logs")).unwrap();
    assert_eq!(b.after(70), "");
    fs::create_dir(b.path("logs")).unwrap();
    b.add("logs/a.log", b"anew\n");
    assert_eq!(b.after(3), "anew\n");
}

/// Real time and real races: a writer, a rotator and a compressor at work while files are opened and read.
#[test]
fn nothing_is_lost_or_doubled_while_files_turn_under_the_reader() {
    let dir = fast_dir();
    let (live, folder) = (dir.path().join("mail.log"), dir.path().to_path_buf());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let writing = std::thread::spawn(move || {
        let (mut n, mut turns) = (0u64, 0u32);
        while !stopped.load(Ordering::Relaxed) {
            let mut file = OpenOptions::new().create(true).append(true).open(folder.join("mail.log")).unwrap();
            for i in 0..60 {
                let text: String = (0..40).map(|k| format!("line {}\n", n + k)).collect();
                n += 40;
                // Sometimes a line comes in two parts.
                let (a, b) = text.split_at(if i % 7 == 0 { text.len() - 3 } else { text.len() });
                file.write_all(a.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(2));
                file.write_all(b.as_bytes()).unwrap();
                if i == 50 {
                    // As logrotate does, with its oldest files compressed behind the writer's back.
                    turns += 1;
                    for old in (1..turns).rev() {
                        for suffix in ["", ".gz"] {
                            let from = folder.join(format!("mail.log.{old}{suffix}"));
                            if from.exists() {
                                fs::rename(from, folder.join(format!("mail.log.{}{suffix}", old + 1))).unwrap();
                            }
                        }
                    }
                    fs::rename(folder.join("mail.log"), folder.join("mail.log.1")).unwrap();
                    if turns > 2 {
                        let plain = folder.join("mail.log.3");
                        fs::write(folder.join("mail.log.3.gz"), pack(Compression::Gzip, &fs::read(&plain).unwrap())).unwrap();
                        fs::remove_file(plain).unwrap();
                    }
                }
            }
        }
        n
    });
    let options = TailOptions {
        poll: Duration::from_millis(15),
        rescan: Duration::from_millis(15),
        grace: Duration::from_millis(100),
        hold: Duration::from_millis(400),
        ..TailOptions::default()
    };
    let mut stored = Stored::default();
    let (mut tailer, mut fresh) = (stored.tailer(vec![live.clone()], options.clone()), Vec::new());
    let begun = Instant::now();
    let mut rounds = 0u64;
    let mut total = None;
    let mut end = begun + Duration::from_secs(60);
    let writing = &mut Some(writing);
    while Instant::now() < end {
        while let Some(lines) = tailer.next(Instant::now()) {
            fresh.extend(lines.bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec));
        }
        rounds += 1;
        if rounds.is_multiple_of(40) {
            stored.commit(tailer.checkpoint(), &mut fresh);
            tailer.committed();
        }
        if rounds.is_multiple_of(230) && total.is_none() {
            fresh.clear(); // killed
            tailer = stored.tailer(vec![live.clone()], options.clone());
        }
        if begun.elapsed() > Duration::from_secs(5) && total.is_none() {
            stop.store(true, Ordering::Relaxed);
            total = writing.take().map(|w| w.join().unwrap());
            end = Instant::now() + Duration::from_millis(1500);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    assert_eq!(tailer.next(Instant::now()), None, "everything was read long ago");
    stored.commit(tailer.checkpoint(), &mut fresh);
    let mut numbers: Vec<u64> =
        stored.lines.iter().map(|l| String::from_utf8_lossy(l).trim().strip_prefix("line ").unwrap().parse().unwrap()).collect();
    // Their order is asserted where time is virtual: on a busy machine the writer may pause for longer than the grace time.
    numbers.sort_unstable();
    assert_eq!(numbers, (0..total.unwrap()).collect::<Vec<_>>());
}
