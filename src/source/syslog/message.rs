//! A syslog message (RFC 3164 or 5424) to a line of a log file. Does no I/O.
//!
//! The line is what rsyslog would write: control bytes escaped, so that no sender can make two lines
//! of one. Where the message has no stamp it gets the time of its receipt, where it has no host the
//! address of its sender.

use std::net::IpAddr;

use crate::source::text::{escape, stamp};

/// The line, with its newline; `None` for an empty message. `received`: microseconds since 1970.
pub fn line(message: &[u8], peer: IpAddr, received: i64) -> Option<Vec<u8>> {
    let text = after_priority(message.trim_ascii());
    if text.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + 64);
    match text.strip_prefix(b"1 ") {
        Some(rest) if fields_follow(rest) => modern(rest, peer, received, &mut out),
        _ => old(text, peer, received, &mut out),
    }
    out.push(b'\n');
    Some(out)
}

/// What follows `<165>`.
fn after_priority(message: &[u8]) -> &[u8] {
    let Some(rest) = message.strip_prefix(b"<") else { return message };
    match rest.iter().take(4).position(|b| *b == b'>') {
        Some(at) if at > 0 && rest.iter().take(at).all(u8::is_ascii_digit) => rest.get(at + 1..).unwrap_or_default().trim_ascii_start(),
        _ => message,
    }
}

fn fields_follow(rest: &[u8]) -> bool {
    rest.starts_with(b"- ") || (rest.get(4) == Some(&b'-') && rest.get(10) == Some(&b'T'))
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b' ', text).unwrap_or(text.len());
    (text.get(..end).unwrap_or_default(), text.get(end + 1..).unwrap_or_default())
}

/// RFC 5424: `TIME HOST APP PROCID MSGID SD MSG`, in which `-` stands for what is not known.
fn modern(rest: &[u8], peer: IpAddr, received: i64, out: &mut Vec<u8>) {
    let (time, rest) = split_word(rest);
    let (host, rest) = split_word(rest);
    out.extend_from_slice(b"<22>1 ");
    if time == b"-" {
        stamp(received, out)
    } else {
        escape(time, out)
    }
    out.push(b' ');
    if host == b"-" || host.is_empty() {
        out.extend_from_slice(peer.to_string().as_bytes())
    } else {
        escape(host, out)
    }
    out.push(b' ');
    escape(rest, out);
}

/// RFC 3164, and what is sent in its name.
fn old(text: &[u8], peer: IpAddr, received: i64, out: &mut Vec<u8>) {
    let end = stamp_end(text).unwrap_or(0);
    let (time, rest) = text.split_at_checked(end).unwrap_or((&[], text));
    if time.is_empty() {
        stamp(received, out)
    } else {
        escape(time, out)
    }
    out.push(b' ');
    let rest = rest.trim_ascii_start();
    // Without a stamp there is no host either: the first word is the tag.
    if time.is_empty() || is_tag(split_word(rest).0) {
        out.extend_from_slice(peer.to_string().as_bytes());
        out.push(b' ');
    }
    escape(rest, out);
}

/// Where the stamp at the beginning ends.
fn stamp_end(text: &[u8]) -> Option<usize> {
    let digits = |from: usize, to: usize| text.get(from..to).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    if text.get(4) == Some(&b'-') && text.get(10) == Some(&b'T') && digits(0, 4) && digits(11, 13) {
        return Some(memchr::memchr(b' ', text).unwrap_or(text.len())).filter(|end| *end <= 40);
    }
    let month = text.get(..3)?;
    let months: [&[u8]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    if !months.contains(&month) || text.get(3) != Some(&b' ') {
        return None;
    }
    // `Mar  2 08:00:00`, perhaps with a year, decimals or a colon behind it.
    let clock = memchr::memchr(b':', text.get(..24).unwrap_or(text))?;
    let from = clock.checked_sub(2)?;
    if !digits(from, clock) || !digits(clock + 1, clock + 3) {
        return None;
    }
    let end = memchr::memchr(b' ', text.get(clock..)?).map_or(text.len(), |n| clock + n);
    (end - clock <= 16).then_some(end)
}

/// `postfix/smtpd[12]:` where a host should be.
fn is_tag(word: &[u8]) -> bool {
    let Some(name) = word.strip_suffix(b":") else { return word.is_empty() };
    std::str::from_utf8(name).map_or(true, |n| n.parse::<IpAddr>().is_err())
}
