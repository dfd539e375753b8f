//! DeleteShareGroupOffsets (92): an empty share group forgets topics.
//!
//! Serves version 0. As Kafka.

use ottla_protocol::{
    Response,
    messages::delete_share_group_offsets::{
        DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse,
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
    request: DeleteShareGroupOffsetsRequest,
) -> Handled {
    if let Err(error_code) = broker.ensure_share_state_topic(now) {
        return Handled::Respond(Response::DeleteShareGroupOffsets(
            DeleteShareGroupOffsetsResponse {
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
    share_groups.delete_offsets(now, context.reply, &request, other_type, share, &seen);
    Handled::Deferred
}
