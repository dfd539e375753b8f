//! SyncGroup (14): the leader hands in the assignment, members fetch their part; answered when it is committed.

use ottla_protocol::messages::sync_group::SyncGroupRequest;
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: SyncGroupRequest,
) -> Handled {
    broker.groups.sync(now, context, request);
    Handled::Deferred
}
