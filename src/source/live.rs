//! The one shape of all live sources: log files that are followed, the journal, a syslog listener,
//! standard input.
//!
//! ```text
//! loop:  source.next(now)      -> Lines: some whole lines of one stream
//!        ... folded ...
//!        source.checkpoint()   -> Checkpoint: where the source stands after all Lines it gave out
//!        ... commit, the checkpoint in its payload ...
//!        source.committed()
//! ```
//! A source pushes nothing: it is asked, gives at most one block at a time, and keeps bounded memory
//! while it is not asked. What it has in threads or tasks of its own ends in a bounded channel. It
//! calls [`Wake`] when there may be something new, so that the loop need not spin.
//!
//! After a failed commit drop the source, and make a new one from the positions on disk (R2).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::FileState;

/// Called when a source may have something new. Must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Reads a wall clock: microseconds since 1970.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The system's wall clock.
pub fn wall_clock() -> Now {
    let since = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Arc::new(move || i64::try_from(since().as_micros()).unwrap_or(i64::MAX))
}

/// Some whole lines of one stream, in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Which stream. One stream has one clock and one state of ordinals and fragments, whatever
    /// files it is cut into. The same after a restart: folder and name of the live file, or
    /// `journal`, `syslog`, `-` for what has no path.
    pub stream: Arc<Path>,
    /// Which file of the stream, unique within this run ([`FilePosition::file`]); 0 for what is no file.
    pub file: u64,
    /// Never empty; every line ends in `\n`.
    pub bytes: Vec<u8>,
    /// They are the first of their file, of which nothing was read before, in an earlier run neither.
    pub begins: bool,
    /// Seconds since 1970: the latest moment these lines can speak of, for stamps without a year (a
    /// file's time of last change). `None`: the present.
    pub not_after: Option<i64>,
}

/// Where a source stands after all lines it gave out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    /// Files still followed: into the payload of the commit, in place of those of the commit before.
    pub live: Vec<FilePosition>,
    /// Files read to their end since the last [`Live::committed`]: a small document each, in place
    /// of an earlier one of the same file (late lines make a finished file finish once more).
    pub finished: Vec<FilePosition>,
    /// Position of what is no file (the journal's cursor), with the name of its stream: into the payload.
    pub cursors: Vec<(String, String)>,
}

/// Where reading of one file stands.
#[derive(Debug, Clone, PartialEq)]
pub struct FilePosition {
    /// As [`Lines::stream`].
    pub stream: Arc<Path>,
    /// As [`Lines::file`].
    pub file: u64,
    /// Identity and position. `extra` is what the state that was resumed had.
    pub state: FileState,
}

/// Something that went wrong, or is over. Each is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File, folder, or name of the stream.
    pub path: PathBuf,
    /// What and with which consequence, with the path, fit for a log. When over: what had been wrong.
    pub text: String,
    /// It is over.
    pub over: bool,
}

/// What a source does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Everything that is there was given out.
    Following,
    /// There is more to read.
    CatchingUp,
    /// There is nothing to read from (yet): no such file, no connection.
    Waiting,
    /// It cannot be read; see the error.
    Failed,
    /// It has ended for good (standard input).
    Ended,
}

/// One source as `status` and the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// As [`Lines::stream`].
    pub stream: Arc<Path>,
    /// What it does.
    pub activity: Activity,
    /// Bytes on disk, or lines in the channel, that were not given out yet.
    pub behind: u64,
    /// Since when there was always something not given out.
    pub behind_since: Option<Instant>,
    /// Lines given out in this run.
    pub lines: u64,
    /// Lines cut because they were too long, in this run.
    pub oversized: u64,
    /// Lines or messages dropped, in this run (UDP faster than the loop, entries over a bound).
    pub dropped: u64,
    /// What is wrong now.
    pub error: Option<String>,
}

/// A source that is read while it is written.
pub trait Live: Send {
    /// The next block; `None`: nothing for now (or for ever, see [`Activity::Ended`]). Does not wait.
    /// `now` never goes back. Sources take turns: ask each once, and go on as long as one gave something.
    fn next(&mut self, now: Instant) -> Option<Lines>;

    /// Where it stands after all that [`Live::next`] gave out: fold all of that first.
    fn checkpoint(&mut self) -> Checkpoint;

    /// The last checkpoint is on disk.
    fn committed(&mut self) {}

    /// What went wrong or is over since the last call.
    fn problems(&mut self) -> Vec<Problem>;

    /// Every stream of this source.
    fn health(&self) -> Vec<Health>;
}
