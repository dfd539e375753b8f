//! Administration: topics, groups, offsets, configurations.
//!
//! A call begins the work and returns; a thread asks [`ottla::Admin`], and what comes of it is an event of the queue that the
//! caller named.

pub mod cluster;
pub mod configs;
pub mod elections;
pub mod group_offsets;
pub mod groups;
pub mod options;
pub mod topics;

use crate::{
    abi::{RespErr, TopicPartitionList},
    event::Event,
    instance::Instance,
    queue::QueueHandle,
    topic_partition_list::{from_partitions, rd_kafka_topic_partition_list_destroy},
};
use core::ffi::c_int;
use options::AdminOptions;
use ottla::{Admin, ErrCode, KafkaError};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::Arc,
    time::Duration,
};

/// What an operation answers, in the objects that the application gets pointers to.
pub(crate) enum Answer {
    Topics(Listed<topics::TopicResult>),
    Records(OwnedList),
    Groups(Listed<groups::GroupResult>),
    GroupListings(Listed<groups::GroupListing>),
    GroupDescriptions(Listed<groups::GroupDescription>),
    Configs(Listed<configs::ConfigResource>),
    TopicDescriptions(Listed<cluster::TopicDescription>),
    Cluster(cluster::ClusterDescription),
    Offsets(Listed<cluster::ListedOffset>),
    Elections(Listed<elections::TopicPartitionResult>),
}

/// What goes through the queue.
pub(crate) struct Outcome {
    pub kind: c_int,
    pub opaque: usize,
    pub result: Result<Answer, KafkaError>,
}

// SAFETY: the pointers inside lead to what the outcome itself owns.
unsafe impl Send for Outcome {}

/// Objects that the application sees as an array of pointers.
pub(crate) struct Listed<T> {
    items: Vec<T>,
    pointers: Vec<*const T>,
}

impl<T> Listed<T> {
    pub fn new(items: Vec<T>) -> Self {
        Self {
            pointers: items.iter().map(ptr::from_ref).collect(),
            items,
        }
    }

    pub fn get(&self, index: usize) -> *const T {
        self.items.get(index).map_or(ptr::null(), ptr::from_ref)
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The array; null if it is empty.
    ///
    /// # Safety
    /// `cntp` is null or the caller's to be written.
    pub unsafe fn give(&self, cntp: *mut usize) -> *mut *const T {
        // SAFETY: the caller's promise.
        if let Some(count) = unsafe { cntp.as_mut() } {
            *count = self.items.len();
        }
        if self.items.is_empty() {
            ptr::null_mut()
        } else {
            self.pointers.as_ptr().cast_mut()
        }
    }
}

/// The array that a result has, or null where the result is another's.
///
/// # Safety
/// `cntp` is null or the caller's to be written.
pub(crate) unsafe fn give_listed<T>(listed: Option<&Listed<T>>, cntp: *mut usize) -> *mut *const T {
    // SAFETY: the caller's promise.
    unsafe {
        match (listed, cntp.as_mut()) {
            (Some(listed), _) => listed.give(cntp),
            (None, Some(count)) => {
                *count = 0;
                ptr::null_mut()
            }
            (None, None) => ptr::null_mut(),
        }
    }
}

/// A list of partitions that goes with its owner; null if there is none.
pub(crate) struct OwnedList(*mut TopicPartitionList);

impl OwnedList {
    pub fn none() -> Self {
        Self(ptr::null_mut())
    }

    pub fn new(partitions: &[ottla::TopicPartition]) -> Self {
        Self(from_partitions(partitions))
    }

    pub fn as_ptr(&self) -> *const TopicPartitionList {
        self.0
    }
}

impl Drop for OwnedList {
    fn drop(&mut self) {
        // SAFETY: null, or a list that is the owner's.
        unsafe { rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

/// Kafka's bits of `AclOperation` numbers as an array; `None` if nobody asked for them.
pub(crate) fn operations(bits: i32) -> Option<Vec<c_int>> {
    /// `RD_KAFKA_ACL_OPERATION__CNT`
    const COUNT: c_int = 13;
    (bits != i32::MIN).then(|| (0..COUNT).filter(|op| bits & 1 << op != 0).collect())
}

/// The array of operations.
///
/// # Safety
/// `cntp` is null or the caller's to be written.
pub(crate) unsafe fn give_operations(
    operations: Option<&Vec<c_int>>,
    cntp: *mut usize,
) -> *const c_int {
    // SAFETY: the caller's promise.
    if let Some(count) = unsafe { cntp.as_mut() } {
        *count = operations.map_or(0, Vec::len);
    }
    operations.map_or(ptr::null(), |operations| operations.as_ptr())
}

/// An argument that the application got wrong.
pub(crate) fn invalid(why: &'static str) -> KafkaError {
    KafkaError::new(ErrCode::INVALID_ARG, why)
}

/// Whether two of these are the same.
pub(crate) fn has_duplicates<T: Ord>(items: impl IntoIterator<Item = T>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    !items.into_iter().all(|item| seen.insert(item))
}

/// The elements of an array of pointers that the application made; null ones are left out.
///
/// # Safety
/// Null, or `count` pointers that are null or objects of this library.
pub(crate) unsafe fn arguments<'a, T>(array: *mut *mut T, count: usize) -> Vec<&'a T> {
    if array.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe {
        std::slice::from_raw_parts(array.cast_const(), count)
            .iter()
            .filter_map(|item| item.as_ref())
            .collect()
    }
}

/// Frees each object of an array that the application made; the array stays its own.
///
/// # Safety
/// Null, or `count` pointers that are null or objects that `new` of this type made and the caller gives up.
pub(crate) unsafe fn destroy_all<T>(array: *mut *mut T, count: usize) {
    if array.is_null() {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        for at in 0..count {
            destroy(*array.add(at));
        }
    }
}

/// Frees an object; null is allowed.
///
/// # Safety
/// Null or an object of this library that the caller gives up.
pub(crate) unsafe fn destroy<T>(object: *mut T) {
    if !object.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(object) });
    }
}

/// Begins an operation: `work` runs in a thread of its own, and its outcome becomes an event of this kind.
///
/// # Safety
/// Null or objects of this library.
pub(crate) unsafe fn begin(
    rk: *mut Instance,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
    kind: c_int,
    work: impl FnOnce(&Admin, Duration, &AdminOptions) -> Result<Answer, KafkaError> + Send + 'static,
) {
    // SAFETY: the caller's promise; the instance gets a share, which the thread gives back.
    let (instance, queue, options) = unsafe {
        let (Some(_), Some(queue)) = (rk.as_ref(), rkqu.as_ref()) else {
            crate::border::fail(RespErr::INVALID_ARG);
            return;
        };
        Arc::increment_strong_count(rk.cast_const());
        let options = options.as_ref().cloned().unwrap_or_default();
        (
            Arc::from_raw(rk.cast_const()),
            queue.state().queue.clone(),
            options,
        )
    };
    let opaque = options.opaque;
    let outcome = move |result| {
        Box::new(Outcome {
            kind,
            opaque,
            result,
        })
    };
    let for_thread = queue.clone();
    let job = move || {
        let ask = || {
            let handle = instance.handle()?;
            let admin = Admin::of(handle).with_options(options.for_admin());
            work(&admin, options.request_timeout(&instance), &options)
        };
        let result = catch_unwind(AssertUnwindSafe(ask))
            .unwrap_or_else(|_| Err(KafkaError::from(ErrCode::FAIL)));
        for_thread.push(outcome(result));
        // The handle must not outlive the instance.
        drop(for_thread);
        drop(instance);
    };
    let thread = std::thread::Builder::new().name("ottla-admin".into());
    if let Err(error) = thread.spawn(job) {
        let error = KafkaError::new(ErrCode::CRIT_SYS_RESOURCE, error.to_string());
        queue.push(outcome(Err(error)));
    }
}

/// The answer of an event of this kind; null or another event has none.
///
/// # Safety
/// Null or an event of this library.
pub(crate) unsafe fn answer<'a>(event: *const Event, kind: c_int) -> Option<&'a Answer> {
    // SAFETY: the caller's promise.
    unsafe { event.as_ref() }.and_then(|event| event.answer(kind))
}

/// The event, if it is of this kind.
///
/// # Safety
/// Null or an event of this library.
pub(crate) unsafe fn result_of(event: *mut Event, kind: c_int) -> *const Event {
    // SAFETY: the caller's promise.
    match unsafe { crate::event::rd_kafka_event_type(event) } == kind {
        true => event,
        false => ptr::null(),
    }
}
