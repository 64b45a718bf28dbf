//! Log lines made here, in the form that rsyslog's file format has.

use chrono::{DateTime, SecondsFormat};

/// Appends `bytes` with control bytes as rsyslog writes them: `#` and three octal digits.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for b in bytes {
        if *b < 0x20 || *b == 0x7f {
            let digit = |shift: u8| b'0' + ((b >> shift) & 7);
            out.extend_from_slice(&[b'#', digit(6), digit(3), digit(0)]);
        } else {
            out.push(*b);
        }
    }
}

/// Appends a word of the frame (host, tag): what could end it or begin another field becomes `_`.
pub(super) fn word(bytes: &[u8], most: usize, out: &mut Vec<u8>) {
    let clean = |b: &u8| if b.is_ascii_graphic() && !b"[]:<>()=".contains(b) || *b >= 0x80 { *b } else { b'_' };
    out.extend(bytes.iter().take(most).map(clean));
}

/// Appends an RFC 3339 stamp in UTC with microseconds.
pub(super) fn stamp(micros: i64, out: &mut Vec<u8>) {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    out.extend_from_slice(time.to_rfc3339_opts(SecondsFormat::Micros, false).as_bytes());
}
