//! DescribeShareGroupOffsets (90): from where share groups read, and how far they are behind.
//!
//! Serves versions 0 to 1. Departs from Kafka: the start offset is that of after the last acknowledgement, where Kafka tells the one of
//! before and counts what was delivered; the lag is also told where nothing was delivered since an alteration; a request in which
//! groups are repeated more than 100 times ends the connection.

use alloc::vec::Vec;

use ottla_protocol::{
    Response, Str, Uuid,
    messages::describe_share_group_offsets::{
        DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
        DescribeShareGroupOffsetsResponse, DescribeShareGroupOffsetsResponseGroup,
        DescribeShareGroupOffsetsResponsePartition, DescribeShareGroupOffsetsResponseTopic,
    },
};
use ottla_record::Now;

use super::repeats_itself;
use crate::{
    Broker,
    context::{Handled, RequestContext},
    share_partitions::{NO_START, ShareKey},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: DescribeShareGroupOffsetsRequest,
) -> Handled {
    if repeats_itself(request.groups.iter().map(|group| &group.group_id)) {
        return Handled::Disconnect;
    }
    let groups = request.groups.into_iter().map(|g| group(broker, g));
    let response = DescribeShareGroupOffsetsResponse {
        groups: groups.collect(),
        ..Default::default()
    };
    Handled::Respond(Response::DescribeShareGroupOffsets(response))
}

fn group(
    broker: &Broker,
    asked: DescribeShareGroupOffsetsRequestGroup,
) -> DescribeShareGroupOffsetsResponseGroup {
    // A group that isn't there has read nothing: as in Kafka, that is no error.
    let id = asked.group_id;
    let topics = match asked.topics {
        Some(topics) => topics
            .into_iter()
            .map(|t| topic(broker, &id, t.topic_name, t.partitions))
            .collect(),
        None => {
            let known = broker.share_groups.known(&id).into_iter().flatten();
            known
                .filter(|(_, topic_id, _)| broker.topics.by_id(topic_id).is_some())
                .map(|(name, _, partitions)| {
                    let partitions = partitions.iter().copied().collect();
                    topic(broker, &id, name.clone(), partitions)
                })
                .collect()
        }
    };
    DescribeShareGroupOffsetsResponseGroup {
        group_id: id,
        topics,
        ..Default::default()
    }
}

fn topic(
    broker: &Broker,
    group: &Str,
    name: Str,
    partitions: Vec<i32>,
) -> DescribeShareGroupOffsetsResponseTopic {
    let found = broker.topics.by_name(&name);
    let row = |partition: i32| {
        let mut row = DescribeShareGroupOffsetsResponsePartition {
            partition_index: partition,
            start_offset: NO_START,
            lag: -1,
            ..Default::default()
        };
        let Some(index) = found.and_then(|t| t.partition(partition)) else {
            return row;
        };
        let key = ShareKey {
            group: group.clone(),
            topic_id: found.map_or(Uuid::ZERO, |t| t.id),
            partition,
        };
        if let Some((start, leader_epoch, done)) = broker.share.describe(&key)
            && start != NO_START
        {
            row.start_offset = start;
            row.leader_epoch = leader_epoch.max(0);
            if let Some(partition) = broker.partitions.get(index) {
                let end = partition.high_watermark();
                row.lag = (end - start.max(partition.log.log_start_offset()) - done).max(0);
            }
        }
        row
    };
    DescribeShareGroupOffsetsResponseTopic {
        topic_id: found.map_or(Uuid::ZERO, |t| t.id),
        topic_name: name,
        partitions: partitions.into_iter().map(row).collect(),
    }
}
