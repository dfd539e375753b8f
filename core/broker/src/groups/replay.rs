//! Start-up: the groups as the records of `__consumer_offsets` tell of them.

use alloc::vec::Vec;
use ottla_protocol::Str;
use ottla_record::Now;

use super::{
    GroupCoordinator, ReplayedRecord,
    group::{Group, GroupState},
    rebalance::prepare,
    records::{self, GroupRecord, StoredGroup},
};

impl GroupCoordinator {
    /// One record of `__consumer_offsets`, in offset order per partition; only while the broker opens. A record that
    /// can't be read is skipped (its type may be newer than this version).
    pub fn replay(&mut self, record: ReplayedRecord<'_>) {
        match records::parse(record.key, record.value) {
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
                if let Some(present) = self.groups.get_mut(&group) {
                    let offsets = core::mem::take(&mut present.offsets);
                    *present = Group::new(group, present.incarnation);
                    present.offsets = offsets;
                }
            }
            None => {}
        }
    }

    /// All records were replayed: sessions of the loaded members start now. A group that is larger than
    /// `group.max.size` allows now rebalances.
    pub fn replay_finished(&mut self, now: Now) {
        self.groups
            .retain(|_, group| group.persisted || !group.is_vacant());
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(&id, |group, out| {
                group.members_mut().for_each(|m| m.heard_of(now));
                let max_size = out.config.max_size.max(0) as usize;
                if group.state() == GroupState::Stable && group.members().len() > max_size {
                    prepare(group, out, now);
                }
            });
        }
        self.start_expiry(now);
    }

    fn replayed_group(&mut self, id: &Str) -> &mut Group {
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
    *group = Group::new(group.id.clone(), group.incarnation);
    group.offsets = offsets;
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
