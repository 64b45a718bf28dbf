//! The fields of one event, as positions in its line.

use crate::model::event::{Action, Field, Span};
use crate::parse::file::{ActionRule, Pattern};
use crate::parse::reply::Replies;
use regex_automata::meta::Cache;
use regex_automata::util::primitives::NonMaxUsize;

/// The fields of the latest event that a [`Matcher`](super::Matcher) read.
#[derive(Default)]
pub struct Fields {
    /// Where the groups of a pattern are in the message.
    pub(super) slots: Vec<Option<NonMaxUsize>>,
    /// Positions in the line, and behind the line's end in `extra`.
    pub spans: Vec<Span>,
    /// Bytes of fields that are not in the line.
    pub extra: Vec<u8>,
}

impl Fields {
    /// Captures to spans. `None` when the action's word is unknown: the line counts as unparsed, it is never guessed at (R7).
    pub(super) fn take(&mut self, pattern: &Pattern, message: &[u8], base: usize, line_len: usize) -> Option<Option<Action>> {
        self.spans.clear();
        self.extra.clear();
        let mut word = None;
        for (i, group) in pattern.groups.iter().enumerate() {
            let (Some(field), Some(Some(start)), Some(Some(end))) = (group, self.slots.get(2 * i), self.slots.get(2 * i + 1)) else {
                continue;
            };
            let (start, end) = (start.get(), end.get());
            match message.get(start..end) {
                Some(text) if pattern.underscores && *field == Field::RemoteQueueId => self.push_extra(*field, &spaced(text), line_len),
                _ => self.spans.push(Span { field: *field, start: (base + start) as u32, len: (end - start) as u32 }),
            }
            if matches!(&pattern.action, ActionRule::Mapped(g, _) if *g == i) {
                word = message.get(start..end);
            }
        }
        for (field, value) in &pattern.set {
            self.push_extra(*field, value, line_len);
        }
        match &pattern.action {
            ActionRule::None => Some(None),
            ActionRule::Always(a) => Some(Some(*a)),
            ActionRule::Mapped(_, map) => {
                let word = word?;
                map.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, a)| Some(*a))
            }
        }
    }

    /// A field whose value is not in the line.
    fn push_extra(&mut self, field: Field, value: &[u8], line_len: usize) {
        self.spans.push(Span { field, start: (line_len + self.extra.len()) as u32, len: value.len() as u32 });
        self.extra.extend_from_slice(value);
    }

    /// The id that the next host's reply names, if no pattern found one.
    pub(super) fn read_reply(&mut self, line: &[u8], (replies, caches): (&Replies, &mut Vec<Option<Cache>>), underscores: bool) {
        if self.spans.iter().any(|s| s.field == Field::RemoteQueueId) {
            return;
        }
        // What a command or another agent of this host printed is no next host's reply.
        let relay = self.value(line, Field::Relay);
        if relay.is_some_and(|r| !r.contains(&b'[')) {
            return;
        }
        let Some(d) = self.spans.iter().find(|s| s.field == Field::Diagnostic).copied() else { return };
        let Some(text) = self.value(line, Field::Diagnostic) else { return };
        if underscores {
            let text = spaced(text);
            if let Some(id) = replies.queue_id_with(caches, &text).and_then(|range| text.get(range)) {
                self.push_extra(Field::RemoteQueueId, id, line.len());
            }
        } else if let Some(range) = replies.queue_id_with(caches, text) {
            self.spans.push(Span { field: Field::RemoteQueueId, start: d.start + range.start as u32, len: range.len() as u32 });
        }
    }

    /// Value of a field of the latest event.
    pub fn value<'b>(&'b self, line: &'b [u8], field: Field) -> Option<&'b [u8]> {
        let s = self.spans.iter().find(|s| s.field == field)?;
        let (start, len) = (s.start as usize, s.len as usize);
        match start.checked_sub(line.len()) {
            Some(behind) if len > 0 => self.extra.get(behind..behind + len),
            _ => line.get(start..start + len),
        }
    }
}

/// Spaces and newlines back in a text of qmail's.
fn spaced(text: &[u8]) -> Vec<u8> {
    let back = |b: &u8| match b {
        b'_' => b' ',
        b'/' => b'\n',
        b => *b,
    };
    text.iter().map(back).collect()
}
