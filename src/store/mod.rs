//! The store: puts records, finds records, and keeps them whole (R2, R4).
//!
//! The default engine is one embedded tantivy index in one folder; nothing outside this module knows that.
//!
//! * **One commit is one step.** [`Writer::apply`] stores a [`Batch`]: records (each replaces the record of its key),
//!   removals, finished-source documents and the positions of the live tails. All of it is there after a crash, or none.
//! * **After any error a writer is dead.** Drop it, take a new one from [`Store::writer`] (which opens the folder
//!   afresh), read [`Store::positions`] and resume from there. Never retry a failed batch on the same writer.
//! * **Segments keep to windows of time** (by arrival), so that what is too old goes as whole segments. A bulk batch that
//!   spans several windows is one commit a window, the oldest first, and only the last one bears its positions.
//! * **One writer process.** A second one is told who holds the lock. Readers may be many, in any process.
//! * **Aborted transactions** (hops whose only events are arrivals) are kept, and found by key and slot, but are not
//!   seen by [`Store::find`], [`Store::by_id`], [`Store::stats`] and [`Store::coverage`].
//! * **Nothing deletes an index.** What is damaged or of another version is reported, with what to do about it.
//!
//! A segment has two files beside the engine's own, kept by its plugins: which records bear which ids, and the records,
//! each packed by itself with a dictionary that is a document of the index.
//!
//! A record is one document however many recipients it has; such a one costs memory of a few times its size.

mod check;
mod clause;
mod engine;
mod filter;
mod find;
mod guard;
mod ids;
mod merge;
mod pack;
mod plugin;
mod records;
mod scan;
mod schema;
mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

use crate::model::record::{Record, StoredRecord};
use std::path::PathBuf;

pub use check::{Coverage, HostCoverage, Stats, VerifyReport};
pub use engine::Store;
pub use filter::KeyFilter;
pub use find::{Seen, Walk};
pub use scan::SegmentFigures;
pub use schema::VERSION;
pub use writer::Writer;

/// Why the store could not do what was asked. Each message names the folder or file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no index in the folder.
    #[error("no index in {}: run `msgtrk backfill` or `msgtrk serve` first, or name another folder with --index", dir.display())]
    Absent {
        /// The folder.
        dir: PathBuf,
    },
    /// The index was written by another version.
    #[error(
        "the index in {} has format {found}, this msgtrk reads format {wanted}: rebuild it with `msgtrk backfill` into a new folder \
         (what no log can give back is carried over with the old version's `msgtrk export` and `msgtrk import`)",
        dir.display()
    )]
    Version {
        /// The folder.
        dir: PathBuf,
        /// Format found.
        found: String,
        /// Format of this program.
        wanted: u32,
    },
    /// Another process (or another writer of this one) writes the index.
    #[error("index {} is locked by another msgtrk (pid {pid}): stop it, or let it do the work", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Process id that holds the lock, or `unknown`.
        pid: String,
    },
    /// Files of the index are missing or say what cannot be.
    #[error("the index in {} is damaged: {what}; run `msgtrk verify`, then rebuild it with `msgtrk backfill` into a new folder", dir.display())]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The engine could not do what was asked.
    #[error("index {}: {doing}: {what}", dir.display())]
    Engine {
        /// The folder.
        dir: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the engine said.
        what: String,
    },
    /// The daemon that writes the index cannot be used.
    #[error("the daemon of index {}: {why}", dir.display())]
    Daemon {
        /// The folder.
        dir: PathBuf,
        /// What it said.
        why: String,
    },
    /// The writer has trouble of its own.
    #[error("index {} cannot be written at the moment: {why}", dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
        /// The trouble.
        why: String,
    },
    /// The writer met an error before; it stays shut.
    #[error("the writer of index {} stopped after an error: take a new one and resume from the committed positions", dir.display())]
    Stopped {
        /// The folder.
        dir: PathBuf,
    },
}

impl StoreError {
    /// Whether the disk (or quota) is full: stop reading sources, go on answering, try again when there is room.
    pub fn is_storage_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, StoreError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }
}

/// The store's results.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What one commit stores.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Records; each replaces what is stored under its key. Of two with one key the later counts.
    pub put: Vec<StoredRecord>,
    /// Personal data was taken out of all of these: [`Store::plain_before`] passes them over.
    pub masked: bool,
    /// Keys of records to take away (before `put` is stored).
    pub remove: Vec<String>,
    /// Finished sources: key and opaque JSON; each replaces what is stored under its key.
    pub sources: Vec<(String, String)>,
    /// Positions of the live tails, opaque JSON; read back with [`Store::positions`].
    pub positions: String,
    /// Take away all records that arrived before this time, microseconds since 1970; what is still queued stays as long as it is heard of.
    pub expire_before: Option<i64>,
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitInfo {
    /// Records stored.
    pub put: usize,
    /// Segments of the index after it.
    pub segments: usize,
    /// Merges done on the way.
    pub merges: usize,
}

/// How many records a query has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// Just so many.
    Exact(u64),
    /// As many or more.
    AtLeast(u64),
}

/// What a query found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The records, in the order asked for.
    pub records: Vec<Record>,
    /// How many there are without the limit.
    pub total: Total,
}

/// Builds the documents of records and drops them: how many values they hold. For benches.
#[doc(hidden)]
pub fn build_documents(records: &[StoredRecord]) -> usize {
    let (_, fields) = schema::schema();
    records.iter().map(|r| schema::document(&fields, None, r, false).len()).sum()
}
