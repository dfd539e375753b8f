//! DeleteGroups (42): groups without members go, with their offsets; answered when that is committed.

use ottla_protocol::messages::delete_groups::DeleteGroupsRequest;
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> Handled {
    broker.groups.delete(context, request);
    Handled::Deferred
}
