//! Decompresses any bytes with every codec, within a limit; and compresses them, and gets them back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_record::{Codecs, Compression};

const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut codecs = Codecs::new();
    for codec in Compression::ALL {
        if let Ok(out) = codecs.decompress(codec, data, LIMIT) {
            assert!(out.len() <= LIMIT);
            assert!(out.capacity() <= 2 * LIMIT);
        }
        let mut compressed = Vec::new();
        codecs
            .compress(codec, None, data, &mut compressed)
            .expect("compresses");
        let back = codecs.decompress(codec, &compressed, data.len().min(LIMIT));
        if data.len() <= LIMIT {
            assert_eq!(back.expect("decompresses"), data);
        }
    }
});
