//! Committed offsets of consumer groups: listing, altering, deleting.

use super::{
    Answer, Listed, OwnedList, answer, arguments, begin, give_listed, groups::GroupResult,
    has_duplicates, invalid, options::AdminOptions, result_of,
};
use crate::{
    abi::TopicPartitionList,
    border::text,
    errors::{c_string, new_error},
    event::Event,
    instance::Instance,
    queue::QueueHandle,
    topic_partition_list::to_partitions,
};
use core::ffi::c_char;
use ottla::{ErrCode, KafkaError, TopicPartition};
use std::ptr;

/// `rd_kafka_ListConsumerGroupOffsets_t`.
pub struct ListConsumerGroupOffsets(GroupPartitions);
/// `rd_kafka_AlterConsumerGroupOffsets_t`.
pub struct AlterConsumerGroupOffsets(GroupPartitions);
/// `rd_kafka_DeleteConsumerGroupOffsets_t`.
pub struct DeleteConsumerGroupOffsets(GroupPartitions);

/// A group and some of its partitions; `None` is all.
#[derive(Clone)]
struct GroupPartitions {
    group: String,
    partitions: Option<Vec<TopicPartition>>,
}

/// Events of `rd_kafka_ListConsumerGroupOffsets`.
pub type ListConsumerGroupOffsetsResult = Event;
/// Events of `rd_kafka_AlterConsumerGroupOffsets`.
pub type AlterConsumerGroupOffsetsResult = Event;
/// Events of `rd_kafka_DeleteConsumerGroupOffsets`.
pub type DeleteConsumerGroupOffsetsResult = Event;

/// A group with partitions; null for a null name.
unsafe fn group_partitions(
    group: *const c_char,
    partitions: *const TopicPartitionList,
) -> Option<GroupPartitions> {
    // SAFETY: null or a C string; null or a list that nobody changes meanwhile.
    unsafe {
        Some(GroupPartitions {
            group: text(group)?.to_owned(),
            partitions: (!partitions.is_null()).then(|| to_partitions(partitions)),
        })
    }
}

fn has_duplicate_partitions(partitions: &[TopicPartition]) -> bool {
    has_duplicates(partitions.iter().map(|p| (&p.topic, p.partition)))
}

/// The only group that one call may be about.
fn the_only(
    groups: &[GroupPartitions],
    otherwise: &'static str,
) -> Result<GroupPartitions, KafkaError> {
    match groups {
        [one] => Ok(one.clone()),
        _ => Err(invalid(otherwise)),
    }
}

/// What was asked for a group's partitions: an error of the group is the group's, not the call's, unless time was over.
fn of_group(
    group: &str,
    result: Result<Vec<TopicPartition>, KafkaError>,
) -> Result<Answer, KafkaError> {
    let result = match result {
        Err(error) if error.code == ErrCode::TIMED_OUT => return Err(error),
        Err(error) => GroupResult {
            group: c_string(group),
            error: Some(new_error(error)),
            partitions: OwnedList::none(),
        },
        Ok(partitions) => GroupResult {
            group: c_string(group),
            error: None,
            partitions: OwnedList::new(&partitions),
        },
    };
    Ok(Answer::Groups(Listed::new(vec![result])))
}

/// Whose committed offsets to list: those of these partitions, or all (null). Null for a null name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListConsumerGroupOffsets_new(
    group_id: *const c_char,
    partitions: *const TopicPartitionList,
) -> *mut ListConsumerGroupOffsets {
    guard!(ptr::null_mut(), {
        // SAFETY: passed on.
        unsafe { group_partitions(group_id, partitions) }.map_or(ptr::null_mut(), |of| {
            Box::into_raw(Box::new(ListConsumerGroupOffsets(of)))
        })
    })
}

/// Frees what `rd_kafka_ListConsumerGroupOffsets_new` made; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListConsumerGroupOffsets_destroy(
    object: *mut ListConsumerGroupOffsets,
) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListConsumerGroupOffsets_destroy_array(
    objects: *mut *mut ListConsumerGroupOffsets,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// Lists a group's committed offsets; exactly one group may be passed. An `RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT` comes
/// into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListConsumerGroupOffsets(
    rk: *mut Instance,
    list_grpoffsets: *mut *mut ListConsumerGroupOffsets,
    list_grpoffsets_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let groups = arguments(list_grpoffsets, list_grpoffsets_cnt);
            let groups: Vec<_> = groups.into_iter().map(|group| group.0.clone()).collect();
            let kind = Event::LIST_CONSUMER_GROUP_OFFSETS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                let of = the_only(
                    &groups,
                    "Exactly one ListConsumerGroupOffsets must be passed",
                )?;
                let partitions = of.partitions.as_deref();
                if partitions.is_some_and(<[_]>::is_empty) {
                    return Err(invalid(
                        "NULL or non-empty topic partition list must be passed",
                    ));
                }
                if partitions.is_some_and(has_duplicate_partitions) {
                    return Err(invalid("Duplicate partitions not allowed"));
                }
                of_group(
                    &of.group,
                    admin.list_group_offsets(&of.group, partitions, timeout),
                )
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_ListConsumerGroupOffsets_result(
    rkev: *mut Event,
) -> *const ListConsumerGroupOffsetsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::LIST_CONSUMER_GROUP_OFFSETS_RESULT) }
}

/// The group with its partitions: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListConsumerGroupOffsets_result_groups(
    result: *const ListConsumerGroupOffsetsResult,
    cntp: *mut usize,
) -> *mut *const GroupResult {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::LIST_CONSUMER_GROUP_OFFSETS_RESULT) {
            Some(Answer::Groups(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// A group's offsets to set. Null for a null name or list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AlterConsumerGroupOffsets_new(
    group_id: *const c_char,
    partitions: *const TopicPartitionList,
) -> *mut AlterConsumerGroupOffsets {
    guard!(ptr::null_mut(), {
        // SAFETY: passed on.
        let of = unsafe { group_partitions(group_id, partitions) };
        of.filter(|of| of.partitions.is_some())
            .map_or(ptr::null_mut(), |of| {
                Box::into_raw(Box::new(AlterConsumerGroupOffsets(of)))
            })
    })
}

/// Frees what `rd_kafka_AlterConsumerGroupOffsets_new` made; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AlterConsumerGroupOffsets_destroy(
    object: *mut AlterConsumerGroupOffsets,
) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AlterConsumerGroupOffsets_destroy_array(
    objects: *mut *mut AlterConsumerGroupOffsets,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// Sets the committed offsets of a group that has no members; exactly one group may be passed. An
/// `RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AlterConsumerGroupOffsets(
    rk: *mut Instance,
    alter_grpoffsets: *mut *mut AlterConsumerGroupOffsets,
    alter_grpoffsets_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let groups = arguments(alter_grpoffsets, alter_grpoffsets_cnt);
            let groups: Vec<_> = groups.into_iter().map(|group| group.0.clone()).collect();
            let kind = Event::ALTER_CONSUMER_GROUP_OFFSETS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                let of = the_only(
                    &groups,
                    "Exactly one AlterConsumerGroupOffsets must be passed",
                )?;
                let offsets = of.partitions.as_deref().unwrap_or_default();
                if offsets.is_empty() {
                    return Err(invalid("Non-empty topic partition list must be present"));
                }
                if offsets.iter().any(|partition| partition.offset < 0) {
                    return Err(invalid("All topic-partition offsets must be >= 0"));
                }
                if has_duplicate_partitions(offsets) {
                    return Err(invalid("Duplicate partitions not allowed"));
                }
                of_group(
                    &of.group,
                    admin.alter_group_offsets(&of.group, offsets, timeout),
                )
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_AlterConsumerGroupOffsets_result(
    rkev: *mut Event,
) -> *const AlterConsumerGroupOffsetsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::ALTER_CONSUMER_GROUP_OFFSETS_RESULT) }
}

/// The group with its partitions: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AlterConsumerGroupOffsets_result_groups(
    result: *const AlterConsumerGroupOffsetsResult,
    cntp: *mut usize,
) -> *mut *const GroupResult {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::ALTER_CONSUMER_GROUP_OFFSETS_RESULT) {
            Some(Answer::Groups(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// A group's offsets to forget. Null for a null name or list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteConsumerGroupOffsets_new(
    group: *const c_char,
    partitions: *const TopicPartitionList,
) -> *mut DeleteConsumerGroupOffsets {
    guard!(ptr::null_mut(), {
        // SAFETY: passed on.
        let of = unsafe { group_partitions(group, partitions) };
        of.filter(|of| of.partitions.is_some())
            .map_or(ptr::null_mut(), |of| {
                Box::into_raw(Box::new(DeleteConsumerGroupOffsets(of)))
            })
    })
}

/// Frees what `rd_kafka_DeleteConsumerGroupOffsets_new` made; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteConsumerGroupOffsets_destroy(
    object: *mut DeleteConsumerGroupOffsets,
) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteConsumerGroupOffsets_destroy_array(
    objects: *mut *mut DeleteConsumerGroupOffsets,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// Forgets committed offsets of a group; exactly one group may be passed. An `RD_KAFKA_EVENT_DELETECONSUMERGROUPOFFSETS_RESULT`
/// comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteConsumerGroupOffsets(
    rk: *mut Instance,
    del_grpoffsets: *mut *mut DeleteConsumerGroupOffsets,
    del_grpoffsets_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let groups = arguments(del_grpoffsets, del_grpoffsets_cnt);
            let groups: Vec<_> = groups.into_iter().map(|group| group.0.clone()).collect();
            let kind = Event::DELETE_CONSUMER_GROUP_OFFSETS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                let otherwise = "Exactly one DeleteConsumerGroupOffsets must be passed";
                let of = the_only(&groups, otherwise)?;
                let partitions = of.partitions.as_deref().unwrap_or_default();
                of_group(
                    &of.group,
                    admin.delete_group_offsets(&of.group, partitions, timeout),
                )
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_DeleteConsumerGroupOffsets_result(
    rkev: *mut Event,
) -> *const DeleteConsumerGroupOffsetsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::DELETE_CONSUMER_GROUP_OFFSETS_RESULT) }
}

/// The group with its partitions: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteConsumerGroupOffsets_result_groups(
    result: *const DeleteConsumerGroupOffsetsResult,
    cntp: *mut usize,
) -> *mut *const GroupResult {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::DELETE_CONSUMER_GROUP_OFFSETS_RESULT) {
            Some(Answer::Groups(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}
