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

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, GROUP};
    use super::*;
    use crate::groups::testing::{Harness, config};

    #[test]
    fn with_the_members_epoch() {
        let mut h = Harness::new(config());
        h.topic("t", 2);
        let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
        let commit = |h: &mut Harness, epoch, id: &str| {
            let commit = h.commit(GROUP, epoch, &id.into(), "t", 5, "");
            h.committed(commit).unwrap()
        };
        a.go(&mut h);
        assert_eq!(commit(&mut h, 2, "a"), ErrorCode::NONE);
        assert_eq!(commit(&mut h, 3, "a"), ErrorCode::STALE_MEMBER_EPOCH);
        assert_eq!(commit(&mut h, -1, ""), ErrorCode::UNKNOWN_MEMBER_ID);
        assert_eq!(commit(&mut h, 2, "x"), ErrorCode::UNKNOWN_MEMBER_ID);
        // A later epoch, but the partition is its own since the first one.
        b.go(&mut h);
        a.go(&mut h);
        a.go(&mut h);
        assert_eq!(a.epoch, 3);
        let kept = a.has.iter().any(|(_, p)| *p == 0);
        let expected = if kept {
            ErrorCode::NONE
        } else {
            ErrorCode::STALE_MEMBER_EPOCH
        };
        assert_eq!(commit(&mut h, 2, "a"), expected);
        b.go(&mut h);
        let of_b = b.has.iter().any(|(_, p)| *p == 0);
        assert!(kept != of_b);
        let g = Str::from(GROUP);
        let id = Str::from("a");
        let fetch = |h: &Harness, id: Option<&Str>, epoch| h.coordinator.may_fetch(&g, id, epoch);
        assert_eq!(fetch(&h, None, -1), Ok(()));
        assert_eq!(fetch(&h, Some(&id), 3), Ok(()));
        assert_eq!(fetch(&h, Some(&id), 2), Err(ErrorCode::STALE_MEMBER_EPOCH));
        assert_eq!(
            fetch(&h, Some(&"x".into()), 2),
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        );
        // When all are gone, who names no epoch may commit.
        h.beat_ok(super::super::testing::alive("a", -1));
        h.beat_ok(super::super::testing::alive("b", -1));
        assert_eq!(commit(&mut h, -1, ""), ErrorCode::NONE);
    }
}
