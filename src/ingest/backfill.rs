//! Backfill: files of the past into the index, as fast as the machine reads them.
//!
//! Blocks are parsed in parallel while the block before is folded; a commit happens whenever the
//! ledger has grown to its budget, between two blocks, and carries how far each file was read.
//! So a run that is stopped (Ctrl-C, a crash, a full disk) goes on where its last commit was.

use super::commit::{Sink, Work};
use super::fold::Fold;
use super::mail::{self, MailCounts};
use super::parse_block::{Chunk, Counts, parse_block};
use super::positions::known_files;
use crate::config::Site;
use crate::ledger::Ledger;
use crate::parse::Parsers;
use crate::resolve::StreamState;
use crate::resolve::clock::Anchor;
use crate::resolve::sheet::Sheet;
use crate::source::{
    Block, BlockOptions, Blocks, Discovered, FileState, Known, Limits, Recall, Series, SourceError, SourceFile, discover, open,
};
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// What a backfill is told.
pub struct Options<'a> {
    /// Files, folders, `-`.
    pub paths: Vec<PathBuf>,
    /// Host of lines that name none.
    pub host: String,
    /// Year of the first line of each series, where stamps have none; `None`: by each file's time.
    pub year: Option<i32>,
    /// Host names and zones.
    pub site: Arc<Site>,
    /// Parser files.
    pub parsers: Arc<Parsers>,
    /// Bytes of events gathered before a commit.
    pub budget: usize,
    /// Seconds since 1970: standard input has no time of its own.
    pub now: i64,
    /// Set from outside: commit and stop.
    pub stop: &'a AtomicBool,
    /// Events before this moment, microseconds since 1970, are counted and left out.
    pub not_before: Option<i64>,
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
    /// Files of a folder in which no line bears a stamp: no logs.
    pub no_logs: u64,
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
    /// Events left out because they are older than what is kept.
    pub too_old: u64,
    /// Lines of a session or delivery whose beginning was not seen, so that no message is known for them.
    pub orphans: u64,
    /// Messages whose mark (RFC 3885) the log does not bear whole, so that nobody can track them.
    pub unbound: u64,
    /// Events left out because one message had too many.
    pub overfull: u64,
    /// Records written, new or changed.
    pub records: u64,
    /// Commits.
    pub commits: u64,
    /// Files named on the command line with lines, none of which spoke of a message.
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
    /// What the lines behind the bytes read need to know of those before.
    #[serde(default)]
    pub stream: StreamState,
    /// What became of its lines.
    #[serde(default)]
    pub counts: Counts,
    /// First and last moment of its events, microseconds.
    #[serde(default)]
    pub span: Option<(i64, i64)>,
}

impl Extra {
    /// Gives the document a name, if it has none yet.
    pub fn name(&mut self, state: &FileState) {
        if self.id.is_empty() {
            let name = format!("{}/{}/{:x}", state.dev, state.ino, state.head_hash.0);
            self.id = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
        }
    }

    /// Reads what [`FileState::extra`] holds.
    pub fn of(state: &FileState) -> Extra {
        serde_json::from_value(state.extra.clone()).unwrap_or_default()
    }
}

struct Run<'a, 'p> {
    store: &'a Store,
    options: &'a Options<'a>,
    sink: SyncSender<Option<Work>>,
    known: Known,
    ledger: Ledger,
    /// File states that wait for the next commit.
    sources: Vec<(String, String)>,
    summary: Summary,
    progress: &'p dyn Progress,
    done: u64,
}

/// Reads all that `options` name into the index, through `sink`; `store` says what was read before.
///
/// # Errors
/// Only what concerns the index as a whole; what is wrong with one input is in [`Summary::problems`].
pub fn backfill(store: &Store, sink: &mut dyn Sink, options: &Options, progress: &dyn Progress) -> Result<Summary, StoreError> {
    let known = known_files(store)?;
    let mut found = discover(&options.paths);
    leave_out(&mut found.series, store.dir());
    let mails = mail::take(&mut found.series);
    let all = || found.series.iter().flat_map(|s| &s.files);
    progress.total(all().filter_map(|f| std::fs::metadata(&f.path).ok()).map(|m| m.len()).sum());
    std::thread::scope(|scope| {
        // While one portion is stored, the next is read; no third one waits.
        let (sender, receiver) = sync_channel(0);
        let thread = scope.spawn(move || store_all(sink, receiver));
        let read = read_all(store, known, &found, &mails, options, progress, sender);
        let stored = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Where storing failed, reading only knows that it could not hand in more.
        let (records, commits) = stored?;
        Ok(Summary { records, commits, ..read? })
    })
}

fn read_all(
    store: &Store,
    known: Vec<FileState>,
    found: &Discovered,
    mails: &mail::Found,
    options: &Options,
    progress: &dyn Progress,
    sink: SyncSender<Option<Work>>,
) -> Result<Summary, StoreError> {
    let mut run = Run {
        store,
        options,
        sink,
        known: Known::new(known),
        ledger: Ledger::default(),
        sources: Vec::new(),
        summary: Summary::default(),
        progress,
        done: 0,
    };
    for problem in &found.problems {
        run.problem(problem, true);
    }
    run.mails(mails, store.sources()?)?;
    for series in &found.series {
        run.series(series)?;
        if run.stopped() {
            break;
        }
    }
    run.commit()?;
    run.summary.interrupted = run.stopped();
    run.summary.incomplete |= run.summary.interrupted;
    run.summary.overfull = run.ledger.overfull;
    Ok(run.summary)
}

/// Stores what is handed in until nothing more is; returns records and commits.
fn store_all(sink: &mut dyn Sink, work: Receiver<Option<Work>>) -> Result<(u64, u64), StoreError> {
    let (mut records, mut commits) = (0, 0);
    for work in work.into_iter().flatten() {
        commits += u64::from(!work.is_empty());
        records += sink.commit(work)?;
    }
    Ok((records, commits))
}

/// The index may lie in a folder of logs: its own files are none.
fn leave_out(series: &mut Vec<Series>, index: &Path) {
    let Ok(index) = index.canonicalize() else { return };
    for s in series.iter_mut() {
        s.files.retain(|f| !f.path.canonicalize().is_ok_and(|p| p.starts_with(&index)));
    }
    series.retain(|s| !s.files.is_empty());
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
        let mut hand_in = |work| self.send(Some(work));
        let job = mail::Job {
            hand_in: &mut hand_in,
            known,
            reader: &o.parsers.reports,
            site: &o.site,
            budget: o.budget,
            stop: o.stop,
            progress: self.progress,
        };
        let mut problems = Vec::new();
        self.summary.mail = mail::read(job, mails, &mut problems)?;
        self.summary.incomplete |= !problems.is_empty();
        self.summary.problems.append(&mut problems);
        Ok(())
    }

    fn named(&self, path: &Path) -> bool {
        self.options.paths.iter().any(|p| p == path)
    }

    /// A series is one stream of lines, which goes on from file to file.
    fn series(&mut self, series: &Series) -> Result<(), StoreError> {
        let mut stream: Option<StreamState> = None;
        for file in &series.files {
            if self.stopped() {
                break;
            }
            self.progress.file(&file.path);
            let on_disk = std::fs::metadata(&file.path).map_or(0, |m| m.len());
            match self.file(file, stream.as_ref()) {
                Ok(state) => stream = Some(state),
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

    /// Reads one file of a series. `stream` is what the file before left.
    fn file(&mut self, file: &SourceFile, stream: Option<&StreamState>) -> Result<StreamState, FileError> {
        let mut opened = open(file, &Limits::default())?;
        let mut before = Extra::default();
        let recalled = match self.known.recall(&mut opened)? {
            Recall::Unchanged(state) => {
                self.summary.unchanged += 1;
                return Ok(Extra::of(state).stream);
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
        let from = if recalled.is_some() { Some(&before.stream) } else { stream };
        let host = self.options.host.clone();
        let mut fold = Fold::new(&self.options.parsers, &self.options.site, host, anchor, from.cloned().unwrap_or_default());
        fold.not_before = self.options.not_before.unwrap_or(i64::MIN);
        if recalled.is_none() && stream.is_some() {
            fold.next_file();
        }
        let blocks = Blocks::new(opened, BlockOptions::default())?;
        let same_file = recalled.as_ref().is_some_and(|s| (s.dev, s.ino) == (blocks.meta().dev, blocks.meta().ino));
        if !same_file {
            // A copy of what was read: those lines are counted in the state of the file that they were read from.
            before.id.clear();
            before.counts = Counts::default();
        }
        self.read(blocks, fold, before, recalled)
    }

    fn read(&mut self, mut blocks: Blocks, mut fold: Fold, before: Extra, recalled: Option<FileState>) -> Result<StreamState, FileError> {
        let parsers = Arc::clone(&self.options.parsers);
        let start = blocks.consumed();
        let mut file = OneFile { before, sheet: fold.sheet().clone(), ..OneFile::default() };
        let mut outcome = Ok(());
        loop {
            // A block that was taken counts as read in the file's state: ask before taking it.
            let more = !self.stopped();
            file.step(&parsers, &mut fold, &mut self.ledger, &mut blocks, more);
            self.progress.position(self.done + blocks.disk_position());
            if file.is_idle() {
                break;
            }
            if self.ledger.bytes() > self.options.budget {
                // The file's state covers every block that was taken: those on their way are folded, too.
                while !file.is_idle() {
                    file.step(&parsers, &mut fold, &mut self.ledger, &mut blocks, false);
                }
                self.note(&blocks, &file, &fold, false);
                outcome = self.commit();
                if outcome.is_err() {
                    break;
                }
            }
        }
        self.tally(&mut file, &fold, &blocks, start, recalled.as_ref());
        if fold.hostless > 0 {
            self.summary.hostless.push(blocks.path().to_path_buf());
        }
        outcome?;
        match file.failed {
            Some(error) => Err(error.into()),
            None => Ok(fold.state()),
        }
    }

    /// The file's part of the summary, and its state for the next commit.
    fn tally(&mut self, file: &mut OneFile, fold: &Fold, blocks: &Blocks, start: u64, recalled: Option<&FileState>) {
        self.summary.bytes += blocks.consumed() - start;
        self.summary.oversized += blocks.oversized();
        self.summary.undated += fold.left_out.undated;
        self.summary.orphans += fold.left_out.orphans;
        self.summary.too_old += fold.left_out.too_old;
        self.summary.unbound += fold.unbound;
        let named = self.named(blocks.path());
        let (lines, stampless) = (file.counts.lines, file.counts.no_frame);
        if recalled.is_some_and(|s| s.length == blocks.consumed()) && lines == 0 {
            self.summary.unchanged += 1;
        } else if !named && lines > 0 && lines == stampless && recalled.is_none() {
            self.summary.no_logs += 1;
        } else {
            self.summary.files += 1;
        }
        self.note(blocks, file, fold, true);
        let mut counts = file.counts.clone();
        counts.add(&fold.counts);
        self.summary.counts.add(&counts);
        if named && counts.lines > 0 && counts.events == 0 && recalled.is_none() {
            self.summary.barren.push(blocks.path().to_path_buf());
        }
    }

    /// Writes down how far the file was read, to travel in the next commit.
    fn note(&mut self, blocks: &Blocks, file: &OneFile, fold: &Fold, remember: bool) {
        let Some(mut state) = blocks.state() else { return };
        let mut extra = file.before.clone();
        extra.counts.add(&file.counts);
        extra.counts.add(&fold.counts);
        extra.stream = file.unfinished.clone().unwrap_or_else(|| fold.state());
        extra.span = match (extra.span, fold.span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (a, b) => a.or(b),
        };
        extra.name(&state);
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
        // The portion before is to be stored, and its memory free, before this one takes any: nothing waits for it.
        self.send(None)?;
        let (changes, sources) = (self.ledger.drain(), std::mem::take(&mut self.sources));
        self.send(Some(Work { changes, sources, ..Work::default() }))
    }

    /// Returns when it is taken, which is when all before is stored.
    fn send(&self, work: Option<Work>) -> Result<(), StoreError> {
        self.sink.send(work).map_err(|_| StoreError::Stopped { dir: self.store.dir().into() })
    }
}

/// A file in the making: one block is folded while the next is parsed and the one behind that is read.
#[derive(Default)]
struct OneFile {
    before: Extra,
    counts: Counts,
    /// Read, not parsed yet.
    read: Option<Block>,
    /// Parsed, not folded yet: a block and what its lines say.
    parsed: Option<(Block, Vec<Chunk>)>,
    failed: Option<SourceError>,
    /// The state before a last line without newline: it may be read once more, when it is whole.
    unfinished: Option<StreamState>,
    /// The table as the block left it that was parsed last; the fold is a block behind.
    sheet: Sheet,
}

impl OneFile {
    /// Whether nothing is on its way.
    fn is_idle(&self) -> bool {
        self.read.is_none() && self.parsed.is_none()
    }

    /// Brings every block one step further, and reads another where `more` says so.
    fn step(&mut self, parsers: &Arc<Parsers>, fold: &mut Fold, ledger: &mut Ledger, blocks: &mut Blocks, more: bool) {
        let OneFile { counts, read, parsed, failed, unfinished, sheet, .. } = self;
        let (to_parse, to_fold) = (read.take(), parsed.take());
        rayon::in_place_scope(|scope| {
            scope.spawn(|_| {
                *parsed = to_parse.map(|block| {
                    let chunks = parse_block(parsers, sheet, &block.bytes);
                    (block, chunks)
                });
            });
            scope.spawn(|_| {
                if let Some((block, chunks)) = &to_fold {
                    *unfinished = (!block.bytes.ends_with(b"\n")).then(|| fold.state());
                    fold.block(ledger, &block.bytes, chunks);
                }
            });
            // On this thread, which may have to wait: those that compute are for all.
            if more && failed.is_none() {
                blocks.next().map_or_else(|e| *failed = Some(e), |block| *read = block);
            }
        });
        if let Some((_, chunks)) = parsed {
            chunks.iter().for_each(|c| counts.add(&c.counts));
            if let Some(after) = chunks.last().and_then(|c| c.after.as_ref()) {
                sheet.clone_from(after);
            }
        }
        if let Some((block, _)) = to_fold {
            blocks.give_back(block.bytes);
        }
    }
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
