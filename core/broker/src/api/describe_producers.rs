//! DescribeProducers (61): the producers that partitions know, and where their open transactions begin.
//!
//! Serves version 0. Departs from Kafka: a request in which partitions are repeated more than 100 times ends the connection.

use alloc::format;

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::describe_producers::{
        DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
        TopicResponse,
    },
};
use ottla_record::Now;

use super::repeats_itself;
use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: DescribeProducersRequest,
) -> Handled {
    let each = request.topics.iter().flat_map(|topic| {
        let numbers = topic.partition_indexes.iter();
        numbers.map(move |number| (&topic.name, *number))
    });
    if repeats_itself(each) {
        return Handled::Disconnect;
    }
    let topics = request.topics.into_iter().map(|topic| TopicResponse {
        partitions: topic
            .partition_indexes
            .iter()
            .map(|number| of_partition(broker, &topic.name, *number))
            .collect(),
        name: topic.name,
    });
    Handled::Respond(Response::DescribeProducers(DescribeProducersResponse {
        topics: topics.collect(),
        ..Default::default()
    }))
}

fn of_partition(broker: &Broker, topic: &str, number: i32) -> PartitionResponse {
    let refused = |error_code, message| PartitionResponse {
        partition_index: number,
        error_code,
        error_message: Some(message),
        ..Default::default()
    };
    let index = broker
        .topics
        .by_name(topic)
        .and_then(|topic| topic.partition(number));
    let Some(partition) = index.and_then(|index| broker.partitions.get(index)) else {
        let message = Str::from(format!("There is no partition {topic}-{number}."));
        return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message);
    };
    if let Err(error) = partition.check_usable() {
        return refused(error, Str::from_static("The partition's log has failed."));
    }
    let producers = partition.log.producers().iter().map(|p| ProducerState {
        producer_id: p.producer_id,
        producer_epoch: p.epoch.into(),
        last_sequence: p.last_sequence,
        last_timestamp: p.last_timestamp,
        coordinator_epoch: p.coordinator_epoch,
        current_txn_start_offset: p.transaction_start.unwrap_or(-1),
    });
    PartitionResponse {
        partition_index: number,
        error_code: ErrorCode::NONE,
        active_producers: producers.collect(),
        ..Default::default()
    }
}
