//! Backfill: files of the past into the index, as fast as the machine reads them.
//!
//! Blocks are parsed in parallel while the block before is folded; a commit happens whenever the
//! ledger has grown to its budget, between two blocks, and carries how far each file was read.
//! So a run that is stopped (Ctrl-C, a crash, a full disk) goes on where its last commit was.

use super::commit::Committer;
use super::fold::Fold;
use super::mail::{self, MailCounts};
use super::parse_block::{Chunk, Counts, parse_block};
use crate::config::Site;
use crate::ledger::Ledger;
use crate::parse::Parsers;
use crate::resolve::clock::{Anchor, Clock};
use crate::resolve::order::Order;
use crate::source::{Block, BlockOptions, Blocks, FileState, Known, Limits, Recall, Series, SourceError, SourceFile, discover, open};
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a backfill is told.
pub struct Options<'a> {
    /// Files, folders, `-`.
    pub paths: Vec<PathBuf>,
    /// Host of lines that name none.
    pub host: String,
    /// Year of the first line of each series, where stamps have none; `None`: by each file's time.
    pub year: Option<i32>,
    /// Host names and zones.
    pub site: &'a Site,
    /// Parser files.
    pub parsers: Arc<Parsers>,
    /// Bytes of events gathered before a commit.
    pub budget: usize,
    /// Seconds since 1970: standard input has no time of its own.
    pub now: i64,
    /// Set from outside: commit and stop.
    pub stop: &'a AtomicBool,
}

/// Bytes of events gathered before a commit, by default.
pub const BUDGET: usize = 64 << 20;

/// Told how far a backfill is.
pub trait Progress: Sync {
    /// So many bytes (as they lie on disk) are to be read.
    fn total(&self, bytes: u64);
    /// A file is begun.
    fn file(&self, path: &Path);
    /// So many bytes of all were read.
    fn position(&self, bytes: u64);
    /// Something went wrong with one input; the rest goes on.
    fn problem(&self, text: &str);
}

/// What became of a backfill.
#[derive(Debug, Default, Clone)]
pub struct Summary {
    /// Files read, wholly or from where an earlier run stopped.
    pub files: u64,
    /// Files with nothing new in them.
    pub unchanged: u64,
    /// Bytes of log read, decompressed.
    pub bytes: u64,
    /// What became of the lines.
    pub counts: Counts,
    /// What became of mails.
    pub mail: MailCounts,
    /// Lines longer than a line may be, cut.
    pub oversized: u64,
    /// Lines whose stamp is no date.
    pub undated: u64,
    /// Events left out because one message had too many.
    pub overfull: u64,
    /// Records written, new or changed.
    pub records: u64,
    /// Commits.
    pub commits: u64,
    /// Files with lines, none of which spoke of a message.
    pub barren: Vec<PathBuf>,
    /// Files whose lines name no host.
    pub hostless: Vec<PathBuf>,
    /// What could not be read, in words.
    pub problems: Vec<String>,
    /// Something that was asked for was not done.
    pub incomplete: bool,
    /// It was stopped from outside; what was read is committed.
    pub interrupted: bool,
}

/// What a finished (or interrupted) file's document holds besides its identity.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Extra {
    /// Name of the document.
    #[serde(default)]
    pub id: String,
    /// Where the clock stood (local seconds of the last yearless stamp).
    #[serde(default)]
    pub clock: Option<i64>,
    /// What became of its lines.
    #[serde(default)]
    pub counts: Counts,
    /// First and last moment of its events, microseconds.
    #[serde(default)]
    pub span: Option<(i64, i64)>,
}

impl Extra {
    /// Reads what [`FileState::extra`] holds.
    pub fn of(state: &FileState) -> Extra {
        serde_json::from_value(state.extra.clone()).unwrap_or_default()
    }
}

struct Run<'a, 'p> {
    options: &'a Options<'a>,
    committer: Committer<'a>,
    known: Known,
    ledger: Ledger,
    /// File states that wait for the next commit.
    sources: Vec<(String, String)>,
    /// Of the series being read.
    order: Order,
    summary: Summary,
    progress: &'p dyn Progress,
    done: u64,
}

/// Reads all that `options` name into the index.
///
/// # Errors
/// Only what concerns the index as a whole; what is wrong with one input is in [`Summary::problems`].
pub fn backfill(store: &Store, options: &Options, progress: &dyn Progress) -> Result<Summary, StoreError> {
    let committer = Committer::new(store)?;
    let sources = store.sources()?;
    let known: Vec<FileState> = sources.iter().filter_map(|s| serde_json::from_str(s).ok()).collect();
    let mut found = discover(&options.paths);
    let mails = mail::take(&mut found.series);
    let all = || found.series.iter().flat_map(|s| &s.files);
    progress.total(all().filter_map(|f| std::fs::metadata(&f.path).ok()).map(|m| m.len()).sum());
    let mut run = Run {
        options,
        committer,
        known: Known::new(known),
        ledger: Ledger::default(),
        sources: Vec::new(),
        order: Order::default(),
        summary: Summary::default(),
        progress,
        done: 0,
    };
    for problem in found.problems {
        run.problem(&problem, true);
    }
    run.mails(&mails, sources)?;
    for series in &found.series {
        run.series(series)?;
        if run.stopped() {
            break;
        }
    }
    run.commit()?;
    run.summary.interrupted = run.stopped();
    run.summary.incomplete |= run.summary.interrupted;
    run.summary.commits = run.committer.commits;
    run.summary.records = run.committer.records;
    run.summary.overfull = run.ledger.overfull;
    Ok(run.summary)
}

impl Run<'_, '_> {
    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }

    fn problem(&mut self, error: &SourceError, named: bool) {
        let text = error.to_string();
        self.progress.problem(&text);
        self.summary.problems.push(text);
        let garbage = matches!(error, SourceError::Binary { .. } | SourceError::Unsupported { .. });
        self.summary.incomplete |= named || !garbage;
    }

    fn mails(&mut self, mails: &mail::Found, known: Vec<String>) -> Result<(), StoreError> {
        let o = self.options;
        let job = mail::Job {
            committer: &mut self.committer,
            known,
            reader: &o.parsers.reports,
            site: o.site,
            budget: o.budget,
            stop: o.stop,
            progress: self.progress,
        };
        let before = self.summary.problems.len();
        self.summary.mail = mail::read(job, mails, &mut self.summary.problems)?;
        self.summary.incomplete |= self.summary.problems.len() > before;
        Ok(())
    }

    fn named(&self, path: &Path) -> bool {
        self.options.paths.iter().any(|p| p == path)
    }

    /// A series is one stream of lines: its clock goes on from file to file.
    fn series(&mut self, series: &Series) -> Result<(), StoreError> {
        let mut clock: Option<i64> = None;
        self.order = Order::default();
        for file in &series.files {
            if self.stopped() {
                break;
            }
            self.progress.file(&file.path);
            let on_disk = std::fs::metadata(&file.path).map_or(0, |m| m.len());
            match self.file(file, clock) {
                Ok(position) => clock = position.or(clock),
                Err(FileError::Source(error)) => {
                    let named = self.named(&file.path);
                    self.problem(&error, named);
                }
                Err(FileError::Store(error)) => return Err(error),
            }
            self.done += on_disk;
            self.progress.position(self.done);
        }
        Ok(())
    }

    fn file(&mut self, file: &SourceFile, clock: Option<i64>) -> Result<Option<i64>, FileError> {
        let mut opened = open(file, &Limits::default())?;
        let mut before = Extra::default();
        let recalled = match self.known.recall(&mut opened)? {
            Recall::Unchanged(state) => {
                self.summary.unchanged += 1;
                return Ok(Extra::of(state).clock);
            }
            Recall::Prefix(state) => {
                before = Extra::of(state);
                Some(state.clone())
            }
            Recall::New => None,
        };
        let end = opened.meta().mtime_ns.div_euclid(1_000_000_000);
        let end = if file.kind == crate::source::FileKind::File { end } else { self.options.now };
        let anchor = self.options.year.map_or(Anchor::NotAfter(end), Anchor::Year);
        let from = if recalled.is_some() { before.clock } else { clock };
        let blocks = Blocks::new(opened, BlockOptions::default())?;
        let same_file = recalled.as_ref().is_some_and(|s| (s.dev, s.ino) == (blocks.meta().dev, blocks.meta().ino));
        if !same_file {
            before.id.clear();
        }
        self.read(blocks, Clock::resume(anchor, from), before, recalled)
    }

    fn read(&mut self, mut blocks: Blocks, clock: Clock, before: Extra, recalled: Option<FileState>) -> Result<Option<i64>, FileError> {
        let parsers = Arc::clone(&self.options.parsers);
        let start = blocks.consumed();
        let mut ledger = std::mem::take(&mut self.ledger);
        let order = std::mem::take(&mut self.order);
        let mut fold = Fold::new(&mut ledger, &parsers, self.options.site, clock, order, self.options.host.clone());
        let mut file = OneFile { before, counts: Counts::default(), failed: None };
        let mut last: Option<Parsed> = None;
        let mut outcome = Ok(());
        loop {
            // A block that was taken counts as read in the file's state: ask before taking it.
            let taken = if self.stopped() { Ok(None) } else { blocks.next() };
            let block = taken.unwrap_or_else(|error| {
                file.failed = Some(error);
                None
            });
            let ended = block.is_none();
            if let Some(buffer) = step(&parsers, &mut fold, &mut last, block) {
                blocks.give_back(buffer);
            }
            if let Some((b, chunks)) = &last
                && !b.warm
            {
                chunks.iter().for_each(|c| file.counts.add(&c.counts));
            }
            self.progress.position(self.done + blocks.disk_position());
            if ended {
                break;
            }
            if fold.ledger.bytes() > self.options.budget {
                // The file's state covers every block that was taken: fold the one that was just parsed, too.
                if let Some(buffer) = step(&parsers, &mut fold, &mut last, None) {
                    blocks.give_back(buffer);
                }
                self.note(&blocks, &file, &fold, false);
                outcome = self.committer.commit(fold.ledger.drain(), std::mem::take(&mut self.sources));
                if outcome.is_err() {
                    break;
                }
            }
        }
        let position = fold.clock().position();
        self.tally(&mut file, &fold, &blocks, start, recalled.as_ref());
        let hostless = fold.hostless > 0;
        self.order = fold.into_order();
        self.ledger = ledger;
        if hostless {
            self.summary.hostless.push(blocks.path().to_path_buf());
        }
        outcome?;
        match file.failed {
            Some(error) => Err(error.into()),
            None => Ok(position),
        }
    }

    /// The file's part of the summary, and its state for the next commit.
    fn tally(&mut self, file: &mut OneFile, fold: &Fold, blocks: &Blocks, start: u64, recalled: Option<&FileState>) {
        self.summary.bytes += blocks.consumed() - start;
        self.summary.oversized += blocks.oversized();
        self.summary.undated += fold.undated;
        let nothing_new = recalled.is_some_and(|s| s.length == blocks.consumed()) && file.counts.lines == 0;
        if nothing_new {
            self.summary.unchanged += 1;
        } else {
            self.summary.files += 1;
        }
        self.note(blocks, file, fold, true);
        let mut counts = file.counts.clone();
        counts.add(&fold.counts);
        self.summary.counts.add(&counts);
        if counts.lines > 0 && counts.events == 0 && recalled.is_none() {
            self.summary.barren.push(blocks.path().to_path_buf());
        }
    }

    /// Writes down how far the file was read, to travel in the next commit.
    fn note(&mut self, blocks: &Blocks, file: &OneFile, fold: &Fold, remember: bool) {
        let Some(mut state) = blocks.state() else { return };
        let mut extra = file.before.clone();
        extra.counts.add(&file.counts);
        extra.counts.add(&fold.counts);
        extra.clock = fold.clock().position();
        extra.span = match (extra.span, fold.span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (a, b) => a.or(b),
        };
        if extra.id.is_empty() {
            let name = format!("{}/{}/{:x}", state.dev, state.ino, state.head_hash.0);
            extra.id = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
        }
        let id = extra.id.clone();
        state.extra = serde_json::to_value(extra).unwrap_or_default();
        if let Ok(json) = serde_json::to_string(&state) {
            self.sources.retain(|(key, _)| *key != id);
            self.sources.push((id, json));
        }
        if remember {
            self.known.push(state);
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.committer.commit(self.ledger.drain(), std::mem::take(&mut self.sources))
    }
}

/// A block and what its lines say.
type Parsed = (Block, Vec<Chunk>);

struct OneFile {
    before: Extra,
    counts: Counts,
    failed: Option<SourceError>,
}

enum FileError {
    Source(SourceError),
    Store(StoreError),
}

impl From<SourceError> for FileError {
    fn from(e: SourceError) -> Self {
        FileError::Source(e)
    }
}

impl From<StoreError> for FileError {
    fn from(e: StoreError) -> Self {
        FileError::Store(e)
    }
}

/// Parses `block` while the block before it (`last`) is folded; then `block` is the last one. Returns the folded one's buffer.
fn step(parsers: &Arc<Parsers>, fold: &mut Fold, last: &mut Option<Parsed>, block: Option<Block>) -> Option<Vec<u8>> {
    let parse = |b: Block| {
        let chunks = parse_block(parsers, &b.bytes);
        (b, chunks)
    };
    let fold_last = || {
        for (block, chunks) in last.iter() {
            chunks.iter().for_each(|c| fold.chunk(&block.bytes, c, block.warm));
        }
    };
    let (parsed, ()) = rayon::join(|| block.map(parse), fold_last);
    std::mem::replace(last, parsed).map(|(b, _)| b.bytes)
}
