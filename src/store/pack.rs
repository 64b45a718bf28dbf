//! How records are packed: each by itself, with a dictionary of what records of this index have in common.
//!
//! A record alone is too short to be packed well, and many together make one slow to fetch. A dictionary has the best of
//! both. It is trained on records as they are stored, without personal data (it outlives every record), and kept in the
//! index, in a document of its own that comes in the commit of the first records that need it. Each packed record names
//! the dictionary that it needs.

use super::schema::encode;
use crate::model::record::StoredRecord;
use crate::model::redact::MaskKey;
use crate::model::redact::personal::{Masks, anonymized};
use rayon::prelude::*;
use rustc_hash::FxHashSet;
use std::cell::RefCell;
use zstd::zstd_safe::{self, CCtx, CDict, DCtx, DDict};

/// The fastest of zstd's regular levels: the next two save a twentieth more and take half as long again.
const LEVEL: i32 = 1;
/// Bytes of a dictionary.
const BYTES: usize = 32 * 1024;
/// Records that a dictionary is trained on.
const SAMPLES: usize = 1024;
/// So many records are stored without a dictionary: to train one takes as long as to store thousands.
const FIRST: u64 = 16 * 1024;
/// The longest record, bytes of events, that is one of them: nearly all are shorter.
const SAMPLE_BYTES: usize = 4096;
/// The first byte of a packed form; no plain one begins with it. It stands for what all frames begin with.
const PACKED: u8 = 0xff;
/// What all frames begin with (RFC 8878, 3.1.1).
const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The longest record that is unpacked: what says that it is longer is damaged.
const MOST: u64 = 2 << 30;

thread_local! {
    static PACKER: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static UNPACKER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// A dictionary, ready for use.
pub(super) struct Dictionary {
    /// By which packed records name it; from 1, the newest has the highest.
    pub number: u32,
    pack: CDict<'static>,
    unpack: DDict<'static>,
}

impl Dictionary {
    /// Reads what [`train`] gave; `None` if it is no dictionary.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let number = zstd_safe::get_dict_id_from_dict(bytes)?.get();
        Some(Dictionary { number, pack: CDict::try_create(bytes, LEVEL)?, unpack: DDict::try_create(bytes)? })
    }
}

/// Makes dictionary `number` of what records have in common. `None` if they have too little.
fn train(records: &[StoredRecord], number: u32) -> Option<Vec<u8>> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).ok()?;
    let key = MaskKey::new(key);
    let hosts: FxHashSet<&str> = records.iter().map(|r| r.slot.host.as_str()).collect();
    let is_host = |name: &str| hosts.contains(name);
    let sample = |r: &StoredRecord| encode(anonymized(r, &key, Masks::Numbers, &is_host).as_ref().unwrap_or(r));
    let samples: Vec<Vec<u8>> = records.par_iter().map(sample).collect();
    let mut bytes = zstd::dict::from_samples(&samples, BYTES).ok()?;
    // Behind its mark, a dictionary bears its number.
    bytes.get_mut(4..8)?.copy_from_slice(&number.to_le_bytes());
    Some(bytes)
}

/// The packed form; what does not get shorter stays as it is.
pub(super) fn pack(dictionary: Option<&Dictionary>, plain: Vec<u8>) -> Vec<u8> {
    let mut packed = Vec::with_capacity(plain.len());
    let done = PACKER.with_borrow_mut(|packer| match dictionary {
        Some(d) => packer.compress_using_cdict(&mut packed, &plain, &d.pack),
        None => packer.compress(&mut packed, &plain, LEVEL),
    });
    // It fails where the packed form would be longer.
    if done.is_err() {
        return plain;
    }
    packed.splice(..FRAME.len(), [PACKED]);
    packed
}

/// Runs `with` on the frame of a packed record, if it is packed.
fn framed<T>(packed: &[u8], with: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let frame = packed.strip_prefix(&[PACKED])?;
    Some(SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.extend_from_slice(&FRAME);
        scratch.extend_from_slice(frame);
        with(scratch)
    }))
}

/// Number of the dictionary that a packed record needs, if it needs one.
pub(super) fn needs(packed: &[u8]) -> Option<u32> {
    framed(packed, zstd_safe::get_dict_id_from_frame)?.map(|n| n.get())
}

/// What was packed; `None` if it cannot be unpacked.
pub(super) fn unpack(dictionary: Option<&Dictionary>, packed: &[u8]) -> Option<Vec<u8>> {
    let unpacked = framed(packed, |frame| {
        let length = zstd_safe::get_frame_content_size(frame).ok()?.filter(|n| *n <= MOST)?;
        let mut plain = Vec::new();
        plain.try_reserve_exact(length as usize).ok()?;
        let done = UNPACKER.with_borrow_mut(|unpacker| match dictionary {
            Some(d) => unpacker.decompress_using_ddict(&mut plain, frame, &d.unpack),
            None => unpacker.decompress(&mut plain, frame),
        });
        done.ok().filter(|n| *n as u64 == length).map(|_| plain)
    });
    unpacked.unwrap_or_else(|| Some(packed.to_vec()))
}

/// The dictionary that new records are packed with, and what the next one is trained on.
#[derive(Default)]
pub(super) struct Packing {
    latest: Option<Dictionary>,
    samples: Vec<StoredRecord>,
}

impl Packing {
    /// Goes on with the newest of an index' dictionaries.
    pub fn new(all: Vec<Dictionary>) -> Self {
        Packing { latest: all.into_iter().max_by_key(|d| d.number), samples: Vec::new() }
    }

    /// The dictionary to pack with.
    pub fn latest(&self) -> Option<&Dictionary> {
        self.latest.as_ref()
    }

    /// How many records were ever stored when the next dictionary is due: the first when there is something to be won,
    /// then each time sixteen times as many, as there was less to learn from, and from the third on every 4 million, as logs change.
    fn due(&self) -> u64 {
        let trained = self.latest.as_ref().map_or(0, |d| d.number);
        let grown = FIRST << (4 * trained.min(2));
        grown * u64::from(trained.saturating_sub(1).max(1))
    }

    /// Looks at records before they are packed, of which the first is the `stored`-th ever. Where it is time for a new
    /// dictionary, it is the latest from here on, and its bytes are to be stored with them.
    pub fn learn(&mut self, records: &[StoredRecord], stored: u64) -> Option<Vec<u8>> {
        let gathered_from = self.due().saturating_sub(SAMPLES as u64);
        if stored + (records.len() as u64) <= gathered_from {
            return None;
        }
        let short = records.iter().filter(|r| r.events.len() <= SAMPLE_BYTES);
        self.samples.extend(short.take(SAMPLES - self.samples.len()).cloned());
        if self.samples.len() < SAMPLES {
            return None;
        }
        let number = self.latest.as_ref().map_or(1, |d| d.number + 1);
        let bytes = train(&std::mem::take(&mut self.samples), number)?;
        self.latest = Some(Dictionary::new(&bytes)?);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{T0, batch, mail};
    use super::super::{Store, StoreError, schema};
    use super::*;
    use crate::model::event::Action;
    use proptest::prelude::*;
    use std::sync::LazyLock;
    use tantivy::Term;

    fn records(from: usize, to: usize) -> Vec<StoredRecord> {
        let person = |n: usize| format!("jane.roe{}@private{}.example", n % 7, n % 3);
        let one = |n: usize| mail("mx1", &format!("4Q{n:05}"), T0 + n as i64, &person(n), "eve.poe@kin.example", Action::Relayed);
        (from..to).map(one).collect()
    }

    static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| train(&records(0, SAMPLES), 3).unwrap());

    #[test]
    fn a_dictionary_holds_what_lines_have_in_common_but_nobodys_data() {
        let bytes = &*DICTIONARY;
        let holds = |text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        for common in [" mx1 postfix/", "message-id=<", ", relay="] {
            assert!(holds(common), "{common} in {}", String::from_utf8_lossy(bytes));
        }
        for personal in ["jane", "roe1", "private", "eve.poe", "kin.example", "192.0.2.7", "mail.b.example"] {
            assert!(!holds(personal), "{personal}");
        }
    }

    #[test]
    fn records_are_a_quarter_of_their_size_and_come_back_whole() {
        let dictionary = Dictionary::new(&DICTIONARY).unwrap();
        let plain: Vec<_> = records(SAMPLES, SAMPLES + 200).iter().map(encode).collect();
        let packed: Vec<_> = plain.iter().map(|p| pack(Some(&dictionary), p.clone())).collect();
        let bytes = |all: &[Vec<u8>]| all.iter().map(Vec::len).sum::<usize>();
        assert!(bytes(&packed) * 4 < bytes(&plain), "{} of {}", bytes(&packed), bytes(&plain));
        for (plain, packed) in plain.iter().zip(&packed) {
            assert_eq!(needs(packed), Some(3));
            assert_eq!(unpack(Some(&dictionary), packed).as_ref(), Some(plain));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_and_damage_is_told(mut plain in proptest::collection::vec(any::<u8>(), 0..300), at: usize, bit in 0..8) {
            plain.insert(0, 0);
            for dictionary in [None, Dictionary::new(&DICTIONARY)] {
                let mut packed = pack(dictionary.as_ref(), plain.clone());
                prop_assert!(packed.len() <= plain.len());
                prop_assert_eq!(unpack(dictionary.as_ref(), &packed), Some(plain.clone()));
                let at = at % packed.len();
                packed[at] ^= 1u8 << bit;
                let _ = (needs(&packed), unpack(dictionary.as_ref(), &packed));
            }
        }
    }

    #[test]
    fn dictionaries_are_trained_again_as_the_index_grows() {
        let mut packing = Packing::default();
        let some = records(0, 512);
        let mut trained = Vec::new();
        let around = |due: u64| (due - 4096..due + 2048).step_by(512);
        for n in [0, 512].into_iter().chain(around(FIRST)).chain(around(16 * FIRST)) {
            if let Some(bytes) = packing.learn(&some, n) {
                trained.push((n + 512, Dictionary::new(&bytes).unwrap().number));
            }
        }
        assert_eq!(trained, [(FIRST, 1), (16 * FIRST, 2)]);
        let again = Packing::new(vec![Dictionary::new(&DICTIONARY).unwrap()]);
        assert_eq!(again.latest().map(|d| d.number), Some(3));
        assert!(again.due() > 1_000_000);
    }

    #[test]
    fn an_index_without_the_dictionary_that_its_records_need_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(dir.path()).unwrap();
        let mut w = store.writer().unwrap();
        w.apply(batch(records(0, 17_000), "")).unwrap();
        store.reload().unwrap();
        assert!(store.get("mx1/postfix/4Q16999").unwrap().is_some());
        let term = Term::from_field_text(store.fields.terms, schema::prefix::DICTIONARY);
        w.guarded(|w, open| {
            open.writer.delete_term(term);
            w.commit_one(open, super::super::Batch::default())
        })
        .unwrap();
        drop(w);
        let store = Store::open(dir.path()).unwrap();
        let error = store.get("mx1/postfix/4Q16999").unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { what, .. } if what.contains("dictionary 1")), "{error}");
        assert!(!Store::verify(dir.path()).unwrap().is_ok());
    }
}
