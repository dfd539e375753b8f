//! Heartbeat (12): keeps a member's session, and tells it to rejoin.
//!
//! Serves versions 0 to 4. As Kafka.

use ottla_protocol::{
    Response,
    messages::heartbeat::{HeartbeatRequest, HeartbeatResponse},
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    _context: &RequestContext,
    request: HeartbeatRequest,
) -> Handled {
    let error_code = broker.groups.heartbeat(now, &request);
    Handled::Respond(Response::Heartbeat(HeartbeatResponse {
        error_code,
        ..Default::default()
    }))
}
