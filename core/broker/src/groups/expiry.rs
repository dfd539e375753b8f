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

/// Partitions whose offset has expired. An offset that is about to be committed anew has not.
fn expired(group: &Group, now_ms: i64, retention_ms: i64) -> Vec<(Str, i32)> {
    let mut keys = Vec::new();
    for (topic, partitions) in group.offsets.iter() {
        for (partition, offset) in partitions {
            if !group.offsets.is_under_way(topic, *partition)
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
