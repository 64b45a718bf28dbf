//! An mbox: mails one behind the other, each behind a `From ` line (RFC 4155; `>From ` quoting is undone).

use super::{Compression, MAX_BATCH, MAX_MAIL, Mail, Opened, SourceError, SourceFile};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A file changed so many seconds after now was not: clocks of a file server and its clients differ by less.
const AHEAD: i64 = 300;
/// Bytes before the position by which a file is known again, and bytes at its beginning.
const CHECKED: u64 = 4096;
/// Most bytes of one line that are looked at as a line.
const MAX_LINE: usize = 16 * 1024;
const CHUNK: usize = 256 * 1024;

/// Whether a line parts two mails: `From SENDER`, then a date with a time in it.
pub(super) fn is_from_line(line: &[u8]) -> bool {
    const MONTHS: &str = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
    let Some(rest) = line.strip_prefix(b"From ").filter(|r| r.len() < 512) else { return false };
    let text = String::from_utf8_lossy(rest);
    let words: Vec<&str> = text.split_whitespace().collect();
    let month = words.iter().any(|w| w.len() == 3 && MONTHS.contains(w));
    let time = words.iter().any(|w| {
        let mut parts = w.split(':');
        let two = |p: Option<&str>| p.is_some_and(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_digit()));
        two(parts.next()) && two(parts.next())
    });
    month && time
}

/// Cuts bytes, in chunks of any size, into mails.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// What ends a line in this file.
    end: Option<u8>,
    /// A line of which the end has not come.
    line: Vec<u8>,
    /// The beginning of the line was given to the mail already: it is too long to be held.
    within: bool,
    blank_before: bool,
    begun: bool,
    bytes: Vec<u8>,
    size: u64,
    /// Bytes taken.
    pub(super) taken: u64,
    /// Where the mail that is being read begins.
    pub(super) mail_at: u64,
}

impl Splitter {
    pub(super) fn at(offset: u64) -> Self {
        Splitter { blank_before: true, taken: offset, mail_at: offset, ..Splitter::default() }
    }

    /// Takes bytes; each mail that they end is put into `out` with the position behind it.
    pub(super) fn push(&mut self, mut chunk: &[u8], out: &mut Vec<(Vec<u8>, u64, u64)>) {
        let end = *self.end.get_or_insert_with(|| if chunk.contains(&b'\n') || !chunk.contains(&b'\r') { b'\n' } else { b'\r' });
        while let Some(at) = memchr::memchr(end, chunk) {
            let (line, rest) = chunk.split_at(at + 1);
            chunk = rest;
            if self.line.is_empty() {
                self.take_line(line, out);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.take_line(&whole, out);
            }
            self.within = false;
        }
        self.line.extend_from_slice(chunk);
        if self.line.len() > MAX_LINE {
            let part = std::mem::take(&mut self.line);
            self.take_line(&part, out);
            self.within = true;
        }
    }

    fn take_line(&mut self, line: &[u8], out: &mut Vec<(Vec<u8>, u64, u64)>) {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        if !self.within && self.blank_before && is_from_line(bare) {
            self.finish(out);
            (self.begun, self.mail_at) = (true, self.taken);
        } else if self.begun {
            let quoted = !self.within
                && bare.starts_with(b">")
                && bare.trim_ascii_start().iter().skip_while(|b| **b == b'>').copied().take(5).eq(*b"From ");
            let kept = if quoted { line.get(1..).unwrap_or_default() } else { line };
            let room = MAX_MAIL.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(kept.get(..kept.len().min(room)).unwrap_or_default());
            self.size += kept.len() as u64;
        }
        self.blank_before = !self.within && bare.is_empty();
        self.taken += line.len() as u64;
    }

    /// The mail that is being read has ended.
    fn finish(&mut self, out: &mut Vec<(Vec<u8>, u64, u64)>) {
        if self.begun {
            out.push((std::mem::take(&mut self.bytes), self.size, self.taken));
        }
        (self.begun, self.size) = (false, 0);
        self.bytes.clear();
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, out: &mut Vec<(Vec<u8>, u64, u64)>) {
        if !self.line.is_empty() {
            let last = std::mem::take(&mut self.line);
            self.take_line(&last, out);
        }
        self.finish(out);
    }
}

/// How far an mbox was read, and by what it is known again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    mbox: String,
    dev: u64,
    ino: u64,
    size: u64,
    mtime: i64,
    offset: u64,
    /// Hashes of the first bytes and of those before `offset`.
    head: String,
    tail: String,
    complete: bool,
}

enum Input {
    Plain(File),
    Packed(Box<Opened>),
}

struct Reading {
    input: Input,
    splitter: Splitter,
    ended: bool,
}

/// An mbox under a path.
pub(super) struct Mbox {
    path: PathBuf,
    position: Position,
    told: Position,
    reading: Option<Reading>,
    ready: VecDeque<(Mail, u64)>,
    /// The end was reached; whether the last mail was whole there.
    ended: bool,
    whole: bool,
}

fn hash(file: &File, from: u64, to: u64) -> String {
    let mut bytes = vec![0; (to - from) as usize];
    match file.read_exact_at(&mut bytes, from) {
        Ok(()) => format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes)),
        Err(_) => String::new(),
    }
}

impl Mbox {
    pub(super) fn new(path: &Path, known: &[String]) -> Self {
        let name = path.canonicalize().unwrap_or_else(|_| path.into()).to_string_lossy().into_owned();
        let read = |k: &String| serde_json::from_str::<Position>(k).ok().filter(|p| p.mbox == name);
        let position =
            known.iter().filter(|k| k.contains("\"mbox\"")).find_map(read).unwrap_or(Position { mbox: name, ..Position::default() });
        Mbox { path: path.into(), told: position.clone(), position, reading: None, ready: VecDeque::new(), ended: false, whole: false }
    }

    pub(super) fn next(&mut self, most: usize, quiet_before: i64) -> Result<Vec<Mail>, SourceError> {
        let mut mails = Vec::new();
        let mut bytes = 0;
        loop {
            while mails.len() < most && bytes < MAX_BATCH {
                let Some((mail, behind)) = self.ready.pop_front() else { break };
                bytes += mail.bytes.len();
                mails.push(mail);
                self.position.offset = behind;
            }
            if mails.len() >= most || bytes >= MAX_BATCH {
                return Ok(mails);
            }
            // To the end once: what is written meanwhile is the next call's.
            if self.ended {
                self.ended = false;
                self.position.complete = self.whole;
                return Ok(mails);
            }
            if !self.fill(quiet_before)? {
                return Ok(mails);
            }
        }
    }

    /// Reads on; `false`: the file is as it was.
    fn fill(&mut self, quiet_before: i64) -> Result<bool, SourceError> {
        if self.reading.is_none() && !self.begin()? {
            return Ok(false);
        }
        let Some(r) = &mut self.reading else { return Ok(false) };
        let mut buf = vec![0; CHUNK];
        let mut found = Vec::new();
        while found.is_empty() && !r.ended {
            let got = match &mut r.input {
                Input::Plain(f) => std::io::Read::read(f, &mut buf).map_err(|e| SourceError::from_io(&self.path, "read it", e))?,
                Input::Packed(o) => o.bytes.as_mut().map_or(Ok(0), |b| b.read(&mut buf))?,
            };
            r.ended = got == 0;
            r.splitter.push(buf.get(..got).unwrap_or_default(), &mut found);
        }
        if r.ended {
            // A time that is yet to come is that of a clock which was set back since.
            self.whole = self.position.mtime <= quiet_before || self.position.mtime > quiet_before.saturating_add(AHEAD);
            if self.whole {
                r.splitter.end(&mut found);
            }
            self.reading = None;
            self.ended = true;
        }
        let received = self.position.mtime;
        let mail = |(bytes, size, behind)| (Mail { bytes, size, received, path: self.path.clone() }, behind);
        self.ready.extend(found.into_iter().map(mail));
        Ok(true)
    }

    /// Opens the file where it was left; `false`: it is as it was.
    fn begin(&mut self) -> Result<bool, SourceError> {
        let io = |e| SourceError::from_io(&self.path, "open it", e);
        let mut file = File::open(&self.path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        let p = &mut self.position;
        let same = (p.dev, p.ino, p.size, p.mtime) == (meta.dev(), meta.ino(), meta.size(), meta.mtime());
        if same && p.complete {
            return Ok(false);
        }
        let mut magic = [0; 10];
        let got = file.read_at(&mut magic, 0).map_err(io)?;
        let plain = Compression::detect(magic.get(..got).unwrap_or_default()) == Compression::Plain;
        let known = plain && p.offset > 0 && p.offset <= meta.size() && {
            let head = hash(&file, 0, p.offset.min(CHECKED));
            let tail = hash(&file, p.offset - p.offset.min(CHECKED), p.offset);
            !head.is_empty() && (head, tail) == (p.head.clone(), p.tail.clone())
        };
        if !known {
            p.offset = 0;
        }
        (p.dev, p.ino, p.size, p.mtime, p.complete) = (meta.dev(), meta.ino(), meta.size(), meta.mtime(), false);
        let input = if plain {
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(p.offset))
                .map_err(|e| SourceError::from_io(&self.path, "go to a place in it", e))?;
            Input::Plain(file)
        } else {
            let mut opened = super::super::open(&SourceFile::new(&self.path), &super::super::Limits::default())?;
            opened.head()?;
            Input::Packed(Box::new(opened))
        };
        self.reading = Some(Reading { input, splitter: Splitter::at(p.offset), ended: false });
        Ok(true)
    }

    /// The document to remember it by, if it changed.
    pub(super) fn state(&mut self) -> Option<(String, String)> {
        if let Ok(file) = File::open(&self.path) {
            let p = &mut self.position;
            p.head = hash(&file, 0, p.offset.min(CHECKED));
            p.tail = hash(&file, p.offset - p.offset.min(CHECKED), p.offset);
        }
        if self.position == self.told {
            return None;
        }
        self.told = self.position.clone();
        let key = format!("mailbox/{:016x}", xxhash_rust::xxh3::xxh3_64(self.position.mbox.as_bytes()));
        Some((key, serde_json::to_string(&self.position).ok()?))
    }
}
