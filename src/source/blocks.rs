//! Blocks of whole lines out of one file.

use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::identity::{FileState, Hash128};
use super::open::{Bytes, Compression};
use super::{HEAD_LEN, Meta, Opened, SourceError};

/// Sizes of blocks and lines, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockOptions {
    /// What a block is filled up to; a longer line makes a longer block. At least 1. Default: 4 MiB.
    pub block_size: usize,
    /// Most bytes of a line, its newline not counted; the rest of a longer line is dropped and
    /// counted. At least 1. Default: 1 MiB.
    pub max_line: usize,
}

impl Default for BlockOptions {
    fn default() -> Self {
        BlockOptions { block_size: 4 << 20, max_line: 1 << 20 }
    }
}

/// Some whole lines that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Each line ends in `\n`, except possibly the last one of the file. Never empty. A byte's
    /// offset in the file is `offset` plus its place here (a line that was cut is the only one of
    /// its block).
    pub bytes: Vec<u8>,
    /// Of the first byte, in decompressed bytes.
    pub offset: u64,
    /// The block is one line without newline that is not counted as consumed: the last line of a
    /// plain file, still being written perhaps, or one that damage cut off. The next run reads it again.
    pub unterminated: bool,
}

/// Reads one file, from its start, from where a recall found it known, or from an offset.
///
/// Holds at most `2 * max(block_size, max_line + 1)` bytes besides the blocks that the caller has.
pub struct Blocks {
    opened: Opened,
    bytes: Bytes,
    options: BlockOptions,
    /// A final line without newline may yet grow.
    growing: bool,
    /// Over the bytes before `consumed`; `None` if reading began at an offset by seeking.
    hasher: Option<Box<Xxh3>>,
    consumed: u64,
    lines: u64,
    oversized: u64,
    /// `work[at..filled]` was read but not yielded; its first byte has the offset `consumed`.
    work: Vec<u8>,
    at: usize,
    filled: usize,
    eof: bool,
    complete: bool,
    failed: bool,
    pending: Option<SourceError>,
    spare: Vec<Vec<u8>>,
}

impl Blocks {
    /// Begins to read. Reads the head, if no recall has.
    ///
    /// # Errors
    /// As [`Opened::head`].
    pub fn new(mut opened: Opened, options: BlockOptions) -> Result<Blocks, SourceError> {
        opened.head()?;
        let bytes = match opened.bytes.take() {
            Some(bytes) => bytes,
            None => {
                opened.restart()?;
                return Self::new(opened, options);
            }
        };
        let options = BlockOptions { block_size: options.block_size.max(1), max_line: options.max_line.max(1) };
        let mut blocks = Blocks {
            growing: opened.regular && bytes.compression == Compression::Plain,
            hasher: Some(Box::default()),
            consumed: 0,
            lines: 0,
            oversized: 0,
            work: Vec::new(),
            at: 0,
            filled: 0,
            eof: false,
            complete: false,
            failed: false,
            pending: None,
            spare: Vec::new(),
            opened,
            bytes,
            options,
        };
        if let Some(resume) = blocks.opened.resume.take() {
            blocks.consumed = resume.offset;
            blocks.hasher = Some(resume.hasher);
            blocks.lines = resume.lines;
        }
        Ok(blocks)
    }

    /// Goes to a decompressed offset that is the start of a line, before the first [`Blocks::next`].
    /// Plain files: by seeking, after which [`Blocks::state`] is `None`. Others: by decompressing
    /// and dropping. Line counts then begin at 0 and at the file's first line respectively.
    ///
    /// # Errors
    /// [`SourceError::Shrunk`] if the file ends before, and all of [`Blocks::next`].
    pub fn start_at(&mut self, offset: u64) -> Result<(), SourceError> {
        let path = self.opened.file.path.clone();
        if offset == self.consumed {
            return Ok(());
        }
        if self.growing {
            let stat = self.opened.handle.metadata();
            let size = stat.map_err(|e| SourceError::from_io(&path, "look at it", e))?.len();
            if offset > size {
                return Err(SourceError::Shrunk { path, offset, size });
            }
            if self.bytes.seek(offset) {
                (self.hasher, self.consumed, self.lines) = (None, offset, 0);
                return Ok(());
            }
        }
        if offset < self.consumed {
            self.opened.restart()?;
            if let Some(bytes) = self.opened.bytes.take() {
                self.bytes = bytes;
            }
            (self.hasher, self.consumed, self.lines) = (Some(Box::default()), 0, 0);
        }
        while self.consumed < offset {
            let want = usize::try_from(offset - self.consumed).unwrap_or(usize::MAX).min(HEAD_LEN);
            let mut chunk = vec![0; want];
            let (got, result) = self.bytes.read_full(&mut chunk);
            chunk.truncate(got);
            self.count(&chunk);
            result?;
            if got < want {
                return Err(SourceError::Shrunk { path, offset, size: self.consumed });
            }
        }
        Ok(())
    }

    /// The next block; `None` at the end. After an error only `None` follows, and the file's state
    /// is not complete. Whole lines before an error are always yielded first.
    ///
    /// # Errors
    /// [`SourceError::Damaged`], [`SourceError::TooLarge`], [`SourceError::Io`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Block>, SourceError> {
        self.fill(self.options.block_size);
        loop {
            let data = self.work.get(self.at..self.filled).unwrap_or_default();
            if data.is_empty() {
                return self.end();
            }
            match scan(data, self.options.max_line) {
                Scan::Whole(end) => return Ok(Some(self.take_whole(end))),
                Scan::TooLong => return self.cut_line().map(Some),
                Scan::NoNewline if self.eof => {
                    let line = data.to_vec();
                    self.at = self.filled;
                    return Ok(Some(self.last_line(line)));
                }
                Scan::NoNewline => self.fill(data.len().saturating_mul(2).max(self.options.block_size)),
            }
        }
    }

    /// Takes a block's buffer back for another block; what it holds does not matter.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        let bound = self.options.block_size.saturating_mul(2).max(self.options.max_line.saturating_mul(2));
        if self.spare.len() < 8 && buffer.capacity() <= bound {
            self.spare.push(buffer);
        }
    }

    /// Decompressed offset after the last line yielded and counted: where a later run goes on.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Lines before [`Blocks::consumed`], those of earlier runs too.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Lines that were longer than `max_line`, and cut.
    pub fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Bytes on disk used so far, for a progress bar: compare with [`Meta::size`].
    pub fn disk_position(&self) -> u64 {
        self.bytes.disk_position()
    }

    /// The file being read.
    pub fn path(&self) -> &Path {
        &self.opened.file.path
    }

    /// Stat at the time of opening.
    pub fn meta(&self) -> &Meta {
        &self.opened.meta
    }

    /// Identity and position after the blocks yielded so far: a checkpoint once they are safely
    /// stored, and, after [`Blocks::next`] gave `None`, the finished file. `None` for what has no
    /// identity: streams, and files begun at an offset by seeking.
    pub fn state(&self) -> Option<FileState> {
        let hash = self.hasher.as_ref().filter(|_| self.opened.regular)?.digest128();
        let head_len = usize::try_from(self.consumed).unwrap_or(usize::MAX).min(self.opened.head.len());
        let Meta { dev, ino, size, mtime_ns } = self.opened.meta;
        Some(FileState {
            path: self.opened.file.path.clone(),
            dev,
            ino,
            size,
            mtime_ns,
            head_len: head_len as u64,
            head_hash: Hash128(xxh3_128(self.opened.head.get(..head_len).unwrap_or_default())),
            length: self.consumed,
            hash: Hash128(hash),
            complete: self.complete,
            lines: self.lines,
            ends: Vec::new(),
            extra: serde_json::Value::Null,
        })
    }

    /// Reads until `want` bytes are at hand or nothing follows.
    fn fill(&mut self, want: usize) {
        if self.eof || self.filled - self.at >= want {
            return;
        }
        self.work.copy_within(self.at..self.filled, 0);
        (self.at, self.filled) = (0, self.filled - self.at);
        if self.work.len() < want {
            self.work.resize(want, 0);
        }
        let (got, result) = self.bytes.read_full(self.work.get_mut(self.filled..want).unwrap_or_default());
        self.eof = self.filled + got < want;
        self.filled += got;
        if let Err(e) = result {
            self.pending = Some(e);
            self.eof = true;
        }
    }

    /// Yields the first `end` bytes at hand, copying the smaller part.
    fn take_whole(&mut self, end: usize) -> Block {
        let mut other = self.spare.pop().unwrap_or_default();
        let rest = self.at + end..self.filled;
        let bytes = if self.at == 0 && rest.len() <= end {
            let left = self.work.get(rest).unwrap_or_default();
            if other.len() < left.len() {
                other.resize(left.len(), 0);
            }
            if let Some(front) = other.get_mut(..left.len()) {
                front.copy_from_slice(left);
            }
            self.filled = left.len();
            let mut bytes = std::mem::replace(&mut self.work, other);
            bytes.truncate(end);
            bytes
        } else {
            other.clear();
            other.extend_from_slice(self.work.get(self.at..self.at + end).unwrap_or_default());
            self.at += end;
            other
        };
        let offset = self.consumed;
        self.count(&bytes);
        Block { bytes, offset, unterminated: false }
    }

    /// Yields the first `max_line` bytes of the line at hand; drops the rest up to its newline.
    fn cut_line(&mut self) -> Result<Block, SourceError> {
        let start = self.work.get(self.at..self.filled).unwrap_or_default();
        let mut line = start.get(..self.options.max_line).unwrap_or(start).to_vec();
        self.oversized += 1;
        // The line counts only if its end is found: a plain file's last line may still grow.
        let before = (self.hasher.clone(), self.consumed, self.lines);
        loop {
            let data = self.work.get(self.at..self.filled).unwrap_or_default();
            let newline = memchr::memchr(b'\n', data);
            let end = newline.map_or(data.len(), |n| n + 1);
            if let Some(hasher) = &mut self.hasher {
                hasher.update(data.get(..end).unwrap_or_default());
            }
            self.consumed += end as u64;
            self.at += end;
            if newline.is_some() {
                self.lines += 1;
                line.push(b'\n');
                return Ok(Block { bytes: line, offset: before.1, unterminated: false });
            }
            if self.eof {
                let offset = before.1;
                let unterminated = self.growing || self.pending.is_some();
                if unterminated {
                    (self.hasher, self.consumed, self.lines) = before;
                } else {
                    self.lines += 1;
                }
                return Ok(Block { bytes: line, offset, unterminated });
            }
            self.fill(self.options.block_size);
        }
    }

    /// A last line without newline.
    fn last_line(&mut self, bytes: Vec<u8>) -> Block {
        let offset = self.consumed;
        let unterminated = self.growing || self.pending.is_some();
        if !unterminated {
            self.count(&bytes);
            self.lines += 1;
        }
        Block { bytes, offset, unterminated }
    }

    fn end(&mut self) -> Result<Option<Block>, SourceError> {
        if let Some(error) = self.pending.take() {
            self.failed = true;
            return Err(error);
        }
        self.complete = !self.failed;
        Ok(None)
    }

    fn count(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.consumed += bytes.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
    }
}

pub(super) enum Scan {
    /// Whole lines, none too long, up to here.
    Whole(usize),
    /// The first line is too long.
    TooLong,
    /// The first line does not end here, and may yet be short enough.
    NoNewline,
}

/// Looks at newlines only as often as `data` has times `max_line`.
pub(super) fn scan(data: &[u8], max_line: usize) -> Scan {
    let mut end = 0;
    loop {
        let rest = data.get(end..).unwrap_or_default();
        let window = rest.get(..=max_line);
        match memchr::memrchr(b'\n', window.unwrap_or(rest)) {
            Some(at) => end += at + 1,
            None if end > 0 => return Scan::Whole(end),
            None if window.is_some() => return Scan::TooLong,
            None => return Scan::NoNewline,
        }
        if end == data.len() {
            return Scan::Whole(end);
        }
    }
}
