//! What concerns one partition and goes to its leader: offsets, deletion of records.

use super::{Admin, told};
use crate::{
    ErrCode, KafkaError, Route, TopicPartition,
    handle::{time_left, unexpected},
    queue::deadline,
};
use ottla_protocol::{
    Request, Response,
    messages::{
        DeleteRecordsRequest, ListOffsetsRequest,
        delete_records::{DeleteRecordsPartition, DeleteRecordsTopic},
        list_offsets::{ListOffsetsPartition, ListOffsetsTopic},
    },
};
use std::time::Duration;

/// Which offset [`Admin::list_offsets`] is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log's first.
    Earliest,
    /// The log's end.
    Latest,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// The first whose record is not older than this, in ms since the epoch.
    Timestamp(i64),
}

/// An answer of [`Admin::list_offsets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 if there is none.
    pub offset: i64,
    /// The record's timestamp; -1 if it has none.
    pub timestamp: i64,
    /// Its leader epoch; -1 if unknown.
    pub leader_epoch: i32,
}

/// Records of partitions.
impl Admin {
    /// Finds offsets.
    pub fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
        timeout: Duration,
    ) -> Result<Vec<Result<ListedOffset, KafkaError>>, KafkaError> {
        let until = deadline(timeout);
        wanted
            .iter()
            .map(|(partition, spec)| Ok(self.list_offset(partition, *spec, time_left(until))))
            .collect()
    }

    /// Deletes the records before each `offset`, -1 for all that are committed: each partition comes back with the offset of its
    /// first record then, or its error (`OFFSET_OUT_OF_RANGE` behind the end).
    pub fn delete_records(
        &self,
        before: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        let until = deadline(timeout);
        before
            .iter()
            .map(|partition| self.delete_records_of(partition, time_left(until)))
            .collect()
    }

    fn list_offset(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
        timeout: Duration,
    ) -> Result<ListedOffset, KafkaError> {
        let until = deadline(timeout);
        self.handle
            .find_leader(&partition.topic, partition.partition, timeout)?;
        let timeout = time_left(until);
        let timestamp = match spec {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::Timestamp(timestamp) => timestamp,
        };
        let asked = ListOffsetsPartition {
            partition_index: partition.partition,
            timestamp,
            ..Default::default()
        };
        let topic = ListOffsetsTopic {
            name: partition.topic.clone(),
            partitions: vec![asked],
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.options.read_committed.into(),
            topics: vec![topic],
            ..Default::default()
        };
        let route = Route::Leader(partition.topic.clone(), partition.partition);
        let response = self
            .handle
            .request(route, Request::ListOffsets(request), timeout)?;
        let Response::ListOffsets(mut response) = response else {
            return Err(unexpected(&response));
        };
        let answer = response
            .topics
            .pop()
            .and_then(|mut topic| topic.partitions.pop());
        let answer = answer.ok_or_else(|| KafkaError::from(ErrCode::BAD_MSG))?;
        told(answer.error_code, None)?;
        Ok(ListedOffset {
            offset: answer.offset,
            timestamp: answer.timestamp,
            leader_epoch: answer.leader_epoch,
        })
    }

    fn delete_records_of(
        &self,
        before: &TopicPartition,
        timeout: Duration,
    ) -> Result<TopicPartition, KafkaError> {
        let until = deadline(timeout);
        let (topic, number) = (&before.topic, before.partition);
        if let Err(error) = self.handle.find_leader(topic, number, timeout) {
            return match error.code {
                ErrCode::UNKNOWN_TOPIC_OR_PART
                | ErrCode::UNKNOWN_PARTITION
                | ErrCode::TOPIC_EXCEPTION => Ok(TopicPartition {
                    error: error.code,
                    ..before.clone()
                }),
                _ => Err(error),
            };
        }
        let timeout = time_left(until);
        let partition = DeleteRecordsPartition {
            partition_index: before.partition,
            offset: before.offset,
        };
        let topic = DeleteRecordsTopic {
            name: before.topic.clone(),
            partitions: vec![partition],
        };
        let request = DeleteRecordsRequest {
            topics: vec![topic],
            timeout_ms: self.operation_timeout(timeout),
        };
        let route = Route::Leader(before.topic.clone(), before.partition);
        let response = self
            .handle
            .request(route, Request::DeleteRecords(request), timeout)?;
        let Response::DeleteRecords(mut response) = response else {
            return Err(unexpected(&response));
        };
        let answer = response
            .topics
            .pop()
            .and_then(|mut topic| topic.partitions.pop())
            .ok_or_else(|| KafkaError::from(ErrCode::BAD_MSG))?;
        Ok(TopicPartition {
            offset: answer.low_watermark,
            error: answer.error_code.into(),
            ..before.clone()
        })
    }
}
