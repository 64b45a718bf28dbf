//! All personal data of a record: addresses, login names, client names and IPs, HELO names, subjects, in fields and
//! wherever else they stand in its lines.
//!
//! Kept are ids (queue ids, Message-IDs, envelope ids: records go on joining by them), the hosts a message went to,
//! statuses, replies, times. A loopback address, `unknown` and `localhost` are nobody's.
//!
//! A mask says what it stands for: `m-0123456789abcdef@0123456789ab.invalid` an address (the part behind the `@` is
//! the domain's own hash), `m-..` a login name or local user, `ip-..` an IP, `0123456789ab.invalid` a host's name,
//! `subject-..` a subject. With [`Masks::Numbers`] they say nothing; addresses of one message are told apart by numbers.

use super::{Edit, MaskKey, StoredRecord, in_order, rebuilt, rewrite};
use crate::model::event::{Event, Field};
use crate::model::record::Role;
use rustc_hash::FxHashMap;
use std::ops::Range;

/// How values are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masks {
    /// By keyed hash: one value has one mask in all records.
    Hashes,
    /// By numbers, anew in each record.
    Numbers,
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Address,
    Host,
    Ip,
    Subject,
}

impl What {
    fn of(field: Field) -> Option<What> {
        use Field::*;
        Some(match field {
            EnvelopeFrom | OriginalRecipient | FinalRecipient | Parent | RedirectedTo | NamedRecipient | Recipients | AuthUser => {
                What::Address
            }
            ClientName | Helo => What::Host,
            ClientIp => What::Ip,
            Subject => What::Subject,
            _ => return None,
        })
    }
}

/// Fields that stay as they are, whatever they look like.
fn is_kept(field: Field) -> bool {
    field.is_id() || matches!(field, Field::ResentMessageId | Field::Program | Field::RemoteMta | Field::RemoteIp | Field::Certifier)
}

/// Values that are nobody's.
fn is_nobody(value: &[u8]) -> bool {
    matches!(value, b"" | b"<>" | b"unknown" | b"localhost" | b"127.0.0.1" | b"::1") || value.starts_with(b"localhost.")
}

fn is_hex(text: &[u8], digits: usize) -> bool {
    text.len() == digits && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_masked_domain(text: &[u8]) -> bool {
    text.strip_suffix(b".invalid").is_some_and(|d| d == b"masked" || is_hex(d, 12))
}

/// Whether a value is a mask.
fn is_mask(value: &[u8]) -> bool {
    let named = |v: &[u8]| {
        let number = v.strip_prefix(b"masked-").is_some_and(|n| !n.is_empty() && n.len() < 8 && n.iter().all(u8::is_ascii_digit));
        number || v == b"masked" || v.strip_prefix(b"m-").is_some_and(|h| is_hex(h, 16))
    };
    if let Some(at) = memchr::memrchr(b'@', value) {
        let (local, domain) = (value.get(..at).unwrap_or_default(), value.get(at + 1..).unwrap_or_default());
        return named(local) && is_masked_domain(domain);
    }
    let other = |v: &[u8]| v == b"masked" || is_hex(v, 16);
    named(value)
        || is_masked_domain(value)
        || value.strip_prefix(b"ip-").is_some_and(other)
        || value.strip_prefix(b"subject-").is_some_and(other)
}

fn is_local(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b >= 0x80 || b"._-+!#$%&*^`{|}~?/='".contains(&b)
}

fn is_domain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b >= 0x80 || b"-._".contains(&b)
}

/// What looks like an address in a text.
fn addresses(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    memchr::memchr_iter(b'@', text).filter_map(|at| {
        let (before, after) = (text.get(..at)?, text.get(at + 1..)?);
        let start = at - before.iter().rev().take_while(|b| is_local(**b)).count();
        let mut end = at + 1 + after.iter().take_while(|b| is_domain(**b)).count();
        while end > at + 1 && text.get(end - 1) == Some(&b'.') {
            end -= 1;
        }
        // What stands before it without a space (`key=`, a tag) goes with it.
        (start < at && end > at + 1).then_some(start..end)
    })
}

/// A piece of text that is personal.
type Piece = (Range<usize>, What);

/// The personal pieces of an event that are no masks yet. `values` are looked for besides.
fn pieces(event: &Event, values: &[(Vec<u8>, What)]) -> Vec<Piece> {
    let text = event.whole();
    let mut found: Vec<Piece> = Vec::new();
    let mut kept: Vec<Range<usize>> = Vec::new();
    for s in event.spans() {
        let at = s.start as usize..s.start as usize + s.len as usize;
        let Some(value) = text.get(at.clone()) else { continue };
        match What::of(s.field) {
            None if is_kept(s.field) => kept.push(at),
            None => {}
            Some(_) if s.field == Field::Recipients => list(value, at.start, &mut found),
            Some(_) if is_nobody(value) || is_mask(value) => kept.push(at),
            Some(what) => found.push((at, what)),
        }
    }
    let fields = found.len();
    let free = |at: &Range<usize>, found: &[Piece]| {
        let apart = |other: &Range<usize>| other.end <= at.start || at.end <= other.start;
        kept.iter().all(apart) && found.iter().take(fields).all(|(other, _)| apart(other))
    };
    let border = event.line().len();
    for (base, part) in [(0, event.line()), (border, text.get(border..).unwrap_or_default())] {
        for at in addresses(part) {
            let at = base + at.start..base + at.end;
            let value = text.get(at.clone()).unwrap_or_default();
            if !is_mask(value) && free(&at, &found) {
                found.push((at, What::Address));
            }
        }
        for (value, what) in values {
            for start in memchr::memmem::find_iter(part, value) {
                let at = base + start..base + start + value.len();
                let joined = |n: Option<usize>| n.and_then(|n| text.get(n)).is_some_and(|b| b.is_ascii_alphanumeric());
                if !joined(at.start.checked_sub(1)) && !joined(Some(at.end)) && free(&at, &found) {
                    found.push((at, *what));
                }
            }
        }
    }
    found
}

/// The members of a list of recipients as written.
fn list(value: &[u8], base: usize, found: &mut Vec<Piece>) {
    let apart = |b: &u8| b", <>;\t".contains(b);
    let mut start = 0;
    while start < value.len() {
        let rest = value.get(start..).unwrap_or_default();
        let len = rest.iter().position(apart).unwrap_or(rest.len());
        let one = rest.get(..len).unwrap_or_default();
        if len > 0 && !is_mask(one) && !is_nobody(one) {
            found.push((base + start..base + start + len, What::Address));
        }
        start += len + 1;
    }
}

/// The personal part of a reject's queue id, which is made of its second and client.
fn whom(stored: &StoredRecord) -> Option<(&str, &str)> {
    let (second, whom) = stored.slot.queue_id.split_once('/').filter(|_| stored.role == Role::Reject)?;
    let value = whom.as_bytes();
    (!is_nobody(value) && !is_mask(value)).then_some((second, whom))
}

/// Whether a record holds personal data that is not masked.
pub fn is_plain(stored: &StoredRecord) -> bool {
    // Nearly every record names its client first.
    let at_once = |(f, v): (Field, &[u8])| f != Field::Recipients && What::of(f).is_some() && !is_nobody(v) && !is_mask(v);
    stored.events().next().is_some_and(|e| e.fields().any(at_once))
        || whom(stored).is_some()
        || stored.events().any(|e| !pieces(&e, &[]).is_empty())
}

/// Names of values within one record.
struct Namer<'k> {
    key: &'k MaskKey,
    masks: Masks,
    numbers: FxHashMap<Vec<u8>, u64>,
    last: u64,
}

impl Namer<'_> {
    fn name(&mut self, value: &[u8], what: What) -> Vec<u8> {
        let domain = memchr::memrchr(b'@', value).and_then(|at| value.get(at + 1..));
        let hash = |v: &[u8], digits| self.key.hash(v, digits);
        let text = match (self.masks, what, domain) {
            (Masks::Hashes, What::Address, Some(domain)) => format!("m-{}@{}.invalid", hash(value, 16), hash(domain, 12)),
            (Masks::Hashes, What::Address, None) => format!("m-{}", hash(value, 16)),
            (Masks::Hashes, What::Host, _) => format!("{}.invalid", hash(value, 12)),
            (Masks::Hashes, What::Ip, _) => format!("ip-{}", hash(value, 16)),
            (Masks::Hashes, What::Subject, _) => format!("subject-{}", hash(value, 16)),
            (Masks::Numbers, What::Address, domain) => {
                let next = self.last + 1;
                let number = *self.numbers.entry(value.to_ascii_lowercase()).or_insert(next);
                self.last = self.last.max(number);
                format!("masked-{number}{}", if domain.is_some() { "@masked.invalid" } else { "" })
            }
            (Masks::Numbers, What::Host, _) => "masked.invalid".into(),
            (Masks::Numbers, What::Ip, _) => "ip-masked".into(),
            (Masks::Numbers, What::Subject, _) => "subject-masked".into(),
        };
        text.into_bytes()
    }
}

/// The highest number that a mask of these events bears.
fn last_number(events: &[u8]) -> u64 {
    let number = |at: usize| {
        let digits = events.get(at + 7..)?.iter().take(7).take_while(|b| b.is_ascii_digit());
        Some(digits.fold(0, |n, b| n * 10 + u64::from(b - b'0')))
    };
    memchr::memmem::find_iter(events, b"masked-").filter_map(number).max().unwrap_or(0)
}

/// A record without personal data; `None` when it holds none.
pub fn anonymized(stored: &StoredRecord, key: &MaskKey, masks: Masks) -> Option<StoredRecord> {
    if !is_plain(stored) {
        return None;
    }
    // What a field says is masked elsewhere in the record's lines, too; addresses are found there by their looks.
    let mut values: Vec<(Vec<u8>, What)> = Vec::new();
    for event in stored.events() {
        for (at, what) in pieces(&event, &[]) {
            let value = event.whole().get(at).unwrap_or_default();
            let telling = what == What::Ip || (what != What::Address && value.len() > 3);
            if telling && values.len() < 64 && !values.iter().any(|(v, _)| v == value) {
                values.push((value.to_vec(), what));
            }
        }
    }
    let mut namer = Namer { key, masks, numbers: FxHashMap::default(), last: last_number(&stored.events) };
    let mut events = Vec::with_capacity(stored.events.len());
    for event in stored.events() {
        let mut found = pieces(&event, &values);
        found.sort_by_key(|(at, _)| at.start);
        let edit = |(at, what): Piece| Edit { with: namer.name(event.whole().get(at.clone()).unwrap_or_default(), what), at };
        let edits = found.into_iter().map(edit).collect();
        rewrite(&mut events, &event, &in_order(edits));
    }
    // Always by hash: two rejects of one second must not become one.
    let queue_id = whom(stored).map(|(second, whom)| {
        let sort = if whom.contains('@') { "m" } else { "ip" };
        format!("{second}/{sort}-{}", key.hash(whom.as_bytes(), 16))
    });
    Some(rebuilt(stored, &events, queue_id))
}
