//! DescribeCluster (60): the broker, which is also told as the controller, and what it is called.
//!
//! Serves versions 0 to 2. As Kafka.

use alloc::vec;

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::describe_cluster::{
        DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    },
};
use ottla_record::Now;

use super::metadata::CLUSTER_OPERATIONS;
use crate::{
    Broker,
    context::{Handled, RequestContext},
};

/// `endpoint_type` of brokers; 2 are controllers, which have no endpoints of their own here.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> Handled {
    let refused = |error_code, why: &'static str| DescribeClusterResponse {
        error_code,
        error_message: Some(Str::from_static(why)),
        ..Default::default()
    };
    let response = match request.endpoint_type {
        BROKERS => DescribeClusterResponse {
            endpoint_type: BROKERS,
            cluster_id: broker.identity.cluster_id.clone(),
            controller_id: broker.identity.node_id,
            brokers: vec![DescribeClusterBroker {
                broker_id: broker.identity.node_id,
                host: context.endpoint.host.clone(),
                port: context.endpoint.port,
                rack: broker.config.rack.clone(),
                ..Default::default()
            }],
            cluster_authorized_operations: if request.include_cluster_authorized_operations {
                CLUSTER_OPERATIONS
            } else {
                i32::MIN
            },
            ..Default::default()
        },
        CONTROLLERS => refused(
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        ),
        _ => refused(
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            "Unsupported endpoint type",
        ),
    };
    Handled::Respond(Response::DescribeCluster(response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::Request;

    fn ask(h: &mut Harness, endpoint_type: i8) -> DescribeClusterResponse {
        let request = DescribeClusterRequest {
            endpoint_type,
            include_cluster_authorized_operations: true,
            ..Default::default()
        };
        let Response::DescribeCluster(response) = h.ask(1, Request::DescribeCluster(request))
        else {
            panic!()
        };
        response
    }

    #[test]
    fn brokers_and_controllers() {
        let mut h = Harness::new(Durability::Os);
        let answer = ask(&mut h, BROKERS);
        assert_eq!(
            (
                answer.error_code,
                answer.brokers.len(),
                answer.controller_id
            ),
            (ErrorCode::NONE, 1, 1)
        );
        assert_eq!(answer.cluster_id, *h.broker.cluster_id());
        assert_eq!(answer.cluster_authorized_operations, CLUSTER_OPERATIONS);
        assert_eq!(
            ask(&mut h, CONTROLLERS).error_code,
            ErrorCode::MISMATCHED_ENDPOINT_TYPE
        );
        assert_eq!(
            ask(&mut h, 7).error_code,
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE
        );
    }
}
