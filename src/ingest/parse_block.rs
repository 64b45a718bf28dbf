//! A block of lines to items, in parallel. Items hold positions in the block, so that nothing is copied yet.

use crate::model::event::{Action, Field, Kind, Span, base_identity};
use crate::model::line::{Fragment, RawStamp};
use crate::model::time::yearless;
use crate::parse::frame::Frame;
use crate::parse::rows::csv::record_end;
use crate::parse::{Matcher, Outcome, Parsed, Parsers};
use crate::resolve::order::LatestLines;
use crate::resolve::sheet::Sheet;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that one task parses.
const CHUNK: usize = 256 * 1024;
/// Examples kept of each program's unparsed lines.
pub const EXAMPLES: usize = 5;

/// A place in a block.
pub type Place = Range<u32>;

/// What the sequential part has to do for one line.
#[derive(Debug)]
pub enum Item {
    /// An event to be dated and folded.
    Event(EventItem),
    /// A part of an entry that syslog split.
    Fragment {
        /// The whole line.
        line: Place,
        /// Where its message begins.
        message: u32,
        /// Which part.
        fragment: Fragment,
    },
    /// `last message repeated N times`, where the line that is meant is not in this block.
    Repeat {
        /// Where the line begins.
        at: u32,
        /// Host.
        host: Place,
        /// When it was repeated.
        stamp: RawStamp,
        /// How often.
        times: u32,
    },
}

/// An event as positions in its block.
#[derive(Debug)]
pub struct EventItem {
    /// The whole line.
    pub line: Place,
    /// Host; empty where the line names none.
    pub host: Place,
    /// Instance of the MTA; empty where the parser file has none.
    pub instance: Place,
    /// The frame's stamp.
    pub stamp: RawStamp,
    /// The program's own stamp.
    pub inner: Option<RawStamp>,
    /// Parser file.
    pub file: u16,
    /// Pattern in it.
    pub pattern: u16,
    /// Whether the pattern has to do with a session.
    pub joins: bool,
    /// Kind of fact.
    pub kind: Kind,
    /// Outcome.
    pub action: Option<Action>,
    /// Times the line stands for.
    pub times: u32,
    /// Identity before the ordinal.
    pub identity: u64,
    /// Fields, in the chunk's `spans`.
    pub spans: Range<u32>,
    /// Values behind the line, in the chunk's `extra`.
    pub extra: Range<u32>,
}

/// What one task made of its lines.
#[derive(Debug, Default)]
pub struct Chunk {
    /// In the order of the lines.
    pub items: Vec<Item>,
    /// Fields of all events; positions are relative to each event's line.
    pub spans: Vec<Span>,
    /// Values behind lines.
    pub extra: Vec<u8>,
    /// Counts.
    pub counts: Counts,
    /// A record of a table that began in an earlier block: its text and what it says. In a block's first chunk only.
    pub before: Option<Box<(Vec<u8>, Chunk)>>,
    /// The table as the block leaves it, where that is not as it was. In a block's last chunk only.
    pub after: Option<Sheet>,
    /// Where in the block the lines end that it read: a record may go on behind its piece.
    end: usize,
    /// The header line that is in force there, where another one was before.
    header: Option<Vec<u8>>,
    /// Where a record begins that does not end in the block.
    open: Option<usize>,
}

/// What became of lines.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// All lines.
    pub lines: u64,
    /// Lines that made an event.
    pub events: u64,
    /// Lines of known programs that say nothing about a message.
    pub ignored: u64,
    /// Lines of programs that no parser file names.
    pub foreign: u64,
    /// Lines without a known stamp.
    pub no_frame: u64,
    /// Lines of known programs that no pattern knows.
    pub unparsed: BTreeMap<String, Unparsed>,
}

/// Unparsed lines of one program.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unparsed {
    /// How many.
    pub count: u64,
    /// The first few.
    pub examples: Vec<String>,
}

/// Programs counted by name; further ones are counted together (R6).
const MAX_PROGRAMS: usize = 256;

impl Counts {
    /// Adds another count to this one.
    pub fn add(&mut self, other: &Counts) {
        self.lines += other.lines;
        self.events += other.events;
        self.ignored += other.ignored;
        self.foreign += other.foreign;
        self.no_frame += other.no_frame;
        for (program, u) in &other.unparsed {
            let name = if self.unparsed.len() >= MAX_PROGRAMS && !self.unparsed.contains_key(program) { "(others)" } else { program };
            let mine = self.unparsed.entry(name.to_string()).or_default();
            mine.count += u.count;
            let room = EXAMPLES.saturating_sub(mine.examples.len());
            mine.examples.extend(u.examples.iter().take(room).cloned());
        }
    }

    fn unparsed(&mut self, program: &[u8], line: &[u8]) {
        let name = String::from_utf8_lossy(program.get(..64).unwrap_or(program));
        if !self.unparsed.contains_key(name.as_ref()) {
            let name = if self.unparsed.len() >= MAX_PROGRAMS { "(others)" } else { name.as_ref() };
            self.unparsed.entry(name.to_string()).or_default();
        }
        if let Some(u) = self.unparsed.get_mut(name.as_ref()) {
            u.count += 1;
            if u.examples.len() < EXAMPLES {
                u.examples.push(String::from_utf8_lossy(line.get(..1024).unwrap_or(line)).into_owned());
            }
        }
    }

    /// Lines that no pattern knows, of all programs.
    pub fn unparsed_lines(&self) -> u64 {
        self.unparsed.values().map(|u| u.count).sum()
    }
}

/// Parses a block of whole lines; chunks come in the order of the block. `sheet` is the table that rows belong to, as
/// the block before left it; the last chunk says how this one does.
pub fn parse_block(parsers: &Arc<Parsers>, sheet: &Sheet, block: &[u8]) -> Vec<Chunk> {
    let new = || Matcher::new(Arc::clone(parsers));
    let mut own = None;
    let begin = go_on(|| own.insert(new()), sheet, block);
    let pieces = pieces(block, begin.from);
    let (mut header, mut chunks, mut rest) = (sheet.header.clone(), Vec::new(), pieces.as_slice());
    if let Some((first, others)) = rest.split_first()
        && !others.is_empty()
        && crate::parse::frame::parse(line_at(block, first.start)).is_none()
    {
        // It may be a table's header, which the other pieces have to be read with.
        let chunk = parse_piece(own.get_or_insert_with(new), &header, block, first.clone());
        header = chunk.header.clone().unwrap_or(header);
        chunks.push(chunk);
        rest = others;
    }
    chunks.par_extend(rest.into_par_iter().map_init(new, |m, piece| parse_piece(m, &header, block, piece.clone())));
    // Few blocks have a header in their midst, or a record that lies in two pieces: what was read without knowing is read again.
    let (mut now, mut end) = (sheet.header.clone(), begin.from);
    for (n, (chunk, piece)) in chunks.iter_mut().zip(&pieces).enumerate() {
        let assumed = if n == 0 { &sheet.header } else { &header };
        if now != *assumed || end > piece.start {
            *chunk = parse_piece(own.get_or_insert_with(new), &now, block, end.max(piece.start)..piece.end);
        }
        now = chunk.header.clone().unwrap_or(now);
        end = chunk.end;
    }
    finish(chunks, begin, sheet, now, block)
}

/// Parses a small block with a matcher at hand. `sheet` and the chunk's `after` as of [`parse_block`].
pub fn parse_with(matcher: &mut Matcher, sheet: &Sheet, block: &[u8]) -> Chunk {
    let begin = go_on(|| &mut *matcher, sheet, block);
    let chunk = parse_piece(matcher, &sheet.header, block, begin.from..block.len());
    let header = chunk.header.clone().unwrap_or_else(|| sheet.header.clone());
    finish(vec![chunk], begin, sheet, header, block).pop().unwrap_or_default()
}

/// What a block begins with, where a record went on in it.
#[derive(Default)]
struct Begin {
    /// The record of two blocks, and what it says.
    before: Option<Box<(Vec<u8>, Chunk)>>,
    /// Where the lines begin that are behind it.
    from: usize,
    /// It does not end in this block either.
    open: Vec<u8>,
}

/// Ends a record that began in an earlier block.
fn go_on<'m>(matcher: impl FnOnce() -> &'m mut Matcher, sheet: &Sheet, block: &[u8]) -> Begin {
    if sheet.open.is_empty() {
        return Begin::default();
    }
    let matcher = matcher();
    matcher.set_table(&sheet.header);
    let room = Sheet::MAX_RECORD.saturating_sub(sheet.open.len()).min(block.len());
    let mut text = [&sheet.open, block.get(..room).unwrap_or_default()].concat();
    let end = record_end(&text, matcher.separator().unwrap_or(b','));
    match end.and_then(|end| end.checked_sub(sheet.open.len())).filter(|end| *end < room || room == block.len()) {
        Some(end) => {
            text.truncate(sheet.open.len() + end);
            let line = text.strip_suffix(b"\r").unwrap_or(&text).to_vec();
            let mut chunk = Chunk::default();
            take_line(matcher, &mut chunk, &mut Vec::new(), &line, 0);
            Begin { before: Some(Box::new((line, chunk))), from: (end + 1).min(block.len()), open: vec![] }
        }
        None if room == block.len() => Begin { before: None, from: block.len(), open: text },
        // Longer than a record may be: the quote is not believed.
        None => Begin::default(),
    }
}

/// Puts into the chunks what they say of the blocks before and behind them.
fn finish(mut chunks: Vec<Chunk>, begin: Begin, sheet: &Sheet, header: Vec<u8>, block: &[u8]) -> Vec<Chunk> {
    let open = chunks.iter().find_map(|c| c.open).map(|at| block.get(at..).unwrap_or_default().to_vec());
    let after = Sheet { header, open: open.unwrap_or(begin.open) };
    if chunks.is_empty() {
        chunks.push(Chunk::default());
    }
    if let Some(first) = chunks.first_mut() {
        if let Some(b) = &begin.before {
            first.counts.add(&b.1.counts);
        }
        first.before = begin.before;
    }
    if let Some(last) = chunks.last_mut().filter(|_| after != *sheet) {
        last.after = Some(after);
    }
    chunks
}

/// Cuts a block from `start` on at newlines into pieces of about [`CHUNK`] bytes.
fn pieces(block: &[u8], mut start: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    while start < block.len() {
        let want = (start + CHUNK).min(block.len());
        let end = match block.get(want..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            Some(n) if want < block.len() => want + n + 1,
            _ => block.len(),
        };
        out.push(start..end);
        start = end;
    }
    out
}

fn line_at(block: &[u8], start: usize) -> &[u8] {
    let rest = block.get(start..).unwrap_or_default();
    rest.get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len())).unwrap_or_default()
}

fn parse_piece(matcher: &mut Matcher, header: &[u8], block: &[u8], piece: Range<usize>) -> Chunk {
    // About what a busy log of mail has.
    let events = piece.len() / 192;
    let mut chunk = Chunk { items: Vec::with_capacity(events), spans: Vec::with_capacity(8 * events), ..Chunk::default() };
    let mut scratch = Vec::new();
    matcher.set_table(header);
    let mut start = piece.start;
    while start < piece.end {
        let mut line = line_at(block, start);
        if let Some(separator) = matcher.separator() {
            match record(block, start, line, separator) {
                Some(whole) => line = whole,
                None => {
                    chunk.open = Some(start);
                    start = block.len();
                    break;
                }
            }
        }
        let len = line.len();
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty()
            && let Some((frame, times)) = take_line(matcher, &mut chunk, &mut scratch, line, start as u32)
        {
            repeat(matcher, &mut chunk, &mut scratch, block, start, frame, times);
        }
        start += len + 1;
    }
    chunk.end = start.min(block.len());
    chunk.header = (matcher.header() != header).then(|| matcher.header().to_vec());
    chunk
}

/// The record that begins with `line`: further lines belong to it where a quoted cell holds newlines.
/// `None` if it does not end in the block.
fn record<'b>(block: &'b [u8], start: usize, line: &'b [u8], separator: u8) -> Option<&'b [u8]> {
    if memchr::memchr(b'"', line).is_none() || record_end(line, separator).is_some() || crate::parse::frame::parse(line).is_some() {
        return Some(line);
    }
    let rest = block.get(start..).unwrap_or_default();
    let reach = rest.get(..Sheet::MAX_RECORD).unwrap_or(rest);
    match record_end(reach, separator) {
        Some(end) if end < reach.len() || reach.len() == rest.len() => reach.get(..end),
        // Longer than a record may be: the quote is not believed.
        _ if rest.len() > reach.len() => Some(line),
        _ => None,
    }
}

/// Reads one line that stands at `base` of its block into `chunk`.
/// Returns host and number of a `last message repeated N times`, which the caller has to look up.
pub fn take_line<'a>(
    matcher: &mut Matcher,
    chunk: &mut Chunk,
    scratch: &mut Vec<u8>,
    line: &'a [u8],
    base: u32,
) -> Option<(Frame<'a>, u32)> {
    chunk.counts.lines += 1;
    let whole = base..base + line.len() as u32;
    match matcher.line(line) {
        Outcome::Event(parsed) => {
            match parsed.session_only {
                true => chunk.counts.ignored += 1,
                false => chunk.counts.events += 1,
            }
            let item = event(matcher, chunk, scratch, line, base, &parsed, None);
            chunk.items.push(Item::Event(item));
        }
        Outcome::Rows(frame, inner, file, events) => {
            chunk.counts.events += 1;
            for e in &events {
                let parsed = matcher.row_event(line, frame, inner, file, e);
                let item = event(matcher, chunk, scratch, line, base, &parsed, None);
                let item = if e.keeps_line { item } else { without_line(chunk, item) };
                chunk.items.push(Item::Event(item));
            }
        }
        Outcome::Ignored => chunk.counts.ignored += 1,
        Outcome::Unparsed(file, b"") => {
            let name = matcher.parsers().files.get(usize::from(file)).map_or("", |f| f.name.as_str());
            chunk.counts.unparsed(name.as_bytes(), line);
        }
        Outcome::Unparsed(_, program) => chunk.counts.unparsed(program, line),
        Outcome::Foreign => chunk.counts.foreign += 1,
        Outcome::NoFrame => chunk.counts.no_frame += 1,
        Outcome::Fragment(frame, fragment) => {
            // Counted as known: what it says is read when the entry is whole.
            chunk.counts.ignored += 1;
            chunk.items.push(Item::Fragment { line: whole, message: frame.message as u32, fragment });
        }
        Outcome::Repeat(frame, times) => {
            chunk.counts.ignored += 1;
            return Some((frame, times));
        }
    }
    None
}

/// The event without its line: its values lie behind it.
fn without_line(chunk: &mut Chunk, item: EventItem) -> EventItem {
    let line = item.line.end - item.line.start;
    let spans = chunk.spans.get_mut(item.spans.start as usize..item.spans.end as usize).unwrap_or_default();
    spans.iter_mut().for_each(|s| s.start = s.start.saturating_sub(line));
    EventItem { line: item.line.start..item.line.start, ..item }
}

/// `last message repeated N times` stands for N more of the line of that host before it. Where that is not in
/// this block, it is left to the sequential part, which knows the latest lines of the block before.
fn repeat(matcher: &mut Matcher, chunk: &mut Chunk, scratch: &mut Vec<u8>, block: &[u8], at: usize, frame: Frame, times: u32) {
    let from = at.saturating_sub(LatestLines::REACH);
    let reach = block.get(from..at).unwrap_or_default();
    for line in reach.split(|&b| b == b'\n').rev().filter(|l| !l.is_empty()) {
        let base = place_in(block, line, 0).start;
        if repeated(matcher, chunk, scratch, line, base, frame, times) {
            return;
        }
    }
    if from == 0 {
        chunk.items.push(Item::Repeat { at: at as u32, host: place_in(block, frame.host, 0), stamp: frame.stamp, times });
    }
}

/// Takes `line` as the one that `again` says was repeated. `false` where it is another host's, or itself such a message.
pub fn repeated(matcher: &mut Matcher, chunk: &mut Chunk, scratch: &mut Vec<u8>, line: &[u8], base: u32, again: Frame, times: u32) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(earlier) = crate::parse::frame::parse(line).filter(|f| f.host == again.host) else { return false };
    match matcher.framed(line, &earlier) {
        Outcome::Repeat(..) => return false,
        Outcome::Event(parsed) => {
            // The words are those of the line before, the time is now.
            let item = event(matcher, chunk, scratch, line, base, &parsed, Some(again.stamp));
            chunk.items.push(Item::Event(EventItem { times, ..item }));
        }
        _ => {}
    }
    true
}

/// The stamp as written, without its year: the program's own where there is one.
pub(super) fn written_second(stamp: RawStamp, inner: Option<RawStamp>) -> u32 {
    match inner.unwrap_or(stamp) {
        RawStamp::Zoned { written, .. } | RawStamp::Local { written, .. } => yearless(written),
        RawStamp::Yearless { month, day, second, .. } => (u32::from(month) * 32 + u32::from(day)) * 86_400 + second,
    }
}

/// Where `part`, a slice of `line`, lies in the block.
fn place_in(line: &[u8], part: &[u8], base: u32) -> Place {
    if part.is_empty() {
        return base..base;
    }
    let offset = (part.as_ptr() as usize).wrapping_sub(line.as_ptr() as usize).min(line.len()) as u32;
    base + offset..base + offset + part.len() as u32
}

/// `again` is when the line was repeated, where it is not itself the event.
fn event(
    matcher: &Matcher,
    chunk: &mut Chunk,
    scratch: &mut Vec<u8>,
    line: &[u8],
    base: u32,
    parsed: &Parsed,
    again: Option<RawStamp>,
) -> EventItem {
    let (stamp, inner) = again.map_or((parsed.frame.stamp, parsed.inner), |stamp| (stamp, None));
    let spans_at = chunk.spans.len() as u32;
    let extra_at = chunk.extra.len() as u32;
    let written = written_second(stamp, inner);
    let values = matcher.fields.spans.iter().filter_map(|s| {
        let (start, len) = (s.start as usize, s.len as usize);
        let value = match start.checked_sub(line.len()) {
            Some(behind) if len > 0 => matcher.fields.extra.get(behind..behind + len),
            _ => line.get(start..start + len),
        };
        Some((s.field, value?))
    });
    let identity = base_identity(scratch, parsed.kind, parsed.action, written, values);
    chunk.spans.extend_from_slice(&matcher.fields.spans);
    let program = place_in(line, parsed.frame.program, 0);
    if !program.is_empty() {
        chunk.spans.push(Span { field: Field::Program, start: program.start, len: program.end - program.start });
    }
    if parsed.joins {
        let pid = place_in(line, parsed.frame.pid, 0);
        chunk.spans.push(Span { field: Field::Pid, start: pid.start, len: pid.end - pid.start });
    }
    chunk.extra.extend_from_slice(&matcher.fields.extra);
    EventItem {
        line: base..base + line.len() as u32,
        host: place_in(line, parsed.frame.host, base),
        instance: place_in(line, parsed.instance, base),
        stamp,
        inner,
        file: parsed.file,
        pattern: parsed.pattern,
        joins: parsed.joins,
        kind: parsed.kind,
        action: parsed.action,
        times: parsed.times,
        identity,
        spans: spans_at..chunk.spans.len() as u32,
        extra: extra_at..chunk.extra.len() as u32,
    }
}
