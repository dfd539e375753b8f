//! ListPartitionReassignments (46): partitions that move to other brokers (KIP-455). One broker moves none, and
//! `AlterPartitionReassignments` is not served; the tool that describes topics asks for this all the same.
//!
//! Serves version 0. As Kafka.

use ottla_protocol::{
    Response,
    messages::list_partition_reassignments::{
        ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    _broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    _request: ListPartitionReassignmentsRequest,
) -> Handled {
    Handled::Respond(Response::ListPartitionReassignments(
        ListPartitionReassignmentsResponse {
            error_message: None,
            ..Default::default()
        },
    ))
}
