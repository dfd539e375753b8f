//! ListGroups (16): all groups, of some states or types.
//!
//! Serves versions 0 to 5. As Kafka.

use ottla_protocol::{Response, messages::list_groups::ListGroupsRequest};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: ListGroupsRequest,
) -> Handled {
    let mut response = broker.groups.list(&request);
    broker.share_groups.list(&request, &mut response);
    Handled::Respond(Response::ListGroups(response))
}
