//! The sequential part of ingest, one stream (a log and its rotated siblings) each: dates events, counts equal ones,
//! and puts them into the ledger.

use super::join::{Joined, Text};
use super::parse_block::{Chunk, Counts, EventItem, Item, repeated, take_line, written_second};
use crate::config::Site;
use crate::ledger::{Entry, Ledger, Origin};
use crate::model::event::{Field, Head, Kind, MAX_LINE, Span};
use crate::model::line::{Fragment, RawStamp};
use crate::model::record::Role;
use crate::model::time::SECOND;
use crate::parse::{Matcher, Outcome, Parsers, frame};
use crate::resolve::StreamState;
use crate::resolve::clock::{Anchor, Clock, Zone};
use crate::resolve::order::{LatestLines, Order};
use crate::resolve::sheet::Sheet;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Lines of a new file that are looked at to see whether it goes on where the one before ended.
const BORDER_LINES: usize = 64;
/// Names of hosts remembered; beyond that all are forgotten and looked up anew (R6).
const MAX_HOSTS: usize = 65_536;
/// Times that one `message repeated N times` is believed.
const MAX_TIMES: u32 = 1_000;

/// Parser file, whether it is of rejects, instance as written, host.
type OriginKey = (u16, bool, Box<[u8]>, Arc<str>);

/// A host's instance of an MTA, as the ledger and the counting of equal events know it.
#[derive(Clone, Copy)]
struct Place {
    /// The ledger's number; another one in the next run.
    number: u32,
    /// Of its names: the same in every run.
    hash: u64,
    zone: Zone,
}

/// The origin of the line before: most lines are of the same host and program as the one before.
struct Latest {
    file: u16,
    reject: bool,
    host: Vec<u8>,
    instance: Vec<u8>,
    place: Place,
}

/// What was read and is part of no record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftOut {
    /// Events older than what is kept ([`Fold::not_before`]).
    pub too_old: u64,
    /// Lines whose stamp is no date.
    pub undated: u64,
    /// Lines of a session or delivery whose beginning was not seen, so that no message is known for them.
    pub orphans: u64,
    /// Events of a message that had too many (see [`crate::ledger::MAX_SLOT_BYTES`]).
    pub overfull: u64,
}

/// What a stream is read with. It lives as long as its stream: minutes in a backfill, months in a daemon.
///
/// All its calls must name the same ledger.
pub struct Fold {
    parsers: Arc<Parsers>,
    site: Arc<Site>,
    clock: Clock,
    order: Order,
    /// The next block begins another file of the stream.
    border: bool,
    matcher: Matcher,
    /// Host of lines that name none.
    host: String,
    hosts: FxHashMap<Box<[u8]>, (Arc<str>, Zone)>,
    origins: FxHashMap<OriginKey, (u32, u64)>,
    latest: Option<Latest>,
    /// Lines whose host was taken from `host`.
    pub hostless: u64,
    /// Events before this moment, microseconds since 1970, are left out.
    pub not_before: i64,
    /// Messages whose mark (RFC 3885) the log does not bear whole, so that nobody can track them.
    pub unbound: u64,
    /// What was left out.
    pub left_out: LeftOut,
    /// First and last moment of the events folded, microseconds.
    pub span: Option<(i64, i64)>,
    /// Counts of entries that were joined from parts.
    pub counts: Counts,
}

impl Fold {
    /// Starts on a stream, or goes on where `state` says. `host` is whose lines they are where they name none.
    pub fn new(parsers: &Arc<Parsers>, site: &Arc<Site>, host: String, anchor: Anchor, state: StreamState) -> Self {
        Fold {
            parsers: Arc::clone(parsers),
            site: Arc::clone(site),
            clock: Clock::resume(anchor, state.clock),
            order: state.order,
            border: false,
            matcher: Matcher::new(Arc::clone(parsers)),
            host,
            hosts: FxHashMap::default(),
            origins: FxHashMap::default(),
            latest: None,
            hostless: 0,
            not_before: i64::MIN,
            unbound: 0,
            left_out: LeftOut::default(),
            span: None,
            counts: Counts::default(),
        }
    }

    /// What [`Fold::new`] needs to go on after the blocks folded so far; bounded, to be stored.
    pub fn state(&self) -> StreamState {
        StreamState { clock: self.clock.position(), order: self.order.recent() }
    }

    /// Another bound of yearless stamps: for a live source, the time goes on.
    pub fn set_anchor(&mut self, anchor: Anchor) {
        self.clock.set_anchor(anchor);
    }

    /// The next block is the first of the next file of the stream.
    pub fn next_file(&mut self) {
        self.border = true;
        self.order.sheet.open.clear();
        self.clock.next_file();
    }

    /// The table that rows of the next block belong to.
    pub fn sheet(&self) -> &Sheet {
        &self.order.sheet
    }

    /// Folds what was parsed of the next block of the stream.
    pub fn block(&mut self, ledger: &mut Ledger, block: &[u8], chunks: &[Chunk]) {
        if std::mem::take(&mut self.border) && self.goes_back(block) {
            // Not the sequel of the file before, but a copy that has some of its lines again: they are the same events.
            let sheet = std::mem::take(&mut self.order.sheet);
            self.order = Order { sheet, ..Order::default() };
        }
        for chunk in chunks {
            self.chunk(ledger, block, chunk);
        }
        self.remember(block);
    }

    /// Whether a file begins with a line that is older than the latest one of its host in the file before.
    fn goes_back(&self, block: &[u8]) -> bool {
        let second = |f: frame::Frame| written_second(f.stamp, None);
        for line in block.split(|&b| b == b'\n').take(BORDER_LINES) {
            let Some(first) = frame::parse(line) else { continue };
            if let Some(last) = self.order.latest.of(first.host, 0).and_then(frame::parse) {
                return second(first) < second(last);
            }
        }
        false
    }

    /// Keeps the latest line of each host of a block.
    fn remember(&mut self, block: &[u8]) {
        let from = block.len().saturating_sub(LatestLines::REACH);
        let mut end = block.len();
        let mut hosts: FxHashSet<&[u8]> = FxHashSet::default();
        while end > from {
            let text = block.get(from..end).unwrap_or_default();
            let start = from + memchr::memrchr(b'\n', text.get(..text.len().saturating_sub(1)).unwrap_or_default()).map_or(0, |n| n + 1);
            let line = block.get(start..end).unwrap_or_default();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            end = start;
            let Some(f) = frame::parse(line) else { continue };
            let again = f.program.is_empty() && matches!(self.matcher.framed(line, &f), Outcome::Repeat(..));
            if !again && hosts.insert(f.host) {
                self.order.latest.see(f.host, start, line);
            }
        }
        self.order.latest.advance(block.len());
    }

    fn chunk(&mut self, ledger: &mut Ledger, block: &[u8], chunk: &Chunk) {
        let bytes = |r: &Range<u32>| block.get(r.start as usize..r.end as usize).unwrap_or_default();
        if let Some(before) = &chunk.before {
            self.events(ledger, &before.0, &before.1);
        }
        if let Some(after) = &chunk.after {
            self.order.sheet.clone_from(after);
        }
        for item in &chunk.items {
            match item {
                Item::Event(event) => self.event(ledger, block, chunk, event),
                Item::Fragment { line, message, fragment } => self.fragment(ledger, bytes(line), *message as usize, *fragment),
                Item::Repeat { at, host, stamp, times } => self.repeat(ledger, bytes(host), *at as usize, *stamp, *times),
            }
        }
    }

    fn repeat(&mut self, ledger: &mut Ledger, host: &[u8], at: usize, stamp: RawStamp, times: u32) {
        let Some(line) = self.order.latest.of(host, at).map(<[u8]>::to_vec) else { return };
        let again = frame::Frame { stamp, host, program: b"", pid: b"", message: 0 };
        let mut chunk = Chunk::default();
        repeated(&mut self.matcher, &mut chunk, &mut Vec::new(), &line, 0, again, times);
        self.events(ledger, &line, &chunk);
    }

    fn events(&mut self, ledger: &mut Ledger, line: &[u8], chunk: &Chunk) {
        for item in &chunk.items {
            if let Item::Event(event) = item {
                self.event(ledger, line, chunk, event);
            }
        }
    }

    fn fragment(&mut self, ledger: &mut Ledger, line: &[u8], message: usize, fragment: Fragment) {
        let Some(f) = frame::parse(line) else { return };
        let who = [f.host, b"/", f.program, b"/", f.pid].concat();
        let Some(whole) = self.order.fragments.push(who, fragment, line, message) else { return };
        let mut chunk = Chunk::default();
        take_line(&mut self.matcher, &mut chunk, &mut Vec::new(), &whole, 0);
        chunk.counts.lines = 0;
        self.counts.add(&chunk.counts);
        self.events(ledger, &whole, &chunk);
    }

    fn event(&mut self, ledger: &mut Ledger, block: &[u8], chunk: &Chunk, e: &EventItem) {
        let bytes = |r: &Range<u32>| block.get(r.start as usize..r.end as usize).unwrap_or_default();
        // A service's events name no host of their own: it is always the same.
        let parsers = e.host.is_empty().then(|| Arc::clone(&self.parsers));
        let fixed = parsers.as_ref().and_then(|p| p.files.get(e.file as usize)?.host.as_deref());
        let origin = self.origin(ledger, fixed.map_or(bytes(&e.host), str::as_bytes), bytes(&e.instance), e);
        let Some(at) = self.clock.resolve_both(e.stamp, e.inner, origin.zone) else {
            self.left_out.undated += 1;
            return;
        };
        if at.time < self.not_before {
            self.left_out.too_old += 1;
            return;
        }
        let line = bytes(&e.line);
        let spans = chunk.spans.get(e.spans.start as usize..e.spans.end as usize).unwrap_or_default();
        let extra = chunk.extra.get(e.extra.start as usize..e.extra.end as usize).unwrap_or_default();
        let (mut joined, mut identity, mut binding) = (Joined::default(), e.identity, None);
        let (spans, extra) = if e.joins || e.kind == Kind::Binding {
            if !self.join(e, bytes(&e.host), Text { spans, line, extra }, &mut joined) {
                return;
            }
            binding = joined.binding(line, |timeout| self.site.track.until(timeout, at.time.div_euclid(SECOND)));
            if e.kind == Kind::Binding {
                joined = binding.take().unwrap_or(joined);
            }
            identity = joined.identity(e, e.kind, line);
            (joined.spans.as_slice(), joined.extra.as_slice())
        } else {
            (spans, extra)
        };
        let value = |field| Text { spans, line, extra }.value(field);
        let reject_id;
        let queue_id = match value(Field::QueueId) {
            Some(id) if e.kind != Kind::Reject => id,
            _ => {
                let value_or = |fields: &[Field]| fields.iter().find_map(|f| value(*f)).unwrap_or_default();
                reject_id = match e.kind {
                    // A witness without an id of its own is told from others by the MTA's id, or by the mail it speaks of.
                    Kind::Witness => {
                        let of = value_or(&[Field::OrigQueueId, Field::MessageId, Field::ClientIp, Field::FinalRecipient]);
                        format!("{}/{}", at.written, String::from_utf8_lossy(of))
                    }
                    // What was refused is told apart by what the line says; equal lines of one second are one record's events.
                    _ => {
                        let client = String::from_utf8_lossy(value_or(&[Field::ClientIp, Field::FinalRecipient]));
                        format!("{}/{client}/{:012x}", at.written, e.identity >> 16)
                    }
                };
                reject_id.as_bytes()
            }
        };
        let (role, reused) = self.parsers.files.get(e.file as usize).map_or((Role::Hop, None), |f| (f.role, f.reused_ids.as_ref()));
        let role = if e.kind == Kind::Reject { Role::Reject } else { role };
        let (cut_spans, cut_line);
        let (spans, line) = if line.len() > MAX_LINE {
            (cut_spans, cut_line) = cut(spans, line);
            (cut_spans.as_slice(), cut_line)
        } else {
            (spans, line)
        };
        let slot = xxhash_rust::xxh3::xxh3_64_with_seed(queue_id, origin.hash);
        for _ in 0..e.times.min(MAX_TIMES) {
            let ordinal = self.order.ordinals.next(identity ^ slot, at.written);
            let head = Head { kind: e.kind, action: e.action, time: at.time, precision: at.precision, written: at.written, ordinal };
            let entry = Entry { origin: origin.number, role, queue_id, head, spans, line, extra };
            ledger.add(&entry, || role == Role::Hop && reused.is_some_and(|r| r.is_match(queue_id)));
        }
        if let Some(b) = binding.filter(|_| line.len() < MAX_LINE) {
            let ordinal = self.order.ordinals.next(b.identity(e, Kind::Binding, line) ^ slot, at.written);
            let head = Head { kind: Kind::Binding, action: None, time: at.time, precision: at.precision, written: at.written, ordinal };
            let entry = Entry { origin: origin.number, role, queue_id, head, spans: &b.spans, line, extra: &b.extra };
            ledger.add(&entry, || role == Role::Hop && reused.is_some_and(|r| r.is_match(queue_id)));
        }
        let (first, last) = self.span.unwrap_or((at.time, at.time));
        self.span = Some((first.min(at.time), last.max(at.time)));
        self.hostless += u64::from(e.host.is_empty() && fixed.is_none());
    }

    /// Puts a line together with what is known of its session. `false` where that makes no event: the line only tells of
    /// a session, or no message is known for it.
    fn join(&mut self, e: &EventItem, host: &[u8], text: Text, joined: &mut Joined) -> bool {
        let Some(file) = self.parsers.files.get(e.file as usize) else { return false };
        let Some(pattern) = file.patterns.get(e.pattern as usize) else { return false };
        joined.of((file, pattern), &mut self.order.sessions, host, text);
        if pattern.session_only {
            self.unbound += u64::from(pattern.set.iter().any(|(f, _)| *f == Field::Remark));
            return false;
        }
        let named = joined.spans.iter().any(|s| s.field == Field::QueueId) || matches!(e.kind, Kind::Reject | Kind::Witness);
        self.left_out.orphans += u64::from(!named);
        named
    }

    /// Whose event it is.
    fn origin(&mut self, ledger: &mut Ledger, host: &[u8], instance: &[u8], e: &EventItem) -> Place {
        let reject = e.kind == Kind::Reject;
        let same = |l: &&Latest| l.file == e.file && l.reject == reject && l.host == host && l.instance == instance;
        if let Some(l) = self.latest.as_ref().filter(same) {
            return l.place;
        }
        let (name, zone) = self.host_named(host);
        let key = (e.file, reject, Box::from(instance), Arc::clone(&name));
        let (number, hash) = match self.origins.get(&key) {
            Some(known) => *known,
            None => {
                let file = self.parsers.files.get(e.file as usize);
                let (mta, role) = file.map_or((String::new(), Role::Hop), |f| (f.name.clone(), f.role));
                let instance = if instance.is_empty() { mta.clone() } else { String::from_utf8_lossy(instance).into_owned() };
                let role = if reject { Role::Reject } else { role };
                let hash = xxhash_rust::xxh3::xxh3_64([&name, instance.as_str(), mta.as_str()].join("\0").as_bytes());
                let number = ledger.origin(Origin { host: name.to_string(), instance, mta, role });
                self.origins.insert(key, (number, hash));
                (number, hash)
            }
        };
        let place = Place { number, hash, zone };
        self.latest = Some(Latest { file: e.file, reject, host: host.to_vec(), instance: instance.to_vec(), place });
        place
    }

    fn host_named(&mut self, raw: &[u8]) -> (Arc<str>, Zone) {
        if let Some(known) = self.hosts.get(raw) {
            return known.clone();
        }
        let written = if raw.is_empty() { self.host.clone() } else { String::from_utf8_lossy(raw).into_owned() };
        let name: Arc<str> = self.site.host_name(&written).into();
        let found = (Arc::clone(&name), self.site.zone_of(&name));
        if self.hosts.len() >= MAX_HOSTS {
            self.hosts.clear();
        }
        self.hosts.insert(raw.into(), found.clone());
        found
    }
}

/// A line longer than is kept: its head, and the fields within that head; values behind the line move with its end.
fn cut<'b>(spans: &[Span], line: &'b [u8]) -> (Vec<Span>, &'b [u8]) {
    let (whole, keep) = (line.len() as u32, MAX_LINE as u32);
    let moved = spans.iter().filter_map(|s| {
        if s.start >= whole {
            Some(Span { start: s.start - whole + keep, ..*s })
        } else if s.start < keep {
            Some(Span { len: s.len.min(keep - s.start), ..*s })
        } else {
            None
        }
    });
    (moved.collect(), line.get(..MAX_LINE).unwrap_or(line))
}

#[cfg(test)]
mod tests;
