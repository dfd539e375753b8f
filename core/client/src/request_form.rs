//! What depends on a request's kind: its form in one version, whether it may be repeated, whether it went astray.
//!
//! Flows fill a request in the forms of all its versions. Which one is sent only turns out when the broker is known, and
//! what that version does not have must be empty then.

use crate::output::Route;
use alloc::vec::Vec;
use ottla_protocol::{ApiKey, ErrorCode, Request, Response};

/// The newest version that this client sends. Offsets are committed and fetched by topic name, which version 10 no longer
/// does.
pub(crate) fn newest(key: ApiKey) -> i16 {
    match key {
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        _ => *key.valid_versions().end(),
    }
}

/// Takes out of a request what `version` has no field for.
pub(crate) fn suit(request: &mut Request, version: i16) {
    match request {
        Request::FindCoordinator(r) if version >= 4 => r.key = Default::default(),
        Request::FindCoordinator(r) => r.coordinator_keys = Vec::new(),
        Request::OffsetFetch(r) if version >= 8 => {
            r.group_id = Default::default();
            r.topics = Some(Vec::new());
        }
        Request::OffsetFetch(r) => {
            r.groups = Vec::new();
            r.require_stable &= version >= 7;
        }
        Request::LeaveGroup(r) if version >= 3 => r.member_id = Default::default(),
        Request::LeaveGroup(r) => r.members = Vec::new(),
        Request::DeleteTopics(r) if version >= 6 => r.topic_names = Vec::new(),
        Request::DeleteTopics(r) => r.topics = Vec::new(),
        Request::Metadata(r) => {
            // Version 0 has no null: there the empty list asks for all.
            r.topics = r.topics.take().or_else(|| (version == 0).then(Vec::new));
            r.allow_auto_topic_creation |= version < 4;
        }
        Request::DescribeGroups(r) => r.include_authorized_operations &= version >= 3,
        Request::DescribeConfigs(r) => r.include_documentation &= version >= 3,
        Request::ListGroups(r) => {
            if version < 5 {
                r.types_filter = Vec::new();
            }
            if version < 4 {
                r.states_filter = Vec::new();
            }
        }
        _ => {}
    }
}

/// Whether a request only asks, so that nothing happens twice if it is sent again after its connection was lost.
pub(crate) fn may_repeat(request: &Request) -> bool {
    matches!(
        request.api_key(),
        ApiKey::Metadata
            | ApiKey::ListOffsets
            | ApiKey::OffsetFetch
            | ApiKey::FindCoordinator
            | ApiKey::DescribeGroups
            | ApiKey::ListGroups
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeCluster
            | ApiKey::OffsetForLeaderEpoch
    )
}

/// Whether the broker says that it is not in charge (yet), in a way that means that it did nothing.
pub(crate) fn was_misrouted(route: &Route, response: &Response) -> bool {
    let elsewhere: fn(ErrorCode) -> bool = match route {
        Route::Controller => |error| error == ErrorCode::NOT_CONTROLLER,
        Route::GroupCoordinator(_) => |error| {
            matches!(
                error,
                ErrorCode::NOT_COORDINATOR
                    | ErrorCode::COORDINATOR_NOT_AVAILABLE
                    | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            )
        },
        Route::Leader(..) => |error| {
            matches!(
                error,
                ErrorCode::NOT_LEADER_OR_FOLLOWER
                    | ErrorCode::LEADER_NOT_AVAILABLE
                    | ErrorCode::FENCED_LEADER_EPOCH
            )
        },
        Route::Any | Route::Node(_) => return false,
    };
    match response {
        Response::CreateTopics(r) => r.topics.iter().any(|t| elsewhere(t.error_code)),
        Response::DeleteTopics(r) => r.responses.iter().any(|t| elsewhere(t.error_code)),
        Response::CreatePartitions(r) => r.results.iter().any(|t| elsewhere(t.error_code)),
        Response::DescribeGroups(r) => r.groups.iter().any(|g| elsewhere(g.error_code)),
        Response::DeleteGroups(r) => r.results.iter().any(|g| elsewhere(g.error_code)),
        Response::OffsetDelete(r) => elsewhere(r.error_code),
        Response::OffsetFetch(r) => {
            let partitions = r.topics.iter().flat_map(|t| &t.partitions);
            elsewhere(r.error_code)
                || r.groups.iter().any(|g| elsewhere(g.error_code))
                || partitions.into_iter().any(|p| elsewhere(p.error_code))
        }
        Response::OffsetCommit(r) => {
            let mut partitions = r.topics.iter().flat_map(|t| &t.partitions);
            partitions.any(|p| elsewhere(p.error_code))
        }
        Response::ListOffsets(r) => {
            let mut partitions = r.topics.iter().flat_map(|t| &t.partitions);
            partitions.any(|p| elsewhere(p.error_code))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use ottla_protocol::Encoder;
    use ottla_protocol::messages::{
        DeleteGroupsResponse, FindCoordinatorRequest, LeaveGroupRequest,
    };
    use ottla_protocol::messages::{leave_group::MemberIdentity, offset_fetch::*};

    #[test]
    fn every_version_can_be_encoded() {
        let requests = [
            Request::FindCoordinator(FindCoordinatorRequest {
                key: "g".into(),
                coordinator_keys: vec!["g".into()],
                ..Default::default()
            }),
            Request::OffsetFetch(OffsetFetchRequest {
                group_id: "g".into(),
                topics: Some(vec![OffsetFetchRequestTopic::default()]),
                groups: vec![OffsetFetchRequestGroup::default()],
                require_stable: true,
            }),
            Request::LeaveGroup(LeaveGroupRequest {
                group_id: "g".into(),
                member_id: "m".into(),
                members: vec![MemberIdentity::default()],
            }),
        ];
        for request in requests {
            for version in request.api_key().valid_versions() {
                let mut request = request.clone();
                suit(&mut request, version);
                let encoded = request.encode(version, &mut Encoder::new());
                assert!(
                    encoded.is_ok(),
                    "{request:?} in version {version}: {encoded:?}"
                );
            }
        }
    }

    #[test]
    fn astray() {
        let mut answer = DeleteGroupsResponse::default();
        answer.results.push(Default::default());
        answer.results[0].error_code = ErrorCode::NOT_COORDINATOR;
        let answer = Response::DeleteGroups(answer);
        assert!(was_misrouted(&Route::GroupCoordinator("g".into()), &answer));
        assert!(!was_misrouted(&Route::Any, &answer));
        assert!(!was_misrouted(&Route::Controller, &answer));
    }
}
