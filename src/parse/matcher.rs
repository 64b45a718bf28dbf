//! Lines to events: dispatch by program, then the few patterns of that program, in order.

use self::fields::Fields;
use super::dsn::Reader;
use super::file::{ParserError, ParserFile, Pattern};
use super::frame::{self, Frame};
use super::reply::Replies;
use super::rows::read::{RowEvent, Table};
use crate::model::event::{Action, Kind};
use crate::model::line::{Fragment, RawStamp};
use regex_automata::meta::Cache;
use rustc_hash::FxHashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

macro_rules! built_in {
    ($($name:literal)*) => {
        &[$((concat!("parsers/", $name, ".toml"), include_str!(concat!("../../parsers/", $name, ".toml")))),*]
    };
}

const BUILT_IN: &[(&str, &str)] = built_in! {
    "amavis"
    "barracuda"
    "ciscoesa"
    "courier"
    "cyrus"
    "dovecot"
    "exchange"
    "exchangeonline"
    "exim"
    "google"
    "haraka"
    "kumomta"
    "maddy"
    "mailgun"
    "mailman"
    "mailscanner"
    "opendkim"
    "opendmarc"
    "opensmtpd"
    "pmg"
    "postfix"
    "postgrey"
    "postmark"
    "powermta"
    "qmail"
    "rspamd"
    "sendmail"
    "ses"
    "spamassassin"
    "stalwart"
    "sympa"
    "zimbra"
};
const REPLIES: &str = include_str!("../../parsers/replies.toml");

/// All parser files in use, and the table of reply forms.
#[derive(Debug)]
pub struct Parsers {
    /// The files.
    pub files: Vec<ParserFile>,
    /// What next hosts' replies say.
    pub replies: Replies,
    /// Reads reports that come back as mail.
    pub reports: Reader,
    /// What matchers that are no more have learnt.
    learnt: Mutex<Vec<Learnt>>,
}

/// What a matcher learns as it goes, and leaves to the next one: the engines' scratch space, and which patterns a tag is
/// read with. It makes nothing different, only faster.
#[derive(Debug, Default)]
struct Learnt {
    caches: Vec<Vec<Option<Cache>>>,
    replies: Vec<Option<Cache>>,
    dispatch: FxHashMap<Box<[u8]>, Option<Dispatch>>,
    /// What [`Dispatch::patterns`] names. At first, all patterns of each file.
    lists: Vec<Vec<u16>>,
}

/// So many are kept for later matchers.
const MAX_LEARNT: usize = 64;

impl Parsers {
    /// The built-in files, and those of `folder` over them (same name: in its place).
    pub fn load(folder: Option<&Path>) -> Result<Arc<Self>, ParserError> {
        let mut files = Vec::new();
        for (name, text) in BUILT_IN {
            files.push(ParserFile::read(text, name)?);
        }
        let replies = Replies::read(REPLIES, "parsers/replies.toml")?;
        if let Some(folder) = folder {
            for file in ParserFile::read_folder(folder)? {
                files.retain(|f| f.name != file.name);
                files.push(file);
            }
        }
        Ok(Arc::new(Parsers { files, replies, reports: Reader::load(folder)?, learnt: Mutex::default() }))
    }

    /// The file of that name.
    pub fn by_name(&self, name: &str) -> Option<&ParserFile> {
        self.files.iter().find(|f| f.name == name)
    }
}

/// Which patterns a tag is read with.
#[derive(Debug, Clone, Copy)]
struct Dispatch {
    file: u16,
    /// Bytes of the tag that name the instance.
    instance: u16,
    /// Their numbers, as a number in [`Learnt::lists`].
    patterns: u32,
}

/// One event's parts, as positions in the line (and, behind its end, in `extra`).
#[derive(Debug, Clone)]
pub struct Parsed<'a> {
    /// Stamp, host, program.
    pub frame: Frame<'a>,
    /// The program's own stamp, where it wrote one.
    pub inner: Option<RawStamp>,
    /// Index of the parser file.
    pub file: u16,
    /// Index of the pattern in it.
    pub pattern: u16,
    /// Instance of the MTA.
    pub instance: &'a [u8],
    /// Kind of fact.
    pub kind: Kind,
    /// Outcome.
    pub action: Option<Action>,
    /// Times the line stands for (`message repeated N times`).
    pub times: u32,
    /// Whether the pattern has to do with a session.
    pub joins: bool,
    /// Whether the line only tells of a session, and is no event.
    pub session_only: bool,
}

/// What a line turned out to be. Fields of an event lie in the [`Matcher`]'s buffers until the next line.
#[derive(Debug, Clone)]
pub enum Outcome<'a> {
    /// An event.
    Event(Parsed<'a>),
    /// Events of a row of a table or of an object: frame, the line's own stamp where the frame is another's, parser file, events.
    Rows(Frame<'a>, Option<RawStamp>, u16, Vec<RowEvent>),
    /// A line of a known program that tells nothing about a message.
    Ignored,
    /// A line of a known program that no pattern knows; the index of the parser file, and the tag.
    Unparsed(u16, &'a [u8]),
    /// A part of an entry that syslog split; to be joined and read again.
    Fragment(Frame<'a>, Fragment),
    /// A line of a program that no parser file names.
    Foreign,
    /// `last message repeated N times`, of the host named.
    Repeat(Frame<'a>, u32),
    /// No stamp that is known.
    NoFrame,
}

/// Reads lines with a set of parser files. One a thread: it holds the engines' scratch space.
pub struct Matcher {
    parsers: Arc<Parsers>,
    learnt: Learnt,
    bare: Vec<Dispatch>,
    /// Parser files that read JSON, a site's own first. Always in this order: what a line is must not depend on those before it.
    json: Vec<u16>,
    /// The table whose rows are being read.
    table: Option<Table>,
    /// Fields of the latest event.
    pub fields: Fields,
}

/// Tags remembered; beyond that all are forgotten and learnt anew (R6).
const MAX_TAGS: usize = 4096;

impl Drop for Matcher {
    fn drop(&mut self) {
        if let Ok(mut all) = self.parsers.learnt.lock()
            && all.len() < MAX_LEARNT
        {
            all.push(std::mem::take(&mut self.learnt));
        }
    }
}

impl Matcher {
    /// A matcher over `parsers`.
    pub fn new(parsers: Arc<Parsers>) -> Self {
        let mut learnt = parsers.learnt.lock().ok().and_then(|mut all| all.pop()).unwrap_or_default();
        if learnt.caches.is_empty() {
            learnt.caches = parsers.files.iter().map(|f| f.patterns.iter().map(|_| None).collect()).collect();
            learnt.lists = parsers.files.iter().map(|f| (0..f.patterns.len() as u16).collect()).collect();
        }
        let bare = parsers.files.iter().enumerate().filter(|(_, f)| f.bare);
        let bare = bare.map(|(i, _)| Dispatch { file: i as u16, instance: 0, patterns: i as u32 }).collect();
        let json = parsers.files.iter().enumerate().rev().filter(|(_, f)| f.json.is_some()).map(|(i, _)| i as u16).collect();
        Matcher { learnt, bare, json, table: None, parsers, fields: Fields::default() }
    }

    /// The parser files.
    pub fn parsers(&self) -> &Arc<Parsers> {
        &self.parsers
    }

    /// What `line` (without its newline) is.
    pub fn line<'a>(&mut self, line: &'a [u8]) -> Outcome<'a> {
        match &frame::parse(line) {
            Some(frame) => self.framed(line, frame),
            None => self.unframed(line),
        }
    }

    /// Like [`Matcher::line`], where the frame is known already.
    pub fn framed<'a>(&mut self, line: &'a [u8], frame: &Frame<'a>) -> Outcome<'a> {
        if frame.program.is_empty() {
            if let Some(n) = last_message_repeated(line.get(frame.message..).unwrap_or_default()) {
                return Outcome::Repeat(*frame, n);
            }
            return if frame.host.is_empty() { self.bare(line, *frame) } else { Outcome::Foreign };
        }
        let Some(dispatch) = self.dispatch(frame.program) else { return Outcome::Foreign };
        self.dispatched(line, *frame, dispatch)
    }

    fn dispatched<'a>(&mut self, line: &'a [u8], mut frame: Frame<'a>, dispatch: Dispatch) -> Outcome<'a> {
        let mut end = line.len();
        let mut times = 1;
        if let Some((n, range)) = frame::repeated(line.get(frame.message..).unwrap_or_default()) {
            times = n;
            end = frame.message + range.end;
            frame.message += range.start;
        }
        let file = self.parsers.files.get(dispatch.file as usize);
        let inner_stamps = file.is_some_and(|f| f.inner_stamp);
        let json = file.is_some_and(|f| f.json.is_some());
        let mut inner = None;
        if inner_stamps {
            if let Some(fragment) = fragment(line, frame.message) {
                if fragment.part > 1 || fragment.continues {
                    return Outcome::Fragment(frame, fragment);
                }
                frame.message = fragment.text;
            }
            inner = skip_inner(line, &mut frame);
        }
        if json && let Some(outcome) = self.json_message(line, frame, end, dispatch.file) {
            return outcome;
        }
        self.patterns(line, frame, end, inner, dispatch, times).unwrap_or(Outcome::Unparsed(dispatch.file, frame.program))
    }

    /// A line of a file that has neither host nor tag: the parser files that read such are tried in turn.
    fn bare<'a>(&mut self, line: &'a [u8], frame: Frame<'a>) -> Outcome<'a> {
        let mut frame = frame;
        let inner = Some(frame.stamp);
        skip_pid(line, &mut frame);
        for i in 0..self.bare.len() {
            let Some(&dispatch) = self.bare.get(i) else { break };
            let object = self.json_message(line, frame, line.len(), dispatch.file).filter(|o| !matches!(o, Outcome::Unparsed(..)));
            if let Some(outcome) = object {
                self.bare.swap(0, i);
                return outcome;
            }
            if let Some(outcome) = self.patterns(line, frame, line.len(), inner, dispatch, 1) {
                // The file goes on as it began: try its reader first from now on.
                self.bare.swap(0, i);
                return outcome;
            }
        }
        match self.bare.first() {
            Some(d) => Outcome::Unparsed(d.file, b""),
            None => Outcome::Foreign,
        }
    }

    fn dispatch(&mut self, tag: &[u8]) -> Option<Dispatch> {
        if let Some(known) = self.learnt.dispatch.get(tag) {
            return *known;
        }
        if self.learnt.dispatch.len() >= MAX_TAGS {
            self.learnt.dispatch.clear();
            self.learnt.lists.truncate(self.parsers.files.len());
        }
        let found = self.find_dispatch(tag).map(|(file, instance, patterns)| {
            self.learnt.lists.push(patterns);
            Dispatch { file, instance, patterns: self.learnt.lists.len() as u32 - 1 }
        });
        self.learnt.dispatch.insert(tag.into(), found);
        found
    }

    /// Parser file, bytes of the tag that name the instance, patterns.
    fn find_dispatch(&self, tag: &[u8]) -> Option<(u16, u16, Vec<u16>)> {
        let tag_text = std::str::from_utf8(tag).ok()?;
        let daemon = tag_text.rsplit('/').next().unwrap_or_default();
        let named = |f: &ParserFile| f.programs.iter().any(|p| p == tag_text);
        let slashed = |f: &ParserFile| f.instances && tag_text.contains('/');
        let names = |p: &Pattern, word: &str| p.programs.iter().any(|d| d == word);
        // Later files (a site's own) come first; a whole tag counts more than a daemon behind some instance's name.
        let files = || self.parsers.files.iter().enumerate().rev();
        let whole = files().find(|(_, f)| named(f));
        let (i, file) = whole.or_else(|| files().find(|(_, f)| slashed(f) && f.patterns.iter().any(|p| names(p, daemon))))?;
        let word = if slashed(file) { daemon } else { tag_text };
        // RFC 5424 from rsyslog loses the daemon (APP-NAME is just `postfix`): all patterns are tried then.
        let all = file.instances && !slashed(file);
        let ours = |p: &Pattern| all || p.programs.is_empty() || names(p, word);
        let patterns = file.patterns.iter().enumerate().filter(|(_, p)| ours(p)).map(|(n, _)| n as u16).collect();
        let instance = if file.instances { tag.iter().position(|&b| b == b'/').unwrap_or(tag.len()) } else { 0 };
        Some((i as u16, instance as u16, patterns))
    }

    fn patterns<'a>(
        &mut self,
        line: &'a [u8],
        frame: Frame<'a>,
        end: usize,
        inner: Option<RawStamp>,
        dispatch: Dispatch,
        times: u32,
    ) -> Option<Outcome<'a>> {
        let Matcher { parsers, learnt: Learnt { caches, replies, lists, .. }, fields, .. } = self;
        let file = parsers.files.get(dispatch.file as usize)?;
        let caches = caches.get_mut(dispatch.file as usize)?;
        let message = line.get(frame.message..end)?;
        for &number in lists.get(dispatch.patterns as usize)? {
            let pattern = file.patterns.get(number as usize)?;
            if pattern.literal.as_ref().is_some_and(|l| l.find(message).is_none()) {
                continue;
            }
            let cache = caches.get_mut(number as usize)?;
            let Some(kind) = pattern.kind else {
                if pattern.expression.is_match(cache, message) {
                    return Some(Outcome::Ignored);
                }
                continue;
            };
            if !pattern.expression.groups(cache, message, &mut fields.slots)
                || pattern.unless.as_ref().is_some_and(|u| u.occurs_in(message))
            {
                continue;
            }
            let action = fields.take(pattern, message, frame.message, line.len())?;
            if matches!(action, Some(Action::Relayed | Action::Delivered)) || !pattern.sessions.is_empty() {
                fields.read_reply(line, (&parsers.replies, replies), pattern.underscores);
            }
            let instance = if file.instances { frame.program.get(..dispatch.instance as usize)? } else { b"" };
            let (joins, session_only) = (!pattern.sessions.is_empty(), pattern.session_only);
            let file = dispatch.file;
            return Some(Outcome::Event(Parsed {
                frame,
                inner,
                file,
                pattern: number,
                instance,
                kind,
                action,
                times,
                joins,
                session_only,
            }));
        }
        None
    }
}

/// `[643] ` before the message, as Exim writes its process id into its own log.
fn skip_pid(line: &[u8], frame: &mut Frame) {
    let message = line.get(frame.message..).unwrap_or_default();
    if message.first() != Some(&b'[') {
        return;
    }
    let digits = message.iter().skip(1).take(10).take_while(|b| b.is_ascii_digit()).count();
    if digits > 0 && message.get(digits + 1..digits + 3) == Some(b"] ") {
        frame.message += digits + 3;
    }
}

fn skip_inner(line: &[u8], frame: &mut Frame) -> Option<RawStamp> {
    skip_pid(line, frame);
    let (stamp, len) = frame::inner_stamp(line.get(frame.message..)?)?;
    frame.message += len;
    skip_pid(line, frame);
    Some(stamp)
}

/// `[1\16] ` or `[2/16] ` before the message.
fn fragment(line: &[u8], at: usize) -> Option<Fragment> {
    let m = line.get(at..)?;
    if m.first() != Some(&b'[') {
        return None;
    }
    let mut i = 1;
    let mut number = || {
        let start = i;
        while m.get(i).is_some_and(u8::is_ascii_digit) && i - start < 5 {
            i += 1;
        }
        let n = std::str::from_utf8(m.get(start..i)?).ok()?.parse::<u32>().ok()?;
        let end = *m.get(i)?;
        i += 1;
        Some((n, end))
    };
    let (part, separator) = number()?;
    let (of, close) = number()?;
    if !matches!(separator, b'/' | b'\\') || close != b']' || part == 0 || part > of || m.get(i) != Some(&b' ') {
        return None;
    }
    Some(Fragment { part, of, continues: separator == b'/' && part < of, text: at + i + 1 })
}

fn last_message_repeated(message: &[u8]) -> Option<u32> {
    let rest = message.strip_prefix(b"last message repeated ")?;
    let number = rest.strip_suffix(b" times").or_else(|| rest.strip_suffix(b" time"))?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

mod fields;
mod rows;
mod samples;
#[cfg(test)]
mod tests;
