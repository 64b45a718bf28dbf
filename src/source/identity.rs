//! Which bytes were read before, whatever the file is called now and however it is compressed.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::open::Compression;
use super::{HEAD_LEN, Opened, SourceError};

/// Bytes kept while reading along, to find where an unfinished last line begins.
const TAIL_LEN: usize = 64 * 1024;

/// A 128-bit xxh3 hash; 32 hexadecimal digits in JSON. Finds files again; it is no protection
/// against somebody who makes files collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash128(pub u128);

impl fmt::Display for Hash128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Hash128 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash128 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        u128::from_str_radix(&text, 16).map(Hash128).map_err(de::Error::custom)
    }
}

/// How much of a file was read, and how to know these bytes again. Lengths and hashes are over
/// decompressed bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileState {
    /// Where it was read; for people, not part of the identity. An array of bytes in JSON if it is
    /// not UTF-8.
    #[serde(with = "path_bytes")]
    pub path: PathBuf,
    /// Device when it was opened.
    pub dev: u64,
    /// Inode when it was opened.
    pub ino: u64,
    /// Bytes on disk when it was opened.
    pub size: u64,
    /// Time of last change when it was opened, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// `min(length, 64 KiB)`.
    pub head_len: u64,
    /// Of the first `head_len` bytes.
    pub head_hash: Hash128,
    /// Bytes consumed: up to the end of the last whole line.
    pub length: u64,
    /// Of the first `length` bytes.
    pub hash: Hash128,
    /// Read to its end without an error.
    pub complete: bool,
    /// Lines among the first `length` bytes.
    pub lines: u64,
    /// Of a live file, or one that was truncated: where its latest lines ended. A copy made before it is truncated may end
    /// at any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// The caller's own (say, open sessions); [`super::Blocks::state`] leaves it null.
    #[serde(default)]
    pub extra: serde_json::Value,
}

/// The end of a line: length of the file up to there, lines in that, hash of that.
pub type End = (u64, u64, Hash128);

mod path_bytes {
    use super::*;

    pub fn serialize<S: Serializer>(path: &Path, s: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => s.serialize_str(text),
            None => s.collect_seq(path.as_os_str().as_bytes()),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<PathBuf, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = PathBuf;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path as a string or as an array of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PathBuf, E> {
                Ok(PathBuf::from(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PathBuf, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(PathBuf::from(OsString::from_vec(bytes)))
            }
        }
        d.deserialize_any(Either)
    }
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recall<'a> {
    /// Nothing: read it from its start.
    New,
    /// It is the very file that was read to its end, and was not touched since: skip it. Found
    /// without reading it.
    Unchanged(&'a FileState),
    /// It begins with all bytes of this state (verified). [`super::Blocks`] goes on behind them;
    /// if nothing new follows, it ends at once.
    Prefix(&'a FileState),
}

/// Where [`super::Blocks`] goes on after a recall.
pub(super) struct Resume {
    pub offset: u64,
    pub lines: u64,
    pub hasher: Box<Xxh3>,
}

/// The states of earlier runs (and of files already read in this one), ready to be looked up.
#[derive(Debug, Default)]
pub struct Known {
    states: Vec<FileState>,
    by_stat: HashMap<(u64, u64, u64, i64), usize>,
    by_head: HashMap<(u64, Hash128), Vec<usize>>,
    head_lens: BTreeSet<u64>,
}

impl Known {
    /// In any order. States of one file at several times are fine: the longest that verifies wins.
    pub fn new(states: Vec<FileState>) -> Known {
        let mut known = Known::default();
        states.into_iter().for_each(|s| known.push(s));
        known
    }

    /// Adds one, for the files that follow.
    pub fn push(&mut self, mut state: FileState) {
        for (length, lines, hash) in std::mem::take(&mut state.ends) {
            let (head_len, head_hash) = if length < HEAD_LEN as u64 { (length, hash) } else { (state.head_len, state.head_hash) };
            self.push(FileState { head_len, head_hash, length, lines, hash, complete: false, ..state.clone() });
        }
        let at = self.states.len();
        if state.complete {
            self.by_stat.insert((state.dev, state.ino, state.size, state.mtime_ns), at);
        }
        if state.length > 0 {
            self.by_head.entry((state.head_len, state.head_hash)).or_default().push(at);
            self.head_lens.insert(state.head_len);
        }
        self.states.push(state);
    }

    /// All of them, as added.
    pub fn states(&self) -> &[FileState] {
        &self.states
    }

    /// Looks a file up. Reads nothing if it is unchanged, its head if no known file begins like it,
    /// and else as far as the longest candidate goes; never buffers more than 64 KiB of it. Streams are always new.
    ///
    /// # Errors
    /// As [`Opened::head`].
    pub fn recall(&self, opened: &mut Opened) -> Result<Recall<'_>, SourceError> {
        self.recall_if(opened, &|_| true)
    }

    /// As [`Known::recall`], with only those states that `may` lets pass (the unchanged file always does).
    pub(super) fn recall_if(&self, opened: &mut Opened, may: &dyn Fn(&FileState) -> bool) -> Result<Recall<'_>, SourceError> {
        if !opened.regular {
            return Ok(Recall::New);
        }
        let meta = opened.meta;
        let same = self.by_stat.get(&(meta.dev, meta.ino, meta.size, meta.mtime_ns));
        if let Some(state) = same.and_then(|i| self.states.get(*i)) {
            return Ok(Recall::Unchanged(state));
        }
        let plain = opened.compression()? == Compression::Plain;
        let mut candidates = self.candidates(opened.head()?);
        candidates.retain(|c| may(c));
        if plain {
            candidates.retain(|c| c.length <= meta.size);
        }
        if candidates.is_empty() {
            return Ok(Recall::New);
        }
        Ok(verify(opened, &candidates)?.map_or(Recall::New, Recall::Prefix))
    }

    /// Those whose head is this file's, shortest first.
    fn candidates(&self, head: &[u8]) -> Vec<&FileState> {
        let mut found: Vec<&FileState> = Vec::new();
        for len in &self.head_lens {
            let Some(front) = usize::try_from(*len).ok().and_then(|l| head.get(..l)) else {
                break;
            };
            let at = self.by_head.get(&(*len, Hash128(xxh3_128(front))));
            found.extend(at.into_iter().flatten().filter_map(|i| self.states.get(*i)));
        }
        found.sort_by_key(|s| s.length);
        found
    }
}

/// Reads along, hashing, and keeps the last [`TAIL_LEN`] bytes.
struct Along {
    hasher: Box<Xxh3>,
    at: u64,
    tail: Vec<u8>,
    buf: Vec<u8>,
}

impl Along {
    fn new() -> Along {
        Along { hasher: Box::default(), at: 0, tail: Vec::new(), buf: Vec::new() }
    }

    /// Goes to an offset; `false` if the file ends, or is damaged, before it.
    fn go_to(&mut self, opened: &mut Opened, offset: u64) -> bool {
        self.buf.resize(4 * TAIL_LEN, 0);
        while self.at < offset {
            let want = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(self.buf.len());
            let Some((bytes, buf)) = opened.bytes.as_mut().zip(self.buf.get_mut(..want)) else {
                return false;
            };
            let (got, _) = bytes.read_full(buf);
            let got = buf.get(..got).unwrap_or_default();
            self.hasher.update(got);
            self.at += got.len() as u64;
            self.tail.extend_from_slice(got);
            self.tail.drain(..self.tail.len().saturating_sub(TAIL_LEN));
            if got.len() < want {
                return false;
            }
        }
        true
    }

    fn resume(&self, lines: u64) -> Resume {
        Resume { offset: self.at, lines, hasher: self.hasher.clone() }
    }
}

/// The longest candidate whose bytes the file begins with; leaves `opened` behind them, or at its
/// start if there is none.
fn verify<'a>(opened: &mut Opened, candidates: &[&'a FileState]) -> Result<Option<&'a FileState>, SourceError> {
    let mut along = Along::new();
    let mut best: Option<(&FileState, Resume)> = None;
    for candidate in candidates {
        if !along.go_to(opened, candidate.length) {
            break;
        }
        if Hash128(along.hasher.digest128()) == candidate.hash {
            best = Some((candidate, along.resume(candidate.lines)));
        }
    }
    let Some((state, resume)) = best else {
        opened.restart()?;
        return Ok(None);
    };
    // Candidates longer than the best one may have been tried in vain: go back to it.
    if along.at != state.length {
        opened.restart()?;
        along = Along::new();
        if !along.go_to(opened, state.length) || Hash128(along.hasher.digest128()) != state.hash {
            opened.restart()?; // changed under our eyes
            return Ok(None);
        }
    }
    opened.resume = Some(resume);
    // A compressed file's last line counts without a newline. Should it go on here, it is read anew.
    let broken = along.tail.last().is_some_and(|b| *b != b'\n');
    if broken && !opened.bytes.as_mut().is_some_and(|b| b.at_end()) {
        let whole = memchr::memrchr(b'\n', &along.tail).map_or(0, |n| n + 1);
        let start = state.length - (along.tail.len() - whole) as u64;
        if whole > 0 || start == 0 {
            opened.restart()?;
            along = Along::new();
            if !along.go_to(opened, start) {
                opened.restart()?;
                return Ok(None);
            }
            opened.resume = Some(along.resume(state.lines.saturating_sub(1)));
        }
    }
    Ok(Some(state))
}
