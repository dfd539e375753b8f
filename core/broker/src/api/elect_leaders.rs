//! ElectLeaders (43): a leader for each partition (KIP-183, KIP-460). The only replica of every partition leads it, so that there is
//! never anything to elect: a partition that is named gets `ELECTION_NOT_NEEDED`, and asked for all there are none to tell of.
//!
//! Serves versions 0 to 2. As Kafka.

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::elect_leaders::{
        ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
        TopicPartitions,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

/// `election_type`: the preferred replica, or any that lives.
const TYPES: core::ops::RangeInclusive<i8> = 0..=1;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: ElectLeadersRequest,
) -> Handled {
    let known_type = TYPES.contains(&request.election_type);
    // Of all partitions those are told whose leader changes: none.
    let topics = request.topic_partitions.unwrap_or_else(|| {
        let all = broker.topics.iter();
        all.map(|topic| TopicPartitions {
            topic: topic.name.clone(),
            ..Default::default()
        })
        .collect()
    });
    let results = topics
        .into_iter()
        .map(|topic| {
            let known = broker.topics.by_name(&topic.topic);
            let elected = |partition_id: i32| {
                let (error_code, message) = if !known_type {
                    let why = alloc::format!("Unknown election type {}", request.election_type);
                    (ErrorCode::INVALID_REQUEST, Some(Str::from(why)))
                } else if known
                    .and_then(|topic| topic.partition(partition_id))
                    .is_some()
                {
                    (ErrorCode::ELECTION_NOT_NEEDED, None)
                } else {
                    let why = if known.is_some() {
                        alloc::format!("No such partition as {}-{partition_id}", topic.topic)
                    } else {
                        alloc::format!("No such topic as {}", topic.topic)
                    };
                    (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(Str::from(why)))
                };
                PartitionResult {
                    partition_id,
                    error_code,
                    error_message: message,
                }
            };
            ReplicaElectionResult {
                partition_result: topic.partitions.iter().copied().map(elected).collect(),
                topic: topic.topic.clone(),
            }
        })
        .collect();
    let error_code = if known_type {
        ErrorCode::NONE
    } else {
        ErrorCode::INVALID_REQUEST
    };
    Handled::Respond(Response::ElectLeaders(ElectLeadersResponse {
        error_code,
        replica_election_results: results,
        ..Default::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::Request;
    use std::vec;

    #[test]
    fn nothing_has_to_be_elected() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let named = |topic: &str, partitions| TopicPartitions {
            topic: topic.into(),
            partitions,
        };
        let mut ask = |election_type, topic_partitions| {
            let request = ElectLeadersRequest {
                election_type,
                topic_partitions,
                ..Default::default()
            };
            let Response::ElectLeaders(answer) = h.ask(2, Request::ElectLeaders(request)) else {
                panic!()
            };
            let codes: vec::Vec<ErrorCode> = answer
                .replica_election_results
                .iter()
                .flat_map(|topic| topic.partition_result.iter().map(|p| p.error_code))
                .collect();
            (answer.error_code, codes)
        };
        assert_eq!(ask(0, None), (ErrorCode::NONE, vec![]));
        let asked = vec![named("t", vec![0, 1]), named("none", vec![0])];
        let expected = vec![
            ErrorCode::ELECTION_NOT_NEEDED,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ];
        assert_eq!(ask(1, Some(asked)), (ErrorCode::NONE, expected));
        assert_eq!(ask(7, None), (ErrorCode::INVALID_REQUEST, vec![]));
    }
}
