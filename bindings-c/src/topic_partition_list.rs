//! `rd_kafka_topic_partition_list_t`: an array that applications index and change in place.
//!
//! Memory that crosses the border (the array, topic names, metadata) is libc's: applications may put `malloc`ed metadata
//! into an element, and the list frees it.

use crate::abi::{OFFSET_INVALID, RespErr, TopicPartition, TopicPartitionList};
use core::ffi::{CStr, c_char, c_int, c_void};
use ottla::TopicPartition as TopicPartitionValue;
use std::{mem, ptr, slice};

/// What `_private` of an element points to.
struct Private {
    leader_epoch: i32,
}

/// The elements of a list.
///
/// # Safety
/// `list` is null or a list of this library that nobody changes while the slice lives.
pub unsafe fn elements<'a>(list: *const TopicPartitionList) -> &'a [TopicPartition] {
    if list.is_null() {
        return &[];
    }
    // SAFETY: `elems` holds `cnt` initialised elements; it is null only while `cnt` is 0.
    unsafe {
        if (*list).cnt <= 0 {
            &[]
        } else {
            slice::from_raw_parts((*list).elems, (*list).cnt as usize)
        }
    }
}

/// As [`elements`], to be changed in place.
///
/// # Safety
/// As for [`elements`]; and nobody else reads the list meanwhile.
pub unsafe fn elements_mut<'a>(list: *mut TopicPartitionList) -> &'a mut [TopicPartition] {
    if list.is_null() {
        return &mut [];
    }
    // SAFETY: see `elements`.
    unsafe {
        if (*list).cnt <= 0 {
            &mut []
        } else {
            slice::from_raw_parts_mut((*list).elems, (*list).cnt as usize)
        }
    }
}

/// The topic of an element; empty if it has none.
///
/// # Safety
/// `topic` is null or a C string.
pub unsafe fn topic_of(element: &TopicPartition) -> &str {
    if element.topic.is_null() {
        return "";
    }
    // SAFETY: the caller promises a C string.
    unsafe { CStr::from_ptr(element.topic) }
        .to_str()
        .unwrap_or("")
}

/// The leader epoch that an element carries, or -1.
pub fn leader_epoch_of(element: &TopicPartition) -> i32 {
    if element.private.is_null() {
        return -1;
    }
    // SAFETY: `_private` is ours alone: null or a `Private`.
    unsafe { (*element.private.cast::<Private>()).leader_epoch }
}

/// Sets the leader epoch of an element; -1 means none.
pub fn set_leader_epoch_of(element: &mut TopicPartition, leader_epoch: i32) {
    if !element.private.is_null() {
        // SAFETY: as in `leader_epoch_of`.
        unsafe { (*element.private.cast::<Private>()).leader_epoch = leader_epoch }
    } else if leader_epoch >= 0 {
        element.private = Box::into_raw(Box::new(Private { leader_epoch })).cast();
    }
}

/// A libc copy of a C string; aborts the process when memory is out, as the Rust allocator does.
unsafe fn duplicate(text: *const c_char) -> *mut c_char {
    // SAFETY: the caller hands a C string.
    let copy = unsafe { libc::strdup(text) };
    assert!(!copy.is_null(), "out of memory");
    copy
}

/// Frees what an element owns.
unsafe fn clear(element: &mut TopicPartition) {
    // SAFETY: topic and metadata are libc's or null, `_private` is ours or null.
    unsafe {
        libc::free(element.topic.cast());
        libc::free(element.metadata);
        if !element.private.is_null() {
            drop(Box::from_raw(element.private.cast::<Private>()));
        }
    }
}

/// Makes room for `room` elements in all.
unsafe fn reserve(list: &mut TopicPartitionList, room: c_int) {
    if room <= list.size {
        return;
    }
    // SAFETY: `elems` is null or libc's; a failed realloc is caught below.
    let elems = unsafe {
        libc::realloc(
            list.elems.cast(),
            room as usize * mem::size_of::<TopicPartition>(),
        )
    };
    assert!(!elems.is_null(), "out of memory");
    list.elems = elems.cast();
    list.size = room;
}

/// A list for the application.
pub fn from_partitions(partitions: &[TopicPartitionValue]) -> *mut TopicPartitionList {
    let list = rd_kafka_topic_partition_list_new(partitions.len() as c_int);
    for partition in partitions {
        let topic = crate::errors::c_string(&partition.topic);
        // SAFETY: a new list and a C string.
        unsafe {
            let element =
                rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition.partition);
            if let Some(element) = element.as_mut() {
                set_element(element, partition);
            }
        }
    }
    list
}

/// What an operation says about a partition becomes the element's; its opaque pointer stays.
///
/// # Safety
/// The element's metadata is null or libc memory.
pub unsafe fn set_element(element: &mut TopicPartition, from: &TopicPartitionValue) {
    element.offset = from.offset;
    element.err = from.error.into();
    set_leader_epoch_of(element, from.leader_epoch);
    // SAFETY: the metadata is libc memory, or null.
    unsafe { libc::free(element.metadata) };
    element.metadata = ptr::null_mut();
    element.metadata_size = 0;
    if let Some(metadata) = from.metadata.as_ref().filter(|text| !text.is_empty()) {
        element.metadata = crate::border::allocate_text(metadata).cast();
        element.metadata_size = metadata.len();
    }
}

/// The elements as Ottla has them.
///
/// # Safety
/// As for [`elements`].
pub unsafe fn to_partitions(list: *const TopicPartitionList) -> Vec<TopicPartitionValue> {
    // SAFETY: the caller's promise; metadata has the size that the element names.
    unsafe {
        let value = |element: &TopicPartition| {
            let metadata = (!element.metadata.is_null() && element.metadata_size > 0).then(|| {
                let bytes =
                    slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size);
                String::from_utf8_lossy(bytes).as_ref().into()
            });
            TopicPartitionValue {
                leader_epoch: leader_epoch_of(element),
                metadata,
                ..TopicPartitionValue::new(topic_of(element), element.partition, element.offset)
            }
        };
        elements(list).iter().map(value).collect()
    }
}

/// Writes results back into the elements that the question came from, in the same order.
///
/// # Safety
/// As for [`elements_mut`].
pub unsafe fn write_back(list: *mut TopicPartitionList, results: &[TopicPartitionValue]) {
    // SAFETY: the caller's promise.
    unsafe {
        for (element, result) in elements_mut(list).iter_mut().zip(results) {
            set_element(element, result);
        }
    }
}

/// A new list with room for `size` elements.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_topic_partition_list_new(size: c_int) -> *mut TopicPartitionList {
    let mut list = Box::new(TopicPartitionList {
        cnt: 0,
        size: 0,
        elems: ptr::null_mut(),
    });
    // SAFETY: the list is new and empty.
    unsafe { reserve(&mut list, size.clamp(0, 1 << 24)) };
    Box::into_raw(list)
}

/// Frees a list and what its elements own; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_destroy(list: *mut TopicPartitionList) {
    if list.is_null() {
        return;
    }
    // SAFETY: the caller gives the list up.
    unsafe {
        elements_mut(list)
            .iter_mut()
            .for_each(|element| clear(element));
        let list = Box::from_raw(list);
        libc::free(list.elems.cast());
    }
}

/// Frees an element that stands alone; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_destroy(element: *mut TopicPartition) {
    if !element.is_null() {
        // SAFETY: the caller gives the element up; one that stands alone was allocated with libc's malloc.
        unsafe {
            clear(&mut *element);
            libc::free(element.cast());
        }
    }
}

/// Appends an element with offset `RD_KAFKA_OFFSET_INVALID`; the pointer is valid until the list changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_add(
    list: *mut TopicPartitionList,
    topic: *const c_char,
    partition: i32,
) -> *mut TopicPartition {
    if list.is_null() || topic.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the caller hands a list of this library and a C string.
    unsafe {
        let list = &mut *list;
        if list.cnt == list.size {
            reserve(list, (list.size * 2).max(8));
        }
        let element = list.elems.add(list.cnt as usize);
        element.write(TopicPartition {
            topic: duplicate(topic),
            partition,
            offset: OFFSET_INVALID,
            metadata: ptr::null_mut(),
            metadata_size: 0,
            opaque: ptr::null_mut(),
            err: RespErr::NO_ERROR,
            private: ptr::null_mut(),
        });
        list.cnt += 1;
        element
    }
}

/// A copy of a list's first element that stands alone; null for an empty list.
///
/// # Safety
/// As for [`elements`].
pub unsafe fn stand_alone_copy(list: *const TopicPartitionList) -> *mut TopicPartition {
    // SAFETY: the caller's promise; the element is moved out of the copy, whose array is freed without it.
    unsafe {
        if elements(list).is_empty() {
            return ptr::null_mut();
        }
        let copy = rd_kafka_topic_partition_list_copy(list);
        let alone: *mut TopicPartition = libc::malloc(size_of::<TopicPartition>()).cast();
        if !alone.is_null() {
            ptr::copy_nonoverlapping((*copy).elems, alone, 1);
            ptr::copy(
                (*copy).elems.add(1),
                (*copy).elems,
                (*copy).cnt as usize - 1,
            );
            (*copy).cnt -= 1;
        }
        rd_kafka_topic_partition_list_destroy(copy);
        alone
    }
}

/// Appends the partitions `start` to `stop`, both included.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_add_range(
    list: *mut TopicPartitionList,
    topic: *const c_char,
    start: i32,
    stop: i32,
) {
    for partition in start..=stop {
        // SAFETY: the caller's promise is passed on.
        unsafe { rd_kafka_topic_partition_list_add(list, topic, partition) };
    }
}

/// The index of a partition in a list.
unsafe fn index_of(
    list: *const TopicPartitionList,
    topic: *const c_char,
    partition: i32,
) -> Option<usize> {
    if topic.is_null() {
        return None;
    }
    // SAFETY: the caller hands a list and a C string; element topics are C strings or null.
    unsafe {
        let topic = CStr::from_ptr(topic);
        elements(list).iter().position(|element| {
            element.partition == partition
                && !element.topic.is_null()
                && CStr::from_ptr(element.topic) == topic
        })
    }
}

/// Removes a partition; 1 if it was there, else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_del(
    list: *mut TopicPartitionList,
    topic: *const c_char,
    partition: i32,
) -> c_int {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match index_of(list, topic, partition) {
            Some(index) => rd_kafka_topic_partition_list_del_by_idx(list, index as c_int),
            None => 0,
        }
    }
}

/// Removes the element at an index; 1 if there was one, else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_del_by_idx(
    list: *mut TopicPartitionList,
    idx: c_int,
) -> c_int {
    // SAFETY: the caller hands a list that nobody else uses meanwhile.
    unsafe {
        let elements = elements_mut(list);
        if idx < 0 || idx as usize >= elements.len() {
            return 0;
        }
        clear(&mut elements[idx as usize]);
        let element = elements.as_mut_ptr().add(idx as usize);
        ptr::copy(element.add(1), element, elements.len() - idx as usize - 1);
        (*list).cnt -= 1;
    }
    1
}

/// A deep copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_copy(
    src: *const TopicPartitionList,
) -> *mut TopicPartitionList {
    // SAFETY: the caller hands a list that nobody changes meanwhile; each copied pointer is replaced by a copy of its own.
    unsafe {
        let elements = elements(src);
        let list = rd_kafka_topic_partition_list_new(elements.len() as c_int);
        for element in elements {
            let copy = rd_kafka_topic_partition_list_add(list, element.topic, element.partition);
            if copy.is_null() {
                continue;
            }
            (*copy).offset = element.offset;
            (*copy).opaque = element.opaque;
            (*copy).err = element.err;
            set_leader_epoch_of(&mut *copy, leader_epoch_of(element));
            if !element.metadata.is_null() && element.metadata_size > 0 {
                let metadata = libc::malloc(element.metadata_size);
                assert!(!metadata.is_null(), "out of memory");
                ptr::copy_nonoverlapping(
                    element.metadata.cast::<u8>(),
                    metadata.cast(),
                    element.metadata_size,
                );
                (*copy).metadata = metadata;
                (*copy).metadata_size = element.metadata_size;
            }
        }
        list
    }
}

/// Sets a partition's offset; `RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION` if the list doesn't have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_set_offset(
    list: *mut TopicPartitionList,
    topic: *const c_char,
    partition: i32,
    offset: i64,
) -> RespErr {
    // SAFETY: the caller's promise is passed on.
    match unsafe { rd_kafka_topic_partition_list_find(list, topic, partition).as_mut() } {
        Some(element) => {
            element.offset = offset;
            RespErr::NO_ERROR
        }
        None => RespErr::UNKNOWN_PARTITION,
    }
}

/// The element of a partition, or null; valid until the list changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_find(
    list: *const TopicPartitionList,
    topic: *const c_char,
    partition: i32,
) -> *mut TopicPartition {
    // SAFETY: the caller's promise is passed on; the index is below `cnt`.
    unsafe {
        index_of(list, topic, partition).map_or(ptr::null_mut(), |index| (*list).elems.add(index))
    }
}

/// How applications compare two elements.
type Compare = unsafe extern "C" fn(*const c_void, *const c_void, *mut c_void) -> c_int;

/// Sorts with `cmp`, or by topic and partition if it is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_list_sort(
    list: *mut TopicPartitionList,
    cmp: Option<Compare>,
    cmp_opaque: *mut c_void,
) {
    // SAFETY: the caller hands a list that nobody else uses meanwhile; element topics are C strings or null.
    unsafe {
        elements_mut(list).sort_by(|a, b| match cmp {
            Some(cmp) => cmp(ptr::from_ref(a).cast(), ptr::from_ref(b).cast(), cmp_opaque).cmp(&0),
            None => topic_of(a)
                .cmp(topic_of(b))
                .then(a.partition.cmp(&b.partition)),
        });
    }
}

/// Sets the leader epoch that an element carries; -1 means none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_set_leader_epoch(
    element: *mut TopicPartition,
    leader_epoch: i32,
) {
    // SAFETY: null or an element of a list of this library.
    if let Some(element) = unsafe { element.as_mut() } {
        set_leader_epoch_of(element, leader_epoch);
    }
}

/// The leader epoch that an element carries, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_get_leader_epoch(
    element: *const TopicPartition,
) -> i32 {
    // SAFETY: null or an element of a list of this library.
    unsafe { element.as_ref() }.map_or(-1, leader_epoch_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_finds_sorts_copies_and_deletes() {
        // SAFETY: lists and strings of this test, used as the C API asks.
        unsafe {
            let list = rd_kafka_topic_partition_list_new(1);
            for (topic, partition) in [(c"b", 1), (c"a", 2), (c"b", 0), (c"a", 0)] {
                (*rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition)).offset =
                    i64::from(partition);
            }
            rd_kafka_topic_partition_set_leader_epoch(
                rd_kafka_topic_partition_list_find(list, c"b".as_ptr(), 1),
                7,
            );
            rd_kafka_topic_partition_list_sort(list, None, ptr::null_mut());
            let order: Vec<_> = elements(list)
                .iter()
                .map(|e| (topic_of(e).to_owned(), e.partition))
                .collect();
            assert_eq!(
                order,
                [
                    ("a".into(), 0),
                    ("a".into(), 2),
                    ("b".into(), 0),
                    ("b".into(), 1)
                ]
            );

            let copy = rd_kafka_topic_partition_list_copy(list);
            assert_eq!(rd_kafka_topic_partition_list_del(list, c"a".as_ptr(), 2), 1);
            assert_eq!(rd_kafka_topic_partition_list_del(list, c"a".as_ptr(), 2), 0);
            assert_eq!(rd_kafka_topic_partition_list_del_by_idx(list, 9), 0);
            assert_eq!((*list).cnt, 3);
            assert_eq!((*copy).cnt, 4);
            let b1 = rd_kafka_topic_partition_list_find(copy, c"b".as_ptr(), 1);
            assert_eq!(
                ((*b1).offset, rd_kafka_topic_partition_get_leader_epoch(b1)),
                (1, 7)
            );
            assert!(rd_kafka_topic_partition_list_find(list, c"c".as_ptr(), 1).is_null());
            rd_kafka_topic_partition_list_destroy(copy);
            rd_kafka_topic_partition_list_destroy(list);
            rd_kafka_topic_partition_list_destroy(ptr::null_mut());
        }
    }
}
