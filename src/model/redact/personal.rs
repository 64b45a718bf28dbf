//! All personal data of a record: addresses, login names, client names and IPs, HELO names, subjects, in fields and
//! wherever else they stand in its lines. Where a line tells of a message's coming, every host that stands there with
//! its IP, and every IP, is taken for a client.
//!
//! Kept are ids (queue ids, Message-IDs, envelope ids: records go on joining by them), the hosts a message went to,
//! statuses, replies, times. A loopback address, `unknown` and `localhost` are nobody's, nor are the mail hosts that the
//! caller names: by them, too, records join.
//!
//! A mask says what it stands for: `m-0123456789abcdef@0123456789ab.invalid` an address (the part behind the `@` is
//! the domain's own hash), `m-..` a login name or local user, `ip-..` an IP, `0123456789ab.invalid` a host's name,
//! `subject-..` a subject. With [`Masks::Numbers`] they say nothing; addresses of one message are told apart by numbers.

use super::{Edit, MaskKey, StoredRecord, in_order, rebuilt, rewrite};
use crate::model::event::{Event, Field, Kind};
use crate::model::record::Role;
use rustc_hash::FxHashMap;
use std::net::IpAddr;
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
        let quote = before.strip_suffix(b"\"").and_then(|b| memchr::memrchr(b'"', b));
        let start = quote.unwrap_or(at - before.iter().rev().take_while(|b| is_local(**b)).count());
        let mut end = at + 1 + after.iter().take_while(|b| is_domain(**b)).count();
        while end > at + 1 && text.get(end - 1) == Some(&b'.') {
            end -= 1;
        }
        // What stands before it without a space (`key=`, a tag) goes with it.
        (start < at && end > at + 1).then_some(start..end)
    })
}

/// Hosts and their addresses as MTAs write them, `name[192.0.2.7]`, and bare IPv4 addresses.
fn hosts(text: &[u8], found: &mut Vec<Piece>) {
    let mut start = 0;
    while start < text.len() {
        let rest = text.get(start..).unwrap_or_default();
        if rest.starts_with(b"6:") && text.get(..start).is_some_and(|t| t.ends_with(b"IPv")) {
            start += 2;
            continue;
        }
        let len = rest.iter().take_while(|b| b.is_ascii_hexdigit() || b":.".contains(b)).count();
        let end = start + len;
        let value = rest.get(..len).unwrap_or_default();
        let before = start.checked_sub(1).and_then(|n| text.get(n));
        let apart = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric() && !b"-_".contains(b));
        let ip = |v: &[u8]| {
            std::str::from_utf8(v)
                .is_ok_and(|t| t.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() || before == Some(&b'[') || before == Some(&b':')))
        };
        let trimmed = value.strip_suffix(b".").unwrap_or(value);
        if trimmed.len() > 6 && apart(before.filter(|b| **b != b':')) && apart(text.get(end)) && ip(trimmed) && !is_nobody(trimmed) {
            found.push((start..start + trimmed.len(), What::Ip));
            let name = text.get(..start.saturating_sub(1)).filter(|_| before == Some(&b'[')).unwrap_or_default();
            let from = name.len() - name.iter().rev().take_while(|b| is_domain(**b)).count();
            let host = name.get(from..).unwrap_or_default();
            if !host.is_empty() && !is_nobody(host) && !is_mask(host) {
                found.push((from..name.len(), What::Host));
            }
        }
        start = end.max(start + 1);
    }
}

/// A piece of text that is personal.
type Piece = (Range<usize>, What);

/// Says whether a name or IP is a mail host's, not a person's.
pub type IsHost<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// The personal pieces of an event that are no masks yet. `values` are looked for besides.
fn pieces(event: &Event, values: &[(Vec<u8>, What)], is_host: IsHost) -> Vec<Piece> {
    let mut found = candidates(event, values);
    let whole = event.whole();
    let kept = |at: &Range<usize>| whole.get(at.clone()).and_then(|v| std::str::from_utf8(v).ok()).is_some_and(is_host);
    found.retain(|(at, what)| !matches!(what, What::Host | What::Ip) || !kept(at));
    found
}

fn candidates(event: &Event, values: &[(Vec<u8>, What)]) -> Vec<Piece> {
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
        if matches!(event.head.kind, Kind::Arrival | Kind::Queued | Kind::Reject | Kind::Witness) {
            let mut named = Vec::new();
            hosts(part, &mut named);
            let shifted = named.into_iter().map(|(at, what)| (base + at.start..base + at.end, what));
            let shifted: Vec<Piece> = shifted.filter(|(at, _)| free(at, &found)).collect();
            found.extend(shifted);
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

/// The members of a list of recipients as written; local parts may be in quotes.
fn list(value: &[u8], base: usize, found: &mut Vec<Piece>) {
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for end in 0..=value.len() {
        let b = value.get(end).copied().unwrap_or(b',');
        let apart = b", <>;\t".contains(&b) && (!quoted || end == value.len());
        if apart {
            let one = value.get(start..end).unwrap_or_default();
            if !is_mask(one) && !is_nobody(one) {
                found.push((base + start..base + end, What::Address));
            }
            start = end + 1;
        }
        quoted ^= b == b'"' && !escaped;
        escaped = quoted && b == b'\\' && !escaped;
    }
}

/// An address as all its forms compare: in lower case, without needless quotes.
fn folded(value: &[u8]) -> Vec<u8> {
    let lower = value.to_ascii_lowercase();
    let (local, domain) = match memchr::memrchr(b'@', &lower) {
        Some(at) => lower.split_at_checked(at).unwrap_or((&lower, &[])),
        None => (lower.as_slice(), &[][..]),
    };
    match local.strip_prefix(b"\"").and_then(|l| l.strip_suffix(b"\"")) {
        Some(bare) => bare.iter().filter(|b| **b != b'\\').chain(domain).copied().collect(),
        None => lower,
    }
}

/// The personal part of a reject's queue id, which is made of its second and client.
fn whom<'r>(stored: &'r StoredRecord, is_host: IsHost) -> Option<(&'r str, &'r str)> {
    let (second, whom) = stored.slot.queue_id.split_once('/').filter(|_| stored.role == Role::Reject)?;
    let value = whom.as_bytes();
    (!is_nobody(value) && !is_mask(value) && !is_host(whom)).then_some((second, whom))
}

/// Whether a record holds personal data that is not masked.
pub fn is_plain(stored: &StoredRecord, is_host: IsHost) -> bool {
    whom(stored, is_host).is_some() || stored.events().any(|e| !pieces(&e, &[], is_host).is_empty())
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
        let address = if what == What::Address { folded(value) } else { Vec::new() };
        let value = if what == What::Address { address.as_slice() } else { value };
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
pub fn anonymized(stored: &StoredRecord, key: &MaskKey, masks: Masks, is_host: IsHost) -> Option<StoredRecord> {
    if !is_plain(stored, is_host) {
        return None;
    }
    // What a field says is masked elsewhere in the record's lines, too; addresses are found there by their looks.
    let mut values: Vec<(Vec<u8>, What)> = Vec::new();
    for event in stored.events() {
        for (at, what) in pieces(&event, &[], is_host) {
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
        let mut found = pieces(&event, &values, is_host);
        found.sort_by_key(|(at, _)| at.start);
        let edit = |(at, what): Piece| Edit { with: namer.name(event.whole().get(at.clone()).unwrap_or_default(), what), at };
        let edits = found.into_iter().map(edit).collect();
        rewrite(&mut events, &event, &in_order(edits));
    }
    // Always by hash: two rejects of one second must not become one.
    let queue_id = whom(stored, is_host).map(|(second, whom)| {
        let sort = if whom.contains('@') { "m" } else { "ip" };
        format!("{second}/{sort}-{}", key.hash(whom.as_bytes(), 16))
    });
    Some(rebuilt(stored, &events, queue_id))
}
