//! Elections of partitions' leaders.

use super::{
    Answer, Listed, OwnedList, answer, begin, destroy, give_listed, has_duplicates, invalid,
    options::AdminOptions, result_of,
};
use crate::{
    abi::{TopicPartition, TopicPartitionList},
    errors::{Error, new_error},
    event::Event,
    instance::Instance,
    queue::QueueHandle,
    topic_partition_list::to_partitions,
};
use core::ffi::c_int;
use ottla::{ElectionType, ErrCode, KafkaError};
use std::ptr;

/// `rd_kafka_ElectLeaders_t`: which election, of which partitions (`None`: all).
pub struct ElectLeaders {
    kind: c_int,
    partitions: Option<Vec<ottla::TopicPartition>>,
}

/// `rd_kafka_topic_partition_result_t`: what became of one partition.
pub struct TopicPartitionResult {
    /// Of one element.
    partition: OwnedList,
    error: Error,
}

/// Events of `rd_kafka_ElectLeaders`.
pub type ElectLeadersResult = Event;

/// An election of the partitions' preferred replicas, or of any that lives; of all partitions with null. The list stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ElectLeaders_new(
    election_type: c_int,
    partitions: *mut TopicPartitionList,
) -> *mut ElectLeaders {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a list that nobody changes meanwhile.
        let partitions = (!partitions.is_null()).then(|| unsafe { to_partitions(partitions) });
        Box::into_raw(Box::new(ElectLeaders {
            kind: election_type,
            partitions,
        }))
    })
}

/// Frees what `rd_kafka_ElectLeaders_new` made; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ElectLeaders_destroy(elect_leaders: *mut ElectLeaders) {
    // SAFETY: passed on.
    unsafe { destroy(elect_leaders) }
}

/// Has leaders elected; an `RD_KAFKA_EVENT_ELECTLEADERS_RESULT` comes into the queue. The only broker leads every partition already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ElectLeaders(
    rk: *mut Instance,
    elect_leaders: *mut ElectLeaders,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let wanted = elect_leaders.as_ref();
            let wanted = wanted.map(|wanted| (wanted.kind, wanted.partitions.clone()));
            let event = Event::ELECT_LEADERS_RESULT;
            begin(rk, options, rkqu, event, move |admin, timeout, _| {
                let (kind, partitions) = wanted.ok_or_else(|| invalid("No election specified"))?;
                let kind = match kind {
                    0 => ElectionType::Preferred,
                    1 => ElectionType::Unclean,
                    _ => return Err(invalid("Invalid election type specified")),
                };
                if let Some(partitions) = &partitions {
                    if partitions.is_empty() {
                        return Err(invalid("No partitions specified"));
                    }
                    if has_duplicates(partitions.iter().map(|p| (&p.topic, p.partition))) {
                        return Err(invalid("Duplicate partitions specified"));
                    }
                }
                let elected = admin.elect_leaders(kind, partitions.as_deref(), timeout)?;
                let results = elected.into_iter().map(|(topic, number, result)| {
                    let invalid = ottla::offset::INVALID;
                    let mut partition = ottla::TopicPartition::new(topic, number, invalid);
                    let error = result.err();
                    let error = error.unwrap_or_else(|| KafkaError::new(ErrCode::NO_ERROR, ""));
                    partition.error = error.code;
                    TopicPartitionResult {
                        partition: OwnedList::new(&[partition]),
                        error: new_error(error),
                    }
                });
                Ok(Answer::Elections(Listed::new(results.collect())))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_ElectLeaders_result(
    rkev: *mut Event,
) -> *const ElectLeadersResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::ELECT_LEADERS_RESULT) }
}

/// What became of each partition that was named, or, of all, for which there was something to elect: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ElectLeaders_result_partitions(
    result: *const ElectLeadersResult,
    cntp: *mut usize,
) -> *mut *const TopicPartitionResult {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::ELECT_LEADERS_RESULT) {
            Some(Answer::Elections(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// The partition, with its error's code.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_result_partition(
    partition_result: *const TopicPartitionResult,
) -> *const TopicPartition {
    // SAFETY: null or an object of this library, whose list has one element.
    unsafe {
        let list = partition_result.as_ref().map(|of| of.partition.as_ptr());
        list.and_then(|list| list.as_ref())
            .map_or(ptr::null(), |list| list.elems)
    }
}

/// Its error, of code `RD_KAFKA_RESP_ERR_NO_ERROR` if a leader was elected. It belongs to the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_partition_result_error(
    partition_result: *const TopicPartitionResult,
) -> *const Error {
    // SAFETY: null or an object of this library.
    unsafe { partition_result.as_ref() }.map_or(ptr::null(), |of| ptr::from_ref(&of.error))
}
