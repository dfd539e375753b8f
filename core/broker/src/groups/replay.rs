//! Start-up: the groups as the records of `__consumer_offsets` tell of them.

use alloc::{collections::BTreeSet, vec::Vec};
use ottla_protocol::{Str, Uuid};
use ottla_record::Now;

use super::{
    GroupCoordinator, consumer,
    group::{Group, GroupState, Replayed},
    rebalance::prepare,
    records::{self, GroupRecord, StoredGroup},
};

impl GroupCoordinator {
    /// One record of `__consumer_offsets` (without a value, it is a tombstone), in offset order per partition; only
    /// while the broker opens. A record that can't be read is skipped: its type may be newer than this version.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) {
        match records::parse(key, value) {
            Some(GroupRecord::Offset {
                group,
                topic,
                partition,
                offset: Some(offset),
            }) => {
                self.replayed_group(&group)
                    .offsets
                    .set(&topic, partition, offset);
            }
            Some(GroupRecord::Offset {
                group,
                topic,
                partition,
                offset: None,
            }) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.offsets.remove(&topic, partition);
                }
            }
            Some(GroupRecord::Group {
                group,
                stored: Some(stored),
            }) => {
                let present = self.replayed_group(&group);
                restore(present, stored);
            }
            Some(GroupRecord::Group {
                group,
                stored: None,
            }) => {
                // The tombstone with which a classic group became a consumer group.
                if let Some(present) = self.groups.get_mut(&group)
                    && present.consumer.is_none()
                {
                    let offsets = core::mem::take(&mut present.offsets);
                    *present = Group::new(group, present.incarnation);
                    present.offsets = offsets;
                }
            }
            Some(GroupRecord::Consumer { group, stored }) => self.replay_consumer(&group, stored),
            None => {}
        }
    }

    /// All records were replayed: sessions of the loaded members start now. A group that is larger than
    /// `group.max.size` allows now rebalances, as does one that
    /// was a consumer group and ended before it did. Offsets of topics that are gone go too: the broker may have ended between
    /// the deletion of a topic and that of its offsets.
    pub fn replay_finished(&mut self, now: Now, topic_exists: impl Fn(&str) -> bool) {
        let groups = self.groups.values();
        let topics = groups.flat_map(|g| g.offsets.keys().into_iter().map(|(topic, _)| topic));
        let gone: BTreeSet<Str> = topics.filter(|t| !topic_exists(t)).collect();
        for topic in &gone {
            self.handle_topic_deleted(now, topic, Uuid::ZERO);
        }
        self.groups
            .retain(|_, group| group.persisted || !group.is_vacant());
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(&id, |group, out| {
                if let Some(consumer) = group.consumer.as_deref_mut() {
                    let timeout_ms = out.session_timeout_ms(&group.id);
                    consumer::replay_finished(consumer, timeout_ms, now);
                    return;
                }
                group.members_mut().for_each(|m| m.heard_of(now));
                let max_size = out.config.max_size.max(0) as usize;
                // What members of the newer protocol had, who have gone, is nobody's yet.
                let unfinished = group.replayed == Replayed::MustRebalance;
                group.replayed = Replayed::AsWritten;
                if group.state() == GroupState::Stable
                    && (unfinished || group.members().len() > max_size)
                {
                    prepare(group, out, now);
                }
            });
        }
        self.start_expiry(now);
    }

    pub(super) fn replayed_group(&mut self, id: &Str) -> &mut Group {
        if !self.groups.contains_key(id) {
            self.insert_new(id);
        }
        // It was put in just now, if it wasn't there.
        self.groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(id.clone(), 0))
    }
}

/// Puts the stored membership in the place of the present one. Only what the chosen protocol needs was stored.
fn restore(group: &mut Group, stored: StoredGroup) {
    let offsets = core::mem::take(&mut group.offsets);
    // One that was begun anew, without members, counts from one.
    let goes_on =
        matches!(group.replayed, Replayed::WasConsumer(epoch) if stored.generation >= epoch);
    *group = Group::new(group.id.clone(), group.incarnation);
    group.offsets = offsets;
    if goes_on {
        group.replayed = Replayed::MustRebalance;
    }
    for member in stored.members {
        group.add(member, &stored.protocol_type);
    }
    group.protocol_type = Some(stored.protocol_type).filter(|t| !t.is_empty());
    group.protocol = stored.protocol;
    // A leader that is not among the members would never hand in an assignment.
    if let Some(leader) = stored.leader.filter(|id| group.member(id).is_some()) {
        group.leader = Some(leader);
    }
    group.restore(stored.generation, stored.state_since_ms);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request};
    use super::*;
    use crate::groups::GroupConfig;
    use bytes::Bytes;
    use ottla_protocol::ErrorCode;

    #[test]
    fn a_stable_group_is_there_again() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 3);
        h.commit("g", generation, &ids[1], "t", 42, "note");
        h.advance(5_000);
        h.restart();
        assert_eq!(
            (h.state("g"), h.generation("g")),
            (GroupState::Stable, generation)
        );
        for id in &ids {
            assert_eq!(h.heartbeat("g", generation, id), ErrorCode::NONE);
            let sync = h.sync("g", generation, id, &[]);
            assert_eq!(
                h.synced(sync).unwrap().assignment,
                Bytes::from_static(b"mine")
            );
        }
        assert_eq!(h.offset("g", "t"), Some(42));
        let again = h.join_now(JOIN, join_request("g", &ids[1]));
        assert_eq!((again.generation_id, &again.leader), (generation, &ids[0]));
    }

    #[test]
    fn sessions_start_anew() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 1);
        h.advance(9_000);
        h.restart();
        h.advance(9_000);
        assert_eq!(h.heartbeat("g", generation, &ids[0]), ErrorCode::NONE);
        h.restart();
        h.advance(10_000);
        assert_eq!(h.state("g"), GroupState::Empty);
    }

    #[test]
    fn an_unfinished_rebalance_is_forgotten() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 1);
        h.join(JOIN, join_request("g", &ids[0]));
        assert_eq!(h.generation("g"), generation + 1);
        h.restart();
        assert_eq!(
            (h.state("g"), h.generation("g")),
            (GroupState::Stable, generation)
        );
        let error = h.heartbeat("g", generation + 1, &ids[0]);
        assert_eq!(error, ErrorCode::ILLEGAL_GENERATION, "so it joins again");
    }

    #[test]
    fn a_group_that_is_too_large_by_now_rebalances() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 3);
        let records = core::mem::take(&mut h.log);
        let mut h = Harness::new(GroupConfig {
            max_size: 2,
            ..config()
        });
        h.log = records;
        h.restart();
        let rejoin = h.heartbeat("g", generation, &ids[0]);
        assert_eq!(rejoin, ErrorCode::REBALANCE_IN_PROGRESS);
        let joins = [0, 1].map(|i| h.join(JOIN, join_request("g", &ids[i])));
        let third = h.join_now(JOIN, join_request("g", &ids[2]));
        assert_eq!(third.error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
        for join in joins {
            assert_eq!(h.joined(join).unwrap().error_code, ErrorCode::NONE);
        }
    }

    #[test]
    fn offsets_of_topics_that_are_gone_are_deleted() {
        let mut h = Harness::new(config());
        for topic in ["t", "u"] {
            h.commit("g", -1, &Str::new(), topic, 1, "");
        }
        let records = h.log.len();
        h.existing = Some("u");
        h.restart();
        assert_eq!((h.offset("g", "t"), h.offset("g", "u")), (None, Some(1)));
        assert_eq!(h.log.len(), records + 1, "with a tombstone");
        h.existing = None;
        h.restart();
        assert_eq!(h.offset("g", "t"), None);
    }

    #[test]
    fn records_of_other_kinds_are_skipped() {
        let mut h = Harness::new(config());
        for key in [&b"\0\x03\0\x01g"[..], b"", b"\0", b"\0\x02\0\x09g"] {
            h.coordinator.replay(key, Some(b"\0\0"));
        }
        h.coordinator.replay_finished(h.now, |_| true);
        assert_eq!(h.coordinator.groups.len(), 0);
    }
}
