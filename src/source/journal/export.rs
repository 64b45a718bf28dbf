//! systemd's export format, fed in chunks of any size. Does no I/O.
//!
//! An entry is fields, then an empty line. A field is `NAME=value` and a newline, or, for values with
//! newlines or control bytes, `NAME`, a newline, the value's length in eight bytes (little endian), the
//! value, and a newline. Only the few fields that a log line is made of are kept, each up to a bound.

use crate::source::text::{escape, stamp, word};

/// Bytes of a value that are kept.
pub(super) const MAX_VALUE: usize = 64 * 1024;
/// Bytes of a name.
const MAX_NAME: usize = 256;
/// Bytes of a cursor; a longer one is none.
const MAX_CURSOR: usize = 1024;

/// The fields that are asked for.
pub(super) const FIELDS: [&str; 7] =
    ["MESSAGE", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_PID", "_COMM", "_HOSTNAME", "_SOURCE_REALTIME_TIMESTAMP"];

/// What is not the export format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbled;

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub cursor: Option<String>,
    received: Option<i64>,
    source_time: Option<i64>,
    host: Vec<u8>,
    identifier: Vec<u8>,
    comm: Vec<u8>,
    syslog_pid: Vec<u8>,
    pid: Vec<u8>,
    message: Vec<u8>,
    any: bool,
    /// A value was longer than is kept.
    pub cut: bool,
}

impl Entry {
    /// Program that wrote it, as syslog names it.
    pub fn program(&self) -> &[u8] {
        if self.identifier.is_empty() { &self.comm } else { &self.identifier }
    }

    /// As a line of a log file, with its newline. `None`: it has no message or no time.
    pub fn line(&self, host: &str) -> Option<Vec<u8>> {
        let message = self.message.trim_ascii_end();
        let time = self.source_time.or(self.received)?;
        if message.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(message.len() + 96);
        stamp(time, &mut out);
        out.push(b' ');
        word(if self.host.is_empty() { host.as_bytes() } else { &self.host }, 255, &mut out);
        out.push(b' ');
        word(if self.program().is_empty() { b"-" } else { self.program() }, 128, &mut out);
        let pid = if self.syslog_pid.is_empty() { &self.pid } else { &self.syslog_pid };
        if !pid.is_empty() && pid.len() <= 10 && pid.iter().all(u8::is_ascii_digit) {
            out.push(b'[');
            out.extend_from_slice(pid);
            out.push(b']');
        }
        out.extend_from_slice(b": ");
        escape(message, &mut out);
        out.push(b'\n');
        Some(out)
    }

    fn set(&mut self, name: &[u8], value: &[u8]) {
        self.any = true;
        let number = || std::str::from_utf8(value).ok()?.parse::<i64>().ok();
        let field = match name {
            b"__CURSOR" => {
                let text = std::str::from_utf8(value).ok().filter(|c| c.len() <= MAX_CURSOR && c.bytes().all(|b| b.is_ascii_graphic()));
                self.cursor = text.map(str::to_string);
                return;
            }
            b"__REALTIME_TIMESTAMP" => return self.received = number(),
            b"_SOURCE_REALTIME_TIMESTAMP" => return self.source_time = number(),
            b"_HOSTNAME" => &mut self.host,
            b"SYSLOG_IDENTIFIER" => &mut self.identifier,
            b"_COMM" => &mut self.comm,
            b"SYSLOG_PID" => &mut self.syslog_pid,
            b"_PID" => &mut self.pid,
            b"MESSAGE" => &mut self.message,
            _ => return,
        };
        // A field may be there several times; the first one counts.
        if field.is_empty() {
            field.extend_from_slice(value);
        }
    }
}

enum State {
    Line,
    Length,
    Data(u64),
    /// The newline behind a value with a length.
    Newline,
}

/// Takes bytes, gives entries.
pub(super) struct Decoder {
    state: State,
    line: Vec<u8>,
    value: Vec<u8>,
    entry: Entry,
    /// Bytes of the line were dropped.
    over: bool,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder { state: State::Line, line: Vec::new(), value: Vec::new(), entry: Entry::default(), over: false }
    }

    /// Takes a chunk; appends the entries that it ends to `out`.
    pub fn feed(&mut self, mut input: &[u8], out: &mut Vec<Entry>) -> Result<(), Garbled> {
        while !input.is_empty() {
            match self.state {
                State::Line => {
                    let end = memchr::memchr(b'\n', input);
                    let part = input.get(..end.unwrap_or(input.len())).unwrap_or_default();
                    let room = (MAX_NAME + MAX_VALUE).saturating_sub(self.line.len());
                    self.over |= part.len() > room;
                    self.line.extend_from_slice(part.get(..room).unwrap_or(part));
                    input = input.get(part.len() + usize::from(end.is_some())..).unwrap_or_default();
                    if end.is_some() {
                        self.line_ended(out)?;
                    }
                }
                State::Length => {
                    let want = 8_usize.saturating_sub(self.value.len());
                    let (part, rest) = input.split_at_checked(want).unwrap_or((input, &[]));
                    self.value.extend_from_slice(part);
                    input = rest;
                    if let Ok(bytes) = <[u8; 8]>::try_from(self.value.as_slice()) {
                        self.value.clear();
                        self.state = State::Data(u64::from_le_bytes(bytes));
                    }
                }
                State::Data(0) => self.state = State::Newline,
                State::Data(left) => {
                    let want = usize::try_from(left).unwrap_or(usize::MAX);
                    let (part, rest) = input.split_at_checked(want).unwrap_or((input, &[]));
                    let room = MAX_VALUE.saturating_sub(self.value.len());
                    self.entry.cut |= part.len() > room;
                    self.value.extend_from_slice(part.get(..room).unwrap_or(part));
                    input = rest;
                    self.state = State::Data(left - part.len() as u64);
                }
                State::Newline => {
                    let (first, rest) = input.split_at_checked(1).unwrap_or_default();
                    if first != b"\n" {
                        return Err(Garbled);
                    }
                    input = rest;
                    self.entry.set(&self.line, &self.value);
                    self.line.clear();
                    self.value.clear();
                    self.state = State::Line;
                }
            }
        }
        Ok(())
    }

    fn line_ended(&mut self, out: &mut Vec<Entry>) -> Result<(), Garbled> {
        if self.line.is_empty() {
            let entry = std::mem::take(&mut self.entry);
            out.extend(Some(entry).filter(|e| e.any));
            return Ok(());
        }
        let equals = memchr::memchr(b'=', self.line.get(..=MAX_NAME).unwrap_or(&self.line));
        let name = self.line.get(..equals.unwrap_or(self.line.len())).unwrap_or_default();
        if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_') {
            return Err(Garbled);
        }
        match equals {
            Some(at) => {
                let value = self.line.get(at + 1..).unwrap_or_default();
                self.entry.cut |= std::mem::take(&mut self.over) || value.len() > MAX_VALUE;
                self.entry.set(name, value.get(..MAX_VALUE).unwrap_or(value));
                self.line.clear();
            }
            None => self.state = State::Length,
        }
        Ok(())
    }
}
