//! `rd_kafka_queue_t`.

use crate::{
    abi::{Message, RespErr},
    border::{fail, lock, set_yielded, text, timeout, yielded},
    conf_callbacks::QueueCallback,
    event::Event,
    instance::Instance,
    message::Reader,
    serve::Served,
};
use core::ffi::{c_char, c_int, c_void};
use ottla::{Event as CoreEvent, KafkaError, Queue};
use std::{
    collections::VecDeque,
    ptr, slice,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

/// One of the handle's queues, with what was taken out of it and not given to the application yet.
pub struct QueueState {
    /// Ottla's queue.
    pub queue: Queue,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The fetch that is being handed out.
    reader: Option<Reader>,
    /// What comes after it.
    events: VecDeque<CoreEvent>,
}

/// `rd_kafka_queue_t`: the application's share of a queue.
pub struct QueueHandle {
    // The first field is dropped first: the handle must not outlive the instance.
    state: Arc<QueueState>,
    instance: Arc<Instance>,
}

/// When a timeout is over; `None` is never.
pub fn deadline(timeout: Duration) -> Option<Instant> {
    if timeout.is_zero() {
        // No need to look at the clock.
        None
    } else {
        Instant::now().checked_add(timeout)
    }
}

fn left(timeout: Duration, deadline: Option<Instant>) -> Duration {
    deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()))
}

impl QueueState {
    /// Nothing taken yet.
    pub fn new(queue: Queue) -> Self {
        Self {
            queue,
            held: Mutex::default(),
        }
    }

    /// The next event.
    pub fn next_event(&self, timeout: Duration) -> Option<CoreEvent> {
        let held = lock(&self.held).events.pop_front();
        held.or_else(|| self.queue.poll(timeout))
    }

    /// The next event that is nothing to consume.
    fn next_event_but_records(&self, timeout: Duration) -> Option<CoreEvent> {
        let mut held = lock(&self.held);
        let at = held
            .events
            .iter()
            .position(|event| !matches!(event, CoreEvent::Fetched(_)));
        let event = at.and_then(|at| held.events.remove(at));
        drop(held);
        event.or_else(|| self.queue.poll_events(timeout))
    }

    /// The event comes next.
    pub fn put_back(&self, event: CoreEvent) {
        lock(&self.held).events.push_front(event);
    }

    /// A message of the fetch that is being handed out.
    #[inline]
    fn next_of_reader(&self) -> Option<*mut Message> {
        let mut held = lock(&self.held);
        let message = held.reader.as_mut()?.next();
        if message.is_none() {
            held.reader = None;
        }
        message
    }

    /// Hands this fetch out from now on.
    fn read(&self, reader: Reader, event: impl FnOnce(Reader)) {
        let mut held = lock(&self.held);
        if held.reader.is_none() {
            held.reader = Some(reader);
        } else {
            drop(held);
            event(reader);
        }
    }

    /// The next message; other events are served on the way. Null when the time is over.
    #[inline]
    pub fn poll_message(&self, instance: &Instance, timeout: Duration) -> *mut Message {
        match self.next_of_reader() {
            Some(message) => message,
            None => self.wait_for_message(instance, timeout),
        }
    }

    #[cold]
    fn wait_for_message(&self, instance: &Instance, timeout: Duration) -> *mut Message {
        set_yielded(false);
        let until = deadline(timeout);
        loop {
            let Some(event) = self.next_event(left(timeout, until)) else {
                return ptr::null_mut();
            };
            match event {
                CoreEvent::Fetched(batch) => {
                    let mut reader = instance.reader(batch);
                    if let Some(message) = reader.next() {
                        // Another thread may have begun another fetch meanwhile: this one is then read to its end first, later.
                        self.read(reader, |reader| self.keep_for_later(reader));
                        return message;
                    }
                }
                event => match instance.serve(event) {
                    Served::Message(message) => return message,
                    Served::Wakeup => return ptr::null_mut(),
                    Served::Count(_) | Served::Rest(..) => {}
                },
            }
            if yielded() {
                return ptr::null_mut();
            }
        }
    }

    /// Two threads poll one queue: the second fetch waits as messages do, in a reader of its own.
    fn keep_for_later(&self, reader: Reader) {
        let mut held = lock(&self.held);
        match &held.reader {
            None => held.reader = Some(reader),
            Some(_) => held
                .events
                .push_back(CoreEvent::Fetched(reader.into_batch())),
        }
    }

    /// Serves events with the application's functions until none is left. Returns how many (of a batch of delivery reports each
    /// one counts).
    pub fn serve(&self, instance: &Instance, timeout: Duration) -> c_int {
        self.serve_from(instance, timeout, |timeout| self.next_event(timeout))
    }

    /// As [`Self::serve`]; records stay for whoever consumes.
    fn serve_but_records(&self, instance: &Instance, timeout: Duration) -> c_int {
        self.serve_from(instance, timeout, |timeout| {
            self.next_event_but_records(timeout)
        })
    }

    fn serve_from(
        &self,
        instance: &Instance,
        timeout: Duration,
        mut next: impl FnMut(Duration) -> Option<CoreEvent>,
    ) -> c_int {
        set_yielded(false);
        let (mut served, mut wait) = (0, timeout);
        while let Some(event) = next(wait) {
            match event {
                CoreEvent::Fetched(batch) => {
                    let Some(callback) = instance.conf.callbacks.consume else {
                        self.put_back(CoreEvent::Fetched(batch));
                        break;
                    };
                    let mut reader = instance.reader(batch);
                    while let Some(message) = reader.next() {
                        served += 1;
                        // SAFETY: the application's function, called as its type says; the message is the library's again.
                        unsafe {
                            callback(message, instance.conf.callbacks.opaque);
                            crate::message::rd_kafka_message_destroy(message);
                        }
                        if yielded() {
                            self.put_back(CoreEvent::Fetched(reader.into_batch()));
                            break;
                        }
                    }
                }
                event => match instance.serve(event) {
                    Served::Count(count) => served += count,
                    Served::Rest(count, rest) => {
                        served += count;
                        self.put_back(rest);
                    }
                    Served::Message(message) => {
                        served += 1;
                        // SAFETY: as above.
                        unsafe {
                            if let Some(callback) = instance.conf.callbacks.consume {
                                callback(message, instance.conf.callbacks.opaque);
                            }
                            crate::message::rd_kafka_message_destroy(message);
                        }
                    }
                    Served::Wakeup => break,
                },
            }
            if yielded() {
                break;
            }
            wait = Duration::ZERO;
        }
        served
    }

    /// The next event as the application's, or null.
    pub fn poll_event(&self, instance: &Instance, timeout: Duration) -> *mut Event {
        if let Some(message) = self.next_of_reader() {
            return Event::of_message(instance, message);
        }
        let until = deadline(timeout);
        loop {
            let Some(event) = self.next_event(left(timeout, until)) else {
                return ptr::null_mut();
            };
            match event {
                CoreEvent::Wakeup => return ptr::null_mut(),
                CoreEvent::Fetched(batch) => {
                    let mut reader = instance.reader(batch);
                    if let Some(message) = reader.next() {
                        self.read(reader, |reader| self.keep_for_later(reader));
                        return Event::of_message(instance, message);
                    }
                }
                // There is no event of that kind: the callback is called, here as in other polls.
                event @ CoreEvent::Throttle(_) => drop(instance.serve(event)),
                event => {
                    let event = Event::new(instance, event);
                    if !event.is_null() {
                        return event;
                    }
                }
            }
        }
    }

    fn len(&self) -> usize {
        let held = lock(&self.held);
        self.queue.len() + held.events.len() + held.reader.as_ref().map_or(0, Reader::remaining)
    }

    /// Events that were taken out go the same way as those that wait.
    fn move_held_to(&self, other: &QueueState) {
        let mut held = lock(&self.held);
        let mut events = std::mem::take(&mut held.events);
        if let Some(reader) = held.reader.take() {
            events.push_front(CoreEvent::Fetched(reader.into_batch()));
        }
        drop(held);
        lock(&other.held).events.extend(events);
    }
}

impl Instance {
    /// The state of a queue: queues of the same events share it.
    pub(crate) fn queue_state(&self, queue: Queue) -> Arc<QueueState> {
        let mut queues = lock(&self.queues);
        if let Some(state) = queues.iter().find(|state| state.queue.is_same(&queue)) {
            return state.clone();
        }
        let state = Arc::new(QueueState::new(queue));
        queues.push(state.clone());
        state
    }
}

/// A share for the application, or null.
unsafe fn give(
    rk: *const Instance,
    state: impl FnOnce(&Instance) -> Result<Arc<QueueState>, KafkaError>,
) -> *mut QueueHandle {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a handle of this library, which the queue gets a share of.
        unsafe {
            let Some(instance) = rk.as_ref() else {
                fail(RespErr::INVALID_ARG);
                return ptr::null_mut();
            };
            match state(instance) {
                Ok(state) => {
                    Arc::increment_strong_count(rk);
                    Box::into_raw(Box::new(QueueHandle {
                        instance: Arc::from_raw(rk),
                        state,
                    }))
                }
                Err(error) => {
                    fail(crate::border::public_code(&error));
                    ptr::null_mut()
                }
            }
        }
    })
}

fn opened(
    state: Option<&Arc<QueueState>>,
    instance: &Instance,
) -> Result<Arc<QueueState>, KafkaError> {
    instance.handle()?;
    state
        .cloned()
        .ok_or_else(|| KafkaError::from(ottla::ErrCode::STATE))
}

/// A new queue, to forward others to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_new(rk: *mut Instance) -> *mut QueueHandle {
    // SAFETY: passed on.
    unsafe {
        give(rk, |instance| {
            Ok(instance.queue_state(instance.handle()?.new_queue()))
        })
    }
}

/// Gives a queue back; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_destroy(rkqu: *mut QueueHandle) {
    if !rkqu.is_null() {
        // SAFETY: the caller gives its share up.
        guard!((), drop(unsafe { Box::from_raw(rkqu) }))
    }
}

/// The main queue: what `rd_kafka_poll` serves.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_get_main(rk: *mut Instance) -> *mut QueueHandle {
    // SAFETY: passed on.
    unsafe { give(rk, |instance| opened(instance.main_queue(), instance)) }
}

/// The consumer queue: what `rd_kafka_consumer_poll` serves. Null for producers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_get_consumer(rk: *mut Instance) -> *mut QueueHandle {
    // SAFETY: passed on; null or a handle.
    unsafe {
        if rk
            .as_ref()
            .is_some_and(|instance| instance.role == ottla::Role::Producer)
        {
            return ptr::null_mut();
        }
        give(rk, |instance| opened(instance.consumer_queue(), instance))
    }
}

/// The queue of one partition's messages. To poll them there, first end its forwarding: `rd_kafka_queue_forward(queue, NULL)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_get_partition(
    rk: *mut Instance,
    topic: *const c_char,
    partition: i32,
) -> *mut QueueHandle {
    // SAFETY: passed on; null or a handle, null or a C string.
    unsafe {
        if rk
            .as_ref()
            .is_some_and(|instance| instance.role == ottla::Role::Producer)
        {
            return ptr::null_mut();
        }
        let Some(topic) = text(topic) else {
            return ptr::null_mut();
        };
        give(rk, |instance| {
            Ok(instance.queue_state(instance.handle()?.partition_queue(topic, partition)))
        })
    }
}

/// The queue whose events a thread of the library gives to the background event function; null without one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_get_background(rk: *mut Instance) -> *mut QueueHandle {
    // SAFETY: passed on; null or a handle.
    unsafe {
        if rk
            .as_ref()
            .is_none_or(|instance| instance.conf.callbacks.background_event.is_none())
        {
            return ptr::null_mut();
        }
        give(rk, |instance| opened(instance.background_queue(), instance))
    }
}

/// Events of `src` go to `dst` from now on; null: they stay in `src`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_forward(src: *mut QueueHandle, dst: *mut QueueHandle) {
    guard!((), {
        // SAFETY: null or queues of this library.
        unsafe {
            let Some(from) = src.as_ref() else { return };
            let to = dst.as_ref();
            match from.state.queue.forward(to.map(|to| &to.state.queue)) {
                Ok(()) => {
                    if let Some(to) = to {
                        from.state.move_held_to(&to.state);
                    }
                }
                Err(error) => fail(crate::border::public_code(&error)),
            }
        }
    })
}

/// Log lines go to this queue (with `log.queue=true`); null: to the main queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_set_log_queue(
    rk: *mut Instance,
    rkqu: *mut QueueHandle,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle, null or a queue.
        unsafe {
            let Some(instance) = rk.as_ref() else {
                return RespErr::INVALID_ARG;
            };
            if instance.conf.config.get("log.queue").as_deref() != Ok("true") {
                return ottla::ErrCode::NOT_CONFIGURED.into();
            }
            crate::border::code(
                instance
                    .handle()
                    .and_then(|h| h.set_log_queue(rkqu.as_ref().map(|q| &q.state.queue))),
            )
        }
    })
}

/// Events that wait in the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_length(rkqu: *mut QueueHandle) -> usize {
    // SAFETY: null or a queue of this library.
    guard!(
        0,
        unsafe { rkqu.as_ref() }.map_or(0, |queue| queue.state.len())
    )
}

/// Writes the payload to `fd` whenever something comes into the empty queue; -1 ends that. The descriptor should not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_io_event_enable(
    rkqu: *mut QueueHandle,
    fd: c_int,
    payload: *const c_void,
    size: usize,
) {
    guard!((), {
        // SAFETY: null or a queue; a payload of the size that the caller names.
        unsafe {
            let Some(queue) = rkqu.as_ref() else { return };
            if fd < 0 || payload.is_null() {
                queue.state.queue.set_hook(None);
                return;
            }
            let payload = slice::from_raw_parts(payload.cast::<u8>(), size).to_vec();
            queue.state.queue.set_hook(Some(Arc::new(move || {
                // A full pipe has woken its reader already.
                let _ = libc::write(fd, payload.as_ptr().cast(), payload.len());
            })));
        }
    })
}

/// Calls a function whenever something comes into the empty queue; null ends that. It is called from any thread, at times with the
/// handle locked: it must only wake whoever polls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_cb_event_enable(
    rkqu: *mut QueueHandle,
    event_cb: Option<QueueCallback>,
    qev_opaque: *mut c_void,
) {
    guard!((), {
        // SAFETY: null or a queue of this library.
        let Some(queue) = (unsafe { rkqu.as_ref() }) else {
            return;
        };
        let instance = queue.instance.as_ptr().expose_provenance();
        let opaque = qev_opaque.expose_provenance();
        queue.state.queue.set_hook(event_cb.map(|callback| {
            let hook = move || {
                // SAFETY: the application's function, called as its type says; the queue's handle lives while events come.
                unsafe {
                    callback(
                        ptr::with_exposed_provenance_mut(instance),
                        ptr::with_exposed_provenance_mut(opaque),
                    )
                }
            };
            Arc::new(hook) as ottla::QueueHook
        }));
    })
}

/// Makes a poll of this queue return.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_yield(rkqu: *mut QueueHandle) {
    guard!((), {
        // SAFETY: null or a queue of this library.
        if let Some(queue) = unsafe { rkqu.as_ref() } {
            set_yielded(true);
            queue.state.queue.wake();
        }
    })
}

/// Called inside a callback: the poll that called it returns soon.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_yield(_rk: *mut Instance) {
    set_yielded(true);
}

/// Serves delivery reports, errors, statistics and the like with the application's functions: waits for the first event, then takes
/// all that are there. Returns how many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_poll(rk: *mut Instance, timeout_ms: c_int) -> c_int {
    guard!(0, {
        // SAFETY: null or a handle of this library.
        let Some(instance) = (unsafe { rk.as_ref() }) else {
            return 0;
        };
        let timeout = timeout(timeout_ms);
        let as_consumer = instance.polls_as_consumer.load(Relaxed);
        match (instance.main_queue(), instance.consumer_queue()) {
            // The main queue leads to the consumer queue, whose messages are not for this function unless there is a callback.
            (_, Some(queue)) if as_consumer && instance.conf.callbacks.consume.is_none() => {
                queue.serve_but_records(instance, timeout)
            }
            (_, Some(queue)) if as_consumer => queue.serve(instance, timeout),
            (Some(queue), _) => queue.serve(instance, timeout),
            _ => {
                // No broker yet: nothing comes here.
                std::thread::sleep(timeout.min(Duration::from_secs(1)));
                0
            }
        }
    })
}

/// The main queue forwards to the consumer queue from now on: `rd_kafka_consumer_poll` serves the callbacks of errors, statistics,
/// logs and the like, too. `rd_kafka_poll` still serves callbacks, but no messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_poll_set_consumer(rk: *mut Instance) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle of this library.
        let Some(instance) = (unsafe { rk.as_ref() }) else {
            return RespErr::INVALID_ARG;
        };
        let result = instance
            .handle()
            .and_then(|handle| handle.poll_set_consumer());
        if let (Ok(()), Some(main), Some(consumer)) =
            (&result, instance.main_queue(), instance.consumer_queue())
        {
            main.move_held_to(consumer);
        }
        instance.polls_as_consumer.fetch_or(result.is_ok(), Relaxed);
        crate::border::code(result)
    })
}

/// The queue's next event, to be destroyed with `rd_kafka_event_destroy`; null when the time is over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_poll(
    rkqu: *mut QueueHandle,
    timeout_ms: c_int,
) -> *mut Event {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a queue of this library.
        unsafe { rkqu.as_ref() }.map_or(ptr::null_mut(), |queue| {
            queue.state.poll_event(&queue.instance, timeout(timeout_ms))
        })
    })
}

/// As `rd_kafka_poll`, for this queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_queue_poll_callback(
    rkqu: *mut QueueHandle,
    timeout_ms: c_int,
) -> c_int {
    guard!(0, {
        // SAFETY: null or a queue of this library.
        unsafe { rkqu.as_ref() }.map_or(0, |queue| {
            queue.state.serve(&queue.instance, timeout(timeout_ms))
        })
    })
}

impl QueueHandle {
    /// The handle that it belongs to.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The queue.
    pub fn state(&self) -> &QueueState {
        &self.state
    }
}
