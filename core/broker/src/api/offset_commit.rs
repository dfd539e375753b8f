//! OffsetCommit (8): by topic name, and by topic id from version 10 on; answered when the offsets are committed.
//!
//! Serves versions 2 to 10. As Kafka.

use ottla_protocol::{ErrorCode, messages::offset_commit::OffsetCommitRequest};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

/// From this version on topics are named by id.
const BY_ID: i16 = 10;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: OffsetCommitRequest,
) -> Handled {
    let by_id = context.api_version >= BY_ID;
    // Share groups have no offsets to commit.
    let shared = broker.share_groups.contains(&request.group_id);
    let Broker { groups, topics, .. } = broker;
    groups.commit(now, context, &request, |asked, partition| {
        let topic = if by_id {
            topics
                .by_id(&asked.topic_id)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?
        } else {
            topics
                .by_name(&asked.name)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?
        };
        match topic.partition(partition) {
            Some(_) if shared => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(_) => Ok(topic.name.clone()),
            None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        }
    });
    Handled::Deferred
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::{
        Request, Response, Str, Uuid,
        messages::offset_commit::{
            OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
        },
    };

    fn request(topics: Vec<(&str, Uuid, i32)>) -> Request {
        Request::OffsetCommit(OffsetCommitRequest {
            group_id: "g".into(),
            topics: topics
                .into_iter()
                .map(
                    |(name, topic_id, partition_index)| OffsetCommitRequestTopic {
                        name: Str::from(name),
                        topic_id,
                        partitions: vec![OffsetCommitRequestPartition {
                            partition_index,
                            committed_offset: 7,
                            ..Default::default()
                        }],
                    },
                )
                .collect(),
            ..Default::default()
        })
    }

    fn errors(response: Response) -> Vec<ErrorCode> {
        let Response::OffsetCommit(OffsetCommitResponse { topics, .. }) = response else {
            panic!("{response:?}")
        };
        topics.iter().map(|t| t.partitions[0].error_code).collect()
    }

    #[test]
    fn topics_by_name_and_by_id() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        let id = h.broker.topics.by_name("t").unwrap().id;
        let zero = Uuid::ZERO;
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        for version in 2..10 {
            let asked = vec![
                ("t", zero, 1),
                ("t", zero, 2),
                ("t", zero, -1),
                ("u", zero, 0),
            ];
            let answer = h.ask(version, request(asked));
            assert_eq!(errors(answer), [ErrorCode::NONE, unknown, unknown, unknown]);
        }
        let other = Uuid::from_random(5);
        let asked = vec![("", id, 1), ("", id, 2), ("", other, 0), ("", zero, 0)];
        let no_id = ErrorCode::UNKNOWN_TOPIC_ID;
        assert_eq!(
            errors(h.ask(10, request(asked))),
            [ErrorCode::NONE, unknown, no_id, no_id]
        );
    }

    #[test]
    fn answered_when_it_is_on_disk_and_there_after_a_crash() {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("t", 1, &[]);
        let asked = h.send(9, request(vec![("t", Uuid::ZERO, 0)]));
        let group = Str::from("g");
        assert_eq!(h.take_answer(asked), None);
        assert!(
            h.broker.groups.committed(&group, "t", 0).is_none(),
            "not readable before that"
        );
        h.sync_all();
        assert_eq!(errors(h.take_answer(asked).unwrap()), [ErrorCode::NONE]);
        let h = h.restart(false);
        let offset = h.broker.groups.committed(&group, "t", 0).unwrap();
        assert_eq!((offset.offset, offset.leader_epoch), (7, -1));
    }

    #[test]
    fn a_failed_sync_fails_the_commit() {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("t", 1, &[]);
        let asked = h.send(9, request(vec![("t", Uuid::ZERO, 0), ("u", Uuid::ZERO, 0)]));
        h.fail_sync();
        let errors = errors(h.take_answer(asked).unwrap());
        assert_eq!(errors[1], ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(errors[0], ErrorCode::NOT_COORDINATOR);
    }
}
