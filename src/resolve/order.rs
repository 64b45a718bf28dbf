//! What needs to see the lines of one source one after the other: equal lines of one second, entries
//! that syslog split, and `last message repeated`.
//!
//! Each part can be stored. What is stored is bounded: [`Order::recent`] copies what lines that follow at
//! once may need, newest first, up to a bound of bytes.

use super::sessions::Sessions;
use super::sheet::Sheet;
use crate::model::line::Fragment;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;

/// What one stream of lines was seen to say, as far as later lines need it. It goes on from a file to its rotated successor.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Order {
    /// Equal events of one second.
    pub ordinals: Ordinals,
    /// Entries in the making.
    pub fragments: Fragments,
    /// Open sessions and deliveries.
    pub sessions: Sessions,
    /// What `last message repeated` speaks of.
    pub latest: LatestLines,
    /// The table that rows belong to.
    pub sheet: Sheet,
}

impl Order {
    /// A bounded copy, to be stored.
    pub fn recent(&self) -> Order {
        Order {
            ordinals: self.ordinals.recent(),
            fragments: self.fragments.recent(),
            latest: self.latest.recent(),
            sessions: self.sessions.recent(),
            sheet: self.sheet.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    ordinal: u32,
    second: i64,
    /// Number of the latest such event.
    at: u64,
}

/// Counts equal events of one second in one source (R1): two equal rejects are two, the copy of a log is none.
///
/// Remembers the latest [`Ordinals::KEEP`] to twice as many distinct events; equal lines of one second lie close together.
/// As JSON it is one string.
#[derive(Debug, Clone, Default)]
pub struct Ordinals {
    young: FxHashMap<u64, Seen>,
    old: FxHashMap<u64, Seen>,
    /// Events counted so far.
    count: u64,
    /// Seconds of the latest events.
    seconds: VecDeque<i64>,
}

impl Ordinals {
    /// Distinct events of one generation.
    pub const KEEP: usize = 16_384;
    /// Distinct events that are stored at most.
    pub const STORED: usize = 400;
    /// Changes of second that are remembered; clocks of several hosts differ, so there is more than one second at a time.
    const SECONDS: usize = 32;
    /// Seconds around one of those in which equal lines may still come.
    const NEAR: i64 = 5;

    /// How many equal ones came before this one. `second` is that of the event, as written.
    pub fn next(&mut self, identity: u64, second: i64) -> u32 {
        self.count += 1;
        if self.seconds.back() != Some(&second) {
            if self.seconds.len() >= Self::SECONDS {
                self.seconds.pop_front();
            }
            self.seconds.push_back(second);
        }
        let at = self.count;
        if let Some(seen) = self.young.get_mut(&identity) {
            *seen = Seen { ordinal: seen.ordinal.saturating_add(1), second, at };
            return seen.ordinal;
        }
        let ordinal = self.old.get(&identity).map_or(0, |s| s.ordinal.saturating_add(1));
        if self.young.len() >= Self::KEEP {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert(identity, Seen { ordinal, second, at });
        ordinal
    }

    fn recent(&self) -> Ordinals {
        let near = |s: &Seen| self.seconds.iter().any(|n| (n - s.second).abs() <= Self::NEAR);
        let older = self.old.iter().filter(|(id, _)| !self.young.contains_key(*id));
        let mut all: Vec<(u64, Seen)> = self.young.iter().chain(older).filter(|(_, s)| near(s)).map(|(id, s)| (*id, *s)).collect();
        all.sort_unstable_by_key(|(_, s)| std::cmp::Reverse(s.at));
        all.truncate(Self::STORED);
        Ordinals { young: all.into_iter().collect(), old: FxHashMap::default(), count: self.count, seconds: self.seconds.clone() }
    }
}

/// Bytes of one stored event: its identity and its ordinal.
const ENTRY: usize = 8 + 4;

impl Serialize for Ordinals {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut all: Vec<(&u64, &Seen)> = self.young.iter().chain(&self.old).collect();
        all.sort_unstable_by_key(|(_, s)| s.at);
        let mut bytes = self.seconds.back().copied().unwrap_or_default().to_le_bytes().to_vec();
        for (id, seen) in all {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&seen.ordinal.to_le_bytes());
        }
        s.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Ordinals {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes = unpack::<D>(&String::deserialize(d)?)?;
        let mut out = Ordinals::default();
        let Some((second, entries)) = bytes.split_first_chunk::<8>() else { return Ok(out) };
        let second = i64::from_le_bytes(*second);
        out.seconds.push_back(second);
        for entry in entries.chunks_exact(ENTRY) {
            let Some((id, rest)) = entry.split_first_chunk::<8>() else { break };
            let Some((ordinal, _)) = rest.split_first_chunk::<4>() else { break };
            out.count += 1;
            out.young.insert(u64::from_le_bytes(*id), Seen { ordinal: u32::from_le_bytes(*ordinal), second, at: out.count });
        }
        Ok(out)
    }
}

fn unpack<'de, D: Deserializer<'de>>(text: &str) -> Result<Vec<u8>, D::Error> {
    STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom)
}

/// Bytes as base64 in JSON: log lines are no UTF-8.
pub(super) mod packed {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        unpack::<D>(&String::deserialize(d)?)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Open {
    #[serde(with = "packed")]
    who: Vec<u8>,
    /// The latest part.
    last: u32,
    #[serde(with = "packed")]
    whole: Vec<u8>,
}

/// Joins the parts of an entry that was too long for one syslog message (Exim: `[1/3]`, `[2/3]`, ...).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fragments {
    /// The one that grew latest is the last.
    open: VecDeque<Open>,
}

impl Fragments {
    /// Entries in the making at once; beyond that the one that waits longest is given up (R6). The parts of one
    /// entry are written at once, so there are hardly ever several.
    const MAX: usize = 64;
    /// The longest entry, bytes.
    const MAX_ENTRY: usize = 64 * 1024;
    /// Bytes of entries that are stored at most.
    const STORED: usize = 16 * 1024;

    /// Takes a part. Returns the whole first line of the entry, with the frame of its first part, when it is complete.
    ///
    /// `line` is the whole line of this part; `who` tells entries apart (host, program, pid).
    pub fn push(&mut self, who: Vec<u8>, fragment: Fragment, line: &[u8], message: usize) -> Option<Vec<u8>> {
        let text = line.get(fragment.text..)?;
        let before = self.open.iter().position(|o| o.who == who).and_then(|at| self.open.remove(at));
        let mut entry = if fragment.part == 1 { Open { who, last: 0, whole: line.get(..message)?.to_vec() } } else { before? };
        if entry.last + 1 != fragment.part || entry.whole.len() + text.len() > Self::MAX_ENTRY {
            return None;
        }
        entry.last = fragment.part;
        entry.whole.extend_from_slice(text);
        // Cut at a newline: the line is whole; what follows (a dump of headers) is no log line.
        if fragment.part > 1 && !fragment.continues {
            return Some(entry.whole);
        }
        if self.open.len() >= Self::MAX {
            self.open.pop_front();
        }
        self.open.push_back(entry);
        None
    }

    fn recent(&self) -> Fragments {
        let mut room = Self::STORED;
        let mut open: VecDeque<Open> = VecDeque::new();
        for entry in self.open.iter().rev() {
            let Some(left) = room.checked_sub(entry.who.len() + entry.whole.len()) else { break };
            room = left;
            open.push_front(entry.clone());
        }
        Fragments { open }
    }
}

#[derive(Debug, Clone)]
struct LatestLine {
    /// Where it begins in the stream, bytes from where this reading began.
    at: i64,
    line: Vec<u8>,
}

/// The latest line of each host, for `last message repeated N times` at the start of a block or file.
#[derive(Debug, Clone, Default)]
pub struct LatestLines {
    by_host: FxHashMap<Vec<u8>, LatestLine>,
    /// Bytes seen so far.
    at: i64,
    /// Where lines out of reach were last forgotten.
    swept: i64,
}

impl LatestLines {
    /// How far back the line is looked for that is meant, bytes. At most so many bytes of lines are held, twice.
    pub const REACH: usize = 64 * 1024;
    /// Bytes of lines that are stored at most.
    const STORED: usize = 4 * 1024;

    /// A line of `host` that begins `offset` bytes into the block that is being read.
    pub fn see(&mut self, host: &[u8], offset: usize, line: &[u8]) {
        let at = self.at + offset as i64;
        match self.by_host.get_mut(host) {
            Some(known) => {
                known.at = at;
                known.line.clear();
                known.line.extend_from_slice(line);
            }
            None => {
                self.by_host.insert(host.to_vec(), LatestLine { at, line: line.to_vec() });
            }
        }
    }

    /// The block is over; it has so many bytes.
    pub fn advance(&mut self, bytes: usize) {
        self.at += bytes as i64;
        if self.at - self.swept > Self::REACH as i64 {
            let from = self.at - Self::REACH as i64;
            self.by_host.retain(|_, l| l.at >= from);
            self.swept = self.at;
        }
    }

    /// The latest line of `host` before the block that is being read, if it is within reach of `offset` bytes into it.
    pub fn of(&self, host: &[u8], offset: usize) -> Option<&[u8]> {
        let from = self.at + offset as i64 - Self::REACH as i64;
        self.by_host.get(host).filter(|l| l.at >= from).map(|l| l.line.as_slice())
    }

    fn recent(&self) -> LatestLines {
        let mut all: Vec<(&Vec<u8>, &LatestLine)> = self.by_host.iter().collect();
        all.sort_unstable_by_key(|(_, l)| std::cmp::Reverse(l.at));
        let mut room = Self::STORED;
        let mut out = LatestLines { at: self.at, swept: self.swept, ..LatestLines::default() };
        for (host, latest) in all {
            let Some(left) = room.checked_sub(host.len() + latest.line.len()) else { break };
            room = left;
            out.by_host.insert(host.clone(), latest.clone());
        }
        out
    }
}

#[derive(Serialize, Deserialize)]
struct StoredLine {
    #[serde(with = "packed")]
    host: Vec<u8>,
    /// Bytes before the end of what was read.
    before: i64,
    #[serde(with = "packed")]
    line: Vec<u8>,
}

impl Serialize for LatestLines {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let stored = |(host, l): (&Vec<u8>, &LatestLine)| StoredLine { host: host.clone(), before: self.at - l.at, line: l.line.clone() };
        s.collect_seq(self.by_host.iter().map(stored))
    }
}

impl<'de> Deserialize<'de> for LatestLines {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let stored = Vec::<StoredLine>::deserialize(d)?;
        let by_host = stored.into_iter().map(|s| (s.host, LatestLine { at: s.before.saturating_neg(), line: s.line }));
        Ok(LatestLines { by_host: by_host.collect(), at: 0, swept: 0 })
    }
}

#[cfg(test)]
mod tests;
