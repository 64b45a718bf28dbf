//! The frame of a log line: stamp, host, program, and where the message begins.
//!
//! Read by hand and by position, since every line of a log passes here, the many unrelated ones
//! included. Known are RFC 3164 (with or without priority, decimals or a year), RFC 3339 stamps as
//! rsyslog's file format writes them, RFC 5424, and the stamps that Exim, Dovecot and others put
//! before their own lines, which have neither host nor tag (multilog's TAI64N and qmail's seconds among them). Bytes are never trusted: all access is checked.

use crate::model::line::RawStamp;
use crate::model::time::{Precision, civil_seconds};

/// A line taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When, as written.
    pub stamp: RawStamp,
    /// Host; empty where the line names none.
    pub host: &'a [u8],
    /// Tag without `[pid]`; empty where the line has none (a program's own file).
    pub program: &'a [u8],
    /// Process id; empty where the line has none.
    pub pid: &'a [u8],
    /// Where in the line the message begins.
    pub message: usize,
}

struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> u8 {
        self.line.get(self.at).copied().unwrap_or(0)
    }

    fn peek_at(&self, ahead: usize) -> u8 {
        self.line.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn eat(&mut self, b: u8) -> Option<()> {
        (self.peek() == b).then(|| self.at += 1)
    }

    fn number(&mut self, digits: usize) -> Option<u32> {
        let mut n = 0;
        for i in 0..digits {
            let d = self.peek_at(i).wrapping_sub(b'0');
            if d > 9 {
                return None;
            }
            n = n * 10 + u32::from(d);
        }
        self.at += digits;
        Some(n)
    }

    /// `hh:mm:ss`, seconds of the day; a leap second counts as the second before.
    fn clock(&mut self) -> Option<u32> {
        let &[h1, h2, b':', m1, m2, b':', s1, s2] = self.line.get(self.at..)?.first_chunk()? else { return None };
        let digits = [h1, h2, m1, m2, s1, s2].map(|b| u32::from(b.wrapping_sub(b'0')));
        let [h1, h2, m1, m2, s1, s2] = digits;
        let (h, m, s) = (h1 * 10 + h2, m1 * 10 + m2, s1 * 10 + s2);
        self.at += 8;
        (digits.iter().all(|d| *d <= 9) && h < 24 && m < 60 && s <= 60).then_some(h * 3600 + m * 60 + s.min(59))
    }

    /// `.123456` or `,123`: microseconds and how many digits were written.
    fn decimals(&mut self) -> (u32, Precision) {
        if !matches!(self.peek(), b'.' | b',') || !self.peek_at(1).is_ascii_digit() {
            return (0, Precision::Second);
        }
        self.at += 1;
        let (mut n, mut digits) = (0u32, 0usize);
        while self.peek().is_ascii_digit() {
            if digits < 6 {
                n = n * 10 + u32::from(self.peek() - b'0');
            }
            digits += 1;
            self.at += 1;
        }
        for _ in digits..6 {
            n *= 10;
        }
        (n, Precision::from_decimals(digits))
    }

    /// `Z`, `+hh:mm`, `+hhmm`: seconds east of UTC.
    fn zone(&mut self) -> Option<i32> {
        let sign = match self.peek() {
            b'Z' | b'z' => {
                self.at += 1;
                return Some(0);
            }
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let start = self.at;
        self.at += 1;
        let read = (|| {
            let h = self.number(2)?;
            let _ = self.eat(b':');
            let m = self.number(2)?;
            (h < 24 && m < 60).then_some(sign * (h * 3600 + m * 60) as i32)
        })();
        if read.is_none() {
            self.at = start;
        }
        read
    }

    fn token(&mut self) -> &'a [u8] {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let len = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// As [`Cursor::token`], and whether a byte of it is in no host's name.
    fn host(&mut self) -> (&'a [u8], bool) {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let (mut len, mut strange) = (0, false);
        for &b in rest.iter().take_while(|&&b| b != b' ') {
            strange |= matches!(b, b'(' | b'<' | b'=' | b'{');
            len += 1;
        }
        self.at += len;
        (rest.get(..len).unwrap_or_default(), strange)
    }

    fn spaces(&mut self) {
        while self.peek() == b' ' {
            self.at += 1;
        }
    }
}

fn month(name: &[u8]) -> Option<u8> {
    let months: [&[u8; 3]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    months.iter().position(|m| *m == name).map(|i| i as u8 + 1)
}

#[inline(always)]
fn yearless(c: &mut Cursor) -> Option<RawStamp> {
    let month = month(c.line.get(c.at..c.at + 3)?)?;
    c.at += 3;
    c.eat(b' ')?;
    let day = if c.peek() == b' ' {
        c.at += 1;
        c.number(1)?
    } else if c.peek_at(1) == b' ' {
        c.number(1)?
    } else {
        c.number(2)?
    };
    c.eat(b' ')?;
    // Some daemons write the year between day and clock.
    let year = (c.peek_at(4) == b' ').then(|| c.number(4)).flatten();
    if year.is_some() {
        c.eat(b' ')?;
    }
    let second = c.clock()?;
    let (micros, precision) = c.decimals();
    if !(1..=31).contains(&day) {
        return None;
    }
    Some(match year {
        Some(y) => RawStamp::Local { written: civil_seconds(y as i32, u32::from(month), day, second)?, micros, precision },
        None => RawStamp::Yearless { month, day: day as u8, second, micros, precision },
    })
}

/// `2026-03-02T08:00:00.123456+00:00`, or with a space and perhaps no zone as programs write it before their own lines.
fn iso(c: &mut Cursor) -> Option<RawStamp> {
    let year = c.number(4)?;
    c.eat(b'-')?;
    let month = c.number(2)?;
    c.eat(b'-')?;
    let day = c.number(2)?;
    let spaced = c.peek() == b' ';
    if !spaced && c.peek() != b'T' {
        return None;
    }
    c.at += 1;
    let second = c.clock()?;
    let (micros, precision) = c.decimals();
    let written = civil_seconds(year as i32, month, day, second)?;
    let before_zone = c.at;
    if spaced {
        let _ = c.eat(b' ');
    }
    match c.zone() {
        Some(offset) => Some(RawStamp::Zoned { written, micros, offset, precision }),
        None => {
            c.at = before_zone;
            Some(RawStamp::Local { written, micros, precision })
        }
    }
}

/// multilog's `@` and 24 hexadecimal digits (TAI64N): seconds since 1970 plus 2^62 and 10, then nanoseconds.
/// Who writes these counts no leap seconds beyond those 10, nor do we.
fn tai64n(c: &mut Cursor) -> Option<RawStamp> {
    c.eat(b'@')?;
    let hex =
        |text: &[u8]| u64::from_str_radix(std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()))?, 16).ok();
    let seconds = hex(c.line.get(c.at..c.at + 16)?)?;
    let nanos = hex(c.line.get(c.at + 16..c.at + 24)?)?;
    c.at += 24;
    let written = i64::try_from(seconds.checked_sub((1 << 62) + 10)?).ok().filter(|s| *s < MAX_SECONDS)?;
    let micros = u32::try_from(nanos / 1000).ok().filter(|m| *m < 1_000_000)?;
    Some(RawStamp::Zoned { written, micros, offset: 0, precision: Precision::Micro })
}

/// The year 2400: later stamps are none.
const MAX_SECONDS: i64 = 13_569_465_600;

/// Seconds since 1970 with six decimals, as splogger writes before qmail's messages.
fn epoch(c: &mut Cursor) -> Option<RawStamp> {
    let digits = (0..11).take_while(|&i| c.peek_at(i).is_ascii_digit()).count();
    if !(9..=10).contains(&digits) || c.peek_at(digits) != b'.' {
        return None;
    }
    let text = c.line.get(c.at..c.at + digits)?;
    let written = std::str::from_utf8(text).ok()?.parse().ok()?;
    c.at += digits;
    let (micros, precision) = c.decimals();
    Some(RawStamp::Zoned { written, micros, offset: 0, precision })
}

/// A text that is a stamp and nothing else: `2026-03-02T08:00:00.123Z`, `2026-03-02 08:00:00`, `2026-03-02 08:00:00+0100`.
pub fn iso_stamp(text: &[u8]) -> Option<RawStamp> {
    let mut c = Cursor { line: text, at: 0 };
    iso(&mut c).filter(|_| c.at == text.len())
}

/// The stamp that a program put before its own message: `YYYY-MM-DD HH:MM:SS[.mmm] [+zzzz] `, or qmail's
/// `SECONDS.MICROSECONDS `. Returns it and what follows it.
pub fn inner_stamp(message: &[u8]) -> Option<(RawStamp, usize)> {
    if message.get(4) != Some(&b'-') {
        let mut c = Cursor { line: message, at: 0 };
        let stamp = epoch(&mut c)?;
        c.eat(b' ')?;
        return Some((stamp, c.at));
    }
    let mut c = Cursor { line: message, at: 0 };
    let stamp = iso(&mut c)?;
    c.eat(b' ')?;
    Some((stamp, c.at))
}

fn priority(c: &mut Cursor) {
    if c.peek() != b'<' {
        return;
    }
    let digits = (1..=3).take_while(|&i| c.peek_at(i).is_ascii_digit()).count();
    if digits > 0 && c.peek_at(digits + 1) == b'>' {
        c.at += digits + 2;
    }
}

/// Takes a line apart; `None` when it does not begin with a stamp that is known.
pub fn parse(line: &[u8]) -> Option<Frame<'_>> {
    let mut c = Cursor { line, at: 0 };
    priority(&mut c);
    if c.peek() == b'1' && c.peek_at(1) == b' ' && c.peek_at(6) == b'-' {
        c.at += 2;
        return rfc5424(c);
    }
    // What multilog and the like write has a stamp only.
    let bare = match c.peek() {
        b'@' => tai64n(&mut c),
        b'0'..=b'9' => epoch(&mut c),
        _ => None,
    };
    if let Some(stamp) = bare {
        c.eat(b' ')?;
        return Some(Frame { stamp, host: b"", program: b"", pid: b"", message: c.at });
    }
    // Date and time apart, as programs write them before their own lines; few daemons name a host behind such a stamp.
    let own = c.peek().is_ascii_digit() && c.peek_at(10) == b' ';
    let stamp = match c.peek().is_ascii_digit() {
        true => iso(&mut c)?,
        false => match yearless(&mut c) {
            Some(stamp) => stamp,
            None => return asctime(c),
        },
    };
    c.eat(b' ')?;
    if let RawStamp::Yearless { month, day, second, micros, precision } = stamp
        && let Some((year, pid)) = year_behind(&mut c)
    {
        let written = civil_seconds(year as i32, u32::from(month), u32::from(day), second)?;
        let stamp = RawStamp::Local { written, micros, precision };
        return Some(Frame { stamp, host: b"", program: b"", pid, message: c.at });
    }
    let start = c.at;
    let (host, strange) = c.host();
    if is_no_host(host, strange) || (own && !tag_follows(&c)) {
        return Some(Frame { stamp, host: b"", program: b"", pid: b"", message: start });
    }
    c.spaces();
    let (program, pid) = tag(&mut c);
    Some(Frame { stamp, host, program, pid, message: c.at })
}

/// `2026 (4711) `: year and process id, as Mailman writes them behind the clock.
fn year_behind<'a>(c: &mut Cursor<'a>) -> Option<(u32, &'a [u8])> {
    if c.peek_at(4) != b' ' || c.peek_at(5) != b'(' {
        return None;
    }
    let mut d = Cursor { line: c.line, at: c.at };
    let year = d.number(4)?;
    d.at += 2;
    let digits = (0..10).take_while(|&i| d.peek_at(i).is_ascii_digit()).count();
    let pid = d.line.get(d.at..d.at + digits)?;
    d.at += digits;
    d.eat(b')')?;
    d.eat(b' ')?;
    c.at = d.at;
    Some((year, pid))
}

/// `Thu Sep 18 16:17:38 2026 `, as C's asctime writes it (appliances' own files).
fn asctime(mut c: Cursor<'_>) -> Option<Frame<'_>> {
    let days: [&[u8]; 7] = [b"Mon ", b"Tue ", b"Wed ", b"Thu ", b"Fri ", b"Sat ", b"Sun "];
    days.contains(&c.line.get(c.at..c.at + 4)?).then_some(())?;
    c.at += 4;
    let RawStamp::Yearless { month, day, second, micros, precision } = yearless(&mut c)? else { return None };
    c.eat(b' ')?;
    let year = c.number(4)?;
    c.eat(b' ')?;
    let written = civil_seconds(year as i32, u32::from(month), u32::from(day), second)?;
    let stamp = RawStamp::Local { written, micros, precision };
    Some(Frame { stamp, host: b"", program: b"", pid: b"", message: c.at })
}

/// Whether ` name[123]:` is next.
fn tag_follows(c: &Cursor) -> bool {
    let mut c = Cursor { line: c.line, at: c.at };
    c.spaces();
    let word = c.token();
    let inner = word.strip_suffix(b"]:").and_then(|w| w.iter().rposition(|&b| b == b'[').and_then(|at| w.get(at + 1..).filter(|_| at > 0)));
    inner.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit))
}

/// How grave a line is, as programs write it behind the stamp of their own lines (`2026-03-02T08:00:00Z INFO ...`, `[INFO] ...`).
fn is_level(word: &[u8]) -> bool {
    // Hosts' names are seldom written with a capital.
    if !word.first().is_some_and(|b| matches!(b, b'[' | b'A'..=b'Z')) {
        return false;
    }
    let inner = word.strip_prefix(b"[").and_then(|w| w.strip_suffix(b"]"));
    matches!(
        inner.unwrap_or(word),
        b"TRACE"
            | b"DEBUG"
            | b"INFO"
            | b"NOTICE"
            | b"WARN"
            | b"WARNING"
            | b"ERROR"
            | b"FATAL"
            | b"CRIT"
            | b"ALERT"
            | b"EMERG"
            | b"PROTOCOL"
            | b"DATA"
            | b"Info"
            | b"Warning"
            | b"Critical"
            | b"Debug"
    )
}

/// In a program's own file the word behind the stamp is a tag (`lmtp(bob)<12><x>:`), not a host.
fn is_no_host(word: &[u8], strange: bool) -> bool {
    match word.last() {
        None => true,
        Some(b':') => std::str::from_utf8(word).map_or(true, |w| w.parse::<std::net::IpAddr>().is_err()),
        Some(_) => strange || is_level(word),
    }
}

/// `tag[pid]: ` or `tag: `; where there is no tag the message begins at once.
fn tag<'a>(c: &mut Cursor<'a>) -> (&'a [u8], &'a [u8]) {
    let rest = c.line.get(c.at..).unwrap_or_default();
    let end = rest.iter().take(128).position(|b| matches!(b, b' ' | b':' | b'['));
    let Some(end) = end else { return (b"", b"") };
    let program = rest.get(..end).unwrap_or_default();
    let mut after = end;
    let mut pid: &[u8] = b"";
    if rest.get(after) == Some(&b'[') {
        let inner = rest.get(after + 1..).unwrap_or_default();
        if let Some(close) = inner.iter().take(64).position(|&b| b == b']') {
            pid = inner.get(..close).unwrap_or_default();
            after += close + 2;
        }
    }
    if rest.get(after) != Some(&b':') {
        return (b"", b"");
    }
    c.at += after + 1;
    if c.peek() == b' ' {
        c.at += 1;
    }
    (program, pid)
}

fn rfc5424(mut c: Cursor<'_>) -> Option<Frame<'_>> {
    let stamp = iso(&mut c)?;
    let nil = |t: &[u8]| t == b"-";
    c.eat(b' ')?;
    let host = c.token();
    c.eat(b' ')?;
    let program = c.token();
    c.eat(b' ')?;
    let pid = c.token();
    c.eat(b' ')?;
    let _msgid = c.token();
    c.eat(b' ')?;
    if c.peek() == b'-' {
        c.at += 1;
    } else {
        while c.peek() == b'[' {
            structured_data(&mut c)?;
        }
    }
    // One space by the grammar; rsyslog's template writes a second one.
    for _ in 0..2 {
        let _ = c.eat(b' ');
    }
    if c.line.get(c.at..).is_some_and(|m| m.starts_with(b"\xef\xbb\xbf")) {
        c.at += 3;
    }
    let or_empty = |t| if nil(t) { &b""[..] } else { t };
    Some(Frame { stamp, host: or_empty(host), program: or_empty(program), pid: or_empty(pid), message: c.at })
}

/// One `[id name="value" ...]`; quotes and brackets inside a value are escaped by a backslash (RFC 5424, 6.3.3).
fn structured_data(c: &mut Cursor) -> Option<()> {
    let mut quoted = false;
    while c.at < c.line.len() {
        match c.peek() {
            b'\\' if quoted => c.at += 1,
            b'"' => quoted = !quoted,
            b']' if !quoted => {
                c.at += 1;
                return Some(());
            }
            _ => {}
        }
        c.at += 1;
    }
    None
}

/// rsyslog's `message repeated 3 times: [ text]`: how often, and where the text lies in `message`.
pub fn repeated(message: &[u8]) -> Option<(u32, std::ops::Range<usize>)> {
    let rest = message.strip_prefix(b"message repeated ")?;
    let digits = rest.iter().take(9).take_while(|b| b.is_ascii_digit()).count();
    let n: u32 = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    let head = b" times: [";
    let body = rest.get(digits..)?.strip_prefix(head)?;
    body.strip_suffix(b"]")?;
    let mut start = message.len() - body.len();
    if message.get(start) == Some(&b' ') {
        start += 1;
    }
    (n > 0).then_some((n, start..message.len() - 1))
}

#[cfg(test)]
mod tests;
