//! FindCoordinator (10): this broker coordinates every group, transaction and share partition.
//!
//! Serves versions 0 to 6. Departs from Kafka: it is told at once, where Kafka first creates the coordinator's topic and has the client
//! try again; for a share partition also while the topic of the key isn't there.

use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse},
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

/// From this version on a request names several keys.
const KEYS: i16 = 4;

/// From this version on there are share coordinators.
const WITH_SHARE: i16 = 6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> Handled {
    // Not a retriable error: nothing will change while the client tries again.
    let refusal = match request.key_type {
        GROUP | TRANSACTION | SHARE => None,
        _ => Some("There is no such type of coordinator."),
    };
    let refuse = |key: &Str| match request.key_type {
        SHARE if context.api_version < WITH_SHARE => {
            Some("Share coordinators are asked for from version 6 on.")
        }
        SHARE if !is_share_key(key) => Some("The key must be groupId:topicId:partition."),
        _ => refusal,
    };
    let find = |key: Str| match refuse(&key) {
        None => Coordinator {
            key,
            node_id: broker.identity.node_id,
            host: context.endpoint.host.clone(),
            port: context.endpoint.port,
            error_code: ErrorCode::NONE,
            error_message: None,
        },
        Some(message) => Coordinator {
            key,
            node_id: -1,
            host: Str::new(),
            port: -1,
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some(Str::from_static(message)),
        },
    };
    let mut response = FindCoordinatorResponse::default();
    if context.api_version >= KEYS {
        response.coordinators = request.coordinator_keys.into_iter().map(find).collect();
    } else {
        let found = find(request.key);
        response.error_code = found.error_code;
        response.error_message = found.error_message;
        response.node_id = found.node_id;
        response.host = found.host;
        response.port = found.port;
    }
    Handled::Respond(Response::FindCoordinator(response))
}

/// `groupId:topicId:partition`, as the leaders of share partitions name them (KIP-932).
fn is_share_key(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let partition = parts.next().and_then(|text| text.parse::<i32>().ok());
    let topic_id = parts.next().and_then(Uuid::parse);
    let group = parts.next();
    partition.is_some_and(|p| p >= 0)
        && topic_id.is_some()
        && group.is_some_and(|group| !group.is_empty())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::Request;

    fn find(h: &mut Harness, version: i16, key_type: i8) -> FindCoordinatorResponse {
        let request = FindCoordinatorRequest {
            key: "g".into(),
            key_type,
            coordinator_keys: vec!["g".into(), "h".into()],
        };
        match h.ask(version, Request::FindCoordinator(request)) {
            Response::FindCoordinator(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn groups_and_transactions_are_coordinated_here() {
        let mut h = Harness::new(Durability::Os);
        for (version, key_type) in (0..4).flat_map(|v| [(v, GROUP), (v, TRANSACTION)]) {
            let found = find(&mut h, version, key_type);
            assert_eq!(
                (found.error_code, found.node_id, found.port),
                (ErrorCode::NONE, 1, 9092)
            );
            assert_eq!(found.host, "localhost");
        }
        for (version, key_type) in (4..=6).flat_map(|v| [(v, GROUP), (v, TRANSACTION)]) {
            let found = find(&mut h, version, key_type).coordinators;
            assert_eq!((&*found[0].key, &*found[1].key), ("g", "h"));
            assert!(
                found
                    .iter()
                    .all(|c| c.node_id == 1 && c.error_code == ErrorCode::NONE)
            );
        }
    }

    #[test]
    fn nothing_else_is() {
        let mut h = Harness::new(Durability::Os);
        for key_type in [3, -1] {
            let found = find(&mut h, 3, key_type);
            assert_eq!(
                (found.error_code, found.node_id),
                (ErrorCode::INVALID_REQUEST, -1)
            );
            assert!(found.error_message.is_some());
            let found = find(&mut h, 6, key_type).coordinators;
            assert!(
                found
                    .iter()
                    .all(|c| c.error_code == ErrorCode::INVALID_REQUEST)
            );
        }
    }

    #[test]
    fn share_partitions_are() {
        let mut h = Harness::new(Durability::Os);
        let topic = Uuid([5; 16]);
        for (key, known) in [
            (alloc::format!("a:b:{topic}:7"), true),
            (alloc::format!(":{topic}:7"), false),
            (alloc::format!("g:{topic}:-1"), false),
            ("g:t:0".into(), false),
            ("g".into(), false),
        ] {
            let request = FindCoordinatorRequest {
                key_type: SHARE,
                coordinator_keys: vec![key.as_str().into()],
                ..Default::default()
            };
            let Response::FindCoordinator(found) = h.ask(6, Request::FindCoordinator(request))
            else {
                panic!()
            };
            let code = found.coordinators[0].error_code;
            assert_eq!(code == ErrorCode::NONE, known, "{key}");
        }
    }
}
