//! Reads and validates any bytes as batches. What validates must also survive being built anew.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_record::{
    Batches, Codecs, Compression, Limits, RecordBatch, ValidationRules, header, rebuild_batch,
    validate_batch,
};

const LIMITS: Limits = Limits {
    decompressed_bytes: 1 << 20,
};

fn read(batch: &RecordBatch) {
    let Ok(mut records) = batch.records(LIMITS) else {
        return;
    };
    while let Some(Ok(record)) = records.next_record() {
        record.headers.for_each(drop);
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = Bytes::copy_from_slice(data);
    let cut = data.first().map_or(0, |&byte| byte as usize % data.len());
    let rope = [whole.slice(..cut), whole.slice(cut..)];
    let in_one: Vec<_> = Batches::new([whole.clone()]).with_limits(LIMITS).collect();
    let in_two: Vec<_> = Batches::new(rope).with_limits(LIMITS).collect();
    assert_eq!(in_one, in_two, "a rope reads like its bytes in one piece");
    in_one.iter().flatten().for_each(read);

    // Mutations hardly ever hit a checksum: it is set right, so that what lies behind it is reached.
    let Ok(batch) = RecordBatch::parse(whole) else {
        return;
    };
    let rules = ValidationRules {
        limits: LIMITS,
        check_crc: false,
        ..ValidationRules::default()
    };
    let mut codecs = Codecs::new();
    let Ok(valid) = validate_batch(batch.to_bytes(), &mut codecs, &rules) else {
        return;
    };
    let stamped = header::with_log_append_time(valid.batch.raw_header(), 1);
    read(&valid.batch.with_header(&stamped).expect("same length"));
    let rebuilt = rebuild_batch(&valid.batch, &mut codecs, Compression::Lz4, None, LIMITS)
        .expect("valid records can be built");
    let strict = ValidationRules {
        check_crc: true,
        ..rules
    };
    let again =
        validate_batch(rebuilt.encoded, &mut codecs, &strict).expect("what is built is valid");
    assert!(!again.must_rebuild);
    assert_eq!(again.max_timestamp, valid.max_timestamp);
});
