//! Start-up: a consumer group as its records tell of it.

use ottla_protocol::Str;
use ottla_record::Now;

use super::{
    records::{RecordKey, Stored},
    state::{ClassicWait, ConsumerGroup, Member, MemberState, Owned},
};
use crate::groups::{
    GroupCoordinator,
    group::{Group, Replayed},
};

impl GroupCoordinator {
    /// One record, in the order of the log. A value makes the group a consumer group: the latest record tells of which kind
    /// a group is.
    pub(in crate::groups) fn replay_consumer(&mut self, id: &Str, stored: Stored) {
        let is_value = match &stored {
            Stored::Epoch(v) | Stored::TargetEpoch(v) => v.is_some(),
            Stored::PartitionMetadata(v) => *v,
            Stored::Member(_, v) => v.is_some(),
            Stored::Target(_, v) => v.is_some(),
            Stored::Current(_, v) => v.is_some(),
            Stored::Regex(_, v) => v.is_some(),
        };
        if is_value {
            let group = self.replayed_group(id);
            if group.consumer.is_none() {
                group.begin_consumer(alloc::boxed::Box::default());
            }
            group.persisted = true;
        }
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let Some(consumer) = group.consumer.as_deref_mut() else {
            return;
        };
        match stored {
            Stored::Epoch(Some((epoch, hash))) => {
                consumer.epoch = epoch;
                consumer.metadata_hash = hash;
            }
            Stored::Epoch(None) => {
                let epoch = consumer.epoch;
                let offsets = core::mem::take(&mut group.offsets);
                *group = Group::new(group.id.clone(), group.incarnation);
                group.offsets = offsets;
                group.replayed = Replayed::WasConsumer(epoch);
            }
            Stored::PartitionMetadata(there) => consumer.has_partition_metadata = there,
            Stored::Member(member_id, Some(read)) => {
                let before = consumer.take(&member_id);
                let before = before.unwrap_or_else(|| Member::new(member_id));
                consumer.put(Member {
                    epoch: before.epoch,
                    previous_epoch: before.previous_epoch,
                    state: before.state,
                    assigned: before.assigned,
                    pending_revocation: before.pending_revocation,
                    ..*read
                });
            }
            Stored::Member(member_id, None) => {
                consumer.take(&member_id);
            }
            Stored::TargetEpoch(value) => {
                let (epoch, timestamp_ms) = value.unwrap_or_default();
                consumer.assignment_epoch = epoch;
                consumer.assignment_timestamp_ms = timestamp_ms;
            }
            Stored::Target(member_id, Some(target)) => {
                consumer.target.insert(member_id, target);
            }
            Stored::Target(member_id, None) => {
                consumer.target.remove(&member_id);
            }
            Stored::Current(member_id, Some(current)) => {
                let before = consumer.take(&member_id);
                let before = before.unwrap_or_else(|| Member::new(member_id));
                consumer.put(Member {
                    epoch: current.epoch,
                    previous_epoch: current.previous_epoch,
                    state: current.state,
                    assigned: current.assigned,
                    pending_revocation: current.pending_revocation,
                    ..before
                });
            }
            // With it the member is there, but has nothing. Its other records go too.
            Stored::Current(member_id, None) => {
                if let Some(before) = consumer.take(&member_id) {
                    let Member { id, .. } = &before;
                    let fresh = Member::new(id.clone());
                    consumer.put(Member {
                        epoch: fresh.epoch,
                        previous_epoch: fresh.previous_epoch,
                        state: fresh.state,
                        assigned: fresh.assigned,
                        pending_revocation: fresh.pending_revocation,
                        ..before
                    });
                }
            }
            Stored::Regex(regex, Some(resolved)) => {
                consumer.regexes.insert(regex, resolved);
            }
            Stored::Regex(regex, None) => {
                consumer.regexes.remove(&regex);
            }
        }
    }
}

/// All records were replayed: sessions begin anew, as do the times in which members must give up what they are not to have.
/// Topics may have changed while the broker was away.
pub(in crate::groups) fn finished(consumer: &mut ConsumerGroup, session_timeout_ms: i32, now: Now) {
    consumer.topics_changed = true;
    // A target whose member is gone, of a log that was cut.
    let strangers: alloc::vec::Vec<Str> = consumer
        .target
        .keys()
        .filter(|id| consumer.member(id).is_none())
        .cloned()
        .collect();
    for id in strangers {
        consumer.target.remove(&id);
        consumer.unwritten.insert(RecordKey::Target(id));
    }
    // Two members with the same partition: the record of one of them was not written, and the partition is of the other.
    let disputed: alloc::vec::Vec<(Str, Owned, Owned)> = consumer
        .members()
        .filter_map(|m| {
            let of_it = |partitions: &Owned| -> Owned {
                let mut kept = partitions.clone();
                for (topic, partitions) in &mut kept {
                    partitions.retain(|p, _| consumer.owner(topic, *p) == Some(&m.id));
                }
                kept.retain(|_, partitions| !partitions.is_empty());
                kept
            };
            let (assigned, pending) = (of_it(&m.assigned), of_it(&m.pending_revocation));
            let same = assigned == m.assigned && pending == m.pending_revocation;
            (!same).then(|| (m.id.clone(), assigned, pending))
        })
        .collect();
    for (id, assigned, pending) in disputed {
        consumer.set_partitions(&id, assigned, pending);
        consumer.unwritten.insert(RecordKey::Current(id));
    }
    for member in consumer.members_mut() {
        member.heard_of(now, session_timeout_ms);
        let timeout_ms = i64::from(member.rebalance_timeout_ms.max(0));
        if member.classic.is_some() {
            member.classic_wait = None::<ClassicWait>;
        } else if member.state == MemberState::UnrevokedPartitions {
            member.revocation_ends_us = Some(now.after_ms(timeout_ms));
        }
    }
}
