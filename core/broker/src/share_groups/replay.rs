//! Start-up: share groups as the records of `__consumer_offsets` tell of them.

use alloc::vec::Vec;

use ottla_protocol::{Str, Uuid};
use ottla_record::Now;

use super::{
    ShareGroupOutput, ShareGroups,
    group::{ShareGroup, ShareMember},
    records::{self, ShareGroupRecord},
};
use crate::share_partitions::{ShareConfig, ShareKey};

impl ShareGroups {
    /// One record of `__consumer_offsets`, in offset order per partition; only while the broker opens. Whether it was one of a
    /// share group.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> bool {
        let Some(record) = records::parse(key, value) else {
            return false;
        };
        match record {
            ShareGroupRecord::Member(group, id, Some(value)) => {
                let member = self.replayed_member(group, id);
                member.rack_id = value.rack_id;
                member.client_id = value.client_id;
                member.client_host = value.client_host;
                member.topics = value.subscribed_topic_names.into_iter().collect();
            }
            ShareGroupRecord::Member(group, id, None) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.members.remove(&id);
                }
            }
            ShareGroupRecord::Epoch(group, Some(value)) => {
                let group = self.replayed(group);
                group.epoch = value.epoch;
                group.metadata_hash = value.metadata_hash;
            }
            ShareGroupRecord::Epoch(group, None) => {
                self.groups.remove(&group);
            }
            ShareGroupRecord::TargetEpoch(group, Some(epoch)) => {
                self.replayed(group).target_epoch = epoch;
            }
            ShareGroupRecord::TargetEpoch(group, None) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.target_epoch = 0;
                }
            }
            ShareGroupRecord::TargetMember(group, id, Some(assignment)) => {
                self.replayed(group).target.insert(id, assignment);
            }
            ShareGroupRecord::TargetMember(group, id, None) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.target.remove(&id);
                }
            }
            ShareGroupRecord::CurrentMember(group, id, Some((epoch, previous, assigned))) => {
                let member = self.replayed_member(group, id);
                member.epoch = epoch;
                member.previous_epoch = previous;
                member.assigned = assigned;
            }
            ShareGroupRecord::CurrentMember(group, id, None) => {
                if let Some(group) = self.groups.get_mut(&group)
                    && let Some(member) = group.members.get_mut(&id)
                {
                    *member = ShareMember {
                        epoch: 0,
                        previous_epoch: -1,
                        assigned: Default::default(),
                        ..member.clone()
                    };
                }
            }
            ShareGroupRecord::StatePartitions(group, Some(known)) => {
                self.replayed(group).known = known;
            }
            ShareGroupRecord::StatePartitions(group, None) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.known.clear();
                }
            }
        }
        true
    }

    /// All records were replayed: sessions of the loaded members start now, topics that are gone are forgotten, and partitions
    /// that a group knows of but has no state of (it was not on disk when the power went) get one.
    pub fn replay_finished(
        &mut self,
        now: Now,
        config: &ShareConfig,
        topic_exists: impl Fn(&Uuid) -> bool,
        has_state: impl Fn(&ShareKey) -> bool,
    ) {
        // Compaction may leave a group's last tombstone: a group has an epoch.
        self.groups.retain(|_, group| group.epoch > 0);
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        let mut gone: Vec<Uuid> = Vec::new();
        for id in ids {
            let settings = self.settings_of(&id, config);
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            for member in group.members.values_mut() {
                member.session_ends_us = now.after_ms(settings.session_timeout_ms.into());
            }
            let epoch = group.epoch;
            for (topic_id, known) in &group.known {
                if !topic_exists(topic_id) {
                    gone.push(*topic_id);
                    continue;
                }
                let missing = known.partitions.iter().copied().filter(|partition| {
                    !has_state(&ShareKey {
                        group: id.clone(),
                        topic_id: *topic_id,
                        partition: *partition,
                    })
                });
                let partitions: Vec<i32> = missing.collect();
                if !partitions.is_empty() {
                    self.outputs.push_back(ShareGroupOutput::Initialize {
                        group: id.clone(),
                        topic_id: *topic_id,
                        partitions,
                        state_epoch: epoch,
                    });
                }
            }
            self.arm(&id);
        }
        for id in gone {
            self.handle_topic_deleted(id);
        }
    }

    fn replayed(&mut self, id: Str) -> &mut ShareGroup {
        self.groups
            .entry(id.clone())
            .or_insert_with(|| ShareGroup::new(id))
    }

    fn replayed_member(&mut self, group: Str, id: Str) -> &mut ShareMember {
        self.replayed(group)
            .members
            .entry(id.clone())
            .or_insert_with(|| ShareMember::new(id))
    }
}
