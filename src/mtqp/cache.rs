//! Answers of the present state of the records: who asks again (a client that polls, a next server that chains) costs no look-up.
//!
//! An answer is kept for the claim that opened it, as long as nothing was committed since and none of the bindings that
//! opened it has ended. What opened nothing is never kept. Bounded in bytes: two halves, the older is dropped when the
//! younger is full.

use super::command::Claim;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

type Kept = HashMap<Claim, (Arc<[u8]>, i64)>;

#[derive(Debug, Default)]
struct Halves {
    generation: u64,
    young: Kept,
    old: Kept,
    young_bytes: usize,
}

/// Answers that are kept.
#[derive(Debug)]
pub struct Answers {
    half: usize,
    kept: Mutex<Halves>,
}

/// What an entry costs beside its answer.
const OVERHEAD: usize = 256;

impl Answers {
    /// Keeps at most so many bytes; 0 keeps nothing.
    pub fn new(most_bytes: usize) -> Self {
        Answers { half: most_bytes / 2, kept: Mutex::default() }
    }

    /// The answer of a claim, if it was given in this generation of the records and still holds at `now`.
    pub fn get(&self, claim: &Claim, generation: u64, now: i64) -> Option<Arc<[u8]>> {
        if self.half == 0 {
            return None;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            *kept = Halves { generation, ..Halves::default() };
            return None;
        }
        let found = kept.young.get(claim).or_else(|| kept.old.get(claim));
        found.filter(|(_, until)| now <= *until).map(|(bytes, _)| bytes.clone())
    }

    /// Keeps an answer that holds until `until`. `generation` is that of before the look-up; if it is over, nothing is kept.
    pub fn put(&self, claim: &Claim, generation: u64, until: i64, answer: &[u8]) {
        let size = answer.len() + claim.envelope_id.len() + OVERHEAD;
        // One large answer must not push out all others.
        if size > self.half / 8 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            return;
        }
        if kept.young_bytes + size > self.half {
            kept.old = std::mem::take(&mut kept.young);
            kept.young_bytes = 0;
        }
        kept.young_bytes += size;
        kept.young.insert(claim.clone(), (answer.into(), until));
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Secret;
    use super::*;

    fn claim(n: u32) -> Claim {
        Claim { envelope_id: "e@x".into(), secret: Secret::new(n.to_be_bytes().to_vec()) }
    }

    #[test]
    fn an_answer_is_kept_for_its_claim_its_generation_and_its_time() {
        let a = Answers::new(1 << 20);
        assert!(a.get(&claim(1), 7, 100).is_none());
        a.put(&claim(1), 7, 200, b"one");
        assert_eq!(a.get(&claim(1), 7, 200).as_deref(), Some(&b"one"[..]));
        assert!(a.get(&claim(2), 7, 200).is_none());
        assert!(a.get(&claim(1), 7, 201).is_none(), "its binding has ended");
        assert!(a.get(&claim(1), 8, 100).is_none(), "something was committed");
        assert!(a.get(&claim(1), 7, 100).is_none(), "and what was before is gone");
        a.put(&claim(1), 8, 200, b"late");
        assert!(a.get(&claim(1), 7, 100).is_none(), "a look-up that a commit overtook keeps nothing");
    }

    #[test]
    fn bytes_are_bounded() {
        let a = Answers::new(100_000);
        a.get(&claim(0), 1, 0);
        (0..10_000).for_each(|n| a.put(&claim(n), 1, 9, &[b'x'; 1_000]));
        let kept = a.kept.lock().unwrap();
        assert!((kept.young.len() + kept.old.len()) * 1_000 <= 100_000);
        drop(kept);
        assert!(a.get(&claim(9_999), 1, 0).is_some());
        a.put(&claim(1), 1, 9, &[b'x'; 50_000]);
        assert!(a.get(&claim(1), 1, 0).is_none());
        let none = Answers::new(0);
        none.put(&claim(1), 0, 9, b"x");
        assert!(none.get(&claim(1), 0, 0).is_none());
    }
}
