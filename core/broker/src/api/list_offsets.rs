//! ListOffsets (2): the earliest and latest offset, and the first at or after a time.
//!
//! Serves versions 1 to 11. Departs from Kafka: a replica id from 0 on counts for nothing, where Kafka tells a follower the log end.

use hashbrown::HashSet;
use ottla_protocol::{
    ErrorCode, Response,
    messages::list_offsets::{
        ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
        ListOffsetsResponse, ListOffsetsTopicResponse,
    },
};
use ottla_record::Now;

use super::{Isolation, isolation, repeated};
use crate::{
    Broker,
    context::{Handled, RequestContext},
    partition::PartitionIndex,
};

/// From this version on answers have the leader epoch.
const WITH_LEADER_EPOCH: i16 = 4;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> Handled {
    let Some(isolation) = isolation(request.isolation_level) else {
        return Handled::Respond(refuse(request));
    };
    let read_committed = isolation == Isolation::ReadCommitted;
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let known = broker
                .topics
                .by_name(&topic.name)
                .map(|t| t.partitions.clone());
            let repeated = repeated(topic.partitions.iter().map(|p| p.partition_index));
            // What is named twice is refused once.
            let mut told = HashSet::new();
            let partitions = topic
                .partitions
                .iter()
                .filter(|asked| {
                    let number = asked.partition_index;
                    !repeated.contains(&number) || told.insert(number)
                })
                .map(|asked| {
                    let twice = repeated.contains(&asked.partition_index);
                    let index = usize::try_from(asked.partition_index).ok();
                    let index = index.and_then(|i| known.as_ref()?.get(i).copied());
                    let found = if twice {
                        Err(ErrorCode::INVALID_REQUEST)
                    } else {
                        look_up(broker, context.api_version, index, asked, read_committed)
                    };
                    let (error_code, found) = match found {
                        Ok(found) => (ErrorCode::NONE, found),
                        Err(code) => (code, NOTHING),
                    };
                    ListOffsetsPartitionResponse {
                        partition_index: asked.partition_index,
                        error_code,
                        timestamp: found.timestamp,
                        offset: found.offset,
                        leader_epoch: found.leader_epoch,
                    }
                })
                .collect();
            ListOffsetsTopicResponse {
                name: topic.name,
                partitions,
            }
        })
        .collect();
    Handled::Respond(Response::ListOffsets(ListOffsetsResponse {
        topics,
        ..Default::default()
    }))
}

/// The answer to a request with an isolation level that isn't one.
fn refuse(request: ListOffsetsRequest) -> Response {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|asked| ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            error_code: ErrorCode::UNKNOWN_SERVER_ERROR,
            ..Default::default()
        });
        ListOffsetsTopicResponse {
            partitions: partitions.collect(),
            name: topic.name,
        }
    });
    Response::ListOffsets(ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    })
}

struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found {
    timestamp: -1,
    offset: -1,
    leader_epoch: -1,
};

fn look_up(
    broker: &mut Broker,
    version: i16,
    index: Option<PartitionIndex>,
    asked: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<Found, ErrorCode> {
    let partition = index
        .and_then(|i| broker.partitions.get_mut(i))
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.check_usable()?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    let end = if read_committed {
        partition.last_stable_offset()
    } else {
        partition.high_watermark()
    };
    let found = match asked.timestamp {
        LATEST => Some((-1, end)),
        EARLIEST => Some((-1, partition.log.log_start_offset())),
        EARLIEST_LOCAL if version >= 8 => Some((-1, partition.log.log_start_offset())),
        // There is no remote storage.
        LATEST_TIERED if version >= 9 => None,
        EARLIEST_PENDING_UPLOAD if version >= 11 => None,
        MAX_TIMESTAMP if version >= 7 => partition
            .log
            .max_timestamp()
            .map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?
            .filter(|(_, offset)| *offset < end),
        timestamp if timestamp >= 0 => partition
            .log
            .offset_for_time(timestamp)
            .map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?
            .filter(|(_, offset)| *offset < end),
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    let Some((timestamp, offset)) = found else {
        return Ok(NOTHING);
    };
    // That in which the record there was written; at the end, that in which the next one will be.
    let written = partition.log.epochs().epoch_at(offset);
    let leader_epoch = match (version >= WITH_LEADER_EPOCH, written) {
        (false, _) => -1,
        (true, Some(epoch)) if asked.timestamp != LATEST => epoch,
        (true, _) => partition.leader_epoch,
    };
    Ok(Found {
        timestamp,
        offset,
        leader_epoch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{Harness, START_MS, batch, batch_at},
    };
    use ottla_protocol::{Request, messages::list_offsets::ListOffsetsTopic};
    use ottla_record::FinishOptions;
    use std::vec;

    fn ask(
        h: &mut Harness,
        version: i16,
        partition: i32,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let asked = ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp,
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: "t".into(),
                partitions: vec![asked],
            }],
            ..Default::default()
        };
        let Response::ListOffsets(mut response) = h.ask(version, Request::ListOffsets(request))
        else {
            panic!()
        };
        response.topics.remove(0).partitions.remove(0)
    }

    #[test]
    fn an_isolation_level_that_is_none() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let of = |name: &str, partition_index| ListOffsetsTopic {
            name: name.into(),
            partitions: vec![ListOffsetsPartition {
                partition_index,
                current_leader_epoch: -1,
                timestamp: LATEST,
            }],
        };
        for (isolation_level, error) in [
            (-1, ErrorCode::UNKNOWN_SERVER_ERROR),
            (0, ErrorCode::NONE),
            (1, ErrorCode::NONE),
            (2, ErrorCode::UNKNOWN_SERVER_ERROR),
        ] {
            let request = ListOffsetsRequest {
                isolation_level,
                topics: vec![of("t", 0)],
                ..Default::default()
            };
            let Response::ListOffsets(answer) = h.ask(5, Request::ListOffsets(request)) else {
                panic!()
            };
            let told = &answer.topics[0].partitions[0];
            let offset = if error == ErrorCode::NONE { 0 } else { -1 };
            assert_eq!((told.error_code, told.offset), (error, offset));
        }
    }

    #[test]
    fn every_kind() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        assert_eq!(ask(&mut h, 7, 0, LATEST).offset, 0);
        assert_eq!(ask(&mut h, 7, 0, MAX_TIMESTAMP).offset, -1);
        for timestamp in [START_MS - 100, START_MS + 100, START_MS] {
            h.produce(
                "t",
                0,
                batch_at(timestamp, None, &["a", "b"], FinishOptions::default()),
            );
        }
        let mut found = |version, timestamp| {
            let answer = ask(&mut h, version, 0, timestamp);
            assert_eq!(answer.error_code, ErrorCode::NONE, "{timestamp}");
            (answer.timestamp, answer.offset)
        };
        assert_eq!(found(7, LATEST), (-1, 6));
        assert_eq!(found(7, EARLIEST), (-1, 0));
        assert_eq!(found(8, EARLIEST_LOCAL), (-1, 0));
        assert_eq!(found(9, LATEST_TIERED), (-1, -1));
        assert_eq!(found(7, MAX_TIMESTAMP).0, START_MS + 100);
        assert!((2..4).contains(&found(7, MAX_TIMESTAMP).1));
        assert_eq!(found(7, 0), (START_MS - 100, 0));
        assert_eq!(found(7, START_MS - 100), (START_MS - 100, 0));
        assert_eq!(found(7, START_MS - 99), (START_MS + 100, 2));
        assert_eq!(found(7, START_MS + 101), (-1, -1));
    }

    #[test]
    fn each_offset_is_told_with_the_epoch_in_which_it_was_written() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        assert_eq!(ask(&mut h, 7, 0, EARLIEST).leader_epoch, 0);
        let record = |timestamp| batch_at(timestamp, None, &["a"], FinishOptions::default());
        h.produce("t", 0, record(START_MS));
        let index = h.broker.topics.by_name("t").unwrap().partition(0).unwrap();
        h.broker.partitions.get_mut(index).unwrap().leader_epoch = 4;
        assert_eq!(ask(&mut h, 7, 0, LATEST).leader_epoch, 4);
        h.produce("t", 0, record(START_MS + 1));
        let mut told = |version, timestamp| {
            let answer = ask(&mut h, version, 0, timestamp);
            (answer.offset, answer.leader_epoch)
        };
        assert_eq!(told(7, EARLIEST), (0, 0));
        assert_eq!(told(8, EARLIEST_LOCAL), (0, 0));
        assert_eq!(told(7, START_MS), (0, 0));
        assert_eq!(told(7, START_MS + 1), (1, 4));
        assert_eq!(told(7, MAX_TIMESTAMP), (1, 4));
        assert_eq!(told(7, LATEST), (2, 4));
        assert_eq!(told(3, EARLIEST), (0, -1));
    }

    #[test]
    fn errors() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        assert_eq!(
            ask(&mut h, 7, 3, LATEST).error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert_eq!(
            ask(&mut h, 6, 0, MAX_TIMESTAMP).error_code,
            ErrorCode::UNSUPPORTED_VERSION
        );
        assert_eq!(
            ask(&mut h, 7, 0, EARLIEST_LOCAL).error_code,
            ErrorCode::UNSUPPORTED_VERSION
        );
        assert_eq!(
            ask(&mut h, 10, 0, -9).error_code,
            ErrorCode::UNSUPPORTED_VERSION
        );
    }

    #[test]
    fn latest_is_what_is_committed() {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("t", 1, &[]);
        h.send_produce("t", 0, -1, batch(&["a", "b"]));
        assert_eq!(ask(&mut h, 7, 0, LATEST).offset, 0);
        assert_eq!(ask(&mut h, 7, 0, START_MS).offset, -1);
        h.sync_all();
        assert_eq!(ask(&mut h, 7, 0, LATEST).offset, 2);
        assert_eq!(ask(&mut h, 7, 0, START_MS).offset, 0);
    }
}
