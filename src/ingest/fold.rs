//! The sequential part of ingest, one source at a time: dates events, counts equal ones, and puts them into the ledger.

use super::join::{Joined, Text};
use super::parse_block::{Chunk, Counts, EventItem, Item, take_line};
use crate::config::Site;
use crate::ledger::{Entry, Ledger, Origin};
use crate::model::event::{Field, Head, Kind, MAX_LINE, Span};
use crate::model::line::Fragment;
use crate::model::record::Role;
use crate::model::time::SECOND;
use crate::parse::{Matcher, Parsers, frame};
use crate::resolve::clock::{Clock, Zone};
use crate::resolve::order::Order;
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::sync::Arc;

/// Names of hosts remembered; beyond that all are forgotten and looked up anew (R6).
const MAX_HOSTS: usize = 65_536;
/// Times that one `message repeated N times` is believed.
const MAX_TIMES: u32 = 1_000;

/// Parser file, whether it is of rejects, instance as written, host.
type OriginKey = (u16, bool, Box<[u8]>, Arc<str>);

/// The origin of the line before: most lines are of the same host and program as the one before.
struct Latest {
    file: u16,
    reject: bool,
    host: Vec<u8>,
    instance: Vec<u8>,
    number: u32,
    zone: Zone,
}

/// What a source is read with.
pub struct Fold<'a> {
    /// The record table.
    pub ledger: &'a mut Ledger,
    parsers: Arc<Parsers>,
    site: &'a Site,
    clock: Clock,
    order: Order,
    matcher: Matcher,
    /// Host of lines that name none.
    host: String,
    hosts: FxHashMap<Box<[u8]>, (Arc<str>, Zone)>,
    origins: FxHashMap<OriginKey, u32>,
    latest: Option<Latest>,
    /// Lines whose host was taken from `host`.
    pub hostless: u64,
    /// Lines whose stamp is no date.
    pub undated: u64,
    /// Lines of a session or delivery whose beginning was not seen, so that no message is known for them.
    pub orphans: u64,
    /// First and last moment of the events folded, microseconds.
    pub span: Option<(i64, i64)>,
    /// Counts of entries that were joined from parts.
    pub counts: Counts,
}

impl<'a> Fold<'a> {
    /// Starts on a source. `host` is whose lines they are where they name none.
    pub fn new(ledger: &'a mut Ledger, parsers: &Arc<Parsers>, site: &'a Site, clock: Clock, order: Order, host: String) -> Self {
        Fold {
            ledger,
            parsers: Arc::clone(parsers),
            site,
            clock,
            order,
            matcher: Matcher::new(Arc::clone(parsers)),
            host,
            hosts: FxHashMap::default(),
            origins: FxHashMap::default(),
            latest: None,
            hostless: 0,
            undated: 0,
            orphans: 0,
            span: None,
            counts: Counts::default(),
        }
    }

    /// What the next file of the same series goes on with.
    pub fn into_order(self) -> Order {
        self.order
    }

    /// Where the clock stands, for the next reading of the same source.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Folds what was parsed of a block. `warm` lines are only for context: they were folded by an earlier reading.
    pub fn chunk(&mut self, block: &[u8], chunk: &Chunk, warm: bool) {
        for item in &chunk.items {
            match item {
                Item::Event(event) => self.event(block, chunk, event, warm),
                Item::Fragment { line, message, fragment } => {
                    let line = block.get(line.start as usize..line.end as usize).unwrap_or_default();
                    self.fragment(line, *message as usize, *fragment, warm);
                }
            }
        }
    }

    fn fragment(&mut self, line: &[u8], message: usize, fragment: Fragment, warm: bool) {
        let Some(f) = frame::parse(line) else { return };
        let who = [f.host, b"/", f.program, b"/", f.pid].concat();
        let Some(whole) = self.order.fragments.push(who, fragment, line, message) else { return };
        let mut chunk = Chunk::default();
        take_line(&mut self.matcher, &mut chunk, &mut Vec::new(), &whole, 0);
        if !warm {
            chunk.counts.lines = 0;
            self.counts.add(&chunk.counts);
        }
        for item in &chunk.items {
            if let Item::Event(event) = item {
                self.event(&whole, &chunk, event, warm);
            }
        }
    }

    fn event(&mut self, block: &[u8], chunk: &Chunk, e: &EventItem, warm: bool) {
        let bytes = |r: &Range<u32>| block.get(r.start as usize..r.end as usize).unwrap_or_default();
        let (origin, zone) = self.origin(bytes(&e.host), bytes(&e.instance), e);
        let Some(at) = self.clock.resolve_both(e.stamp, e.inner, zone) else {
            self.undated += u64::from(!warm);
            return;
        };
        let line = bytes(&e.line);
        let spans = chunk.spans.get(e.spans.start as usize..e.spans.end as usize).unwrap_or_default();
        let extra = chunk.extra.get(e.extra.start as usize..e.extra.end as usize).unwrap_or_default();
        let (joined, mut identity) = (&mut Joined::default(), e.identity);
        let (spans, extra) = if e.joins {
            let Some(pattern) = self.parsers.files.get(e.file as usize).and_then(|f| Some((f, f.patterns.get(e.pattern as usize)?))) else {
                return;
            };
            joined.of(pattern, &mut self.order.sessions, bytes(&e.host), Text { spans, line, extra });
            if pattern.1.session_only {
                return;
            }
            identity = joined.identity(e, line);
            (joined.spans.as_slice(), joined.extra.as_slice())
        } else {
            (spans, extra)
        };
        let value = |field| Text { spans, line, extra }.value(field);
        if e.joins && value(Field::QueueId).is_none() && !matches!(e.kind, Kind::Reject | Kind::Witness) {
            self.orphans += u64::from(!warm);
            return;
        }
        let reject_id;
        let queue_id = match value(Field::QueueId) {
            Some(id) if e.kind != Kind::Reject => id,
            _ => {
                let whom = value(Field::ClientIp).or_else(|| value(Field::FinalRecipient)).unwrap_or_default();
                reject_id = [(at.time.div_euclid(SECOND)).to_string().as_bytes(), b"/", whom].concat();
                &reject_id
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
        for _ in 0..e.times.min(MAX_TIMES) {
            let ordinal = self.order.ordinals.next(identity ^ slot_hash(origin, queue_id));
            if warm {
                continue;
            }
            let head = Head { kind: e.kind, action: e.action, time: at.time, precision: at.precision, written: at.written, ordinal };
            let entry = Entry { origin, role, queue_id, head, spans, line, extra };
            self.ledger.add(&entry, || role == Role::Hop && reused.is_some_and(|r| r.is_match(queue_id)));
        }
        if !warm {
            let (first, last) = self.span.unwrap_or((at.time, at.time));
            self.span = Some((first.min(at.time), last.max(at.time)));
            self.hostless += u64::from(e.host.is_empty());
        }
    }

    /// The ledger's number for host, instance and parser file, and the host's zone.
    fn origin(&mut self, host: &[u8], instance: &[u8], e: &EventItem) -> (u32, Zone) {
        let reject = e.kind == Kind::Reject;
        let same = |l: &&Latest| l.file == e.file && l.reject == reject && l.host == host && l.instance == instance;
        if let Some(l) = self.latest.as_ref().filter(same) {
            return (l.number, l.zone);
        }
        let (name, zone) = self.host_named(host);
        let key = (e.file, reject, Box::from(instance), Arc::clone(&name));
        let number = match self.origins.get(&key) {
            Some(n) => *n,
            None => {
                let file = self.parsers.files.get(e.file as usize);
                let (mta, role) = file.map_or((String::new(), Role::Hop), |f| (f.name.clone(), f.role));
                let instance = if instance.is_empty() { mta.clone() } else { String::from_utf8_lossy(instance).into_owned() };
                let role = if reject { Role::Reject } else { role };
                let n = self.ledger.origin(Origin { host: name.to_string(), instance, mta, role });
                self.origins.insert(key, n);
                n
            }
        };
        self.latest = Some(Latest { file: e.file, reject, host: host.to_vec(), instance: instance.to_vec(), number, zone });
        (number, zone)
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

fn slot_hash(origin: u32, queue_id: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(queue_id, u64::from(origin))
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
