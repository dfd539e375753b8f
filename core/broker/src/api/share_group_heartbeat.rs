//! ShareGroupHeartbeat (76): a member of a share group enters, stays, learns its partitions, leaves.
//!
//! Serves version 1. Departs from Kafka: the first answer has partitions, where Kafka's second one has; the assignor `simple` spreads
//! them evenly and lets members keep what they have, where Kafka's hashes.

use ottla_protocol::messages::share_group_heartbeat::ShareGroupHeartbeatRequest;
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    share_groups::TopicSeen,
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: ShareGroupHeartbeatRequest,
) -> Handled {
    let other_type = broker.groups.contains(&request.group_id);
    let Broker {
        share_groups,
        topics,
        config,
        ..
    } = broker;
    let seen = |name: &str| topics.by_name(name).map(TopicSeen::of);
    share_groups.heartbeat(now, context, &request, &config.share, other_type, &seen);
    Handled::Deferred
}
