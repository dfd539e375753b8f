//! JoinGroup (11): a member enters a group or comes back to it; answered when the rebalance is complete.

use ottla_protocol::messages::join_group::JoinGroupRequest;
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: JoinGroupRequest,
) -> Handled {
    broker.groups.join(now, context, request);
    Handled::Deferred
}
