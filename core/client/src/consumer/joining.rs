//! Joining a classic group: JoinGroup, the leader's sharing out, SyncGroup.

use super::assignors::{Assignor, MemberSubscription};
use super::failures::{coordinator_lost, unexpected};
use super::group_messages;
use super::machine::{Cluster, Consumer, Purpose, To};
use super::membership::{Phase, Then, counts};
use super::offset::{self};
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use ottla_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use ottla_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_protocol::{ErrorCode, Request, Response, Str};
use ottla_record::Now;

/// How long the leader waits for metadata of topics that only others subscribe to.
const LEADER_METADATA_MS: i64 = 5_000;
/// An answer to a JoinGroup may come so much later than the rebalance timeout.
const JOIN_GRACE_MS: i32 = 5_000;

impl Consumer {
    /// Patterns mean nothing before the first metadata.
    pub(super) fn can_name_topics(&self) -> bool {
        !self.subscription.has_patterns() || self.cluster_version.is_some_and(|version| version > 0)
    }

    pub(super) fn send_join(&mut self, cluster: &dyn Cluster) {
        let names = if self.subscription.has_patterns() {
            cluster.topic_names()
        } else {
            Vec::new()
        };
        let topics = self.subscription.topics(names.iter());
        let Some(membership) = &mut self.membership else {
            return;
        };
        membership.rejoin = false;
        membership.joined_topics = topics.clone();
        let protocols = self
            .config
            .partition_assignment_strategy
            .iter()
            .map(|assignor| {
                let owned = match assignor.is_cooperative() {
                    true => self.partitions.keys().cloned().collect(),
                    false => BTreeSet::new(),
                };
                let subscription = MemberSubscription {
                    topics: topics.clone(),
                    owned,
                    generation: membership.generation,
                    ..Default::default()
                };
                JoinGroupRequestProtocol {
                    name: Str::from_static(assignor.name()),
                    metadata: group_messages::encode_subscription(
                        *assignor,
                        &subscription,
                        &self.config.client_rack,
                    ),
                }
            });
        let request = Request::JoinGroup(JoinGroupRequest {
            group_id: membership.group.clone(),
            session_timeout_ms: self.config.session_timeout_ms,
            rebalance_timeout_ms: self.config.max_poll_interval_ms,
            member_id: membership.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: self.config.group_protocol_type.clone(),
            protocols: protocols.collect(),
            ..Default::default()
        });
        let timeout = self
            .config
            .max_poll_interval_ms
            .saturating_add(JOIN_GRACE_MS);
        let token = self.send(To::Coordinator, request, timeout, Purpose::Join);
        self.set_phase(Phase::Joining(token));
    }

    /// JoinGroup's answer.
    pub(super) fn joined(&mut self, now: Now, token: u64, reply: Result<Response, KafkaError>) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        if !matches!(membership.phase, Phase::Joining(t) if t == token) {
            return;
        }
        let response = match reply {
            Ok(Response::JoinGroup(response)) => response,
            Ok(other) => return self.join_failed(now, unexpected(&other)),
            Err(error) => return self.join_failed(now, error),
        };
        match response.error_code {
            ErrorCode::NONE => {}
            ErrorCode::MEMBER_ID_REQUIRED => {
                membership.member_id = response.member_id;
                return self.set_phase(Phase::Waiting(now.mono_us));
            }
            error => return self.join_failed(now, KafkaError::from(error)),
        }
        let JoinGroupResponse {
            generation_id,
            member_id,
            leader,
            protocol_name,
            members,
            ..
        } = response;
        let assignor = protocol_name
            .as_ref()
            .and_then(|name| Assignor::from_name(name));
        let Some(assignor) = assignor else {
            return self.join_failed(now, KafkaError::from(ErrCode::UNKNOWN_PROTOCOL));
        };
        membership.is_leader = leader == member_id;
        membership.leader_id = leader;
        membership.member_id = member_id;
        membership.generation = generation_id;
        membership.assignor = Some(assignor);
        membership.lost = false;
        membership.last_heard = now.mono_us;
        membership.next_heartbeat = now.after_ms(i64::from(self.config.heartbeat_interval_ms));
        if !membership.is_leader {
            return self.send_sync(Vec::new());
        }
        let mut subscriptions = Vec::with_capacity(members.len());
        for member in members {
            let read = group_messages::decode_subscription(assignor, &member.metadata);
            let Some(read) = read else {
                let text = format!(
                    "member {} of the group has a subscription that can't be read",
                    member.member_id
                );
                return self.join_failed(now, KafkaError::new(ErrCode::BAD_MSG, text));
            };
            subscriptions.push(MemberSubscription {
                member_id: member.member_id,
                instance_id: member.group_instance_id,
                ..read
            });
        }
        let topics: BTreeSet<Str> = subscriptions
            .iter()
            .flat_map(|s| s.topics.iter().cloned())
            .collect();
        membership.group_topics = topics.clone();
        let also: Vec<Str> = topics.into_iter().collect();
        self.set_phase(Phase::AwaitingTopics(
            subscriptions,
            now.after_ms(LEADER_METADATA_MS),
        ));
        self.want_topics(&also, false);
    }

    pub(super) fn join_failed(&mut self, now: Now, error: KafkaError) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        let mut wait = i64::from(self.config.retry_backoff_ms);
        if error.code == ErrCode::FENCED_INSTANCE_ID {
            return self.fenced(now, error);
        }
        if coordinator_lost(&error) {
            self.forget_coordinator();
        } else if error.code == ErrCode::UNKNOWN_MEMBER_ID {
            membership.member_id = Str::new();
            membership.generation = -1;
            wait = 0;
        } else if error.code == ErrCode::ILLEGAL_GENERATION {
            membership.generation = -1;
            wait = 0;
        } else if error.code == ErrCode::REBALANCE_IN_PROGRESS {
            wait = 0;
        } else if !error.retriable {
            wait = 1_000;
            let text = format!("joining the group failed: {}", error.message);
            self.error(None, offset::INVALID, KafkaError::new(error.code, text));
        }
        // A cooperative member still holds partitions; without a generation it has lost them.
        let lost = self.generation() == -1 && !self.partitions.is_empty();
        self.set_phase(Phase::Waiting(now.after_ms(wait)));
        if lost {
            self.lose(now, false);
        }
    }

    /// The leader's work: what every member gets.
    pub(super) fn share_out(&mut self, members: &[MemberSubscription], cluster: &dyn Cluster) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        let Some(assignor) = membership.assignor else {
            return;
        };
        membership.shared_out = counts(&membership.group_topics, cluster);
        let assignment = assignor.assign(members, &membership.shared_out);
        let assignments =
            assignment
                .into_iter()
                .map(|(member_id, partitions)| SyncGroupRequestAssignment {
                    member_id,
                    assignment: group_messages::encode_assignment(&partitions),
                });
        self.send_sync(assignments.collect());
    }

    pub(super) fn send_sync(&mut self, assignments: Vec<SyncGroupRequestAssignment>) {
        let Some(membership) = &self.membership else {
            return;
        };
        let request = Request::SyncGroup(SyncGroupRequest {
            group_id: membership.group.clone(),
            generation_id: membership.generation,
            member_id: membership.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: Some(self.config.group_protocol_type.clone()),
            protocol_name: membership
                .assignor
                .map(|assignor| Str::from_static(assignor.name())),
            assignments,
        });
        let timeout = self
            .config
            .max_poll_interval_ms
            .saturating_add(JOIN_GRACE_MS);
        let token = self.send(To::Coordinator, request, timeout, Purpose::Sync);
        self.set_phase(Phase::Syncing(token));
    }

    /// SyncGroup's answer: what this member gets.
    pub(super) fn synced(&mut self, now: Now, token: u64, reply: Result<Response, KafkaError>) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        if !matches!(membership.phase, Phase::Syncing(t) if t == token) {
            return;
        }
        let response = match reply {
            Ok(Response::SyncGroup(response)) => response,
            Ok(other) => return self.join_failed(now, unexpected(&other)),
            Err(error) => return self.join_failed(now, error),
        };
        if response.error_code != ErrorCode::NONE {
            return self.join_failed(now, KafkaError::from(response.error_code));
        }
        let Some(assigned) = group_messages::decode_assignment(&response.assignment) else {
            let text = "the assignment that the group's leader sent can't be read";
            return self.join_failed(now, KafkaError::new(ErrCode::BAD_MSG, text));
        };
        membership.last_heard = now.mono_us;
        let added: Vec<_> = assigned
            .iter()
            .filter(|key| !self.partitions.contains_key(*key))
            .cloned()
            .collect();
        let revoked: Vec<_> = self
            .partitions
            .keys()
            .filter(|key| !assigned.contains(*key))
            .cloned()
            .collect();
        if revoked.is_empty() {
            self.take_on(now, added);
        } else {
            self.revoke(now, Some(revoked), Then::Assign(added), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Rig;
    use super::*;
    use crate::consumer::RebalanceKind;
    use std::string::ToString;

    #[test]
    fn joins_with_the_member_id_it_is_given() {
        let mut rig = Rig::new(|_| {});
        rig.consumer.subscribe(rig.now, &["a".into()]).unwrap();
        let (token, join) = rig.take(|r| {
            if let Request::JoinGroup(j) = r {
                Some(j.clone())
            } else {
                None
            }
        });
        assert_eq!(join.member_id, "");
        let names: Vec<_> = join.protocols.iter().map(|p| p.name.to_string()).collect();
        assert_eq!(names, ["range", "roundrobin"]);
        let required = JoinGroupResponse {
            error_code: ErrorCode::MEMBER_ID_REQUIRED,
            member_id: "me".into(),
            ..Default::default()
        };
        rig.reply(token, Ok(Response::JoinGroup(required)));
        assert_eq!(rig.joins(1, true, "range").member_id, "me");
        let sync = rig.syncs(None);
        assert_eq!((sync.generation_id, sync.assignments.len()), (1, 1));
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 4)));
        assert_eq!(rig.committed(7).len(), 4);
        assert!(rig.fetch().1.contains(&("a".into(), 1, 7)));
        assert_eq!(
            (
                rig.consumer.member_id().to_string(),
                rig.consumer.generation()
            ),
            ("me".to_string(), 1)
        );
        assert_eq!(rig.consumer.rebalance_protocol(), "EAGER");
    }

    #[test]
    fn a_failed_join_is_tried_again() {
        let mut rig = Rig::new(|_| {});
        rig.consumer.subscribe(rig.now, &["a".into()]).unwrap();
        let (token, ()) = rig.take(|r| {
            if let Request::JoinGroup(_) = r {
                Some(())
            } else {
                None
            }
        });
        rig.reply(token, Err(KafkaError::from(ErrCode::TRANSPORT)));
        assert_eq!((rig.waiting().as_str(), rig.forgotten), ("", 1));
        assert_eq!(rig.run(100).waiting(), "JoinGroup");
    }
}
