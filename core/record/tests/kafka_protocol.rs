//! Agreement with the `kafka-protocol` crate, both ways: what either writes the other reads alike.
//!
//! Its traps are kept clear of: it loses duplicate header keys, it starts a new batch wherever offset and sequence do not
//! advance together, and it cannot write LogAppendTime.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression as TheirCompression, Record, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use ottla_record::{
    BatchBuilder, Batches, Compression, FinishOptions, FinishedBatch, Header, Limits, RecordBatch,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// Distinct keys.
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn record() -> impl Strategy<Value = Owned> {
    let bytes = || option::of(vec(any::<u8>(), 0..200));
    let headers = btree_map("[a-zé]{0,9}", option::of(vec(any::<u8>(), 0..20)), 0..4);
    (0i64..1 << 42, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Owned {
        timestamp,
        key,
        value,
        headers: headers.into_iter().collect(),
    })
}

#[derive(Clone, Copy, Debug)]
struct Producer {
    id: i64,
    epoch: i16,
    base_sequence: i32,
    transactional: bool,
    leader_epoch: i32,
    base_offset: i64,
}

fn producer() -> impl Strategy<Value = Producer> {
    (
        0i64..1 << 50,
        0i16..100,
        0i32..1 << 20,
        any::<bool>(),
        -1i32..50,
        0i64..1 << 30,
    )
        .prop_map(
            |(id, epoch, base_sequence, transactional, leader_epoch, base_offset)| Producer {
                id,
                epoch,
                base_sequence,
                transactional,
                leader_epoch,
                base_offset,
            },
        )
}

fn codec() -> impl Strategy<Value = (Compression, TheirCompression)> {
    prop::sample::select(vec![
        (Compression::None, TheirCompression::None),
        (Compression::Gzip, TheirCompression::Gzip),
        (Compression::Snappy, TheirCompression::Snappy),
        (Compression::Lz4, TheirCompression::Lz4),
        (Compression::Zstd, TheirCompression::Zstd),
    ])
}

fn ours(records: &[Owned], producer: Producer, compression: Compression) -> FinishedBatch {
    let mut builder = BatchBuilder::new(0);
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header::new(key, value.as_deref()))
            .collect();
        builder
            .append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            )
            .unwrap();
    }
    builder
        .finish(&FinishOptions {
            compression,
            base_offset: producer.base_offset,
            leader_epoch: producer.leader_epoch,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            transactional: producer.transactional,
            ..FinishOptions::default()
        })
        .unwrap()
}

fn theirs(records: &[Owned], producer: Producer) -> Vec<Record> {
    let convert = |(i, record): (usize, &Owned)| {
        let mut converted = Record {
            transactional: producer.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: producer.leader_epoch,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            timestamp_type: TimestampType::Creation,
            offset: producer.base_offset + i as i64,
            sequence: producer.base_sequence + i as i32,
            timestamp: record.timestamp,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: Default::default(),
        };
        for (key, value) in &record.headers {
            converted.headers.insert(
                StrBytes::from_string(key.clone()),
                value.clone().map(Bytes::from),
            );
        }
        converted
    };
    records.iter().enumerate().map(convert).collect()
}

fn read(batch: &RecordBatch) -> Vec<Owned> {
    let mut records = batch.records(Limits::default()).unwrap();
    let mut read = Vec::new();
    while let Some(record) = records.next_record() {
        let record = record.unwrap();
        assert_eq!(
            record.offset,
            batch.header().base_offset + read.len() as i64
        );
        read.push(Owned {
            timestamp: record.timestamp,
            key: record.key.map(Vec::from),
            value: record.value.map(Vec::from),
            headers: record
                .headers
                .map(|header| {
                    let key = header.key_str().unwrap();
                    (key.to_owned(), header.value.map(Vec::from))
                })
                .collect(),
        });
    }
    read
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn they_read_what_we_write(
        records in vec(record(), 1..40),
        producer in producer(),
        (compression, _) in codec(),
    ) {
        let finished = ours(&records, producer, compression);
        let mut bytes = finished.encoded;
        let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert_eq!(set.version, 2);
        prop_assert!(set.records == theirs(&records, producer));
    }

    #[test]
    fn we_read_what_they_write(
        records in vec(record(), 1..40),
        producer in producer(),
        (compression, their_compression) in codec(),
    ) {
        let options = RecordEncodeOptions { version: 2, compression: their_compression };
        let mut bytes = BytesMut::new();
        RecordBatchEncoder::encode(&mut bytes, &theirs(&records, producer), &options).unwrap();
        let bytes = bytes.freeze();
        let batches: Vec<_> = Batches::new([bytes.clone()]).map(Result::unwrap).collect();
        prop_assert_eq!(batches.len(), 1);
        let batch = &batches[0];
        batch.check_crc().unwrap();
        let header = batch.header();
        prop_assert_eq!(header.attributes.compression(), Ok(compression));
        prop_assert_eq!(header.attributes.is_transactional(), producer.transactional);
        prop_assert_eq!(
            (header.producer_id, header.producer_epoch, header.base_sequence),
            (producer.id, producer.epoch, producer.base_sequence)
        );
        prop_assert_eq!(header.base_offset, producer.base_offset);
        prop_assert_eq!(header.partition_leader_epoch, producer.leader_epoch);
        prop_assert_eq!(Some(header.max_timestamp), records.iter().map(|record| record.timestamp).max());
        prop_assert!(read(batch) == records);
        // Where timestamps ascend, so that both count from the same one, the bytes are the same, too.
        let ascending = records.is_sorted_by_key(|record| record.timestamp);
        if compression == Compression::None && ascending {
            prop_assert_eq!(ours(&records, producer, compression).encoded, bytes);
        }
    }
}
