//! AlterShareGroupOffsets (91): where an empty share group goes on reading.
//!
//! Serves version 0. Departs from Kafka: a negative offset is INVALID_REQUEST for its partition.

use ottla_protocol::{
    Response,
    messages::alter_share_group_offsets::{
        AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse,
    },
};
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
    request: AlterShareGroupOffsetsRequest,
) -> Handled {
    if let Err(error_code) = broker.ensure_share_state_topic(now) {
        return Handled::Respond(Response::AlterShareGroupOffsets(
            AlterShareGroupOffsetsResponse {
                error_code,
                ..Default::default()
            },
        ));
    }
    let other_type = broker.groups.contains(&request.group_id);
    let Broker {
        share_groups,
        share,
        topics,
        ..
    } = broker;
    let seen = |name: &str| topics.by_name(name).map(TopicSeen::of);
    share_groups.alter_offsets(now, context.reply, &request, other_type, share, &seen);
    Handled::Deferred
}
