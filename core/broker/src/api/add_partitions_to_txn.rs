//! AddPartitionsToTxn (24): partitions join a transaction. Versions 0 to 3 are of clients; from 4 on brokers ask for several
//! transactional ids, also just whether partitions are in (`verify_only`). All partitions of a transactional id, or none.
//!
//! Serves versions 0 to 5. Departs from Kafka: the results of versions 4 and 5 are in the order of the request, not in that of a hash
//! map.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use ottla_protocol::{
    ErrorCode, Str,
    messages::add_partitions_to_txn::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
        AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
        AddPartitionsToTxnTransaction,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    transactions::AddPart,
};

/// From this version on a request is a broker's.
const OF_BROKERS: i16 = 4;
/// From this version on it speaks for clients of transaction version 2.
const WITH_EPOCH_BUMP: i16 = 5;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: AddPartitionsToTxnRequest,
) -> Handled {
    let of_brokers = context.api_version >= OF_BROKERS;
    let transactions = match of_brokers {
        true => request.transactions,
        false => vec![AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        }],
    };
    let mut response = AddPartitionsToTxnResponse::default();
    let mut parts = Vec::new();
    for (at, transaction) in transactions.into_iter().enumerate() {
        let (topic_results, all_known) = check(broker, of_brokers, &transaction.topics);
        match of_brokers {
            true => response
                .results_by_transaction
                .push(AddPartitionsToTxnResult {
                    transactional_id: transaction.transactional_id.clone(),
                    topic_results,
                }),
            false => response.results_by_topic_v3_and_below = topic_results,
        }
        if all_known {
            parts.push(AddPart {
                transactional_id: Str::from(transaction.transactional_id.as_str()),
                producer_id: transaction.producer_id,
                producer_epoch: transaction.producer_epoch,
                verify_only: transaction.verify_only,
                partitions: partitions(&transaction.topics),
                at,
            });
        }
    }
    let client_version = match context.api_version >= WITH_EPOCH_BUMP {
        true => 2,
        false => 0,
    };
    broker
        .transactions
        .add_partitions(now, context.reply, client_version, response, parts);
    Handled::Deferred
}

fn partitions(topics: &[AddPartitionsToTxnTopic]) -> Vec<(Str, i32)> {
    let of_topic = |t: &AddPartitionsToTxnTopic| {
        let name = t.name.clone();
        let numbers = t.partitions.clone();
        numbers.into_iter().map(move |p| (name.clone(), p))
    };
    topics.iter().flat_map(of_topic).collect()
}

/// The answer as far as it is known, and whether all partitions may be added: if one may not, the others are not attempted.
fn check(
    broker: &Broker,
    of_brokers: bool,
    topics: &[AddPartitionsToTxnTopic],
) -> (Vec<AddPartitionsToTxnTopicResult>, bool) {
    let mut errors: BTreeMap<(Str, i32), ErrorCode> = BTreeMap::new();
    for (name, partition) in partitions(topics) {
        let topic = broker.topics.by_name(&name);
        let error = match topic {
            // The partitions of groups come in with their offsets.
            Some(topic) if topic.internal && !of_brokers => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            Some(topic) if topic.partition(partition).is_some() => continue,
            _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        };
        errors.insert((name, partition), error);
    }
    let otherwise = match errors.is_empty() {
        true => ErrorCode::NONE,
        false => ErrorCode::OPERATION_NOT_ATTEMPTED,
    };
    let results = topics.iter().map(|topic| {
        let result = |p: i32| AddPartitionsToTxnPartitionResult {
            partition_index: p,
            partition_error_code: errors
                .get(&(topic.name.clone(), p))
                .copied()
                .unwrap_or(otherwise),
        };
        AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic.partitions.iter().map(|p| result(*p)).collect(),
        }
    });
    (results.collect(), errors.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::{Request, Response};

    fn topic(name: &str, partitions: &[i32]) -> AddPartitionsToTxnTopic {
        AddPartitionsToTxnTopic {
            name: name.into(),
            partitions: partitions.to_vec(),
        }
    }

    fn codes(results: &[AddPartitionsToTxnTopicResult]) -> Vec<ErrorCode> {
        let all = results.iter().flat_map(|t| &t.results_by_partition);
        all.map(|p| p.partition_error_code).collect()
    }

    fn ask(
        h: &mut Harness,
        version: i16,
        request: AddPartitionsToTxnRequest,
    ) -> AddPartitionsToTxnResponse {
        match h.ask(version, Request::AddPartitionsToTxn(request)) {
            Response::AddPartitionsToTxn(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_or_none() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        let (id, epoch) = h.init_transactions("x");
        h.broker.ensure_offsets_topic(h.now).unwrap();
        for version in 0..=3 {
            let mut add = |topics: Vec<AddPartitionsToTxnTopic>| {
                let request = AddPartitionsToTxnRequest {
                    v3_and_below_transactional_id: "x".into(),
                    v3_and_below_producer_id: id,
                    v3_and_below_producer_epoch: epoch,
                    v3_and_below_topics: topics,
                    ..Default::default()
                };
                codes(&ask(&mut h, version, request).results_by_topic_v3_and_below)
            };
            let (none, not) = (ErrorCode::NONE, ErrorCode::OPERATION_NOT_ATTEMPTED);
            assert_eq!(add(vec![topic("t", &[0, 1])]), [none, none]);
            let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            assert_eq!(
                add(vec![topic("t", &[0, 2]), topic("u", &[0])]),
                [not, unknown, unknown]
            );
            assert_eq!(
                add(vec![topic("t", &[0]), topic("__consumer_offsets", &[0])]),
                [not, ErrorCode::TOPIC_AUTHORIZATION_FAILED]
            );
        }
    }

    #[test]
    fn brokers_ask_for_several() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        let x = h.init_transactions("x");
        let y = h.init_transactions("y");
        let part = |name: &str, (producer_id, producer_epoch): (i64, i16), verify_only, topics| {
            AddPartitionsToTxnTransaction {
                transactional_id: name.into(),
                producer_id,
                producer_epoch,
                verify_only,
                topics,
            }
        };
        let missing = ErrorCode::TRANSACTION_ABORTABLE;
        for version in [4, 5] {
            let request = AddPartitionsToTxnRequest {
                transactions: vec![
                    part("x", x, false, vec![topic("t", &[0])]),
                    part("y", y, true, vec![topic("t", &[1])]),
                    part("z", y, false, vec![topic("t", &[1])]),
                    part("y", (y.0, 7), true, vec![topic("t", &[1])]),
                    part("y", y, false, vec![topic("t", &[5])]),
                ],
                ..Default::default()
            };
            let response = ask(&mut h, version, request);
            let of: Vec<ErrorCode> = response
                .results_by_transaction
                .iter()
                .flat_map(|t| codes(&t.topic_results))
                .collect();
            assert_eq!(
                of,
                [
                    ErrorCode::NONE,
                    missing,
                    ErrorCode::INVALID_PRODUCER_ID_MAPPING,
                    ErrorCode::PRODUCER_FENCED,
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ]
            );
            let request = AddPartitionsToTxnRequest {
                transactions: vec![part("x", x, true, vec![topic("t", &[0, 1])])],
                ..Default::default()
            };
            let response = ask(&mut h, version, request);
            let results = &response.results_by_transaction[0];
            assert_eq!(codes(&results.topic_results), [ErrorCode::NONE, missing]);
        }
    }
}
