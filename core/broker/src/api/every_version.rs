//! Tests over all keys and versions: what comes in through the codec at any version that is told is answered, and the
//! answer can be written at that version and read back as it was; and each handler's file says what it serves.

use alloc::{format, string::String, vec, vec::Vec};

use ottla_protocol::{
    ApiKey, Decoder, Encoder, Request, Response, Str, Uuid,
    messages::{
        add_offsets_to_txn::AddOffsetsToTxnRequest,
        add_partitions_to_txn::{
            AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
        },
        alter_client_quotas, alter_configs,
        alter_share_group_offsets::{
            AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition,
            AlterShareGroupOffsetsRequestTopic,
        },
        api_versions::ApiVersionsRequest,
        consumer_group_describe::ConsumerGroupDescribeRequest,
        consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableTopic, CreateTopicsRequest},
        delete_groups::DeleteGroupsRequest,
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_share_group_offsets::{
            DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
        },
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        describe_client_quotas,
        describe_cluster::DescribeClusterRequest,
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource},
        describe_groups::DescribeGroupsRequest,
        describe_log_dirs::DescribeLogDirsRequest,
        describe_producers::{DescribeProducersRequest, TopicRequest},
        describe_share_group_offsets::{
            DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
            DescribeShareGroupOffsetsRequestTopic,
        },
        describe_transactions::DescribeTransactionsRequest,
        elect_leaders::{ElectLeadersRequest, TopicPartitions},
        end_txn::EndTxnRequest,
        fetch::{FetchRequest, FetchTopic},
        find_coordinator::FindCoordinatorRequest,
        get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest,
        heartbeat::HeartbeatRequest,
        incremental_alter_configs,
        init_producer_id::InitProducerIdRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        list_config_resources::ListConfigResourcesRequest,
        list_groups::ListGroupsRequest,
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        list_transactions::ListTransactionsRequest,
        metadata::{MetadataRequest, MetadataRequestTopic},
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
        offset_delete::{
            OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
        },
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
            OffsetFetchRequestTopics,
        },
        offset_for_leader_epoch::{
            OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
        },
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
        push_telemetry::PushTelemetryRequest,
        share_acknowledge::{AcknowledgePartition, AcknowledgeTopic, ShareAcknowledgeRequest},
        share_fetch::{self, ShareFetchRequest},
        share_group_describe::ShareGroupDescribeRequest,
        share_group_heartbeat::ShareGroupHeartbeatRequest,
        sync_group::SyncGroupRequest,
        txn_offset_commit::{
            TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
        },
        write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest},
    },
};

use super::{SERVED, advertised_versions, is_served};
use crate::{
    BrokerConfig, Durability,
    testing::{Harness, batch, fetch_partition},
};

const TOPIC: &str = "t";
const GROUP: Str = Str::from_static("g");

/// The topic's name where the version has names, its id where it has ids.
fn named(by_id: bool, id: Uuid) -> (Str, Uuid) {
    if by_id {
        (Str::new(), id)
    } else {
        (TOPIC.into(), Uuid::ZERO)
    }
}

/// Requests of this key and version: about things that are there, and about things that aren't.
fn requests(key: ApiKey, v: i16, id: Uuid) -> Vec<Request> {
    let unknown = Uuid::from_random(99);
    match key {
        ApiKey::Produce => [(id, 0), (unknown, 0), (id, 9)]
            .into_iter()
            .map(|(id, index)| {
                let (name, topic_id) = named(v >= 13, id);
                let partition_data = vec![PartitionProduceData {
                    index,
                    records: batch(&["v"]),
                }];
                let topic_data = vec![TopicProduceData {
                    name,
                    topic_id,
                    partition_data,
                }];
                Request::Produce(ProduceRequest {
                    acks: -1,
                    timeout_ms: 1000,
                    topic_data,
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::Fetch => [(id, -1), (unknown, -1), (id, 0)]
            .into_iter()
            .map(|(id, session_epoch)| {
                let (topic, topic_id) = named(v >= 13, id);
                let partitions = vec![fetch_partition(0, 0), fetch_partition(0, 1 << 40)];
                Request::Fetch(FetchRequest {
                    max_bytes: 1 << 20,
                    session_epoch: if v >= 7 { session_epoch } else { -1 },
                    isolation_level: 1,
                    topics: vec![FetchTopic {
                        topic,
                        topic_id,
                        partitions,
                    }],
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::ListOffsets => [-1, -2, -3, 5]
            .into_iter()
            .map(|timestamp| {
                let partitions = [0, 9].map(|partition_index| ListOffsetsPartition {
                    partition_index,
                    timestamp,
                    ..Default::default()
                });
                let topics = vec![ListOffsetsTopic {
                    name: TOPIC.into(),
                    partitions: partitions.to_vec(),
                }];
                Request::ListOffsets(ListOffsetsRequest {
                    replica_id: -1,
                    topics,
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::Metadata => {
            let ask = |topics| {
                Request::Metadata(MetadataRequest {
                    topics,
                    ..Default::default()
                })
            };
            let by_name = |name: &str| MetadataRequestTopic {
                name: Some(name.into()),
                topic_id: Uuid::ZERO,
            };
            let mut asked = vec![ask(Some(vec![
                by_name(TOPIC),
                by_name("made"),
                by_name("no/name"),
            ]))];
            if v >= 1 {
                asked.push(ask(None));
            }
            if v >= 12 {
                let by_id = |topic_id| MetadataRequestTopic {
                    name: None,
                    topic_id,
                };
                asked.push(ask(Some(vec![by_id(id), by_id(unknown)])));
            }
            asked
        }
        ApiKey::OffsetCommit => {
            let (name, topic_id) = named(v >= 10, id);
            let partition = OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 1,
                committed_metadata: Some("m".into()),
                ..Default::default()
            };
            let topics = vec![OffsetCommitRequestTopic {
                name,
                topic_id,
                partitions: vec![partition],
            }];
            vec![Request::OffsetCommit(OffsetCommitRequest {
                group_id: GROUP,
                topics,
                ..Default::default()
            })]
        }
        ApiKey::OffsetFetch if v >= 8 => {
            let (name, topic_id) = named(v >= 10, id);
            let topics = vec![OffsetFetchRequestTopics {
                name,
                topic_id,
                partition_indexes: vec![0, 9],
            }];
            let group = |topics| OffsetFetchRequestGroup {
                group_id: GROUP,
                topics,
                ..Default::default()
            };
            let groups = vec![group(Some(topics)), group(None)];
            vec![Request::OffsetFetch(OffsetFetchRequest {
                groups,
                ..Default::default()
            })]
        }
        ApiKey::OffsetFetch => {
            let topics = vec![OffsetFetchRequestTopic {
                name: TOPIC.into(),
                partition_indexes: vec![0, 9],
            }];
            let ask = |topics| {
                Request::OffsetFetch(OffsetFetchRequest {
                    group_id: GROUP,
                    topics,
                    ..Default::default()
                })
            };
            let mut asked = vec![ask(Some(topics))];
            if v >= 2 {
                asked.push(ask(None));
            }
            asked
        }
        ApiKey::FindCoordinator => {
            let one = FindCoordinatorRequest {
                key: GROUP,
                ..Default::default()
            };
            let many = FindCoordinatorRequest {
                coordinator_keys: vec![GROUP],
                ..Default::default()
            };
            vec![Request::FindCoordinator(if v >= 4 { many } else { one })]
        }
        ApiKey::JoinGroup => vec![Request::JoinGroup(JoinGroupRequest {
            group_id: "joined".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            group_instance_id: (v >= 5).then(|| "static".into()),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                ..Default::default()
            }],
            ..Default::default()
        })],
        ApiKey::Heartbeat => vec![Request::Heartbeat(HeartbeatRequest {
            group_id: GROUP,
            member_id: "nobody".into(),
            ..Default::default()
        })],
        ApiKey::LeaveGroup => {
            let nobody: Str = "nobody".into();
            let members = vec![MemberIdentity {
                member_id: nobody.clone(),
                ..Default::default()
            }];
            let old = LeaveGroupRequest {
                group_id: GROUP,
                member_id: nobody,
                ..Default::default()
            };
            let new = LeaveGroupRequest {
                group_id: GROUP,
                members,
                ..Default::default()
            };
            vec![Request::LeaveGroup(if v >= 3 { new } else { old })]
        }
        ApiKey::SyncGroup => vec![Request::SyncGroup(SyncGroupRequest {
            group_id: GROUP,
            member_id: "nobody".into(),
            ..Default::default()
        })],
        ApiKey::DescribeGroups => {
            let groups = vec![GROUP, "joined".into(), "none".into()];
            vec![Request::DescribeGroups(DescribeGroupsRequest {
                groups,
                ..Default::default()
            })]
        }
        ApiKey::ListGroups => vec![Request::ListGroups(ListGroupsRequest::default())],
        ApiKey::ApiVersions => vec![Request::ApiVersions(ApiVersionsRequest {
            client_software_name: if v >= 3 { "test".into() } else { Str::new() },
            client_software_version: if v >= 3 { "1".into() } else { Str::new() },
        })],
        ApiKey::CreateTopics => {
            let topic = |name: &str| CreatableTopic {
                name: name.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            let topics = vec![topic(&alloc::format!("created-{v}")), topic(TOPIC)];
            vec![Request::CreateTopics(CreateTopicsRequest {
                topics,
                ..Default::default()
            })]
        }
        ApiKey::DeleteTopics => {
            let name: Str = alloc::format!("created-{v}").into();
            let topics = vec![DeleteTopicState {
                name: Some(name.clone()),
                topic_id: Uuid::ZERO,
            }];
            let new = DeleteTopicsRequest {
                topics,
                ..Default::default()
            };
            let old = DeleteTopicsRequest {
                topic_names: vec![name, "none".into()],
                ..Default::default()
            };
            vec![Request::DeleteTopics(if v >= 6 { new } else { old })]
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: 0,
            }];
            let topics = vec![DeleteRecordsTopic {
                name: TOPIC.into(),
                partitions,
            }];
            vec![Request::DeleteRecords(DeleteRecordsRequest {
                topics,
                ..Default::default()
            })]
        }
        ApiKey::AddPartitionsToTxn => {
            let topics = vec![AddPartitionsToTxnTopic {
                name: TOPIC.into(),
                partitions: vec![0, 9],
            }];
            let old = AddPartitionsToTxnRequest {
                v3_and_below_transactional_id: "tx".into(),
                v3_and_below_topics: topics.clone(),
                ..Default::default()
            };
            let of = |verify_only| AddPartitionsToTxnTransaction {
                transactional_id: "tx".into(),
                verify_only,
                topics: topics.clone(),
                ..Default::default()
            };
            let new = AddPartitionsToTxnRequest {
                transactions: vec![of(true), of(false)],
                ..Default::default()
            };
            vec![Request::AddPartitionsToTxn(if v >= 4 { new } else { old })]
        }
        ApiKey::AddOffsetsToTxn => ["tx", "none"]
            .into_iter()
            .map(|id| {
                Request::AddOffsetsToTxn(AddOffsetsToTxnRequest {
                    transactional_id: id.into(),
                    group_id: GROUP,
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::EndTxn => [("tx", false), ("none", true)]
            .into_iter()
            .map(|(id, committed)| {
                Request::EndTxn(EndTxnRequest {
                    transactional_id: id.into(),
                    committed,
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::WriteTxnMarkers => {
            let topics = vec![WritableTxnMarkerTopic {
                name: TOPIC.into(),
                partition_indexes: vec![0, 9],
            }];
            let marker = WritableTxnMarker {
                producer_id: 5,
                coordinator_epoch: -1,
                topics,
                transaction_version: if v >= 2 { 2 } else { 0 },
                ..Default::default()
            };
            vec![Request::WriteTxnMarkers(WriteTxnMarkersRequest {
                markers: vec![marker],
            })]
        }
        ApiKey::TxnOffsetCommit => ["tx", "none"]
            .into_iter()
            .map(|id| {
                let partitions = vec![TxnOffsetCommitRequestPartition {
                    committed_offset: 1,
                    ..Default::default()
                }];
                Request::TxnOffsetCommit(TxnOffsetCommitRequest {
                    transactional_id: id.into(),
                    group_id: GROUP,
                    topics: vec![TxnOffsetCommitRequestTopic {
                        name: TOPIC.into(),
                        partitions,
                    }],
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::DescribeProducers => {
            let topics = vec![TopicRequest {
                name: TOPIC.into(),
                partition_indexes: vec![0, 9],
            }];
            vec![Request::DescribeProducers(DescribeProducersRequest {
                topics,
            })]
        }
        ApiKey::DescribeTransactions => {
            let transactional_ids = vec!["tx".into(), "none".into()];
            vec![Request::DescribeTransactions(DescribeTransactionsRequest {
                transactional_ids,
            })]
        }
        ApiKey::ListTransactions => vec![Request::ListTransactions(ListTransactionsRequest {
            state_filters: vec!["Empty".into(), "Nonsense".into()],
            duration_filter: if v >= 1 { 0 } else { -1 },
            transactional_id_pattern: (v >= 2).then(|| "t.*".into()),
            ..Default::default()
        })],
        ApiKey::InitProducerId => [None, Some("tx")]
            .into_iter()
            .map(|id| {
                let transactional_id = id.map(Into::into);
                Request::InitProducerId(InitProducerIdRequest {
                    transactional_id,
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::AlterConfigs => [(2, TOPIC), (4, ""), (2, "none")]
            .into_iter()
            .map(|(resource_type, name)| {
                let configs = vec![alter_configs::AlterableConfig {
                    name: "log.retention.ms".into(),
                    value: Some("5".into()),
                }];
                let resources = vec![alter_configs::AlterConfigsResource {
                    resource_type,
                    resource_name: name.into(),
                    configs,
                }];
                Request::AlterConfigs(alter_configs::AlterConfigsRequest {
                    resources,
                    validate_only: false,
                })
            })
            .collect(),
        ApiKey::IncrementalAlterConfigs => [(2, TOPIC), (4, "1"), (32, "g"), (2, "none")]
            .into_iter()
            .map(|(resource_type, name)| {
                let configs = vec![incremental_alter_configs::AlterableConfig {
                    name: "retention.ms".into(),
                    config_operation: 0,
                    value: Some("5".into()),
                }];
                let resources = vec![incremental_alter_configs::AlterConfigsResource {
                    resource_type,
                    resource_name: name.into(),
                    configs,
                }];
                Request::IncrementalAlterConfigs(
                    incremental_alter_configs::IncrementalAlterConfigsRequest {
                        resources,
                        validate_only: false,
                    },
                )
            })
            .collect(),
        ApiKey::AlterClientQuotas => [("user", Some("u")), ("client-id", None), ("planet", None)]
            .into_iter()
            .map(|(entity_type, name)| {
                let entry = alter_client_quotas::RequestEntryData {
                    entity: vec![alter_client_quotas::RequestEntityData {
                        entity_type: entity_type.into(),
                        entity_name: name.map(Into::into),
                    }],
                    ops: vec![alter_client_quotas::OpData {
                        key: "producer_byte_rate".into(),
                        value: 1e6,
                        remove: false,
                    }],
                };
                Request::AlterClientQuotas(alter_client_quotas::AlterClientQuotasRequest {
                    entries: vec![entry],
                    validate_only: false,
                })
            })
            .collect(),
        ApiKey::DescribeClientQuotas => [("user", 2), ("client-id", 1), ("planet", 2)]
            .into_iter()
            .map(|(entity_type, match_type)| {
                let component = describe_client_quotas::ComponentData {
                    entity_type: entity_type.into(),
                    match_type,
                    match_: None,
                };
                Request::DescribeClientQuotas(describe_client_quotas::DescribeClientQuotasRequest {
                    components: vec![component],
                    strict: false,
                })
            })
            .collect(),
        ApiKey::ListConfigResources => {
            let resource_types = if v >= 1 { vec![2, 4] } else { Vec::new() };
            vec![Request::ListConfigResources(ListConfigResourcesRequest {
                resource_types,
            })]
        }
        ApiKey::DescribeConfigs => [(2, TOPIC), (4, "1"), (4, ""), (32, "g"), (2, "none")]
            .into_iter()
            .map(|(resource_type, name)| {
                let resource = DescribeConfigsResource {
                    resource_type,
                    resource_name: name.into(),
                    configuration_keys: None,
                };
                Request::DescribeConfigs(DescribeConfigsRequest {
                    resources: vec![resource],
                    include_synonyms: true,
                    include_documentation: v >= 3,
                })
            })
            .collect(),
        ApiKey::CreatePartitions => [(TOPIC, 2 + i32::from(v)), (TOPIC, 1), ("none", 2)]
            .into_iter()
            .map(|(name, count)| {
                let topics = vec![CreatePartitionsTopic {
                    name: name.into(),
                    count,
                    assignments: None,
                }];
                Request::CreatePartitions(CreatePartitionsRequest {
                    topics,
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::DeleteGroups => {
            let groups_names = vec![GROUP, "none".into()];
            vec![Request::DeleteGroups(DeleteGroupsRequest { groups_names })]
        }
        ApiKey::OffsetDelete => {
            let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
            let topics = vec![OffsetDeleteRequestTopic {
                name: TOPIC.into(),
                partitions,
            }];
            vec![Request::OffsetDelete(OffsetDeleteRequest {
                group_id: GROUP,
                topics,
            })]
        }
        ApiKey::DescribeCluster => {
            vec![Request::DescribeCluster(DescribeClusterRequest::default())]
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let heartbeat = |group: &str, member_epoch| ConsumerGroupHeartbeatRequest {
                group_id: group.into(),
                member_id: if v >= 1 || member_epoch != 0 {
                    "m".into()
                } else {
                    Str::new()
                },
                member_epoch,
                rebalance_timeout_ms: 1000,
                subscribed_topic_names: Some(vec![TOPIC.into()]),
                topic_partitions: Some(Vec::new()),
                ..Default::default()
            };
            [("new", 0), ("new", 1), ("new", -1), ("nobody", 1), ("", 0)]
                .into_iter()
                .map(|(group, epoch)| Request::ConsumerGroupHeartbeat(heartbeat(group, epoch)))
                .collect()
        }
        ApiKey::ConsumerGroupDescribe => {
            vec![Request::ConsumerGroupDescribe(
                ConsumerGroupDescribeRequest {
                    group_ids: vec!["new".into(), GROUP, "nobody".into()],
                    include_authorized_operations: true,
                },
            )]
        }
        ApiKey::OffsetForLeaderEpoch => {
            let asked = [(0, 0), (0, 5), (9, 0)];
            let partitions = asked.map(|(partition, leader_epoch)| OffsetForLeaderPartition {
                partition,
                leader_epoch,
                ..Default::default()
            });
            let topics = vec![OffsetForLeaderTopic {
                topic: TOPIC.into(),
                partitions: partitions.to_vec(),
            }];
            vec![Request::OffsetForLeaderEpoch(OffsetForLeaderEpochRequest {
                topics,
                ..Default::default()
            })]
        }
        ApiKey::DescribeLogDirs => {
            vec![Request::DescribeLogDirs(DescribeLogDirsRequest::default())]
        }
        ApiKey::ElectLeaders => {
            let asked = vec![TopicPartitions {
                topic: TOPIC.into(),
                partitions: vec![0, 9],
            }];
            [None, Some(asked)]
                .map(|topic_partitions| {
                    Request::ElectLeaders(ElectLeadersRequest {
                        topic_partitions,
                        ..Default::default()
                    })
                })
                .to_vec()
        }
        ApiKey::ListPartitionReassignments => {
            vec![Request::ListPartitionReassignments(Default::default())]
        }
        ApiKey::DescribeTopicPartitions => {
            vec![Request::DescribeTopicPartitions(Default::default())]
        }
        ApiKey::ShareGroupHeartbeat => [("m", 0), ("m", 1), ("nobody", 1), ("m", -1)]
            .into_iter()
            .map(|(member, member_epoch)| {
                Request::ShareGroupHeartbeat(ShareGroupHeartbeatRequest {
                    group_id: "shared".into(),
                    member_id: member.into(),
                    member_epoch,
                    subscribed_topic_names: Some(vec![TOPIC.into()]),
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::ShareGroupDescribe => {
            let group_ids = vec!["shared".into(), GROUP, Str::new()];
            vec![Request::ShareGroupDescribe(ShareGroupDescribeRequest {
                group_ids,
                include_authorized_operations: true,
            })]
        }
        ApiKey::ShareFetch => [(id, 0), (unknown, 0), (id, 5), (id, -1)]
            .into_iter()
            .map(|(topic_id, share_session_epoch)| {
                Request::ShareFetch(ShareFetchRequest {
                    group_id: Some("shared".into()),
                    member_id: Some("m".into()),
                    share_session_epoch,
                    max_bytes: 1 << 20,
                    max_records: 10,
                    batch_size: 10,
                    topics: vec![share_fetch::FetchTopic {
                        topic_id,
                        partitions: vec![share_fetch::FetchPartition::default()],
                    }],
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::ShareAcknowledge => [(id, 0), (unknown, -1)]
            .into_iter()
            .map(|(topic_id, share_session_epoch)| {
                Request::ShareAcknowledge(ShareAcknowledgeRequest {
                    group_id: Some("shared".into()),
                    member_id: Some("m".into()),
                    share_session_epoch,
                    topics: vec![AcknowledgeTopic {
                        topic_id,
                        partitions: vec![AcknowledgePartition::default()],
                    }],
                    ..Default::default()
                })
            })
            .collect(),
        ApiKey::DescribeShareGroupOffsets => {
            let group = |group_id: &str, topics| DescribeShareGroupOffsetsRequestGroup {
                group_id: group_id.into(),
                topics,
            };
            let topic = DescribeShareGroupOffsetsRequestTopic {
                topic_name: TOPIC.into(),
                partitions: vec![0, 9],
            };
            let groups = vec![group("shared", None), group("none", Some(vec![topic]))];
            vec![Request::DescribeShareGroupOffsets(
                DescribeShareGroupOffsetsRequest { groups },
            )]
        }
        ApiKey::AlterShareGroupOffsets => [TOPIC, "none"]
            .into_iter()
            .map(|name| {
                let partitions = vec![AlterShareGroupOffsetsRequestPartition {
                    partition_index: 0,
                    start_offset: 0,
                }];
                Request::AlterShareGroupOffsets(AlterShareGroupOffsetsRequest {
                    group_id: "altered".into(),
                    topics: vec![AlterShareGroupOffsetsRequestTopic {
                        topic_name: name.into(),
                        partitions,
                    }],
                })
            })
            .collect(),
        ApiKey::DeleteShareGroupOffsets => ["altered", "none"]
            .into_iter()
            .map(|group| {
                Request::DeleteShareGroupOffsets(DeleteShareGroupOffsetsRequest {
                    group_id: group.into(),
                    topics: vec![DeleteShareGroupOffsetsRequestTopic {
                        topic_name: TOPIC.into(),
                    }],
                })
            })
            .collect(),
        ApiKey::GetTelemetrySubscriptions => [Uuid::ZERO, unknown, unknown]
            .map(|client_instance_id| {
                Request::GetTelemetrySubscriptions(GetTelemetrySubscriptionsRequest {
                    client_instance_id,
                })
            })
            .to_vec(),
        ApiKey::PushTelemetry => [Uuid::ZERO, unknown]
            .map(|client_instance_id| {
                Request::PushTelemetry(PushTelemetryRequest {
                    client_instance_id,
                    ..Default::default()
                })
            })
            .to_vec(),
        _ => Vec::new(),
    }
}

#[test]
fn every_version_of_every_key_is_answered_in_that_version() {
    for key in SERVED {
        let config = BrokerConfig {
            durability: Durability::Os,
            client_telemetry: true,
            ..BrokerConfig::default()
        };
        let served = |version: &i16| is_served(*key, *version, &config);
        for version in advertised_versions(*key).filter(served) {
            let mut h = Harness::with(config.clone());
            h.create_topic(TOPIC, 1, &[]);
            h.create_topic(&alloc::format!("created-{version}-old"), 1, &[]);
            h.produce(TOPIC, 0, batch(&["first"]));
            assert_eq!(h.init_transactions("tx"), (0, 0));
            let id = h.broker.topics.by_name(TOPIC).unwrap().id;
            if *key == ApiKey::ConsumerGroupDescribe {
                let join = ConsumerGroupHeartbeatRequest {
                    group_id: "new".into(),
                    member_id: "m".into(),
                    rebalance_timeout_ms: 1000,
                    subscribed_topic_names: Some(vec![TOPIC.into()]),
                    topic_partitions: Some(Vec::new()),
                    ..Default::default()
                };
                h.ask(1, Request::ConsumerGroupHeartbeat(join));
            }
            let all = requests(*key, version, id);
            assert!(!all.is_empty(), "{key:?}");
            for request in all {
                let mut e = Encoder::new();
                request
                    .encode(version, &mut e)
                    .unwrap_or_else(|error| panic!("{key:?} {version}: {error}"));
                let request = Request::decode(*key, version, &mut Decoder::new(e.into_bytes()))
                    .unwrap_or_else(|error| panic!("{key:?} {version}: {error:?}"));
                let sent = h.send(version, request);
                let Some(mut response) = h.take_answer(sent) else {
                    panic!("{key:?} {version}: no answer")
                };
                // Every answer but those between brokers can tell to wait, and versions without the field leave it out.
                match response.throttle_time_ms_mut() {
                    Some(throttle_ms) => *throttle_ms = 7,
                    None => assert_eq!(*key, ApiKey::WriteTxnMarkers),
                }
                let mut e = Encoder::new();
                response
                    .encode(version, &mut e)
                    .unwrap_or_else(|error| panic!("{key:?} {version}: {error}"));
                let bytes = e.into_bytes();
                let read = Response::decode(*key, version, &mut Decoder::new(bytes.clone()))
                    .unwrap_or_else(|error| panic!("{key:?} {version}: {error:?}"));
                let mut again = Encoder::new();
                read.encode(version, &mut again).unwrap();
                assert_eq!(again.into_bytes(), bytes, "{key:?} {version}");
            }
        }
    }
}

/// `NAME (NUMBER)` of a key, `Serves versions A to B.`, and how it is beside Kafka: what each handler's file opens with.
#[test]
fn every_handler_says_which_versions_it_serves_and_where_it_departs_from_kafka() {
    let config = BrokerConfig {
        client_telemetry: true,
        ..BrokerConfig::default()
    };
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut files = Vec::new();
    for key in SERVED {
        let name = key.name();
        let is_word = |at: usize| at > 0 && name.as_bytes()[at].is_ascii_uppercase();
        let file: String = name
            .char_indices()
            .flat_map(|(at, c)| {
                is_word(at)
                    .then_some('_')
                    .into_iter()
                    .chain([c.to_ascii_lowercase()])
            })
            .collect();
        let source = std::fs::read_to_string(dir.join(&file).with_extension("rs")).unwrap();
        let head: Vec<&str> = source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(|line| if line.is_empty() { "\n" } else { line.trim() })
            .collect();
        let head = head.join(" ");
        let number = *key as i16;
        assert!(
            head.starts_with(&format!("{name} ({number})")),
            "{file}.rs: {head}"
        );

        let all: Vec<i16> = (0..=i16::MAX)
            .filter(|v| is_served(*key, *v, &config))
            .collect();
        let serves = match (all.first().unwrap(), all.last().unwrap()) {
            (first, last) if first == last => format!("Serves version {first}."),
            (first, last) => format!("Serves versions {first} to {last}."),
        };
        let said = head
            .split('\n')
            .map(str::trim)
            .find_map(|part| part.strip_prefix(&serves));
        let Some(said) = said else {
            panic!("{file}.rs doesn't say \"{serves}\": {head}")
        };
        let said = said.trim_start();
        assert!(
            said == "As Kafka." || said.starts_with("Departs from Kafka: "),
            "{file}.rs: where does it depart from Kafka? {said}"
        );
        files.push(file);
    }
    for file in std::fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let handles = source.contains("\npub(crate) fn handle(");
        assert_eq!(
            handles,
            files.iter().any(|known| known == stem),
            "{stem}.rs"
        );
    }
}
