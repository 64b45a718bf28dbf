//! Addresses as fields hold them: `rfc822; user@example.org`, or RFC 6533's `utf-8` form, and xtext (RFC 3461, 4).

use std::fmt::Write as _;

/// A typed address (RFC 3464, 2.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// `rfc822` for all mail addresses; another type as it was read.
    pub kind: String,
    /// The address itself, decoded.
    pub value: String,
}

/// Kind of an address of which nothing is known (RFC 3464, 2.1.2: private types begin with `x-`).
const UNKNOWN: &str = "x-unknown";

impl Address {
    /// A mail address; may hold any Unicode.
    pub fn mail(value: impl Into<String>) -> Self {
        Address { kind: "rfc822".into(), value: value.into() }
    }

    /// The address of a recipient that no log named yet.
    pub fn unknown() -> Self {
        Address { kind: UNKNOWN.into(), value: "unknown".into() }
    }

    /// The field's value, 7bit: `rfc822` where the address is printable ASCII, else `utf-8` (RFC 6533, 3).
    pub fn to_field(&self) -> String {
        let is_mail = self.kind.eq_ignore_ascii_case("rfc822");
        let plain = !self.value.is_empty() && self.value.bytes().all(|b| b.is_ascii_graphic());
        if is_mail && !plain {
            return format!("utf-8; {}", embedded(&self.value));
        }
        format!("{}; {}", self.kind, if plain { self.value.clone() } else { embedded(&self.value) })
    }

    /// Reads a field's value. What has no type is taken for a mail address; `None` when there is nothing. A NUL, which no
    /// address can hold and the writer has no form for, is read as the replacement character that stands for it there.
    /// Types other than mail know no escapes: what is not printable ASCII in them is read as the writer would write it.
    pub fn from_field(text: &str) -> Option<Self> {
        let (kind, value) = match text.split_once(';') {
            Some((kind, value)) if !kind.trim().is_empty() && kind.trim().bytes().all(is_atom) => (kind.trim(), value.trim()),
            _ => ("rfc822", text.trim()),
        };
        if value.is_empty() {
            return None;
        }
        // The three UTF-8 forms differ only in how they were carried; all of them name a mail address.
        if kind.eq_ignore_ascii_case("utf-8") {
            return Some(Address::mail(expanded(value).replace('\0', "\u{FFFD}")));
        }
        let kind = kind.to_ascii_lowercase();
        let value = if kind == "rfc822" { value.replace('\0', "\u{FFFD}") } else { escaped(value, "") };
        Some(Address { kind, value })
    }
}

pub(super) fn is_atom(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b)
}

/// `utf-8-addr-xtext` of RFC 6533: what is not printable ASCII, and `\`, `+`, `=`, as `\x{HEX}`. An empty address becomes `\x{20}`.
fn embedded(value: &str) -> String {
    if value.is_empty() { "\\x{20}".into() } else { escaped(value, "\\+=") }
}

/// What is not printable ASCII, and what is in `special`, as `\x{HEX}`.
fn escaped(value: &str, special: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        match c {
            '!'..='~' if !special.contains(c) => out.push(c),
            // The grammar has no form for NUL; the replacement character says that something stood there.
            '\0' => out.push_str("\\x{FFFD}"),
            _ => drop(write!(out, "\\x{{{:02X}}}", c as u32)),
        }
    }
    out
}

/// Undoes [`embedded`]; what is no escape stays as it is.
fn expanded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x{") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let body = from.get(3..).unwrap_or_default();
        let found = body.find('}').filter(|end| (2..=6).contains(end)).and_then(|end| {
            let n = u32::from_str_radix(body.get(..end)?, 16).ok()?;
            Some((char::from_u32(n)?, body.get(end + 1..)?))
        });
        match found {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push_str("\\x{");
                rest = body;
            }
        }
    }
    out.push_str(rest);
    out
}

/// xtext (RFC 3461, 4): printable ASCII but `+` and `=`, all else as `+HH`.
pub fn to_xtext(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b'!'..=b'~' if b != b'+' && b != b'=' => out.push(b as char),
            _ => drop(write!(out, "+{b:02X}")),
        }
    }
    out
}

/// Undoes [`to_xtext`]. What is no xtext (a `+` without two upper-case hex digits, bytes that are no UTF-8) is left as it was.
pub fn from_xtext(text: &str) -> String {
    let upper_hex = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F').then(|| (b as char).to_digit(16)).flatten();
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'+' {
            out.push(b);
            continue;
        }
        let (Some(high), Some(low)) = (bytes.next().and_then(upper_hex), bytes.next().and_then(upper_hex)) else {
            return text.to_string();
        };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_string())
}
