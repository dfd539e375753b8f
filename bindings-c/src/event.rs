//! `rd_kafka_event_t`: events as values, for programs that poll queues instead of being called.

use crate::{
    abi::{Message, RespErr, TopicPartition, TopicPartitionList},
    border::{public_code, write_text},
    errors::{c_string, rd_kafka_err2str},
    instance::Instance,
    message::{FullMessage, delivery_template, rd_kafka_message_destroy},
    topic_partition_list::{from_partitions, rd_kafka_topic_partition_list_destroy},
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
    partitions: OwnedList,
    /// FETCH: the message.
    message: OwnedMessage,
    /// DR: the batch, and its reports once they are asked for.
    deliveries: Option<(Reports, DeliveryBatch)>,
    given: usize,
    opaque: *mut c_void,
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

    fn empty(instance: &Instance, kind: c_int) -> Self {
        let instance = instance.as_ptr().cast_const();
        Self {
            kind,
            error: RespErr::NO_ERROR,
            fatal: false,
            text: None,
            facility: None,
            level: 0,
            partitions: OwnedList(ptr::null_mut()),
            message: OwnedMessage(ptr::null_mut()),
            deliveries: None,
            given: 0,
            opaque: ptr::null_mut(),
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
                    from_partitions(&[partition])
                });
                (
                    std::ffi::CStr::from_ptr(text).to_owned(),
                    partition.unwrap_or(ptr::null_mut()),
                )
            };
            Box::into_raw(Box::new(Self {
                error,
                fatal: error == RespErr::FATAL && !is_end,
                text: Some(text),
                partitions: OwnedList(partitions),
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
                partitions: OwnedList(from_partitions(&partitions)),
                opaque,
                ..new(Self::REBALANCE)
            },
            CoreEvent::OffsetCommit { error, offsets } => Self {
                error: error.into(),
                partitions: OwnedList(from_partitions(&offsets)),
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
                ..new(Self::LOG)
            },
            CoreEvent::Statistics(json) => Self {
                text: Some(c_string(&json)),
                opaque,
                ..new(Self::STATS)
            },
            _ => return ptr::null_mut(),
        };
        Box::into_raw(Box::new(event))
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

/// A list that goes with the event.
struct OwnedList(*mut TopicPartitionList);

impl Drop for OwnedList {
    fn drop(&mut self) {
        // SAFETY: null, or a list that is the event's.
        unsafe { rd_kafka_topic_partition_list_destroy(self.0) };
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
        (Some(text), Event::ERROR | Event::DELIVERY) => text.as_ptr(),
        _ => rd_kafka_err2str(event.error),
    })
}

/// 1 if the handle is of no use any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_error_is_fatal(rkev: *mut Event) -> c_int {
    // SAFETY: null or an event of this library.
    unsafe { rkev.as_ref() }.map_or(0, |event| event.fatal.into())
}

/// The application's pointer (`rd_kafka_conf_set_opaque`) for REBALANCE, OFFSET_COMMIT and STATS events, else null.
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
        write_text("", dst, dstsize);
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
        .map_or(ptr::null_mut(), |event| event.partitions.0)
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
            crate::topic_partition_list::stand_alone_copy(event.partitions.0)
        }
    })
}
