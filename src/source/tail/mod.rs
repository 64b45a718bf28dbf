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
//! lines of a file that was truncated, or deleted while its descriptor had to be closed
//! ([`TailOptions::max_open`], [`TailOptions::hold`]), before they were read; a last line without
//! newline in a file that stays. What may be read twice: a file cut in its middle, not to its start
//! (`truncate -s 1M`), from the last position known; a copy of which more was read in the original
//! than it holds, if the program is killed before it has seen that copy.

mod copies;
mod follow;
mod report;
mod scan;
mod shared;
mod stream;
mod tracked;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::report::Topic;
use self::scan::scan;
use self::shared::Shared;
use self::stream::Stream;
use self::tracked::{Phase, Tracked};
use self::watch::Watch;
use super::discover::Members;
use super::live::{Activity, Checkpoint, FilePosition, Health, Lines, Live, Problem, Wake};
use super::{BlockOptions, FileState, Limits};

/// Notifications about folders make for a scan no more often than this.
const SCAN_PAUSE: Duration = Duration::from_millis(50);
/// Notifications that could not be had are asked for again after this time.
const WATCH_PAUSE: Duration = Duration::from_secs(60);

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
    /// Something came, went, or was renamed here.
    Folder(PathBuf),
    /// Anything may have happened (notifications were lost).
    Anything,
}

/// Follows all files that some patterns mean.
pub struct Tailer {
    patterns: Vec<PathBuf>,
    shared: Shared,
    streams: Vec<Stream>,
    /// Whose turn it is.
    turn: usize,
    /// Which stream a path belongs to.
    by_path: HashMap<PathBuf, usize>,
    /// States of the earlier run's payload, until the first checkpoint.
    leftover: Vec<FileState>,
    folder_hint: bool,
    scanned: Option<Instant>,
    watch: Option<Watch>,
    watch_tried: Option<Instant>,
    folders: BTreeSet<PathBuf>,
}

impl Tailer {
    /// Follows what `patterns` mean: files, folders (the files in them), and globs (`*`, `?`, `[a-z]` in
    /// any part, `**` for folders of any depth), each with the rotated siblings of what it means. They
    /// need not exist yet. `live`: the states of the last commit's payload ([`Checkpoint::live`]);
    /// `finished`: those of all documents, backfill's too. Nothing is looked at before the first [`Live::next`].
    pub fn new(patterns: Vec<PathBuf>, live: Vec<FileState>, finished: Vec<FileState>, options: TailOptions) -> Tailer {
        Tailer {
            patterns,
            shared: Shared::new(&live, finished, options),
            streams: Vec::new(),
            turn: 0,
            by_path: HashMap::new(),
            leftover: live,
            folder_hint: false,
            scanned: None,
            watch: None,
            watch_tried: None,
            folders: BTreeSet::new(),
        }
    }

    /// Something may have changed. Cheap; looked at in the next [`Live::next`].
    pub fn hint(&mut self, hint: Hint) {
        match hint {
            Hint::Written(path) => {
                let stream = self.by_path.get(&path).and_then(|at| self.streams.get_mut(*at));
                let Some(stream) = stream else { return };
                stream.active = true;
                stream.files.iter_mut().for_each(|f| f.dirty = true);
            }
            Hint::Folder(_) | Hint::Anything => self.folder_hint = true,
        }
    }

    /// Looks at all folders and files now. [`Live::next`] does so by itself when it is time.
    pub fn rescan(&mut self, now: Instant) {
        let first = self.scanned.is_none();
        self.scanned = Some(now);
        self.folder_hint = false;
        self.shared.scan_wanted = false;
        self.shared.prune();
        let mut seen = scan(&self.patterns);
        self.report(&seen);
        // A file stays with its stream, whatever it is called now.
        let homes: HashMap<(u64, u64), usize> =
            self.streams.iter().enumerate().flat_map(|(at, s)| s.files.iter().map(move |f| (f.inode, at))).collect();
        let mut lists: Vec<Members> = self.streams.iter().map(|_| Members::new()).collect();
        let named: HashMap<PathBuf, usize> = self.streams.iter().enumerate().map(|(at, s)| (s.name.to_path_buf(), at)).collect();
        for (name, members) in std::mem::take(&mut seen.streams) {
            let own = named.get(&name).copied().unwrap_or(self.streams.len());
            if own == self.streams.len() {
                self.streams.push(Stream::new(name));
                lists.push(Members::new());
            }
            for (name, found) in members {
                let home = homes.get(&found.inode).copied().unwrap_or(own);
                if let Some(list) = lists.get_mut(home) {
                    list.push((name, found));
                }
            }
        }
        for (stream, list) in self.streams.iter_mut().zip(lists) {
            let unsure = stream.name.parent().is_some_and(|folder| seen.unsure.contains(folder));
            update(stream, list, unsure, first, &mut self.shared, now);
        }
        self.streams.retain(|s| !s.files.is_empty());
        self.index();
        self.shared.open = self.streams.iter().flat_map(|s| &s.files).filter(|f| f.is_open()).count();
        self.folders = std::mem::take(&mut seen.folders);
        self.sync_watch(now);
    }

    fn report(&mut self, seen: &scan::Scan) {
        let folders = seen.problems.iter().map(|e| (e.path().to_path_buf(), format!("{e} (what was followed there is followed on)")));
        self.shared.reports.only(Topic::Folder, folders.collect());
        let missing = seen.missing.iter().map(|p| {
            let text = format!("{}: no such file; it is followed as soon as it is there", super::shown(p));
            (p.clone(), text)
        });
        self.shared.reports.only(Topic::Missing, missing.collect());
    }

    fn index(&mut self) {
        self.by_path.clear();
        for (at, stream) in self.streams.iter().enumerate() {
            for file in &stream.files {
                if let Some(real) = file.linked.then(|| std::fs::canonicalize(&file.path).ok()).flatten() {
                    self.by_path.insert(real, at);
                }
                self.by_path.insert(file.path.clone(), at);
            }
        }
    }

    fn sync_watch(&mut self, now: Instant) {
        let Some(wake) = self.shared.options.wake.clone() else { return };
        if self.watch.is_none() {
            if self.watch_tried.is_some_and(|at| now < at + WATCH_PAUSE) {
                return;
            }
            self.watch_tried = Some(now);
        }
        let watch = match self.watch.take() {
            Some(watch) => Ok(watch),
            #[cfg(test)]
            None if self.shared.no_watch => Err((PathBuf::from("/"), notify::Error::new(notify::ErrorKind::MaxFilesWatch))),
            None => Watch::new(wake).map_err(|e| (PathBuf::from("/"), e)),
        };
        let synced = watch.and_then(|mut watch| {
            let synced = watch.sync(&self.folders);
            self.watch = Some(watch);
            synced
        });
        let problem = synced.err().map(|(path, error)| {
            let poll = self.shared.options.poll.as_millis();
            let text = format!(
                "{}: no notifications ({error}); files are looked at every {poll} ms instead: raise fs.inotify.max_user_watches or max_user_instances",
                super::shown(&path)
            );
            (path, text)
        });
        self.shared.reports.only(Topic::Watch, problem.into_iter().collect());
    }

    fn drain_watch(&mut self) {
        let hints = self.watch.as_ref().map(Watch::take).unwrap_or_default();
        hints.into_iter().for_each(|hint| self.hint(hint));
    }

    fn interval(&self) -> Duration {
        let polling = self.watch.is_none() || self.shared.reports.any(Topic::Watch);
        if polling { self.shared.options.poll.min(self.shared.options.rescan) } else { self.shared.options.rescan }
    }

    /// When the folders are to be looked at next; `None`: now.
    fn next_scan(&self) -> Option<Instant> {
        let scanned = self.scanned?;
        Some(scanned + if self.folder_hint { SCAN_PAUSE } else { self.interval() })
    }

    /// When [`Live::next`] should be called again at the latest, after it gave `None`.
    pub fn due(&self, now: Instant) -> Instant {
        let mut due = self.next_scan().unwrap_or(now);
        for stream in &self.streams {
            due = if stream.active { now } else { stream.wake.map_or(due, |w| w.min(due)) };
        }
        due
    }

    /// Makes opening a path fail with an error number.
    #[cfg(test)]
    pub(super) fn fail_open(&mut self, fault: Option<(PathBuf, i32)>) {
        self.shared.fault = fault;
    }

    /// Lets no notification be had.
    #[cfg(test)]
    pub(super) fn fail_watch(&mut self, fail: bool) {
        self.shared.no_watch = fail;
    }

    /// Files followed at the moment, for "watching ...".
    pub fn watched(&self) -> Vec<PathBuf> {
        self.streams.iter().flat_map(|s| s.files.iter().filter(|f| f.live && !f.gone).map(|f| f.path.clone())).collect()
    }

    fn pump(&mut self, now: Instant) -> Option<Lines> {
        for i in 0..self.streams.len() {
            let at = (self.turn + i) % self.streams.len();
            if self.shared.open >= self.shared.options.max_open.max(4) {
                self.make_room();
            }
            let Some(stream) = self.streams.get_mut(at) else { continue };
            if !stream.active && stream.wake.is_none_or(|w| w > now) {
                continue;
            }
            let lines = stream.step(&mut self.shared, now);
            stream.behind_since = (stream.behind() > 0).then(|| stream.behind_since.unwrap_or(now));
            if lines.is_some() {
                self.turn = at + 1;
                return lines;
            }
        }
        None
    }

    /// Closes the least recently used half of the files that can be opened again when they change.
    fn make_room(&mut self) {
        let mut idle: Vec<&mut Tracked> = self.streams.iter_mut().flat_map(|s| &mut s.files).filter(|f| f.can_close()).collect();
        idle.sort_by_key(|f| f.last_used());
        let half = idle.len().div_ceil(2);
        self.shared.open = self.shared.open.saturating_sub(half);
        idle.into_iter().take(half).for_each(Tracked::close);
    }
}

/// Takes over what a scan saw of a stream. `unsure`: what it did not see may be there all the same.
fn update(stream: &mut Stream, list: Members, unsure: bool, first: bool, shared: &mut Shared, now: Instant) {
    stream.active = true;
    let mut before: HashMap<(u64, u64), Tracked> = HashMap::new();
    let mut gone = Vec::new();
    for file in stream.files.drain(..) {
        if !unsure && !list.iter().any(|(_, found)| found.inode == file.inode) {
            gone.push(file);
        } else {
            before.insert(file.inode, file);
        }
    }
    let mut files = Vec::new();
    for mut file in gone {
        if !file.is_open() {
            shared.reports.end(Topic::Read, &file.path);
            if file.behind() > 0 {
                stream.missed = Some(now);
            }
            continue;
        }
        if !file.gone {
            (file.gone, file.since) = (true, now);
        }
        file.dirty = true;
        files.push(file);
    }
    let last = list.iter().rposition(|(name, _)| !name.compressed);
    let mut present = Vec::new();
    for (at, (name, found)) in list.into_iter().enumerate() {
        let mut file = match before.remove(&found.inode) {
            Some(mut file) => {
                file.seen(name, &found, now);
                file
            }
            None => Tracked::new(shared.fresh_id(), name, &found, now, first, shared),
        };
        let live = Some(at) == last;
        if file.live && !live {
            (file.since, file.dirty) = (now, true);
        }
        file.live = live;
        present.push(file);
    }
    // Not seen, but not gone for sure.
    let mut hidden: Vec<Tracked> = before.into_values().collect();
    hidden.sort_by_key(|f| (f.live, f.id));
    files.extend(hidden);
    files.extend(present);
    stream.files = files;
}

impl Live for Tailer {
    fn next(&mut self, now: Instant) -> Option<Lines> {
        self.drain_watch();
        if self.shared.scan_wanted || self.next_scan().is_none_or(|at| now >= at) {
            self.rescan(now);
        }
        for _ in 0..4 {
            let lines = self.pump(now);
            if lines.is_some() || !self.shared.scan_wanted {
                return lines;
            }
            self.rescan(now);
        }
        None
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let mut live = Vec::new();
        for stream in &self.streams {
            let files = stream.files.iter().filter_map(|f| Some((f.id, f.position()?)));
            live.extend(files.map(|(file, state)| FilePosition { stream: stream.name.clone(), file, state }));
        }
        // What an earlier run followed and nobody does now stays known.
        for state in std::mem::take(&mut self.leftover) {
            let told = live.iter().chain(&self.shared.finished);
            if !told.map(|f| &f.state).any(|s| (s.dev, s.ino) == (state.dev, state.ino) && s.length >= state.length) {
                let stream = stream::stream_of(&state.path).into();
                let file = self.shared.fresh_id();
                self.shared.tell(&stream, file, state);
            }
        }
        Checkpoint { live, finished: self.shared.give(), cursors: Vec::new() }
    }

    fn committed(&mut self) {
        self.shared.committed();
    }

    fn problems(&mut self) -> Vec<Problem> {
        self.shared.reports.take()
    }

    fn health(&self) -> Vec<Health> {
        let mut out: Vec<Health> = self.streams.iter().map(|s| self.health_of(s)).collect();
        // A file that went away has its stream, and its problem there, until it is read to its end and let go.
        let followed = |path: &Path| self.streams.iter().any(|s| *s.name == *path);
        for path in self.shared.reports.missing().filter(|p| !followed(p)) {
            let stream = path.as_path().into();
            let error = self.shared.reports.about(path).cloned();
            let activity = Activity::Waiting;
            out.push(Health { stream, activity, behind: 0, behind_since: None, lines: 0, oversized: 0, dropped: 0, error });
        }
        out
    }
}

impl Tailer {
    fn health_of(&self, stream: &Stream) -> Health {
        let behind = stream.behind();
        let error = stream.files.iter().find_map(|f| self.shared.reports.about(&f.path)).or_else(|| self.shared.reports.general());
        let readable = stream.files.iter().any(|f| !matches!(f.phase, Phase::Failed(_)));
        let activity = match (readable, behind) {
            (false, _) => Activity::Failed,
            (true, 0) => Activity::Following,
            _ => Activity::CatchingUp,
        };
        Health {
            stream: stream.name.clone(),
            activity,
            behind,
            behind_since: stream.behind_since,
            lines: stream.lines,
            oversized: stream.oversized,
            dropped: 0,
            error: error.cloned(),
        }
    }
}
