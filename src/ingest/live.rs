//! The live loop: lines as they are written, into open records at once and into the index a few times a second.
//!
//! One thread asks the sources in turn ([`Live`]), parses and folds what they give, and hands what was gathered,
//! together with where every source then stood, to whoever commits. While that commit is under way it reads on; what
//! was handed in and what was read since are both part of the daemon's answers ([`OpenRecords`]). It stops reading
//! only when memory is used up, because nothing can be stored.

use super::backfill::Extra;
use super::fold::{Fold, LeftOut};
use super::mail::{self, Followed, MailFold};
use super::open::OpenRecords;
use super::parse_block::{Chunk, Counts, parse_block, parse_with};
use super::positions::{Positions, known_files};
use super::retention::kept_from;
use super::wall::WallClock;
use crate::config::{Retention, Site};
use crate::ledger::Change;
use crate::model::time::SECOND;
use crate::parse::{Matcher, Parsers};
use crate::resolve::StreamState;
use crate::resolve::clock::Anchor;
use crate::source::FileState;
use crate::source::live::{Activity, Checkpoint, FilePosition, Health, Lines, Live, Problem};
use crate::store::{Store, StoreError};
use rustc_hash::FxHashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// From the beginning of a commit to that of the next at least so many times what the last one took passes, ...
const PACE: u32 = 3;
/// ... but no less than this: many small commits make many small segments,
const SOONEST: Duration = Duration::from_millis(60);
/// ... and no more than this, on a disk that is slow.
const LATEST: Duration = Duration::from_millis(250);
/// Lines that stated nothing change positions only; those are stored this often.
const EVERY_IDLE: Duration = Duration::from_secs(5);
/// So many bytes of events are handed in at once, however little time has passed.
const ENOUGH: usize = 4 << 20;
/// A good value for [`LiveOptions::most`].
pub const MOST: usize = 128 << 20;
/// How often mailboxes are looked at.
const EVERY_MAILBOX: Duration = Duration::from_secs(1);
/// Blocks up to this are parsed by this thread alone.
const SMALL: usize = 64 << 10;
/// How often problems and health are told.
const TELL: Duration = Duration::from_millis(500);
/// How long a stop waits for the last commit.
const LAST: Duration = Duration::from_secs(4);

/// What is handed to whoever commits.
#[derive(Debug, Clone, Default)]
pub struct LiveWork {
    /// From [`OpenRecords::begin_commit`]; [`OpenRecords::committed`] is to be called when they are stored.
    pub changes: Arc<Vec<Change>>,
    /// States of finished sources: key and JSON.
    pub sources: Vec<(String, String)>,
    /// Positions of the live sources.
    pub positions: String,
}

/// Whom the loop tells what it does.
pub trait Listener {
    /// Store this. Must not wait. At most one work is out at a time.
    fn hand_in(&self, work: LiveWork);
    /// So many lines were read; what of them is part of no record.
    fn read(&self, counts: &Counts, left_out: &LeftOut);
    /// How the streams are, told now and then, with the seconds from the latest event's stamp to its being read.
    fn health(&self, health: Vec<(Health, Option<f64>)>);
    /// Something went wrong or is over; each is told once.
    fn problem(&self, problem: &Problem);
    /// Called at least twice a second.
    fn alive(&self);
}

/// Lets sources and signals wake the loop.
#[derive(Debug, Default)]
pub struct Bell {
    rung: std::sync::Mutex<bool>,
    cond: std::sync::Condvar,
}

impl Bell {
    /// Wakes the loop.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = true;
        self.cond.notify_all();
    }

    /// Waits until it is rung, or so long.
    pub fn wait(&self, most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut rung, _) = self.cond.wait_timeout_while(rung, most, |r| !*r).unwrap_or_else(std::sync::PoisonError::into_inner);
        *rung = false;
    }
}

/// What the loop is told.
pub struct LiveOptions {
    /// Names and zones of hosts.
    pub site: Arc<Site>,
    /// Parser files.
    pub parsers: Arc<Parsers>,
    /// Host of lines that name none, by stream; the last one that matches counts.
    pub hosts: Vec<(glob::Pattern, String)>,
    /// Host of lines that name none, else.
    pub host: String,
    /// What is kept: older events are left out.
    pub retention: Retention,
    /// Beyond so many bytes of events nothing more is read until some are stored (R6): a log that grows faster than it
    /// can be indexed waits in its file.
    pub most: usize,
    /// What time it is. Everything that waits or repeats goes by what [`LiveLoop::turn`] is told.
    pub clock: Arc<WallClock>,
}

/// One stream being read.
struct Stream {
    fold: Fold,
    files: FxHashMap<u64, Extra>,
    late: Option<f64>,
}

/// The loop.
pub struct LiveLoop<'a> {
    options: LiveOptions,
    sources: Vec<Box<dyn Live>>,
    mailboxes: Vec<Followed>,
    mailboxes_read: Instant,
    open: &'a OpenRecords,
    listener: &'a dyn Listener,
    matcher: Matcher,
    streams: FxHashMap<Arc<Path>, Stream>,
    stored: Stored,
    dirty: bool,
    /// Work is out.
    handed: bool,
    /// How long to wait between two commits.
    pace: Duration,
    last: Instant,
    told: Instant,
}

/// Where earlier runs stood.
struct Stored {
    positions: Positions,
    files: Vec<FileState>,
    /// Documents of sources, mailboxes' too.
    documents: Vec<String>,
}

impl<'a> LiveLoop<'a> {
    /// A loop over sources that were made from the positions that `store` has.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn new(
        store: &Store,
        sources: Vec<Box<dyn Live>>,
        mailboxes: Vec<Followed>,
        options: LiveOptions,
        open: &'a OpenRecords,
        listener: &'a dyn Listener,
    ) -> Result<Self, StoreError> {
        let stored = Stored { positions: Positions::of(store)?, files: known_files(store)?, documents: store.sources()? };
        let now = Instant::now();
        Ok(LiveLoop {
            matcher: Matcher::new(Arc::clone(&options.parsers)),
            options,
            sources,
            mailboxes,
            mailboxes_read: now,
            open,
            listener,
            streams: FxHashMap::default(),
            stored,
            dirty: false,
            // Of the loop before, which could not wait any longer: what is out must be stored before more is handed in.
            handed: open.is_committing(),
            pace: LATEST,
            last: now,
            told: now,
        })
    }

    /// Reads until `stop` is set; then everything that was read is handed in, and its commit waited for.
    pub fn run(&mut self, stop: &AtomicBool, bell: &Bell) {
        while !stop.load(Relaxed) {
            let read = self.turn(Instant::now());
            if !read {
                // Sources ring; a rescan is due after half a second at the latest, a commit sooner.
                bell.wait(if self.dirty || self.handed { Duration::from_millis(20) } else { Duration::from_millis(250) });
            }
        }
        let until = Instant::now() + LAST;
        self.dirty |= self.open.bytes() > 0;
        while Instant::now() < until && (self.dirty || self.handed) && !self.open.is_given_up() {
            self.see_commit(Instant::now());
            if self.dirty && !self.handed {
                self.hand_in(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks every source once, and commits when it is time. Whether anything was read.
    pub fn turn(&mut self, now: Instant) -> bool {
        let mut read = false;
        if self.open.bytes() < self.options.most {
            for n in 0..self.sources.len() {
                let Some(lines) = self.sources.get_mut(n).and_then(|s| s.next(now)) else { continue };
                read = true;
                self.take(&lines);
            }
        }
        if now.saturating_duration_since(self.mailboxes_read) >= EVERY_MAILBOX {
            self.mailboxes_read = now;
            read |= self.take_mails();
        }
        self.see_commit(now);
        let since = now.saturating_duration_since(self.last);
        let bytes = self.open.bytes();
        let due = if bytes > 0 { since >= self.pace || bytes >= ENOUGH } else { since >= EVERY_IDLE };
        // Events come from others, too: of a gateway no line tells.
        self.dirty |= bytes > 0;
        if self.dirty && !self.handed && due {
            self.hand_in(now);
        }
        if now.saturating_duration_since(self.told) >= TELL {
            self.told = now;
            self.tell();
        }
        read
    }

    fn see_commit(&mut self, now: Instant) {
        if self.handed && !self.open.is_committing() {
            self.handed = false;
            self.pace = (now.saturating_duration_since(self.last) * PACE).clamp(SOONEST, LATEST);
            self.sources.iter_mut().for_each(|s| s.committed());
            self.mailboxes.iter_mut().for_each(Followed::committed);
        }
    }

    /// Reads what is new in the mailboxes. Whether there was anything.
    fn take_mails(&mut self) -> bool {
        let now = self.options.clock.now().div_euclid(SECOND);
        let mut some = false;
        for mailbox in &mut self.mailboxes {
            if self.open.bytes() >= self.options.most {
                break;
            }
            let mails = mailbox.next(&self.stored.documents, now);
            if mails.is_empty() {
                continue;
            }
            let mut fold = MailFold::new(&self.options.site);
            for (mail, reading) in mails.iter().zip(mail::parse(&self.options.parsers.reports, &mails)) {
                fold.fold(mail, &reading);
            }
            self.open.add(fold.drain());
            self.dirty = true;
            some = true;
        }
        some
    }

    fn take(&mut self, lines: &Lines) {
        let wall = self.options.clock.now();
        let mut stream = match self.streams.remove(&lines.stream) {
            Some(stream) => stream,
            None => self.begin(&lines.stream),
        };
        let fold = &mut stream.fold;
        fold.set_anchor(Anchor::NotAfter(lines.not_after.unwrap_or(wall.div_euclid(SECOND))));
        fold.not_before = kept_from(&self.options.retention, self.options.clock.believed()).unwrap_or(i64::MIN);
        let another = !stream.files.is_empty() && !stream.files.contains_key(&lines.file);
        if another || lines.begins {
            fold.next_file();
        }
        let file = stream.files.entry(lines.file).or_default();
        let chunks: Vec<Chunk> = match lines.bytes.len() {
            0..=SMALL => vec![parse_with(&mut self.matcher, fold.sheet(), &lines.bytes)],
            _ => parse_block(&self.options.parsers, fold.sheet(), &lines.bytes),
        };
        fold.span = None;
        fold.counts = Counts::default();
        fold.left_out.overfull += self.open.with(|ledger| {
            fold.block(ledger, &lines.bytes, &chunks);
            std::mem::take(&mut ledger.overfull)
        });
        let mut counts = std::mem::take(&mut fold.counts);
        chunks.iter().for_each(|c| counts.add(&c.counts));
        self.listener.read(&counts, &std::mem::take(&mut fold.left_out));
        file.counts.add(&counts);
        if let Some((first, last)) = fold.span {
            file.span = Some(file.span.map_or((first, last), |(a, z)| (a.min(first), z.max(last))));
            stream.late = Some((wall.saturating_sub(last) as f64 / SECOND as f64).max(0.0));
        }
        self.dirty = true;
        self.streams.insert(Arc::clone(&lines.stream), stream);
    }

    /// A stream not seen in this run: it goes on where the last commit left it, or a backfill its live file.
    fn begin(&mut self, name: &Arc<Path>) -> Stream {
        let of_file = || {
            let same = self.stored.files.iter().filter(|f| f.path == **name);
            same.max_by_key(|f| f.length).map(|f| Extra::of(f).stream)
        };
        let state: StreamState =
            self.stored.positions.streams.remove(&name.to_string_lossy().into_owned()).or_else(of_file).unwrap_or_default();
        let named = self.options.hosts.iter().rev().find(|(p, _)| p.matches_path(name));
        let host = named.map_or(&self.options.host, |(_, host)| host).clone();
        let fold = Fold::new(&self.options.parsers, &self.options.site, host, Anchor::NotAfter(0), state);
        Stream { fold, files: FxHashMap::default(), late: None }
    }

    fn hand_in(&mut self, now: Instant) {
        let changes = self.open.begin_commit();
        let mut positions = Positions { cursors: std::mem::take(&mut self.stored.positions.cursors), ..Positions::default() };
        let mut sources = Vec::new();
        for n in 0..self.sources.len() {
            let Checkpoint { live, finished, cursors } = self.sources.get_mut(n).map(|s| s.checkpoint()).unwrap_or_default();
            positions.tails.extend(live.into_iter().map(|p| self.with_extra(p)));
            for position in finished {
                let (stream, file) = (Arc::clone(&position.stream), position.file);
                let state = self.with_extra(position);
                if let Ok(json) = serde_json::to_string(&state) {
                    sources.push((Extra::of(&state).id, json));
                }
                // What was counted travels in the document; a late line begins a new count on top of it.
                if let Some(s) = self.streams.get_mut(&stream)
                    && s.files.len() > 8
                {
                    s.files.remove(&file);
                }
            }
            positions.cursors.extend(cursors);
        }
        for mailbox in &mut self.mailboxes {
            sources.extend(mailbox.states());
        }
        self.stored.positions.cursors = positions.cursors.clone();
        // Streams that were not heard of yet keep what is stored of them.
        positions.streams = self.stored.positions.streams.clone();
        positions.streams.extend(self.streams.iter().map(|(name, s)| (name.to_string_lossy().into_owned(), s.fold.state())));
        self.dirty = false;
        self.handed = true;
        self.last = now;
        self.listener.hand_in(LiveWork { changes, sources, positions: positions.to_json() });
    }

    /// A file's state with what is kept beside it: its document's name, counts and span of this run added to those of earlier ones.
    fn with_extra(&self, position: FilePosition) -> FileState {
        let FilePosition { stream, file, mut state } = position;
        let mut extra = Extra::of(&state);
        if let Some(s) = self.streams.get(&stream) {
            if let Some(run) = s.files.get(&file) {
                extra.counts.add(&run.counts);
                extra.span = match (extra.span, run.span) {
                    (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                    (a, b) => a.or(b),
                };
            }
            extra.stream = s.fold.state();
        }
        extra.name(&state);
        state.extra = serde_json::to_value(extra).unwrap_or_default();
        state
    }

    fn tell(&mut self) {
        self.listener.alive();
        let mut all = Vec::new();
        for source in &mut self.sources {
            source.problems().iter().for_each(|p| self.listener.problem(p));
            all.extend(source.health());
        }
        for m in &self.mailboxes {
            all.push(Health {
                stream: m.path().into(),
                activity: if m.problem.is_some() { Activity::Failed } else { Activity::Following },
                behind: 0,
                behind_since: None,
                lines: m.mails,
                oversized: 0,
                dropped: 0,
                error: m.problem.clone(),
            });
        }
        let late = |h: &Health| self.streams.get(&h.stream).and_then(|s| s.late);
        self.listener.health(all.into_iter().map(|h| (late(&h), h)).map(|(l, h)| (h, l)).collect());
    }
}

/// Where mail logs usually lie; those that exist are followed when nothing else is said.
pub fn usual_places() -> Vec<PathBuf> {
    const PLACES: &[&str] = &[
        "/var/log/mail.log",
        "/var/log/maillog",
        "/var/log/mail",
        "/var/log/mail/mail.log",
        "/var/log/exim4/mainlog",
        "/var/log/exim/mainlog",
        "/var/log/exim/main.log",
        "/var/log/dovecot.log",
        "/var/log/qmail/current",
        "/var/log/qmail/qmail-send/current",
    ];
    PLACES.iter().map(PathBuf::from).filter(|p| p.is_file()).collect()
}
