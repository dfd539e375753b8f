//! The cluster and its topics described; offsets listed.

use super::{
    Answer, Listed, OwnedList, answer, begin, give_listed, give_operations, has_duplicates,
    invalid, operations, options::AdminOptions, result_of,
};
use crate::{
    abi::{TopicPartition, TopicPartitionList},
    border::text,
    errors::{Error, c_string, new_error},
    event::Event,
    instance::Instance,
    queue::QueueHandle,
    topic_partition_list::{elements, to_partitions},
};
use core::ffi::{c_char, c_int};
use ottla::{BrokerInfo, ErrCode, OffsetSpec};
use std::{ffi::CString, ptr, slice};

/// `rd_kafka_Node_t`: a broker.
pub struct Node {
    id: c_int,
    host: CString,
    port: u16,
    rack: Option<CString>,
}

impl Node {
    pub(crate) fn new(broker: &BrokerInfo) -> Self {
        Self {
            id: broker.id,
            host: c_string(&broker.host),
            port: broker.port as u16,
            rack: broker.rack.as_ref().map(|rack| c_string(rack)),
        }
    }
}

/// `rd_kafka_Uuid_t`.
#[derive(Clone)]
pub struct Uuid {
    most_significant: i64,
    least_significant: i64,
    text: CString,
}

impl Uuid {
    fn new(most_significant: i64, least_significant: i64) -> Self {
        let bits = u128::from(most_significant as u64) << 64 | u128::from(least_significant as u64);
        Self {
            most_significant,
            least_significant,
            text: c_string(&base64(bits)),
        }
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(bytes);
        Self::new((bits >> 64) as i64, bits as i64)
    }
}

/// 22 characters of plain base64, as librdkafka has it; Kafka's tools show `-` and `_` for `+` and `/`.
fn base64(bits: u128) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |at: u32| match at {
        // The last one has two bits only.
        21 => (bits << 4) as usize & 0x30,
        at => (bits >> (122 - 6 * at)) as usize & 0x3f,
    };
    (0..22).map(|at| char::from(DIGITS[digit(at)])).collect()
}

/// `rd_kafka_TopicCollection_t`: topics by name.
pub struct TopicCollection(Vec<String>);

/// `rd_kafka_TopicDescription_t`.
pub struct TopicDescription {
    name: CString,
    id: Uuid,
    is_internal: bool,
    error: Option<Error>,
    partitions: Listed<TopicPartitionInfo>,
    operations: Option<Vec<c_int>>,
}

/// `rd_kafka_TopicPartitionInfo_t`.
pub struct TopicPartitionInfo {
    partition: c_int,
    leader: Option<Node>,
    isr: Listed<Node>,
    replicas: Listed<Node>,
}

/// What `rd_kafka_DescribeCluster` finds.
pub struct ClusterDescription {
    cluster_id: CString,
    nodes: Listed<Node>,
    controller: Option<Node>,
    operations: Option<Vec<c_int>>,
}

/// `rd_kafka_ListOffsetsResultInfo_t`.
pub struct ListedOffset {
    /// Has one element.
    partition: OwnedList,
    timestamp: i64,
}

/// Events of `rd_kafka_DescribeTopics`.
pub type DescribeTopicsResult = Event;
/// Events of `rd_kafka_DescribeCluster`.
pub type DescribeClusterResult = Event;
/// Events of `rd_kafka_ListOffsets`.
pub type ListOffsetsResult = Event;

/// The broker's node id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Node_id(node: *const Node) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { node.as_ref() }.map_or(-1, |node| node.id)
}

/// The broker's host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Node_host(node: *const Node) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { node.as_ref() }.map_or(ptr::null(), |node| node.host.as_ptr())
}

/// The broker's port.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Node_port(node: *const Node) -> u16 {
    // SAFETY: null or an object of this library.
    unsafe { node.as_ref() }.map_or(0, |node| node.port)
}

/// The broker's rack; null if it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Node_rack(node: *const Node) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { node.as_ref() }
        .and_then(|node| node.rack.as_ref())
        .map_or(ptr::null(), |rack| rack.as_ptr())
}

/// An id of two halves.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_Uuid_new(
    most_significant_bits: i64,
    least_significant_bits: i64,
) -> *mut Uuid {
    guard!(
        ptr::null_mut(),
        Box::into_raw(Box::new(Uuid::new(
            most_significant_bits,
            least_significant_bits
        )))
    )
}

/// A copy; null for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Uuid_copy(uuid: *const Uuid) -> *mut Uuid {
    guard!(ptr::null_mut(), {
        // SAFETY: null or an object of this library.
        unsafe { uuid.as_ref() }.map_or(ptr::null_mut(), |uuid| {
            Box::into_raw(Box::new(uuid.clone()))
        })
    })
}

/// Frees an id that `rd_kafka_Uuid_new` or `rd_kafka_Uuid_copy` made; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Uuid_destroy(uuid: *mut Uuid) {
    // SAFETY: passed on.
    unsafe { super::destroy(uuid) }
}

/// The id as 22 characters of base64; as long as the id lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Uuid_base64str(uuid: *const Uuid) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { uuid.as_ref() }.map_or(ptr::null(), |uuid| uuid.text.as_ptr())
}

/// The first half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Uuid_most_significant_bits(uuid: *const Uuid) -> i64 {
    // SAFETY: null or an object of this library.
    unsafe { uuid.as_ref() }.map_or(0, |uuid| uuid.most_significant)
}

/// The second half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_Uuid_least_significant_bits(uuid: *const Uuid) -> i64 {
    // SAFETY: null or an object of this library.
    unsafe { uuid.as_ref() }.map_or(0, |uuid| uuid.least_significant)
}

/// Topics by name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicCollection_of_topic_names(
    topics: *mut *const c_char,
    topics_cnt: usize,
) -> *mut TopicCollection {
    guard!(ptr::null_mut(), {
        // SAFETY: null or an array of as many C strings as the caller says.
        unsafe {
            let names = match topics.is_null() {
                true => &[],
                false => slice::from_raw_parts(topics.cast_const(), topics_cnt),
            };
            let names = names
                .iter()
                .filter_map(|name| text(*name))
                .map(str::to_owned);
            Box::into_raw(Box::new(TopicCollection(names.collect())))
        }
    })
}

/// Frees it; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicCollection_destroy(topics: *mut TopicCollection) {
    // SAFETY: passed on.
    unsafe { super::destroy(topics) }
}

fn described(
    name: &str,
    found: Result<ottla::TopicDescription, ottla::KafkaError>,
    nodes: &[BrokerInfo],
) -> TopicDescription {
    let node = |id: &i32| nodes.iter().find(|node| node.id == *id).map(Node::new);
    let empty = TopicDescription {
        name: c_string(name),
        id: Uuid::from_bytes([0; 16]),
        is_internal: false,
        error: None,
        partitions: Listed::new(Vec::new()),
        operations: None,
    };
    match found {
        Ok(found) => {
            let partitions = found
                .topic
                .partitions
                .iter()
                .map(|partition| TopicPartitionInfo {
                    partition: partition.id,
                    leader: node(&partition.leader),
                    isr: Listed::new(partition.isrs.iter().filter_map(node).collect()),
                    replicas: Listed::new(partition.replicas.iter().filter_map(node).collect()),
                });
            TopicDescription {
                id: Uuid::from_bytes(found.id),
                is_internal: found.topic.is_internal,
                partitions: Listed::new(partitions.collect()),
                operations: operations(found.authorized_operations),
                ..empty
            }
        }
        Err(error) => TopicDescription {
            error: Some(new_error(error)),
            ..empty
        },
    }
}

/// Describes topics; an `RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeTopics(
    rk: *mut Instance,
    topics: *const TopicCollection,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let names = topics
                .as_ref()
                .map(|topics| topics.0.clone())
                .unwrap_or_default();
            let kind = Event::DESCRIBE_TOPICS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                if names.iter().any(String::is_empty) {
                    return Err(invalid("topic name at index can't be empty"));
                }
                if has_duplicates(&names) {
                    return Err(invalid("Duplicate topics not allowed"));
                }
                let asked: Vec<&str> = names.iter().map(String::as_str).collect();
                let found = admin.describe_topics(&asked, timeout)?;
                let topics = names.iter().zip(found.topics);
                let topics = topics.map(|(name, topic)| described(name, topic, &found.nodes));
                Ok(Answer::TopicDescriptions(Listed::new(topics.collect())))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_DescribeTopics_result(
    rkev: *mut Event,
) -> *const DescribeTopicsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::DESCRIBE_TOPICS_RESULT) }
}

/// The topics, in the order of the call: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeTopics_result_topics(
    result: *const DescribeTopicsResult,
    cntp: *mut usize,
) -> *mut *const TopicDescription {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::DESCRIBE_TOPICS_RESULT) {
            Some(Answer::TopicDescriptions(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// The topic's name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicDescription_name(
    topicdesc: *const TopicDescription,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { topicdesc.as_ref() }.map_or(ptr::null(), |topicdesc| topicdesc.name.as_ptr())
}

/// The topic's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicDescription_topic_id(
    topicdesc: *const TopicDescription,
) -> *const Uuid {
    // SAFETY: null or an object of this library.
    unsafe { topicdesc.as_ref() }.map_or(ptr::null(), |topicdesc| &raw const topicdesc.id)
}

/// 1 if it is the cluster's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicDescription_is_internal(
    topicdesc: *const TopicDescription,
) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { topicdesc.as_ref() }.map_or(0, |topicdesc| topicdesc.is_internal.into())
}

/// Why the topic could not be described; null if it could.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicDescription_error(
    topicdesc: *const TopicDescription,
) -> *const Error {
    // SAFETY: null or an object of this library.
    unsafe { topicdesc.as_ref() }
        .and_then(|topic| topic.error.as_ref())
        .map_or(ptr::null(), ptr::from_ref)
}

/// The partitions: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicDescription_partitions(
    topicdesc: *const TopicDescription,
    cntp: *mut usize,
) -> *mut *const TopicPartitionInfo {
    // SAFETY: null or an object of this library; null or the caller's to be written.
    unsafe { give_listed(topicdesc.as_ref().map(|topic| &topic.partitions), cntp) }
}

/// What the asker may do with the topic: an array of `*cntp`; null if that was not asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicDescription_authorized_operations(
    topicdesc: *const TopicDescription,
    cntp: *mut usize,
) -> *const c_int {
    // SAFETY: null or an object of this library; null or the caller's to be written.
    unsafe {
        let operations = topicdesc
            .as_ref()
            .and_then(|topic| topic.operations.as_ref());
        give_operations(operations, cntp)
    }
}

/// The partition's number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicPartitionInfo_partition(
    partition: *const TopicPartitionInfo,
) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { partition.as_ref() }.map_or(-1, |partition| partition.partition)
}

/// The leader; null if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicPartitionInfo_leader(
    partition: *const TopicPartitionInfo,
) -> *const Node {
    // SAFETY: null or an object of this library.
    unsafe { partition.as_ref() }
        .and_then(|partition| partition.leader.as_ref())
        .map_or(ptr::null(), ptr::from_ref)
}

/// The replicas in sync: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicPartitionInfo_isr(
    partition: *const TopicPartitionInfo,
    cntp: *mut usize,
) -> *mut *const Node {
    // SAFETY: null or an object of this library; null or the caller's to be written.
    unsafe { give_listed(partition.as_ref().map(|partition| &partition.isr), cntp) }
}

/// The replicas: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_TopicPartitionInfo_replicas(
    partition: *const TopicPartitionInfo,
    cntp: *mut usize,
) -> *mut *const Node {
    // SAFETY: null or an object of this library; null or the caller's to be written.
    unsafe {
        give_listed(
            partition.as_ref().map(|partition| &partition.replicas),
            cntp,
        )
    }
}

/// Describes the cluster; an `RD_KAFKA_EVENT_DESCRIBECLUSTER_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeCluster(
    rk: *mut Instance,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let kind = Event::DESCRIBE_CLUSTER_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                let found = admin.describe_cluster(timeout)?;
                let controller = found
                    .nodes
                    .iter()
                    .find(|node| node.id == found.controller_id);
                Ok(Answer::Cluster(ClusterDescription {
                    cluster_id: c_string(&found.cluster_id),
                    controller: controller.map(Node::new),
                    nodes: Listed::new(found.nodes.iter().map(Node::new).collect()),
                    operations: operations(found.authorized_operations),
                }))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_DescribeCluster_result(
    rkev: *mut Event,
) -> *const DescribeClusterResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::DESCRIBE_CLUSTER_RESULT) }
}

unsafe fn cluster<'a>(result: *const DescribeClusterResult) -> Option<&'a ClusterDescription> {
    // SAFETY: null or an event of this library.
    match unsafe { answer(result, Event::DESCRIBE_CLUSTER_RESULT) } {
        Some(Answer::Cluster(cluster)) => Some(cluster),
        _ => None,
    }
}

/// The brokers: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeCluster_result_nodes(
    result: *const DescribeClusterResult,
    cntp: *mut usize,
) -> *mut *const Node {
    // SAFETY: passed on.
    unsafe { give_listed(cluster(result).map(|cluster| &cluster.nodes), cntp) }
}

/// What the asker may do with the cluster: an array of `*cntp`; null if that was not asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeCluster_result_authorized_operations(
    result: *const DescribeClusterResult,
    cntp: *mut usize,
) -> *const c_int {
    // SAFETY: passed on.
    unsafe {
        let operations = cluster(result).and_then(|cluster| cluster.operations.as_ref());
        give_operations(operations, cntp)
    }
}

/// The controller; null if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeCluster_result_controller(
    result: *const DescribeClusterResult,
) -> *const Node {
    // SAFETY: passed on.
    unsafe { cluster(result) }
        .and_then(|cluster| cluster.controller.as_ref())
        .map_or(ptr::null(), ptr::from_ref)
}

/// The cluster's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeCluster_result_cluster_id(
    result: *const DescribeClusterResult,
) -> *const c_char {
    // SAFETY: passed on.
    unsafe { cluster(result) }.map_or(ptr::null(), |cluster| cluster.cluster_id.as_ptr())
}

/// Finds offsets: each partition's `offset` says which, one of `RD_KAFKA_OFFSET_SPEC_*` or a timestamp in ms. An
/// `RD_KAFKA_EVENT_LISTOFFSETS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListOffsets(
    rk: *mut Instance,
    topic_partitions: *mut TopicPartitionList,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let partitions = to_partitions(topic_partitions);
            let kind = Event::LIST_OFFSETS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                if has_duplicates(partitions.iter().map(|p| (&p.topic, p.partition))) {
                    return Err(invalid("Partitions must not contain duplicates"));
                }
                let spec = |partition: &ottla::TopicPartition| match partition.offset {
                    -1 => Ok(OffsetSpec::Latest),
                    -2 => Ok(OffsetSpec::Earliest),
                    -3 => Ok(OffsetSpec::MaxTimestamp),
                    timestamp if timestamp >= 0 => Ok(OffsetSpec::Timestamp(timestamp)),
                    _ => Err(invalid("An offset spec is a timestamp, -1, -2 or -3")),
                };
                let wanted = partitions
                    .into_iter()
                    .map(|partition| Ok((partition.clone(), spec(&partition)?)))
                    .collect::<Result<Vec<_>, ottla::KafkaError>>()?;
                let found = admin.list_offsets(&wanted, timeout)?.into_iter();
                let offsets = wanted
                    .into_iter()
                    .zip(found)
                    .map(|((mut partition, _), found)| {
                        let (offset, epoch, timestamp, error) = match found {
                            Ok(found) => {
                                let error = ErrCode::NO_ERROR;
                                (found.offset, found.leader_epoch, found.timestamp, error)
                            }
                            Err(error) => (ottla::offset::INVALID, -1, -1, error.code),
                        };
                        partition.offset = offset;
                        partition.leader_epoch = epoch;
                        partition.error = error;
                        ListedOffset {
                            partition: OwnedList::new(&[partition]),
                            timestamp,
                        }
                    });
                Ok(Answer::Offsets(Listed::new(offsets.collect())))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_ListOffsets_result(
    rkev: *mut Event,
) -> *const ListOffsetsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::LIST_OFFSETS_RESULT) }
}

/// The offsets found: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListOffsets_result_infos(
    result: *const ListOffsetsResult,
    cntp: *mut usize,
) -> *mut *const ListedOffset {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::LIST_OFFSETS_RESULT) {
            Some(Answer::Offsets(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// The partition with its offset (-1 if there is none) or its error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListOffsetsResultInfo_topic_partition(
    result_info: *const ListedOffset,
) -> *const TopicPartition {
    // SAFETY: null or an object of this library.
    unsafe {
        result_info
            .as_ref()
            .and_then(|found| elements(found.partition.as_ptr()).first())
            .map_or(ptr::null(), ptr::from_ref)
    }
}

/// The timestamp of the record at the offset; -1 if it wasn't told.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListOffsetsResultInfo_timestamp(
    result_info: *const ListedOffset,
) -> i64 {
    // SAFETY: null or an object of this library.
    unsafe { result_info.as_ref() }.map_or(-1, |result_info| result_info.timestamp)
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn ids_have_22_characters() {
        assert_eq!(base64(0), "A".repeat(22));
        assert_eq!(base64(u128::MAX), format!("{}w", "/".repeat(21)));
        assert_eq!(base64(1), format!("{}Q", "A".repeat(21)));
    }
}
