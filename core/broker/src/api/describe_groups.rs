//! DescribeGroups (15): state, protocol and members of groups.
//!
//! Serves versions 0 to 6. Departs from Kafka: a request in which groups are repeated more than 100 times ends the connection.

use ottla_protocol::{
    ErrorCode, Response,
    messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse},
};
use ottla_record::Now;

use super::repeats_itself;
use crate::{
    Broker,
    context::{Handled, RequestContext},
};

/// Bits of the operations that everyone may do where there is no authorizer: READ 3, DELETE 6, DESCRIBE 8,
/// DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11.
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> Handled {
    if repeats_itself(request.groups.iter()) {
        return Handled::Disconnect;
    }
    let describe = |id| {
        let mut group = broker.groups.describe(id, context.api_version);
        if request.include_authorized_operations && group.error_code == ErrorCode::NONE {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        group
    };
    Handled::Respond(Response::DescribeGroups(DescribeGroupsResponse {
        groups: request.groups.iter().map(describe).collect(),
        ..Default::default()
    }))
}
