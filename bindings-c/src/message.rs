//! `rd_kafka_message_t`: what delivery reports and consumers get, and what can be asked about it.
//!
//! A message that the library hands out is the first field of a [`FullMessage`]. Consumed ones lie in [`Chunk`]s of a few
//! dozen, whose memory and record bytes live until the last of them is destroyed: one atomic subtraction per message and no
//! allocation. Those of delivery reports lie on the stack of the poll that calls the application.

use crate::{
    abi::{Message, RespErr},
    errors::rd_kafka_err2str,
    headers::Headers,
    topic::Topic,
};
use bytes::Bytes;
use core::ffi::{c_char, c_int, c_void};
use ottla::{Delivery, DeliveryBatch, FetchedBatch, KafkaError, Persistence};
use std::{
    ffi::CString,
    mem::MaybeUninit,
    ptr::{self, NonNull},
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Release},
        fence,
    },
};

/// A message with what the accessors tell.
#[repr(C)]
pub struct FullMessage {
    /// What applications see.
    pub public: Message,
    /// Where it lies; null if it isn't the application's to destroy.
    chunk: *mut Chunk,
    timestamp: i64,
    latency_us: i64,
    /// The record's headers in the bytes that the chunk or the batch keeps alive.
    record_headers: ottla::Headers<'static>,
    /// The same as a list, once it was asked for.
    headers: *mut Headers,
    /// The error's text, a C string of the chunk or the batch.
    error_text: *const c_char,
    broker_id: i32,
    leader_epoch: i32,
    timestamp_type: c_int,
    status: c_int,
}

/// Messages per chunk: few enough that they stay in the first cache.
const SLOTS: usize = 64;

/// Messages that live together.
pub struct Chunk {
    /// Messages not destroyed yet, those still to be handed out included.
    left: AtomicUsize,
    /// What the messages' keys and values lie in.
    buffers: Vec<Bytes>,
    text: Option<CString>,
    slots: [MaybeUninit<FullMessage>; SLOTS],
}

impl Chunk {
    fn allocate(left: usize) -> NonNull<Self> {
        let mut chunk = Box::<Self>::new_uninit();
        let at = chunk.as_mut_ptr();
        // SAFETY: every field but the slots is written, and those may be anything.
        unsafe {
            (&raw mut (*at).left).write(AtomicUsize::new(left));
            (&raw mut (*at).buffers).write(Vec::new());
            (&raw mut (*at).text).write(None);
            NonNull::new_unchecked(Box::into_raw(chunk.assume_init()))
        }
    }

    /// `count` messages are gone.
    ///
    /// # Safety
    /// They belong to this chunk and nobody uses them any more.
    #[inline]
    unsafe fn release(chunk: *mut Self, count: usize) {
        // SAFETY: the chunk lives as long as a message is left; the last one frees it.
        unsafe {
            if (*chunk).left.fetch_sub(count, Release) == count {
                fence(Acquire);
                drop(Box::from_raw(chunk));
            }
        }
    }
}

/// Messages out of the records of one fetch.
pub struct Reader {
    batch: FetchedBatch,
    topic: *const Topic,
    partition: i32,
    broker_id: i32,
    chunk: NonNull<Chunk>,
    used: usize,
    /// The buffer that the chunk has got last.
    buffer: *const u8,
}

// SAFETY: the chunk's unused slots are the reader's alone; the topic lives as long as the handle whose lock holds the reader.
unsafe impl Send for Reader {}

impl Reader {
    /// A reader of this fetch.
    pub fn new(batch: FetchedBatch, topic: *const Topic, broker_id: i32) -> Self {
        Self {
            partition: batch.partition(),
            batch,
            topic,
            broker_id,
            chunk: Chunk::allocate(SLOTS),
            used: 0,
            buffer: ptr::null(),
        }
    }

    /// The next message, the caller's to destroy.
    #[inline]
    #[allow(clippy::should_implement_trait)] // the items are raw pointers
    pub fn next(&mut self) -> Option<*mut Message> {
        if self.used == SLOTS {
            self.chunk = Chunk::allocate(SLOTS);
            self.used = 0;
            self.buffer = ptr::null();
        }
        let record = match self.batch.next()? {
            Ok(record) => record,
            Err((offset, error)) => {
                return Some(error_message(self.topic, self.partition, offset, &error));
            }
        };
        let chunk = self.chunk.as_ptr();
        if self.buffer != record.buffer.as_ptr() {
            self.buffer = record.buffer.as_ptr();
            // SAFETY: only the reader touches the buffers until all messages are gone, and its own share keeps the chunk alive.
            unsafe { (*chunk).buffers.push(record.buffer.clone()) };
        }
        let (payload, len) = pointer(record.value);
        let (key, key_len) = pointer(record.key);
        let message = FullMessage {
            public: Message {
                err: RespErr::NO_ERROR,
                rkt: self.topic.cast_mut().cast(),
                partition: self.partition,
                payload,
                len,
                key,
                key_len,
                offset: record.offset,
                private: ptr::null_mut(),
            },
            chunk,
            timestamp: record.timestamp,
            latency_us: -1,
            // SAFETY: the headers lie in the buffer that the chunk keeps as long as the message lives.
            record_headers: unsafe { forever(record.headers) },
            headers: ptr::null_mut(),
            error_text: ptr::null(),
            broker_id: self.broker_id,
            leader_epoch: record.leader_epoch,
            timestamp_type: record.timestamp_type as c_int,
            status: Persistence::Persisted as c_int,
        };
        // SAFETY: `used` is below SLOTS, and the slot is still the reader's.
        let slot = unsafe {
            (*chunk)
                .slots
                .as_mut_ptr()
                .add(self.used)
                .cast::<FullMessage>()
        };
        // SAFETY: as above.
        unsafe { slot.write(message) };
        self.used += 1;
        Some(slot.cast())
    }

    /// 1 if there may be more.
    pub fn remaining(&self) -> usize {
        usize::from(!self.batch.is_stale())
    }

    /// What was not handed out.
    pub fn into_batch(self) -> FetchedBatch {
        let mut this = std::mem::ManuallyDrop::new(self);
        this.release_unused();
        // SAFETY: `this` is never dropped or used again, so that the batch is moved out of it once.
        unsafe { ptr::read(&this.batch) }
    }

    fn release_unused(&mut self) {
        if self.used < SLOTS {
            // SAFETY: the slots that were never handed out.
            unsafe { Chunk::release(self.chunk.as_ptr(), SLOTS - self.used) };
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.release_unused();
    }
}

/// Lengthens the life of headers.
///
/// # Safety
/// The bytes have to live as long as the result is used.
unsafe fn forever(headers: ottla::Headers<'_>) -> ottla::Headers<'static> {
    // SAFETY: the same type but for the lifetime, which the caller sees to.
    unsafe { std::mem::transmute(headers) }
}

/// Pointer and size, null for null.
#[inline]
fn pointer(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((ptr::null_mut(), 0), |bytes| {
        (bytes.as_ptr().cast_mut().cast(), bytes.len())
    })
}

/// A message that is an error: its payload is the text.
pub fn error_message(
    topic: *const Topic,
    partition: i32,
    offset: i64,
    error: &KafkaError,
) -> *mut Message {
    let text = crate::errors::c_string(&error.message);
    let chunk = Chunk::allocate(1).as_ptr();
    let message = FullMessage {
        public: Message {
            err: crate::border::public_code(error),
            rkt: topic.cast_mut().cast(),
            partition,
            payload: text.as_ptr().cast_mut().cast(),
            len: text.as_bytes().len(),
            key: ptr::null_mut(),
            key_len: 0,
            offset,
            private: ptr::null_mut(),
        },
        chunk,
        timestamp: -1,
        latency_us: -1,
        record_headers: ottla::Headers::default(),
        headers: ptr::null_mut(),
        error_text: text.as_ptr(),
        broker_id: -1,
        leader_epoch: -1,
        timestamp_type: 0,
        status: Persistence::NotPersisted as c_int,
    };
    // SAFETY: the chunk is new; its text's bytes don't move with the CString.
    unsafe {
        (*chunk).text = Some(text);
        let slot = (*chunk).slots.as_mut_ptr().cast::<FullMessage>();
        slot.write(message);
        slot.cast()
    }
}

/// A message for the reports of a batch, without a record yet. `text` is the error's.
pub fn delivery_template(
    batch: &DeliveryBatch,
    topic: *const Topic,
    text: Option<&CString>,
) -> FullMessage {
    FullMessage {
        public: Message {
            err: batch.error().map_or(RespErr::NO_ERROR, |e| e.code.into()),
            rkt: topic.cast_mut().cast(),
            partition: batch.partition(),
            payload: ptr::null_mut(),
            len: 0,
            key: ptr::null_mut(),
            key_len: 0,
            offset: crate::abi::OFFSET_INVALID,
            private: ptr::null_mut(),
        },
        chunk: ptr::null_mut(),
        timestamp: -1,
        latency_us: i64::try_from(batch.latency_us()).unwrap_or(i64::MAX),
        record_headers: ottla::Headers::default(),
        headers: ptr::null_mut(),
        error_text: text.map_or(ptr::null(), |text| text.as_ptr()),
        broker_id: batch.broker_id(),
        leader_epoch: -1,
        timestamp_type: 0,
        status: batch.status() as c_int,
    }
}

impl FullMessage {
    /// Makes it the report of this record.
    ///
    /// # Safety
    /// The record's bytes have to live as long as the message is used as this report.
    #[inline]
    pub unsafe fn set_record(&mut self, record: &Delivery<'_>) {
        let (payload, len) = pointer(record.value);
        let (key, key_len) = pointer(record.key);
        self.public.payload = if record.payload_addr == 0 {
            payload
        } else {
            // The application's own copy, which it wants back.
            ptr::with_exposed_provenance_mut(record.payload_addr)
        };
        self.public.len = len;
        self.public.key = key;
        self.public.key_len = key_len;
        self.public.offset = record.offset;
        self.public.private = ptr::with_exposed_provenance_mut(record.opaque);
        self.timestamp = record.timestamp;
        self.timestamp_type = c_int::from(record.timestamp >= 0);
        // SAFETY: the caller's promise.
        self.record_headers = unsafe { forever(record.headers) };
    }

    /// Frees the header list, if there is one.
    #[inline]
    pub fn drop_headers(&mut self) {
        if !self.headers.is_null() {
            // SAFETY: the list is the message's.
            unsafe { crate::headers::rd_kafka_headers_destroy(self.headers) };
            self.headers = ptr::null_mut();
        }
    }

    fn headers(&mut self) -> *mut Headers {
        if self.headers.is_null() && !self.record_headers.is_empty() {
            let mut list = Headers::default();
            self.record_headers
                .for_each(|header| list.push(header.key, header.value));
            self.headers = Box::into_raw(Box::new(list));
        }
        self.headers
    }
}

/// The whole of a message of this library; `None` for null.
unsafe fn full<'a>(message: *const Message) -> Option<&'a FullMessage> {
    // SAFETY: null, or the first field of a `FullMessage`, by the API's contract.
    unsafe { message.cast::<FullMessage>().as_ref() }
}

/// Frees a consumed message; null is allowed. Key, value and headers are gone with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_destroy(rkmessage: *mut Message) {
    // SAFETY: null or a message of this library that the caller gives up. Those that are not the application's have no chunk.
    unsafe {
        let Some(message) = rkmessage.cast::<FullMessage>().as_mut() else {
            return;
        };
        let chunk = std::mem::replace(&mut message.chunk, ptr::null_mut());
        if !chunk.is_null() {
            message.drop_headers();
            Chunk::release(chunk, 1);
        }
    }
}

/// The text of a message that is an error, else null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_errstr(rkmessage: *const Message) -> *const c_char {
    // SAFETY: null or a message of this library.
    match unsafe { full(rkmessage) } {
        Some(message) if message.public.err != RespErr::NO_ERROR => {
            if message.error_text.is_null() {
                rd_kafka_err2str(message.public.err)
            } else {
                message.error_text
            }
        }
        _ => ptr::null(),
    }
}

/// The text of a delivery report that is an error, else null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_produce_errstr(
    rkmessage: *const Message,
) -> *const c_char {
    // SAFETY: the caller's promise is passed on.
    unsafe { rd_kafka_message_errstr(rkmessage) }
}

/// The timestamp in milliseconds since the epoch, or -1; `*tstype` says who gave it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_timestamp(
    rkmessage: *const Message,
    tstype: *mut c_int,
) -> i64 {
    // SAFETY: null or a message of this library; null or the caller's to be written.
    unsafe {
        let (timestamp, kind) =
            full(rkmessage).map_or((-1, 0), |m| (m.timestamp, m.timestamp_type));
        if let Some(tstype) = tstype.as_mut() {
            *tstype = if timestamp < 0 { 0 } else { kind };
        }
        timestamp
    }
}

/// A delivery report's time from `produce` to the report, in microseconds; -1 for consumed messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_latency(rkmessage: *const Message) -> i64 {
    // SAFETY: null or a message of this library.
    unsafe { full(rkmessage) }.map_or(-1, |message| message.latency_us)
}

/// The node id of the broker that the message came from or went to, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_broker_id(rkmessage: *const Message) -> i32 {
    // SAFETY: null or a message of this library.
    unsafe { full(rkmessage) }.map_or(-1, |message| message.broker_id)
}

/// The epoch of the leader that appended a consumed message, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_leader_epoch(rkmessage: *const Message) -> i32 {
    // SAFETY: null or a message of this library.
    unsafe { full(rkmessage) }.map_or(-1, |message| message.leader_epoch)
}

/// How far a produced message got.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_status(rkmessage: *const Message) -> c_int {
    // SAFETY: null or a message of this library.
    unsafe { full(rkmessage) }.map_or(0, |message| message.status)
}

/// The message's headers, which stay the message's; `RD_KAFKA_RESP_ERR__NOENT` if it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_headers(
    rkmessage: *const Message,
    hdrsp: *mut *mut Headers,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a message of this library, which only one thread uses; null or the caller's to be written.
        unsafe {
            let (Some(message), Some(hdrsp)) = (
                rkmessage.cast_mut().cast::<FullMessage>().as_mut(),
                hdrsp.as_mut(),
            ) else {
                return RespErr::INVALID_ARG;
            };
            *hdrsp = message.headers();
            if hdrsp.is_null() {
                RespErr::NOENT
            } else {
                RespErr::NO_ERROR
            }
        }
    })
}

/// As `rd_kafka_message_headers`, but the headers become the application's to destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_detach_headers(
    rkmessage: *mut Message,
    hdrsp: *mut *mut Headers,
) -> RespErr {
    // SAFETY: as above.
    unsafe {
        let result = rd_kafka_message_headers(rkmessage, hdrsp);
        if result == RespErr::NO_ERROR {
            let message = &mut *rkmessage.cast::<FullMessage>();
            message.headers = ptr::null_mut();
            message.record_headers = ottla::Headers::default();
        }
        result
    }
}

/// Gives the message these headers in place of its own; they become the message's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_message_set_headers(rkmessage: *mut Message, hdrs: *mut Headers) {
    // SAFETY: null or a message of this library, which only one thread uses; the headers are given up.
    unsafe {
        if let Some(message) = rkmessage.cast::<FullMessage>().as_mut() {
            message.drop_headers();
            message.record_headers = ottla::Headers::default();
            message.headers = hdrs;
        }
    }
}
