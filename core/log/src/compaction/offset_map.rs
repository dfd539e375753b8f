//! The newest offset of each key, within a bounded number of bytes: Kafka's `SkimpyOffsetMap`.

use super::key_hash;
use alloc::{vec, vec::Vec};

/// A key's hash and offset; an offset below zero is a free place.
#[derive(Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    offset: i64,
}

const FREE: Slot = Slot {
    hash: [0; 2],
    offset: -1,
};

/// Bytes of memory that a key takes.
pub const SLOT_BYTES: usize = size_of::<Slot>();
/// Slots that a map begins with.
const FIRST_SLOTS: usize = 1024;

/// Keys, by their hashes, with the largest offset of each. Open addressing; it grows as keys come, up to its bound.
pub struct OffsetMap {
    slots: Vec<Slot>,
    keys: usize,
    most_slots: usize,
    seed: [u64; 2],
    /// All offsets up to this one are in the map, if they are in what was to be indexed.
    pub latest: i64,
}

impl OffsetMap {
    /// An empty map of at most `bytes` bytes (`log.cleaner.dedupe.buffer.size`), but of at least one key.
    pub fn new(bytes: usize, seed: [u64; 2]) -> Self {
        let most_slots = (bytes / SLOT_BYTES).max(2);
        Self {
            slots: vec![FREE; FIRST_SLOTS.min(most_slots)],
            keys: 0,
            most_slots,
            seed,
            latest: -1,
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Notes the offset of a key with this hash, which is not below the one it had. False if there is no room for another key.
    #[must_use]
    pub fn put(&mut self, hash: [u64; 2], offset: i64) -> bool {
        let mut at = self.place(hash);
        if self.slots[at].offset < 0 {
            if self.keys >= load(self.slots.len()) {
                if self.slots.len() == self.most_slots {
                    return false;
                }
                self.grow();
                at = self.place(hash);
            }
            self.keys += 1;
        }
        self.slots[at] = Slot { hash, offset };
        true
    }

    /// The largest offset of a key with this hash, if it is in the map.
    pub fn get(&self, hash: [u64; 2]) -> Option<i64> {
        let slot = self.slots[self.place(hash)];
        (slot.offset >= 0).then_some(slot.offset)
    }

    /// The hash of a key, by which it is known here.
    pub fn hash(&self, key: &[u8]) -> [u64; 2] {
        key_hash::hash(self.seed[0], self.seed[1], key)
    }

    /// Looks at where the searches for these hashes begin. A large map is in no cache, so that each search waits for memory; these
    /// looks don't depend on each other, and the processor waits for all of them at once.
    pub fn approach(&self, hashes: impl Iterator<Item = [u64; 2]>) {
        let seen = hashes.fold(0, |seen, hash| seen ^ self.slots[self.home(hash)].offset);
        core::hint::black_box(seen);
    }

    /// Where the search for a hash begins.
    fn home(&self, hash: [u64; 2]) -> usize {
        ((u128::from(hash[0]) * self.slots.len() as u128) >> 64) as usize
    }

    /// Where the hash is, or would be: there is always a free place.
    fn place(&self, hash: [u64; 2]) -> usize {
        let len = self.slots.len();
        let mut at = self.home(hash);
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at += 1;
            if at == len {
                at = 0;
            }
        }
        at
    }

    fn grow(&mut self) {
        let larger = self.slots.len().saturating_mul(2).min(self.most_slots);
        let slots = core::mem::replace(&mut self.slots, vec![FREE; larger]);
        for slot in slots.into_iter().filter(|slot| slot.offset >= 0) {
            let at = self.place(slot.hash);
            self.slots[at] = slot;
        }
    }
}

/// How many of so many slots may be taken: nine of ten (`log.cleaner.io.buffer.load.factor`), and never all.
fn load(slots: usize) -> usize {
    (slots / 10 * 9 + slots % 10 * 9 / 10).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn like_a_map_until_it_is_full() {
        for bytes in [0, 24 * 2, 24 * 3, 24 * 1000, 24 * 5000] {
            let mut map = OffsetMap::new(bytes, [1, 2]);
            let mut model = BTreeMap::new();
            for offset in 0..20_000i64 {
                let key = (offset * offset % 3001).to_be_bytes();
                if !map.put(map.hash(&key), offset) {
                    assert!(!model.contains_key(&key));
                    assert_eq!(map.len(), load((bytes / 24).max(2)), "full, not before");
                    continue;
                }
                model.insert(key, offset);
                assert_eq!(map.len(), model.len());
            }
            for key in 0..3001i64 {
                let key = key.to_be_bytes();
                assert_eq!(map.get(map.hash(&key)), model.get(&key).copied());
            }
        }
    }
}
