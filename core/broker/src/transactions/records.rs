//! The records of `__transaction_state`, byte for byte as Kafka 4 writes them with `transaction.version` 2: key version 0, value
//! version 1, whose tagged fields are there only where they say something. Values of version 0 are read too.

use bytes::Bytes;
use ottla_protocol::{
    Str, VersionedMessage,
    messages::{TransactionLogKey, TransactionLogValue, transaction_log_value::PartitionsSchema},
};

use super::transaction::{Metadata, NO_EPOCH, Partitions, State};
use crate::groups::CoordinatorRecord;

const KEY: i16 = 0;
const VALUE: i16 = 1;

/// Longest transactional id that a record can hold, in bytes.
pub(super) const MAX_TEXT: usize = i16::MAX as usize;

/// What a transactional id has come to.
pub(super) fn metadata(id: &Str, m: &Metadata) -> CoordinatorRecord {
    let partitions = m.partitions.topics().map(|(topic, ids)| PartitionsSchema {
        topic: topic.clone(),
        partition_ids: ids.iter().copied().collect(),
    });
    let value = TransactionLogValue {
        producer_id: m.producer_id,
        previous_producer_id: m.previous_producer_id,
        next_producer_id: m.next_producer_id,
        producer_epoch: m.epoch,
        transaction_timeout_ms: m.timeout_ms,
        transaction_status: m.state as i8,
        transaction_partitions: (m.state != State::Empty).then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: m.updated_ms,
        transaction_start_timestamp_ms: m.start_ms,
        client_transaction_version: m.client_version,
        ..Default::default()
    };
    CoordinatorRecord {
        key: key(id),
        value: Some(encoded(&value, VALUE)),
    }
}

/// Forgets a transactional id.
pub(super) fn tombstone(id: &Str) -> CoordinatorRecord {
    CoordinatorRecord {
        key: key(id),
        value: None,
    }
}

/// Reads a record; without metadata it is a tombstone. `None` if its type or version is not known, or if it is damaged.
pub(super) fn parse(key: &[u8], value: Option<&[u8]>) -> Option<(Str, Option<Metadata>)> {
    if i16::from_be_bytes(*key.first_chunk()?) != KEY {
        return None;
    }
    // Copies: what is read is kept, and must not hold on to the chunk of the log that it was read from.
    let key = TransactionLogKey::from_bytes(Bytes::copy_from_slice(key)).ok()?;
    let Some(value) = value else {
        return Some((key.transactional_id, None));
    };
    let value = TransactionLogValue::from_bytes(Bytes::copy_from_slice(value)).ok()?;
    let state = match State::from_id(value.transaction_status)? {
        State::PrepareEpochFence => State::PrepareAbort,
        state => state,
    };
    let mut partitions = Partitions::default();
    for topic in value.transaction_partitions.unwrap_or_default() {
        for id in topic.partition_ids {
            partitions.insert(&topic.topic, id);
        }
    }
    let metadata = Metadata {
        producer_id: value.producer_id,
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        epoch: value.producer_epoch,
        last_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions,
        start_ms: value.transaction_start_timestamp_ms,
        updated_ms: value.transaction_last_update_timestamp_ms,
        client_version: value.client_transaction_version,
    };
    Some((key.transactional_id, Some(metadata)))
}

fn key(id: &Str) -> Bytes {
    let key = TransactionLogKey {
        transactional_id: id.clone(),
    };
    encoded(&key, KEY)
}

/// Encoding fails on text longer than [`MAX_TEXT`] only, which the flows keep out.
fn encoded(message: &impl VersionedMessage, version: i16) -> Bytes {
    message.to_bytes(version).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};

    fn ongoing() -> Metadata {
        Metadata {
            client_version: 2,
            last_epoch: NO_EPOCH,
            ..Metadata::new(7, 0x1234, 0x20).with_partitions(
                &[("t".into(), 2), ("t".into(), 1)],
                2,
                0x30,
            )
        }
    }

    #[test]
    fn byte_for_byte() {
        let record = metadata(&"x".into(), &ongoing());
        assert_eq!(&record.key[..], b"\0\0\0\x01x");
        let mut expected: Vec<u8> = vec![];
        expected.extend(b"\0\x01"); // version
        expected.extend(b"\0\0\0\0\0\0\0\x07\0\0\0\0\x12\x34\x01"); // id, epoch, timeout, Ongoing
        expected.extend(b"\x02\x02t\x03\0\0\0\x01\0\0\0\x02\0"); // one topic with two partitions
        expected.extend(b"\0\0\0\0\0\0\0\x30\0\0\0\0\0\0\0\x30"); // last update, start
        expected.extend(b"\x02\0\x08\0\0\0\0\0\0\0\x07\x02\x02\0\x02"); // tags: 0 previous id, 2 client's version
        assert_eq!(record.value.as_deref(), Some(&expected[..]));
        let read = parse(&record.key, record.value.as_deref()).unwrap();
        assert_eq!(read, ("x".into(), Some(ongoing())));
        assert_eq!(tombstone(&"x".into()).key, record.key);
        assert_eq!(parse(&record.key, None), Some(("x".into(), None)));
    }

    #[test]
    fn an_empty_one_has_no_partitions() {
        let empty = Metadata::new(1, 2, 3);
        let record = metadata(&"x".into(), &empty);
        let mut expected: Vec<u8> = vec![];
        expected.extend(b"\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\x02\0"); // version, id, epoch, timeout, Empty
        expected.extend(b"\0\0\0\0\0\0\0\0\x03"); // no partitions, last update
        expected.extend(b"\xff\xff\xff\xff\xff\xff\xff\xff"); // no start
        expected.extend(b"\x01\0\x08\0\0\0\0\0\0\0\x01"); // tag 0: previous id
        assert_eq!(record.value.as_deref(), Some(&expected[..]));
        let read = parse(&record.key, record.value.as_deref()).unwrap().1;
        assert_eq!(read, Some(empty));
    }

    #[test]
    fn version_0_is_read() {
        let value = TransactionLogValue {
            producer_id: 9,
            producer_epoch: 4,
            transaction_timeout_ms: 5,
            transaction_status: 7,
            transaction_partitions: Some(vec![PartitionsSchema {
                topic: "t".into(),
                partition_ids: vec![3],
            }]),
            ..Default::default()
        };
        let read = parse(b"\0\0\0\x01x", Some(&value.to_bytes(0).unwrap()));
        let read = read.unwrap().1.unwrap();
        assert_eq!((read.producer_id, read.epoch), (9, 4));
        assert_eq!(read.state, State::PrepareAbort, "what a fence leads to");
        assert!(read.partitions.contains(&"t".into(), 3));
    }

    #[test]
    fn what_is_not_known_is_skipped() {
        for key in [&b""[..], b"\0", b"\0\x01\0\x01x", b"\0\0\0\x09x"] {
            assert_eq!(parse(key, None), None);
        }
        for value in [&b""[..], b"\0\x01", b"\0\x09\0\0"] {
            assert_eq!(parse(b"\0\0\0\x01x", Some(value)), None);
        }
        let mut record = metadata(&"x".into(), &ongoing());
        let mut bytes = record.value.take().unwrap().to_vec();
        bytes[16] = 9;
        assert_eq!(parse(&record.key, Some(&bytes)), None, "an unknown state");
    }
}
