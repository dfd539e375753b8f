//! `rd_kafka_topic_t` and partitioners.
//!
//! A handle has one object per topic name, which lives as long as the handle: messages can point to it without counting.

use crate::{
    abi::RespErr,
    border::{fail, lock, text},
    conf::TopicConf,
    conf_callbacks::PartitionerCallback,
    errors::c_string,
    instance::Instance,
};
use core::ffi::{c_char, c_int, c_void};
use ottla::{CustomPartitioner, KafkaError, Role, TopicConfig, TopicHandle};
use std::{
    cell::Cell,
    ffi::CString,
    ptr, slice,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
    },
};

/// `rd_kafka_topic_t`.
pub struct Topic {
    /// The handle that it belongs to, and that frees it.
    pub instance: *const Instance,
    /// Its name.
    pub name: CString,
    config: TopicConfig,
    opaque: *mut c_void,
    /// Known once the handle is open.
    handle: OnceLock<TopicHandle>,
    /// How often the application holds it; each time counts for the handle, too.
    held: AtomicUsize,
}

// SAFETY: the instance outlives it, and the opaque pointer is the application's own affair.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    /// The handle.
    #[inline]
    pub fn instance(&self) -> &Instance {
        // SAFETY: see `Topic::instance`.
        unsafe { &*self.instance }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// What producing takes.
    #[inline]
    pub fn handle(&self) -> Result<TopicHandle, KafkaError> {
        match self.handle.get() {
            Some(handle) => Ok(*handle),
            None => self.intern(),
        }
    }

    /// `consume.callback.max.messages`.
    pub(crate) fn consume_callback_max(&self) -> c_int {
        let max = self.config.get("consume.callback.max.messages");
        max.ok().and_then(|max| max.parse().ok()).unwrap_or(0)
    }

    #[cold]
    fn intern(&self) -> Result<TopicHandle, KafkaError> {
        let handle = self
            .instance()
            .handle()?
            .topic_with(self.name(), &self.config)?;
        Ok(*self.handle.get_or_init(|| handle))
    }
}

/// An application's partitioner with what it is called with.
struct Partitioner {
    call: PartitionerCallback,
    opaque: *mut c_void,
    topic: AtomicPtr<Topic>,
}

// SAFETY: the opaque pointer is the application's own affair.
unsafe impl Send for Partitioner {}
// SAFETY: as above.
unsafe impl Sync for Partitioner {}

thread_local! {
    /// Whether this thread is inside a partitioner, with the producer locked.
    static PARTITIONING: Cell<bool> = const { Cell::new(false) };
}

impl CustomPartitioner for Partitioner {
    fn partition(&self, _: &str, key: Option<&[u8]>, partitions: i32, opaque: usize) -> i32 {
        let (data, len) = key.map_or((ptr::null(), 0), |key| (key.as_ptr(), key.len()));
        PARTITIONING.set(true);
        // SAFETY: the application's function, called as its type says.
        let partition = unsafe {
            (self.call)(
                self.topic.load(Relaxed),
                data.cast(),
                len,
                partitions,
                self.opaque,
                ptr::with_exposed_provenance_mut(opaque),
            )
        };
        PARTITIONING.set(false);
        partition
    }
}

impl Instance {
    /// The topic of a name, made if need be. `own` counts only then.
    pub fn topic(&self, name: &str, own: Option<&TopicConf>) -> Result<Arc<Topic>, KafkaError> {
        if let Some(topic) = lock(&self.topics).get(name) {
            return Ok(topic.clone());
        }
        let defaults = self.default_topic_conf();
        let conf = own.unwrap_or(&defaults);
        let mut config = conf.config.clone();
        let partitioner = conf.partitioner.map(|call| {
            Arc::new(Partitioner {
                call,
                opaque: conf.opaque,
                topic: AtomicPtr::new(ptr::null_mut()),
            })
        });
        if let Some(partitioner) = &partitioner {
            config.set_partitioner(Some(partitioner.clone()));
        }
        let topic = Arc::new(Topic {
            instance: self,
            name: c_string(name),
            config,
            opaque: conf.opaque,
            handle: OnceLock::new(),
            held: AtomicUsize::new(0),
        });
        if let Some(partitioner) = &partitioner {
            partitioner
                .topic
                .store(Arc::as_ptr(&topic).cast_mut(), Relaxed);
        }
        if self.role == Role::Producer && self.handle().is_ok() {
            topic.handle()?;
        }
        Ok(lock(&self.topics)
            .entry(name.to_owned())
            .or_insert(topic)
            .clone())
    }
}

/// The topic's object, to be destroyed with `rd_kafka_topic_destroy`; null on failure (`rd_kafka_last_error`). `conf` becomes
/// the library's; it counts only if the handle has no such topic yet. All objects of a name are the same one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_new(
    rk: *mut Instance,
    topic: *const c_char,
    conf: *mut TopicConf,
) -> *mut Topic {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a handle, a C string, a configuration that the caller gives up on success.
        unsafe {
            let (Some(instance), Some(name)) = (rk.as_ref(), text(topic)) else {
                fail(RespErr::INVALID_ARG);
                return ptr::null_mut();
            };
            if name.is_empty() || name.len() > 512 {
                fail(RespErr::INVALID_ARG);
                return ptr::null_mut();
            }
            match instance.topic(name, conf.as_ref()) {
                Ok(topic) => {
                    crate::conf::rd_kafka_topic_conf_destroy(conf);
                    topic.held.fetch_add(1, Relaxed);
                    Arc::increment_strong_count(rk.cast_const());
                    Arc::as_ptr(&topic).cast_mut()
                }
                Err(error) => {
                    fail(crate::border::public_code(&error));
                    ptr::null_mut()
                }
            }
        }
    })
}

/// Gives a topic's object back; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_destroy(rkt: *mut Topic) {
    guard!((), {
        // SAFETY: null or a topic of this library; the application's share of the handle is given back once per time that it got
        // one.
        unsafe {
            let Some(topic) = rkt.as_ref() else { return };
            let instance = topic.instance;
            let held = topic
                .held
                .fetch_update(Relaxed, Relaxed, |held| held.checked_sub(1));
            if held.is_ok() {
                Arc::decrement_strong_count(instance);
            }
        }
    })
}

/// The topic's name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_name(rkt: *const Topic) -> *const c_char {
    // SAFETY: null or a topic of this library.
    unsafe { rkt.as_ref() }.map_or(ptr::null(), |topic| topic.name.as_ptr())
}

/// What `rd_kafka_topic_conf_set_opaque` was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_opaque(rkt: *const Topic) -> *mut c_void {
    // SAFETY: null or a topic of this library.
    unsafe { rkt.as_ref() }.map_or(ptr::null_mut(), |topic| topic.opaque)
}

/// 1 if the partition has a leader. For partitioners; may be called inside of one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_available(
    rkt: *const Topic,
    partition: i32,
) -> c_int {
    guard!(0, {
        // SAFETY: null or a topic of this library.
        let Some(topic) = (unsafe { rkt.as_ref() }) else {
            return 0;
        };
        if PARTITIONING.get() {
            // The producer is locked. Partitioners are asked only about partitions that are there, and an embedded broker leads
            // all of its own.
            return c_int::from(partition >= 0);
        }
        topic.instance().handle().map_or(0, |handle| {
            handle
                .is_partition_available(topic.name(), partition)
                .into()
        })
    })
}

/// A random number below `count`.
fn random_partition(count: i32) -> i32 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    let mut state = STATE.get();
    if state == 0 {
        use std::hash::{BuildHasher, RandomState};
        state = RandomState::new().hash_one(0) | 1;
    }
    // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.set(state);
    ((state >> 33) % count.max(1) as u64) as i32
}

unsafe fn partition_by(name: &str, key: *const c_void, keylen: usize, count: i32) -> i32 {
    guard!(0, {
        let key = (!key.is_null())
            // SAFETY: the caller names the key's size.
            .then(|| unsafe { slice::from_raw_parts(key.cast::<u8>(), keylen) });
        ottla::config::partition_for(name, key, count).unwrap_or_else(|| random_partition(count))
    })
}

macro_rules! partitioners {
    ($($(#[$doc:meta])* $function:ident $name:literal;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function(
            _rkt: *const Topic,
            key: *const c_void,
            keylen: usize,
            partition_cnt: i32,
            _rkt_opaque: *mut c_void,
            _msg_opaque: *mut c_void,
        ) -> i32 {
            // SAFETY: the caller's promise is passed on.
            unsafe { partition_by($name, key, keylen, partition_cnt) }
        }
    )*};
}

partitioners! {
    /// Partitioner: any partition.
    rd_kafka_msg_partitioner_random "random";
    /// Partitioner: by the key's CRC-32; all messages without a key go to one partition.
    rd_kafka_msg_partitioner_consistent "consistent";
    /// Partitioner: by the key's CRC-32; any partition for messages without a key. The default.
    rd_kafka_msg_partitioner_consistent_random "consistent_random";
    /// Partitioner: by the key's Murmur2 hash, as Kafka's Java client has it; messages without a key go to one partition.
    rd_kafka_msg_partitioner_murmur2 "murmur2";
    /// Partitioner: by the key's Murmur2 hash; any partition for messages without a key.
    rd_kafka_msg_partitioner_murmur2_random "murmur2_random";
    /// Partitioner: by the key's FNV-1a hash; messages without a key go to one partition.
    rd_kafka_msg_partitioner_fnv1a "fnv1a";
    /// Partitioner: by the key's FNV-1a hash; any partition for messages without a key.
    rd_kafka_msg_partitioner_fnv1a_random "fnv1a_random";
}
