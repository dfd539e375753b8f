//! The records of `__consumer_offsets`, byte for byte as Kafka writes them, and as every version of it wrote them.
//!
//! Key and value each begin with an i16. A key's is the type of the record: 0 and 1 are a committed offset (1 is
//! written), 2 is a classic group. Other types (groups of the newer protocols) are not read. A value's is its version:
//! written are 3 for offsets (1 where the commit brought its own expiry) and 3 for groups; read are 0 to 4, of which 4 is
//! in the "flexible" notation (lengths as varints of length + 1, tagged fields at the end of each struct).

use alloc::{collections::BTreeMap, vec::Vec};
use bytes::{Buf, BufMut, Bytes};
use ottla_protocol::Str;

use super::{CoordinatorRecord, group::Group, member::Member, offsets::CommittedOffset};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 3;
/// The only version with an expiry of the offset's own.
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;
const FIRST_FLEXIBLE_VALUE: i16 = 4;

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
    let mut value = Vec::with_capacity(40 + offset.metadata.len());
    if let Some(expire_timestamp) = offset.expire_timestamp {
        value.put_i16(OFFSET_VALUE_WITH_EXPIRY);
        value.put_i64(offset.offset);
        put_str(&mut value, &offset.metadata);
        value.put_i64(offset.commit_timestamp);
        value.put_i64(expire_timestamp);
    } else {
        value.put_i16(OFFSET_VALUE);
        value.put_i64(offset.offset);
        value.put_i32(offset.leader_epoch);
        put_str(&mut value, &offset.metadata);
        value.put_i64(offset.commit_timestamp);
    }
    CoordinatorRecord {
        key: offset_key(group, topic, partition),
        value: Some(value.into()),
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
    let mut value = Vec::with_capacity(256);
    value.put_i16(GROUP_VALUE);
    put_str(&mut value, group.protocol_type.as_deref().unwrap_or(""));
    value.put_i32(group.generation);
    put_nullable_str(&mut value, group.protocol.as_deref());
    put_nullable_str(&mut value, group.leader.as_deref());
    value.put_i64(group.state_since_ms);
    value.put_i32(group.members().len() as i32);
    for member in group.members() {
        let subscription = group
            .protocol
            .as_deref()
            .and_then(|name| member.metadata(name));
        put_str(&mut value, &member.id);
        put_nullable_str(&mut value, member.instance_id.as_deref());
        put_str(&mut value, &member.client_id);
        put_str(&mut value, &member.client_host);
        value.put_i32(member.rebalance_timeout_ms);
        value.put_i32(member.session_timeout_ms);
        put_bytes(&mut value, subscription.map_or(&[], |b| b));
        put_bytes(&mut value, assignments.get(&member.id).map_or(&[], |b| b));
    }
    CoordinatorRecord {
        key: group_key(&group.id),
        value: Some(value.into()),
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
    let mut key = Reader {
        rest: key,
        flexible: false,
    };
    match key.rest.try_get_i16().ok()? {
        0 | OFFSET_KEY => {
            let (group, topic, partition) = (key.str()?, key.str()?, key.i32()?);
            let offset = match value {
                Some(value) => Some(parse_offset(value)?),
                None => None,
            };
            Some(GroupRecord::Offset {
                group,
                topic,
                partition,
                offset,
            })
        }
        GROUP_KEY => {
            let group = key.str()?;
            let stored = match value {
                Some(value) => Some(parse_group(value)?),
                None => None,
            };
            Some(GroupRecord::Group { group, stored })
        }
        _ => None,
    }
}

fn parse_offset(value: &[u8]) -> Option<CommittedOffset> {
    let (version, mut value) = Reader::of_value(value)?;
    let offset = value.i64()?;
    let leader_epoch = if version >= 3 { value.i32()? } else { -1 };
    let metadata = value.str()?;
    let commit_timestamp = value.i64()?;
    let expire_timestamp = if version == OFFSET_VALUE_WITH_EXPIRY {
        Some(value.i64()?).filter(|at| *at >= 0)
    } else {
        None
    };
    value.end_of_struct()?;
    Some(CommittedOffset {
        offset,
        leader_epoch,
        metadata,
        commit_timestamp,
        expire_timestamp,
    })
}

fn parse_group(value: &[u8]) -> Option<StoredGroup> {
    let (version, mut value) = Reader::of_value(value)?;
    let protocol_type = value.str()?;
    let generation = value.i32()?;
    let protocol = value.nullable_str()?;
    let leader = value.nullable_str()?;
    let state_since_ms = if version >= 2 { value.i64()? } else { -1 };
    let count = value.len_of_array()?;
    let mut members = Vec::new();
    for _ in 0..count {
        let id = value.str()?;
        let instance_id = if version >= 3 {
            value.nullable_str()?
        } else {
            None
        };
        let (client_id, client_host) = (value.str()?, value.str()?);
        let rebalance_timeout_ms = if version >= 1 {
            Some(value.i32()?)
        } else {
            None
        };
        let session_timeout_ms = value.i32()?;
        let subscription = value.bytes()?;
        let assignment = value.bytes()?;
        value.end_of_struct()?;
        members.push(Member {
            id,
            instance_id,
            client_id,
            client_host,
            session_timeout_ms,
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
            protocols: protocol
                .clone()
                .map(|name| (name, subscription))
                .into_iter()
                .collect(),
            assignment,
            is_new: false,
            session_ends_us: u64::MAX,
            awaiting_join: None,
            awaiting_sync: None,
            joined: 0,
        });
    }
    value.end_of_struct()?;
    Some(StoredGroup {
        protocol_type,
        generation,
        protocol,
        leader,
        state_since_ms,
        members,
    })
}

fn offset_key(group: &Str, topic: &Str, partition: i32) -> Bytes {
    let mut key = Vec::with_capacity(10 + group.len() + topic.len());
    key.put_i16(OFFSET_KEY);
    put_str(&mut key, group);
    put_str(&mut key, topic);
    key.put_i32(partition);
    key.into()
}

fn group_key(group: &Str) -> Bytes {
    let mut key = Vec::with_capacity(4 + group.len());
    key.put_i16(GROUP_KEY);
    put_str(&mut key, group);
    key.into()
}

/// Text came in with a 16-bit length or is as short; what is longer (an embedded client's, say) is cut at a character.
fn put_str(out: &mut Vec<u8>, text: &str) {
    let mut len = text.len().min(i16::MAX as usize);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    out.put_i16(len as i16);
    out.put_slice(&text.as_bytes()[..len]);
}

fn put_nullable_str(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_str(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

/// Reads fields; each method is `None` at the end of the bytes or where they make no sense.
struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Reads the version of a value.
    fn of_value(mut value: &'a [u8]) -> Option<(i16, Self)> {
        let version = value.try_get_i16().ok()?;
        let flexible = version >= FIRST_FLEXIBLE_VALUE;
        (0..=FIRST_FLEXIBLE_VALUE).contains(&version).then_some((
            version,
            Self {
                rest: value,
                flexible,
            },
        ))
    }

    fn i32(&mut self) -> Option<i32> {
        self.rest.try_get_i32().ok()
    }

    fn i64(&mut self) -> Option<i64> {
        self.rest.try_get_i64().ok()
    }

    fn varint(&mut self) -> Option<u32> {
        let mut number = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.rest.try_get_u8().ok()?;
            number |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Length of what follows; the inner `None` is null.
    fn len(&mut self, long: bool) -> Option<Option<usize>> {
        if self.flexible {
            return Some(self.varint()?.checked_sub(1).map(|n| n as usize));
        }
        let len = if long {
            self.i32()?
        } else {
            i32::from(self.rest.try_get_i16().ok()?)
        };
        Some(usize::try_from(len).ok())
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn nullable_str(&mut self) -> Option<Option<Str>> {
        let Some(len) = self.len(false)? else {
            return Some(None);
        };
        let text = core::str::from_utf8(self.take(len)?).ok()?;
        Some(Some(Str::from(text)))
    }

    fn str(&mut self) -> Option<Str> {
        self.nullable_str()?
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = self.len(true)??;
        self.take(len).map(Bytes::copy_from_slice)
    }

    fn len_of_array(&mut self) -> Option<usize> {
        self.len(true)?
    }

    /// Skips the tagged fields, which are of no use here.
    fn end_of_struct(&mut self) -> Option<()> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let size = self.varint()?;
                self.take(size as usize)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::group::GroupState, *};
    use ottla_record::Now;

    const OFFSET: CommittedOffset = CommittedOffset {
        offset: 0x0102,
        leader_epoch: 7,
        metadata: Str::from_static("m"),
        commit_timestamp: 0x0304,
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
        let value = b"\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\x07\0\x01m\0\0\0\0\0\0\x03\x04";
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
        // Version 4 with its topic id.
        let mut v4 =
            b"\0\x04\0\0\0\0\0\0\x01\x02\0\0\0\x07\x02m\0\0\0\0\0\0\x03\x04\x01\0\x10".to_vec();
        v4.extend([9; 16]);
        assert_eq!(read(&v4), OFFSET);
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
        assert!(parse(b"\0\x03\0\x01g", Some(b"\0\0\0\0\0\x01\0")).is_none());
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
