//! The old consumer of single partitions.
//!
//! A partition that is started is assigned, and its messages go to its own queue or to one that the application names.

use crate::{
    abi::{Message, RespErr},
    border::{self, fail, public_code, set_yielded, timeout, yielded},
    conf_callbacks::ConsumeCallback,
    instance::Instance,
    message::rd_kafka_message_destroy,
    queue::{QueueHandle, QueueState, deadline},
    topic::Topic,
};
use core::ffi::{c_int, c_void};
use ottla::{ErrCode, Handle, KafkaError, TopicPartition};
use std::{
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The queue of a topic's partition.
fn partition_queue(topic: &Topic, partition: i32) -> Result<Arc<QueueState>, KafkaError> {
    let instance = topic.instance();
    let queue = instance.handle()?.partition_queue(topic.name(), partition);
    Ok(instance.queue_state(queue))
}

/// 0 or -1, with the last error.
fn zero(result: Result<(), KafkaError>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            fail(public_code(&error));
            -1
        }
    }
}

fn start(
    topic: &Topic,
    partition: i32,
    offset: i64,
    to: Option<&QueueState>,
) -> Result<(), KafkaError> {
    if partition < 0 {
        return Err(ErrCode::UNKNOWN_PARTITION.into());
    }
    let queue = partition_queue(topic, partition)?;
    queue.queue.forward(to.map(|to| &to.queue))?;
    let start = TopicPartition::new(topic.name(), partition, offset);
    topic.instance().handle()?.incremental_assign(&[start])
}

/// Begins to fetch a partition from an offset on; its messages come from `rd_kafka_consume` and its kin. 0, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume_start(
    rkt: *mut Topic,
    partition: i32,
    offset: i64,
) -> c_int {
    guard!(-1, {
        // SAFETY: null or a topic.
        match unsafe { rkt.as_ref() } {
            Some(topic) => zero(start(topic, partition, offset, None)),
            None => zero(Err(ErrCode::INVALID_ARG.into())),
        }
    })
}

/// The same; its messages go to a queue, for `rd_kafka_consume_queue` and its kin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume_start_queue(
    rkt: *mut Topic,
    partition: i32,
    offset: i64,
    rkqu: *mut QueueHandle,
) -> c_int {
    guard!(-1, {
        // SAFETY: null or a topic, null or a queue.
        match unsafe { (rkt.as_ref(), rkqu.as_ref()) } {
            (Some(topic), Some(queue)) => {
                zero(start(topic, partition, offset, Some(queue.state())))
            }
            _ => zero(Err(ErrCode::INVALID_ARG.into())),
        }
    })
}

/// Ends that. 0, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume_stop(rkt: *mut Topic, partition: i32) -> c_int {
    guard!(-1, {
        // SAFETY: null or a topic.
        let Some(topic) = (unsafe { rkt.as_ref() }) else {
            return zero(Err(ErrCode::INVALID_ARG.into()));
        };
        let stopped = TopicPartition::new(topic.name(), partition, crate::abi::OFFSET_INVALID);
        zero(
            topic
                .instance()
                .handle()
                .and_then(|handle| handle.incremental_unassign(&[stopped])),
        )
    })
}

/// Goes on at another offset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_seek(
    rkt: *mut Topic,
    partition: i32,
    offset: i64,
    _timeout_ms: c_int,
) -> RespErr {
    // SAFETY: passed on.
    unsafe { with_partition(rkt, partition, offset, Handle::seek) }
}

/// Notes `offset + 1` for the next automatic or argumentless commit: `offset` is that of the last message processed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_offset_store(
    rkt: *mut Topic,
    partition: i32,
    offset: i64,
) -> RespErr {
    // SAFETY: passed on.
    unsafe {
        with_partition(
            rkt,
            partition,
            offset.saturating_add(1),
            Handle::store_offsets,
        )
    }
}

unsafe fn with_partition(
    rkt: *mut Topic,
    partition: i32,
    offset: i64,
    run: impl FnOnce(&Handle, &mut [TopicPartition]) -> Result<(), KafkaError>,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a topic.
        let Some(topic) = (unsafe { rkt.as_ref() }) else {
            return RespErr::INVALID_ARG;
        };
        let mut partitions = [TopicPartition::new(topic.name(), partition, offset)];
        let result = topic
            .instance()
            .handle()
            .and_then(|handle| run(handle, &mut partitions));
        match partitions[0].error {
            ErrCode::NO_ERROR => border::code(result),
            error => border::code(Err(error.into())),
        }
    })
}

/// Fills an array, waiting until it is full or the time is over.
unsafe fn batch(
    queue: &QueueState,
    instance: &Instance,
    wait: Duration,
    messages: *mut *mut Message,
    size: usize,
) -> isize {
    let until = deadline(wait);
    let mut count = 0;
    while count < size {
        let left = until.map_or(wait, |at| at.saturating_duration_since(Instant::now()));
        let message = queue.poll_message(instance, left);
        if message.is_null() {
            break;
        }
        // SAFETY: `count` is below the size that the caller names.
        unsafe { *messages.add(count) = message };
        count += 1;
    }
    count as isize
}

/// Calls a function with each message until none is left, or with `max` of them (0: no limit).
unsafe fn each(
    max: c_int,
    queue: &QueueState,
    instance: &Instance,
    wait: Duration,
    callback: ConsumeCallback,
    opaque: *mut c_void,
) -> c_int {
    let (mut count, mut wait) = (0, wait);
    loop {
        set_yielded(false);
        let message = queue.poll_message(instance, wait);
        if message.is_null() {
            return count;
        }
        // SAFETY: the application's function, called as its type says; the message is the library's again afterwards.
        unsafe {
            callback(message, opaque);
            rd_kafka_message_destroy(message);
        }
        count += 1;
        if yielded() || count == max {
            return count;
        }
        wait = Duration::ZERO;
    }
}

/// A started partition's next message, which the application destroys; null when the time is over or on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume(
    rkt: *mut Topic,
    partition: i32,
    timeout_ms: c_int,
) -> *mut Message {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a topic.
        let Some(topic) = (unsafe { rkt.as_ref() }) else {
            fail(RespErr::INVALID_ARG);
            return ptr::null_mut();
        };
        match partition_queue(topic, partition) {
            Ok(queue) => {
                let message = queue.poll_message(topic.instance(), timeout(timeout_ms));
                if message.is_null() {
                    fail(RespErr::TIMED_OUT);
                }
                message
            }
            Err(error) => {
                fail(public_code(&error));
                ptr::null_mut()
            }
        }
    })
}

/// A started partition's next messages, which the application destroys: waits until the array is full or the time is over. Returns
/// how many, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume_batch(
    rkt: *mut Topic,
    partition: i32,
    timeout_ms: c_int,
    rkmessages: *mut *mut Message,
    rkmessages_size: usize,
) -> isize {
    guard!(-1, {
        // SAFETY: null or a topic; an array of the size that the caller names.
        unsafe {
            let (Some(topic), false) = (rkt.as_ref(), rkmessages.is_null()) else {
                fail(RespErr::INVALID_ARG);
                return -1;
            };
            match partition_queue(topic, partition) {
                Ok(queue) => batch(
                    &queue,
                    topic.instance(),
                    timeout(timeout_ms),
                    rkmessages,
                    rkmessages_size,
                ),
                Err(error) => {
                    fail(public_code(&error));
                    -1
                }
            }
        }
    })
}

/// Calls a function with a started partition's messages: waits for the first, then gives all that are there, or as many as the
/// topic's `consume.callback.max.messages`. The messages stay the library's. Returns how many, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume_callback(
    rkt: *mut Topic,
    partition: i32,
    timeout_ms: c_int,
    consume_cb: Option<ConsumeCallback>,
    commit_opaque: *mut c_void,
) -> c_int {
    guard!(-1, {
        // SAFETY: null or a topic; the application's function.
        unsafe {
            let (Some(topic), Some(callback)) = (rkt.as_ref(), consume_cb) else {
                fail(RespErr::INVALID_ARG);
                return -1;
            };
            match partition_queue(topic, partition) {
                Ok(queue) => each(
                    topic.consume_callback_max(),
                    &queue,
                    topic.instance(),
                    timeout(timeout_ms),
                    callback,
                    commit_opaque,
                ),
                Err(error) => {
                    fail(public_code(&error));
                    -1
                }
            }
        }
    })
}

/// As `rd_kafka_consume`, from a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume_queue(
    rkqu: *mut QueueHandle,
    timeout_ms: c_int,
) -> *mut Message {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a queue.
        unsafe { rkqu.as_ref() }.map_or(ptr::null_mut(), |queue| {
            queue
                .state()
                .poll_message(queue.instance(), timeout(timeout_ms))
        })
    })
}

/// As `rd_kafka_consume_batch`, from a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume_batch_queue(
    rkqu: *mut QueueHandle,
    timeout_ms: c_int,
    rkmessages: *mut *mut Message,
    rkmessages_size: usize,
) -> isize {
    guard!(-1, {
        // SAFETY: null or a queue; an array of the size that the caller names.
        unsafe {
            let (Some(queue), false) = (rkqu.as_ref(), rkmessages.is_null()) else {
                fail(RespErr::INVALID_ARG);
                return -1;
            };
            batch(
                queue.state(),
                queue.instance(),
                timeout(timeout_ms),
                rkmessages,
                rkmessages_size,
            )
        }
    })
}

/// As `rd_kafka_consume_callback`, from a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consume_callback_queue(
    rkqu: *mut QueueHandle,
    timeout_ms: c_int,
    consume_cb: Option<ConsumeCallback>,
    commit_opaque: *mut c_void,
) -> c_int {
    guard!(-1, {
        // SAFETY: null or a queue; the application's function.
        unsafe {
            let (Some(queue), Some(callback)) = (rkqu.as_ref(), consume_cb) else {
                fail(RespErr::INVALID_ARG);
                return -1;
            };
            each(
                0,
                queue.state(),
                queue.instance(),
                timeout(timeout_ms),
                callback,
                commit_opaque,
            )
        }
    })
}
