//! The consumer of groups and assignments.

use crate::{
    abi::{Message, RespErr, TopicPartitionList},
    border::{self, fail, public_code, timeout},
    errors::{Error, give, give_result},
    instance::Instance,
    queue::QueueHandle,
    serve::Served,
    topic::Topic,
    topic_partition_list::{elements, from_partitions, to_partitions, topic_of, write_back},
};
use core::ffi::{c_char, c_int};
use ottla::{ErrCode, Event, Handle, KafkaError, TopicPartition};
use std::{ptr, time::Duration};

/// Runs an operation of a handle.
unsafe fn with(
    rk: *const Instance,
    run: impl FnOnce(&Handle) -> Result<(), KafkaError>,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle of this library.
        match unsafe { rk.as_ref() } {
            Some(instance) => border::code(instance.handle().and_then(run)),
            None => RespErr::INVALID_ARG,
        }
    })
}

/// As [`with`], for functions that give an error object.
unsafe fn with_error(
    rk: *const Instance,
    run: impl FnOnce(&Handle) -> Result<(), KafkaError>,
) -> *mut Error {
    guard!(give(KafkaError::from(ErrCode::FAIL)), {
        // SAFETY: null or a handle of this library.
        match unsafe { rk.as_ref() } {
            Some(instance) => give_result(instance.handle().and_then(run)),
            None => give(KafkaError::from(ErrCode::INVALID_ARG)),
        }
    })
}

/// Runs an operation that changes the partitions, and writes them back.
unsafe fn with_partitions(
    rk: *const Instance,
    list: *mut TopicPartitionList,
    run: impl FnOnce(&Handle, &mut [TopicPartition]) -> Result<(), KafkaError>,
) -> RespErr {
    if list.is_null() {
        return RespErr::INVALID_ARG;
    }
    // SAFETY: a list that only this thread uses.
    unsafe {
        with(rk, |handle| {
            let mut partitions = to_partitions(list);
            let result = run(handle, &mut partitions);
            write_back(list, &partitions);
            result
        })
    }
}

/// Subscribes to topics by name, or by regular expression if it begins with `^`. Partition numbers don't count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_subscribe(
    rk: *mut Instance,
    topics: *const TopicPartitionList,
) -> RespErr {
    // SAFETY: null or a list.
    unsafe {
        with(rk, |handle| {
            let names: Vec<&str> = elements(topics).iter().map(|e| topic_of(e)).collect();
            handle.subscribe(&names)
        })
    }
}

/// Leaves the group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_unsubscribe(rk: *mut Instance) -> RespErr {
    // SAFETY: passed on.
    unsafe { with(rk, Handle::unsubscribe) }
}

/// What is subscribed to: a new list, which the application destroys.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_subscription(
    rk: *mut Instance,
    topics: *mut *mut TopicPartitionList,
) -> RespErr {
    // SAFETY: null or the caller's to be written.
    unsafe {
        with(rk, |handle| {
            let Some(topics) = topics.as_mut() else {
                return Err(ErrCode::INVALID_ARG.into());
            };
            let names = handle.subscription();
            let partitions: Vec<_> = names
                .into_iter()
                .map(|name| TopicPartition::new(name, -1, crate::abi::OFFSET_INVALID))
                .collect();
            *topics = from_partitions(&partitions);
            Ok(())
        })
    }
}

/// Consumes these partitions from their offsets on, in place of others; null: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_assign(
    rk: *mut Instance,
    partitions: *const TopicPartitionList,
) -> RespErr {
    // SAFETY: null or a list.
    unsafe {
        with(rk, |handle| {
            if partitions.is_null() {
                handle.unassign()
            } else {
                handle.assign(&to_partitions(partitions))
            }
        })
    }
}

/// Consumes these partitions, too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_incremental_assign(
    rk: *mut Instance,
    partitions: *const TopicPartitionList,
) -> *mut Error {
    // SAFETY: null or a list.
    unsafe {
        with_error(rk, |handle| {
            handle.incremental_assign(&to_partitions(partitions))
        })
    }
}

/// Consumes these partitions no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_incremental_unassign(
    rk: *mut Instance,
    partitions: *const TopicPartitionList,
) -> *mut Error {
    // SAFETY: null or a list.
    unsafe {
        with_error(rk, |handle| {
            handle.incremental_unassign(&to_partitions(partitions))
        })
    }
}

/// What is consumed: a new list, which the application destroys.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_assignment(
    rk: *mut Instance,
    partitions: *mut *mut TopicPartitionList,
) -> RespErr {
    // SAFETY: null or the caller's to be written.
    unsafe {
        with(rk, |handle| {
            let Some(partitions) = partitions.as_mut() else {
                return Err(ErrCode::INVALID_ARG.into());
            };
            *partitions = from_partitions(&handle.assignment());
            Ok(())
        })
    }
}

/// 1 if the assignment was lost to other members, during a rebalance.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_assignment_lost(rk: *mut Instance) -> c_int {
    guard!(0, {
        // SAFETY: null or a handle.
        let handle = unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok());
        handle.map_or(0, |handle| handle.is_assignment_lost().into())
    })
}

/// `NONE`, `EAGER` or `COOPERATIVE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_rebalance_protocol(rk: *mut Instance) -> *const c_char {
    guard!(ptr::null(), {
        // SAFETY: null or a handle.
        let handle = unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok());
        match handle.map(|handle| handle.rebalance_protocol()) {
            Some("EAGER") => c"EAGER",
            Some("COOPERATIVE") => c"COOPERATIVE",
            _ => c"NONE",
        }
        .as_ptr()
    })
}

/// The next message, which the application destroys; null when the time is over. A message with `err` is an error or the end of a
/// partition. Serves rebalances and the like on the way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_poll(
    rk: *mut Instance,
    timeout_ms: c_int,
) -> *mut Message {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a handle.
        let Some(instance) = (unsafe { rk.as_ref() }) else {
            return ptr::null_mut();
        };
        match instance.consumer_queue() {
            Some(queue) if instance.role == ottla::Role::Consumer => {
                queue.poll_message(instance, timeout(timeout_ms))
            }
            _ => {
                let error = match instance.handle() {
                    Err(error) => error,
                    Ok(_) => KafkaError::from(ErrCode::UNKNOWN_GROUP),
                };
                fail(public_code(&error));
                instance.consumer_error(None, 0, &error)
            }
        }
    })
}

impl Instance {
    /// Leaves the group, serving rebalances with the application's function.
    pub(crate) fn close_consumer(&self, timeout: Duration) -> RespErr {
        let Ok(handle) = self.handle() else {
            return RespErr::NO_ERROR;
        };
        let mut serve = |event| match event {
            Event::Fetched(_) | Event::PartitionEof { .. } => {}
            event => {
                if let Served::Message(message) = self.serve(event) {
                    // SAFETY: a message that nobody else has.
                    unsafe { crate::message::rd_kafka_message_destroy(message) };
                }
            }
        };
        border::code(handle.close_consumer_serving(timeout, &mut serve))
    }
}

/// Gives up the partitions (calling the rebalance function), commits if that is automatic, and leaves the group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_close(rk: *mut Instance) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle.
        match unsafe { rk.as_ref() } {
            Some(instance) if instance.role == ottla::Role::Consumer => {
                instance.close_consumer(Duration::MAX)
            }
            Some(_) => ErrCode::UNKNOWN_GROUP.into(),
            None => RespErr::INVALID_ARG,
        }
    })
}

/// Begins to close; the events of that come into `rkqu`, which has to be served until `rd_kafka_consumer_closed`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_close_queue(
    rk: *mut Instance,
    rkqu: *mut QueueHandle,
) -> *mut Error {
    // SAFETY: null or a queue.
    unsafe {
        with_error(rk, |handle| {
            let Some(queue) = rkqu.as_ref() else {
                return Err(ErrCode::INVALID_ARG.into());
            };
            let consumer = handle.consumer_queue();
            if !consumer.is_same(&queue.state().queue) {
                consumer.forward(Some(&queue.state().queue))?;
            }
            handle.begin_close_consumer()
        })
    }
}

/// 1 once closing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_closed(rk: *mut Instance) -> c_int {
    guard!(0, {
        // SAFETY: null or a handle.
        let handle = unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok());
        handle.map_or(0, |handle| handle.is_consumer_closed().into())
    })
}

/// Sets each offset behind the last message that the application took, or to `RD_KAFKA_OFFSET_INVALID`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_position(
    rk: *mut Instance,
    partitions: *mut TopicPartitionList,
) -> RespErr {
    // SAFETY: passed on.
    unsafe { with_partitions(rk, partitions, |handle, p| handle.position(p)) }
}

/// Sets each offset to what the group has committed, or `RD_KAFKA_OFFSET_INVALID`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_committed(
    rk: *mut Instance,
    partitions: *mut TopicPartitionList,
    timeout_ms: c_int,
) -> RespErr {
    // SAFETY: passed on.
    unsafe {
        with_partitions(rk, partitions, |handle, p| {
            handle.committed(p, timeout(timeout_ms))
        })
    }
}

/// Commits, and gives the partitions with their errors.
fn commit_and_wait(
    handle: &Handle,
    offsets: Option<&[TopicPartition]>,
) -> Result<Vec<TopicPartition>, KafkaError> {
    let committed = handle.commit(offsets, Duration::MAX)?;
    match committed.iter().find(|p| p.error != ErrCode::NO_ERROR) {
        Some(failed) if committed.iter().all(|p| p.error == failed.error) => {
            Err(failed.error.into())
        }
        _ => Ok(committed),
    }
}

/// Commits these offsets, or with null all stored ones; waits unless `async`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_commit(
    rk: *mut Instance,
    offsets: *const TopicPartitionList,
    r#async: c_int,
) -> RespErr {
    // SAFETY: null or a list.
    unsafe {
        with(rk, |handle| {
            let offsets = (!offsets.is_null()).then(|| to_partitions(offsets));
            if r#async != 0 {
                handle.commit_async(offsets.as_deref())
            } else {
                commit_and_wait(handle, offsets.as_deref()).map(|_| ())
            }
        })
    }
}

/// Commits the offset behind this message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_commit_message(
    rk: *mut Instance,
    rkmessage: *const Message,
    r#async: c_int,
) -> RespErr {
    // SAFETY: null or a consumed message.
    unsafe {
        let Some(offset) = offset_behind(rkmessage) else {
            return RespErr::INVALID_ARG;
        };
        with(rk, |handle| {
            if r#async != 0 {
                handle.commit_async(Some(&[offset]))
            } else {
                commit_and_wait(handle, Some(&[offset])).map(|_| ())
            }
        })
    }
}

unsafe fn offset_behind(message: *const Message) -> Option<TopicPartition> {
    // SAFETY: null or a consumed message, whose topic is null or one of its handle's.
    unsafe {
        let message = message.as_ref().filter(|m| m.err == RespErr::NO_ERROR)?;
        let topic = message.rkt.cast::<Topic>().as_ref()?;
        let mut offset = TopicPartition::new(topic.name(), message.partition, message.offset + 1);
        offset.leader_epoch = crate::message::rd_kafka_message_leader_epoch(message);
        Some(offset)
    }
}

/// Commits these offsets, or with null all stored ones, and calls the function (or puts an OFFSET_COMMIT event into the queue) when
/// that is done. Without a queue it waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_commit_queue(
    rk: *mut Instance,
    offsets: *const TopicPartitionList,
    rkqu: *mut QueueHandle,
    cb: Option<crate::conf_callbacks::OffsetCommitCallback>,
    opaque: *mut core::ffi::c_void,
) -> RespErr {
    // SAFETY: null or a list, null or a queue; the application's function, called as its type says.
    unsafe {
        let Some(instance) = rk.as_ref() else {
            return RespErr::INVALID_ARG;
        };
        with(rk, |handle| {
            let offsets = (!offsets.is_null()).then(|| to_partitions(offsets));
            let committed = commit_and_wait(handle, offsets.as_deref());
            let (error, partitions) = match &committed {
                Ok(partitions) => (ErrCode::NO_ERROR, partitions.clone()),
                Err(error) => (error.code, offsets.unwrap_or_default()),
            };
            match (rkqu.as_ref(), cb) {
                (Some(queue), None) => {
                    queue.state().put_back(Event::OffsetCommit {
                        error,
                        offsets: partitions,
                    });
                    queue.state().queue.wake();
                }
                (_, Some(cb)) => {
                    let list = from_partitions(&partitions);
                    cb(instance.as_ptr(), error.into(), list, opaque);
                    crate::topic_partition_list::rd_kafka_topic_partition_list_destroy(list);
                }
                (None, None) => {}
            }
            committed.map(|_| ())
        })
    }
}

/// Notes offsets for the next automatic or argumentless commit; each partition gets its own error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_offsets_store(
    rk: *mut Instance,
    offsets: *mut TopicPartitionList,
) -> RespErr {
    // SAFETY: passed on.
    unsafe { with_partitions(rk, offsets, |handle, p| handle.store_offsets(p)) }
}

/// Notes the offset behind this message for the next commit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_offset_store_message(rkmessage: *mut Message) -> *mut Error {
    // SAFETY: null or a consumed message, whose topic is null or one of a living handle's.
    unsafe {
        let (Some(offset), Some(message)) = (offset_behind(rkmessage), rkmessage.as_ref()) else {
            return give(KafkaError::from(ErrCode::INVALID_ARG));
        };
        let topic = &*message.rkt.cast::<Topic>();
        with_error(topic.instance, |handle| {
            let mut offsets = [offset];
            handle.store_offsets(&mut offsets)?;
            match offsets[0].error {
                ErrCode::NO_ERROR => Ok(()),
                error => Err(error.into()),
            }
        })
    }
}

/// Goes on at the elements' offsets; each partition gets its own error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_seek_partitions(
    rk: *mut Instance,
    partitions: *mut TopicPartitionList,
    _timeout_ms: c_int,
) -> *mut Error {
    // SAFETY: passed on; null or a list that only this thread uses.
    unsafe {
        with_error(rk, |handle| {
            let mut changed = to_partitions(partitions);
            let result = handle.seek(&mut changed);
            write_back(partitions, &changed);
            result
        })
    }
}

/// Stops partitions for a while; each partition gets its own error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_pause_partitions(
    rk: *mut Instance,
    partitions: *mut TopicPartitionList,
) -> RespErr {
    // SAFETY: passed on.
    unsafe { with_partitions(rk, partitions, |handle, p| handle.pause(p)) }
}

/// Goes on with paused partitions; each partition gets its own error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_resume_partitions(
    rk: *mut Instance,
    partitions: *mut TopicPartitionList,
) -> RespErr {
    // SAFETY: passed on.
    unsafe { with_partitions(rk, partitions, |handle, p| handle.resume(p)) }
}

/// Replaces the timestamp (ms) in each `offset` by the first offset whose message is not older, or the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_offsets_for_times(
    rk: *mut Instance,
    offsets: *mut TopicPartitionList,
    timeout_ms: c_int,
) -> RespErr {
    // SAFETY: passed on.
    unsafe {
        with_partitions(rk, offsets, |handle, p| {
            handle.offsets_for_times(p, timeout(timeout_ms))
        })
    }
}
