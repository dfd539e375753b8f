//! OffsetDelete (47): committed offsets of some partitions go; answered when that is committed.
//!
//! Serves version 0. As Kafka.

use ottla_protocol::{Str, messages::offset_delete::OffsetDeleteRequest};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: OffsetDeleteRequest,
) -> Handled {
    let Broker { groups, topics, .. } = broker;
    groups.delete_offsets(context, request, |name: &Str, partition| {
        topics
            .by_name(name)
            .is_some_and(|topic| topic.partition(partition).is_some())
    });
    Handled::Deferred
}
