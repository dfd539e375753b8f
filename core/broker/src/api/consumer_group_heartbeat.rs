//! ConsumerGroupHeartbeat (68): joining, staying in and leaving a group of the newer protocol (KIP-848).

use alloc::format;

use ottla_protocol::{
    ErrorCode, Response,
    messages::consumer_group_heartbeat::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> Handled {
    if broker.share_groups.contains(&request.group_id) {
        return Handled::Respond(Response::ConsumerGroupHeartbeat(
            ConsumerGroupHeartbeatResponse {
                error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                error_message: Some(
                    format!("Group {} is not a consumer group.", request.group_id).into(),
                ),
                ..Default::default()
            },
        ));
    }
    broker.groups.consumer_heartbeat(now, context, request);
    Handled::Deferred
}
