//! Reads any bytes as message sets of magic 0 and 1. What converts must be a sound batch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_record::Limits;
use ottla_record::legacy::{MessageSet, to_batch};

const LIMITS: Limits = Limits {
    decompressed_bytes: 1 << 20,
};

fuzz_target!(|data: &[u8]| {
    MessageSet::new(data).for_each(drop);

    // Mutations hardly ever hit a checksum: it is set right.
    let mut entry = data.to_vec();
    if let Some(size) = entry.get(8..12) {
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        if size >= 14 && entry.len() >= 12 + size {
            let crc = crc32(&entry[16..12 + size]);
            entry[12..16].copy_from_slice(&crc.to_be_bytes());
        }
    }
    let Ok(batch) = to_batch(&entry, LIMITS) else {
        return;
    };
    batch.check_crc().expect("converted batches are sealed");
    let mut records = batch.records(LIMITS).expect("not compressed");
    while let Some(record) = records.next_record() {
        record.expect("converted records are well-formed");
    }
});

/// The checksum of old formats, bit by bit.
fn crc32(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in data {
        crc ^= byte as u32;
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
