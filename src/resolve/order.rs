//! What needs to see the lines of one source one after the other: equal lines of one second, entries
//! that syslog split, and `last message repeated`.

use super::sessions::Sessions;
use crate::model::line::Fragment;
use rustc_hash::FxHashMap;

/// What one series of lines was seen to say, as far as later lines need it. It goes on from a file to its rotated successor.
#[derive(Debug, Default)]
pub struct Order {
    /// Equal events of one second.
    pub ordinals: Ordinals,
    /// Entries in the making.
    pub fragments: Fragments,
    /// Open sessions and deliveries.
    pub sessions: Sessions,
}

/// Counts equal events of one second in one source (R1): two equal rejects are two, the copy of a log is none.
///
/// Remembers the latest [`Ordinals::KEEP`] to twice as many distinct events; equal lines of one second lie close together.
#[derive(Debug, Default)]
pub struct Ordinals {
    young: FxHashMap<u64, u32>,
    old: FxHashMap<u64, u32>,
}

impl Ordinals {
    /// Distinct events of one generation.
    pub const KEEP: usize = 16_384;

    /// How many equal ones came before this one.
    pub fn next(&mut self, identity: u64) -> u32 {
        if let Some(n) = self.young.get_mut(&identity) {
            *n += 1;
            return *n;
        }
        let n = self.old.get(&identity).map_or(0, |n| n + 1);
        if self.young.len() >= Self::KEEP {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(identity, n);
        n
    }
}

/// Joins the parts of an entry that was too long for one syslog message (Exim: `[1/3]`, `[2/3]`, ...).
#[derive(Debug, Default)]
pub struct Fragments {
    open: FxHashMap<Vec<u8>, (u32, Vec<u8>)>,
}

impl Fragments {
    /// Entries in the making at once; beyond that all are given up (R6).
    const MAX: usize = 1024;
    /// The longest entry, bytes.
    const MAX_ENTRY: usize = 64 * 1024;

    /// Takes a part. Returns the whole first line of the entry, with the frame of its first part, when it is complete.
    ///
    /// `line` is the whole line of this part; `who` tells entries apart (host, program, pid).
    pub fn push(&mut self, who: Vec<u8>, fragment: Fragment, line: &[u8], message: usize) -> Option<Vec<u8>> {
        let text = line.get(fragment.text..)?;
        if fragment.part == 1 {
            let mut whole = line.get(..message)?.to_vec();
            whole.extend_from_slice(text);
            if self.open.len() >= Self::MAX {
                self.open.clear();
            }
            self.open.insert(who, (1, whole));
            return None;
        }
        let (last, whole) = self.open.get_mut(&who)?;
        if *last + 1 != fragment.part || whole.len() + text.len() > Self::MAX_ENTRY {
            self.open.remove(&who);
            return None;
        }
        *last = fragment.part;
        whole.extend_from_slice(text);
        // Cut at a newline: the line is whole; what follows (a dump of headers) is no log line.
        if fragment.continues {
            return None;
        }
        self.open.remove(&who).map(|(_, whole)| whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_events_are_counted() {
        let mut o = Ordinals::default();
        assert_eq!([o.next(1), o.next(2), o.next(1), o.next(1)], [0, 0, 1, 2]);
        for i in 100..100 + 2 * Ordinals::KEEP as u64 {
            o.next(i);
        }
        assert_eq!(o.next(1), 0, "forgotten after two generations");
    }

    #[test]
    fn parts_are_joined_in_order_only() {
        let part = |part, of, continues| Fragment { part, of, continues, text: 2 };
        let mut f = Fragments::default();
        assert_eq!(f.push(b"a".into(), part(1, 3, true), b"H one", 1), None);
        assert_eq!(f.push(b"b".into(), part(2, 3, true), b"H lost", 1), None);
        assert_eq!(f.push(b"a".into(), part(2, 3, true), b"H two", 1), None);
        assert_eq!(f.push(b"a".into(), part(3, 3, false), b"H three", 1), Some(b"Honetwothree".to_vec()));
        assert_eq!(f.push(b"a".into(), part(1, 3, true), b"H one", 1), None);
        assert_eq!(f.push(b"a".into(), part(3, 3, false), b"H three", 1), None);
        assert!(f.open.is_empty());
    }
}
