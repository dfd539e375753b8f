//! OffsetForLeaderEpoch (23): where a leader epoch ended (KIP-101, KIP-279). A consumer that comes back asks so whether what it read is
//! still there (KIP-320).
//!
//! Serves versions 2 to 4. As Kafka.

use ottla_protocol::{
    ErrorCode, Response,
    messages::offset_for_leader_epoch::{
        EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        OffsetForLeaderPartition, OffsetForLeaderTopicResult,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    partition::Partition,
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> Handled {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let known = broker.topics.by_name(&topic.topic);
            let partitions = topic
                .partitions
                .iter()
                .map(|asked| {
                    let index = known.and_then(|topic| topic.partition(asked.partition));
                    let partition = index.and_then(|index| broker.partitions.get(index));
                    let mut answer = EpochEndOffset {
                        partition: asked.partition,
                        ..Default::default()
                    };
                    match look_up(partition, asked) {
                        Ok((leader_epoch, end_offset)) => {
                            answer.leader_epoch = leader_epoch;
                            answer.end_offset = end_offset;
                        }
                        Err(error_code) => answer.error_code = error_code,
                    }
                    answer
                })
                .collect();
            OffsetForLeaderTopicResult {
                topic: topic.topic,
                partitions,
            }
        })
        .collect();
    Handled::Respond(Response::OffsetForLeaderEpoch(
        OffsetForLeaderEpochResponse {
            topics,
            ..Default::default()
        },
    ))
}

/// An epoch that is not known.
pub(super) const UNDEFINED: (i32, i64) = (-1, -1);

fn look_up(
    partition: Option<&Partition>,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.check_usable()?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    Ok(end_of_epoch(partition, asked.leader_epoch))
}

/// The epoch that counts for one that is asked for, the same or the last before it, and where it ended; [`UNDEFINED`] of one that is not
/// known.
pub(super) fn end_of_epoch(partition: &Partition, epoch: i32) -> (i32, i64) {
    let end = partition.log.log_end_offset();
    // A leader's epoch counts from the moment it leads, also before its first record.
    if epoch == partition.leader_epoch {
        return (epoch, end);
    }
    if epoch < 0 || epoch > partition.leader_epoch {
        return UNDEFINED;
    }
    let start = partition.log.log_start_offset();
    match partition.log.epochs().end_offset(epoch, end) {
        Some(found) => found,
        // Older than all that is left: it ended where that begins.
        None => (epoch, start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{Harness, batch},
    };
    use ottla_protocol::{Request, messages::offset_for_leader_epoch::OffsetForLeaderTopic};
    use std::vec;

    fn ask(
        h: &mut Harness,
        partition: i32,
        current_leader_epoch: i32,
        leader_epoch: i32,
    ) -> (ErrorCode, i32, i64) {
        let request = OffsetForLeaderEpochRequest {
            topics: vec![OffsetForLeaderTopic {
                topic: "t".into(),
                partitions: vec![OffsetForLeaderPartition {
                    partition,
                    current_leader_epoch,
                    leader_epoch,
                }],
            }],
            ..Default::default()
        };
        let Response::OffsetForLeaderEpoch(mut response) =
            h.ask(4, Request::OffsetForLeaderEpoch(request))
        else {
            panic!()
        };
        let answer = response.topics.remove(0).partitions.remove(0);
        (answer.error_code, answer.leader_epoch, answer.end_offset)
    }

    #[test]
    fn the_leaders_epoch_ends_at_the_end_of_the_log() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        assert_eq!(ask(&mut h, 0, -1, 0), (ErrorCode::NONE, 0, 0));
        h.produce("t", 0, batch(&["a", "b"]));
        assert_eq!(ask(&mut h, 0, 0, 0), (ErrorCode::NONE, 0, 2));
        for unknown in [-1, 1] {
            assert_eq!(ask(&mut h, 0, -1, unknown), (ErrorCode::NONE, -1, -1));
        }
    }

    #[test]
    fn errors() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let failed = |code| (code, -1, -1);
        assert_eq!(
            ask(&mut h, 1, -1, 0),
            failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        );
        assert_eq!(
            ask(&mut h, 0, 1, 0),
            failed(ErrorCode::UNKNOWN_LEADER_EPOCH)
        );
    }
}
