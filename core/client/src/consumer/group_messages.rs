//! What the members of a classic group tell each other through the coordinator, which only stores it: the
//! subscription and assignment of Kafka's consumer protocol, each behind a version number.

use super::assignors::{Assignor, MemberSubscription, TopicPartition};
use super::by_topic;
use alloc::collections::BTreeSet;
use bytes::Bytes;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
    consumer_protocol_subscription,
};
use ottla_protocol::{Str, VersionedMessage};

/// The newest versions; readers of older ones ignore what follows.
const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 3;

/// A member's subscription as the metadata of one assignor in its JoinGroup.
pub(super) fn encode_subscription(
    assignor: Assignor,
    subscription: &MemberSubscription,
    rack: &Str,
) -> Bytes {
    let owned = by_topic(subscription.owned.iter().cloned()).into_iter();
    let owned = owned.map(
        |(topic, partitions)| consumer_protocol_subscription::TopicPartition { topic, partitions },
    );
    // Cooperative-sticky members that write less than version 2 have their generation as user data.
    let generation = subscription.generation.to_be_bytes();
    let message = ConsumerProtocolSubscription {
        topics: subscription.topics.iter().cloned().collect(),
        user_data: assignor
            .is_cooperative()
            .then(|| Bytes::copy_from_slice(&generation)),
        owned_partitions: owned.collect(),
        generation_id: subscription.generation,
        rack_id: Some(rack.clone()).filter(|rack| !rack.is_empty()),
    };
    // Only a string of more than 32 KiB could fail; topic names are shorter, and a rack like that is none.
    message.to_bytes(SUBSCRIPTION_VERSION).unwrap_or_default()
}

/// Reads a member's subscription; ids are the caller's to fill in. `None` if it is malformed.
pub(super) fn decode_subscription(assignor: Assignor, bytes: &Bytes) -> Option<MemberSubscription> {
    let message = ConsumerProtocolSubscription::from_bytes(bytes.clone()).ok()?;
    let mut generation = message.generation_id;
    if generation == -1
        && assignor.is_cooperative()
        && let Some(user_data) = &message.user_data
        && let Ok(four) = <[u8; 4]>::try_from(&user_data[..])
    {
        generation = i32::from_be_bytes(four);
    }
    let mut owned = BTreeSet::new();
    for topic in message.owned_partitions {
        owned.extend(
            topic
                .partitions
                .into_iter()
                .map(|p| (topic.topic.clone(), p)),
        );
    }
    let topics = message.topics.into_iter().collect();
    Some(MemberSubscription {
        topics,
        owned,
        generation,
        ..Default::default()
    })
}

/// A member's assignment, for the leader's SyncGroup.
pub(super) fn encode_assignment(partitions: &BTreeSet<TopicPartition>) -> Bytes {
    let assigned = by_topic(partitions.iter().cloned()).into_iter();
    let assigned =
        assigned.map(
            |(topic, partitions)| consumer_protocol_assignment::TopicPartition {
                topic,
                partitions,
            },
        );
    let message = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        user_data: None,
    };
    message.to_bytes(ASSIGNMENT_VERSION).unwrap_or_default()
}

/// Reads an assignment; no bytes at all are an empty one. `None` if it is malformed.
pub(super) fn decode_assignment(bytes: &Bytes) -> Option<BTreeSet<TopicPartition>> {
    if bytes.is_empty() {
        return Some(BTreeSet::new());
    }
    let message = ConsumerProtocolAssignment::from_bytes(bytes.clone()).ok()?;
    let mut assigned = BTreeSet::new();
    for topic in message.assigned_partitions {
        assigned.extend(
            topic
                .partitions
                .into_iter()
                .map(|p| (topic.topic.clone(), p)),
        );
    }
    Some(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_and_assignments_survive() {
        let partitions = BTreeSet::from([("a".into(), 0), ("a".into(), 2), ("b".into(), 1)]);
        let subscription = MemberSubscription {
            topics: BTreeSet::from(["a".into(), "b".into()]),
            owned: partitions.clone(),
            generation: 5,
            ..Default::default()
        };
        let bytes = encode_subscription(Assignor::CooperativeSticky, &subscription, &Str::new());
        assert_eq!(
            decode_subscription(Assignor::CooperativeSticky, &bytes),
            Some(subscription)
        );
        assert_eq!(
            decode_assignment(&encode_assignment(&partitions)),
            Some(partitions)
        );
        assert_eq!(decode_assignment(&Bytes::new()), Some(BTreeSet::new()));
    }

    #[test]
    fn a_version_0_subscription_is_read_and_nonsense_is_not() {
        // Version 0, one topic "t", user data null.
        let bytes = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        let read = decode_subscription(Assignor::Range, &bytes).unwrap();
        assert_eq!((read.topics.len(), read.generation), (1, -1));
        assert_eq!(
            decode_subscription(Assignor::Range, &Bytes::from_static(b"\0")),
            None
        );
        assert_eq!(
            decode_subscription(Assignor::Range, &bytes.slice(..9)),
            None
        );
        assert_eq!(
            decode_assignment(&Bytes::from_static(b"\0\0\x7f\xff\xff\xff")),
            None
        );
    }
}
