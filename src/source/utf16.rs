//! UTF-16 to UTF-8: what Windows programs and Microsoft's reports write.

use std::io::{self, BufRead, Read};

/// Whether the first bytes of a file are UTF-16, and of which order (`true`: the high byte first): by a byte order mark and a
/// character below U+0100 behind it (a log may begin with any two bytes), or by five ASCII characters with a NUL byte beside each.
pub(super) fn detect(head: &[u8]) -> Option<bool> {
    let ascii = |text: usize, nul: usize| {
        head.len() >= 10
            && head.chunks_exact(2).take(5).all(|c| c.get(nul) == Some(&0) && c.get(text).is_some_and(|b| matches!(b, b' '..=b'~')))
    };
    match head {
        [0xff, 0xfe, _, 0, ..] => Some(false),
        [0xfe, 0xff, 0, _, ..] => Some(true),
        _ if ascii(0, 1) => Some(false),
        _ if ascii(1, 0) => Some(true),
        _ => None,
    }
}

/// Reads UTF-16 and gives UTF-8. Halves of a pair that stand alone, and half a character at the end, become U+FFFD.
pub(super) struct Utf16<R> {
    inner: R,
    high_first: bool,
    /// The first half of a pair.
    half: Option<u16>,
    begun: bool,
    out: [u8; 8],
    at: usize,
    len: usize,
}

impl<R: BufRead> Utf16<R> {
    pub fn new(inner: R, high_first: bool) -> Self {
        Utf16 { inner, high_first, half: None, begun: false, out: [0; 8], at: 0, len: 0 }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.inner.fill_buf()?.first().copied();
        self.inner.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    fn put(&mut self, c: char) {
        let n = c.encode_utf8(self.out.get_mut(self.len..).unwrap_or_default()).len();
        self.len += n;
    }

    /// Fills `out` with the next character, or leaves it empty at the end.
    fn next(&mut self) -> io::Result<()> {
        (self.at, self.len) = (0, 0);
        while self.len == 0 {
            let unit = match (self.byte()?, self.byte()?) {
                (Some(a), Some(b)) if self.high_first => u16::from_be_bytes([a, b]),
                (Some(a), Some(b)) => u16::from_le_bytes([a, b]),
                (None, _) if self.half.take().is_none() => return Ok(()),
                _ => {
                    self.half = None;
                    self.put(char::REPLACEMENT_CHARACTER);
                    return Ok(());
                }
            };
            let mark = !self.begun && unit == 0xfeff;
            self.begun = true;
            if mark {
                continue;
            }
            let half = self.half.take();
            match (half, unit) {
                (Some(high), 0xdc00..=0xdfff) => {
                    let c = 0x1_0000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
                    self.put(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
                    continue;
                }
                (Some(_), _) => self.put(char::REPLACEMENT_CHARACTER),
                (None, _) => {}
            }
            match unit {
                0xd800..=0xdbff => self.half = Some(unit),
                _ => self.put(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            if self.at >= self.len {
                self.next()?;
                if self.len == 0 {
                    break;
                }
            }
            let from = self.out.get(self.at..self.len).unwrap_or_default();
            let to = buf.get_mut(filled..).unwrap_or_default();
            let n = from.len().min(to.len());
            to.iter_mut().zip(from).for_each(|(t, f)| *t = *f);
            self.at += n;
            filled += n;
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &[u16], high_first: bool) -> Vec<u8> {
        text.iter().flat_map(|u| if high_first { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
    }

    fn read(bytes: &[u8], high_first: bool) -> String {
        // Small reads on both sides: characters are cut in every place.
        let mut out = Vec::new();
        let mut reader = Utf16::new(io::BufReader::with_capacity(3, bytes), high_first);
        let mut buf = [0; 3];
        loop {
            match reader.read(&mut buf).unwrap() {
                0 => return String::from_utf8(out).unwrap(),
                n => out.extend_from_slice(&buf[..n]),
            }
        }
    }

    #[test]
    fn all_characters_in_both_orders() {
        let text = "\u{feff}date_time,ü,€,\u{1f600}\r\n\u{feff}x";
        for high_first in [false, true] {
            let bytes = units(&text.encode_utf16().collect::<Vec<_>>(), high_first);
            assert_eq!(detect(&bytes), Some(high_first));
            assert_eq!(detect(&bytes[2..]), Some(high_first), "without a mark");
            assert_eq!(read(&bytes, high_first), text[3..]);
        }
    }

    #[test]
    fn what_is_no_utf16_is_replaced() {
        let bytes = units(&[0x61, 0xd83d, 0x62, 0xdc00, 0xd83d], false);
        assert_eq!(read(&bytes, false), "a\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(read(&[0x61, 0, 0x62], false), "a\u{fffd}");
        assert_eq!(read(&[], true), "");
    }

    #[test]
    fn text_and_binary_data_are_no_utf16() {
        for head in [
            &b"Mar  2 08:00:00"[..],
            b"",
            b"a\0",
            b"a\0b\0c\0d\0",
            b"\0\0\0\0\0\0\0\0\0\0\0\0",
            b"a\0b\0c\0d\0\x01\0f\0",
            b"\x7fELF\x02\x01\x01\0\0\0\0\0",
        ] {
            assert_eq!(detect(head), None, "{head:?}");
        }
    }
}
