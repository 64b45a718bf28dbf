//! Random histories of a log, its rotation and its reader, against what was written.
//!
//! Time is virtual. Every line has a number; at the end each must have been committed exactly once.
//! Lines of which no reader could be sure are told apart: those written between the copy and the
//! truncation of `copytruncate` may be lost (never doubled), and a line cut in two by its writer
//! may appear as its parts.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;
use crate::source::live::{Checkpoint, Live};
use crate::source::tail::{Hint, TailOptions, Tailer};

pub(in crate::source) struct Rng(pub u64);

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
pub(super) fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// What a store would hold.
#[derive(Default)]
pub(super) struct Stored {
    pub live: Vec<FileState>,
    pub finished: HashMap<(PathBuf, u64, u64, Hash128), FileState>,
    pub lines: Vec<Vec<u8>>,
}

impl Stored {
    pub fn commit(&mut self, checkpoint: Checkpoint, lines: &mut Vec<Vec<u8>>) {
        let state = |s: &FileState| serde_json::from_str::<FileState>(&serde_json::to_string(s).unwrap()).unwrap();
        self.live = checkpoint.live.iter().map(|p| state(&p.state)).collect();
        for p in checkpoint.finished {
            let s = state(&p.state);
            self.finished.insert((p.stream.to_path_buf(), s.ino, s.length, s.hash), s);
        }
        self.lines.append(lines);
    }

    pub fn tailer(&self, patterns: Vec<PathBuf>, options: TailOptions) -> Tailer {
        Tailer::new(patterns, self.live.clone(), self.finished.values().cloned().collect(), options)
    }
}

struct World {
    dir: tempfile::TempDir,
    rng: Rng,
    now: Instant,
    log: Vec<String>,
    /// The live name is a symlink to the newest of dated files.
    dated: bool,
    day: u64,
    writer: File,
    /// The writer's file is still the live one.
    attached: bool,
    next: u64,
    /// The rest of a line whose beginning was written.
    pending: Option<(u64, Vec<u8>)>,
    written: HashMap<Vec<u8>, u64>,
    maybe: HashSet<u64>,
    broken: Vec<Vec<u8>>,
    tailer: Option<Tailer>,
    options: TailOptions,
    stored: Stored,
    uncommitted: Vec<Vec<u8>>,
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

impl World {
    fn new(seed: u64) -> World {
        let dir = fast_dir();
        let mut rng = Rng::new(seed);
        let dated = rng.chance(4);
        let block_size = [64, 1000, 1 << 16][rng.below(3) as usize];
        let options = TailOptions {
            hold: Duration::from_secs(5),
            max_open: [4, 256][rng.below(2) as usize],
            blocks: small(block_size, 1 << 17),
            ..TailOptions::default()
        };
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
            dated,
            day: 1,
            writer,
            attached: true,
            next: 0,
            pending: None,
            written: HashMap::new(),
            maybe: HashSet::new(),
            broken: Vec::new(),
            tailer: None,
            options,
            stored: Stored::default(),
            uncommitted: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn line(&mut self) -> (u64, Vec<u8>) {
        self.next += 1;
        let len = match self.rng.below(60) {
            0 => 40_000,
            1 => 0,
            n => n * 3,
        };
        let fill: String = (0..len).map(|_| (b'a' + self.rng.below(26) as u8) as char).collect();
        (self.next, format!("<{} {fill}>\n", self.next).into_bytes())
    }

    fn complete(&mut self) {
        if let Some((_, rest)) = self.pending.take() {
            self.writer.write_all(&rest).unwrap();
        }
    }

    fn write(&mut self, count: u64) {
        self.complete();
        for _ in 0..count {
            let (id, line) = self.line();
            self.writer.write_all(&line).unwrap();
            self.written.insert(line, id);
        }
    }

    fn partial(&mut self) {
        if self.pending.is_none() {
            let (id, line) = self.line();
            let at = 1 + self.rng.below(line.len() as u64 - 1) as usize;
            self.writer.write_all(&line[..at]).unwrap();
            self.pending = Some((id, line[at..].to_vec()));
            self.written.insert(line, id);
        }
    }

    /// The line in the making will never be whole.
    fn give_up_pending(&mut self) {
        if let Some((id, _)) = self.pending.take() {
            self.break_line(id);
        }
    }

    fn break_line(&mut self, id: u64) {
        let Some(line) = self.written.iter().find(|(_, i)| **i == id).map(|(l, _)| l.clone()) else { return };
        self.written.remove(&line);
        self.broken.push(line);
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
        if self.rng.chance(3) {
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
        if self.tailer.is_none() || !self.attached {
            return false;
        }
        self.settle(8);
        self.commit();
        self.written.len() as u64 >= self.stored.lines.len() as u64 / 2
    }

    fn truncate(&mut self) {
        if self.safely() {
            self.give_up_pending();
            self.writer.set_len(0).unwrap();
        }
    }

    fn delete(&mut self) {
        if !self.safely() || self.dated {
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
        self.commit();
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

    fn start(&mut self) {
        if self.tailer.is_none() {
            self.tailer = Some(self.stored.tailer(vec![self.path("mail.log")], self.options.clone()));
        }
    }

    fn poll(&mut self, rescan: bool) {
        self.now += Duration::from_millis(1 + self.rng.below(300));
        let Some(tailer) = &mut self.tailer else { return };
        if rescan {
            tailer.rescan(self.now);
        }
        while let Some(lines) = tailer.next(self.now) {
            assert_eq!(lines.bytes.last(), Some(&b'\n'));
            self.uncommitted.extend(lines.bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec));
        }
    }

    fn settle(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now += Duration::from_millis(500);
            self.poll(false);
        }
    }

    fn commit(&mut self) {
        if let Some(tailer) = &mut self.tailer {
            self.stored.commit(tailer.checkpoint(), &mut self.uncommitted);
            tailer.committed();
        }
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
        if let Some(tailer) = &mut self.tailer {
            tailer.hint(hint);
        }
    }

    fn act(&mut self) {
        let action = self.rng.below(34);
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
            24 => {
                self.tailer = None;
                self.uncommitted.clear();
            }
            25 | 26 => self.start(),
            27 | 28 => self.commit(),
            29 => self.settle(3),
            30 => self.settle(7),
            31 => self.poll(true),
            _ => self.poll(false),
        }
        self.hint();
    }

    fn end(&mut self) {
        self.complete();
        self.start();
        self.settle(20);
        self.commit();
    }

    fn check(&self) -> Result<(), String> {
        let mut times: HashMap<u64, u64> = HashMap::new();
        let mut parts = 0;
        for line in &self.stored.lines {
            let text = &line[..line.len() - 1];
            match self.written.get(line) {
                Some(id) => *times.entry(*id).or_default() += 1,
                None if self.broken.iter().any(|b| memchr::memmem::find(b, text).is_some()) => parts += 1,
                None => return Err(format!("never written: {}", String::from_utf8_lossy(&line[..line.len().min(60)]))),
            }
        }
        if parts > 2 * self.broken.len() {
            return Err(format!("{parts} parts of {} broken lines", self.broken.len()));
        }
        for id in self.written.values() {
            match times.get(id).copied().unwrap_or(0) {
                1 => {}
                0 if self.maybe.contains(id) => {}
                n => return Err(format!("line {id} of {} is there {n} times", self.next)),
            }
        }
        Ok(())
    }
}

fn history(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed);
    if world.rng.chance(3) {
        world.write(3);
    } else {
        world.start();
    }
    let actions = 10 + world.rng.below(50);
    for _ in 0..actions {
        world.act();
    }
    world.end();
    world.check().map_err(|e| format!("seed {seed}: {e}\n{}", world.log.join(" ")))
}

fn histories(seeds: std::ops::Range<u64>) {
    let bad: Vec<String> = seeds.filter_map(|seed| history(seed).err()).collect();
    assert!(bad.is_empty(), "{} histories\n{}", bad.len(), bad.iter().take(5).cloned().collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_line_of_random_histories_is_there_once() {
    histories(0..1000);
}

#[test]
fn every_line_of_more_random_histories_is_there_once() {
    histories(1000..2000);
}
