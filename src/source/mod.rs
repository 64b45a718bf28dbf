//! Where bytes come from: backfill's files in blocks of whole lines, and the live sources.
//!
//! Backfill, once from start to end:
//!
//! ```text
//! discover(paths) -> Series of SourceFile, oldest first
//!   open(file)    -> Opened: stat, and (when first read) compression by content
//!   known.recall  -> New | Unchanged | Prefix: how much of these bytes was read before
//!   Blocks        -> Block: some MiB of whole lines, with their offset
//!   blocks.state  -> FileState: what to keep, so that the next run can recall it
//! ```
//!
//! Live, for months ([`live`] is the one shape; [`tail`] follows files):
//!
//! ```text
//! source.next(now)    -> Lines: some whole lines of one stream
//! source.checkpoint() -> Checkpoint: what to commit with them, to go on there after a restart
//! ```
//!
//! Offsets, lengths and hashes are over *decompressed* bytes, so that `mail.log.1` and the
//! `mail.log.2.gz` it becomes are one file. Nothing from outside is trusted: line length,
//! decompressed size and memory are bounded ([`Limits`], [`BlockOptions`]).

mod blocks;
mod decompress;
mod discover;
mod feed;
pub mod framing;
mod identity;
pub mod journal;
pub mod live;
pub mod mailbox;
mod open;
mod order;
mod stdin;
pub mod syslog;
pub mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod utf16;

use std::io;
use std::path::{Path, PathBuf};

pub use blocks::{Block, BlockOptions, Blocks};
pub use discover::{Discovered, FileKind, Series, SourceFile, discover};
pub use feed::Feed;
pub use identity::{FileState, Hash128, Known, Recall};
pub use open::{Compression, Meta, Opened, open};
pub use stdin::stdin;

/// Bytes at the start of a file (decompressed) whose hash finds the candidates for a recall.
pub const HEAD_LEN: usize = 64 * 1024;
/// Bytes at the start of a file (decompressed) in which a NUL byte makes it binary.
pub const BINARY_PROBE: usize = 8 * 1024;

/// Bounds on what a compressed file may become. Plain files have no such bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most decompressed bytes of one file; `None` is no bound. Default: none.
    pub max_decompressed: Option<u64>,
    /// Most decompressed bytes per compressed byte, asked only once `ratio_floor` bytes have come
    /// out; `None` is no bound. Default: 1000 (text logs reach 10 to 50, rarely 200).
    pub max_ratio: Option<u64>,
    /// Decompressed bytes below which the ratio is not asked. Default: 1 GiB.
    pub ratio_floor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_decompressed: None, max_ratio: Some(1000), ratio_floor: 1 << 30 }
    }
}

/// What can be wrong with an input. Each message names the file and says what to do; each concerns
/// one file only: the caller reports it and goes on with the next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The path does not exist (any more), or is a dangling symlink.
    #[error("{}: no such file or folder; check the name, or run again if it was rotated away meanwhile", shown(.path))]
    Missing {
        /// As given or found.
        path: PathBuf,
    },
    /// No right to read it.
    #[error("{}: permission denied; run as a user who may read it (mail logs often belong to group adm), or leave it out", shown(.path))]
    Denied {
        /// As given or found.
        path: PathBuf,
    },
    /// Any other failure of the operating system.
    #[error("{}: cannot {doing}: {error}; what was read before it is kept, run again once it is repaired", shown(.path))]
    Io {
        /// As given or found.
        path: PathBuf,
        /// What was tried, for "cannot ...".
        doing: String,
        /// What the system said.
        error: io::Error,
    },
    /// NUL bytes near the start: no text log.
    #[error("{}: binary data (a NUL byte at decompressed byte {position}), not a text log; skipped, leave it out or convert it to text", shown(.path))]
    Binary {
        /// As given or found.
        path: PathBuf,
        /// Of the first NUL byte, in decompressed bytes.
        position: u64,
    },
    /// Compressed or packed in a way that is not read here, or not a file with lines at all.
    #[error("{}: {what}; {hint}", shown(.path))]
    Unsupported {
        /// As given or found.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
    /// Compressed data that ends too early or makes no sense. All whole lines before it were yielded.
    #[error("{}: damaged {compression} data at byte {position} of the file ({decompressed} bytes decompressed before it): {detail}; the lines before it were read, the rest is lost unless there is a better copy", shown(.path))]
    Damaged {
        /// As given or found.
        path: PathBuf,
        /// Which decompressor said so.
        compression: Compression,
        /// In the file on disk: how far the decompressor had read.
        position: u64,
        /// Bytes that had come out before.
        decompressed: u64,
        /// What the decompressor said.
        detail: String,
    },
    /// More decompressed bytes than [`Limits`] allow. What fits was yielded.
    #[error("{}: {compressed} bytes became more than {decompressed} when decompressed, over the limit of {limit}; what came before was read. If the file is honest, raise the limit or decompress it by hand", shown(.path))]
    TooLarge {
        /// As given or found.
        path: PathBuf,
        /// Bytes of the file read.
        compressed: u64,
        /// Bytes that came out.
        decompressed: u64,
        /// The limit that was passed, in words.
        limit: String,
    },
    /// Shorter than the offset at which reading should start.
    #[error("{}: holds only {size} bytes (decompressed), reading should start at {offset}; it was truncated or replaced, read it from its start", shown(.path))]
    Shrunk {
        /// As given or found.
        path: PathBuf,
        /// Where reading should have started.
        offset: u64,
        /// Where the file ends.
        size: u64,
    },
}

impl SourceError {
    /// The file (or folder) that the problem is about.
    pub fn path(&self) -> &Path {
        match self {
            SourceError::Missing { path }
            | SourceError::Denied { path }
            | SourceError::Io { path, .. }
            | SourceError::Binary { path, .. }
            | SourceError::Unsupported { path, .. }
            | SourceError::Damaged { path, .. }
            | SourceError::TooLarge { path, .. }
            | SourceError::Shrunk { path, .. } => path,
        }
    }

    fn from_io(path: &Path, doing: impl Into<String>, error: io::Error) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::NotFound => SourceError::Missing { path },
            io::ErrorKind::PermissionDenied => SourceError::Denied { path },
            _ => SourceError::Io { path, doing: doing.into(), error },
        }
    }
}

/// A path for a message: control characters escaped, undecodable bytes replaced.
fn shown(path: &Path) -> String {
    let mut out = String::new();
    for c in path.to_string_lossy().chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
