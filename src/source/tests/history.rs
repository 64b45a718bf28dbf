//! Random histories of a log and its rotation, written in front of a reader.
//!
//! Time is virtual. Every line has a number. Lines of which no reader could be sure are told apart: those written
//! between the copy and the truncation of `copytruncate` may be lost (never doubled), and a line cut in two by its
//! writer may appear as its parts.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Compression, pack};
use crate::source::tail::Hint;

pub(crate) struct Rng(pub u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// A folder in memory, where there is one.
pub(crate) fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// What reads the log: it is started, killed and asked to store what it read, in between the actions of others.
pub(crate) trait Reader {
    fn is_running(&self) -> bool;
    /// Starts it where what is stored says, unless it runs.
    fn start(&mut self, log: &Path, rng: &mut Rng);
    /// It is no more, and nothing it had not stored.
    fn kill(&mut self, rng: &mut Rng);
    /// Reads what it knows to be there; before that looks at everything if `rescan`.
    fn poll(&mut self, rescan: bool, now: Instant, rng: &mut Rng);
    fn hint(&mut self, hint: Hint);
    /// Stores what was read, or begins to. With `sure` it is stored when this returns.
    fn commit(&mut self, sure: bool, now: Instant, rng: &mut Rng);
    /// Something that only this kind of reader does.
    fn other(&mut self, _log: &Path, _now: Instant, _rng: &mut Rng) {}
}

/// Makes the next line.
pub(crate) type Maker = Box<dyn FnMut(&mut Rng, u64) -> Vec<u8>>;

/// How a log is written and turned.
#[derive(Clone, Copy)]
pub(crate) struct Habits {
    /// Lines may be left half written for ever.
    pub breaks: bool,
    /// Lines may be written between copy and truncation.
    pub loses: bool,
    /// A file may be deleted and written to all the same: its reader must hold it open.
    pub deletes: bool,
}

/// A folder with a log, who writes it, and who reads it.
pub(crate) struct World<R> {
    pub dir: tempfile::TempDir,
    pub rng: Rng,
    pub now: Instant,
    /// What was done.
    log: Vec<String>,
    habits: Habits,
    make: Maker,
    /// The live name is a symlink to the newest of dated files.
    dated: bool,
    day: u64,
    writer: File,
    /// The writer's file is still the live one.
    attached: bool,
    next: u64,
    /// The rest of a line whose beginning was written.
    pending: Option<(u64, Vec<u8>)>,
    /// Whole lines, in order.
    pub written: Vec<(u64, Vec<u8>)>,
    /// Of these, nobody could be sure of.
    pub maybe: HashSet<u64>,
    pub broken: Vec<Vec<u8>>,
    pub reader: R,
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

impl<R: Reader> World<R> {
    pub fn new(mut rng: Rng, reader: R, habits: Habits, make: Maker) -> World<R> {
        let dir = fast_dir();
        let dated = rng.chance(4);
        let first = dir.path().join(if dated { "mail.log-20260301" } else { "mail.log" });
        let writer = append(&first);
        if dated {
            std::os::unix::fs::symlink(&first, dir.path().join("mail.log")).unwrap();
        }
        World {
            dir,
            rng,
            now: Instant::now(),
            log: Vec::new(),
            habits,
            make,
            dated,
            day: 1,
            writer,
            attached: true,
            next: 0,
            pending: None,
            written: Vec::new(),
            maybe: HashSet::new(),
            broken: Vec::new(),
            reader,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn line(&mut self) -> (u64, Vec<u8>) {
        self.next += 1;
        // Two files of the very same bytes are one and its copy, whoever looks.
        let begins = self.writer.metadata().unwrap().len() == 0;
        loop {
            let line = (self.make)(&mut self.rng, self.next);
            if !begins || self.written.iter().all(|(_, other)| *other != line) {
                return (self.next, line);
            }
        }
    }

    fn complete(&mut self) {
        if let Some((_, rest)) = self.pending.take() {
            self.writer.write_all(&rest).unwrap();
        }
    }

    pub fn write(&mut self, count: u64) {
        self.complete();
        for _ in 0..count {
            let (id, line) = self.line();
            self.writer.write_all(&line).unwrap();
            self.written.push((id, line));
        }
    }

    fn partial(&mut self) {
        if self.pending.is_none() {
            let (id, line) = self.line();
            let at = 1 + self.rng.below(line.len() as u64 - 1) as usize;
            self.writer.write_all(&line[..at]).unwrap();
            self.pending = Some((id, line[at..].to_vec()));
            self.written.push((id, line));
        }
    }

    /// The line in the making will never be whole, where that may be.
    fn give_up_pending(&mut self) {
        if !self.habits.breaks {
            self.complete();
        }
        if let Some((id, _)) = self.pending.take() {
            self.break_line(id);
        }
    }

    fn break_line(&mut self, id: u64) {
        if let Some(at) = self.written.iter().position(|(i, _)| *i == id) {
            self.broken.push(self.written.remove(at).1);
        }
    }

    fn siblings(&self) -> Vec<(u32, String)> {
        let mut out = Vec::new();
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Some(rest) = name.strip_prefix("mail.log.") {
                let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
                out.push((number.parse().unwrap(), rest[number.len()..].to_string()));
            }
        }
        out.sort();
        out.reverse();
        out
    }

    fn shift(&mut self) {
        for (n, suffix) in self.siblings() {
            fs::rename(self.path(&format!("mail.log.{n}{suffix}")), self.path(&format!("mail.log.{}{suffix}", n + 1))).unwrap();
        }
    }

    /// The writer opens the live name anew.
    fn hup(&mut self) {
        if self.attached {
            return;
        }
        if self.rng.chance(4) {
            self.give_up_pending();
        } else {
            self.complete();
        }
        self.writer = if self.dated {
            self.day += 1;
            let path = self.path(&format!("mail.log-202603{:02}", self.day));
            let file = append(&path);
            std::os::unix::fs::symlink(&path, self.path("mail.log.new")).unwrap();
            fs::rename(self.path("mail.log.new"), self.path("mail.log")).unwrap();
            file
        } else {
            append(&self.path("mail.log"))
        };
        self.attached = true;
    }

    fn rotate(&mut self) {
        if !self.attached || self.day > 20 {
            return;
        }
        if !self.dated {
            self.shift();
            fs::rename(self.path("mail.log"), self.path("mail.log.1")).unwrap();
        }
        self.attached = false;
        if self.rng.chance(2) {
            self.hup();
        }
    }

    fn copytruncate(&mut self) {
        if self.dated || !self.attached {
            return;
        }
        if !self.habits.breaks {
            self.complete();
        }
        self.shift();
        let (live, copy) = (self.path("mail.log"), self.path("mail.log.1"));
        if self.rng.chance(3) {
            let all = fs::read(&live).unwrap();
            let at = self.rng.below(all.len() as u64 + 1) as usize;
            fs::write(&copy, &all[..at]).unwrap();
            self.poll(true);
            append(&copy).write_all(&all[at..]).unwrap();
        } else {
            fs::copy(&live, &copy).unwrap();
        }
        let cut = self.pending.as_ref().map(|p| p.0);
        if self.rng.chance(3) && self.habits.loses {
            let from = self.next;
            if cut.is_none() {
                let count = 1 + self.rng.below(5);
                self.write(count);
            }
            self.maybe.extend(from + 1..=self.next);
            self.poll(false);
            self.poll(true);
        }
        OpenOptions::new().write(true).open(&live).unwrap().set_len(0).unwrap();
        if let Some(id) = cut {
            self.break_line(id);
        }
    }

    /// Nobody can know lines that are gone before they were read, or before that was committed.
    fn safely(&mut self) -> bool {
        if !self.reader.is_running() || !self.attached {
            return false;
        }
        self.settle(8);
        self.commit(true);
        true
    }

    fn truncate(&mut self) {
        if !self.habits.breaks {
            self.complete();
        }
        if self.safely() {
            self.give_up_pending();
            self.writer.set_len(0).unwrap();
        }
    }

    fn delete(&mut self) {
        if self.dated || !self.habits.deletes || !self.safely() {
            return;
        }
        fs::remove_file(self.path("mail.log")).unwrap();
        self.attached = false;
        let count = self.rng.below(4);
        self.write(count);
        self.poll(false);
        if self.rng.chance(2) {
            self.hup();
        } else {
            self.complete();
        }
        self.settle(8);
        self.commit(true);
        self.hup();
    }

    fn compress(&mut self) {
        let mut names: Vec<String> = if self.dated {
            (1..self.day).map(|d| format!("mail.log-202603{d:02}")).collect()
        } else {
            self.siblings().into_iter().filter(|s| s.1.is_empty()).map(|s| format!("mail.log.{}", s.0)).collect()
        };
        names.retain(|n| self.path(n).exists() && (self.attached || (!self.dated && n != "mail.log.1")));
        if names.is_empty() {
            return;
        }
        let name = names[self.rng.below(names.len() as u64) as usize].clone();
        let (how, suffix) =
            [(Compression::Gzip, ".gz"), (Compression::Bzip2, ".bz2"), (Compression::Xz, ".xz"), (Compression::Zstd, ".zst")]
                [self.rng.below(4) as usize];
        let packed = pack(how, &fs::read(self.path(&name)).unwrap());
        let target = self.path(&format!("{name}{suffix}"));
        let at = self.rng.below(packed.len() as u64 + 1) as usize;
        fs::write(&target, &packed[..at]).unwrap();
        if self.rng.chance(2) {
            self.poll(true);
        }
        append(&target).write_all(&packed[at..]).unwrap();
        if self.rng.chance(2) {
            self.poll(true);
        }
        fs::remove_file(self.path(&name)).unwrap();
    }

    pub fn start(&mut self) {
        self.reader.start(&self.dir.path().join("mail.log"), &mut self.rng);
    }

    fn poll(&mut self, rescan: bool) {
        self.now += Duration::from_millis(1 + self.rng.below(300));
        self.reader.poll(rescan, self.now, &mut self.rng);
    }

    fn settle(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now += Duration::from_millis(500);
            self.poll(false);
        }
    }

    fn commit(&mut self, sure: bool) {
        if sure {
            // Positions without events are stored now and then only.
            self.now += Duration::from_secs(6);
        }
        self.reader.commit(sure, self.now, &mut self.rng);
    }

    fn hint(&mut self) {
        let live = self.path("mail.log");
        let folder = self.dir.path().to_path_buf();
        let hint = match self.rng.below(6) {
            0 | 1 => Hint::Written(live),
            2 => Hint::Folder(folder),
            3 => Hint::Anything,
            _ => return,
        };
        self.reader.hint(hint);
    }

    fn act(&mut self) {
        let action = self.rng.below(36);
        self.log.push(format!("{action}@{}", self.next));
        match action {
            0..=8 => {
                let count = 1 + self.rng.below(12);
                self.write(count);
            }
            9 | 10 => self.partial(),
            11..=13 => self.rotate(),
            14 | 15 => self.hup(),
            16 => (0..3).for_each(|_| {
                self.rotate();
                self.hup();
                self.write(2);
            }),
            17 | 18 => self.copytruncate(),
            19 => self.truncate(),
            20 => self.delete(),
            21..=23 => self.compress(),
            24 => self.reader.kill(&mut self.rng),
            25 | 26 => self.start(),
            27 | 28 => self.commit(false),
            29 => self.settle(3),
            30 => self.settle(7),
            31 => self.poll(true),
            32 | 33 => {
                let log = self.path("mail.log");
                self.reader.other(&log, self.now, &mut self.rng);
            }
            _ => self.poll(false),
        }
        self.hint();
    }

    /// A history; when this returns, all is read and stored that can be.
    pub fn run(&mut self, actions: u64) {
        if self.rng.chance(3) {
            self.write(3);
        } else {
            self.start();
        }
        for _ in 0..actions {
            self.act();
        }
        self.complete();
        self.start();
        self.settle(20);
        self.commit(true);
    }

    /// What was done, for people.
    pub fn story(&self) -> String {
        self.log.join(" ")
    }

    /// Holds lines that were stored against those that were written.
    pub fn check<'l>(&self, lines: impl Iterator<Item = &'l [u8]>) -> Result<(), String> {
        let mut stored: HashMap<&[u8], usize> = HashMap::new();
        lines.for_each(|line| *stored.entry(line.strip_suffix(b"\n").unwrap_or(line)).or_default() += 1);
        // Of each text: how many there must be, and how many more there may be.
        let mut wanted: HashMap<&[u8], (usize, usize, u64)> = HashMap::new();
        for (id, line) in &self.written {
            let (sure, more, last) = wanted.entry(&line[..line.len() - 1]).or_default();
            *(if self.maybe.contains(id) { more } else { sure }) += 1;
            *last = *id;
        }
        for (text, (sure, more, id)) in &wanted {
            let n = stored.remove(text).unwrap_or(0);
            if n < *sure || n > sure + more {
                return Err(format!("line {id} of {} is there {n} times, not {sure} to {}", self.next, sure + more));
            }
        }
        let is_part = |text: &[u8]| self.broken.iter().any(|b| memchr::memmem::find(b, text).is_some());
        if let Some((text, _)) = stored.iter().find(|(text, _)| !is_part(text)) {
            return Err(format!("never written: {}", String::from_utf8_lossy(&text[..text.len().min(60)])));
        }
        let parts: usize = stored.values().sum();
        if parts > 2 * self.broken.len() {
            return Err(format!("{parts} parts of {} broken lines", self.broken.len()));
        }
        Ok(())
    }
}

/// How many histories a test goes through: as `MSGTRK_HISTORIES` says.
pub(crate) fn histories(default: u64) -> u64 {
    std::env::var("MSGTRK_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Runs histories of these seeds; fails with the first few that went wrong. `MSGTRK_SEED` runs one alone.
pub(crate) fn run_histories(seeds: std::ops::Range<u64>, history: impl Fn(u64) -> Result<(), String>) {
    let seeds = match std::env::var("MSGTRK_SEED").ok().and_then(|n| n.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => seeds,
    };
    let bad: Vec<String> = seeds.filter_map(|seed| history(seed).err().map(|e| format!("MSGTRK_SEED={seed}: {e}"))).collect();
    assert!(bad.is_empty(), "{} histories\n{}", bad.len(), bad.iter().take(5).cloned().collect::<Vec<_>>().join("\n"));
}
