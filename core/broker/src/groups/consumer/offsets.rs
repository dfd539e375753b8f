//! Whether a member of a consumer group may commit or fetch offsets.

use alloc::collections::BTreeMap;
use ottla_protocol::{ErrorCode, Str, Uuid};

use super::state::{ConsumerGroup, Owned};

/// The first `OffsetCommit` whose clients know of member epochs.
const EPOCH_SINCE: i16 = 9;

/// What a member may commit.
#[derive(Debug)]
pub(in crate::groups) enum MayCommit {
    Everything,
    /// Its epoch is old: only what it has had since then or before (KIP-1251). By topic id.
    Since(i32, BTreeMap<Uuid, BTreeMap<i32, i32>>),
}

impl MayCommit {
    /// Whether the partition may be committed: STALE_MEMBER_EPOCH.
    pub fn check(&self, topic: Option<Uuid>, partition: i32) -> Result<(), ErrorCode> {
        let Self::Since(epoch, assigned) = self else {
            return Ok(());
        };
        let got = topic.and_then(|t| assigned.get(&t)?.get(&partition));
        match got {
            Some(since) if since <= epoch => Ok(()),
            _ => Err(ErrorCode::STALE_MEMBER_EPOCH),
        }
    }
}

/// Whether a member may commit offsets. Without members everybody may who names no epoch.
pub(in crate::groups) fn may_commit(
    group: &ConsumerGroup,
    version: i16,
    member_id: &Str,
    epoch: i32,
) -> Result<MayCommit, ErrorCode> {
    if epoch < 0 && group.members().len() == 0 {
        return Ok(MayCommit::Everything);
    }
    let member = group
        .member(member_id)
        .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    if member.classic.is_some() {
        return if epoch == member.epoch {
            Ok(MayCommit::Everything)
        } else {
            Err(ErrorCode::ILLEGAL_GENERATION)
        };
    }
    if version < EPOCH_SINCE {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    if epoch == member.epoch {
        Ok(MayCommit::Everything)
    } else if epoch < 0 || epoch > member.epoch {
        Err(ErrorCode::STALE_MEMBER_EPOCH)
    } else {
        let mut assigned: Owned = member.assigned.clone();
        for (topic, partitions) in &member.pending_revocation {
            assigned.entry(*topic).or_default().extend(partitions);
        }
        Ok(MayCommit::Since(epoch, assigned))
    }
}

/// Whether offsets may be fetched; who names no member may.
pub(in crate::groups) fn may_fetch(
    group: &ConsumerGroup,
    member_id: Option<&Str>,
    epoch: i32,
) -> Result<(), ErrorCode> {
    if epoch < 0 && member_id.is_none_or(|id| id.is_empty()) {
        return Ok(());
    }
    let member = member_id
        .and_then(|id| group.member(id))
        .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    match (epoch == member.epoch, &member.classic) {
        (true, _) => Ok(()),
        (false, Some(_)) => Err(ErrorCode::ILLEGAL_GENERATION),
        (false, None) => Err(ErrorCode::STALE_MEMBER_EPOCH),
    }
}
