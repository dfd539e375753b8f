//! The records of `__consumer_offsets`, byte for byte as Kafka writes them, and as every version of it wrote them.
//!
//! Key and value each begin with an i16. A key's is the type of the record: 0 and 1 are a committed offset (1 is
//! written), 2 is a classic group. Those of consumer groups are in [`super::consumer::records`]; others are not read. A value's is its version:
//! written are 4 for offsets (1 where the commit brought its own expiry) and 3 for groups; read are 0 to 4.

use alloc::{collections::BTreeMap, vec::Vec};
use bytes::Bytes;
use ottla_protocol::{
    Str, VersionedMessage,
    messages::{
        GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
        group_metadata_value::MemberMetadata,
    },
};

use super::{CoordinatorRecord, group::Group, member::Member, offsets::CommittedOffset};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 4;
/// The only version with an expiry of the offset's own; it has neither leader epoch nor topic id.
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;

/// Longest text that a record can hold, in bytes.
pub(super) const MAX_TEXT: usize = i16::MAX as usize;

/// A record that was read; without a value, it is a tombstone.
#[derive(Debug)]
pub(super) enum GroupRecord {
    Offset {
        group: Str,
        topic: Str,
        partition: i32,
        offset: Option<CommittedOffset>,
    },
    Group {
        group: Str,
        stored: Option<StoredGroup>,
    },
    /// Of a consumer group.
    Consumer {
        group: Str,
        stored: super::consumer::records::Stored,
    },
}

/// A group as its metadata record tells of it.
#[derive(Debug)]
pub(super) struct StoredGroup {
    pub protocol_type: Str,
    pub generation: i32,
    pub protocol: Option<Str>,
    pub leader: Option<Str>,
    /// Milliseconds; -1 if the record is too old to say.
    pub state_since_ms: i64,
    pub members: Vec<Member>,
}

/// A committed offset.
pub(super) fn offset(
    group: &Str,
    topic: &Str,
    partition: i32,
    offset: &CommittedOffset,
) -> CoordinatorRecord {
    let mut value = OffsetCommitValue {
        offset: offset.offset,
        metadata: offset.metadata.clone(),
        commit_timestamp: offset.commit_timestamp,
        ..Default::default()
    };
    let version = match offset.expire_timestamp {
        Some(at) => {
            value.expire_timestamp = at;
            OFFSET_VALUE_WITH_EXPIRY
        }
        None => {
            value.leader_epoch = offset.leader_epoch;
            value.topic_id = offset.topic_id;
            OFFSET_VALUE
        }
    };
    CoordinatorRecord {
        key: offset_key(group, topic, partition),
        value: Some(encoded(&value, version)),
    }
}

/// Deletes a committed offset.
pub(super) fn offset_tombstone(group: &Str, topic: &Str, partition: i32) -> CoordinatorRecord {
    CoordinatorRecord {
        key: offset_key(group, topic, partition),
        value: None,
    }
}

/// Deletes a group.
pub(super) fn group_tombstone(group: &Str) -> CoordinatorRecord {
    CoordinatorRecord {
        key: group_key(group),
        value: None,
    }
}

/// A group of the present generation with these assignments; members that are not among them get none.
pub(super) fn group_metadata(
    group: &Group,
    assignments: &BTreeMap<Str, Bytes>,
) -> CoordinatorRecord {
    let protocol = group.protocol.as_deref();
    let members = group.members().map(|m| MemberMetadata {
        member_id: m.id.clone(),
        group_instance_id: m.instance_id.clone(),
        client_id: m.client_id.clone(),
        client_host: m.client_host.clone(),
        rebalance_timeout: m.rebalance_timeout_ms,
        session_timeout: m.session_timeout_ms,
        subscription: protocol
            .and_then(|p| m.metadata(p))
            .cloned()
            .unwrap_or_default(),
        assignment: assignments.get(&m.id).cloned().unwrap_or_default(),
    });
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        generation: group.generation,
        protocol: group.protocol.clone(),
        leader: group.leader.clone(),
        current_state_timestamp: group.state_since_ms,
        members: members.collect(),
    };
    CoordinatorRecord {
        key: group_key(&group.id),
        value: Some(encoded(&value, GROUP_VALUE)),
    }
}

/// The assignments that the members have now.
pub(super) fn assignments_of(group: &Group) -> BTreeMap<Str, Bytes> {
    group
        .members()
        .map(|m| (m.id.clone(), m.assignment.clone()))
        .collect()
}

/// Reads a record. `None` if its type or version is not known, or if it is damaged.
pub(super) fn parse(key: &[u8], value: Option<&[u8]>) -> Option<GroupRecord> {
    let kind = i16::from_be_bytes(*key.first_chunk()?);
    // Copies: what is read is kept, and must not hold on to the chunk of the log that it was read from.
    let key = Bytes::copy_from_slice(key);
    let value = value.map(Bytes::copy_from_slice);
    match kind {
        0 | OFFSET_KEY => {
            let key = OffsetCommitKey::from_bytes(key).ok()?;
            let offset = value.map(parse_offset);
            Some(GroupRecord::Offset {
                group: key.group,
                topic: key.topic,
                partition: key.partition,
                offset: offset.map_or(Some(None), |o| o.map(Some))?,
            })
        }
        GROUP_KEY => {
            let group = GroupMetadataKey::from_bytes(key).ok()?.group;
            let stored = value.map(parse_group);
            Some(GroupRecord::Group {
                group,
                stored: stored.map_or(Some(None), |s| s.map(Some))?,
            })
        }
        _ => {
            let (group, stored) = super::consumer::records::parse(kind, key, value)?;
            Some(GroupRecord::Consumer { group, stored })
        }
    }
}

fn parse_offset(value: Bytes) -> Option<CommittedOffset> {
    let value = OffsetCommitValue::from_bytes(value).ok()?;
    Some(CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata,
        commit_timestamp: value.commit_timestamp,
        topic_id: value.topic_id,
        expire_timestamp: Some(value.expire_timestamp).filter(|at| *at >= 0),
    })
}

fn parse_group(value: Bytes) -> Option<StoredGroup> {
    let version = i16::from_be_bytes(*value.first_chunk()?);
    let value = GroupMetadataValue::from_bytes(value).ok()?;
    let member = |m: MemberMetadata| Member {
        id: m.member_id,
        instance_id: m.group_instance_id,
        client_id: m.client_id,
        client_host: m.client_host,
        session_timeout_ms: m.session_timeout,
        // Version 0 is of a time when there was only one timeout.
        rebalance_timeout_ms: if version == 0 {
            m.session_timeout
        } else {
            m.rebalance_timeout
        },
        protocols: value
            .protocol
            .iter()
            .map(|p| (p.clone(), m.subscription.clone()))
            .collect(),
        assignment: m.assignment,
        is_new: false,
        session_ends_us: u64::MAX,
        awaiting_join: None,
        awaiting_sync: None,
        joined: 0,
    };
    Some(StoredGroup {
        members: value.members.into_iter().map(member).collect(),
        protocol_type: value.protocol_type,
        generation: value.generation,
        protocol: value.protocol,
        leader: value.leader,
        state_since_ms: value.current_state_timestamp,
    })
}

fn offset_key(group: &Str, topic: &Str, partition: i32) -> Bytes {
    let key = OffsetCommitKey {
        group: group.clone(),
        topic: topic.clone(),
        partition,
    };
    encoded(&key, OFFSET_KEY)
}

fn group_key(group: &Str) -> Bytes {
    encoded(
        &GroupMetadataKey {
            group: group.clone(),
        },
        GROUP_KEY,
    )
}

/// Encoding fails on text longer than [`MAX_TEXT`] only, which the flows keep out.
fn encoded(message: &impl VersionedMessage, version: i16) -> Bytes {
    message.to_bytes(version).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::group::GroupState, *};
    use ottla_protocol::Uuid;
    use ottla_record::Now;

    const OFFSET: CommittedOffset = CommittedOffset {
        offset: 0x0102,
        leader_epoch: 7,
        metadata: Str::from_static("m"),
        commit_timestamp: 0x0304,
        topic_id: Uuid::ZERO,
        expire_timestamp: None,
    };

    fn group_of_one() -> Group {
        let mut group = Group::new(Str::from("g"), 0);
        let member = Member {
            id: Str::from("id"),
            instance_id: None,
            client_id: Str::from("c"),
            client_host: Str::from("/h"),
            session_timeout_ms: 10,
            rebalance_timeout_ms: 20,
            protocols: alloc::vec![(Str::from("range"), Bytes::from_static(&[0, 0]))],
            assignment: Bytes::new(),
            is_new: false,
            session_ends_us: 0,
            awaiting_join: None,
            awaiting_sync: None,
            joined: 0,
        };
        group.add(member, &Str::from("consumer"));
        group.enter(GroupState::PreparingRebalance, Now::new(0, 5));
        group.begin_generation(Now::new(0, 5));
        group
    }

    #[test]
    fn offset_record_byte_for_byte() {
        let record = offset(&Str::from("g"), &Str::from("t"), 3, &OFFSET);
        assert_eq!(&record.key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
        let value = b"\0\x04\0\0\0\0\0\0\x01\x02\0\0\0\x07\x02m\0\0\0\0\0\0\x03\x04\0";
        assert_eq!(&record.value.unwrap()[..], value, "no topic id is known");
        let with_id = CommittedOffset {
            topic_id: Uuid([9; 16]),
            ..OFFSET
        };
        let record = offset(&Str::from("g"), &Str::from("t"), 3, &with_id);
        let mut value = value[..value.len() - 1].to_vec();
        value.extend(b"\x01\0\x10");
        value.extend([9; 16]);
        assert_eq!(&record.value.unwrap()[..], value);
        let with_expiry = CommittedOffset {
            expire_timestamp: Some(9),
            ..OFFSET
        };
        let record = offset(&Str::from("g"), &Str::from("t"), 3, &with_expiry);
        let value = b"\0\x01\0\0\0\0\0\0\x01\x02\0\x01m\0\0\0\0\0\0\x03\x04\0\0\0\0\0\0\0\x09";
        assert_eq!(&record.value.unwrap()[..], value);
    }

    #[test]
    fn group_record_byte_for_byte() {
        let group = group_of_one();
        let given = [(Str::from("id"), Bytes::from_static(&[1]))].into();
        let record = group_metadata(&group, &given);
        assert_eq!(&record.key[..], b"\0\x02\0\x01g");
        let mut expected = Vec::new();
        expected.extend(b"\0\x03\0\x08consumer\0\0\0\x01\0\x05range\0\x02id");
        expected.extend(b"\0\0\0\0\0\0\0\x05\0\0\0\x01");
        expected.extend(b"\0\x02id\xff\xff\0\x01c\0\x02/h\0\0\0\x14\0\0\0\x0a");
        expected.extend(b"\0\0\0\x02\0\0\0\0\0\x01\x01");
        assert_eq!(record.value.as_deref(), Some(&expected[..]));
        assert_eq!(group_tombstone(&Str::from("g")).key, record.key);

        let Some(GroupRecord::Group {
            group: id,
            stored: Some(stored),
        }) = parse(&record.key, record.value.as_deref())
        else {
            panic!("it is a group")
        };
        assert_eq!(
            (&*id, stored.generation, stored.state_since_ms),
            ("g", 1, 5)
        );
        assert_eq!(stored.protocol.as_deref(), Some("range"));
        assert_eq!(stored.leader.as_deref(), Some("id"));
        assert_eq!(stored.members[0].assignment, Bytes::from_static(&[1]));
        assert_eq!(
            stored.members[0].metadata("range"),
            Some(&Bytes::from_static(&[0, 0]))
        );
    }

    #[test]
    fn offsets_of_every_version_are_read() {
        let read = |value: &[u8]| match parse(b"\0\0\0\x01g\0\x01t\0\0\0\x03", Some(value)) {
            Some(GroupRecord::Offset {
                offset: Some(offset),
                partition: 3,
                ..
            }) => offset,
            other => panic!("{other:?}"),
        };
        let v0 = read(b"\0\0\0\0\0\0\0\0\x01\x02\0\x01m\0\0\0\0\0\0\x03\x04");
        assert_eq!(
            v0,
            CommittedOffset {
                leader_epoch: -1,
                ..OFFSET
            }
        );
        let v1 = read(b"\0\x01\0\0\0\0\0\0\x01\x02\0\x01m\0\0\0\0\0\0\x03\x04\0\0\0\0\0\0\0\x09");
        assert_eq!(
            v1,
            CommittedOffset {
                leader_epoch: -1,
                expire_timestamp: Some(9),
                ..OFFSET
            }
        );
        let v2 = read(b"\0\x02\0\0\0\0\0\0\x01\x02\0\x01m\0\0\0\0\0\0\x03\x04");
        assert_eq!(
            v2,
            CommittedOffset {
                leader_epoch: -1,
                ..OFFSET
            }
        );
        let v3 = read(b"\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\x07\0\x01m\0\0\0\0\0\0\x03\x04");
        assert_eq!(v3, OFFSET);
        // Version 4 with its topic id.
        let mut v4 =
            b"\0\x04\0\0\0\0\0\0\x01\x02\0\0\0\x07\x02m\0\0\0\0\0\0\x03\x04\x01\0\x10".to_vec();
        v4.extend([9; 16]);
        let with_id = CommittedOffset {
            topic_id: Uuid([9; 16]),
            ..OFFSET
        };
        assert_eq!(read(&v4), with_id);
    }

    #[test]
    fn groups_of_old_and_new_versions_are_read() {
        let read = |value: &[u8]| match parse(b"\0\x02\0\x01g", Some(value)) {
            Some(GroupRecord::Group {
                stored: Some(stored),
                ..
            }) => stored,
            other => panic!("{other:?}"),
        };
        let mut v0 = b"\0\0\0\x08consumer\0\0\0\x01\0\x05range\0\x02id\0\0\0\x01".to_vec();
        v0.extend(b"\0\x02id\0\x01c\0\x02/h\0\0\0\x0a\0\0\0\0\0\0\0\0");
        let stored = read(&v0);
        assert_eq!(
            (
                stored.state_since_ms,
                stored.members[0].rebalance_timeout_ms
            ),
            (-1, 10)
        );
        let mut v4 = b"\0\x04\x09consumer\0\0\0\x01\x06range\x03id".to_vec();
        v4.extend(b"\0\0\0\0\0\0\0\x05\x02\x03id\x02i\x02c\x03/h\0\0\0\x14\0\0\0\x0a\x01\x02z\0\0");
        let stored = read(&v4);
        assert_eq!(stored.members[0].instance_id.as_deref(), Some("i"));
        assert_eq!(stored.members[0].assignment, Bytes::from_static(b"z"));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        assert!(parse(b"", None).is_none());
        assert!(parse(b"\0\x63\0\x01g", Some(b"\0\0\0\0\0\x01\0")).is_none());
        assert!(parse(b"\0\x02\0\x01g", Some(b"\0\x05")).is_none());
        let good = group_metadata(&group_of_one(), &BTreeMap::new())
            .value
            .unwrap();
        for len in 0..good.len() {
            assert!(
                parse(b"\0\x02\0\x01g", Some(&good[..len])).is_none(),
                "{len}"
            );
        }
        // A count of members that the bytes can't hold.
        let mut hostile = b"\0\x03\0\x01c\0\0\0\x01\xff\xff\xff\xff".to_vec();
        hostile.extend(b"\0\0\0\0\0\0\0\0\x7f\xff\xff\xff");
        assert!(parse(b"\0\x02\0\x01g", Some(&hostile)).is_none());
    }
}
