//! LeaveGroup (13): members leave or are removed.
//!
//! Serves versions 0 to 5. As Kafka.

use ottla_protocol::messages::leave_group::LeaveGroupRequest;
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> Handled {
    broker.groups.leave(now, context, request);
    Handled::Deferred
}
