//! Creating, growing and deleting topics; deleting records.

use super::{
    Answer, Listed, OwnedList, answer, arguments, begin, give_listed, has_duplicates, invalid,
    options::AdminOptions, result_of,
};
use crate::{
    abi::{RespErr, TopicPartitionList},
    border::{fail, text, write_text},
    errors::c_string,
    event::Event,
    instance::Instance,
    queue::QueueHandle,
    topic_partition_list::to_partitions,
};
use core::ffi::{c_char, c_int};
use ottla::{ErrCode, KafkaError, TopicPartition};
use std::{ffi::CString, ptr, slice};

/// `rd_kafka_NewTopic_t`.
pub struct NewTopic(ottla::NewTopic);
/// `rd_kafka_DeleteTopic_t`.
pub struct DeleteTopic(String);
/// `rd_kafka_NewPartitions_t`.
pub struct NewPartitions(ottla::NewPartitions);
/// `rd_kafka_DeleteRecords_t`.
pub struct DeleteRecords(Vec<TopicPartition>);

/// `rd_kafka_topic_result_t`: what became of one topic.
pub struct TopicResult {
    name: CString,
    error: RespErr,
    text: Option<CString>,
}

/// Events of `rd_kafka_CreateTopics`.
pub type CreateTopicsResult = Event;
/// Events of `rd_kafka_DeleteTopics`.
pub type DeleteTopicsResult = Event;
/// Events of `rd_kafka_CreatePartitions`.
pub type CreatePartitionsResult = Event;
/// Events of `rd_kafka_DeleteRecords`.
pub type DeleteRecordsResult = Event;

/// Partitions that a topic can have.
const PARTITIONS_MAX: c_int = 100_000;
/// Brokers that a partition can be on.
const BROKERS_MAX: c_int = 10_000;

fn topics(names: Vec<String>, results: Vec<Result<(), KafkaError>>) -> Answer {
    let one = |(name, result): (String, Result<(), KafkaError>)| TopicResult {
        name: c_string(&name),
        error: result
            .as_ref()
            .map_or_else(|e| e.code.into(), |()| RespErr::NO_ERROR),
        text: result.err().map(|error| c_string(&error.message)),
    };
    Answer::Topics(Listed::new(
        names.into_iter().zip(results).map(one).collect(),
    ))
}

/// The brokers of the partition that comes next in `assignments`.
///
/// # Safety
/// `broker_ids` is null or has as many numbers as the caller says.
unsafe fn next_assignment(
    assignments: &mut Vec<Vec<i32>>,
    partition: (&str, i32),
    broker_ids: *mut i32,
    broker_id_cnt: usize,
) -> Result<(), String> {
    if partition.1 as usize != assignments.len() {
        return Err(format!(
            "Partitions must be added in order, starting at 0: expecting {} {}, not {}",
            partition.0,
            assignments.len(),
            partition.1
        ));
    }
    if broker_id_cnt > BROKERS_MAX as usize {
        return Err(format!(
            "Too many brokers specified (RD_KAFKAP_BROKERS_MAX={BROKERS_MAX})"
        ));
    }
    assignments.push(match broker_ids.is_null() {
        true => Vec::new(),
        // SAFETY: the caller's promise.
        false => unsafe { slice::from_raw_parts(broker_ids, broker_id_cnt) }.to_vec(),
    });
    Ok(())
}

/// The result for the application: nothing, or `RD_KAFKA_RESP_ERR__INVALID_ARG` with the text.
unsafe fn told(result: Result<(), String>, errstr: *mut c_char, errstr_size: usize) -> RespErr {
    match result {
        Ok(()) => RespErr::NO_ERROR,
        Err(why) => {
            // SAFETY: the buffer has the size that the caller names.
            unsafe { write_text(&why, errstr, errstr_size) };
            RespErr::INVALID_ARG
        }
    }
}

/// A topic to create: 1 to 100,000 partitions or -1 for the broker's default, replicas likewise. Null, with the reason in `errstr`,
/// if that can't be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewTopic_new(
    topic: *const c_char,
    num_partitions: c_int,
    replication_factor: c_int,
    errstr: *mut c_char,
    errstr_size: usize,
) -> *mut NewTopic {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a C string; a buffer of the size that the caller names.
        unsafe {
            let refused = |why: &str| {
                write_text(why, errstr, errstr_size);
                fail(RespErr::INVALID_ARG);
                ptr::null_mut()
            };
            let Some(name) = text(topic) else {
                return refused("Invalid topic name");
            };
            if num_partitions != -1 && !(1..=PARTITIONS_MAX).contains(&num_partitions) {
                let range = format!("1..{PARTITIONS_MAX} or -1 for broker default");
                return refused(&format!("num_partitions out of expected range {range}"));
            }
            if !(-1..=BROKERS_MAX).contains(&replication_factor) {
                let range = format!("-1..{BROKERS_MAX}");
                return refused(&format!("replication_factor out of expected range {range}"));
            }
            Box::into_raw(Box::new(NewTopic(ottla::NewTopic {
                name: name.to_owned(),
                num_partitions,
                replication_factor: replication_factor as i16,
                config: Vec::new(),
                replica_assignments: Vec::new(),
            })))
        }
    })
}

/// Says which brokers have the topic's next partition, the preferred leader first. The topic must have a replication factor of -1,
/// and partitions are named in order, from 0 on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewTopic_set_replica_assignment(
    new_topic: *mut NewTopic,
    partition: i32,
    broker_ids: *mut i32,
    broker_id_cnt: usize,
    errstr: *mut c_char,
    errstr_size: usize,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a topic that only the caller uses now; the rest is passed on.
        unsafe {
            let Some(NewTopic(topic)) = new_topic.as_mut() else {
                return RespErr::INVALID_ARG;
            };
            let result = if topic.replication_factor != -1 {
                Err("Specifying a replication factor and a replica assignment are mutually exclusive".into())
            } else {
                let next = ("partition", partition);
                next_assignment(
                    &mut topic.replica_assignments,
                    next,
                    broker_ids,
                    broker_id_cnt,
                )
            };
            told(result, errstr, errstr_size)
        }
    })
}

/// Sets a configuration of the topic, by Kafka's name. The broker checks it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewTopic_set_config(
    new_topic: *mut NewTopic,
    name: *const c_char,
    value: *const c_char,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a topic that only the caller uses now; null or C strings.
        unsafe {
            let (Some(NewTopic(topic)), Some(name), Some(value)) =
                (new_topic.as_mut(), text(name), text(value))
            else {
                return RespErr::INVALID_ARG;
            };
            topic.config.push((name.to_owned(), value.to_owned()));
            RespErr::NO_ERROR
        }
    })
}

/// Frees a topic to create; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewTopic_destroy(object: *mut NewTopic) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewTopic_destroy_array(
    objects: *mut *mut NewTopic,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// Creates topics; an `RD_KAFKA_EVENT_CREATETOPICS_RESULT` comes into the queue. The topics stay the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_CreateTopics(
    rk: *mut Instance,
    new_topics: *mut *mut NewTopic,
    new_topic_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let wanted = arguments(new_topics, new_topic_cnt);
            let wanted: Vec<_> = wanted
                .into_iter()
                .map(|NewTopic(topic)| topic.clone())
                .collect();
            let kind = Event::CREATE_TOPICS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, options| {
                if wanted.is_empty() {
                    return Err(invalid("No topics to create"));
                }
                let results = admin.create_topics(&wanted, options.validate_only, timeout)?;
                Ok(topics(
                    wanted.into_iter().map(|topic| topic.name).collect(),
                    results,
                ))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_CreateTopics_result(
    rkev: *mut Event,
) -> *const CreateTopicsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::CREATE_TOPICS_RESULT) }
}

/// The topics with what became of them: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_CreateTopics_result_topics(
    result: *const CreateTopicsResult,
    cntp: *mut usize,
) -> *mut *const TopicResult {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::CREATE_TOPICS_RESULT) {
            Some(Answer::Topics(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// A topic to delete; null for a null name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteTopic_new(topic: *const c_char) -> *mut DeleteTopic {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a C string.
        unsafe { text(topic) }.map_or(ptr::null_mut(), |name| {
            Box::into_raw(Box::new(DeleteTopic(name.to_owned())))
        })
    })
}

/// Frees a topic to delete; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteTopic_destroy(object: *mut DeleteTopic) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteTopic_destroy_array(
    objects: *mut *mut DeleteTopic,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// Deletes topics with all their records; an `RD_KAFKA_EVENT_DELETETOPICS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteTopics(
    rk: *mut Instance,
    del_topics: *mut *mut DeleteTopic,
    del_topic_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let names = arguments(del_topics, del_topic_cnt);
            let names: Vec<_> = names
                .into_iter()
                .map(|DeleteTopic(name)| name.clone())
                .collect();
            let kind = Event::DELETE_TOPICS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                if names.is_empty() {
                    return Err(invalid("No topics to delete"));
                }
                if has_duplicates(&names) {
                    return Err(invalid("Duplicate topics not allowed"));
                }
                let asked: Vec<&str> = names.iter().map(String::as_str).collect();
                let results = admin.delete_topics(&asked, timeout)?;
                Ok(topics(names, results))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_DeleteTopics_result(
    rkev: *mut Event,
) -> *const DeleteTopicsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::DELETE_TOPICS_RESULT) }
}

/// The topics with what became of them: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteTopics_result_topics(
    result: *const DeleteTopicsResult,
    cntp: *mut usize,
) -> *mut *const TopicResult {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::DELETE_TOPICS_RESULT) {
            Some(Answer::Topics(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// More partitions for a topic: so many in all, 1 to 100,000. Null, with the reason in `errstr`, if that can't be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewPartitions_new(
    topic: *const c_char,
    new_total_cnt: usize,
    errstr: *mut c_char,
    errstr_size: usize,
) -> *mut NewPartitions {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a C string; a buffer of the size that the caller names.
        unsafe {
            let refused = |why: &str| {
                write_text(why, errstr, errstr_size);
                fail(RespErr::INVALID_ARG);
                ptr::null_mut()
            };
            let Some(topic) = text(topic) else {
                return refused("Invalid topic name");
            };
            if !(1..=PARTITIONS_MAX as usize).contains(&new_total_cnt) {
                let range = format!("1..{PARTITIONS_MAX}");
                return refused(&format!("new_total_cnt out of expected range {range}"));
            }
            Box::into_raw(Box::new(NewPartitions(ottla::NewPartitions {
                topic: topic.to_owned(),
                total_count: new_total_cnt as i32,
                replica_assignments: Vec::new(),
            })))
        }
    })
}

/// Says which brokers have the next of the new partitions, which are named in order, from 0 on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewPartitions_set_replica_assignment(
    new_parts: *mut NewPartitions,
    new_partition_idx: i32,
    broker_ids: *mut i32,
    broker_id_cnt: usize,
    errstr: *mut c_char,
    errstr_size: usize,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or an object that only the caller uses now; the rest is passed on.
        unsafe {
            let Some(NewPartitions(new)) = new_parts.as_mut() else {
                return RespErr::INVALID_ARG;
            };
            let next = ("partition index", new_partition_idx);
            let assignments = &mut new.replica_assignments;
            let result = next_assignment(assignments, next, broker_ids, broker_id_cnt);
            told(result, errstr, errstr_size)
        }
    })
}

/// Frees what `rd_kafka_NewPartitions_new` made; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewPartitions_destroy(object: *mut NewPartitions) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_NewPartitions_destroy_array(
    objects: *mut *mut NewPartitions,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// Gives topics more partitions; an `RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_CreatePartitions(
    rk: *mut Instance,
    new_parts: *mut *mut NewPartitions,
    new_parts_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let wanted = arguments(new_parts, new_parts_cnt);
            let wanted: Vec<_> = wanted
                .into_iter()
                .map(|NewPartitions(new)| new.clone())
                .collect();
            let kind = Event::CREATE_PARTITIONS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, options| {
                if wanted.is_empty() {
                    return Err(invalid("No partitions to create"));
                }
                if has_duplicates(wanted.iter().map(|new| &new.topic)) {
                    return Err(invalid("Duplicate topics not allowed"));
                }
                let validate_only = options.validate_only;
                let results = admin.create_new_partitions(&wanted, validate_only, timeout)?;
                Ok(topics(
                    wanted.into_iter().map(|new| new.topic).collect(),
                    results,
                ))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_CreatePartitions_result(
    rkev: *mut Event,
) -> *const CreatePartitionsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::CREATE_PARTITIONS_RESULT) }
}

/// The topics with what became of them: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_CreatePartitions_result_topics(
    result: *const CreatePartitionsResult,
    cntp: *mut usize,
) -> *mut *const TopicResult {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::CREATE_PARTITIONS_RESULT) {
            Some(Answer::Topics(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// The topic's error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_result_error(topicres: *const TopicResult) -> RespErr {
    // SAFETY: null or an object of this library.
    unsafe { topicres.as_ref() }.map_or(RespErr::NO_ERROR, |topicres| topicres.error)
}

/// The error's text; null if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_result_error_string(
    topicres: *const TopicResult,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { topicres.as_ref() }
        .and_then(|result| result.text.as_ref())
        .map_or(ptr::null(), |text| text.as_ptr())
}

/// The topic's name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_result_name(topicres: *const TopicResult) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { topicres.as_ref() }.map_or(ptr::null(), |topicres| topicres.name.as_ptr())
}

/// Records to delete: those before each partition's offset (`RD_KAFKA_OFFSET_END`: all that are committed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteRecords_new(
    before_offsets: *const TopicPartitionList,
) -> *mut DeleteRecords {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a list that nobody changes meanwhile.
        Box::into_raw(Box::new(DeleteRecords(unsafe {
            to_partitions(before_offsets)
        })))
    })
}

/// Frees what `rd_kafka_DeleteRecords_new` made; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteRecords_destroy(object: *mut DeleteRecords) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteRecords_destroy_array(
    objects: *mut *mut DeleteRecords,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// Deletes records; exactly one `DeleteRecords` may be passed. An `RD_KAFKA_EVENT_DELETERECORDS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteRecords(
    rk: *mut Instance,
    del_records: *mut *mut DeleteRecords,
    del_record_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let wanted = arguments(del_records, del_record_cnt);
            let wanted: Vec<_> = wanted.into_iter().map(|one| one.0.clone()).collect();
            let kind = Event::DELETE_RECORDS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                let [before] = &wanted[..] else {
                    return Err(invalid("Exactly one DeleteRecords must be passed"));
                };
                if before.is_empty() {
                    return Err(invalid("No records to delete"));
                }
                if has_duplicates(before.iter().map(|p| (&p.topic, p.partition))) {
                    return Err(invalid("Duplicate partitions not allowed"));
                }
                let deleted = admin.delete_records(before, timeout)?;
                if deleted.iter().all(|p| p.error == ErrCode::TIMED_OUT) {
                    return Err(KafkaError::from(ErrCode::TIMED_OUT));
                }
                Ok(Answer::Records(OwnedList::new(&deleted)))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_DeleteRecords_result(
    rkev: *mut Event,
) -> *const DeleteRecordsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::DELETE_RECORDS_RESULT) }
}

/// The partitions with their first offsets now, or their errors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteRecords_result_offsets(
    result: *const DeleteRecordsResult,
) -> *const TopicPartitionList {
    // SAFETY: passed on.
    match unsafe { answer(result, Event::DELETE_RECORDS_RESULT) } {
        Some(Answer::Records(list)) => list.as_ptr(),
        _ => ptr::null(),
    }
}
