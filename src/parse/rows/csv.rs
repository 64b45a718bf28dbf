//! Comma-separated values as RFC 4180 has them: a cell that begins with a quote ends at the next one that is not
//! doubled, and may hold separators and newlines; in any other cell a quote is a character like others.

use super::Value;
use std::borrow::Cow;

/// How a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its text.
    Whole,
    /// In the middle of a quoted cell: it goes on in the next line.
    Open,
    /// Something stands behind a closing quote: no CSV.
    Broken,
}

/// Cells of one record.
const MAX_CELLS: usize = 512;

/// Takes a record apart; `out` gets its cells.
pub fn cells<'a>(record: &'a [u8], separator: u8, out: &mut Vec<Value<'a>>) -> End {
    out.clear();
    let mut at = 0;
    loop {
        if out.len() >= MAX_CELLS {
            return End::Broken;
        }
        let rest = record.get(at..).unwrap_or_default();
        let end = if rest.first() == Some(&b'"') {
            let Some((close, doubled)) = closing(rest) else { return End::Open };
            let inside = rest.get(1..close).unwrap_or_default();
            out.push(match doubled {
                true => Value { bytes: Cow::Owned(undouble(inside)), at: None },
                false => Value { bytes: Cow::Borrowed(inside), at: Some(at + 1) },
            });
            close + 1
        } else {
            let end = memchr::memchr(separator, rest).unwrap_or(rest.len());
            out.push(Value { bytes: Cow::Borrowed(rest.get(..end).unwrap_or_default()), at: Some(at) });
            end
        };
        match rest.get(end) {
            None => return End::Whole,
            Some(b) if *b == separator => at += end + 1,
            Some(_) => return End::Broken,
        }
    }
}

/// Where the quote is that closes a cell (`cell` begins with its opening one), and whether there are doubled ones before it.
fn closing(cell: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut doubled) = (1, false);
    loop {
        at += memchr::memchr(b'"', cell.get(at..)?)?;
        if cell.get(at + 1) != Some(&b'"') {
            return Some((at, doubled));
        }
        doubled = true;
        at += 2;
    }
}

fn undouble(inside: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inside.len());
    let mut skip = false;
    for &b in inside {
        if b == b'"' && std::mem::take(&mut skip) {
            continue;
        }
        skip = b == b'"';
        out.push(b);
    }
    out
}

/// Where the record that begins with `text` ends: at the first newline outside of quotes, or the end of the text.
/// `None` if the text ends inside a quoted cell.
pub fn record_end(text: &[u8], separator: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        if rest.first() == Some(&b'"') {
            at += closing(rest)?.0 + 1;
        }
        // To the end of the cell; a quote behind a closing one is no CSV, but ends with its line.
        let rest = text.get(at..).unwrap_or_default();
        at += memchr::memchr2(separator, b'\n', rest).unwrap_or(rest.len());
        match text.get(at) {
            Some(b'\n') | None => return Some(at),
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(record: &str) -> (Vec<String>, End) {
        let mut out = Vec::new();
        let end = cells(record.as_bytes(), b',', &mut out);
        for v in &out {
            if let Some(at) = v.at {
                assert_eq!(&record.as_bytes()[at..at + v.bytes.len()], &v.bytes[..]);
            }
        }
        (out.iter().map(|v| String::from_utf8_lossy(&v.bytes).into_owned()).collect(), end)
    }

    #[test]
    fn cells_quoted_and_plain() {
        assert_eq!(read("a,,\"b,\"\"c\"\"\nd\",e\"f\",").0, ["a", "", "b,\"c\"\nd", "e\"f\"", ""]);
        assert_eq!(read("\"\"").0, [""]);
        assert_eq!(read("a,\"b").1, End::Open);
        assert_eq!(read("a,\"b\"c,d").1, End::Broken);
        assert_eq!(read(&",".repeat(10_000)).1, End::Broken);
    }

    #[test]
    fn a_record_ends_at_a_newline_outside_of_quotes() {
        let end = |t: &str| record_end(t.as_bytes(), b',');
        assert_eq!(end("a,\"b\nc\",d\ne"), Some(9));
        assert_eq!(end("a,\"b\nc"), None);
        assert_eq!(end("a,b\"c\nd\""), Some(5));
        assert_eq!(end("a,\"b\"\"\nc\"\n"), Some(9));
        assert_eq!(end("ab"), Some(2));
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_again(values in prop::collection::vec("[ab,\"\n;]{0,8}", 1..6)) {
            let record: Vec<String> = values.iter().map(|v| format!("\"{}\"", v.replace('"', "\"\""))).collect();
            let record = record.join(",");
            prop_assert_eq!(read(&record), (values, End::Whole));
            prop_assert_eq!(record_end(format!("{record}\nnext").as_bytes(), b','), Some(record.len()));
        }

        #[test]
        fn both_see_the_same_end(text in "[ab,\"]{0,40}") {
            let open = read(&text).1 == End::Open;
            prop_assert!(!open || record_end(text.as_bytes(), b',').is_none());
        }
    }
}
