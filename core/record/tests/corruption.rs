//! Every byte of a small batch changed in turn, and every length cut: an error or something well-formed, never a panic, and
//! never unnoticed where the checksum covers it.

use bytes::Bytes;
use ottla_record::{
    BatchBuilder, Batches, Codecs, Compression, FinishOptions, Header, Limits, RecordBatch,
    RecordError, ValidationRules, validate_batch,
};

const LIMITS: Limits = Limits {
    decompressed_bytes: 1 << 16,
};

fn small_batch(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    let headers = [
        Header::new("kind", Some(b"lamp")),
        Header::new("none", None),
    ];
    let value = [b'l'; 90];
    builder
        .append(1000, Some(b"first"), Some(&value), &headers)
        .unwrap();
    builder.append(1003, None, Some(&value), &[]).unwrap();
    builder.append(1001, Some(b"third"), None, &[]).unwrap();
    let finished = builder.finish(&FinishOptions {
        compression,
        ..FinishOptions::default()
    });
    let finished = finished.unwrap();
    assert_eq!(finished.header.attributes.compression(), Ok(compression));
    finished.encoded
}

/// Reads everything; how many records came out, or what was wrong.
fn read_all(bytes: Bytes) -> Result<usize, RecordError> {
    let mut count = 0;
    for batch in Batches::new([bytes]).with_limits(LIMITS) {
        let mut records = batch?.records(LIMITS)?;
        while let Some(record) = records.next_record() {
            record?.headers.for_each(drop);
            count += 1;
            assert!(count < 10_000, "more records than bytes");
        }
    }
    Ok(count)
}

#[test]
fn every_byte_with_every_value() {
    for compression in Compression::ALL {
        let good = small_batch(compression);
        assert_eq!(read_all(good.clone()), Ok(3));
        let mut codecs = Codecs::new();
        for at in 0..good.len() {
            for value in 0..=255u8 {
                if value == good[at] {
                    continue;
                }
                let mut bad = good.to_vec();
                bad[at] = value;
                let bad = Bytes::from(bad);
                let _ = read_all(bad.clone());
                let rules = ValidationRules {
                    limits: LIMITS,
                    ..ValidationRules::default()
                };
                let validated = validate_batch(bad.clone(), &mut codecs, &rules);
                // Outside of the checksum are offset, length, leader epoch and magic; of these only the leader epoch is
                // the producer's to choose.
                assert_eq!(validated.is_ok(), (12..16).contains(&at), "byte {at}");
                if let Ok(batch) = RecordBatch::parse(bad) {
                    assert_eq!(batch.check_crc().is_ok(), at < 17, "byte {at}");
                }
            }
        }
    }
}

#[test]
fn every_length() {
    for compression in Compression::ALL {
        let good = small_batch(compression);
        let mut codecs = Codecs::new();
        for cut in 0..good.len() {
            let part = good.slice(..cut);
            assert_eq!(read_all(part.clone()), Ok(0), "a partial batch is left out");
            assert!(RecordBatch::parse(part.clone()).is_err());
            let rules = ValidationRules::default();
            assert!(validate_batch(part, &mut codecs, &rules).is_err());
            // The same cut, admitted in the length field: the records end too early.
            if cut >= 61 {
                let mut short = good[..cut].to_vec();
                short[8..12].copy_from_slice(&(cut as i32 - 12).to_be_bytes());
                assert!(read_all(Bytes::from(short)).is_err(), "{compression} {cut}");
            }
        }
    }
}

#[test]
fn every_byte_of_the_records_area_unprotected() {
    // Past the checksum, so that the reader itself is what is tested; also with bytes behind it, so that both ways of
    // reading a record see the damage.
    let good = small_batch(Compression::None);
    for at in 61..good.len() {
        for value in 0..=255u8 {
            for padding in [0, 40] {
                let mut bad = good.to_vec();
                bad[at] = value;
                bad.resize(good.len() + padding, 1);
                let length = bad.len() as i32 - 12;
                bad[8..12].copy_from_slice(&length.to_be_bytes());
                let read = read_all(Bytes::from(bad));
                assert!(padding == 0 || read.is_err());
            }
        }
    }
}
