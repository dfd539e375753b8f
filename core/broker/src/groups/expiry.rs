//! Offsets that nobody needs any more are forgotten, and groups that hold nothing any more.

use alloc::vec::Vec;
use ottla_protocol::Str;
use ottla_record::Now;

use super::{
    GroupCoordinator,
    deletion::tombstones,
    group::{CONSUMER, Group, GroupState},
    offsets::CommittedOffset,
    outbox::AfterCommit,
};

impl GroupCoordinator {
    /// Looks through all groups, every `offsets.retention.check.interval.ms`.
    pub(super) fn expire_offsets(&mut self, now: Now) {
        let retention_ms = self.out.config.offsets_retention_ms;
        let mut ended: Vec<Str> = Vec::new();
        for group in self.groups.values_mut() {
            let keys = expired(group, now.wall_ms, retention_ms);
            let offsets: usize = group.offsets.iter().map(|(_, p)| p.len()).sum();
            if group.is_vacant()
                || group.state() == GroupState::Empty
                    && group.pending_members.is_empty()
                    && keys.len() == offsets
                    && !group.offsets.has_writes_under_way()
                    && !group.offsets.has_pending()
            {
                ended.push(group.id.clone());
            } else if !keys.is_empty() {
                let tombstones = tombstones(group, &keys);
                let then = AfterCommit::DeleteOffsets { keys, answer: None };
                self.out.write(group, tombstones, then);
            }
        }
        for id in &ended {
            let in_log = self
                .groups
                .get(id)
                .is_some_and(|g| g.persisted || !g.offsets.is_empty());
            if in_log {
                self.begin_deletion(id, None);
            } else {
                self.forget(id);
            }
        }
    }
}

/// Partitions whose offset has expired. An offset that is about to be committed anew, be it by an open transaction, has not.
fn expired(group: &Group, now_ms: i64, retention_ms: i64) -> Vec<(Str, i32)> {
    let mut keys = Vec::new();
    for (topic, partitions) in group.offsets.iter() {
        for (partition, offset) in partitions {
            if !group.offsets.is_under_way(topic, *partition)
                && !group.offsets.is_pending(topic, *partition)
                && is_expired(group, topic, offset, now_ms, retention_ms)
            {
                keys.push((topic.clone(), *partition));
            }
        }
    }
    keys
}

/// Retention counts from when the group became empty; in a group of consumers with members, from the commit, for topics
/// they no longer subscribe to; without members ever, from the commit. A commit that brought its own time is held to it.
fn is_expired(
    group: &Group,
    topic: &Str,
    offset: &CommittedOffset,
    now_ms: i64,
    retention_ms: i64,
) -> bool {
    let since_ms = match (&group.protocol_type, group.state()) {
        // Kafka counts from the commit in a consumer group, also when it is empty.
        _ if group.consumer.is_some() => {
            if group.is_subscribed(topic) {
                return false;
            }
            offset.commit_timestamp
        }
        (None, _) => offset.commit_timestamp,
        (Some(_), GroupState::Empty) if group.state_since_ms >= 0 => group.state_since_ms,
        (Some(_), GroupState::Empty) => offset.commit_timestamp,
        (Some(kind), GroupState::Stable) if *kind == CONSUMER && !group.is_subscribed(topic) => {
            offset.commit_timestamp
        }
        _ => return false,
    };
    match offset.expire_timestamp {
        Some(at) => now_ms >= at,
        None => now_ms.saturating_sub(since_ms) >= retention_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request, subscription};
    use super::*;
    use crate::groups::GroupConfig;
    use ottla_protocol::messages::{
        join_group::JoinGroupRequestProtocol,
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
    };

    const DAY_MS: u64 = 24 * 3_600_000;
    const TEN_MINUTES_MS: u64 = 600_000;

    #[test]
    fn offsets_of_a_client_without_a_group() {
        let mut h = Harness::new(config());
        h.commit("g", -1, &Str::new(), "t", 1, "");
        h.advance(DAY_MS);
        h.commit("g", -1, &Str::new(), "u", 1, "");
        h.advance(6 * DAY_MS - TEN_MINUTES_MS);
        assert_eq!(h.offset("g", "t"), Some(1));
        h.advance(2 * TEN_MINUTES_MS);
        assert_eq!((h.offset("g", "t"), h.offset("g", "u")), (None, Some(1)));
        h.advance(DAY_MS);
        assert_eq!(h.state("g"), GroupState::Dead);
        h.restart();
        assert_eq!(h.state("g"), GroupState::Dead);
        assert_eq!(
            h.coordinator.poll_timeout(),
            None,
            "no group, nothing to look at"
        );
    }

    #[test]
    fn a_group_keeps_its_offsets_until_it_was_empty_for_long() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 1);
        h.commit("g", generation, &ids[0], "t", 1, "");
        for _ in 0..(8 * DAY_MS / 9_000) {
            h.advance(9_000);
            h.heartbeat("g", generation, &ids[0]);
        }
        assert_eq!(h.offset("g", "t"), Some(1), "it is subscribed");
        h.leave("g", &[(&ids[0], None)]);
        h.advance(6 * DAY_MS);
        h.restart();
        assert_eq!(
            h.offset("g", "t"),
            Some(1),
            "how long it is empty survives a restart"
        );
        h.advance(DAY_MS + TEN_MINUTES_MS);
        assert_eq!(h.state("g"), GroupState::Dead);
    }

    #[test]
    fn consumers_lose_offsets_of_topics_they_no_longer_read() {
        let mut h = Harness::new(GroupConfig {
            offsets_retention_ms: DAY_MS as i64,
            ..config()
        });
        let (generation, ids) = h.stable("g", 1);
        h.commit("g", generation, &ids[0], "t", 1, "");
        h.commit("g", generation, &ids[0], "other", 1, "");
        for _ in 0..(DAY_MS / 9_000 + TEN_MINUTES_MS / 9_000 + 1) {
            h.advance(9_000);
            h.heartbeat("g", generation, &ids[0]);
        }
        assert_eq!(
            (h.offset("g", "t"), h.offset("g", "other")),
            (Some(1), None)
        );
        // With another subscription it is the other way round.
        let mut request = join_request("g", &ids[0]);
        request.protocols = alloc::vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: subscription("other"),
        }];
        let generation = h.join_now(JOIN, request).generation_id;
        h.sync("g", generation, &ids[0], &[]);
        for _ in 0..(TEN_MINUTES_MS / 9_000 + 1) {
            h.advance(9_000);
            h.heartbeat("g", generation, &ids[0]);
        }
        assert_eq!(h.offset("g", "t"), None);
    }

    #[test]
    fn a_commit_may_bring_its_own_retention() {
        let mut h = Harness::new(config());
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            retention_time_ms: DAY_MS as i64,
            topics: alloc::vec![OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: alloc::vec![OffsetCommitRequestPartition::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        h.request(4, |c, now, context| {
            c.commit(now, context, &request, |t, _| Ok(t.name.clone()));
        });
        h.restart();
        h.advance(DAY_MS - TEN_MINUTES_MS);
        assert!(h.offset("g", "t").is_some());
        h.advance(2 * TEN_MINUTES_MS);
        assert!(h.offset("g", "t").is_none());
    }

    #[test]
    fn an_offset_that_is_being_committed_anew_stays() {
        let mut h = Harness::new(config());
        h.commit("g", -1, &Str::new(), "t", 1, "");
        h.advance(7 * DAY_MS - 1);
        h.hold = true;
        h.commit("g", -1, &Str::new(), "t", 2, "");
        h.advance(2 * TEN_MINUTES_MS);
        h.finish_appends();
        assert_eq!(h.offset("g", "t"), Some(2));
    }
}
