//! Lines that name a session or delivery number instead of the message: `delivery 17: success` of qmail, an SMTP
//! session of OpenSMTPD, the three lines that Courier writes of one attempt.
//!
//! Nothing here knows an MTA: the parser file says which lines open a session, which fields name it and which are
//! kept for later lines (`[session]` in `parsers/README.md`). What is open is part of a source's state and travels
//! in the commit (R2), so that a stop between two lines of a session parts nothing.

use crate::model::event::Field;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is known of one session.
pub type Kept = Vec<(Field, Vec<u8>)>;

/// The open sessions of one source.
///
/// Holds the latest [`Sessions::KEEP`] to twice as many that were spoken of; older ones are forgotten (R6).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sessions {
    young: FxHashMap<Vec<u8>, Open>,
    old: FxHashMap<Vec<u8>, Open>,
    /// Lines so far.
    count: u64,
}

/// What is known of a session, and the number of the latest line that spoke of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    kept: Kept,
    at: u64,
}

impl Sessions {
    /// Sessions of one generation.
    pub const KEEP: usize = 8_192;
    /// The longest value kept, bytes; the rest is cut.
    pub const MAX_VALUE: usize = 1_024;
    /// The longest key, bytes; a session with a longer one is not kept.
    pub const MAX_KEY: usize = 1_024;
    /// Bytes of keys and values that are stored at most.
    pub const STORED: usize = 64 * 1024;

    /// Begins a session: what was known under its key is forgotten.
    pub fn open(&mut self, key: Vec<u8>, fields: Kept) {
        self.old.remove(&key);
        self.young.remove(&key);
        self.put(key, fields);
    }

    /// Tells more of a session. A second text of one field is appended behind a space, unless it is there already.
    pub fn add(&mut self, key: Vec<u8>, fields: Kept) {
        let mut kept = self.take(&key).unwrap_or_default();
        for (field, value) in fields {
            match kept.iter_mut().find(|(f, _)| *f == field) {
                Some((_, known)) if known.ends_with(&value) => {}
                Some((_, known)) => {
                    known.push(b' ');
                    known.extend_from_slice(&value);
                }
                None => kept.push((field, value)),
            }
        }
        self.put(key, kept);
    }

    /// What is known of a session.
    pub fn get(&mut self, key: &[u8]) -> Option<&Kept> {
        if !self.young.contains_key(key) {
            let kept = self.old.remove(key)?.kept;
            self.put(key.to_vec(), kept);
        }
        self.count += 1;
        let open = self.young.get_mut(key)?;
        open.at = self.count;
        Some(&open.kept)
    }

    /// Ends a session; what was known of it.
    pub fn close(&mut self, key: &[u8]) -> Option<Kept> {
        self.take(key)
    }

    fn take(&mut self, key: &[u8]) -> Option<Kept> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old).map(|o| o.kept)
    }

    fn put(&mut self, key: Vec<u8>, mut fields: Kept) {
        if key.len() > Self::MAX_KEY {
            return;
        }
        fields.iter_mut().for_each(|(_, v)| v.truncate(Self::MAX_VALUE));
        if self.young.len() >= Self::KEEP {
            self.old = std::mem::take(&mut self.young);
        }
        self.count += 1;
        self.young.insert(key, Open { kept: fields, at: self.count });
    }

    /// A bounded copy, to be stored: those that were spoken of last.
    pub fn recent(&self) -> Sessions {
        let mut all: Vec<(&Vec<u8>, &Open)> = self.old.iter().chain(&self.young).collect();
        all.sort_unstable_by_key(|(_, o)| std::cmp::Reverse(o.at));
        let mut left = Self::STORED;
        let fits = |(key, open): &(&Vec<u8>, &Open)| {
            let bytes = key.len() + open.kept.iter().map(|(_, v)| v.len() + 16).sum::<usize>() + 8;
            left = left.saturating_sub(bytes);
            left > 0
        };
        let young = all.into_iter().take_while(fits).map(|(k, o)| (k.clone(), o.clone())).collect();
        Sessions { young, old: FxHashMap::default(), count: self.count }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes as text without loss: each byte is the character of its number. Log text is nearly all ASCII.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// As stored: key, and field names with their values, oldest first.
type Stored = Vec<(String, Vec<(String, String)>)>;

impl Serialize for Sessions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all: Vec<(&Vec<u8>, &Open)> = self.old.iter().chain(&self.young).collect();
        all.sort_unstable_by_key(|(_, o)| o.at);
        let one = |(key, open): (&Vec<u8>, &Open)| {
            let fields = open.kept.iter().map(|(f, v)| (f.as_str().to_string(), text(v))).collect::<Vec<_>>();
            (text(key), fields)
        };
        all.into_iter().map(one).collect::<Stored>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sessions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut sessions = Sessions::default();
        for (key, kept) in Stored::deserialize(deserializer)? {
            // A field that this version does not know is left out.
            let fields = kept.iter().filter_map(|(f, v)| Some((Field::from_name(f)?, bytes(v)))).collect();
            sessions.put(bytes(&key), fields);
        }
        Ok(sessions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pairs: &[(Field, &str)]) -> Kept {
        pairs.iter().map(|(f, v)| (*f, v.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_number_that_returns_is_another_session() {
        let mut s = Sessions::default();
        s.open(b"17".into(), kept(&[(Field::QueueId, "1"), (Field::FinalRecipient, "a@b")]));
        s.open(b"17".into(), kept(&[(Field::QueueId, "2")]));
        assert_eq!(s.close(b"17"), Some(kept(&[(Field::QueueId, "2")])));
        assert_eq!(s.close(b"17"), None);
    }

    #[test]
    fn lines_of_one_reply_are_joined() {
        let mut s = Sessions::default();
        s.add(b"k".into(), kept(&[(Field::Diagnostic, "550-no")]));
        s.add(b"k".into(), kept(&[(Field::Diagnostic, "550 such user"), (Field::RemoteMta, "mx")]));
        assert_eq!(s.get(b"k"), Some(&kept(&[(Field::Diagnostic, "550-no 550 such user"), (Field::RemoteMta, "mx")])));
    }

    #[test]
    fn sessions_are_bounded_and_the_latest_stay() {
        let mut s = Sessions::default();
        for i in 0..5 * Sessions::KEEP {
            s.open(i.to_string().into_bytes(), kept(&[(Field::Diagnostic, &"x".repeat(3_000))]));
        }
        assert!(s.len() <= 2 * Sessions::KEEP);
        assert_eq!(s.get((5 * Sessions::KEEP - 1).to_string().as_bytes()).unwrap()[0].1.len(), Sessions::MAX_VALUE);
        assert_eq!(s.get(b"0"), None);
        s.open(vec![b'k'; Sessions::MAX_KEY + 1], vec![]);
        assert_eq!(s.get(&[b'k'; Sessions::MAX_KEY + 1]), None);
    }

    #[test]
    fn what_is_stored_is_bounded_and_the_latest() {
        let mut s = Sessions::default();
        for i in 0..5_000 {
            s.open(format!("{i}").into_bytes(), kept(&[(Field::FinalRecipient, &"x".repeat(100))]));
        }
        assert_eq!(s.get(b"7").map(Vec::len), Some(1));
        let mut stored: Sessions = serde_json::from_str(&serde_json::to_string(&s.recent()).unwrap()).unwrap();
        assert!(stored.len() > 400 && stored.len() < 700, "{}", stored.len());
        assert!(stored.get(b"7").is_some() && stored.get(b"4999").is_some() && stored.get(b"100").is_none());
        assert!(serde_json::to_string(&s.recent()).unwrap().len() < 2 * Sessions::STORED);
    }

    #[test]
    fn what_is_open_survives_a_stop_byte_for_byte() {
        let mut s = Sessions::default();
        s.open(b"older".into(), kept(&[]));
        s.open(b"mx1\x00qmail\x0017".into(), vec![(Field::QueueId, b"1".into()), (Field::FinalRecipient, b"\xff\xc3\xa9@b\"\n".into())]);
        let json = serde_json::to_string(&s.recent()).unwrap();
        assert_eq!(serde_json::from_str::<Sessions>(&json).unwrap(), s);
        assert!(serde_json::from_str::<Sessions>("[[\"k\",[[\"no_such_field\",\"v\"]]]]").unwrap().get(b"k").unwrap().is_empty());
    }
}
