//! Producing.

use crate::{
    abi::{Message, RespErr, Vu},
    border::{fail, public_code, set_last_error, set_yielded, timeout},
    errors::{Error, give},
    headers::{Headers, bytes, rd_kafka_headers_destroy},
    instance::Instance,
    queue::deadline,
    serve::Served,
    topic::Topic,
};
use core::ffi::{CStr, c_int, c_void};
use ottla::{ErrCode, Header, KafkaError, ProduceRecord};
use std::{
    ptr, slice,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

/// `RD_KAFKA_MSG_F_FREE`: the payload is the library's once it is taken.
const FREE: c_int = 1;
/// `RD_KAFKA_MSG_F_COPY`: the payload stays the application's.
const COPY: c_int = 2;
/// `RD_KAFKA_MSG_F_BLOCK`: wait while the queue is full.
const BLOCK: c_int = 4;
/// `RD_KAFKA_MSG_F_PARTITION`: each message of an array names its partition.
const PARTITION: c_int = 8;

/// The bytes at a pointer; `None` for null.
#[inline]
unsafe fn optional<'a>(at: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller names the size.
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast(), len) })
}

/// What comes back as the payload of the report. Without COPY and FREE the application waits for its own pointer, to free it.
#[inline]
fn payload_address(flags: c_int, payload: *const c_void) -> usize {
    if flags & (FREE | COPY) == 0 {
        payload.expose_provenance()
    } else {
        0
    }
}

#[inline]
fn produce(
    instance: &Instance,
    record: &ProduceRecord<'_>,
    flags: c_int,
) -> Result<(), KafkaError> {
    let handle = instance.handle()?;
    if flags & BLOCK == 0 {
        handle.produce(record)
    } else {
        handle.produce_wait(record, Duration::MAX)
    }
}

/// The payload was taken: the bytes are in the batch, so that one to be freed can go.
#[inline]
unsafe fn taken(flags: c_int, payload: *mut c_void) {
    if flags & FREE != 0 {
        // SAFETY: the caller gave `malloc`ed memory.
        unsafe { libc::free(payload) };
    }
}

/// Produces one message: 0, or -1 with the reason in `rd_kafka_last_error` (`RD_KAFKA_RESP_ERR__QUEUE_FULL`: poll and try again).
/// `RD_KAFKA_PARTITION_UA` leaves the partition to the partitioner. `msgflags`: `RD_KAFKA_MSG_F_*`; the payload is copied in any
/// case, without COPY and FREE its pointer comes back with the delivery report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_produce(
    rkt: *mut Topic,
    partition: i32,
    msgflags: c_int,
    payload: *mut c_void,
    len: usize,
    key: *const c_void,
    keylen: usize,
    msg_opaque: *mut c_void,
) -> c_int {
    guard!(-1, {
        // SAFETY: null or a topic; memory of the sizes that the caller names.
        unsafe {
            let Some(topic) = rkt.as_ref() else {
                fail(RespErr::INVALID_ARG);
                return -1;
            };
            let result = topic.handle().and_then(|handle| {
                let record = ProduceRecord {
                    topic: handle,
                    partition,
                    key: optional(key, keylen),
                    value: optional(payload, len),
                    headers: &[],
                    timestamp: 0,
                    opaque: msg_opaque.expose_provenance(),
                    payload_addr: payload_address(msgflags, payload),
                };
                produce(topic.instance(), &record, msgflags)
            });
            match result {
                Ok(()) => {
                    taken(msgflags, payload);
                    set_last_error(RespErr::NO_ERROR);
                    0
                }
                Err(error) => {
                    fail(public_code(&error));
                    -1
                }
            }
        }
    })
}

/// Produces an array of messages with one taking of the producer's lock. Returns how many were taken; the others' `err` says why
/// not. Of each message `payload`, `len`, `key`, `key_len`, `_private` (the opaque pointer) count, and with
/// `RD_KAFKA_MSG_F_PARTITION` `partition`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_produce_batch(
    rkt: *mut Topic,
    partition: i32,
    msgflags: c_int,
    rkmessages: *mut Message,
    message_cnt: c_int,
) -> c_int {
    guard!(0, {
        // SAFETY: null or a topic; an array of the size that the caller names, with memory of the sizes that the elements name.
        unsafe {
            let (Some(topic), false) = (rkt.as_ref(), rkmessages.is_null() || message_cnt <= 0)
            else {
                fail(RespErr::INVALID_ARG);
                return 0;
            };
            let messages = slice::from_raw_parts_mut(rkmessages, message_cnt as usize);
            let handle = topic
                .handle()
                .and_then(|of_topic| Ok((topic.instance().handle()?, of_topic)));
            let (handle, of_topic) = match handle {
                Ok(handles) => handles,
                Err(error) => {
                    let code = public_code(&error);
                    messages.iter_mut().for_each(|message| message.err = code);
                    fail(code);
                    return 0;
                }
            };
            messages
                .iter_mut()
                .for_each(|message| message.err = RespErr::NO_ERROR);
            let record = |message: &Message| ProduceRecord {
                topic: of_topic,
                partition: if msgflags & PARTITION != 0 {
                    message.partition
                } else {
                    partition
                },
                key: optional(message.key, message.key_len),
                value: optional(message.payload, message.len),
                headers: &[],
                timestamp: 0,
                opaque: message.private.expose_provenance(),
                payload_addr: payload_address(msgflags, message.payload),
            };
            let mut refused = Vec::new();
            let mut count =
                handle.produce_batch(messages.iter().map(record), |i, e| refused.push((i, e)));
            for (index, error) in refused {
                let message = &mut messages[index];
                let again = if msgflags & BLOCK != 0 && error.code == ErrCode::QUEUE_FULL {
                    handle.produce_wait(&record(message), Duration::MAX)
                } else {
                    Err(error)
                };
                match again {
                    Ok(()) => count += 1,
                    Err(error) => message.err = public_code(&error),
                }
            }
            messages
                .iter()
                .filter(|message| message.err == RespErr::NO_ERROR)
                .for_each(|message| taken(msgflags, message.payload));
            count as c_int
        }
    })
}

impl Instance {
    /// The topic of a name, quickly if it is the same as the last time.
    fn topic_by_name(&self, name: &CStr) -> Result<&Topic, KafkaError> {
        // SAFETY: topics live as long as the instance.
        if let Some(last) = unsafe { self.last_topic.load(Relaxed).as_ref() }
            && last.name.as_c_str() == name
        {
            return Ok(last);
        }
        let name = name.to_str().ok().filter(|name| !name.is_empty());
        let topic = self.topic(
            name.ok_or_else(|| KafkaError::from(ErrCode::INVALID_ARG))?,
            None,
        )?;
        let topic = Arc::as_ptr(&topic);
        self.last_topic.store(topic.cast_mut(), Relaxed);
        // SAFETY: as above: the instance keeps a share.
        Ok(unsafe { &*topic })
    }
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> KafkaError {
    KafkaError::new(ErrCode::INVALID_ARG, text)
}

/// Produces one message whose parts are an array of typed arguments; what `rd_kafka_producev` does with its own. Gives null, or an
/// error that the application destroys. Header lists are the library's if the message was taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_produceva(
    rk: *mut Instance,
    vus: *const Vu,
    cnt: usize,
) -> *mut Error {
    guard!(give(KafkaError::from(ErrCode::FAIL)), {
        // SAFETY: null or a handle; an array of the size that the caller names.
        unsafe {
            let (Some(instance), false) = (rk.as_ref(), vus.is_null() && cnt > 0) else {
                return give(invalid("a null pointer"));
            };
            let arguments = if cnt == 0 {
                &[]
            } else {
                slice::from_raw_parts(vus, cnt)
            };
            match produce_arguments(instance, arguments) {
                Ok(()) => ptr::null_mut(),
                Err(error) => give(error),
            }
        }
    })
}

/// # Safety
/// Each argument's union member is the one that its type names.
unsafe fn produce_arguments(instance: &Instance, arguments: &[Vu]) -> Result<(), KafkaError> {
    let mut topic: Option<&Topic> = None;
    let (mut flags, mut payload, mut list): (c_int, *mut c_void, *mut Headers) =
        (0, ptr::null_mut(), ptr::null_mut());
    let mut single: Vec<Header<'_>> = Vec::new();
    let mut record = ProduceRecord {
        value: None,
        ..ProduceRecord::new(ottla::TopicHandle(0), &[])
    };
    for argument in arguments {
        // SAFETY: the caller's promise; pointers as the API asks for them.
        unsafe {
            match argument.vtype {
                1 if !argument.u.cstr.is_null() => {
                    topic = Some(instance.topic_by_name(CStr::from_ptr(argument.u.cstr))?);
                }
                2 if !argument.u.ptr.is_null() => topic = Some(&*argument.u.ptr.cast::<Topic>()),
                1 | 2 => return Err(invalid("the topic is null")),
                3 => record.partition = argument.u.i32,
                4 => {
                    payload = argument.u.mem.ptr;
                    record.value = optional(payload, argument.u.mem.size);
                }
                5 => record.key = optional(argument.u.mem.ptr, argument.u.mem.size),
                6 => record.opaque = argument.u.ptr.expose_provenance(),
                7 => flags = argument.u.i,
                8 => record.timestamp = argument.u.i64,
                9 => {
                    let header = argument.u.header;
                    if header.name.is_null() {
                        return Err(invalid("a header has no name"));
                    }
                    single.push(Header {
                        key: bytes(header.name, -1),
                        value: (!header.val.is_null())
                            .then(|| bytes(header.val.cast(), header.size)),
                    });
                }
                10 => list = argument.u.ptr.cast(),
                other => return Err(invalid(format!("argument type {other} is not known"))),
            }
        }
    }
    let topic = topic.ok_or_else(|| invalid("no topic is given"))?;
    if !list.is_null() && !single.is_empty() {
        return Err(KafkaError::new(
            ErrCode::CONFLICT,
            "single headers and a header list can't be given together",
        ));
    }
    // SAFETY: null or a list of this library.
    if let Some(list) = unsafe { list.as_ref() } {
        single.extend(list.iter().map(|(key, value)| Header { key, value }));
    }
    record.topic = topic.handle()?;
    record.payload_addr = payload_address(flags, payload);
    let record = ProduceRecord {
        headers: &single,
        ..record
    };
    produce(instance, &record, flags)?;
    // SAFETY: both are the library's now.
    unsafe {
        taken(flags, payload);
        rd_kafka_headers_destroy(list);
    }
    Ok(())
}

/// Sends everything now and waits until all of it is delivered or failed, serving delivery reports meanwhile.
/// `RD_KAFKA_RESP_ERR__TIMED_OUT` if that takes too long. With `RD_KAFKA_EVENT_DR` events another thread has to poll them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_flush(rk: *mut Instance, timeout_ms: c_int) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle of this library.
        let Some(instance) = (unsafe { rk.as_ref() }) else {
            return RespErr::INVALID_ARG;
        };
        if instance.role != ottla::Role::Producer {
            return ErrCode::NOT_IMPLEMENTED.into();
        }
        let (Ok(handle), Some(queue)) = (instance.handle(), instance.main_queue()) else {
            return RespErr::NO_ERROR;
        };
        let timeout = timeout(timeout_ms);
        if instance.conf.callbacks.events & crate::event::Event::DELIVERY != 0 {
            return crate::border::code(handle.flush(timeout));
        }
        let until = deadline(timeout);
        // What an earlier poll left, because a callback yielded.
        queue.serve(instance, Duration::ZERO);
        let left = until.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
        crate::border::code(handle.flush_serving(left, &mut |event| {
            let mut next = Some(event);
            while let Some(event) = next.take() {
                set_yielded(false);
                if let Served::Rest(_, rest) = instance.serve(event) {
                    next = Some(rest);
                }
            }
        }))
    })
}

/// Fails messages that wait (`RD_KAFKA_PURGE_F_QUEUE`) and that were sent (`RD_KAFKA_PURGE_F_INFLIGHT`). The reports come as ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_purge(rk: *mut Instance, purge_flags: c_int) -> RespErr {
    const QUEUE: c_int = 1;
    const IN_FLIGHT: c_int = 2;
    const NON_BLOCKING: c_int = 4;
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle of this library.
        let Some(instance) = (unsafe { rk.as_ref() }) else {
            return RespErr::INVALID_ARG;
        };
        if instance.role != ottla::Role::Producer {
            return ErrCode::NOT_IMPLEMENTED.into();
        }
        if purge_flags & !(QUEUE | IN_FLIGHT | NON_BLOCKING) != 0 {
            return RespErr::INVALID_ARG;
        }
        crate::border::code(instance.handle().and_then(|handle| {
            handle.purge(purge_flags & QUEUE != 0, purge_flags & IN_FLIGHT != 0)
        }))
    })
}
