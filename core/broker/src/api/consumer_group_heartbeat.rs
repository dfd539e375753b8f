//! ConsumerGroupHeartbeat (68): joining, staying in and leaving a group of the newer protocol (KIP-848).
//!
//! Serves versions 0 to 1. Departs from Kafka: a changed target is computed with the heartbeat that brings the change, however short
//! the time since the last one; a regular expression is resolved with the heartbeat, too, and is of Rust's `regex-lite`, without
//! `\p{…}` and `\Q…\E`; the assignor `uniform` hands partitions out in turn; what a cooperative member of the classic protocol had, and
//! its leader gave to nobody, is not free before the member joins without it.

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
