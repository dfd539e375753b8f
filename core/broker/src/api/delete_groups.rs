//! DeleteGroups (42): groups without members go, with their offsets or state; answered when that is committed.
//!
//! Serves versions 0 to 2. As Kafka.

use ottla_protocol::messages::delete_groups::DeleteGroupsRequest;
use ottla_record::Now;

use hashbrown::HashSet;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> Handled {
    // What is named twice is deleted, and told, once.
    let mut named = HashSet::new();
    let (shared, groups_names): (alloc::vec::Vec<_>, _) = request
        .groups_names
        .into_iter()
        .filter(|id| named.insert(id.clone()))
        .partition(|id| broker.share_groups.contains(id));
    let others = DeleteGroupsRequest {
        groups_names,
        ..request
    };
    if !shared.is_empty() {
        let has_others = !others.groups_names.is_empty();
        broker
            .share_groups
            .delete(now, context.reply, shared, has_others, &mut broker.share);
        if !has_others {
            return Handled::Deferred;
        }
    }
    broker.groups.delete(context, others);
    Handled::Deferred
}
