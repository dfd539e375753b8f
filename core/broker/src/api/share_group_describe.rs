//! ShareGroupDescribe (77): state, epochs and members of share groups.
//!
//! Serves version 1. Departs from Kafka: a request in which groups are repeated more than 100 times ends the connection.

use ottla_protocol::{
    ErrorCode, Response,
    messages::share_group_describe::{
        DescribedGroup, ShareGroupDescribeRequest, ShareGroupDescribeResponse,
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
    _context: &RequestContext,
    request: ShareGroupDescribeRequest,
) -> Handled {
    if repeats_itself(request.group_ids.iter()) {
        return Handled::Disconnect;
    }
    let describe = |id: &ottla_protocol::Str| {
        if id.is_empty() {
            return DescribedGroup {
                error_code: ErrorCode::INVALID_GROUP_ID,
                ..Default::default()
            };
        }
        let name_of = |id: &_| broker.topics.by_id(id).map(|topic| topic.name.clone());
        let other_type = broker.groups.contains(id);
        let mut group = broker.share_groups.describe(id, other_type, name_of);
        if request.include_authorized_operations && group.error_code == ErrorCode::NONE {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        group
    };
    Handled::Respond(Response::ShareGroupDescribe(ShareGroupDescribeResponse {
        groups: request.group_ids.iter().map(describe).collect(),
        ..Default::default()
    }))
}
