//! One plain file, read while it grows.
//!
//! The hash of all consumed bytes is carried along, so that no byte is hashed twice. The last few KiB
//! consumed are kept: before anything new is read they are compared with the file, which finds a
//! truncation even when the file has grown past the old position since.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::source::blocks::{Scan, scan};
use crate::source::identity::{End, FileState, Hash128};
use crate::source::{BlockOptions, HEAD_LEN, Opened};

/// Consumed bytes that are kept: at least so many (if there are), at most twice.
const RECENT: usize = 8 * 1024;
/// Of these, how many are compared before new bytes are read.
const COMPARED: usize = 4 * 1024;
/// A file's time of change is no finer than the kernel's tick: a change right after another one may
/// not show in it. For so long after a change the file is compared in any case.
const RACY: Duration = Duration::from_millis(1000);

/// Time of last change, nanoseconds since 1970.
pub(super) fn mtime_ns(meta: &Metadata) -> i64 {
    let ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    ns.clamp(i64::MIN.into(), i64::MAX.into()).try_into().unwrap_or(0)
}

/// What a look at the file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Same,
    Changed,
    /// What was consumed is not there any more.
    Truncated,
}

/// What reading on gave.
pub(super) enum Step {
    Lines(Vec<u8>),
    /// Bytes were passed that make no line yet; go on.
    Passed,
    /// Nothing but (perhaps) a line that is not whole.
    End,
}

/// The last bytes consumed, and the hash of all before them.
struct Recent {
    start: u64,
    bytes: Vec<u8>,
    before: Box<Xxh3>,
}

impl Recent {
    fn push(&mut self, bytes: &[u8]) {
        let all = self.bytes.len() + bytes.len();
        if all <= 2 * RECENT {
            self.bytes.extend_from_slice(bytes);
            return;
        }
        // From the start of a line if one is near, since a recall goes back to that.
        let near = self.bytes.iter().chain(bytes).enumerate().skip(all - RECENT - 1).take(RECENT - COMPARED);
        let line = near.filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).next();
        let mut drop = line.unwrap_or(all - RECENT);
        self.start += drop as u64;
        let old = drop.min(self.bytes.len());
        self.before.update(self.bytes.get(..old).unwrap_or_default());
        self.bytes.drain(..old);
        drop -= old;
        self.before.update(bytes.get(..drop).unwrap_or_default());
        self.bytes.extend_from_slice(bytes.get(drop..).unwrap_or_default());
    }
}

/// What was consumed last of a file before it was truncated: a copy of it may end within.
pub(super) struct Ghost {
    /// [`super::stream::Tracked::id`] of the file as it was.
    pub id: u64,
    start: u64,
    bytes: Vec<u8>,
    before: Hash128,
}

/// A plain file and how far it was read.
pub(super) struct Plain {
    /// `None`: closed for now.
    pub file: Option<Arc<File>>,
    /// Offset after the last line given out.
    pub consumed: u64,
    pub lines: u64,
    pub oversized: u64,
    /// At the last look.
    pub size: u64,
    pub mtime_ns: i64,
    /// Nothing more to give out as of the last look.
    pub at_end: bool,
    /// When a change was last seen.
    pub changed: Instant,
    pub used: Instant,
    pub extra: serde_json::Value,
    hasher: Box<Xxh3>,
    head: Option<Hash128>,
    recent: Recent,
    /// What stands before that: there is little of it after a resume and a long line, but a truncation must be seen.
    older: Vec<u8>,
    /// A line too long to be held: no newline before this offset; the hash up to there.
    ahead: Option<(u64, Box<Xxh3>)>,
    compared: Option<Instant>,
}

impl Plain {
    /// From its first byte.
    pub fn fresh(file: Arc<File>, now: Instant) -> Plain {
        Plain {
            file: Some(file),
            consumed: 0,
            lines: 0,
            oversized: 0,
            size: 0,
            mtime_ns: i64::MIN,
            at_end: false,
            changed: now,
            used: now,
            extra: serde_json::Value::Null,
            hasher: Box::default(),
            head: None,
            recent: Recent { start: 0, bytes: Vec::new(), before: Box::default() },
            older: Vec::new(),
            ahead: None,
            compared: None,
        }
    }

    /// From where a recall found it known, if it did.
    pub fn resumed(opened: &mut Opened, now: Instant) -> io::Result<Plain> {
        let mut plain = Plain::fresh(opened.handle.clone(), now);
        let Some(resume) = opened.resume.take() else { return Ok(plain) };
        plain.consumed = resume.offset;
        plain.lines = resume.lines;
        plain.hasher = resume.hasher;
        plain.recent = Recent { start: resume.offset, bytes: Vec::new(), before: plain.hasher.clone() };
        plain.older = bytes_before(&opened.handle, resume.offset)?;
        if plain.consumed >= HEAD_LEN as u64 {
            plain.head = opened.head.get(..HEAD_LEN).map(|h| Hash128(xxh3_128(h)));
        }
        Ok(plain)
    }

    pub fn hash(&self) -> Hash128 {
        Hash128(self.hasher.digest128())
    }

    /// Bytes there at the last look that were not given out.
    pub fn behind(&self) -> u64 {
        self.size.saturating_sub(self.consumed)
    }

    /// Has the file changed, and is what was consumed still there?
    pub fn look(&mut self, now: Instant) -> io::Result<Look> {
        let Some(file) = self.file.clone() else { return Ok(Look::Same) };
        let meta = file.metadata()?;
        let stat = (meta.size(), mtime_ns(&meta));
        let changed = stat != (self.size, self.mtime_ns);
        if changed {
            self.changed = now;
        } else if self.compared.is_some_and(|at| at >= self.changed + RACY) {
            return Ok(Look::Same);
        }
        if stat.0 < self.consumed || !self.holds_recent(&file)? {
            return Ok(Look::Truncated);
        }
        self.compared = Some(now);
        (self.size, self.mtime_ns) = stat;
        if self.ahead.as_ref().is_some_and(|(to, _)| *to > stat.0) {
            self.ahead = None;
        }
        self.at_end = false;
        Ok(if changed { Look::Changed } else { Look::Same })
    }

    fn holds_recent(&self, file: &File) -> io::Result<bool> {
        let expected = match self.recent.bytes.len().checked_sub(COMPARED) {
            Some(from) => self.recent.bytes.get(from..).unwrap_or_default().to_vec(),
            None => [self.older.as_slice(), &self.recent.bytes].concat(),
        };
        let mut found = vec![0; expected.len()];
        let got = read_full(file, self.consumed - expected.len() as u64, &mut found)?;
        Ok(got == expected.len() && found == expected)
    }

    /// Reads on, at most about a block.
    pub fn step(&mut self, options: &BlockOptions, now: Instant) -> io::Result<Step> {
        let Some(file) = self.file.clone() else {
            self.at_end = true;
            return Ok(Step::End);
        };
        self.used = now;
        if self.ahead.is_some() {
            return self.step_long(&file, options);
        }
        let most = options.block_size.max(options.max_line + 1);
        // What came since the last look is read after the next one.
        let there = usize::try_from(self.behind()).unwrap_or(usize::MAX).saturating_add(1);
        let mut buf = vec![0; most.min(there)];
        let got = read_full(&file, self.consumed, &mut buf)?;
        buf.truncate(got);
        // A hole, left by a truncation under a writer that does not append.
        let hole = buf.iter().take_while(|b| **b == 0).count();
        if hole > 0 {
            self.absorb(buf.get(..hole).unwrap_or_default());
            return Ok(Step::Passed);
        }
        match scan(&buf, options.max_line) {
            Scan::Whole(end) => {
                buf.truncate(end);
                self.absorb(&buf);
                Ok(Step::Lines(buf))
            }
            Scan::TooLong => {
                self.ahead = Some((self.consumed, self.hasher.clone()));
                self.step_long(&file, options)
            }
            Scan::NoNewline => {
                self.at_end = true;
                Ok(Step::End)
            }
        }
    }

    /// Looks for the end of a line of which only the beginning will be given out.
    fn step_long(&mut self, file: &File, options: &BlockOptions) -> io::Result<Step> {
        let Some((to, hasher)) = &mut self.ahead else { return Ok(Step::End) };
        let mut buf = vec![0; options.block_size.max(options.max_line + 1)];
        let got = read_full(file, *to, &mut buf)?;
        buf.truncate(got);
        let newline = memchr::memchr(b'\n', &buf);
        let part = buf.get(..newline.map_or(got, |n| n + 1)).unwrap_or_default();
        hasher.update(part);
        *to += part.len() as u64;
        if newline.is_some() {
            return self.finish_long(file, options.max_line).map(Step::Lines);
        }
        if got > 0 {
            return Ok(Step::Passed);
        }
        self.at_end = true;
        Ok(Step::End)
    }

    fn finish_long(&mut self, file: &File, max_line: usize) -> io::Result<Vec<u8>> {
        let mut line = vec![0; max_line];
        let got = read_full(file, self.consumed, &mut line)?;
        line.truncate(got);
        let Some((to, hasher)) = self.ahead.take() else { return Ok(line) };
        if self.consumed < HEAD_LEN as u64 && to >= HEAD_LEN as u64 {
            let mut head = vec![0; HEAD_LEN];
            let got = read_full(file, 0, &mut head)?;
            self.head = Some(Hash128(xxh3_128(head.get(..got).unwrap_or_default())));
        }
        (self.consumed, self.hasher) = (to, hasher);
        self.lines += 1;
        self.oversized += 1;
        self.recent = Recent { start: to, bytes: Vec::new(), before: self.hasher.clone() };
        self.older = bytes_before(file, to)?;
        line.push(b'\n');
        Ok(line)
    }

    /// The last line, that will get no newline any more since the file is gone.
    pub fn take_rest(&mut self, options: &BlockOptions) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file.clone() else { return Ok(None) };
        if self.ahead.is_some() {
            return self.finish_long(&file, options.max_line).map(Some);
        }
        let mut buf = vec![0; options.max_line];
        let got = read_full(&file, self.consumed, &mut buf)?;
        buf.truncate(got);
        if buf.is_empty() || memchr::memchr(b'\n', &buf).is_some() {
            return Ok(None);
        }
        self.absorb(&buf);
        self.lines += 1;
        buf.push(b'\n');
        Ok(Some(buf))
    }

    /// Counts bytes as consumed.
    pub fn absorb(&mut self, bytes: &[u8]) {
        let to_head = usize::try_from((HEAD_LEN as u64).saturating_sub(self.consumed)).unwrap_or(usize::MAX);
        match bytes.split_at_checked(to_head) {
            Some((first, rest)) if to_head > 0 => {
                self.hasher.update(first);
                self.head = Some(self.hash());
                self.hasher.update(rest);
            }
            _ => self.hasher.update(bytes),
        }
        self.consumed += bytes.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        self.recent.push(bytes);
    }

    /// Consumes whole lines, without giving them out, as far as they are the same in `other`.
    /// `false`: the two files differ.
    pub fn follow_copy(&mut self, other: &File, until: u64) -> io::Result<bool> {
        let Some(file) = self.file.clone() else { return Ok(true) };
        let (mut mine, mut theirs) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        while self.consumed < until {
            let want = usize::try_from(until - self.consumed).unwrap_or(usize::MAX).min(mine.len());
            let (Some(a), Some(b)) = (mine.get_mut(..want), theirs.get_mut(..want)) else { break };
            let (got, theirs) = (read_full(&file, self.consumed, a)?, read_full(other, self.consumed, b)?);
            let common = a.iter().zip(b.iter()).take(got.min(theirs)).take_while(|(x, y)| x == y).count();
            let whole = memchr::memrchr(b'\n', a.get(..common).unwrap_or_default()).map_or(0, |n| n + 1);
            self.absorb(a.get(..whole).unwrap_or_default());
            if common < got && common < theirs {
                return Ok(false);
            }
            if whole == 0 {
                break;
            }
        }
        Ok(true)
    }

    /// What a copy of this file, as it is now, may need to be known as one.
    pub fn ghost(&self, id: u64) -> Ghost {
        Ghost { id, start: self.recent.start, bytes: self.recent.bytes.clone(), before: Hash128(self.recent.before.digest128()) }
    }

    /// Whether `ghost` says what follows here. `same`: this file was known to be its copy.
    pub fn meets(&self, ghost: &Ghost, same: bool) -> bool {
        let end = ghost.start + ghost.bytes.len() as u64;
        (ghost.start..end).contains(&self.consumed) && (same || self.consumed == ghost.start && self.hash() == ghost.before)
    }

    /// Consumes, without giving them out, the whole lines that the file before its truncation had, too.
    pub fn skip_ghost(&mut self, ghost: &Ghost) -> io::Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let from = usize::try_from(self.consumed - ghost.start).unwrap_or(usize::MAX);
        let known = ghost.bytes.get(from..).unwrap_or_default();
        let mut mine = vec![0; known.len()];
        let got = read_full(&file, self.consumed, &mut mine)?;
        let common = mine.iter().zip(known).take(got).take_while(|(a, b)| a == b).count();
        let whole = memchr::memrchr(b'\n', mine.get(..common).unwrap_or_default()).map_or(0, |n| n + 1);
        self.absorb(mine.get(..whole).unwrap_or_default());
        Ok(())
    }

    /// Identity and position now.
    pub fn state(&self, path: &Path, inode: (u64, u64)) -> FileState {
        let hash = self.hash();
        FileState {
            path: path.to_path_buf(),
            dev: inode.0,
            ino: inode.1,
            size: self.size,
            mtime_ns: self.mtime_ns,
            head_len: self.consumed.min(HEAD_LEN as u64),
            head_hash: self.head.unwrap_or(hash),
            length: self.consumed,
            hash,
            complete: self.at_end,
            lines: self.lines,
            ends: Vec::new(),
            extra: self.extra.clone(),
        }
    }

    /// Where the lines ended that were consumed last, at most so many.
    pub fn ends(&self, most: usize) -> Vec<End> {
        let newlines: Vec<usize> = memchr::memchr_iter(b'\n', &self.recent.bytes).collect();
        let (mut hasher, mut from) = (self.recent.before.clone(), 0);
        let mut ends = Vec::with_capacity(newlines.len());
        for (n, at) in newlines.iter().enumerate() {
            hasher.update(self.recent.bytes.get(from..=*at).unwrap_or_default());
            from = at + 1;
            let lines = self.lines.saturating_sub((newlines.len() - n - 1) as u64);
            ends.push((self.recent.start + from as u64, lines, Hash128(hasher.digest128())));
        }
        // The last one is where the whole of it ends.
        ends.pop();
        ends.split_off(ends.len().saturating_sub(most))
    }

    /// The state before the recent bytes: what a copy cut short begins with. `None` where that is the
    /// file's start, or less than a head.
    pub fn earlier_state(&self, path: &Path, inode: (u64, u64)) -> Option<FileState> {
        let (length, hash) = (self.recent.start, Hash128(self.recent.before.digest128()));
        let head_hash = self.head.filter(|_| length >= HEAD_LEN as u64).or((length > 0 && length < HEAD_LEN as u64).then_some(hash))?;
        let lines = memchr::memchr_iter(b'\n', &self.recent.bytes).count() as u64;
        let lines = self.lines.saturating_sub(lines);
        Some(FileState {
            head_len: length.min(HEAD_LEN as u64),
            head_hash,
            length,
            hash,
            complete: false,
            lines,
            ..self.state(path, inode)
        })
    }
}

/// What stands in a file before an offset, as much as is compared.
fn bytes_before(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let from = offset.saturating_sub(COMPARED as u64);
    let mut bytes = vec![0; (offset - from) as usize];
    let got = read_full(file, from, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Reads until `buf` is full or the file ends.
pub(super) fn read_full(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buf.get_mut(got..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
