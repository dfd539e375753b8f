//! SyncGroup (14): the leader hands in the assignment, members fetch their part; answered when it is committed.
//!
//! Serves versions 0 to 5. Departs from Kafka: when a member asks again while its last SyncGroup waits, that one gets
//! REBALANCE_IN_PROGRESS instead of no answer.

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
