//! Agreement with the `kafka-protocol` crate: every message, every version, both ways.

use crate::arbitrary::Random;
use crate::{ApiKey, Decoder, Encoder, Request, Response, VersionedMessage, messages};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};

/// Values per message and version. The seed is fixed: a failure comes back.
const ROUNDS: u64 = 60;

/// Versions that `kafka-protocol` 0.18, which knows Kafka 4.1, does not have, or has only one half of: compared with
/// themselves only.
fn unknown_to_them(api_key: ApiKey, version: i16, response: bool) -> bool {
    let theirs = theirs::ApiKey::try_from(api_key as i16).unwrap();
    match api_key {
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => version > 9 && !response,
        _ => version > theirs.valid_versions().max,
    }
}

/// `(key, version, random)` for all that is to be compared.
fn each(mut compare: impl FnMut(ApiKey, i16, &mut Random)) {
    for api_key in ApiKey::ALL {
        for version in api_key.valid_versions() {
            let mut random = Random(1_000 * api_key as u64 + version as u64);
            (0..ROUNDS).for_each(|_| compare(api_key, version, &mut random));
        }
    }
}

#[test]
fn requests() {
    each(|api_key, version, random| {
        let ours = Request::arbitrary(api_key, random, version);
        let mut e = Encoder::new();
        ours.encode(version, &mut e)
            .unwrap_or_else(|e| panic!("{api_key:?} v{version}: {e} in {ours:?}"));
        let bytes = e.into_bytes();
        let bytes = if unknown_to_them(api_key, version, false) {
            bytes
        } else {
            let their_key = theirs::ApiKey::try_from(api_key as i16).unwrap();
            let mut left = bytes.clone();
            let read = theirs::RequestKind::decode(their_key, &mut left, version)
                .unwrap_or_else(|e| panic!("{api_key:?} v{version}: {e} in {ours:?}"));
            assert!(
                left.is_empty(),
                "{api_key:?} v{version}: they leave {} bytes of {ours:?}",
                left.len()
            );
            let mut written = BytesMut::new();
            read.encode(&mut written, version).unwrap();
            assert_eq!(bytes, written, "{api_key:?} v{version}: {ours:?}\n{read:?}");
            written.freeze()
        };
        let mut d = Decoder::new(bytes);
        let back = Request::decode(api_key, version, &mut d).unwrap();
        assert_eq!(d.remaining(), 0);
        assert_eq!(back, ours, "{api_key:?} v{version}");
    });
}

#[test]
fn responses() {
    each(|api_key, version, random| {
        let ours = Response::arbitrary(api_key, random, version);
        let mut e = Encoder::new();
        ours.encode(version, &mut e)
            .unwrap_or_else(|e| panic!("{api_key:?} v{version}: {e} in {ours:?}"));
        let bytes = e.into_bytes();
        let bytes = if unknown_to_them(api_key, version, true) {
            bytes
        } else {
            let their_key = theirs::ApiKey::try_from(api_key as i16).unwrap();
            let mut left = bytes.clone();
            let read = theirs::ResponseKind::decode(their_key, &mut left, version)
                .unwrap_or_else(|e| panic!("{api_key:?} v{version}: {e} in {ours:?}"));
            assert!(
                left.is_empty(),
                "{api_key:?} v{version}: they leave {} bytes of {ours:?}",
                left.len()
            );
            let mut written = BytesMut::new();
            read.encode(&mut written, version).unwrap();
            assert_eq!(bytes, written, "{api_key:?} v{version}: {ours:?}\n{read:?}");
            written.freeze()
        };
        let mut d = Decoder::new(bytes);
        let back = Response::decode(api_key, version, &mut d).unwrap();
        assert_eq!(d.remaining(), 0);
        assert_eq!(back, ours, "{api_key:?} v{version}");
    });
}

#[test]
fn version_ranges_and_headers_are_the_same() {
    for api_key in ApiKey::ALL {
        let their_key = theirs::ApiKey::try_from(api_key as i16).unwrap();
        let known = their_key.valid_versions();
        let ours = api_key.valid_versions();
        assert_eq!(*ours.start(), known.min, "{api_key:?}");
        for version in ours.filter(|&v| v <= known.max) {
            let flexible = api_key.is_flexible(version);
            assert_eq!(
                their_key.request_header_version(version),
                1 + i16::from(flexible),
                "{api_key:?} v{version}"
            );
            let tagged = flexible && api_key != ApiKey::ApiVersions;
            assert_eq!(
                their_key.response_header_version(version),
                i16::from(tagged),
                "{api_key:?} v{version}"
            );
        }
    }
}

/// The members' own messages, which are in no API.
fn member_message<
    T: VersionedMessage + PartialEq + core::fmt::Debug,
    Theirs: Encodable + Decodable,
>(
    arbitrary: fn(&mut Random, i16) -> T,
) {
    for version in T::MIN_VERSION..=T::MAX_VERSION {
        let mut random = Random(version as u64);
        for _ in 0..ROUNDS {
            let ours = arbitrary(&mut random, version);
            let bytes = ours.to_bytes(version).unwrap();
            let read = Theirs::decode(&mut bytes.slice(2..), version).unwrap();
            let mut written = BytesMut::from(&version.to_be_bytes()[..]);
            read.encode(&mut written, version).unwrap();
            assert_eq!(bytes, written);
            assert_eq!(T::from_bytes(written.freeze()).unwrap(), ours);
        }
    }
}

#[test]
fn subscriptions_and_assignments() {
    member_message::<_, theirs::ConsumerProtocolSubscription>(
        messages::ConsumerProtocolSubscription::arbitrary,
    );
    member_message::<_, theirs::ConsumerProtocolAssignment>(
        messages::ConsumerProtocolAssignment::arbitrary,
    );
}

/// Records of `__consumer_offsets`, which the other crate does not have.
fn record<T: VersionedMessage + PartialEq + core::fmt::Debug>(
    arbitrary: fn(&mut Random, i16) -> T,
) {
    for version in T::MIN_VERSION..=T::MAX_VERSION {
        let mut random = Random(version as u64);
        for _ in 0..ROUNDS {
            let ours = arbitrary(&mut random, version);
            let bytes = ours.to_bytes(version).unwrap();
            assert_eq!(bytes[..2], version.to_be_bytes());
            assert_eq!(T::from_bytes(bytes).unwrap(), ours);
        }
    }
}

#[test]
fn records_of_the_offsets_topic() {
    record(messages::OffsetCommitKey::arbitrary);
    record(messages::OffsetCommitValue::arbitrary);
    record(messages::GroupMetadataKey::arbitrary);
    record(messages::GroupMetadataValue::arbitrary);
}

#[test]
fn records_of_consumer_groups() {
    record(messages::ConsumerGroupCurrentMemberAssignmentKey::arbitrary);
    record(messages::ConsumerGroupCurrentMemberAssignmentValue::arbitrary);
    record(messages::ConsumerGroupMemberMetadataKey::arbitrary);
    record(messages::ConsumerGroupMemberMetadataValue::arbitrary);
    record(messages::ConsumerGroupMetadataKey::arbitrary);
    record(messages::ConsumerGroupMetadataValue::arbitrary);
    record(messages::ConsumerGroupPartitionMetadataKey::arbitrary);
    record(messages::ConsumerGroupPartitionMetadataValue::arbitrary);
    record(messages::ConsumerGroupRegularExpressionKey::arbitrary);
    record(messages::ConsumerGroupRegularExpressionValue::arbitrary);
    record(messages::ConsumerGroupTargetAssignmentMemberKey::arbitrary);
    record(messages::ConsumerGroupTargetAssignmentMemberValue::arbitrary);
    record(messages::ConsumerGroupTargetAssignmentMetadataKey::arbitrary);
    record(messages::ConsumerGroupTargetAssignmentMetadataValue::arbitrary);
}

#[test]
fn records_of_share_groups() {
    record(messages::ShareGroupCurrentMemberAssignmentKey::arbitrary);
    record(messages::ShareGroupCurrentMemberAssignmentValue::arbitrary);
    record(messages::ShareGroupMemberMetadataKey::arbitrary);
    record(messages::ShareGroupMemberMetadataValue::arbitrary);
    record(messages::ShareGroupMetadataKey::arbitrary);
    record(messages::ShareGroupMetadataValue::arbitrary);
    record(messages::ShareGroupStatePartitionMetadataKey::arbitrary);
    record(messages::ShareGroupStatePartitionMetadataValue::arbitrary);
    record(messages::ShareGroupTargetAssignmentMemberKey::arbitrary);
    record(messages::ShareGroupTargetAssignmentMemberValue::arbitrary);
    record(messages::ShareGroupTargetAssignmentMetadataKey::arbitrary);
    record(messages::ShareGroupTargetAssignmentMetadataValue::arbitrary);
}

#[test]
fn records_of_share_state() {
    record(messages::ShareSnapshotKey::arbitrary);
    record(messages::ShareSnapshotValue::arbitrary);
    record(messages::ShareUpdateKey::arbitrary);
    record(messages::ShareUpdateValue::arbitrary);
}

#[test]
fn records_of_transactions() {
    record(messages::TransactionLogKey::arbitrary);
    record(messages::TransactionLogValue::arbitrary);
}

#[test]
fn records_of_the_metadata_log() {
    record(messages::TopicRecord::arbitrary);
    record(messages::PartitionRecord::arbitrary);
    record(messages::PartitionChangeRecord::arbitrary);
    record(messages::ConfigRecord::arbitrary);
    record(messages::ClientQuotaRecord::arbitrary);
    record(messages::RemoveTopicRecord::arbitrary);
    record(messages::FeatureLevelRecord::arbitrary);
    record(messages::ProducerIdsRecord::arbitrary);
}

#[test]
fn an_offset_commit_record_is_kafkas_byte_for_byte() {
    let key = messages::OffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 2,
    };
    assert_eq!(
        key.to_bytes(1).unwrap()[..],
        *b"\0\x01\0\x01g\0\x01t\0\0\0\x02"
    );
    let value = messages::OffsetCommitValue {
        offset: 5,
        leader_epoch: 3,
        metadata: "m".into(),
        commit_timestamp: 7,
        ..Default::default()
    };
    assert_eq!(
        value.to_bytes(3).unwrap()[..],
        *b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x03\0\x01m\0\0\0\0\0\0\0\x07"
    );
    assert_eq!(value.expire_timestamp, -1);
}

#[test]
fn only_members_read_newer_versions() {
    let subscription = messages::ConsumerProtocolSubscription {
        rack_id: Some("r".into()),
        ..Default::default()
    };
    let mut bytes = subscription.to_bytes(3).unwrap().to_vec();
    bytes[1] = 9;
    bytes.extend_from_slice(b"what a later version adds");
    assert_eq!(
        messages::ConsumerProtocolSubscription::from_bytes(bytes.into()).unwrap(),
        subscription
    );
    let newer = messages::OffsetCommitValue::from_bytes(Bytes::from_static(b"\0\x09"));
    assert_eq!(
        newer,
        Err(crate::DecodeError::UnsupportedVersion { version: 9 })
    );
}
