//! One mail, taken apart as far as a report needs: headers, the parts of this message, their decoded bytes and text.
//!
//! Not a full MIME library on purpose: a nested message is left alone until it is asked for, so that depth, parts and
//! memory are bounded whatever comes (R6), and a mail costs a few scans of its bytes. Charsets and encoded words are
//! mail-parser's.

use mail_parser::HeaderValue;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::html::html_to_text;
use mail_parser::parsers::MessageStream;
use memchr::memmem;
use std::borrow::Cow;

/// Most parts of one message that are looked at.
const MAX_PARTS: usize = 200;
/// How deep multiparts are followed into each other.
const MAX_DEPTH: usize = 8;
/// Most bytes of a header block that are looked at.
const MAX_HEAD: usize = 256 * 1024;
/// Most bytes of one part that are decoded.
const MAX_PART: usize = 1 << 20;
/// Most bytes of a header's value.
const MAX_VALUE: usize = 16 * 1024;

/// CRLF to LF; a file that has only CR is one of CR lines.
pub(super) fn with_newlines(mail: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\r', mail).is_none() {
        return Cow::Borrowed(mail);
    }
    let mut out = Vec::with_capacity(mail.len());
    if memchr::memchr(b'\n', mail).is_none() {
        out.extend(mail.iter().map(|b| if *b == b'\r' { b'\n' } else { *b }));
        return Cow::Owned(out);
    }
    let mut rest = mail;
    while let Some(at) = memchr::memchr(b'\r', rest) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        if rest.first() != Some(&b'\n') {
            out.push(b'\r');
        }
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// A block of header fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    /// The header block at the front of `bytes`, and what is behind it.
    pub(super) fn split(bytes: &'a [u8]) -> (Head<'a>, &'a [u8]) {
        let mut bytes = bytes;
        while bytes.starts_with(b"From ") || bytes.starts_with(b">From ") {
            bytes = bytes.get(memchr::memchr(b'\n', bytes).map_or(bytes.len(), |n| n + 1)..).unwrap_or_default();
        }
        if let Some(body) = bytes.strip_prefix(b"\n") {
            return (Head(b""), body);
        }
        let end = memmem::find(bytes, b"\n\n").unwrap_or(bytes.len());
        let head = bytes.get(..end.min(MAX_HEAD)).unwrap_or_default();
        (Head(head), bytes.get(end.saturating_add(2)..).unwrap_or_default())
    }

    /// Name and folded value of each field, as written. Lines that are no field are left out.
    pub(super) fn fields(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                if rest.is_empty() {
                    return None;
                }
                let mut end = 0;
                loop {
                    let from = rest.get(end..).unwrap_or_default();
                    end += memchr::memchr(b'\n', from).unwrap_or(from.len());
                    match rest.get(end + 1) {
                        Some(b' ' | b'\t') => end += 1,
                        _ => break,
                    }
                }
                let field = rest.get(..end).unwrap_or_default();
                rest = rest.get(end + 1..).unwrap_or_default();
                let Some(colon) = memchr::memchr(b':', field) else { continue };
                let (name, value) = (field.get(..colon)?, field.get(colon + 1..)?);
                let name = name.trim_ascii_end();
                if !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic()) {
                    return Some((name, value));
                }
            }
        })
    }

    /// All values of a field, unfolded, with encoded words decoded.
    pub(super) fn all(self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        self.fields().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| value_text(v))
    }

    /// The first value of a field.
    pub(super) fn first(self, name: &'a str) -> Option<String> {
        self.all(name).next()
    }

    /// Whether there is such a field.
    pub(super) fn has(self, name: &str) -> bool {
        self.fields().any(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether there is nothing like a header here.
    pub(super) fn is_empty(self) -> bool {
        self.fields().next().is_none()
    }
}

/// A folded value as text: line breaks are blanks, encoded words are decoded.
pub(super) fn value_text(value: &[u8]) -> String {
    let value = value.get(..value.len().min(MAX_VALUE)).unwrap_or_default();
    if memmem::find(value, b"=?").is_some() {
        let mut bytes = value.to_vec();
        bytes.push(b'\n');
        if let HeaderValue::Text(text) = MessageStream::new(&bytes).parse_unstructured() {
            return text.trim().to_string();
        }
    }
    unfolded(&String::from_utf8_lossy(value))
}

/// Line breaks with the blanks around them become one blank.
pub(super) fn unfolded(text: &str) -> String {
    if !text.contains('\n') {
        return text.trim().to_string();
    }
    let mut out = String::with_capacity(text.len());
    for line in text.split('\n') {
        let line = line.trim();
        if !out.is_empty() && !line.is_empty() {
            out.push(' ');
        }
        out.push_str(line);
    }
    out
}

/// One part of a message; a message that is no multipart is its own only part.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// Its header.
    pub(super) head: Head<'a>,
    /// `type/subtype` in lower case; `text/plain` where none is given.
    pub(super) kind: String,
    content_type: String,
    body: &'a [u8],
}

/// The parts of one message, in order; nested messages are parts that are not looked into.
pub(super) fn parts(message: &[u8]) -> Vec<Part<'_>> {
    let mut out = Vec::new();
    let (head, body) = Head::split(message);
    add_part(head, body, 0, &mut out);
    out
}

fn add_part<'a>(head: Head<'a>, body: &'a [u8], depth: usize, out: &mut Vec<Part<'a>>) {
    if out.len() >= MAX_PARTS {
        return;
    }
    let content_type = head.first("content-type").unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let kind = if kind.contains('/') { kind } else { "text/plain".into() };
    let part = Part { head, kind, content_type, body };
    if part.kind.starts_with("multipart/") && depth < MAX_DEPTH {
        let boundary = part.param("boundary").filter(|b| !b.is_empty()).or_else(|| guessed_boundary(body));
        let inner = boundary.map(|b| between(body, b.as_bytes())).unwrap_or_default();
        if !inner.is_empty() {
            // The multipart itself is of use as the bearer of its type.
            let body = b"".as_slice();
            out.push(Part { body, ..part });
            for piece in inner {
                let (head, body) = Head::split(piece);
                add_part(head, body, depth + 1, out);
            }
            return;
        }
    }
    out.push(part);
}

/// The pieces between the delimiter lines of a multipart's body.
fn between<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let delimiter = [b"--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    let (mut pieces, mut start, mut from) = (Vec::new(), None, 0);
    while let Some(at) = finder.find(body.get(from..).unwrap_or_default()).map(|n| n + from) {
        let behind = at + delimiter.len();
        from = behind;
        let line_end = memchr::memchr(b'\n', body.get(behind..).unwrap_or_default()).map_or(body.len(), |n| behind + n);
        let tail = body.get(behind..line_end).unwrap_or_default().trim_ascii();
        let at_line_start = at == 0 || body.get(at - 1) == Some(&b'\n');
        if !at_line_start || !(tail.is_empty() || tail == b"--") {
            continue;
        }
        if let Some(start) = start {
            pieces.push(body.get(start..at.saturating_sub(1).max(start)).unwrap_or_default());
        }
        start = Some((line_end + 1).min(body.len()));
        if tail == b"--" || pieces.len() >= MAX_PARTS {
            return pieces;
        }
    }
    // The closing delimiter is missing: cut off, or malformed.
    pieces.extend(start.and_then(|s| body.get(s..)).filter(|p| !p.is_empty()));
    pieces
}

/// Where the type names no boundary: the first line that looks like a delimiter.
fn guessed_boundary(body: &[u8]) -> Option<String> {
    let lines = body.get(..body.len().min(64 * 1024)).unwrap_or_default().split(|b| *b == b'\n');
    let name = lines.filter_map(|l| l.strip_prefix(b"--")).find(|n| n.len() > 2 && n.iter().all(u8::is_ascii_graphic))?;
    String::from_utf8(name.to_vec()).ok()
}

impl<'a> Part<'a> {
    /// A parameter of the content type.
    pub(super) fn param(&self, name: &str) -> Option<String> {
        param(&self.content_type, name)
    }

    /// The body with its transfer encoding undone; at most [`MAX_PART`] bytes.
    pub(super) fn bytes(&self) -> Cow<'a, [u8]> {
        let body = self.body.get(..self.body.len().min(MAX_PART)).unwrap_or_default();
        match self.head.first("content-transfer-encoding").unwrap_or_default().to_ascii_lowercase().as_str() {
            "base64" => Cow::Owned(from_base64(body)),
            "quoted-printable" => Cow::Owned(from_quoted_printable(body)),
            _ => Cow::Borrowed(body),
        }
    }

    /// The body as text, by its charset; HTML without its tags.
    pub(super) fn text(&self) -> String {
        let bytes = self.bytes();
        let charset = self.param("charset").unwrap_or_default().to_ascii_lowercase();
        let text = match charset.as_str() {
            "" | "utf-8" | "utf8" | "us-ascii" | "ascii" => String::from_utf8_lossy(&bytes).into_owned(),
            // mail-parser's table reads at most 45 bytes of a name.
            name => match charset_decoder(name.get(..name.len().min(45)).unwrap_or("utf-8").as_bytes()) {
                Some(decode) => decode(&bytes),
                None => String::from_utf8_lossy(&bytes).into_owned(),
            },
        };
        let text = if text.contains('\r') { text.replace("\r\n", "\n") } else { text };
        if self.kind == "text/html" { html_to_text(&text) } else { text }
    }
}

/// A parameter of a structured header value, without its quotes.
fn param(value: &str, name: &str) -> Option<String> {
    let mut rest = value;
    loop {
        rest = rest.get(unquoted(rest, ';')? + 1..)?;
        let (key, after) = rest.split_once('=')?;
        if !key.trim().eq_ignore_ascii_case(name) {
            continue;
        }
        let after = after.trim_start();
        return Some(match after.strip_prefix('"') {
            Some(quoted) => {
                let mut out = String::new();
                let mut chars = quoted.chars();
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => out.extend(chars.next()),
                        c => out.push(c),
                    }
                }
                out
            }
            None => after.split([';', ' ', '\t']).next().unwrap_or_default().to_string(),
        });
    }
}

/// Where a character stands outside of quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn from_base64(body: &[u8]) -> Vec<u8> {
    use base64::Engine;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
    let mut letters: Vec<u8> = body.iter().copied().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')).collect();
    // A single letter left over says nothing.
    if letters.len() % 4 == 1 {
        letters.pop();
    }
    let bytes = GeneralPurpose::new(&STANDARD, lenient).decode(&letters).unwrap_or_default();
    with_newlines(&bytes).into_owned()
}

fn from_quoted_printable(body: &[u8]) -> Vec<u8> {
    let hex = |b: &u8| (*b as char).to_digit(16);
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((b, after)) = rest.split_first() {
        rest = after;
        match (b, after) {
            (b'=', [a, c, tail @ ..]) if hex(a).zip(hex(c)).is_some() => {
                out.extend(hex(a).zip(hex(c)).map(|(a, c)| (a * 16 + c) as u8));
                rest = tail;
            }
            (b'=', _) => {
                // A soft line break, blanks before it allowed; any other `=` stands for itself.
                let blanks = after.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                match after.get(blanks) {
                    Some(b'\n') | None => rest = after.get(blanks + 1..).unwrap_or_default(),
                    _ => out.push(b'='),
                }
            }
            _ => out.push(*b),
        }
    }
    with_newlines(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newlines_of_every_sort_become_one() {
        assert_eq!(&*with_newlines(b"a\r\nb\r\n"), b"a\nb\n");
        assert_eq!(&*with_newlines(b"a\rb\r"), b"a\nb\n");
        assert_eq!(&*with_newlines(b"a\rb\nc"), b"a\rb\nc");
    }

    #[test]
    fn parts_of_a_multipart_even_without_an_end_or_a_boundary() {
        let kinds = |m: &[u8]| parts(m).iter().map(|p| p.kind.clone()).collect::<Vec<_>>();
        let whole = b"Content-Type: multipart/report; boundary=\"x\"\n\npreamble\n--x\n\nhello\n--x\nContent-type: A/B\n\nZ\n--x--\nrest";
        assert_eq!(kinds(whole), ["multipart/report", "text/plain", "a/b"]);
        assert_eq!(&*parts(whole)[2].bytes(), b"Z");
        assert_eq!(
            kinds(b"Content-Type: multipart/mixed\n\n--abc\n\nhello\n--abc\nContent-type: a/b\n\nZ"),
            ["multipart/mixed", "text/plain", "a/b"]
        );
        // A boundary that begins like another one, and one inside a line, are none.
        let tricky = b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\n--ab\nx --a\n--a--\n";
        assert_eq!(&*parts(tricky)[1].bytes(), b"--ab\nx --a");
    }

    #[test]
    fn encodings_and_charsets() {
        assert_eq!(from_quoted_printable(b"a=3Db=\nc=\n=zz=E4"), b"a=bc=zz\xe4");
        assert_eq!(from_base64(b"aGVs\nbG8"), b"hello");
        let m = b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nf=FCr";
        assert_eq!(parts(m)[0].text(), "f\u{fc}r");
        assert_eq!(Head::split(b"Subject: =?utf-8?Q?f=C3=BCr?= dich\n\n").0.first("SUBJECT").unwrap(), "f\u{fc}r dich");
        assert_eq!(Head::split(b"A: x\n y\n\tz\nB : c\n\n").0.first("a").unwrap(), "x y z");
    }

    #[test]
    fn a_message_in_a_message_many_times_over_costs_nothing() {
        let deep = b"Content-Type: message/rfc822\n\n".repeat(100_000);
        assert_eq!(parts(&deep).len(), 1);
        let deep = b"Content-Type: multipart/mixed; boundary=a\n\n--a\n".repeat(20_000);
        assert!(parts(&deep).len() <= MAX_PARTS);
    }
}
