//! DeleteTopics (20), by name and, from version 6 on, by id.
//!
//! Serves versions 1 to 6. Departs from Kafka: an internal topic is INVALID_TOPIC_EXCEPTION; the files are removed at once, not after a
//! minute.

use alloc::{format, string::String, vec::Vec};
use hashbrown::{HashMap, HashSet};

use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::delete_topics::{
        DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
    },
};
use ottla_record::Now;

use super::repeated;
use crate::{
    Broker,
    context::{Handled, RequestContext},
    quotas::Mutations,
    topics::TopicIndex,
};

/// From this version on `topics` is used instead of `topic_names`.
const WITH_IDS: i16 = 6;

/// From this version on the client knows TOPIC_DELETION_DISABLED.
const WITH_DELETION_DISABLED: i16 = 3;

/// From this version on the client knows THROTTLING_QUOTA_EXCEEDED.
const STRICT_QUOTA: i16 = 5;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> Handled {
    let asked: Vec<DeleteTopicState> = if context.api_version >= WITH_IDS {
        request.topics
    } else {
        request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState {
                name: Some(name),
                topic_id: Uuid::ZERO,
            })
            .collect()
    };
    if !broker.config.delete_topics {
        let error_code = match context.api_version >= WITH_DELETION_DISABLED {
            true => ErrorCode::TOPIC_DELETION_DISABLED,
            false => ErrorCode::INVALID_REQUEST,
        };
        let each = asked.iter();
        let refused =
            each.map(|topic| refused(key(topic), error_code, "Topic deletion is disabled.".into()));
        return Handled::Respond(Response::DeleteTopics(DeleteTopicsResponse {
            responses: refused.collect(),
            ..Default::default()
        }));
    }
    let mut mutations = Mutations::of(broker, context, STRICT_QUOTA);
    let twice = repeated(asked.iter().map(key));
    let named: HashSet<Uuid> = asked
        .iter()
        .filter(|topic| !twice.contains(&key(topic)))
        .filter_map(|topic| broker.topics.by_name(topic.name.as_ref()?))
        .map(|topic| topic.id)
        .collect();
    // Named, and asked for by id as well.
    let both: HashMap<Uuid, Str> = asked
        .iter()
        .filter(|topic| topic.name.is_none() && named.contains(&topic.topic_id))
        .filter_map(|topic| broker.topics.by_id(&topic.topic_id))
        .map(|topic| (topic.id, topic.name.clone()))
        .collect();
    // What is there twice is told once.
    let mut told = HashSet::new();
    let mut doomed = Vec::new();
    let mut responses: Vec<DeletableTopicResult> = asked
        .iter()
        .filter_map(|topic| {
            let repetition = match (&topic.name, topic.topic_id.is_zero()) {
                (Some(_), true) if twice.contains(&key(topic)) => Some("Duplicate topic name."),
                (None, false) if twice.contains(&key(topic)) => Some("Duplicate topic id."),
                _ => None,
            };
            if let Some(why) = repetition {
                let refused = refused(key(topic), ErrorCode::INVALID_REQUEST, why.into());
                return told.insert(key(topic)).then_some(refused);
            }
            let id = match (&topic.name, topic.topic_id) {
                (Some(name), Uuid::ZERO) => broker.topics.by_name(name).map(|topic| topic.id),
                (None, id) => Some(id),
                _ => None,
            };
            if let Some(id) = id
                && let Some(name) = both.get(&id)
            {
                let which = (Some(name.clone()), id);
                let why = "The provided topic name maps to an ID that was already supplied.";
                let refused = refused(which.clone(), ErrorCode::INVALID_REQUEST, why.into());
                return told.insert(which).then_some(refused);
            }
            Some(match find(broker, now, topic, &mut mutations) {
                Ok(index) => {
                    doomed.push(index);
                    let topic = broker.topics.get(index);
                    DeletableTopicResult {
                        name: topic.map(|topic| topic.name.clone()),
                        topic_id: topic.map_or(Uuid::ZERO, |topic| topic.id),
                        error_code: ErrorCode::NONE,
                        error_message: None,
                    }
                }
                Err((error_code, why)) => refused(key(topic), error_code, why),
            })
        })
        .collect();
    if !doomed.is_empty()
        && let Err(error) = broker.delete_topics(now, &doomed)
    {
        let message = Str::from(format!("{error}"));
        let done = responses.iter_mut();
        for topic in done.filter(|topic| topic.error_code == ErrorCode::NONE) {
            topic.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            topic.error_message = Some(message.clone());
        }
    }
    Handled::Respond(Response::DeleteTopics(DeleteTopicsResponse {
        responses,
        throttle_time_ms: mutations.throttle_ms,
        ..Default::default()
    }))
}

/// What a request names a topic by.
type Key = (Option<Str>, Uuid);

fn key(topic: &DeleteTopicState) -> Key {
    (topic.name.clone(), topic.topic_id)
}

fn refused((name, topic_id): Key, error_code: ErrorCode, why: String) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code,
        error_message: Some(why.into()),
    }
}

/// The topic, if it may be deleted.
fn find(
    broker: &mut Broker,
    now: Now,
    asked: &DeleteTopicState,
    mutations: &mut Mutations,
) -> Result<TopicIndex, (ErrorCode, String)> {
    let index = match (&asked.name, asked.topic_id.is_zero()) {
        (Some(name), true) => broker.topics.index_by_name(name).ok_or_else(|| {
            (
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                "This server does not host this topic-partition.".into(),
            )
        }),
        (None, false) => broker.topics.index_by_id(&asked.topic_id).ok_or_else(|| {
            (
                ErrorCode::UNKNOWN_TOPIC_ID,
                "This server does not host this topic ID.".into(),
            )
        }),
        (Some(_), false) => Err((
            ErrorCode::INVALID_REQUEST,
            "You may not specify both topic name and topic id.".into(),
        )),
        (None, true) => Err((
            ErrorCode::INVALID_REQUEST,
            "Neither topic name nor id were specified.".into(),
        )),
    }?;
    let Some(topic) = broker.topics.get(index) else {
        return Err((ErrorCode::UNKNOWN_SERVER_ERROR, String::new()));
    };
    if topic.internal {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            format!("Topic '{}' is internal and can't be deleted.", topic.name),
        ));
    }
    let partitions = topic.partitions.len();
    mutations.record(broker, now, partitions)?;
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{Harness, batch, produced, values},
    };
    use ottla_log::Storage;
    use ottla_protocol::Request;
    use std::vec;

    fn ask(
        h: &mut Harness,
        version: i16,
        request: DeleteTopicsRequest,
    ) -> Vec<DeletableTopicResult> {
        let Response::DeleteTopics(response) = h.ask(version, Request::DeleteTopics(request))
        else {
            panic!()
        };
        response.responses
    }

    fn by_name(name: &str) -> DeleteTopicsRequest {
        DeleteTopicsRequest {
            topic_names: vec![name.into()],
            ..Default::default()
        }
    }

    #[test]
    fn gone_for_good() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("a", 2, &[]);
        h.create_topic("b", 1, &[]);
        h.produce("a", 0, batch(&["old"]));
        h.produce("b", 0, batch(&["kept"]));
        assert_eq!(ask(&mut h, 4, by_name("a"))[0].error_code, ErrorCode::NONE);
        assert!(!h.storage.exists("a-0").unwrap() && !h.storage.exists("a-1").unwrap());
        assert_eq!(
            h.produce("a", 0, batch(&["v"])).error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert_eq!(
            ask(&mut h, 4, by_name("a"))[0].error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );

        // A topic of the same name is another one, and empty.
        h.create_topic("a", 1, &[]);
        assert_eq!(h.produce("a", 0, batch(&["new"])).base_offset, 0);
        let mut h = h.restart(false);
        assert_eq!(values(&h.fetch("a", 0, 0).records), ["new"]);
        assert_eq!(values(&h.fetch("b", 0, 0).records), ["kept"]);
    }

    #[test]
    fn deletion_can_be_disabled() {
        let mut h = Harness::with(crate::BrokerConfig {
            durability: Durability::Os,
            delete_topics: false,
            ..crate::BrokerConfig::default()
        });
        h.create_topic("a", 1, &[]);
        for (version, refused) in [
            (1, ErrorCode::INVALID_REQUEST),
            (2, ErrorCode::INVALID_REQUEST),
            (3, ErrorCode::TOPIC_DELETION_DISABLED),
            (5, ErrorCode::TOPIC_DELETION_DISABLED),
        ] {
            let told = ask(&mut h, version, by_name("a")).remove(0);
            let told = (told.name.as_deref(), told.error_code);
            assert_eq!(told, (Some("a"), refused), "{version}");
        }
        assert!(h.broker.topics.by_name("a").is_some());
    }

    #[test]
    fn by_id_and_what_is_refused() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("a", 1, &[]);
        let id = h.broker.topics.by_name("a").unwrap().id;
        let state = |name: Option<&str>, topic_id| DeleteTopicState {
            name: name.map(Into::into),
            topic_id,
        };
        let request = |topics| DeleteTopicsRequest {
            topics,
            ..Default::default()
        };
        for (topic, expected) in [
            (
                state(None, Uuid::from_random(9)),
                ErrorCode::UNKNOWN_TOPIC_ID,
            ),
            (state(Some("a"), id), ErrorCode::INVALID_REQUEST),
            (state(None, Uuid::ZERO), ErrorCode::INVALID_REQUEST),
            (
                state(Some("b"), Uuid::ZERO),
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ),
        ] {
            assert_eq!(ask(&mut h, 6, request(vec![topic]))[0].error_code, expected);
        }
        // What is there twice is refused once, also where it is named in one place and asked for by id in another.
        for (twice, name, topic_id) in [
            ([state(None, id), state(None, id)], None, id),
            (
                [state(None, id), state(Some("a"), Uuid::ZERO)],
                Some("a"),
                id,
            ),
            (
                [state(Some("a"), Uuid::ZERO), state(Some("a"), Uuid::ZERO)],
                Some("a"),
                Uuid::ZERO,
            ),
        ] {
            let refused = ask(&mut h, 6, request(twice.to_vec()));
            let told: Vec<_> = refused
                .iter()
                .map(|t| (t.name.as_deref(), t.topic_id, t.error_code))
                .collect();
            assert_eq!(told, [(name, topic_id, ErrorCode::INVALID_REQUEST)]);
        }
        let done = ask(&mut h, 6, request(vec![state(None, id)]));
        assert_eq!(
            (done[0].error_code, done[0].name.as_deref()),
            (ErrorCode::NONE, Some("a"))
        );

        h.broker.ensure_offsets_topic(h.now).unwrap();
        let internal = ask(&mut h, 4, by_name("__consumer_offsets"));
        assert_eq!(internal[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    }

    #[test]
    fn waiting_produces_hear_of_it() {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("a", 1, &[]);
        let id = h.send_produce("a", 0, -1, batch(&["v"]));
        ask(&mut h, 4, by_name("a"));
        assert_eq!(
            produced(h.take_answer(id).unwrap()).error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        // The sync that was under way finds nobody, also when the number was taken again.
        h.create_topic("b", 1, &[]);
        h.sync_all();
        assert!(h.answers.is_empty());
    }
}
