//! What a line of a session says together with the lines before it: its own fields, and behind the line those kept of the session.

use super::parse_block::{EventItem, written_second};
use crate::model::event::{Field, Kind, Span, base_identity};
use crate::parse::file::{Does, ParserFile, Pattern, SessionKind};
use crate::resolve::sessions::{Kept, Sessions};

/// A line with its fields: positions in the line and, behind its end, in `extra`.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    /// Fields.
    pub spans: &'a [Span],
    /// The line.
    pub line: &'a [u8],
    /// Values behind it.
    pub extra: &'a [u8],
}

impl<'a> Text<'a> {
    /// The first value of a field.
    pub fn value(&self, field: Field) -> Option<&'a [u8]> {
        let s = self.spans.iter().find(|s| s.field == field)?;
        self.bytes(s)
    }

    fn bytes(&self, s: &Span) -> Option<&'a [u8]> {
        let (start, len) = (s.start as usize, s.len as usize);
        match start.checked_sub(self.line.len()) {
            Some(behind) => self.extra.get(behind..behind + len),
            None => self.line.get(start..start + len),
        }
    }
}

/// The fields of a line, those of its session included.
#[derive(Default)]
pub struct Joined {
    /// Fields.
    pub spans: Vec<Span>,
    /// Values behind the line.
    pub extra: Vec<u8>,
}

impl Joined {
    /// Does with the sessions what the pattern says, and joins what is known: first it gets, then it tells.
    pub fn of(&mut self, (file, pattern): (&ParserFile, &Pattern), sessions: &mut Sessions, host: &[u8], text: Text) {
        self.spans.extend(text.spans.iter().filter(|s| s.field != Field::Pid));
        self.extra.extend_from_slice(text.extra);
        for (does, number) in &pattern.sessions {
            let gets = matches!(does, Does::Uses | Does::Closes);
            let Some(kind) = file.sessions.get(usize::from(*number)).filter(|_| !(gets && sessions.is_empty())) else { continue };
            let now = Text { spans: &self.spans, line: text.line, extra: &self.extra };
            let pid = text.value(Field::Pid).filter(|p| !p.is_empty());
            let Some(key) = key(file, kind, host, &now, pid) else { continue };
            match does {
                Does::Opens => sessions.open(key, kept(kind, &now)),
                Does::Adds => sessions.add(key, kept(kind, &now)),
                Does::Uses => sessions.get(&key).into_iter().flatten().for_each(|(f, v)| self.put(*f, v, text.line.len())),
                Does::Closes => sessions.close(&key).into_iter().flatten().for_each(|(f, v)| self.put(f, &v, text.line.len())),
            }
        }
    }

    /// A field of the session; what the line says itself counts more.
    fn put(&mut self, field: Field, value: &[u8], line: usize) {
        if self.spans.iter().any(|s| s.field == field) {
            return;
        }
        self.spans.push(Span { field, start: (line + self.extra.len()) as u32, len: value.len() as u32 });
        self.extra.extend_from_slice(value);
    }

    /// What says who may track the message, as an event of its own: so the line's own event is the same whether or not the
    /// line that bore the mark was read. `until` gives the end, seconds since 1970, of the timeout that the sender asked for.
    pub fn binding(&mut self, line: &[u8], until: impl Fn(Option<u32>) -> i64) -> Option<Joined> {
        use Field::{Certifier, EnvelopeId, Expires, Program, QueueId, TrackTimeout};
        let all = std::mem::take(self);
        let text = Text { spans: &all.spans, line, extra: &all.extra };
        let marked = text.value(Certifier).is_some() && text.value(EnvelopeId).is_some();
        let mut own = Joined::default();
        for s in &all.spans {
            let Some(value) = text.bytes(s) else { continue };
            let of_mark = matches!(s.field, EnvelopeId | Certifier | TrackTimeout);
            if !(marked && of_mark) {
                self.take(s, value, line.len());
            }
            if matches!(s.field, QueueId | EnvelopeId | Certifier | Program) {
                own.take(s, value, line.len());
            }
        }
        let timeout = text.value(TrackTimeout).and_then(|t| std::str::from_utf8(t).ok()?.parse().ok());
        own.put(Expires, until(timeout).to_string().as_bytes(), line.len());
        marked.then_some(own)
    }

    /// A field as it stands in the line, or its value behind it.
    fn take(&mut self, s: &Span, value: &[u8], line: usize) {
        match (s.start as usize) < line {
            true => self.spans.push(*s),
            false => self.put(s.field, value, line),
        }
    }

    /// The event's identity with what was joined.
    pub fn identity(&self, e: &EventItem, kind: Kind, line: &[u8]) -> u64 {
        let text = Text { spans: &self.spans, line, extra: &self.extra };
        let fields = self.spans.iter().filter_map(|s| Some((s.field, text.bytes(s)?)));
        base_identity(&mut Vec::new(), kind, e.action, written_second(e.stamp, e.inner), fields)
    }
}

/// Host, parser file, program, sort and name of the session; a value cannot hold the byte between them, since each has its length before it.
fn key(file: &ParserFile, kind: &SessionKind, host: &[u8], text: &Text, pid: Option<&[u8]>) -> Option<Vec<u8>> {
    let program = text.value(Field::Program).unwrap_or_default();
    let mut key = Vec::with_capacity(64);
    let mut add = |part: &[u8]| {
        key.extend_from_slice(part.len().to_string().as_bytes());
        key.push(b':');
        key.extend_from_slice(part);
    };
    [host, file.name.as_bytes(), program, kind.name.as_bytes()].into_iter().for_each(&mut add);
    for field in &kind.key {
        add(if *field == Field::Pid { pid? } else { text.value(*field)? });
    }
    Some(key)
}

fn kept(kind: &SessionKind, text: &Text) -> Kept {
    kind.keep.iter().filter_map(|f| Some((*f, text.value(*f)?.to_vec()))).collect()
}
