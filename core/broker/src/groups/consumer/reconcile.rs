//! A member's way to its target, one step per heartbeat.
//!
//! First it gives up what it is not to have (`UNREVOKED_PARTITIONS`; its epoch stays), then it gets what is free
//! (`UNRELEASED_PARTITIONS` as long as others still hold some of it), then it is `STABLE`. A partition is given to a member
//! only when nobody owns it any more, so that two never own it at the same time.

use alloc::collections::BTreeSet;
use ottla_protocol::Uuid;
use ottla_protocol::{ErrorCode, Str};

use super::{
    Refusal,
    state::{ConsumerGroup, MemberState, Owned, Partitions},
    topics::Topics,
};

/// What a member is to become.
struct Step {
    state: MemberState,
    epoch: i32,
    assigned: Owned,
    pending_revocation: Owned,
}

/// Takes the member one step further. `reported` is what it says it owns; `None` if it did not say. Whether anything
/// changed.
///
/// # Errors
/// FENCED_MEMBER_EPOCH for a member in a state that this version doesn't know, unless it owns nothing.
pub(super) fn reconcile(
    group: &mut ConsumerGroup,
    topics: &Topics,
    id: &Str,
    reported: Option<&Partitions>,
    subscription_changed: bool,
) -> Result<bool, Refusal> {
    let Some(member) = group.member(id) else {
        return Ok(false);
    };
    if !subscription_changed && member.is_reconciled_to(group.assignment_epoch) {
        return Ok(false);
    }
    let step = match member.state {
        MemberState::Stable if member.epoch != group.assignment_epoch => {
            Some(next(group, topics, id, reported))
        }
        MemberState::Stable => Some(unsubscribe(group, topics, id, reported)),
        MemberState::UnrevokedPartitions if owns_any(reported, &member.pending_revocation) => {
            subscription_changed.then(|| unsubscribe(group, topics, id, reported))
        }
        MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
            Some(next(group, topics, id, reported))
        }
        MemberState::Unknown if reported.is_some_and(Partitions::is_empty) => {
            Some(next(group, topics, id, reported))
        }
        MemberState::Unknown => {
            return Err(Refusal::new(
                ErrorCode::FENCED_MEMBER_EPOCH,
                "The member is in a state that is not known. It must give up its partitions and join again.",
            ));
        }
    };
    let Some(step) = step.flatten() else {
        return Ok(false);
    };
    let changed = step.state != member.state
        || step.epoch != member.epoch
        || step.assigned != member.assigned
        || step.pending_revocation != member.pending_revocation;
    if !changed {
        return Ok(false);
    }
    group.set_partitions(id, step.assigned, step.pending_revocation);
    if let Some(member) = group.member_mut(id) {
        member.state = step.state;
        // Also where the epoch stays: a member must not come with an older one once this answer is on its way.
        member.previous_epoch = member.epoch;
        member.epoch = step.epoch;
    }
    Ok(true)
}

/// Whether the member still owns some of `partitions`; if it doesn't say, it does.
fn owns_any(reported: Option<&Partitions>, partitions: &Owned) -> bool {
    let Some(reported) = reported else {
        return true;
    };
    partitions.iter().any(|(topic, partitions)| {
        reported
            .get(topic)
            .is_some_and(|reported| partitions.keys().any(|p| reported.contains(p)))
    })
}

fn subscribed_ids(group: &ConsumerGroup, topics: &Topics, id: &Str) -> BTreeSet<Uuid> {
    group
        .member(id)
        .into_iter()
        .flat_map(|m| group.subscription(m))
        .filter_map(|name| topics.by_name(name).map(|t| t.id))
        .collect()
}

/// Takes away what the member no longer subscribes to, and nothing else.
fn unsubscribe(
    group: &ConsumerGroup,
    topics: &Topics,
    id: &Str,
    reported: Option<&Partitions>,
) -> Option<Step> {
    let member = group.member(id)?;
    let subscribed = subscribed_ids(group, topics, id);
    let (assigned, gone): (Owned, Owned) = member
        .assigned
        .clone()
        .into_iter()
        .partition(|(topic, _)| subscribed.contains(topic));
    if gone.is_empty() {
        return None;
    }
    let mut pending_revocation = member.pending_revocation.clone();
    for (topic, partitions) in gone {
        pending_revocation
            .entry(topic)
            .or_default()
            .extend(partitions);
    }
    let (state, pending_revocation) = if owns_any(reported, &pending_revocation) {
        (MemberState::UnrevokedPartitions, pending_revocation)
    } else {
        (member.state, member.pending_revocation.clone())
    };
    Some(Step {
        state,
        epoch: member.epoch,
        assigned,
        pending_revocation,
    })
}

/// The next step towards the target.
fn next(
    group: &ConsumerGroup,
    topics: &Topics,
    id: &Str,
    reported: Option<&Partitions>,
) -> Option<Step> {
    let member = group.member(id)?;
    let subscribed = subscribed_ids(group, topics, id);
    let nothing = Partitions::new();
    let target = group.target.get(id).unwrap_or(&nothing);
    let wanted = |topic: &Uuid| target.get(topic).filter(|_| subscribed.contains(topic));

    let mut assigned = Owned::new();
    let mut pending_revocation = Owned::new();
    for (topic, partitions) in &member.assigned {
        let wanted = wanted(topic);
        for (partition, epoch) in partitions {
            let kept = wanted.is_some_and(|w| w.contains(partition));
            let side = if kept {
                &mut assigned
            } else {
                &mut pending_revocation
            };
            side.entry(*topic).or_default().insert(*partition, *epoch);
        }
    }
    if !pending_revocation.is_empty() && owns_any(reported, &pending_revocation) {
        return Some(Step {
            state: MemberState::UnrevokedPartitions,
            epoch: member.epoch,
            assigned,
            pending_revocation,
        });
    }
    let mut unreleased = false;
    for topic in target.keys() {
        for partition in wanted(topic).into_iter().flatten() {
            if assigned
                .get(topic)
                .is_some_and(|a| a.contains_key(partition))
            {
                continue;
            }
            // What the member itself has just given up, it may have again.
            if group.owner(topic, *partition).is_some_and(|o| o != id) {
                unreleased = true;
            } else {
                assigned
                    .entry(*topic)
                    .or_default()
                    .insert(*partition, group.assignment_epoch);
            }
        }
    }
    Some(Step {
        state: if unreleased {
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        },
        epoch: group.assignment_epoch,
        assigned,
        pending_revocation: Owned::new(),
    })
}
