//! Which broker coordinates a group: looked up when a request needs it, and forgotten when a broker says otherwise.

use super::{Network, SPREAD, Tag, Waiting};
use crate::error::{ErrCode, KafkaError};
use crate::output::Route;
use alloc::vec;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::{ErrorCode, Request, Response, Str};
use ottla_record::Now;

/// What is known of a group's coordinator.
pub(super) enum Coordinator {
    Known(i32),
    /// The look-up was sent.
    Finding,
    /// The look-up failed.
    Unknown {
        not_before: u64,
    },
}

impl Network {
    /// The coordinator of a group, if it is known; else it is looked up.
    pub(super) fn coordinator(&mut self, now: Now, group: &Str, deadline: u64) -> Option<i32> {
        match self.coordinators.get(group) {
            Some(Coordinator::Known(node)) => return Some(*node),
            Some(Coordinator::Finding) => return None,
            Some(Coordinator::Unknown { not_before }) if *not_before > now.mono_us => return None,
            _ => {}
        }
        self.coordinators
            .insert(group.clone(), Coordinator::Finding);
        let request = FindCoordinatorRequest {
            key: group.clone(),
            key_type: 0,
            coordinator_keys: vec![group.clone()],
            ..Default::default()
        };
        self.waiting.push_back(Waiting {
            route: Route::Any,
            request: Request::FindCoordinator(request),
            deadline,
            not_before: now.mono_us,
            attempts: 0,
            tag: Tag::FindCoordinator(group.clone()),
        });
        None
    }

    /// Takes in what FindCoordinator gave. A failure that won't pass fails what waits for this coordinator.
    pub(crate) fn coordinator_found(
        &mut self,
        now: Now,
        group: &Str,
        result: Result<Response, KafkaError>,
    ) {
        let found = result.and_then(|response| match response {
            Response::FindCoordinator(response) => coordinator_in(response),
            _ => Err(ErrCode::BAD_MSG.into()),
        });
        match found {
            Ok(node) => {
                self.coordinators
                    .insert(group.clone(), Coordinator::Known(node));
            }
            Err(error) => {
                let not_before = now.mono_us + self.random.jitter(self.retry_us.0, SPREAD);
                self.coordinators
                    .insert(group.clone(), Coordinator::Unknown { not_before });
                if !error.retriable {
                    self.fail_waiting(
                        &error,
                        |route| matches!(route, Route::GroupCoordinator(g) if g == group),
                    );
                }
            }
        }
    }

    pub(super) fn fail_waiting(&mut self, error: &KafkaError, fails: impl Fn(&Route) -> bool) {
        for waiting in core::mem::take(&mut self.waiting) {
            if fails(&waiting.route) {
                self.failed.push_back((waiting.tag, error.clone()));
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Looks the coordinator up again before the next request to it.
    pub(crate) fn forget_coordinator(&mut self, group: &Str) {
        if matches!(self.coordinators.get(group), Some(Coordinator::Known(_))) {
            self.coordinators.remove(group);
        }
    }
}

/// The node that an answer names; from version 4 on it is in a list.
fn coordinator_in(response: FindCoordinatorResponse) -> Result<i32, KafkaError> {
    let (error, node) = match response.coordinators.first() {
        Some(coordinator) => (coordinator.error_code, coordinator.node_id),
        None => (response.error_code, response.node_id),
    };
    if error == ErrorCode::NONE {
        Ok(node)
    } else {
        Err(error.into())
    }
}
