//! Lines that are rows of a table or JSON objects: whose they are.

use super::{Matcher, Outcome, Parsed};
use crate::model::event::Action;
use crate::model::line::RawStamp;
use crate::parse::frame::Frame;
use crate::parse::rows::Value;
use crate::parse::rows::json::Tree;
use crate::parse::rows::read::{Read, Reader, RowEvent, Table};
use std::sync::Arc;

impl Matcher {
    /// The lines that follow are rows of the table with this header line; empty: of none.
    pub fn set_table(&mut self, header: &[u8]) {
        if self.header() != header {
            self.table = if header.is_empty() { None } else { Table::of(&self.parsers.files, header) };
        }
    }

    /// Header line of the table whose rows are being read; empty: none.
    pub fn header(&self) -> &[u8] {
        self.table.as_ref().map_or(b"", |t| &t.header)
    }

    /// What stands between the cells of that table.
    pub fn separator(&self) -> Option<u8> {
        self.table.as_ref().map(|t| t.separator)
    }

    /// A line without a known stamp before it.
    pub(super) fn unframed<'a>(&mut self, line: &'a [u8]) -> Outcome<'a> {
        let parsers = Arc::clone(&self.parsers);
        if line.first() == Some(&b'{') {
            return self.json_line(line);
        }
        if let Some(table) = Table::of(&parsers.files, line) {
            self.table = Some(table);
            return Outcome::Ignored;
        }
        let forms = || parsers.files.iter().filter_map(|f| f.csv.as_ref());
        if line.first() == Some(&b'#') && forms().flat_map(|c| &c.comments).any(|c| line.starts_with(c.as_bytes())) {
            return Outcome::Ignored;
        }
        let Some((table, file)) = self.table.as_ref().and_then(|t| Some((t, parsers.files.get(usize::from(t.file))?))) else {
            return Outcome::NoFrame;
        };
        match (Reader { file, line: line.len(), stamp: None }).row(table, line) {
            Read::Events(stamp, host, events) => {
                let frame = Frame { stamp, host: line.get(host).unwrap_or_default(), program: b"", pid: b"", message: 0 };
                Outcome::Rows(frame, None, table.file, events)
            }
            Read::Ignored => Outcome::Ignored,
            Read::Unparsed => Outcome::Unparsed(table.file, b""),
        }
    }

    /// A line that is an object: its members tell which parser file is for it.
    fn json_line<'a>(&mut self, line: &'a [u8]) -> Outcome<'a> {
        let parsers = Arc::clone(&self.parsers);
        let Some(tree) = Tree::read(line, Some(0)) else { return Outcome::NoFrame };
        for i in 0..self.json.len() {
            let Some(&number) = self.json.get(i) else { break };
            let Some(file) = parsers.files.get(usize::from(number)) else { break };
            let Some(read) = (Reader { file, line: line.len(), stamp: None }).object(&tree, None) else { continue };
            return match read {
                Read::Events(stamp, host, events) => {
                    let frame = Frame { stamp, host: line.get(host).unwrap_or_default(), program: b"", pid: b"", message: 0 };
                    Outcome::Rows(frame, None, number, events)
                }
                Read::Ignored => Outcome::Ignored,
                Read::Unparsed => Outcome::Unparsed(number, b""),
            };
        }
        // JSON of something else: whether it is a log at all, nothing says.
        Outcome::NoFrame
    }

    /// A message that is an object, or ends in one. `None` if it is neither.
    pub(super) fn json_message<'a>(&mut self, line: &'a [u8], frame: Frame<'a>, end: usize, number: u16) -> Option<Outcome<'a>> {
        let parsers = Arc::clone(&self.parsers);
        let file = parsers.files.get(usize::from(number))?;
        let form = file.json.as_ref()?;
        let message = line.get(frame.message..end)?;
        let (text, from) = match message.first() {
            Some(b'{') => (None, 0),
            _ => {
                let find = |mark: &String| Some((memchr::memmem::find(message, [mark.as_bytes(), b"{"].concat().as_slice())?, mark.len()));
                let (at, mark) = form.behind.iter().filter_map(find).min()?;
                (message.get(..at), at + mark)
            }
        };
        let text = text.map(|t| Value { bytes: t.into(), at: Some(frame.message) });
        let tree = Tree::read(message.get(from..)?, Some(frame.message + from));
        let reader = Reader { file, line: line.len(), stamp: Some(frame.stamp) };
        Some(match tree.and_then(|tree| reader.object(&tree, text)) {
            Some(Read::Events(stamp, _, events)) => Outcome::Rows(frame, Some(stamp).filter(|s| *s != frame.stamp), number, events),
            Some(Read::Ignored) => Outcome::Ignored,
            Some(Read::Unparsed) | None => Outcome::Unparsed(number, frame.program),
        })
    }

    /// Makes one event of a row the latest event, so that its fields can be read.
    pub fn row_event<'a>(&mut self, line: &'a [u8], frame: Frame<'a>, inner: Option<RawStamp>, file: u16, event: &RowEvent) -> Parsed<'a> {
        let Matcher { parsers, learnt, fields, .. } = self;
        fields.spans.clone_from(&event.spans);
        fields.extra.clone_from(&event.extra);
        if matches!(event.action, Some(Action::Relayed | Action::Delivered)) {
            fields.read_reply(line, (&parsers.replies, &mut learnt.replies), false);
        }
        let patterns = parsers.files.get(usize::from(file)).map_or(0, |f| f.patterns.len() as u16);
        let pattern = patterns.saturating_add(event.row);
        Parsed {
            frame,
            inner,
            file,
            pattern,
            instance: b"",
            kind: event.kind,
            action: event.action,
            times: 1,
            joins: false,
            session_only: false,
        }
    }
}
