//! Which partition a message goes to: librdkafka's partitioners, byte for byte, Java's, and the application's own.

use alloc::boxed::Box;
use core::fmt;

/// The application's own partitioner.
///
/// Called from `produce()`, or later when the topic's partitions become known, on whichever thread drives the client.
/// As in librdkafka, it is not asked about messages without a key while `sticky.partitioning.linger.ms` is not 0.
pub trait Partitioner: Send {
    /// The partition for a message with `key`, below `partition_count` (at least 1); `opaque` is what the application gave with it. Anything else fails the message
    /// with `_UNKNOWN_PARTITION`.
    fn partition(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        partition_count: i32,
        opaque: usize,
    ) -> i32;
}

impl<F: FnMut(&str, Option<&[u8]>, i32, usize) -> i32 + Send> Partitioner for F {
    fn partition(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        partition_count: i32,
        opaque: usize,
    ) -> i32 {
        self(topic, key, partition_count, opaque)
    }
}

/// An application's partitioner, boxed.
pub type BoxedPartitioner = Box<dyn Partitioner>;

impl fmt::Debug for dyn Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partitioner")
    }
}

/// The value of the `partitioner` property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PartitionerKind {
    /// `random`: any partition.
    Random,
    /// `consistent`: CRC-32 of the key; empty and null keys all go to the same partition.
    Consistent,
    /// `consistent_random`: CRC-32 of the key; empty and null keys go anywhere.
    #[default]
    ConsistentRandom,
    /// `murmur2`: Java's hash of the key; null keys all go to the same partition.
    Murmur2,
    /// `murmur2_random`: Java's hash of the key; null keys go anywhere.
    Murmur2Random,
    /// `fnv1a`: FNV-1a of the key, as Sarama has it; null keys all go to the same partition.
    Fnv1a,
    /// `fnv1a_random`: FNV-1a of the key; null keys go anywhere.
    Fnv1aRandom,
    /// `uniform_sticky`, which librdkafka does not have: what Java's producer does since KIP-794. Keys as with
    /// `murmur2_random`; messages without a key stay with one partition for `batch.size` bytes, then move on.
    UniformSticky,
}

/// What a partitioner of ours says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This hash, modulo the number of partitions.
    Hash(u32),
    /// Any partition will do, and any other for the next message.
    Any,
    /// Any partition will do, and it may be the last message's.
    Sticky,
}

impl PartitionerKind {
    const NAMES: [(&'static str, Self); 8] = [
        ("random", Self::Random),
        ("consistent", Self::Consistent),
        ("consistent_random", Self::ConsistentRandom),
        ("murmur2", Self::Murmur2),
        ("murmur2_random", Self::Murmur2Random),
        ("fnv1a", Self::Fnv1a),
        ("fnv1a_random", Self::Fnv1aRandom),
        ("uniform_sticky", Self::UniformSticky),
    ];

    /// The value of the property by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|n| n.0 == name).map(|n| n.1)
    }

    /// The name of the property's value.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|n| n.1 == self).map_or("", |n| n.0)
    }

    /// The partition of `key` among `partition_count`; `None` where any partition will do.
    pub fn partition_for(self, key: Option<&[u8]>, partition_count: i32) -> Option<i32> {
        match self.choose(key) {
            Choice::Hash(hash) => Some((hash % partition_count.max(1) as u32) as i32),
            Choice::Any | Choice::Sticky => None,
        }
    }

    /// What to do with a message of this key.
    #[inline]
    pub(crate) fn choose(self, key: Option<&[u8]>) -> Choice {
        match (self, key) {
            (Self::Random, Some(_)) => Choice::Any,
            (Self::ConsistentRandom, Some([])) => Choice::Sticky,
            (
                Self::Random
                | Self::ConsistentRandom
                | Self::Murmur2Random
                | Self::Fnv1aRandom
                | Self::UniformSticky,
                None,
            ) => Choice::Sticky,
            (Self::Consistent | Self::ConsistentRandom, key) => {
                Choice::Hash(crc32(key.unwrap_or_default()))
            }
            (Self::Murmur2 | Self::Murmur2Random | Self::UniformSticky, key) => {
                Choice::Hash(murmur2(key.unwrap_or_default()) & 0x7fff_ffff)
            }
            (Self::Fnv1a | Self::Fnv1aRandom, key) => Choice::Hash(fnv1a(key.unwrap_or_default())),
        }
    }
}

/// Remainders of the CRC-32 of zlib and Ethernet (reflected polynomial 0xEDB88320), four bytes at a time.
const CRC32: [[u32; 256]; 4] = {
    let mut tables = [[0u32; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        let mut table = 1;
        while table < 4 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            table += 1;
        }
        byte += 1;
    }
    tables
};

/// zlib's CRC-32.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        crc ^= u32::from_le_bytes(*word);
        crc = CRC32[3][(crc & 0xff) as usize]
            ^ CRC32[2][(crc >> 8 & 0xff) as usize]
            ^ CRC32[1][(crc >> 16 & 0xff) as usize]
            ^ CRC32[0][(crc >> 24) as usize];
    }
    for &byte in rest {
        crc = crc >> 8 ^ CRC32[0][((crc ^ u32::from(byte)) & 0xff) as usize];
    }
    !crc
}

/// MurmurHash2 with the seed of Kafka's Java clients.
pub(crate) fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest
            .iter()
            .rev()
            .fold(0, |tail, &byte| tail << 8 | u32::from(byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// 32-bit FNV-1a, made positive as a signed number is.
pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash as i32).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and hashes that librdkafka's and other clients' partitioners are known to agree on.
    const KEYS: [&[u8]; 4] = [
        b"",
        b"23456",
        b"this is another string with more length to it perhaps",
        b"hejsan",
    ];

    #[test]
    fn known_hashes() {
        let vectors: [(PartitionerKind, [u32; 4]); 3] = [
            (
                PartitionerKind::Consistent,
                [0, 0xb1b4_51d7, 0xb015_0df7, 0xd077_037e],
            ),
            (
                PartitionerKind::Murmur2,
                [0x106e_08d9, 0x058d_780f, 0x4f77_03da, 0x5ec1_9395],
            ),
            (
                PartitionerKind::Fnv1a,
                [0x7ee3_623b, 0x27e6_f469, 0x155e_3e5f, 0x17b1_e27a],
            ),
        ];
        for (kind, hashes) in vectors {
            for (key, hash) in KEYS.iter().zip(hashes) {
                assert_eq!(
                    kind.choose(Some(key)),
                    Choice::Hash(hash),
                    "{} {key:?}",
                    kind.name()
                );
                assert_eq!(kind.partition_for(Some(key), 17), Some((hash % 17) as i32));
            }
            assert_eq!(kind.choose(None), Choice::Hash(hashes[0]));
        }
    }

    #[test]
    fn java_hashes() {
        // Kafka's own test of its murmur2, as signed numbers.
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key) as i32, hash, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn keys_that_go_anywhere() {
        use PartitionerKind::*;
        for kind in [
            Random,
            ConsistentRandom,
            Murmur2Random,
            Fnv1aRandom,
            UniformSticky,
        ] {
            assert_eq!(kind.choose(None), Choice::Sticky);
        }
        assert_eq!(ConsistentRandom.choose(Some(b"")), Choice::Sticky);
        assert_eq!(Murmur2Random.choose(Some(b"")), Choice::Hash(0x106e_08d9));
        assert_eq!(Random.choose(Some(b"k")), Choice::Any);
    }

    #[test]
    fn names() {
        for (name, kind) in PartitionerKind::NAMES {
            assert_eq!(PartitionerKind::from_name(name), Some(kind));
            assert_eq!(kind.name(), name);
        }
        assert_eq!(PartitionerKind::from_name("roundrobin"), None);
    }
}
