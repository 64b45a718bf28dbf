//! Rows and objects to events.

use super::Value;
use super::csv::{self, End};
use super::form::{Row, RowAction, Word};
use super::json::Tree;
use crate::model::event::{Action, Field, Kind, MAX_LINE, Span};
use crate::model::line::RawStamp;
use crate::model::time::Precision;
use crate::parse::file::ParserFile;
use crate::parse::frame;
use regex_automata::Input;
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::ops::Range;

/// Events of one line.
const MAX_EVENTS: usize = 1_000;
/// So many events of one line keep the line; further ones only their own values (R6: a list of a thousand recipients
/// must not be a thousand copies of itself).
const MAX_COPIES: usize = 8;
/// The longest header line that is remembered, bytes.
pub const MAX_HEADER: usize = 4 * 1024;

/// The table that a stream's rows belong to: which parser file reads it, and its columns by name.
#[derive(Debug)]
pub struct Table {
    /// The header line it came from.
    pub header: Vec<u8>,
    /// Parser file.
    pub file: u16,
    /// Between cells.
    pub separator: u8,
    names: FxHashMap<String, usize>,
    width: usize,
}

impl Table {
    /// The table that a header line begins, if it is one that a parser file knows.
    pub fn of(files: &[ParserFile], line: &[u8]) -> Option<Self> {
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if text.len() > MAX_HEADER || !text.first().is_some_and(|b| matches!(b, b'#' | b'"') || b.is_ascii_alphabetic()) {
            return None;
        }
        for (i, file) in files.iter().enumerate().rev() {
            let Some(csv) = &file.csv else { continue };
            let stripped = text.strip_prefix(csv.header.as_bytes());
            let Some(names) = stripped.or_else(|| (!csv.also.is_empty()).then_some(text)) else { continue };
            let there = |name: &str| memchr::memmem::find(names, name.as_bytes()).is_some();
            if !csv.columns.iter().all(|c| there(c) || csv.also.iter().any(|(other, name)| name == c && there(other))) {
                continue;
            }
            let mut cells = Vec::new();
            if csv::cells(names, csv.separator, &mut cells) != End::Whole {
                continue;
            }
            let mut table =
                Table { header: line.to_vec(), file: i as u16, separator: csv.separator, names: FxHashMap::default(), width: cells.len() };
            for (at, cell) in cells.iter().enumerate() {
                let name = String::from_utf8_lossy(&cell.bytes).trim().to_string();
                // Of two columns of one name the first counts.
                table.names.entry(csv.also.get(&name).cloned().unwrap_or(name)).or_insert(at);
            }
            let first = csv.columns.first().and_then(|c| table.names.get(c)) == Some(&0);
            if first && csv.columns.iter().all(|c| table.names.contains_key(c)) {
                return Some(table);
            }
        }
        None
    }
}

/// One event of a line.
#[derive(Debug, Clone)]
pub struct RowEvent {
    /// Number of the row among the file's.
    pub row: u16,
    /// Kind of fact.
    pub kind: Kind,
    /// Outcome.
    pub action: Option<Action>,
    /// Fields: positions in the line and, behind its end, in `extra`.
    pub spans: Vec<Span>,
    /// Values that are not in the line.
    pub extra: Vec<u8>,
    /// Whether the event keeps the line.
    pub keeps_line: bool,
}

/// What a line says.
#[derive(Debug)]
pub enum Read {
    /// Events, when, and where the host's name stands in the line.
    Events(RawStamp, Range<usize>, Vec<RowEvent>),
    /// Known to tell nothing.
    Ignored,
    /// No row of the file is for it, or a value that is needed is not there.
    Unparsed,
}

/// What a line was taken apart to.
enum Doc<'a> {
    Row {
        names: &'a FxHashMap<String, usize>,
        cells: Vec<Value<'a>>,
        list: u8,
    },
    /// A tree, the node that is the object, and the text before it.
    Object(&'a Tree<'a>, u32, Option<Value<'a>>),
}

/// A member of a list.
enum Member<'a> {
    Value(Value<'a>),
    Node(u32),
}

impl<'a> Doc<'a> {
    fn value(&self, path: &str) -> Option<Value<'a>> {
        match self {
            Doc::Row { names, cells, .. } => cells.get(*names.get(path)?).cloned(),
            Doc::Object(_, _, text) if path == "@text" => text.clone(),
            Doc::Object(tree, root, _) => tree.value(tree.find(*root, path)?),
        }
    }

    fn list(&self, path: &str) -> Vec<Member<'a>> {
        match self {
            Doc::Row { list, .. } => self.value(path).map_or(vec![], |v| split(&v, *list).into_iter().map(Member::Value).collect()),
            Doc::Object(tree, root, _) => {
                tree.find(*root, path).map_or(vec![], |n| tree.elements(n).into_iter().map(Member::Node).collect())
            }
        }
    }
}

/// Members of a list in one cell. A separator within quotes or brackets is none: quoted local parts may hold it, and
/// Exchange's states do. Quotes that do not pair are characters like others.
pub(super) fn split<'a>(value: &Value<'a>, separator: u8) -> Vec<Value<'a>> {
    let paired = cuts(&value.bytes, separator, true);
    let cuts = paired.or_else(|| cuts(&value.bytes, separator, false)).unwrap_or_default();
    let mut from = 0;
    let mut out = Vec::with_capacity(cuts.len() + 1);
    for to in cuts.into_iter().chain([value.bytes.len()]) {
        let part = value.part(from..to);
        out.push(Value { bytes: Cow::Owned(part.bytes.into_owned()), at: part.at });
        from = to + 1;
    }
    out
}

/// Where the separators stand. `None` if there is a quote without its pair.
pub(super) fn cuts(list: &[u8], separator: u8, quotes: bool) -> Option<Vec<usize>> {
    let (mut out, mut depth, mut quoted, mut escaped) = (Vec::new(), 0usize, false, false);
    for (at, &b) in list.iter().enumerate() {
        match b {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if quoted => escaped = true,
            b'"' if quotes => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ if b == separator && !quoted && depth == 0 => out.push(at),
            _ => {}
        }
    }
    (!quoted).then_some(out)
}

/// A line with the members of its lists that one event is about.
struct Scope<'d, 'a> {
    doc: &'d Doc<'a>,
    each: &'d [String],
    lists: &'d [Vec<Member<'a>>],
    index: usize,
}

impl<'a> Scope<'_, 'a> {
    /// A text with values in it (`{a}/{b}`), where one of them is there.
    fn filled(&self, template: &str) -> Option<Value<'a>> {
        let (mut out, mut any): (Vec<u8>, bool) = (Vec::new(), false);
        for (n, part) in template.split('{').enumerate() {
            let (name, text) = if n == 0 { ("", part) } else { part.split_once('}')? };
            if n > 0 {
                let value = self.value(name).map(|v| v.bytes.into_owned()).unwrap_or_default();
                any |= !value.is_empty();
                out.extend_from_slice(&value);
            }
            out.extend_from_slice(text.as_bytes());
        }
        any.then_some(Value { bytes: Cow::Owned(out), at: None })
    }

    fn value(&self, path: &str) -> Option<Value<'a>> {
        if path.contains('{') {
            return self.filled(path);
        }
        for (name, list) in self.each.iter().zip(self.lists) {
            let Some(rest) = path.strip_prefix(name.as_str()) else { continue };
            let member = list.get(self.index);
            match (rest.strip_prefix('.'), self.doc) {
                (None, _) if rest.is_empty() => {
                    return match (member?, self.doc) {
                        (Member::Value(v), _) => Some(v.clone()),
                        (Member::Node(n), Doc::Object(tree, ..)) => tree.value(*n),
                        _ => None,
                    };
                }
                (Some(rest), Doc::Object(tree, ..)) => {
                    let Member::Node(n) = member? else { return None };
                    return tree.value(tree.find(*n, rest)?);
                }
                _ => {}
            }
        }
        self.doc.value(path)
    }

    /// A list as one value: `<a>,<b>`.
    fn addresses(&self, path: &str) -> Option<Value<'a>> {
        let list = self.doc.list(path);
        let mut out = Vec::new();
        for member in list.into_iter().take(MAX_EVENTS) {
            let value = match (member, self.doc) {
                (Member::Value(v), _) => Some(v),
                (Member::Node(n), Doc::Object(tree, ..)) => tree.value(n),
                _ => None,
            };
            let Some(value) = value.map(|v| bare(v).bytes.into_owned()).filter(|v| !v.is_empty()) else { continue };
            if !out.is_empty() {
                out.push(b',');
            }
            out.push(b'<');
            out.extend_from_slice(&value);
            out.push(b'>');
        }
        (!out.is_empty()).then_some(Value { bytes: Cow::Owned(out), at: None })
    }

    fn holds(&self, conditions: &[(String, Vec<Word>)], all: bool) -> bool {
        let mut each = conditions.iter().map(|(place, words)| {
            let value = self.value(place);
            words.iter().any(|w| w.fits(value.as_ref().map(|v| &v.bytes[..])))
        });
        if all { each.all(|h| h) } else { each.any(|h| h) }
    }
}

/// Without the angle brackets around it.
fn bare(value: Value<'_>) -> Value<'_> {
    let len = value.bytes.len();
    if len < 2 || value.bytes.first() != Some(&b'<') || value.bytes.last() != Some(&b'>') {
        return value;
    }
    let at = value.at.map(|at| at + 1);
    match value.bytes {
        Cow::Borrowed(b) => Value { bytes: Cow::Borrowed(b.get(1..len - 1).unwrap_or_default()), at },
        Cow::Owned(b) => Value { bytes: Cow::Owned(b.get(1..len - 1).unwrap_or_default().to_vec()), at },
    }
}

/// The fields of one event in the making.
struct Fields {
    line: usize,
    keeps_line: bool,
    spans: Vec<Span>,
    extra: Vec<u8>,
}

impl Fields {
    fn put(&mut self, field: Field, value: &Value) {
        let len = value.bytes.len();
        let in_line = value.at.filter(|at| self.keeps_line && at + len <= MAX_LINE.min(self.line));
        let behind = if len == 0 { self.line } else { self.line + self.extra.len() };
        let start = in_line.unwrap_or(behind);
        if in_line.is_none() {
            self.extra.extend_from_slice(&value.bytes);
        }
        self.spans.push(Span { field, start: start as u32, len: len as u32 });
    }

    fn has(&self, field: Field) -> bool {
        self.spans.iter().any(|s| s.field == field)
    }
}

/// What all lines of one file have in common.
pub struct Reader<'f> {
    /// The parser file.
    pub file: &'f ParserFile,
    /// Bytes of the line.
    pub line: usize,
    /// When the line's frame says it was; `None`: the line itself must say.
    pub stamp: Option<RawStamp>,
}

impl Reader<'_> {
    /// Reads a record of a table.
    pub fn row(&self, table: &Table, record: &[u8]) -> Read {
        let Some(form) = &self.file.csv else { return Read::Unparsed };
        let mut cells = Vec::new();
        if csv::cells(record, table.separator, &mut cells) != End::Whole || cells.len() != table.width {
            return Read::Unparsed;
        }
        let doc = Doc::Row { names: &table.names, cells, list: form.list };
        self.read(&doc, (&form.time, form.utc), &form.host, form.null_sender)
    }

    /// Reads an object: what the file says of it, or of the one within it. `text` is what stands before it.
    /// `None` if it is none of the file's.
    pub fn object(&self, tree: &Tree, text: Option<Value>) -> Option<Read> {
        let form = self.file.json.as_ref()?;
        let below = |t: &Tree, root: u32| form.members.iter().all(|m| t.find(root, m).is_some()).then_some(root);
        let ours = |t: &Tree| below(t, 0).or_else(|| below(t, t.find(0, form.root.as_deref()?)?));
        let read = |t: &Tree, root| self.read(&Doc::Object(t, root, text.clone()), (&form.time, form.utc), &form.host, true);
        if let Some(root) = ours(tree) {
            return Some(read(tree, root));
        }
        let inside = tree.value(tree.find(0, form.within.as_deref()?)?)?;
        let inner = Tree::read(&inside.bytes, None)?;
        let root = ours(&inner)?;
        Some(read(&inner, root))
    }

    fn read(&self, doc: &Doc, (time, utc): (&[String], bool), host: &[String], null_sender: bool) -> Read {
        let whole = Scope { doc, each: &[], lists: &[], index: 0 };
        let stamp = time.iter().find_map(|t| stamp(&whole.value(t)?.bytes)).or(self.stamp);
        let stamp = match stamp {
            None => return Read::Unparsed,
            Some(RawStamp::Local { written, micros, precision }) if utc => RawStamp::Zoned { written, micros, offset: 0, precision },
            Some(stamp) => stamp,
        };
        for (number, row) in self.file.rows.iter().enumerate() {
            let scope = Scope { doc, each: &[], lists: &[], index: 0 };
            if !scope.holds(&row.when, true) || scope.holds(&row.unless, false) {
                continue;
            }
            let Some(kind) = row.kind else { return Read::Ignored };
            let events = self.events(row, number as u16, kind, doc, null_sender);
            // A host is a name without anything that would have to be escaped: it stands in the line.
            let place = |h: &String| scope.value(h).filter(|v| !v.bytes.is_empty()).and_then(|v| v.at.map(|at| at..at + v.bytes.len()));
            let host = if row.host.is_empty() { host } else { &row.host };
            let host = host.iter().find_map(place).unwrap_or(0..0);
            return events.map_or(Read::Unparsed, |events| Read::Events(stamp, host, events));
        }
        Read::Unparsed
    }

    fn events(&self, row: &Row, number: u16, kind: Kind, doc: &Doc, null_sender: bool) -> Option<Vec<RowEvent>> {
        let mut lists: Vec<Vec<Member>> = row.each.iter().map(|path| doc.list(path)).collect();
        let count = if row.each.is_empty() { 1 } else { lists.first().map_or(0, Vec::len) };
        // A list that is not as long as the first one does not say which of its members belongs to whom.
        lists.iter_mut().filter(|l| l.len() != count).for_each(Vec::clear);
        let mut events = Vec::new();
        for index in 0..count.min(MAX_EVENTS) {
            let scope = Scope { doc, each: &row.each, lists: &lists, index };
            let fields = Fields { line: self.line, keeps_line: index < MAX_COPIES, spans: vec![], extra: vec![] };
            events.push(self.event(row, number, kind, &scope, fields, null_sender)?);
        }
        (!events.is_empty()).then_some(events)
    }

    fn event(&self, row: &Row, number: u16, kind: Kind, scope: &Scope, mut out: Fields, null_sender: bool) -> Option<RowEvent> {
        let action = match &row.action {
            RowAction::None => None,
            RowAction::Always(a) => Some(*a),
            RowAction::Mapped(of, map) => {
                let value = scope.value(of);
                Some(map.iter().find(|(w, _)| w.fits(value.as_ref().map(|v| &v.bytes[..])))?.1)
            }
        };
        for (field, places) in &row.fields {
            let empty = null_sender && *field == Field::EnvelopeFrom;
            let of = |place: &String| match field {
                Field::Recipients => scope.addresses(place),
                Field::QueueId | Field::MessageId | Field::FinalRecipient | Field::OriginalRecipient | Field::ResentMessageId => {
                    scope.value(place).map(bare)
                }
                Field::EnvelopeFrom => {
                    let value = scope.value(place)?;
                    let null = &value.bytes[..] == b"<>";
                    Some(bare(value)).filter(|v| null || empty || !v.bytes.is_empty())
                }
                _ => scope.value(place),
            };
            let found = places.iter().find_map(|p| of(p).filter(|v| !v.bytes.is_empty() || *field == Field::EnvelopeFrom));
            if let Some(value) = found {
                out.put(*field, &value);
            }
        }
        for (place, regex, groups) in &row.parts {
            let Some(value) = scope.value(place) else { continue };
            let mut found = regex.create_captures();
            regex.captures(Input::new(&value.bytes[..]), &mut found);
            for (i, field) in groups.iter().enumerate() {
                if let (Some(field), Some(span)) = (field, found.get_group(i))
                    && !out.has(*field)
                {
                    out.put(*field, &value.part(span.start..span.end));
                }
            }
        }
        for (field, value) in &row.set {
            out.put(*field, &Value { bytes: Cow::Borrowed(value), at: None });
        }
        let needs_id = !matches!(kind, Kind::Reject | Kind::Witness);
        if needs_id && !out.has(Field::QueueId) {
            return None;
        }
        Some(RowEvent { row: number, kind, action, spans: out.spans, extra: out.extra, keeps_line: out.keeps_line })
    }
}

/// A time as a table or JSON says it: ISO 8601 (with `T` or a space, with or without zone), `2026/03/02 08:00:00 UTC`, or
/// seconds or milliseconds since 1970.
pub fn stamp(text: &[u8]) -> Option<RawStamp> {
    let text = text.trim_ascii();
    if let Some(stamp) = frame::iso_stamp(text) {
        return Some(stamp);
    }
    if text.get(4) == Some(&b'/') && text.len() < 40 {
        let dashed: Vec<u8> = text.iter().map(|b| if *b == b'/' { b'-' } else { *b }).collect();
        let utc = dashed.strip_suffix(b" UTC").map(|t| [t, b"Z"].concat());
        return frame::iso_stamp(&utc.unwrap_or(dashed));
    }
    let (whole, decimals) = match text.iter().position(|b| *b == b'.') {
        Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
        None => (text, &b""[..]),
    };
    let digits = |t: &[u8]| t.iter().all(u8::is_ascii_digit);
    if !digits(whole) || !digits(decimals) {
        return None;
    }
    let number: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
    let six: u32 = decimals.iter().copied().chain(std::iter::repeat(b'0')).take(6).fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    match whole.len() {
        9 | 10 => Some(RawStamp::Zoned { written: number, micros: six, offset: 0, precision: Precision::from_decimals(decimals.len()) }),
        12 | 13 => {
            let micros = (number.rem_euclid(1000) * 1000) as u32;
            Some(RawStamp::Zoned { written: number.div_euclid(1000), micros, offset: 0, precision: Precision::Milli })
        }
        _ => None,
    }
}
