//! `rd_kafka_event_t`: events as values, for programs that poll queues instead of being called.

use crate::{
    abi::{Message, RespErr, TopicPartition, TopicPartitionList},
    admin::{Answer, Outcome, OwnedList},
    border::{public_code, write_text},
    errors::{c_string, rd_kafka_err2str},
    instance::Instance,
    message::{FullMessage, delivery_template, rd_kafka_message_destroy},
};
use core::ffi::{c_char, c_int, c_void};
use ottla::{DeliveryBatch, Event as CoreEvent, RebalanceKind};
use std::{ffi::CString, ptr, sync::Arc};

/// `rd_kafka_event_t`.
pub struct Event {
    kind: c_int,
    error: RespErr,
    fatal: bool,
    text: Option<CString>,
    facility: Option<CString>,
    level: c_int,
    context: &'static str,
    partitions: OwnedList,
    /// FETCH: the message.
    message: OwnedMessage,
    /// DR: the batch, and its reports once they are asked for.
    deliveries: Option<(Reports, DeliveryBatch)>,
    given: usize,
    opaque: *mut c_void,
    /// Of an administrative operation.
    answer: Option<Answer>,
    /// Messages point to its topics.
    instance: Arc<Instance>,
}

impl Event {
    /// `RD_KAFKA_EVENT_DR`
    pub const DELIVERY: c_int = 1;
    /// `RD_KAFKA_EVENT_FETCH`
    pub const FETCH: c_int = 2;
    /// `RD_KAFKA_EVENT_LOG`
    pub const LOG: c_int = 4;
    /// `RD_KAFKA_EVENT_ERROR`
    pub const ERROR: c_int = 8;
    /// `RD_KAFKA_EVENT_REBALANCE`
    pub const REBALANCE: c_int = 0x10;
    /// `RD_KAFKA_EVENT_OFFSET_COMMIT`
    pub const OFFSET_COMMIT: c_int = 0x20;
    /// `RD_KAFKA_EVENT_STATS`
    pub const STATS: c_int = 0x40;
    /// `RD_KAFKA_EVENT_CREATETOPICS_RESULT`
    pub const CREATE_TOPICS_RESULT: c_int = 100;
    /// `RD_KAFKA_EVENT_DELETETOPICS_RESULT`
    pub const DELETE_TOPICS_RESULT: c_int = 101;
    /// `RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT`
    pub const CREATE_PARTITIONS_RESULT: c_int = 102;
    /// `RD_KAFKA_EVENT_ALTERCONFIGS_RESULT`
    pub const ALTER_CONFIGS_RESULT: c_int = 103;
    /// `RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT`
    pub const DESCRIBE_CONFIGS_RESULT: c_int = 104;
    /// `RD_KAFKA_EVENT_DELETERECORDS_RESULT`
    pub const DELETE_RECORDS_RESULT: c_int = 105;
    /// `RD_KAFKA_EVENT_DELETEGROUPS_RESULT`
    pub const DELETE_GROUPS_RESULT: c_int = 106;
    /// `RD_KAFKA_EVENT_DELETECONSUMERGROUPOFFSETS_RESULT`
    pub const DELETE_CONSUMER_GROUP_OFFSETS_RESULT: c_int = 107;
    /// `RD_KAFKA_EVENT_LISTCONSUMERGROUPS_RESULT`
    pub const LIST_CONSUMER_GROUPS_RESULT: c_int = 0x2000;
    /// `RD_KAFKA_EVENT_DESCRIBECONSUMERGROUPS_RESULT`
    pub const DESCRIBE_CONSUMER_GROUPS_RESULT: c_int = 0x4000;
    /// `RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT`
    pub const LIST_CONSUMER_GROUP_OFFSETS_RESULT: c_int = 0x8000;
    /// `RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT`
    pub const ALTER_CONSUMER_GROUP_OFFSETS_RESULT: c_int = 0x10000;
    /// `RD_KAFKA_EVENT_INCREMENTALALTERCONFIGS_RESULT`
    pub const INCREMENTAL_ALTER_CONFIGS_RESULT: c_int = 0x20000;
    /// `RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT`
    pub const DESCRIBE_TOPICS_RESULT: c_int = 0x100000;
    /// `RD_KAFKA_EVENT_DESCRIBECLUSTER_RESULT`
    pub const DESCRIBE_CLUSTER_RESULT: c_int = 0x200000;
    /// `RD_KAFKA_EVENT_LISTOFFSETS_RESULT`
    pub const LIST_OFFSETS_RESULT: c_int = 0x400000;
    /// `RD_KAFKA_EVENT_ELECTLEADERS_RESULT`
    pub const ELECT_LEADERS_RESULT: c_int = 0x800000;

    fn empty(instance: &Instance, kind: c_int) -> Self {
        let instance = instance.as_ptr().cast_const();
        Self {
            kind,
            error: RespErr::NO_ERROR,
            fatal: false,
            text: None,
            facility: None,
            level: 0,
            context: "",
            partitions: OwnedList::none(),
            message: OwnedMessage(ptr::null_mut()),
            deliveries: None,
            given: 0,
            opaque: ptr::null_mut(),
            answer: None,
            // SAFETY: instances live in an `Arc`, of which the event gets a share.
            instance: unsafe {
                Arc::increment_strong_count(instance);
                Arc::from_raw(instance)
            },
        }
    }

    /// An event of one consumed message.
    pub(crate) fn of_message(instance: &Instance, message: *mut Message) -> *mut Self {
        // SAFETY: a message of this library.
        let error = unsafe { (*message).err };
        let is_end = error.0 == ottla::ErrCode::PARTITION_EOF.0;
        if error == RespErr::NO_ERROR {
            Box::into_raw(Box::new(Self {
                message: OwnedMessage(message),
                ..Self::empty(instance, Self::FETCH)
            }))
        } else {
            // SAFETY: as above; its topic is one of the instance's, or null.
            let (text, partitions) = unsafe {
                let text = crate::message::rd_kafka_message_errstr(message);
                let topic = (*message).rkt.cast::<crate::topic::Topic>().as_ref();
                let partition = topic.map(|topic| {
                    let mut partition = ottla::TopicPartition::new(
                        topic.name(),
                        (*message).partition,
                        (*message).offset,
                    );
                    partition.error = ottla::ErrCode(error.0);
                    OwnedList::new(&[partition])
                });
                (
                    std::ffi::CStr::from_ptr(text).to_owned(),
                    partition.unwrap_or_else(OwnedList::none),
                )
            };
            Box::into_raw(Box::new(Self {
                error,
                fatal: error == RespErr::FATAL && !is_end,
                text: Some(text),
                partitions,
                message: OwnedMessage(message),
                ..Self::empty(instance, Self::ERROR)
            }))
        }
    }

    /// An event that is not a fetch; null for one that is nothing to the application.
    pub(crate) fn new(instance: &Instance, event: CoreEvent) -> *mut Self {
        let new = |kind| Self::empty(instance, kind);
        let opaque = instance.conf.callbacks.opaque;
        let event = match event {
            CoreEvent::Delivery(batch) => Self {
                error: batch.code().into(),
                deliveries: Some((Reports::default(), batch)),
                ..new(Self::DELIVERY)
            },
            CoreEvent::PartitionEof {
                topic,
                partition,
                offset,
            } => {
                let message = instance.end_of_partition(&topic, partition, offset);
                return Self::of_message(instance, message);
            }
            CoreEvent::ConsumerError {
                partition,
                offset,
                error,
            } => {
                let message = instance.consumer_error(partition, offset, &error);
                return Self::of_message(instance, message);
            }
            CoreEvent::Rebalance { kind, partitions } => Self {
                error: match kind {
                    RebalanceKind::Assign => RespErr::ASSIGN_PARTITIONS,
                    RebalanceKind::Revoke | RebalanceKind::Lost => RespErr::REVOKE_PARTITIONS,
                },
                partitions: OwnedList::new(&partitions),
                opaque,
                ..new(Self::REBALANCE)
            },
            CoreEvent::OffsetCommit { error, offsets } => Self {
                error: error.into(),
                partitions: OwnedList::new(&offsets),
                opaque,
                ..new(Self::OFFSET_COMMIT)
            },
            CoreEvent::Error(error) => Self {
                error: public_code(&error),
                fatal: error.fatal,
                text: Some(c_string(&error.message)),
                ..new(Self::ERROR)
            },
            CoreEvent::Log(line) => Self {
                text: Some(c_string(&line.message)),
                facility: Some(c_string(line.facility)),
                level: line.level.into(),
                context: line.context,
                ..new(Self::LOG)
            },
            CoreEvent::Statistics(json) => Self {
                text: Some(c_string(&json)),
                opaque,
                ..new(Self::STATS)
            },
            CoreEvent::Application(outcome) => match outcome.downcast::<Outcome>() {
                Ok(outcome) => {
                    let (answer, error) = match outcome.result {
                        Ok(answer) => (Some(answer), None),
                        Err(error) => (None, Some(error)),
                    };
                    Self {
                        error: error.as_ref().map_or(RespErr::NO_ERROR, public_code),
                        text: error.map(|error| c_string(&error.message)),
                        answer,
                        opaque: ptr::with_exposed_provenance_mut(outcome.opaque),
                        ..new(outcome.kind)
                    }
                }
                Err(_) => return ptr::null_mut(),
            },
            _ => return ptr::null_mut(),
        };
        Box::into_raw(Box::new(event))
    }

    /// What an operation of this kind answered.
    pub(crate) fn answer(&self, kind: c_int) -> Option<&Answer> {
        self.answer.as_ref().filter(|_| self.kind == kind)
    }

    /// Makes all reports of a batch, since they have to stay until the event is destroyed.
    fn deliveries(&mut self) -> &[FullMessage] {
        let Some((Reports(messages), batch)) = &mut self.deliveries else {
            return &[];
        };
        if messages.is_empty() {
            let topic = self.instance.topic_pointer(batch.topic());
            if let Some(error) = batch.error() {
                self.text = Some(c_string(&error.message));
            }
            messages.reserve_exact(batch.len());
            for _ in 0..batch.len() {
                let mut message = delivery_template(batch, topic, self.text.as_ref());
                let Some(record) = batch.next() else { break };
                // SAFETY: the bytes live as long as the batch, which the event keeps.
                unsafe { message.set_record(&record) };
                messages.push(message);
            }
        }
        messages
    }

    fn count(&self) -> usize {
        match &self.deliveries {
            Some((_, batch)) => batch.len(),
            None => usize::from(self.kind == Self::FETCH),
        }
    }

    fn next_message(&mut self) -> *const Message {
        let at = self.given;
        if at >= self.count() {
            return ptr::null();
        }
        self.given += 1;
        match self.kind {
            Self::FETCH => self.message.0,
            _ => self
                .deliveries()
                .get(at)
                .map_or(ptr::null(), |message| ptr::from_ref(&message.public)),
        }
    }
}

/// A message that goes with the event.
struct OwnedMessage(*mut Message);

impl Drop for OwnedMessage {
    fn drop(&mut self) {
        // SAFETY: null, or a message that is the event's.
        unsafe { rd_kafka_message_destroy(self.0) };
    }
}

/// Delivery reports, whose header lists go with them.
#[derive(Default)]
struct Reports(Vec<FullMessage>);

impl Drop for Reports {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(FullMessage::drop_headers);
    }
}

/// The event's kind, one of `RD_KAFKA_EVENT_*`; `RD_KAFKA_EVENT_NONE` for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_type(rkev: *const Event) -> c_int {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }.map_or(0, |event| event.kind)
}

/// The kind's name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_name(rkev: *const Event) -> *const c_char {
    // SAFETY: passed on.
    match unsafe { rd_kafka_event_type(rkev) } {
        Event::DELIVERY => c"DeliveryReport",
        Event::FETCH => c"Fetch",
        Event::LOG => c"Log",
        Event::ERROR => c"Error",
        Event::REBALANCE => c"Rebalance",
        Event::OFFSET_COMMIT => c"OffsetCommit",
        Event::STATS => c"Stats",
        Event::CREATE_TOPICS_RESULT => c"CreateTopicsResult",
        Event::DELETE_TOPICS_RESULT => c"DeleteTopicsResult",
        Event::CREATE_PARTITIONS_RESULT => c"CreatePartitionsResult",
        Event::ALTER_CONFIGS_RESULT => c"AlterConfigsResult",
        Event::DESCRIBE_CONFIGS_RESULT => c"DescribeConfigsResult",
        Event::DELETE_RECORDS_RESULT => c"DeleteRecordsResult",
        Event::DELETE_GROUPS_RESULT => c"DeleteGroupsResult",
        Event::DELETE_CONSUMER_GROUP_OFFSETS_RESULT => c"DeleteConsumerGroupOffsetsResult",
        Event::LIST_CONSUMER_GROUPS_RESULT => c"ListConsumerGroupsResult",
        Event::DESCRIBE_CONSUMER_GROUPS_RESULT => c"DescribeConsumerGroupsResult",
        Event::LIST_CONSUMER_GROUP_OFFSETS_RESULT => c"ListConsumerGroupOffsetsResult",
        Event::ALTER_CONSUMER_GROUP_OFFSETS_RESULT => c"AlterConsumerGroupOffsetsResult",
        Event::DESCRIBE_TOPICS_RESULT => c"DescribeTopicsResult",
        Event::DESCRIBE_CLUSTER_RESULT => c"DescribeClusterResult",
        Event::LIST_OFFSETS_RESULT => c"ListOffsetsResult",
        Event::INCREMENTAL_ALTER_CONFIGS_RESULT => c"IncrementalAlterConfigsResult",
        Event::ELECT_LEADERS_RESULT => c"ElectLeadersResult",
        _ => c"(NONE)",
    }
    .as_ptr()
}

/// Frees an event and its messages; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_destroy(rkev: *mut Event) {
    if !rkev.is_null() {
        // SAFETY: the caller gives it up.
        guard!((), drop(unsafe { Box::from_raw(rkev) }))
    }
}

/// The next message of a DR or FETCH event; null behind the last one. It is the event's and lives as long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_message_next(rkev: *mut Event) -> *const Message {
    guard!(ptr::null(), {
        // SAFETY: null or an event that only one thread uses.
        unsafe { rkev.as_mut() }.map_or(ptr::null(), Event::next_message)
    })
}

/// Writes up to `size` of the next messages into an array; returns how many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_message_array(
    rkev: *mut Event,
    rkmessages: *mut *const Message,
    size: usize,
) -> usize {
    guard!(0, {
        // SAFETY: null or an event that only one thread uses; an array with the room that the caller names.
        unsafe {
            let Some(event) = rkev.as_mut() else { return 0 };
            let mut count = 0;
            while count < size && !rkmessages.is_null() {
                let message = event.next_message();
                if message.is_null() {
                    break;
                }
                *rkmessages.add(count) = message;
                count += 1;
            }
            count
        }
    })
}

/// The event's messages that were not taken yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_message_count(rkev: *mut Event) -> usize {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }.map_or(0, |event| event.count() - event.given)
}

/// The event's error. For a rebalance: `RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS` or `RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_error(rkev: *mut Event) -> RespErr {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }.map_or(RespErr::NO_ERROR, |event| event.error)
}

/// The error's text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_error_string(rkev: *mut Event) -> *const c_char {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }.map_or(c"".as_ptr(), |event| match (&event.text, event.kind) {
        (_, Event::LOG | Event::STATS) | (None, _) => rd_kafka_err2str(event.error),
        (Some(text), _) => text.as_ptr(),
    })
}

/// 1 if the handle is of no use any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_error_is_fatal(rkev: *mut Event) -> c_int {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }.map_or(0, |event| event.fatal.into())
}

/// The application's pointer (`rd_kafka_conf_set_opaque`) for REBALANCE, OFFSET_COMMIT and STATS events, that of
/// `rd_kafka_AdminOptions_set_opaque` for results; else null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_opaque(rkev: *mut Event) -> *mut c_void {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }.map_or(ptr::null_mut(), |event| event.opaque)
}

/// The parts of a LOG event: 0, or -1 if it is another.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_log(
    rkev: *mut Event,
    fac: *mut *const c_char,
    str: *mut *const c_char,
    level: *mut c_int,
) -> c_int {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let Some(event) = rkev.as_ref().filter(|event| event.kind == Event::LOG) else {
            return -1;
        };
        let of = |text: &Option<CString>| text.as_ref().map_or(c"".as_ptr(), |t| t.as_ptr());
        if let Some(fac) = fac.as_mut() {
            *fac = of(&event.facility);
        }
        if let Some(str) = str.as_mut() {
            *str = of(&event.text);
        }
        if let Some(level) = level.as_mut() {
            *level = event.level;
        }
        0
    }
}

/// The debug contexts of a LOG event as text: 0, or -1 if it is another.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_debug_contexts(
    rkev: *mut Event,
    dst: *mut c_char,
    dstsize: usize,
) -> c_int {
    // SAFETY: null or an event; a buffer of the size that the caller names.
    unsafe {
        if rd_kafka_event_type(rkev) != Event::LOG {
            return -1;
        }
        write_text((*rkev).context, dst, dstsize);
    }
    0
}

/// The JSON of a STATS event, else null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_stats(rkev: *mut Event) -> *const c_char {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }
        .filter(|event| event.kind == Event::STATS)
        .and_then(|event| event.text.as_ref())
        .map_or(ptr::null(), |text| text.as_ptr())
}

/// The partitions of a REBALANCE or OFFSET_COMMIT event, which stay the event's; else null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_topic_partition_list(
    rkev: *mut Event,
) -> *mut TopicPartitionList {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }
        .filter(|event| event.kind != Event::ERROR)
        .map_or(ptr::null_mut(), |event| {
            event.partitions.as_ptr().cast_mut()
        })
}

/// A copy of the partition that an ERROR event is about, to be freed with `rd_kafka_topic_partition_destroy`; else null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_topic_partition(rkev: *mut Event) -> *mut TopicPartition {
    guard!(ptr::null_mut(), {
        // SAFETY: null or an event; its list is null or has one element.
        unsafe {
            let Some(event) = rkev.as_ref().filter(|event| event.kind == Event::ERROR) else {
                return ptr::null_mut();
            };
            crate::topic_partition_list::stand_alone_copy(event.partitions.as_ptr())
        }
    })
}
