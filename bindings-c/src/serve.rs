//! Events become calls of the application's functions.

use crate::{
    abi::{Message, OFFSET_INVALID, RespErr},
    border::{allocate_text, public_code, yielded},
    errors::c_string,
    instance::Instance,
    message::{Reader, delivery_template, error_message},
    topic::Topic,
    topic_partition_list::{from_partitions, rd_kafka_topic_partition_list_destroy},
};
use core::ffi::c_int;
use ottla::{DeliveryBatch, ErrCode, Event, FetchedBatch, KafkaError, LogLine, RebalanceKind};
use std::{
    ptr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// What became of an event.
#[allow(clippy::large_enum_variant)] // moved once, never stored in numbers
pub enum Served {
    /// So many calls were made.
    Count(c_int),
    /// The application asked to stop after so many; this is left.
    Rest(c_int, Event),
    /// It is a message for whoever polls messages.
    Message(*mut Message),
    /// Whoever polls is to return.
    Wakeup,
}

impl Instance {
    /// The topic's object for messages. Topics that the application never named get one, too.
    pub(crate) fn topic_pointer(&self, name: &str) -> *const Topic {
        self.topic(name, None)
            .map_or(ptr::null(), |topic| Arc::as_ptr(&topic))
    }

    /// Hands a fetch out as messages.
    pub(crate) fn reader(&self, batch: FetchedBatch) -> Reader {
        let topic = self.topic_pointer(batch.topic());
        Reader::new(batch, topic, self.broker_id())
    }

    /// The only broker's node id: an embedded broker leads all partitions.
    fn broker_id(&self) -> i32 {
        let known = self.broker_id.load(Relaxed);
        if known != u64::MAX {
            return known as i32;
        }
        let id = self
            .handle()
            .and_then(|handle| handle.controller_id(Duration::ZERO));
        match id {
            Ok(id) => {
                self.broker_id.store(id as u64, Relaxed);
                id
            }
            Err(_) => -1,
        }
    }

    /// Serves one event.
    pub(crate) fn serve(&self, event: Event) -> Served {
        let callbacks = &self.conf.callbacks;
        match event {
            Event::Delivery(batch) => return self.serve_deliveries(batch),
            Event::PartitionEof {
                topic,
                partition,
                offset,
            } => {
                return Served::Message(self.end_of_partition(&topic, partition, offset));
            }
            Event::ConsumerError {
                partition,
                offset,
                error,
            } => {
                return Served::Message(self.consumer_error(partition, offset, &error));
            }
            Event::Rebalance { kind, partitions } => match callbacks.rebalance {
                Some(callback) => {
                    let code = match kind {
                        RebalanceKind::Assign => RespErr::ASSIGN_PARTITIONS,
                        RebalanceKind::Revoke | RebalanceKind::Lost => RespErr::REVOKE_PARTITIONS,
                    };
                    let list = from_partitions(&partitions);
                    // SAFETY: the application's function, called as its type says; the list stays ours.
                    unsafe {
                        callback(self.as_ptr(), code, list, callbacks.opaque);
                        rd_kafka_topic_partition_list_destroy(list);
                    }
                }
                None => self.answer_rebalance(kind, &partitions),
            },
            Event::OffsetCommit { error, offsets } => {
                if let Some(callback) = callbacks.offset_commit {
                    let list = from_partitions(&offsets);
                    // SAFETY: as above.
                    unsafe {
                        callback(self.as_ptr(), error.into(), list, callbacks.opaque);
                        rd_kafka_topic_partition_list_destroy(list);
                    }
                }
            }
            Event::Error(error) => match callbacks.error {
                Some(callback) => {
                    let text = c_string(&error.message);
                    // SAFETY: as above.
                    unsafe {
                        callback(
                            self.as_ptr(),
                            public_code(&error).0,
                            text.as_ptr(),
                            callbacks.opaque,
                        )
                    };
                }
                None => self.log(&LogLine {
                    level: 3,
                    facility: "ERROR",
                    message: error.to_string(),
                    context: "",
                }),
            },
            Event::Throttle(throttle) => {
                if let Some(callback) = callbacks.throttle {
                    let name = c_string(&throttle.broker_name);
                    let throttle_ms = c_int::try_from(throttle.throttle_ms).unwrap_or(c_int::MAX);
                    // SAFETY: as above.
                    unsafe {
                        callback(
                            self.as_ptr(),
                            name.as_ptr(),
                            throttle.broker_id,
                            throttle_ms,
                            callbacks.opaque,
                        )
                    };
                }
            }
            Event::Log(line) => self.log(&line),
            Event::Statistics(json) => {
                if let Some(callback) = callbacks.stats {
                    let text = allocate_text(&json);
                    // SAFETY: as above; a function that returns 1 keeps the text.
                    unsafe {
                        if callback(self.as_ptr(), text, json.len(), callbacks.opaque) == 0 {
                            libc::free(text.cast());
                        }
                    }
                }
            }
            Event::Wakeup => return Served::Wakeup,
            _ => {}
        }
        Served::Count(1)
    }

    /// What the library does with a rebalance that nobody else answers.
    pub(crate) fn answer_rebalance(
        &self,
        kind: RebalanceKind,
        partitions: &[ottla::TopicPartition],
    ) {
        let Ok(handle) = self.handle() else { return };
        let cooperative = handle.rebalance_protocol() == "COOPERATIVE";
        let _ = match (kind, cooperative) {
            (RebalanceKind::Assign, false) => handle.assign(partitions),
            (RebalanceKind::Assign, true) => handle.incremental_assign(partitions),
            (_, false) => handle.unassign(),
            (_, true) => handle.incremental_unassign(partitions),
        };
    }

    pub(crate) fn end_of_partition(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> *mut Message {
        let text = format!("{topic} [{partition}]: no more messages before offset {offset}");
        let error = KafkaError::new(ErrCode::PARTITION_EOF, text);
        error_message(self.topic_pointer(topic), partition, offset, &error)
    }

    pub(crate) fn consumer_error(
        &self,
        partition: Option<(ottla::Str, i32)>,
        offset: i64,
        error: &KafkaError,
    ) -> *mut Message {
        match partition {
            Some((topic, partition)) => {
                error_message(self.topic_pointer(&topic), partition, offset, error)
            }
            None => error_message(ptr::null(), -1, OFFSET_INVALID, error),
        }
    }

    fn serve_deliveries(&self, mut batch: DeliveryBatch) -> Served {
        let callbacks = &self.conf.callbacks;
        let topic = self.topic_pointer(batch.topic());
        let mut served = 0;
        if let Some(callback) = callbacks.delivery_message {
            let text = batch.error().map(|error| c_string(&error.message));
            let mut message = delivery_template(&batch, topic, text.as_ref());
            while let Some(record) = batch.next() {
                // SAFETY: the bytes live as long as the batch, and the message is of no use after the call.
                unsafe { message.set_record(&record) };
                // SAFETY: the application's function, called as its type says; the message is the first field.
                unsafe { callback(self.as_ptr(), (&raw const message).cast(), callbacks.opaque) };
                message.drop_headers();
                served += 1;
                if yielded() {
                    return Served::Rest(served, Event::Delivery(batch));
                }
            }
        } else if let Some(callback) = callbacks.delivery {
            let mut message = delivery_template(&batch, topic, None);
            while let Some(record) = batch.next() {
                // SAFETY: as above.
                unsafe {
                    message.set_record(&record);
                    let public = &message.public;
                    callback(
                        self.as_ptr(),
                        public.payload,
                        public.len,
                        public.err,
                        callbacks.opaque,
                        public.private,
                    )
                };
                served += 1;
                if yielded() {
                    return Served::Rest(served, Event::Delivery(batch));
                }
            }
        }
        Served::Count(served)
    }
}
