//! A JSON line as a tree of places in it, so that a value that stands there as such need not be copied.
//!
//! Strict as RFC 8259 asks, bounded in depth and number of values, and never panics: what programs log as
//! JSON holds what strangers wrote. Of two members of one name the first counts.

use super::Value;
use std::ops::Range;

/// Objects and arrays inside each other.
const MAX_DEPTH: usize = 32;
/// Values of one line.
const MAX_NODES: usize = 5_000;
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Object,
    Array,
    Text,
    /// A string with `\` in it.
    Escaped,
    Null,
    /// A number, `true` or `false`.
    Word,
}

#[derive(Debug)]
struct Node {
    sort: Sort,
    /// The value; of a string what is between the quotes.
    place: Range<u32>,
    /// Name of a member, between its quotes, and whether it is escaped.
    key: Range<u32>,
    first: u32,
    next: u32,
}

/// A JSON text taken apart.
#[derive(Debug)]
pub struct Tree<'a> {
    text: &'a [u8],
    /// Where the text begins in the line; `None` if it is no part of it (JSON within a JSON string).
    base: Option<usize>,
    nodes: Vec<Node>,
}

struct Reader<'a, 'n> {
    text: &'a [u8],
    at: usize,
    nodes: &'n mut Vec<Node>,
}

impl Reader<'_, '_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn eat(&mut self, b: u8) -> Option<()> {
        (self.peek() == b && self.at < self.text.len()).then(|| self.at += 1)
    }

    /// A string; `true` if it has escapes.
    fn string(&mut self) -> Option<(Range<u32>, bool)> {
        self.eat(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..)?;
            self.at += memchr::memchr2(b'"', b'\\', rest)?;
            if self.peek() == b'"' {
                let place = start as u32..self.at as u32;
                self.at += 1;
                let plain = self.text.get(start..self.at - 1)?;
                return plain.iter().all(|b| *b >= 0x20).then_some((place, escaped));
            }
            escaped = true;
            let legal = matches!(self.text.get(self.at + 1)?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u');
            if !legal || (self.text.get(self.at + 1) == Some(&b'u') && hex(self.text.get(self.at + 2..self.at + 6)?).is_none()) {
                return None;
            }
            self.at += 2;
        }
    }

    fn word(&mut self) -> Option<(Sort, Range<u32>)> {
        let rest = self.text.get(self.at..)?;
        let len = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.')).unwrap_or(rest.len());
        let word = rest.get(..len)?;
        let place = self.at as u32..(self.at + len) as u32;
        let sort = match word {
            b"null" => Sort::Null,
            b"true" | b"false" => Sort::Word,
            _ => {
                let text = std::str::from_utf8(word).ok()?;
                let number = word.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-') && text.parse::<f64>().is_ok();
                number.then_some(Sort::Word)?
            }
        };
        self.at += len;
        Some((sort, place))
    }

    /// One value; returns its number.
    fn value(&mut self, key: Range<u32>, depth: usize) -> Option<u32> {
        if depth > MAX_DEPTH || self.nodes.len() >= MAX_NODES {
            return None;
        }
        let number = self.nodes.len() as u32;
        self.nodes.push(Node { sort: Sort::Null, place: 0..0, key, first: NONE, next: NONE });
        let start = self.at;
        let (sort, place) = match self.peek() {
            b'"' => {
                let (place, escaped) = self.string()?;
                (if escaped { Sort::Escaped } else { Sort::Text }, place)
            }
            open @ (b'{' | b'[') => {
                self.at += 1;
                self.members(number, open == b'{', depth)?;
                (if open == b'{' { Sort::Object } else { Sort::Array }, start as u32..self.at as u32)
            }
            _ => self.word()?,
        };
        let node = self.nodes.get_mut(number as usize)?;
        (node.sort, node.place) = (sort, place);
        Some(number)
    }

    fn members(&mut self, parent: u32, named: bool, depth: usize) -> Option<()> {
        let close = if named { b'}' } else { b']' };
        self.blanks();
        if self.eat(close).is_some() {
            return Some(());
        }
        let mut last = NONE;
        loop {
            self.blanks();
            let mut key = 0..0;
            if named {
                key = self.string()?.0;
                self.blanks();
                self.eat(b':')?;
                self.blanks();
            }
            let child = self.value(key, depth + 1)?;
            match last {
                NONE => self.nodes.get_mut(parent as usize)?.first = child,
                _ => self.nodes.get_mut(last as usize)?.next = child,
            }
            last = child;
            self.blanks();
            if self.eat(b',').is_none() {
                return self.eat(close);
            }
        }
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|t| t.len() == 4 && t.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, 16).ok()
}

/// What an escaped string stands for; half of a surrogate pair becomes U+FFFD.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some((&e, tail)) = rest.split_first() else { break };
        rest = tail;
        match e {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut code = rest.get(..4).and_then(hex).unwrap_or(0xfffd);
                rest = rest.get(4..).unwrap_or_default();
                let low = rest.strip_prefix(b"\\u").and_then(|r| r.get(..4)).and_then(hex).filter(|l| (0xdc00..0xe000).contains(l));
                if let (0xd800..0xdc00, Some(low)) = (code, low) {
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    rest = rest.get(6..).unwrap_or_default();
                }
                let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out
}

impl<'a> Tree<'a> {
    /// Takes a text apart that is one JSON object; `base` is where it begins in its line, if it does.
    pub fn read(text: &'a [u8], base: Option<usize>) -> Option<Self> {
        let mut nodes = Vec::new();
        let mut r = Reader { text, at: 0, nodes: &mut nodes };
        r.blanks();
        if r.peek() != b'{' {
            return None;
        }
        r.value(0..0, 0)?;
        r.blanks();
        (r.at == text.len()).then_some(Tree { text, base, nodes })
    }

    fn bytes(&self, place: &Range<u32>) -> &'a [u8] {
        self.text.get(place.start as usize..place.end as usize).unwrap_or_default()
    }

    fn children(&self, of: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.nodes.get(of as usize).map_or(NONE, |n| n.first);
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            Some(std::mem::replace(&mut next, node.next))
        })
    }

    /// What lies at `path` (`a.b.0.c`: members by name, elements by number) below `from`; 0 is the whole.
    pub fn find(&self, from: u32, path: &str) -> Option<u32> {
        let mut at = from;
        for part in path.split('.') {
            let node = self.nodes.get(at as usize)?;
            at = match node.sort {
                Sort::Object => {
                    self.children(at).find(|c| self.nodes.get(*c as usize).is_some_and(|n| self.bytes(&n.key) == part.as_bytes()))?
                }
                Sort::Array => self.children(at).nth(part.parse().ok()?)?,
                _ => return None,
            };
        }
        Some(at)
    }

    /// The elements of an array; anything else but null is a list of one.
    pub fn elements(&self, of: u32) -> Vec<u32> {
        match self.nodes.get(of as usize).map(|n| n.sort) {
            Some(Sort::Array) => self.children(of).collect(),
            None | Some(Sort::Null) => vec![],
            Some(_) => vec![of],
        }
    }

    /// A string, number, `true` or `false`.
    pub fn value(&self, of: u32) -> Option<Value<'a>> {
        let node = self.nodes.get(of as usize)?;
        let bytes = self.bytes(&node.place);
        match node.sort {
            Sort::Text | Sort::Word => Some(Value { bytes: bytes.into(), at: self.base.map(|b| b + node.place.start as usize) }),
            Sort::Escaped => Some(Value { bytes: unescape(bytes).into(), at: None }),
            Sort::Object | Sort::Array | Sort::Null => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str, path: &str) -> Option<String> {
        let tree = Tree::read(text.as_bytes(), Some(0))?;
        let value = tree.value(tree.find(0, path)?)?;
        if let Some(at) = value.at {
            assert_eq!(&text.as_bytes()[at..at + value.bytes.len()], &value.bytes[..]);
        }
        Some(String::from_utf8_lossy(&value.bytes).into_owned())
    }

    #[test]
    fn members_elements_and_escapes() {
        let text = r#" {"a": {"b":[1, {"c":"x\"y\u00e9\ud83d\ude00"}]}, "d":"\ud800x", "a":"second", "n":null, "t":true, "e":""} "#;
        assert_eq!(at(text, "a.b.0").as_deref(), Some("1"));
        assert_eq!(at(text, "a.b.1.c").as_deref(), Some("x\"yé😀"));
        assert_eq!(at(text, "d").as_deref(), Some("\u{fffd}x"));
        assert_eq!((at(text, "t").as_deref(), at(text, "e").as_deref()), (Some("true"), Some("")));
        assert_eq!((at(text, "n"), at(text, "a.b"), at(text, "a.x"), at(text, "a.b.9")), (None, None, None, None));
    }

    #[test]
    fn what_is_no_json_object() {
        for bad in [
            "",
            "[]",
            "{",
            "{}x",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":\"\n\"}",
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            "{\"a\":truth}",
        ] {
            assert!(Tree::read(bad.as_bytes(), Some(0)).is_none(), "{bad}");
        }
        let deep = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        assert!(Tree::read(deep.as_bytes(), Some(0)).is_none());
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_writes(text in "\\PC{0,40}", key in "[a-z]{1,5}") {
            let line = serde_json::json!({ key.clone(): [text.clone()] }).to_string();
            prop_assert_eq!(at(&line, &format!("{key}.0")), Some(text));
        }

        #[test]
        fn never_panics(text in "[{}\\[\\]\",:\\\\u0-9a ]{0,60}") {
            let line = format!("{{{text}");
            let _ = at(&line, "a.0");
        }
    }
}
