//! ConsumerGroupDescribe (69): epochs, members and assignments of groups of the newer protocol (KIP-848).
//!
//! Serves versions 0 to 1. Departs from Kafka: a request in which groups are repeated more than 100 times ends the connection.

use ottla_protocol::{
    ErrorCode, Response,
    messages::consumer_group_describe::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
    },
};
use ottla_record::Now;

use super::describe_groups::GROUP_OPERATIONS;
use super::repeats_itself;
use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> Handled {
    if repeats_itself(request.group_ids.iter()) {
        return Handled::Disconnect;
    }
    let describe = |id| {
        let mut group = broker.groups.describe_consumer(id, context.api_version);
        if request.include_authorized_operations && group.error_code == ErrorCode::NONE {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        group
    };
    Handled::Respond(Response::ConsumerGroupDescribe(
        ConsumerGroupDescribeResponse {
            groups: request.group_ids.iter().map(describe).collect(),
            ..Default::default()
        },
    ))
}
