//! The bar for tailing, T1 to T11 but for T8 and T9 (`troubles`), each by itself. (The random histories are in `tail_model`.)

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::fast_dir;
use super::tail_model::Stored;
use super::*;
use crate::source::live::{Activity, Checkpoint, Live};
use crate::source::tail::{Hint, TailOptions, Tailer};

/// A folder, its reader, and what the reader gave.
pub(super) struct Bench {
    pub(super) dir: tempfile::TempDir,
    pub(super) now: Instant,
    pub(super) patterns: Vec<PathBuf>,
    pub(super) options: TailOptions,
    pub(super) tailer: Tailer,
    pub(super) stored: Stored,
    pub(super) got: Vec<Vec<u8>>,
}

impl Bench {
    pub(super) fn with(patterns: &[&str], options: TailOptions) -> Bench {
        let dir = fast_dir();
        let patterns: Vec<PathBuf> = patterns.iter().map(|p| dir.path().join(p)).collect();
        let stored = Stored::default();
        let tailer = stored.tailer(patterns.clone(), options.clone());
        Bench { dir, now: Instant::now(), patterns, options, tailer, stored, got: Vec::new() }
    }

    pub(super) fn new() -> Bench {
        Bench::with(&["mail.log"], TailOptions::default())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn add(&self, name: &str, bytes: &[u8]) -> File {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    pub(super) fn pull(&mut self) {
        while let Some(lines) = self.tailer.next(self.now) {
            assert_eq!(lines.bytes.last(), Some(&b'\n'));
            self.got.extend(lines.bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec));
        }
    }

    /// Lets time pass, and says what came meanwhile.
    pub(super) fn after(&mut self, seconds: u64) -> String {
        for _ in 0..seconds * 4 {
            self.now += Duration::from_millis(250);
            self.pull();
        }
        self.taken()
    }

    pub(super) fn taken(&mut self) -> String {
        let all: Vec<u8> = self.got.drain(..).flatten().collect();
        String::from_utf8_lossy(&all).into_owned()
    }

    pub(super) fn commit(&mut self) {
        self.stored.commit(self.tailer.checkpoint(), &mut Vec::new());
        self.tailer.committed();
    }

    pub(super) fn restart(&mut self) {
        self.got.clear();
        self.tailer = self.stored.tailer(self.patterns.clone(), self.options.clone());
    }

    pub(super) fn problems(&mut self) -> Vec<(String, bool)> {
        self.tailer.problems().into_iter().map(|p| (p.text, p.over)).collect()
    }
}

/// T1: an inode that returns, and two files that begin with the same 4 KiB and more.
#[test]
fn identity_is_neither_the_inode_nor_the_beginning_alone() {
    let mut b = Bench::with(&["*.log"], TailOptions::default());
    let banner = format!("{}\n", "=".repeat(70)).repeat(1000);
    b.add("a.log", format!("{banner}of a\n").as_bytes());
    b.add("b.log", format!("{banner}of b\n").as_bytes());
    let first = b.after(3);
    assert!(first.contains("of a\n") && first.contains("of b\n"));
    assert_eq!(first.lines().count(), 2002);
    b.commit();
    b.restart();
    b.add("b.log", b"more of b\n");
    assert_eq!(b.after(3), "more of b\n");
    b.commit();
    b.restart();
    // The same inode with other bytes, as long and longer: overwritten in place while nobody looked.
    let path = b.path("a.log");
    let length = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, "new line\n".repeat(length / 9 + 5)).unwrap();
    assert_eq!(b.after(3).lines().count(), length / 9 + 5);
}

/// T2
#[test]
fn empty_tiny_and_newline_less_files_resume_right() {
    let mut b = Bench::new();
    b.add("mail.log", b"");
    for (add, expected) in [("", ""), ("x", ""), ("", ""), ("\n", "x\n"), ("\n", "\n"), ("y", ""), ("z\nw", "yz\n"), ("", "")] {
        b.add("mail.log", add.as_bytes());
        assert_eq!(b.after(3), expected, "after {add:?}");
        b.commit();
        b.restart();
    }
    assert_eq!(b.after(3), "");
}

/// T3
#[test]
fn rotated_several_times_and_compressed_while_stopped() {
    let mut b = Bench::new();
    let text = lines(300, 1);
    b.add("mail.log", &text);
    assert_eq!(b.after(3).len(), text.len());
    b.commit();
    b.add("mail.log", b"one\n");
    fs::write(b.path("mail.log.4.gz"), pack(Compression::Gzip, &fs::read(b.path("mail.log")).unwrap())).unwrap();
    fs::remove_file(b.path("mail.log")).unwrap();
    b.add("mail.log.3.xz", &pack(Compression::Xz, b"two\n"));
    b.add("mail.log.2.zst", &pack(Compression::Zstd, b"three\n"));
    b.add("mail.log.1", b"four\n");
    b.add("mail.log", b"five\n");
    b.restart();
    assert_eq!(b.after(3), "one\ntwo\nthree\nfour\nfive\n");
    b.commit();
    b.restart();
    assert_eq!(b.after(3), "");
}

/// T4
#[test]
fn compressed_siblings_are_known_again_and_damage_is_told() {
    let mut b = Bench::new();
    let text = lines(2000, 2);
    b.add("mail.log", &text);
    b.after(3);
    fs::rename(b.path("mail.log"), b.path("mail.log.1")).unwrap();
    b.add("mail.log", b"new\n");
    assert_eq!(b.after(3), "new\n");
    // Two members, written in two goes, while the original is still there.
    let (front, back) = text.split_at(text.len() / 2);
    b.add("mail.log.1.gz", &pack(Compression::Gzip, front));
    assert_eq!(b.after(3), "");
    b.add("mail.log.1.gz", &pack(Compression::Gzip, back));
    fs::remove_file(b.path("mail.log.1")).unwrap();
    assert_eq!(b.after(70), "");
    assert_eq!(b.problems(), []);
    b.commit();
    b.restart();
    assert_eq!(b.after(3), "");
    // Cut off: what is whole is read, once, and the rest when there is a better copy.
    let other = lines(5000, 3);
    let packed = pack(Compression::Gzip, &other);
    fs::write(b.path("mail.log.2.gz"), &packed[..packed.len() / 2]).unwrap();
    let front = b.after(5);
    assert!(front.len() > 1000 && other.starts_with(front.as_bytes()));
    assert!(b.problems()[0].0.contains("mail.log.2.gz"));
    fs::write(b.path("mail.log.2.gz"), &packed).unwrap();
    let back = b.after(5);
    assert_eq!([front.as_bytes(), back.as_bytes()].concat(), other);
    assert!(b.problems()[0].1, "it is over");
}

/// T5
#[test]
fn truncation_is_seen_though_the_file_grew_past_the_old_position() {
    let mut b = Bench::new();
    let writer = b.add("mail.log", b"old one\nold two\n");
    b.after(3);
    writer.set_len(0).unwrap();
    b.add("mail.log", "new line of the same file\n".repeat(4).as_bytes());
    assert_eq!(b.after(3).lines().count(), 4);
    // To the very same size, within the same tick.
    b.after(1);
    let size = fs::metadata(b.path("mail.log")).unwrap().len() as usize;
    writer.set_len(0).unwrap();
    b.add("mail.log", &[vec![b'z'; size - 1], b"\n".to_vec()].concat());
    assert_eq!(b.after(3).len(), size);
    // While stopped.
    b.commit();
    writer.set_len(0).unwrap();
    b.add("mail.log", "grown again while nobody looked\n".repeat(10).as_bytes());
    b.restart();
    assert_eq!(b.after(3).lines().count(), 10);
    // A writer that does not append leaves a hole.
    let mut plain = OpenOptions::new().write(true).open(b.path("mail.log")).unwrap();
    std::io::Seek::seek(&mut plain, std::io::SeekFrom::End(0)).unwrap();
    plain.set_len(0).unwrap();
    plain.write_all(b"after the hole\n").unwrap();
    assert_eq!(b.after(3), "after the hole\n");
    b.commit();
    b.restart();
    plain.write_all(b"and on\n").unwrap();
    assert_eq!(b.after(3), "and on\n");
}

/// T5: a copy that ends before what was read of the original.
#[test]
fn copytruncate_doubles_nothing() {
    let mut b = Bench::new();
    let text = lines(3000, 4);
    let writer = b.add("mail.log", &text);
    assert_eq!(b.after(3).len(), text.len());
    fs::copy(b.path("mail.log"), b.path("mail.log.1")).unwrap();
    b.add("mail.log", b"between copy and truncation\n");
    b.now += Duration::from_millis(5);
    b.tailer.hint(Hint::Written(b.path("mail.log")));
    b.pull();
    assert_eq!(b.taken(), "between copy and truncation\n");
    writer.set_len(0).unwrap();
    b.add("mail.log", b"after\n");
    assert_eq!(b.after(5), "after\n");
    b.commit();
    // Unread lines come from the copy.
    b.add("mail.log", b"unread\n");
    fs::rename(b.path("mail.log.1"), b.path("mail.log.2")).unwrap();
    fs::copy(b.path("mail.log"), b.path("mail.log.1")).unwrap();
    writer.set_len(0).unwrap();
    b.add("mail.log", b"last\n");
    assert_eq!(b.after(5), "unread\nlast\n");
    b.commit();
    b.restart();
    assert_eq!(b.after(5), "");
}

/// T6
#[test]
fn a_partial_last_line_is_not_consumed() {
    let mut b = Bench::new();
    b.add("mail.log", b"whole\nhal");
    assert_eq!(b.after(3), "whole\n");
    assert_eq!(b.tailer.checkpoint().live[0].state.length, 6);
    b.commit();
    b.restart();
    let mut writer = b.add("mail.log", b"");
    assert_eq!(b.after(1), "");
    fs::rename(b.path("mail.log"), b.path("mail.log.1")).unwrap();
    b.add("mail.log", b"new\n");
    b.now += Duration::from_millis(100);
    b.tailer.rescan(b.now);
    b.pull();
    assert_eq!(b.taken(), "", "the new file waits for late lines of the old one");
    writer.write_all(b"f\n").unwrap();
    assert_eq!(b.after(2), "half\nnew\n");
    // Late is better than never.
    writer.write_all(b"late\n").unwrap();
    assert_eq!(b.after(3), "late\n");
    b.commit();
    b.restart();
    assert_eq!(b.after(3), "");
}

/// T7
#[test]
fn long_lines_are_cut_counted_and_passed_and_bytes_stay_bytes() {
    let options = TailOptions { blocks: small(100, 1000), ..TailOptions::default() };
    let mut b = Bench::with(&["*"], options);
    let name = std::ffi::OsStr::from_bytes(b"m\xffil.log").to_os_string();
    let path = b.dir.path().join(&name);
    let long = [vec![b'a'; 70_000], b"\n".to_vec()].concat();
    fs::write(&path, [&b"\xff\xfe bytes\n"[..], &long[..40_000]].concat()).unwrap();
    b.now += Duration::from_secs(1);
    b.pull();
    assert_eq!(std::mem::take(&mut b.got), [b"\xff\xfe bytes\n".to_vec()]);
    assert_eq!(b.tailer.checkpoint().live[0].state.length, 9);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&long[40_000..]).unwrap();
    file.write_all(b"next\n").unwrap();
    b.now += Duration::from_secs(3);
    b.pull();
    let got = std::mem::take(&mut b.got);
    assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [1001, 5]);
    assert_eq!(b.tailer.health()[0].oversized, 1);
    b.commit();
    fs::rename(&path, b.dir.path().join(std::ffi::OsStr::from_bytes(b"m\xffil.log.1"))).unwrap();
    fs::write(&path, b"after\n").unwrap();
    b.restart();
    assert_eq!(b.after(3), "after\n");
}

/// T10: there is no state file; of what a store holds, nothing has to be there, or right.
#[test]
fn states_that_mean_nothing_do_no_harm() {
    let mut b = Bench::new();
    b.add("mail.log", &lines(50, 5));
    let all = b.after(3);
    b.commit();
    b.stored.live[0].hash = Hash128(1);
    b.stored.live[0].size += 1;
    b.restart();
    let last = all.lines().next_back().unwrap().to_owned() + "\n";
    assert_eq!(b.after(3), last, "of a state that does not verify, the ends of lines may");
    b.stored.live[0].ends.clear();
    b.restart();
    assert_eq!(b.after(3), all, "a state that does not verify is none");
    b.stored.live.clear();
    b.stored.finished.clear();
    b.restart();
    assert_eq!(b.after(3), all);
}

/// T11
#[test]
fn one_target_is_read_once_and_a_swapped_symlink_is_followed() {
    let mut b = Bench::with(&["mail.log", "links/*.log", "**/mail.log"], TailOptions::default());
    fs::create_dir(b.path("links")).unwrap();
    b.add("mail.log", b"a\n");
    symlink(b.path("mail.log"), b.path("links/one.log")).unwrap();
    fs::hard_link(b.path("mail.log"), b.path("links/two.log")).unwrap();
    symlink(b.path("nowhere"), b.path("links/dangling.log")).unwrap();
    symlink(b.path("links"), b.path("links/loop.log")).unwrap();
    assert_eq!(b.after(3), "a\n");
    b.add("mail.log", b"b\n");
    assert_eq!(b.after(3), "b\n");

    let mut b = Bench::new();
    fs::create_dir(b.path("data")).unwrap();
    b.add("data/1", b"a\n");
    symlink("data/1", b.path("mail.log")).unwrap();
    assert_eq!(b.after(1), "a\n");
    b.add("data/1", b"b\n");
    b.add("data/2", b"c\n");
    symlink("data/2", b.path("new")).unwrap();
    fs::rename(b.path("new"), b.path("mail.log")).unwrap();
    b.add("data/1", b"late\n");
    assert_eq!(b.after(4), "b\nlate\nc\n");
}

#[test]
fn new_files_that_match_are_picked_up_with_their_siblings() {
    let mut b = Bench::with(&["host-*/mail.log", "*.lst"], TailOptions::default());
    assert_eq!(b.after(1), "");
    fs::create_dir_all(b.path("host-a")).unwrap();
    b.add("host-a/mail.log.2.gz", &pack(Compression::Gzip, b"1\n"));
    b.add("host-a/mail.log.1", b"2\n");
    b.add("host-a/mail.log", b"3\n");
    b.add("host-a/mail.log.bak", b"not this one\n");
    b.add("other.lst", b"");
    b.add(".hidden.lst", b"no\n");
    let got = b.after(6);
    let mut sorted: Vec<&str> = got.lines().collect();
    sorted.sort_unstable();
    assert_eq!(sorted, ["1", "2", "3"]);
    let watched: Vec<PathBuf> = b.tailer.watched().iter().map(|p| p.strip_prefix(b.dir.path()).unwrap().to_path_buf()).collect();
    assert_eq!(watched, [Path::new("host-a/mail.log"), Path::new("other.lst")]);
}

/// One busy file does not keep others waiting.
#[test]
fn streams_take_turns() {
    let mut b = Bench::with(&["*.log"], TailOptions { blocks: small(1000, 1000), ..TailOptions::default() });
    b.add("a.log", &b"busy\n".repeat(10_000));
    b.add("b.log", b"quiet\n");
    b.now += Duration::from_secs(1);
    let blocks: Vec<Vec<u8>> = (0..3).filter_map(|_| b.tailer.next(b.now)).map(|l| l.bytes).collect();
    assert!(blocks.iter().any(|l| l == b"quiet\n"));
    assert!(b.tailer.health()[0].behind > 40_000);
    assert_eq!(b.tailer.health()[0].activity, Activity::CatchingUp);
}

#[test]
fn standard_input_is_read_until_it_ends() {
    let input = std::io::Cursor::new([lines(3000, 6), vec![b'x'; 300], b"\nlast".to_vec()].concat());
    let expected = input.get_ref().clone();
    let mut feed = crate::source::stdin::from_reader(input, 250, Arc::new(|| {})).unwrap();
    let mut got = Vec::new();
    for _ in 0..500 {
        match feed.next(Instant::now()) {
            Some(lines) => got.extend(lines.bytes),
            None if feed.health()[0].activity == Activity::Ended => break,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    let cut = expected.len() - 300 - 5;
    assert_eq!(got, [&expected[..cut], &[b'x'; 250][..], b"\nlast\n"].concat());
    assert_eq!((feed.health()[0].oversized, feed.checkpoint()), (1, Checkpoint::default()));
}

/// T5, just after a start: nothing was read yet that could be compared, but what was read before is known.
#[test]
fn a_truncation_is_seen_though_nothing_was_read_since_the_start() {
    for longer in [false, true] {
        let mut b = Bench::new();
        let long = if longer { format!("{}\n", "x".repeat(3 << 20)) } else { String::new() };
        b.add("mail.log", format!("one\ntwo\n{long}").as_bytes());
        b.after(3);
        b.commit();
        if !longer {
            b.restart();
            // Half a line: the file is looked into, and nothing given out.
            b.add("mail.log", b"half");
            assert_eq!(b.after(3), "");
        }
        File::options().write(true).open(b.path("mail.log")).unwrap().set_len(0).unwrap();
        let text = "all of these are new\n".repeat(if longer { 160_000 } else { 5 });
        b.add("mail.log", text.as_bytes());
        assert!(b.after(3) == text, "{longer}");
    }
}

/// What is compressed before its turn came is read in its turn all the same: sessions and repeated lines go by the order.
#[test]
fn a_file_that_is_compressed_before_it_was_opened_holds_up_its_successors() {
    let mut b = Bench::with(&["mail.log"], TailOptions { blocks: small(64, 1 << 10), ..TailOptions::default() });
    let text = lines(300, 6);
    let all: Vec<&[u8]> = text.split_inclusive(|c| *c == b'\n').collect();
    for (name, from, to) in [("mail.log.3", 0, 90), ("mail.log.2", 90, 150), ("mail.log.1", 150, 200), ("mail.log", 200, 300)] {
        b.add(name, &all[from..to].concat());
    }
    // It is busy with the oldest; the next one goes away meanwhile, and what it becomes is not whole yet.
    let first = b.tailer.next(b.now).unwrap();
    b.got.push(first.bytes);
    let packed = pack(Compression::Gzip, &fs::read(b.path("mail.log.2")).unwrap());
    b.add("mail.log.2.gz", &packed[..100]);
    fs::remove_file(b.path("mail.log.2")).unwrap();
    b.pull();
    b.now += Duration::from_millis(600);
    b.add("mail.log.2.gz", &packed[100..]);
    assert!(b.after(5).as_bytes() == text, "in order");
    // One that was not missed does not keep the others waiting.
    b.add("mail.log.4.gz", &packed[..50]);
    b.now += Duration::from_secs(30);
    b.pull();
    b.add("mail.log.4.gz", &packed[50..60]);
    b.add("mail.log", b"fresh\n");
    b.now += Duration::from_millis(600);
    b.pull();
    assert_eq!(b.taken(), "fresh\n");
}
