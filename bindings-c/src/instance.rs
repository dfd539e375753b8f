//! `rd_kafka_t`: making, naming and ending a handle.

use crate::{
    abi::RespErr,
    border::{allocate_text, fail, lock, public_code, text, timeout, write_text},
    conf::{Conf, TopicConf, rd_kafka_conf_destroy},
    errors::c_string,
    event::Event,
    queue::QueueState,
    topic::Topic,
};
use core::ffi::{c_char, c_int, c_void};
use ottla::{ErrCode, Handle, KafkaError, Role};
use std::{
    collections::HashMap,
    ffi::CString,
    ptr,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// `rd_kafka_t`. The application's pointer is a share of an `Arc`; topics and queues that it holds are others.
pub struct Instance {
    /// Producer or consumer.
    pub role: Role,
    /// What it was made with.
    pub conf: Box<Conf>,
    name: OnceLock<CString>,
    /// Log lines from before the handle had its name.
    early_lines: Mutex<Vec<ottla::LogLine>>,
    opened: OnceLock<Opened>,
    /// Taken while opening.
    opening: Mutex<()>,
    /// By name, for as long as the handle lives.
    pub topics: Mutex<HashMap<String, Arc<Topic>>>,
    /// The topic that was produced to by name last.
    pub last_topic: AtomicPtr<Topic>,
    /// What this handle's partition queues and own queues hold back.
    pub(crate) queues: Mutex<Vec<Arc<QueueState>>>,
    background: Mutex<Option<JoinHandle<()>>>,
    ending: AtomicBool,
    /// After `rd_kafka_poll_set_consumer`.
    pub(crate) polls_as_consumer: AtomicBool,
    /// Node id of the broker; `u64::MAX` while it isn't known.
    pub(crate) broker_id: AtomicU64,
}

/// What there is once the address is known.
struct Opened {
    handle: Handle,
    main: Arc<QueueState>,
    consumer: Arc<QueueState>,
    background: Arc<QueueState>,
}

// SAFETY: the raw pointers inside lead to what the instance itself owns.
unsafe impl Send for Instance {}
// SAFETY: as above; what changes is behind locks.
unsafe impl Sync for Instance {}

/// Handles that are not gone.
static LIVING: Mutex<usize> = Mutex::new(0);
static GONE: Condvar = Condvar::new();

impl Drop for Instance {
    fn drop(&mut self) {
        // The handle's threads may call the application's functions until this is done.
        lock(&self.queues).clear();
        drop(self.opened.take());
        *lock(&LIVING) -= 1;
        GONE.notify_all();
    }
}

impl Instance {
    /// Ottla's handle. Without `bootstrap.servers` there is none until `rd_kafka_brokers_add`.
    #[inline]
    pub fn handle(&self) -> Result<&Handle, KafkaError> {
        match self.opened.get() {
            Some(opened) => Ok(&opened.handle),
            None => Err(not_open()),
        }
    }

    pub(crate) fn main_queue(&self) -> Option<&Arc<QueueState>> {
        self.opened.get().map(|opened| &opened.main)
    }

    pub(crate) fn consumer_queue(&self) -> Option<&Arc<QueueState>> {
        self.opened.get().map(|opened| &opened.consumer)
    }

    pub(crate) fn background_queue(&self) -> Option<&Arc<QueueState>> {
        self.opened.get().map(|opened| &opened.background)
    }

    /// The pointer that the application's functions get.
    pub fn as_ptr(&self) -> *mut Instance {
        ptr::from_ref(self).cast_mut()
    }

    /// The name, for log lines that come before the handle is open, too.
    pub fn name(&self) -> &CString {
        static NAMELESS: OnceLock<CString> = OnceLock::new();
        self.name
            .get()
            .unwrap_or_else(|| NAMELESS.get_or_init(|| c"rdkafka".to_owned()))
    }

    /// The topic configuration of topics without one.
    pub fn default_topic_conf(&self) -> TopicConf {
        TopicConf {
            config: self.conf.config.topic().clone(),
            opaque: ptr::with_exposed_provenance_mut(self.conf.topic_opaque),
            partitioner: self.conf.topic_partitioner,
        }
    }

    /// Opens the broker.
    fn open(self: &Arc<Self>, servers: Option<&str>) -> Result<(), KafkaError> {
        let _opening = lock(&self.opening);
        if self.opened.get().is_some() {
            let message = "the handle has its broker already";
            return Err(KafkaError::new(ErrCode::STATE, message));
        }
        let mut config = self.conf.config.clone();
        if let Some(servers) = servers {
            config.set("bootstrap.servers", servers)?;
        }
        let callbacks = self.conf.callbacks;
        let wants = |event| callbacks.events & event != 0;
        config.set_delivery_reports(
            callbacks.delivery.is_some()
                || callbacks.delivery_message.is_some()
                || wants(Event::DELIVERY),
        );
        config.set_rebalance_events(callbacks.rebalance.is_some() || wants(Event::REBALANCE));
        config.set_offset_commit_events(
            callbacks.offset_commit.is_some() || wants(Event::OFFSET_COMMIT),
        );
        config.set_throttle_events(callbacks.throttle.is_some());
        let address = self.as_ptr().expose_provenance();
        config.set_logger(callbacks.log.map(|_| {
            let logger = move |line: &ottla::LogLine| {
                // SAFETY: the handle, which calls this, ends before the instance that owns it.
                let instance = unsafe { &*ptr::with_exposed_provenance::<Instance>(address) };
                if instance.name.get().is_some() {
                    instance.log(line);
                } else {
                    lock(&instance.early_lines).push(line.clone());
                }
            };
            Arc::new(logger) as ottla::config::Logger
        }));
        let handle = Handle::new(self.role, config);
        if let Ok(handle) = &handle {
            let _ = self.name.set(c_string(handle.name()));
        }
        let early = std::mem::take(&mut *lock(&self.early_lines));
        early.iter().for_each(|line| self.log(line));
        let handle = handle?;
        let queue = |queue| Arc::new(QueueState::new(queue));
        let opened = Opened {
            main: queue(handle.main_queue()),
            consumer: queue(handle.consumer_queue()),
            background: queue(handle.new_queue()),
            handle,
        };
        let _ = self.opened.set(opened);
        if callbacks.background_event.is_some() {
            self.start_background();
        }
        Ok(())
    }

    /// Starts the thread that serves the background queue.
    fn start_background(self: &Arc<Self>) {
        let address = self.as_ptr().expose_provenance();
        let thread = std::thread::Builder::new()
            .name("ottla-events".into())
            .spawn(move || {
                // SAFETY: `rd_kafka_destroy` waits for this thread before it gives its share up.
                let instance = unsafe { &*ptr::with_exposed_provenance::<Instance>(address) };
                instance.serve_background();
            });
        *lock(&self.background) = thread.ok();
    }

    fn serve_background(&self) {
        let (Some(queue), Some(callback)) = (
            self.background_queue(),
            self.conf.callbacks.background_event,
        ) else {
            return;
        };
        while !self.ending.load(Relaxed) {
            let event = queue.poll_event(self, Duration::from_secs(1));
            if !event.is_null() {
                // SAFETY: the application's function, called as its type says.
                unsafe { callback(self.as_ptr(), event, self.conf.callbacks.opaque) };
            }
        }
    }
}

fn not_open() -> KafkaError {
    KafkaError::new(
        ErrCode::ALL_BROKERS_DOWN,
        "No bootstrap.servers are configured: set them, or call rd_kafka_brokers_add",
    )
}

/// Makes a producer (`RD_KAFKA_PRODUCER`) or a consumer. On success the configuration is the library's; on failure it gives null,
/// the reason is in `errstr` and `rd_kafka_last_error`, and the configuration stays the application's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_new(
    r#type: c_int,
    conf: *mut Conf,
    errstr: *mut c_char,
    errstr_size: usize,
) -> *mut Instance {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a configuration, which is given up on success; the buffer has the size that the caller names.
        unsafe {
            let role = match r#type {
                0 => Role::Producer,
                1 => Role::Consumer,
                _ => {
                    write_text("Neither producer nor consumer", errstr, errstr_size);
                    fail(RespErr::INVALID_ARG);
                    return ptr::null_mut();
                }
            };
            let own = conf.as_ref().map(Conf::settled).unwrap_or_default();
            let text = |name| own.config.get(name).unwrap_or_default();
            let has_address =
                !text("bootstrap.servers").is_empty() || text("test.mock.num.brokers") != "0";
            *lock(&LIVING) += 1;
            let instance = Arc::new(Instance {
                role,
                conf: Box::new(own),
                name: OnceLock::new(),
                early_lines: Mutex::default(),
                opened: OnceLock::new(),
                opening: Mutex::new(()),
                topics: Mutex::default(),
                last_topic: AtomicPtr::new(ptr::null_mut()),
                queues: Mutex::default(),
                background: Mutex::default(),
                ending: AtomicBool::new(false),
                polls_as_consumer: AtomicBool::new(false),
                broker_id: AtomicU64::new(u64::MAX),
            });
            if has_address && let Err(error) = instance.open(None) {
                write_text(&error.message, errstr, errstr_size);
                fail(public_code(&error));
                return ptr::null_mut();
            }
            rd_kafka_conf_destroy(conf);
            Arc::into_raw(instance).cast_mut()
        }
    })
}

/// Ends a handle: a consumer leaves its group first (`rd_kafka_consumer_close`), a producer drops what was not delivered: flush
/// before. Topics and queues should have been given back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_destroy(rk: *mut Instance) {
    // SAFETY: passed on.
    unsafe { rd_kafka_destroy_flags(rk, 0) }
}

/// As `rd_kafka_destroy`; with `RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE` a consumer doesn't leave its group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_destroy_flags(rk: *mut Instance, flags: c_int) {
    const NO_CONSUMER_CLOSE: c_int = 8;
    guard!((), {
        if rk.is_null() {
            return;
        }
        // SAFETY: the caller gives its share up.
        let instance = unsafe { Arc::from_raw(rk.cast_const()) };
        if instance.role == Role::Consumer && flags & NO_CONSUMER_CLOSE == 0 {
            instance.close_consumer(Duration::from_secs(30));
        }
        instance.ending.store(true, Relaxed);
        if let Some(queue) = instance.background_queue() {
            queue.queue.wake();
        }
        let background = lock(&instance.background).take();
        if let Some(thread) = background
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    })
}

/// Adds addresses (`bootstrap.servers`) to a handle that has none yet. Returns how many were taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_brokers_add(
    rk: *mut Instance,
    brokerlist: *const c_char,
) -> c_int {
    guard!(0, {
        // SAFETY: null or a handle, which the caller holds meanwhile; null or a C string.
        unsafe {
            let Some(servers) = text(brokerlist).filter(|list| !list.trim().is_empty()) else {
                return 0;
            };
            if rk.is_null() {
                return 0;
            }
            Arc::increment_strong_count(rk.cast_const());
            let instance = Arc::from_raw(rk.cast_const());
            let count = servers.split(',').filter(|s| !s.trim().is_empty()).count() as c_int;
            if instance.conf.config.get("bootstrap.servers").as_deref() == Ok(servers) {
                return count;
            }
            match instance.open(Some(servers)) {
                Ok(()) => count,
                Err(error) => {
                    fail(public_code(&error));
                    let message = format!("{servers}: {}", error.message);
                    instance.log(&ottla::LogLine {
                        level: 3,
                        facility: "BROKERADD",
                        message,
                        context: "",
                    });
                    0
                }
            }
        }
    })
}

/// The handle's name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_name(rk: *const Instance) -> *const c_char {
    // SAFETY: null or a handle of this library.
    unsafe { rk.as_ref() }.map_or(ptr::null(), |instance| instance.name().as_ptr())
}

/// `RD_KAFKA_PRODUCER` or `RD_KAFKA_CONSUMER`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_type(rk: *const Instance) -> c_int {
    // SAFETY: null or a handle of this library.
    unsafe { rk.as_ref() }.map_or(0, |instance| c_int::from(instance.role == Role::Consumer))
}

/// What `rd_kafka_conf_set_opaque` was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_opaque(rk: *const Instance) -> *mut c_void {
    // SAFETY: null or a handle of this library.
    unsafe { rk.as_ref() }.map_or(ptr::null_mut(), |instance| instance.conf.callbacks.opaque)
}

/// The configuration that the handle was made with; it is the handle's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf(rk: *mut Instance) -> *const Conf {
    // SAFETY: null or a handle of this library.
    unsafe { rk.as_ref() }.map_or(ptr::null(), |instance| ptr::from_ref(&*instance.conf))
}

/// A copy of the handle's default topic configuration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_default_topic_conf_dup(rk: *mut Instance) -> *mut TopicConf {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a handle of this library.
        unsafe { rk.as_ref() }.map_or(ptr::null_mut(), |instance| {
            Box::into_raw(Box::new(instance.default_topic_conf()))
        })
    })
}

/// The member id in the group, to be freed with `rd_kafka_mem_free`; null outside of a group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_memberid(rk: *const Instance) -> *mut c_char {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a handle of this library.
        let handle = unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok());
        let id = handle.map(|handle| handle.member_id()).unwrap_or_default();
        if id.is_empty() {
            ptr::null_mut()
        } else {
            allocate_text(&id)
        }
    })
}

/// The cluster's id, to be freed with `rd_kafka_mem_free`; null if no broker told it in time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_clusterid(rk: *mut Instance, timeout_ms: c_int) -> *mut c_char {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a handle of this library.
        let handle = unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok());
        handle
            .and_then(|handle| handle.cluster_id(timeout(timeout_ms)).ok())
            .map_or(ptr::null_mut(), |id| allocate_text(&id))
    })
}

/// The controller's node id; -1 if no broker told it in time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_controllerid(rk: *mut Instance, timeout_ms: c_int) -> i32 {
    guard!(-1, {
        // SAFETY: null or a handle of this library.
        let handle = unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok());
        handle
            .and_then(|handle| handle.controller_id(timeout(timeout_ms)).ok())
            .unwrap_or(-1)
    })
}

/// Frees memory that the library gave. `rk` may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_mem_free(_rk: *mut Instance, ptr: *mut c_void) {
    // SAFETY: what the library gives away is libc's.
    unsafe { libc::free(ptr) }
}

/// `malloc`, of the same C library as the library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_mem_malloc(_rk: *mut Instance, size: usize) -> *mut c_void {
    // SAFETY: no conditions.
    unsafe { libc::malloc(size) }
}

/// `calloc`, of the same C library as the library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_mem_calloc(
    _rk: *mut Instance,
    num: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: no conditions.
    unsafe { libc::calloc(num, size) }
}

/// Messages on their way, delivery reports and other events that were not taken yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_outq_len(rk: *mut Instance) -> c_int {
    guard!(0, {
        // SAFETY: null or a handle of this library.
        let handle = unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok());
        handle.map_or(0, |handle| {
            c_int::try_from(handle.outq_len()).unwrap_or(c_int::MAX)
        })
    })
}

/// Threads that the library runs in this process.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_thread_cnt() -> c_int {
    c_int::try_from(*lock(&LIVING) * 2).unwrap_or(c_int::MAX)
}

/// Waits until all handles are gone: 0, or -1 if that takes too long.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_wait_destroyed(timeout_ms: c_int) -> c_int {
    guard!(-1, {
        let until = Instant::now().checked_add(timeout(timeout_ms));
        let mut living = lock(&LIVING);
        while *living > 0 {
            let left = until.map_or(Duration::from_secs(3600), |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return -1;
            }
            living = GONE
                .wait_timeout(living, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        0
    })
}

/// The version of librdkafka whose API this is: 0x020f00ff is 2.15.0.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_version() -> c_int {
    0x020f_00ff
}

/// `2.15.0-ottla-` and Ottla's own version.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_version_str() -> *const c_char {
    concat!("2.15.0-ottla-", env!("CARGO_PKG_VERSION"), "\0")
        .as_ptr()
        .cast()
}
