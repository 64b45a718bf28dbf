//! Which keys may be stored: a Bloom filter that grows, so that a bulk load asks the index only about keys it may hold.

use xxhash_rust::xxh3::xxh3_64;

/// Bits of a block; a key touches one block only (one cache line).
const BLOCK_BITS: u64 = 512;
const WORDS: usize = 8;
const BITS_PER_KEY: usize = 14;
const PROBES: u32 = 7;
const MIN_KEYS: usize = 1 << 16;

/// A set of keys with no false "no" and about one false "yes" in 200.
#[derive(Debug, Default)]
pub struct KeyFilter {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    blocks: Vec<[u64; WORDS]>,
    room: usize,
}

impl KeyFilter {
    /// A filter with room for `keys` keys; it grows by layers of twice the size when there are more.
    pub fn with_room(keys: usize) -> Self {
        let mut filter = KeyFilter::default();
        filter.layers.push(Layer::new(keys.max(MIN_KEYS)));
        filter
    }

    /// Whether `key` may have been inserted; `false` is certain.
    pub fn may_contain(&self, key: &str) -> bool {
        self.may_contain_bytes(key.as_bytes())
    }

    pub(super) fn may_contain_bytes(&self, key: &[u8]) -> bool {
        let hash = xxh3_64(key);
        self.layers.iter().any(|l| l.has(hash))
    }

    /// Adds a key.
    pub fn insert(&mut self, key: &str) {
        self.insert_bytes(key.as_bytes());
    }

    pub(super) fn insert_bytes(&mut self, key: &[u8]) {
        let hash = xxh3_64(key);
        if self.layers.iter().any(|l| l.has(hash)) {
            return;
        }
        if self.layers.last().is_none_or(|l| l.room == 0) {
            let keys: usize = self.layers.last().map_or(MIN_KEYS, |l| l.blocks.len() * BLOCK_BITS as usize / BITS_PER_KEY * 2);
            self.layers.push(Layer::new(keys));
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.add(hash);
        }
    }
}

impl Layer {
    fn new(keys: usize) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(BLOCK_BITS as usize);
        Layer { blocks: vec![[0; WORDS]; blocks.max(1)], room: keys }
    }

    /// The block of a hash and the bits of it that are the key's.
    fn place(&self, hash: u64) -> (usize, impl Iterator<Item = (usize, u64)> + use<>) {
        let block = ((u128::from(hash) * self.blocks.len() as u128) >> 64) as usize;
        let mix = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (a, b) = ((mix >> 32) as u32, (mix as u32) | 1);
        let bits = (0..PROBES).map(move |i| {
            let bit = a.wrapping_add(b.wrapping_mul(i)) >> 23;
            ((bit / 64) as usize, 1u64 << (bit % 64))
        });
        (block, bits)
    }

    fn has(&self, hash: u64) -> bool {
        let (block, mut bits) = self.place(hash);
        let Some(block) = self.blocks.get(block) else { return false };
        bits.all(|(word, bit)| block.get(word).is_some_and(|w| w & bit != 0))
    }

    fn add(&mut self, hash: u64) {
        self.room = self.room.saturating_sub(1);
        let (block, bits) = self.place(hash);
        let Some(block) = self.blocks.get_mut(block) else { return };
        for (word, bit) in bits {
            if let Some(w) = block.get_mut(word) {
                *w |= bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_forgets_and_seldom_lies_even_when_it_has_grown() {
        let mut filter = KeyFilter::with_room(10);
        for i in 0..300_000 {
            filter.insert(&format!("mx1/postfix/{i:x}"));
        }
        assert!((0..300_000).all(|i| filter.may_contain(&format!("mx1/postfix/{i:x}"))));
        let wrong = (0..100_000).filter(|i| filter.may_contain(&format!("mx2/postfix/{i:x}"))).count();
        assert!(wrong < 1500, "{wrong} of 100000 wrong");
        assert!(!KeyFilter::default().may_contain("x"));
    }
}
