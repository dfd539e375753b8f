//! The structs and numbers that C programs are compiled with. Layouts are librdkafka's and may never change; the tests
//! at the end compare each size and offset on 64-bit machines.

use core::ffi::{c_char, c_int, c_void};

/// An error code: librdkafka's own below -1, Kafka's from -1 on. A newtype rather than an enum, since any number may come in.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RespErr(pub i32);

impl RespErr {
    /// Success.
    pub const NO_ERROR: Self = Self(0);
    /// Something went wrong inside.
    pub const FAIL: Self = Self(-196);
    /// The partition is not known.
    pub const UNKNOWN_PARTITION: Self = Self(-190);
    /// A bad argument.
    pub const INVALID_ARG: Self = Self(-186);
    /// The time was over.
    pub const TIMED_OUT: Self = Self(-185);
    /// The group gives partitions.
    pub const ASSIGN_PARTITIONS: Self = Self(-175);
    /// The group takes partitions.
    pub const REVOKE_PARTITIONS: Self = Self(-174);
    /// There is no such thing.
    pub const NOENT: Self = Self(-156);
    /// The handle is of no use any more.
    pub const FATAL: Self = Self(-150);
}

impl From<ottla::ErrCode> for RespErr {
    fn from(code: ottla::ErrCode) -> Self {
        Self(code.0)
    }
}

/// No offset.
pub const OFFSET_INVALID: i64 = -1001;

/// `rd_kafka_message_t`: what delivery reports and consumers get. The library hands out pointers to the first field of a
/// larger struct of its own, behind which the accessors find the rest.
#[repr(C)]
pub struct Message {
    /// Not 0: this is an error or an event, and the payload, if any, its text.
    pub err: RespErr,
    /// The topic's handle, or null.
    pub rkt: *mut c_void,
    /// The partition.
    pub partition: i32,
    /// The value, or null.
    pub payload: *mut c_void,
    /// Bytes of the value.
    pub len: usize,
    /// The key, or null.
    pub key: *mut c_void,
    /// Bytes of the key.
    pub key_len: usize,
    /// The offset; for an error the offset that it is about.
    pub offset: i64,
    /// Producer: the application's pointer. Consumer: the library's.
    pub private: *mut c_void,
}

/// `rd_kafka_topic_partition_t`.
#[repr(C)]
pub struct TopicPartition {
    /// The topic's name, libc memory.
    pub topic: *mut c_char,
    /// The partition.
    pub partition: i32,
    /// An offset, or one of the logical ones.
    pub offset: i64,
    /// The application's metadata, libc memory.
    pub metadata: *mut c_void,
    /// Bytes of metadata.
    pub metadata_size: usize,
    /// The application's pointer.
    pub opaque: *mut c_void,
    /// The result for this partition.
    pub err: RespErr,
    /// The library's.
    pub private: *mut c_void,
}

/// `rd_kafka_topic_partition_list_t`.
#[repr(C)]
pub struct TopicPartitionList {
    /// Elements in use.
    pub cnt: c_int,
    /// Elements that fit.
    pub size: c_int,
    /// The elements, libc memory.
    pub elems: *mut TopicPartition,
}

/// `rd_kafka_vu_t`: one argument of `rd_kafka_produceva`.
#[repr(C)]
pub struct Vu {
    /// Which member of the union holds.
    pub vtype: i32,
    /// The argument.
    pub u: VuValue,
}

/// The union inside `rd_kafka_vu_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union VuValue {
    /// TOPIC.
    pub cstr: *const c_char,
    /// RKT, OPAQUE, HEADERS.
    pub ptr: *mut c_void,
    /// PARTITION.
    pub i32: i32,
    /// MSGFLAGS.
    pub i: c_int,
    /// TIMESTAMP.
    pub i64: i64,
    /// VALUE, KEY.
    pub mem: VuMemory,
    /// HEADER.
    pub header: VuHeader,
    /// Fixes the size.
    pub room: [u8; 64],
}

/// A pointer and its size.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VuMemory {
    /// Where.
    pub ptr: *mut c_void,
    /// Bytes.
    pub size: usize,
}

/// One header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VuHeader {
    /// Its name.
    pub name: *const c_char,
    /// Its value, or null.
    pub val: *const c_void,
    /// Bytes of the value; -1 means that it is a C string.
    pub size: isize,
}

/// `struct rd_kafka_err_desc`.
#[repr(C)]
pub struct ErrDesc {
    /// The code.
    pub code: RespErr,
    /// Its name without `RD_KAFKA_RESP_ERR_`.
    pub name: *const c_char,
    /// Its description.
    pub desc: *const c_char,
}

/// `rd_kafka_metadata_broker_t`.
#[repr(C)]
pub struct MetadataBroker {
    /// Node id.
    pub id: i32,
    /// Host.
    pub host: *mut c_char,
    /// Port.
    pub port: c_int,
}

/// `rd_kafka_metadata_partition_t`.
#[repr(C)]
pub struct MetadataPartition {
    /// Partition.
    pub id: i32,
    /// What the broker says of it.
    pub err: RespErr,
    /// Leader's node id, or -1.
    pub leader: i32,
    /// Number of replicas.
    pub replica_cnt: c_int,
    /// Replicas' node ids.
    pub replicas: *mut i32,
    /// Number of in-sync replicas.
    pub isr_cnt: c_int,
    /// In-sync replicas' node ids.
    pub isrs: *mut i32,
}

/// `rd_kafka_metadata_topic_t`.
#[repr(C)]
pub struct MetadataTopic {
    /// Name.
    pub topic: *mut c_char,
    /// Number of partitions.
    pub partition_cnt: c_int,
    /// The partitions.
    pub partitions: *mut MetadataPartition,
    /// What the broker says of it.
    pub err: RespErr,
}

/// `rd_kafka_metadata_t`.
#[repr(C)]
pub struct Metadata {
    /// Number of brokers.
    pub broker_cnt: c_int,
    /// The brokers.
    pub brokers: *mut MetadataBroker,
    /// Number of topics.
    pub topic_cnt: c_int,
    /// The topics.
    pub topics: *mut MetadataTopic,
    /// Node id of the broker that answered.
    pub orig_broker_id: i32,
    /// Name of the broker that answered.
    pub orig_broker_name: *mut c_char,
}

/// `struct rd_kafka_group_member_info`.
#[repr(C)]
pub struct GroupMemberInfo {
    /// Member id.
    pub member_id: *mut c_char,
    /// Client id.
    pub client_id: *mut c_char,
    /// Client's host.
    pub client_host: *mut c_char,
    /// Subscription, in its protocol's format.
    pub member_metadata: *mut c_void,
    /// Bytes of it.
    pub member_metadata_size: c_int,
    /// Assignment, in its protocol's format.
    pub member_assignment: *mut c_void,
    /// Bytes of it.
    pub member_assignment_size: c_int,
}

/// `struct rd_kafka_group_info`.
#[repr(C)]
pub struct GroupInfo {
    /// The broker that coordinates it.
    pub broker: MetadataBroker,
    /// Group id.
    pub group: *mut c_char,
    /// What the broker says of it.
    pub err: RespErr,
    /// State's name.
    pub state: *mut c_char,
    /// Protocol type.
    pub protocol_type: *mut c_char,
    /// Protocol.
    pub protocol: *mut c_char,
    /// Members.
    pub members: *mut GroupMemberInfo,
    /// Number of members.
    pub member_cnt: c_int,
}

/// `struct rd_kafka_group_list`.
#[repr(C)]
pub struct GroupList {
    /// Groups.
    pub groups: *mut GroupInfo,
    /// Number of groups.
    pub group_cnt: c_int,
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    macro_rules! layout {
        ($type:ty, $size:expr $(, $field:ident $offset:expr)* $(,)?) => {
            assert_eq!(size_of::<$type>(), $size, "size of {}", stringify!($type));
            $(assert_eq!(offset_of!($type, $field), $offset, "{}.{}", stringify!($type), stringify!($field));)*
        };
    }

    #[test]
    fn layouts_are_librdkafkas() {
        layout!(Message, 72, err 0, rkt 8, partition 16, payload 24, len 32, key 40, key_len 48, offset 56, private 64);
        layout!(TopicPartition, 64, topic 0, partition 8, offset 16, metadata 24, metadata_size 32, opaque 40, err 48, private 56);
        layout!(TopicPartitionList, 16, cnt 0, size 4, elems 8);
        layout!(Vu, 72, vtype 0, u 8);
        layout!(ErrDesc, 24, code 0, name 8, desc 16);
        layout!(Metadata, 48, broker_cnt 0, brokers 8, topic_cnt 16, topics 24, orig_broker_id 32, orig_broker_name 40);
        layout!(MetadataBroker, 24, id 0, host 8, port 16);
        layout!(MetadataPartition, 40, id 0, err 4, leader 8, replica_cnt 12, replicas 16, isr_cnt 24, isrs 32);
        layout!(MetadataTopic, 32, topic 0, partition_cnt 8, partitions 16, err 24);
        layout!(GroupInfo, 80, broker 0, group 24, err 32, state 40, protocol_type 48, protocol 56, members 64, member_cnt 72);
        layout!(GroupList, 16, groups 0, group_cnt 8);
        layout!(GroupMemberInfo, 56, member_id 0, client_id 8, client_host 16, member_metadata 24, member_metadata_size 32,
            member_assignment 40, member_assignment_size 48);
    }
}
