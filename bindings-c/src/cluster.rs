//! Questions about the cluster: metadata, groups, offsets.
//!
//! Answers are one object each: the public struct, with what it points to behind it.

use crate::{
    abi::{
        GroupInfo, GroupList, GroupMemberInfo, Metadata, MetadataBroker, MetadataPartition,
        MetadataTopic, RespErr,
    },
    border::{code, lock, text, timeout},
    errors::c_string,
    instance::Instance,
    topic::Topic,
};
use core::ffi::{c_char, c_int, c_void};
use ottla::BrokerInfo;
use std::{ffi::CString, ptr};

/// Texts that pointers lead to; they don't move.
#[derive(Default)]
struct Texts(Vec<CString>);

impl Texts {
    fn keep(&mut self, text: &str) -> *mut c_char {
        let text = c_string(text);
        let at = text.as_ptr().cast_mut();
        self.0.push(text);
        at
    }

    fn broker(&mut self, broker: &BrokerInfo) -> MetadataBroker {
        MetadataBroker {
            id: broker.id,
            host: self.keep(&broker.host),
            port: broker.port,
        }
    }
}

/// `rd_kafka_metadata_t` and what it points to.
#[repr(C)]
struct OwnedMetadata {
    public: Metadata,
    brokers: Vec<MetadataBroker>,
    topics: Vec<MetadataTopic>,
    partitions: Vec<Vec<MetadataPartition>>,
    nodes: Vec<Vec<i32>>,
    texts: Texts,
}

impl OwnedMetadata {
    fn new(metadata: ottla::Metadata) -> Box<Self> {
        let mut texts = Texts::default();
        let mut brokers: Vec<_> = metadata.brokers.iter().map(|b| texts.broker(b)).collect();
        let (mut topics, mut all_partitions, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
        for topic in metadata.topics {
            let mut partitions = Vec::new();
            for mut partition in topic.partitions {
                partitions.push(MetadataPartition {
                    id: partition.id,
                    err: partition.error.into(),
                    leader: partition.leader,
                    replica_cnt: partition.replicas.len() as c_int,
                    replicas: partition.replicas.as_mut_ptr(),
                    isr_cnt: partition.isrs.len() as c_int,
                    isrs: partition.isrs.as_mut_ptr(),
                });
                // The vectors move, what they point to doesn't.
                nodes.extend([partition.replicas, partition.isrs]);
            }
            topics.push(MetadataTopic {
                topic: texts.keep(&topic.name),
                partition_cnt: partitions.len() as c_int,
                partitions: partitions.as_mut_ptr(),
                err: topic.error.into(),
            });
            all_partitions.push(partitions);
        }
        Box::new(Self {
            public: Metadata {
                broker_cnt: brokers.len() as c_int,
                brokers: brokers.as_mut_ptr(),
                topic_cnt: topics.len() as c_int,
                topics: topics.as_mut_ptr(),
                orig_broker_id: metadata.orig_broker_id,
                orig_broker_name: texts.keep(&metadata.orig_broker_name),
            },
            brokers,
            topics,
            partitions: all_partitions,
            nodes,
            texts,
        })
    }
}

/// Brokers and topics: all topics (`all_topics` 1), one (`only_rkt`), or those that this handle knows. `*metadatap` is the
/// application's to destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_metadata(
    rk: *mut Instance,
    all_topics: c_int,
    only_rkt: *mut Topic,
    metadatap: *mut *const Metadata,
    timeout_ms: c_int,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle, null or a topic, null or the caller's to be written.
        unsafe {
            let (Some(instance), Some(metadatap)) = (rk.as_ref(), metadatap.as_mut()) else {
                return RespErr::INVALID_ARG;
            };
            *metadatap = ptr::null();
            let names: Vec<String> = match (only_rkt.as_ref(), all_topics) {
                (Some(topic), _) => vec![topic.name().to_owned()],
                (None, 0) => lock(&instance.topics).keys().cloned().collect(),
                (None, _) => Vec::new(),
            };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let topics = (all_topics == 0 || !only_rkt.is_null()).then_some(&*names);
            let answer = instance
                .handle()
                .and_then(|handle| handle.metadata(topics, timeout(timeout_ms)));
            code(answer.map(|answer| {
                let owned = OwnedMetadata::new(answer);
                *metadatap = Box::into_raw(owned).cast_const().cast();
            }))
        }
    })
}

/// Frees metadata; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_metadata_destroy(metadata: *const Metadata) {
    if !metadata.is_null() {
        // SAFETY: the caller gives up what `rd_kafka_metadata` gave, which is the first field.
        drop(unsafe { Box::from_raw(metadata.cast_mut().cast::<OwnedMetadata>()) });
    }
}

/// `struct rd_kafka_group_list` and what it points to.
#[repr(C)]
struct OwnedGroups {
    public: GroupList,
    groups: Vec<GroupInfo>,
    members: Vec<Vec<GroupMemberInfo>>,
    /// What the groups' members told each other.
    bytes: Vec<Vec<u8>>,
    texts: Texts,
}

impl OwnedGroups {
    fn new(found: Vec<ottla::GroupInfo>) -> Box<Self> {
        let (mut texts, mut bytes) = (Texts::default(), Vec::new());
        let (mut groups, mut all_members) = (Vec::new(), Vec::new());
        for group in found {
            let mut members = Vec::new();
            for member in group.members {
                let mut keep = |part: &[u8]| -> (*mut c_void, c_int) {
                    let mut part = part.to_vec();
                    let at = part.as_mut_ptr().cast();
                    let len = part.len() as c_int;
                    bytes.push(part);
                    (at, len)
                };
                let (metadata, metadata_size) = keep(&member.metadata);
                let (assignment, assignment_size) = keep(&member.assignment);
                members.push(GroupMemberInfo {
                    member_id: texts.keep(&member.member_id),
                    client_id: texts.keep(&member.client_id),
                    client_host: texts.keep(&member.client_host),
                    member_metadata: metadata,
                    member_metadata_size: metadata_size,
                    member_assignment: assignment,
                    member_assignment_size: assignment_size,
                });
            }
            groups.push(GroupInfo {
                broker: texts.broker(&group.broker),
                group: texts.keep(&group.group),
                err: group.error.into(),
                state: texts.keep(&group.state),
                protocol_type: texts.keep(&group.protocol_type),
                protocol: texts.keep(&group.protocol),
                members: members.as_mut_ptr(),
                member_cnt: members.len() as c_int,
            });
            all_members.push(members);
        }
        Box::new(Self {
            public: GroupList {
                groups: groups.as_mut_ptr(),
                group_cnt: groups.len() as c_int,
            },
            groups,
            members: all_members,
            bytes,
            texts,
        })
    }
}

/// Groups with their members: all (null) or one. `*grplistp` is the application's to destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_list_groups(
    rk: *mut Instance,
    group: *const c_char,
    grplistp: *mut *const GroupList,
    timeout_ms: c_int,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle, null or a C string, null or the caller's to be written.
        unsafe {
            let (Some(instance), Some(grplistp)) = (rk.as_ref(), grplistp.as_mut()) else {
                return RespErr::INVALID_ARG;
            };
            *grplistp = ptr::null();
            let answer = instance
                .handle()
                .and_then(|handle| handle.list_groups(text(group), timeout(timeout_ms)));
            code(answer.map(|answer| {
                *grplistp = Box::into_raw(OwnedGroups::new(answer)).cast_const().cast();
            }))
        }
    })
}

/// Frees a list of groups; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_group_list_destroy(grplist: *const GroupList) {
    if !grplist.is_null() {
        // SAFETY: the caller gives up what `rd_kafka_list_groups` gave, which is the first field.
        drop(unsafe { Box::from_raw(grplist.cast_mut().cast::<OwnedGroups>()) });
    }
}

/// A partition's first offset and its end, asked of the broker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_query_watermark_offsets(
    rk: *mut Instance,
    topic: *const c_char,
    partition: i32,
    low: *mut i64,
    high: *mut i64,
    timeout_ms: c_int,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle, a C string, null or the caller's to be written.
        unsafe {
            let (Some(instance), Some(topic)) = (rk.as_ref(), text(topic)) else {
                return RespErr::INVALID_ARG;
            };
            let answer = instance.handle().and_then(|handle| {
                handle.query_watermark_offsets(topic, partition, timeout(timeout_ms))
            });
            code(answer.map(|answer| write_watermarks(answer, low, high)))
        }
    })
}

/// The same, as the last fetch told, without asking; `RD_KAFKA_OFFSET_INVALID` for both before that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_get_watermark_offsets(
    rk: *mut Instance,
    topic: *const c_char,
    partition: i32,
    low: *mut i64,
    high: *mut i64,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle, a C string, null or the caller's to be written.
        unsafe {
            let (Some(instance), Some(topic)) = (rk.as_ref(), text(topic)) else {
                return RespErr::INVALID_ARG;
            };
            code(instance.handle().map(|handle| {
                let unknown = (crate::abi::OFFSET_INVALID, crate::abi::OFFSET_INVALID);
                let found = handle.watermark_offsets(topic, partition);
                write_watermarks(found.unwrap_or(unknown), low, high);
            }))
        }
    })
}

unsafe fn write_watermarks((first, end): (i64, i64), low: *mut i64, high: *mut i64) {
    // SAFETY: null or the caller's to be written.
    unsafe {
        if let Some(low) = low.as_mut() {
            *low = first;
        }
        if let Some(high) = high.as_mut() {
            *high = end;
        }
    }
}
