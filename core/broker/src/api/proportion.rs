//! Tests: what a request costs is in proportion to its length, whatever it repeats.

use super::MOST_REPETITIONS;
use crate::{
    ConnId, Durability,
    configs::dynamic::resource,
    testing::{Harness, batch},
};
use ottla_log::{
    DirEntry, MemoryStorage, OpenHow, Storage, StorageError, StorageErrorKind, StorageFile,
};
use ottla_protocol::{ErrorCode, Request, Response, Str, messages::*};
use std::{
    boxed::Box,
    collections::BTreeMap,
    format,
    string::String,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
    vec,
    vec::Vec,
};

/// What a length of which the square would be felt may take, on a slow machine and not optimized.
const PATIENCE: Duration = Duration::from_secs(15);
const MANY: usize = 60_000;

fn harness() -> Harness {
    let mut h = Harness::new(Durability::Os);
    h.create_topic("t", 1, &[]);
    h.produce("t", 0, batch(&["a", "b"]));
    h
}

/// The requests that name something so many times over, whose description may be long.
fn descriptions(times: usize) -> Vec<(i16, Request)> {
    let names = || vec![Str::from("g"); times];
    let of = |resource_type, number| describe_configs::DescribeConfigsResource {
        resource_type,
        // All of these are broker 1.
        resource_name: format!("{:0>1$}", 1, 1 + number).into(),
        configuration_keys: None,
    };
    let brokers = (0..times).map(|number| of(resource::BROKER, number % 100));
    let fetched = offset_fetch::OffsetFetchRequestGroup {
        group_id: "g".into(),
        ..Default::default()
    };
    let shared = describe_share_group_offsets::DescribeShareGroupOffsetsRequestGroup {
        group_id: "g".into(),
        ..Default::default()
    };
    let producers = describe_producers::TopicRequest {
        name: "t".into(),
        partition_indexes: vec![0; times],
    };
    vec![
        (
            4,
            Request::DescribeConfigs(DescribeConfigsRequest {
                resources: brokers.collect(),
                ..Default::default()
            }),
        ),
        (
            6,
            Request::DescribeGroups(DescribeGroupsRequest {
                groups: names(),
                ..Default::default()
            }),
        ),
        (
            1,
            Request::ConsumerGroupDescribe(ConsumerGroupDescribeRequest {
                group_ids: names(),
                ..Default::default()
            }),
        ),
        (
            1,
            Request::ShareGroupDescribe(ShareGroupDescribeRequest {
                group_ids: names(),
                ..Default::default()
            }),
        ),
        (
            0,
            Request::DescribeTransactions(DescribeTransactionsRequest {
                transactional_ids: names(),
            }),
        ),
        (
            9,
            Request::OffsetFetch(OffsetFetchRequest {
                groups: vec![fetched; times],
                ..Default::default()
            }),
        ),
        (
            1,
            Request::DescribeShareGroupOffsets(DescribeShareGroupOffsetsRequest {
                groups: vec![shared; times],
            }),
        ),
        (
            0,
            Request::DescribeProducers(DescribeProducersRequest {
                topics: vec![producers],
            }),
        ),
    ]
}

#[test]
fn whoever_asks_for_the_same_again_and_again_is_disconnected() {
    let mut h = harness();
    let allowed = 1 + MOST_REPETITIONS;
    for (version, request) in descriptions(allowed) {
        h.ask(version, request);
    }
    assert_eq!(h.disconnected, []);
    for (number, (version, request)) in descriptions(allowed + 1).into_iter().enumerate() {
        let conn = ConnId(100 + number as u64);
        h.broker.handle_connect(h.now, conn, "127.0.0.1");
        let key = request.api_key();
        let id = h.send_on(conn, version, request);
        assert!(h.take_answer(id).is_none(), "{key:?}");
        assert_eq!(h.disconnected.pop(), Some(conn), "{key:?}");
    }
}

#[test]
fn settings_of_groups_that_need_not_be_there() {
    let mut h = harness();
    let resources = (0..2002).map(|number| describe_configs::DescribeConfigsResource {
        resource_type: [resource::GROUP, resource::CLIENT_METRICS][number % 2],
        resource_name: format!("{number}").into(),
        configuration_keys: None,
    });
    let request = DescribeConfigsRequest {
        resources: resources.collect(),
        ..Default::default()
    };
    let Response::DescribeConfigs(answer) = h.ask(4, Request::DescribeConfigs(request)) else {
        panic!()
    };
    let told = answer.results.iter();
    let told = told.filter(|result| result.error_code == ErrorCode::NONE);
    assert_eq!(told.count(), 2000);
    let last = &answer.results[2001];
    assert_eq!(last.error_code, ErrorCode::INVALID_REQUEST);
    assert!(last.configs.is_empty());
}

#[test]
fn a_member_with_many_protocols() {
    let began = Instant::now();
    let mut h = harness();
    let protocols = (0..MANY).map(|number| join_group::JoinGroupRequestProtocol {
        name: format!("{number}").into(),
        ..Default::default()
    });
    let request = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        protocol_type: "x".into(),
        protocols: protocols.collect(),
        ..Default::default()
    };
    let Response::JoinGroup(joined) = h.ask(2, Request::JoinGroup(request.clone())) else {
        panic!()
    };
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let again = JoinGroupRequest {
        member_id: joined.member_id,
        ..request
    };
    h.ask(2, Request::JoinGroup(again));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn acknowledgements_for_many_partitions() {
    let began = Instant::now();
    let mut h = harness();
    let topic_id = h.broker.topics.by_name("t").unwrap().id;
    let request = |share_session_epoch, topics| {
        Request::ShareFetch(ShareFetchRequest {
            group_id: Some("g".into()),
            member_id: Some("m".into()),
            share_session_epoch,
            max_records: 1,
            topics,
            ..Default::default()
        })
    };
    h.ask(1, request(0, Vec::new()));
    let partitions = (0..MANY).map(|number| share_fetch::FetchPartition {
        partition_index: number as i32,
        acknowledgement_batches: vec![share_fetch::AcknowledgementBatch {
            acknowledge_types: vec![1],
            ..Default::default()
        }],
    });
    let topic = share_fetch::FetchTopic {
        topic_id,
        partitions: partitions.collect(),
    };
    let Response::ShareFetch(answer) = h.ask(1, request(1, vec![topic])) else {
        panic!()
    };
    assert_eq!(answer.responses[0].partitions.len(), MANY);
    let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let mut told = answer.responses[0].partitions.iter();
    let seven = told.find(|p| p.partition_index == 7).unwrap();
    assert_eq!(seven.error_code, missing);
    assert_eq!(seven.acknowledge_error_code, missing);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn many_partitions_to_be_verified() {
    let began = Instant::now();
    let mut h = harness();
    let (producer_id, producer_epoch) = h.init_transactions("x");
    let topic = add_partitions_to_txn::AddPartitionsToTxnTopic {
        name: "t".into(),
        partitions: vec![0; MANY],
    };
    let request = AddPartitionsToTxnRequest {
        transactions: vec![add_partitions_to_txn::AddPartitionsToTxnTransaction {
            transactional_id: "x".into(),
            producer_id,
            producer_epoch,
            verify_only: true,
            topics: vec![topic],
        }],
        ..Default::default()
    };
    let Response::AddPartitionsToTxn(answer) = h.ask(4, Request::AddPartitionsToTxn(request))
    else {
        panic!()
    };
    let results = &answer.results_by_transaction[0].topic_results[0].results_by_partition;
    let abortable = ErrorCode::TRANSACTION_ABORTABLE;
    assert!(results.iter().all(|r| r.partition_error_code == abortable));
    assert_eq!(results.len(), MANY);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn many_transactional_ids() {
    let began = Instant::now();
    let mut h = harness();
    h.create_topic("wide", 100, &[]);
    for number in 0..MANY {
        h.init_transactions(&format!("{number}"));
    }
    let (producer_id, producer_epoch) = h.init_transactions("last");
    for _ in 0..200 {
        let topic = add_partitions_to_txn::AddPartitionsToTxnTopic {
            name: "wide".into(),
            partitions: (0..100).collect(),
        };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "last".into(),
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: producer_epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        h.ask(3, Request::AddPartitionsToTxn(request));
        let request = EndTxnRequest {
            transactional_id: "last".into(),
            producer_id,
            producer_epoch,
            committed: true,
        };
        let Response::EndTxn(answer) = h.ask(3, Request::EndTxn(request)) else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// Counts how often files are replaced.
struct Counting {
    inner: Arc<MemoryStorage>,
    replaced: Mutex<BTreeMap<String, usize>>,
    /// For this directory there is no room.
    full: &'static str,
}

impl Storage for Counting {
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        self.inner.open(path, how)
    }
    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        self.inner.list(dir)
    }
    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        if dir == self.full {
            return Err(StorageError::new(StorageErrorKind::Full, "no room").on(dir));
        }
        self.inner.create_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        *self.replaced.lock().unwrap().entry(to.into()).or_default() += 1;
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.inner.remove_dir(dir)
    }
    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        self.inner.exists(path)
    }
    fn modified_ms(&self, path: &str) -> Result<i64, StorageError> {
        self.inner.modified_ms(path)
    }
    fn sync_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.inner.sync_dir(dir)
    }
}

/// Each of these files is synced when it is replaced, and everybody waits for that.
#[test]
fn a_request_about_many_things_writes_each_file_once() {
    const TOPICS: usize = 40;
    let mut h = Harness::new(Durability::Os);
    let counting = Arc::new(Counting {
        inner: h.storage.clone(),
        replaced: Mutex::default(),
        full: "",
    });
    h.broker.storage = counting.clone();
    let mut replaced = |file: &str, request: (i16, Request)| {
        counting.replaced.lock().unwrap().clear();
        h.ask(request.0, request.1);
        counting.replaced.lock().unwrap().get(file).copied()
    };
    let name = |number: usize| Str::from(format!("t{number}"));
    let all = || (0..TOPICS).map(name);

    let auto = (0..TOPICS).map(|number| metadata::MetadataRequestTopic {
        name: Some(format!("auto{number}").into()),
        ..Default::default()
    });
    let auto = MetadataRequest {
        topics: Some(auto.collect()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    assert_eq!(
        replaced("ottla-topics", (9, Request::Metadata(auto))),
        Some(1)
    );

    let create = all().map(|name| create_topics::CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    });
    let create = CreateTopicsRequest {
        topics: create.collect(),
        ..Default::default()
    };
    let create = (7, Request::CreateTopics(create));
    assert_eq!(replaced("ottla-topics", create), Some(1));

    let grow = all().map(|name| create_partitions::CreatePartitionsTopic {
        name,
        count: 2,
        assignments: None,
    });
    let grow = CreatePartitionsRequest {
        topics: grow.collect(),
        ..Default::default()
    };
    let grow = (3, Request::CreatePartitions(grow));
    assert_eq!(replaced("ottla-topics", grow), Some(1));

    for (resource_type, key, file) in [
        (resource::TOPIC, "retention.ms", "ottla-topics"),
        (
            resource::GROUP,
            "consumer.session.timeout.ms",
            "ottla-configs",
        ),
    ] {
        let set = || incremental_alter_configs::AlterableConfig {
            name: key.into(),
            config_operation: 0,
            value: Some("50000".into()),
        };
        let alter = all().map(|name| incremental_alter_configs::AlterConfigsResource {
            resource_type,
            resource_name: name,
            configs: vec![set()],
        });
        let alter = IncrementalAlterConfigsRequest {
            resources: alter.collect(),
            ..Default::default()
        };
        let alter = (1, Request::IncrementalAlterConfigs(alter));
        assert_eq!(replaced(file, alter), Some(1));
    }

    let entry = |name| alter_client_quotas::RequestEntryData {
        entity: vec![alter_client_quotas::RequestEntityData {
            entity_type: "client-id".into(),
            entity_name: Some(name),
        }],
        ops: vec![alter_client_quotas::OpData {
            key: "producer_byte_rate".into(),
            value: 1e9,
            remove: false,
        }],
    };
    let quotas = AlterClientQuotasRequest {
        entries: all().map(entry).collect(),
        ..Default::default()
    };
    let quotas = (1, Request::AlterClientQuotas(quotas));
    assert_eq!(replaced("ottla-quotas", quotas), Some(1));

    let delete = all().map(|name| delete_records::DeleteRecordsTopic {
        name,
        partitions: vec![Default::default(); 5],
    });
    let delete = DeleteRecordsRequest {
        topics: delete.collect(),
        ..Default::default()
    };
    let delete = (2, Request::DeleteRecords(delete));
    let starts = "log-start-offset-checkpoint";
    assert_eq!(replaced(starts, delete), Some(1));

    let delete = all().map(|name| delete_topics::DeleteTopicState {
        name: Some(name),
        ..Default::default()
    });
    let delete = DeleteTopicsRequest {
        topics: delete.collect(),
        ..Default::default()
    };
    // Once to say that they go, and once that they are gone.
    let delete = (6, Request::DeleteTopics(delete));
    assert_eq!(replaced("ottla-topics", delete), Some(2));
    assert_eq!(h.broker.topics.iter().count(), TOPICS, "those of Metadata");
}

/// Of one topic that can't grow nothing is left that could be in the way of another of its name; others grow all the same.
#[test]
fn a_growth_that_fails() {
    let mut h = harness();
    h.create_topic("u", 1, &[]);
    h.broker.storage = Arc::new(Counting {
        inner: h.storage.clone(),
        replaced: Mutex::default(),
        full: "t-3",
    });
    let to = |name: &str| create_partitions::CreatePartitionsTopic {
        name: name.into(),
        count: 5,
        assignments: None,
    };
    let grow = CreatePartitionsRequest {
        topics: vec![to("t"), to("u")],
        ..Default::default()
    };
    let Response::CreatePartitions(grown) = h.ask(3, Request::CreatePartitions(grow)) else {
        panic!()
    };
    let codes: Vec<ErrorCode> = grown.results.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [ErrorCode::KAFKA_STORAGE_ERROR, ErrorCode::NONE]);
    assert!(!h.storage.exists("t-1").unwrap() && !h.storage.exists("t-2").unwrap());
    assert!(h.storage.exists("u-4").unwrap());
    let h = h.restart(false);
    let partitions = |name| h.broker.topics.by_name(name).unwrap().partitions.len();
    assert_eq!((partitions("t"), partitions("u")), (1, 5));
}
