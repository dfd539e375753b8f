//! Whatever is put into a batch comes out of it, through every codec and every cut of a rope.

use bytes::Bytes;
use ottla_record::{
    BatchBuilder, Batches, Codecs, Compression, FinishOptions, Header, Limits, RecordBatch,
    ValidationRules, rebuild_batch, validate_batch,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

type Payload = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Payload,
    value: Payload,
    headers: Vec<(Vec<u8>, Payload)>,
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..40),
        2 => (any::<u8>(), 0usize..300).prop_map(|(byte, len)| vec![byte; len]),
        1 => (any::<u8>(), 8000usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn record() -> impl Strategy<Value = Owned> {
    let timestamp = prop_oneof![
        4 => 1_700_000_000_000i64..1_700_000_100_000,
        1 => any::<i64>(),
        1 => Just(-1),
    ];
    let headers = vec(
        (vec(any::<u8>(), 0..12), option::of(vec(any::<u8>(), 0..20))),
        0..4,
    );
    (
        timestamp,
        option::of(payload()),
        option::of(payload()),
        headers,
    )
        .prop_map(|(timestamp, key, value, headers)| Owned {
            timestamp,
            key,
            value,
            headers,
        })
}

fn options() -> impl Strategy<Value = FinishOptions> {
    (
        prop::sample::select(&Compression::ALL[..]),
        any::<(i32, i64, i16, i32, bool, bool)>(),
        0i64..i64::MAX / 2,
    )
        .prop_map(|(compression, other, base_offset)| FinishOptions {
            compression,
            base_offset,
            leader_epoch: other.0,
            producer_id: other.1,
            producer_epoch: other.2,
            base_sequence: other.3,
            transactional: other.4,
            control: other.5,
            ..FinishOptions::default()
        })
}

fn build(records: &[Owned], options: &FinishOptions) -> Bytes {
    let mut builder = BatchBuilder::new(64);
    if options.compression != Compression::None {
        builder = builder.without_running_crc();
    }
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect();
        let bound =
            BatchBuilder::size_of_record(record.key.as_deref(), record.value.as_deref(), &headers);
        let before = builder.len();
        let at = builder
            .append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            )
            .unwrap();
        assert_eq!((at.pos, at.len), (before - 61, builder.len() - before));
        assert!(at.len <= bound);
    }
    let finished = builder.finish(options).unwrap();
    assert_eq!(finished.header.size_in_bytes(), finished.encoded.len());
    finished.encoded
}

fn read(batch: &RecordBatch) -> Vec<(i64, Owned)> {
    let mut records = batch.records(Limits::default()).unwrap();
    let mut read = Vec::new();
    while let Some(record) = records.next_record() {
        let record = record.unwrap();
        read.push((
            record.offset,
            Owned {
                timestamp: record.timestamp,
                key: record.key.map(Vec::from),
                value: record.value.map(Vec::from),
                headers: record
                    .headers
                    .map(|header| (header.key.to_vec(), header.value.map(Vec::from)))
                    .collect(),
            },
        ));
    }
    read
}

fn expected(records: &[Owned], base_offset: i64) -> Vec<(i64, Owned)> {
    (base_offset..).zip(records.iter().cloned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_goes_in_comes_out(records in vec(record(), 1..60), options in options()) {
        let encoded = build(&records, &options);
        let batch = RecordBatch::parse(encoded).unwrap();
        batch.check_crc().unwrap();
        let header = batch.header();
        prop_assert_eq!(header.record_count as usize, records.len());
        prop_assert_eq!(header.last_offset(), options.base_offset + records.len() as i64 - 1);
        prop_assert_eq!(header.partition_leader_epoch, options.leader_epoch);
        prop_assert_eq!(
            (header.producer_id, header.producer_epoch, header.base_sequence),
            (options.producer_id, options.producer_epoch, options.base_sequence)
        );
        prop_assert_eq!(header.attributes.is_transactional(), options.transactional);
        prop_assert_eq!(header.attributes.is_control(), options.control);
        prop_assert_eq!(header.base_timestamp, records[0].timestamp);
        prop_assert_eq!(Some(header.max_timestamp), records.iter().map(|record| record.timestamp).max());
        prop_assert!(read(&batch) == expected(&records, options.base_offset));
    }

    #[test]
    fn ropes(
        sets in vec(vec(record(), 1..5), 1..6),
        options in options(),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut whole = Vec::new();
        let mut all = Vec::new();
        let mut base_offset = options.base_offset;
        for records in &sets {
            whole.extend_from_slice(&build(records, &FinishOptions { base_offset, ..options }));
            all.extend(expected(records, base_offset));
            base_offset += records.len() as i64;
        }
        let whole = Bytes::from(whole);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(whole.len())).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|cut| whole.slice(cut[0]..cut[1]));
        let mut read_back = Vec::new();
        for batch in Batches::new(chunks) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            read_back.extend(read(&batch));
        }
        prop_assert!(read_back == all);
    }

    #[test]
    fn validation_takes_what_the_builder_makes(
        records in vec(record(), 1..20),
        compression in prop::sample::select(&Compression::ALL[..]),
        other in prop::sample::select(&Compression::ALL[..]),
    ) {
        let encoded = build(&records, &FinishOptions { compression, ..FinishOptions::default() });
        let mut codecs = Codecs::new();
        let rules = ValidationRules::default();
        let valid = validate_batch(encoded, &mut codecs, &rules).unwrap();
        prop_assert!(!valid.must_rebuild);
        let max = records.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(Some(valid.max_timestamp), max.map(|max| max.max(-1)));
        let rebuilt = rebuild_batch(&valid.batch, &mut codecs, other, None, rules.limits).unwrap();
        let rebuilt = validate_batch(rebuilt.encoded, &mut codecs, &rules).unwrap();
        prop_assert!(read(&rebuilt.batch) == expected(&records, 0));
    }

    #[test]
    fn noise_is_an_error(noise in vec(any::<u8>(), 0..300)) {
        let noise = Bytes::from(noise);
        let limits = Limits { decompressed_bytes: 1 << 20 };
        for batch in Batches::new([noise.clone()]).with_limits(limits).flatten() {
            let _ = batch.records(limits);
        }
        for codec in Compression::ALL {
            let _ = Codecs::new().decompress(codec, &noise, 1 << 20);
        }
    }
}
