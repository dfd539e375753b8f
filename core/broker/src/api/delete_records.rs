//! DeleteRecords (21): moves a partition's start forward.
//!
//! Serves versions 0 to 2. Departs from Kafka: the new start is on storage when it is answered; Kafka writes it down once a minute.

use alloc::vec::Vec;

use ottla_protocol::{
    ErrorCode, Response,
    messages::delete_records::{
        DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
        DeleteRecordsResponse, DeleteRecordsTopicResult,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

/// As an offset: all that is committed.
const HIGH_WATERMARK: i64 = -1;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    _context: &RequestContext,
    request: DeleteRecordsRequest,
) -> Handled {
    let mut any = false;
    let mut topics: Vec<DeleteRecordsTopicResult> = request
        .topics
        .into_iter()
        .map(|topic| DeleteRecordsTopicResult {
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    let (low_watermark, error_code) =
                        match delete(broker, now, &topic.name, partition) {
                            Ok(low_watermark) => {
                                any = true;
                                (low_watermark, ErrorCode::NONE)
                            }
                            Err(code) => (-1, code),
                        };
                    DeleteRecordsPartitionResult {
                        partition_index: partition.partition_index,
                        low_watermark,
                        error_code,
                    }
                })
                .collect(),
            name: topic.name,
        })
        .collect();
    // What is answered as deleted stays so after a crash.
    if any && broker.write_recovery_points().is_err() {
        let results = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for result in results.filter(|result| result.error_code == ErrorCode::NONE) {
            result.low_watermark = -1;
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
        }
    }
    Handled::Respond(Response::DeleteRecords(DeleteRecordsResponse {
        topics,
        ..Default::default()
    }))
}

fn delete(
    broker: &mut Broker,
    now: Now,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<i64, ErrorCode> {
    let topic = broker
        .topics
        .by_name(topic)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let index = topic
        .partition(asked.partition_index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if topic.internal {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    if !topic.config.cleanup_delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let partition = broker
        .partitions
        .get_mut(index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.check_usable()?;
    let high_watermark = partition.high_watermark();
    let up_to = if asked.offset == HIGH_WATERMARK {
        high_watermark
    } else {
        asked.offset
    };
    if !(0..=high_watermark).contains(&up_to) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    if partition.log.advance_start(up_to).is_err() {
        broker.fail_partition(index);
        return Err(ErrorCode::KAFKA_STORAGE_ERROR);
    }
    let start = partition.log.log_start_offset();
    broker.housekeeping.remove_deleted_at(now);
    broker.housekeeping.note_appended(&broker.config, now);
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{Harness, batch, values},
    };
    use ottla_protocol::{
        Request,
        messages::{delete_records::DeleteRecordsTopic, delete_topics::DeleteTopicsRequest},
    };
    use std::vec;

    fn ask(h: &mut Harness, topic: &str, partition_index: i32, offset: i64) -> (i64, ErrorCode) {
        let partitions = vec![DeleteRecordsPartition {
            partition_index,
            offset,
        }];
        let topics = vec![DeleteRecordsTopic {
            name: topic.into(),
            partitions,
        }];
        let request = DeleteRecordsRequest {
            topics,
            ..Default::default()
        };
        let Response::DeleteRecords(response) = h.ask(2, Request::DeleteRecords(request)) else {
            panic!()
        };
        let answer = &response.topics[0].partitions[0];
        (answer.low_watermark, answer.error_code)
    }

    #[test]
    fn the_start_moves_and_stays() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        h.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
        for value in ["a", "b", "c"] {
            h.produce("t", 0, batch(&[value]));
        }
        assert_eq!(ask(&mut h, "t", 0, 2), (2, ErrorCode::NONE));
        assert_eq!(
            h.fetch("t", 0, 1).error_code,
            ErrorCode::OFFSET_OUT_OF_RANGE
        );
        assert_eq!(values(&h.fetch("t", 0, 2).records), ["c"]);
        assert_eq!(
            ask(&mut h, "t", 0, 1),
            (2, ErrorCode::NONE),
            "it never moves back"
        );
        let mut h = h.restart(false);
        assert_eq!(h.fetch("t", 0, 2).log_start_offset, 2);
        assert_eq!(ask(&mut h, "t", 0, -1), (3, ErrorCode::NONE));
        assert_eq!(ask(&mut h, "t", 0, 4), (-1, ErrorCode::OFFSET_OUT_OF_RANGE));
        assert_eq!(
            ask(&mut h, "t", 1, 0),
            (-1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        );
        assert_eq!(
            ask(&mut h, "compacted", 0, 0),
            (-1, ErrorCode::POLICY_VIOLATION)
        );
    }

    /// What the checkpoint says of a deleted topic must not be said of a younger one of the same name.
    #[test]
    fn a_topic_of_the_same_name_begins_anew() {
        for restarted in [false, true] {
            let mut h = Harness::new(Durability::Os);
            h.create_topic("t", 1, &[]);
            for value in ["a", "b", "c", "d"] {
                h.produce("t", 0, batch(&[value]));
            }
            assert_eq!(ask(&mut h, "t", 0, 4), (4, ErrorCode::NONE));
            let request = DeleteTopicsRequest {
                topic_names: vec!["t".into()],
                ..Default::default()
            };
            h.ask(5, Request::DeleteTopics(request));
            if restarted {
                h = h.restart(false);
            }
            h.create_topic("t", 1, &[]);
            h.produce("t", 0, batch(&["new"]));
            let mut h = h.restart(false);
            let found = h.fetch("t", 0, 0);
            assert_eq!((found.log_start_offset, found.high_watermark), (0, 1));
            assert_eq!(values(&found.records), ["new"]);
        }
    }
}
