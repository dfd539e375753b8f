//! Administration, and what else asks the cluster and waits.

use crate::{
    client::{NativeClient, Offset},
    value::Value,
};
use napi_derive::napi;
use ottla::{
    Admin, ConfigEntry, ConfigResource, ErrCode, GroupInfo, KafkaError, NewTopic, OffsetSpec,
    PartitionMetadata, TopicPartition,
};
use std::time::Duration;

/// A topic to create.
#[napi(object)]
pub struct TopicToCreate {
    /// Its name.
    pub topic: String,
    /// Partitions; -1 is the broker's default.
    pub partitions: i32,
    /// Replicas; -1 is the broker's default.
    pub replication_factor: i32,
    /// Names and values of its configuration, in turn.
    pub config: Vec<String>,
}

/// What has a configuration.
#[napi(object)]
pub struct Resource {
    /// Kafka's number: 2 is a topic, 4 a broker.
    pub kind: i32,
    /// The topic's name or the broker's number; an empty one is all brokers.
    pub name: String,
}

/// What is set of something that has a configuration.
#[napi(object)]
pub struct ResourceSettings {
    /// Of which kind it is, as in [`Resource`].
    pub kind: i32,
    /// Its name.
    pub name: String,
    /// Names and values, in turn.
    pub config: Vec<String>,
}

fn resource(kind: i32, name: String) -> Result<ConfigResource, KafkaError> {
    match (kind, name.parse()) {
        (2, _) => Ok(ConfigResource::Topic(name)),
        (4, Ok(node)) => Ok(ConfigResource::Broker(node)),
        (4, Err(_)) if name.is_empty() => Ok(ConfigResource::AllBrokers),
        (4, Err(_)) => Err(KafkaError::new(
            ErrCode::INVALID_ARG,
            format!("a broker's name is its number, not {name:?}"),
        )),
        _ => Err(KafkaError::new(
            ErrCode::INVALID_ARG,
            format!("no resource type {kind}"),
        )),
    }
}

type Answer = Result<Value, KafkaError>;

fn ms(timeout: u32) -> Duration {
    Duration::from_millis(timeout.into())
}

/// One entry for each thing: `null`, or its error.
fn each(results: Vec<Result<(), KafkaError>>) -> Value {
    let one = |result: Result<(), KafkaError>| match result {
        Ok(()) => Value::Null,
        Err(error) => (&error).into(),
    };
    Value::list(results.into_iter().map(one))
}

fn names(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

#[napi]
impl NativeClient {
    /// Brokers and all topics; or the topic named, which comes into being if it may.
    #[napi]
    pub fn metadata(&self, id: u32, topic: Option<String>, timeout: u32) {
        self.run(id, move |handle| {
            let topics = topic.as_ref().map(|topic| [topic.as_str()]);
            let found = handle.metadata(topics.as_ref().map(|t| &t[..]), ms(timeout))?;
            let topics = found.topics.iter().map(|topic| {
                Value::Map(vec![
                    ("name", (&*topic.name).into()),
                    ("errorCode", topic.error.0.into()),
                    ("isInternal", Value::Bool(topic.is_internal)),
                    (
                        "partitions",
                        Value::list(topic.partitions.iter().map(partition)),
                    ),
                ])
            });
            let brokers = found.brokers.iter().map(|broker| {
                Value::Map(vec![
                    ("nodeId", broker.id.into()),
                    ("host", (&*broker.host).into()),
                    ("port", broker.port.into()),
                ])
            });
            let cluster = found.cluster_id.as_ref();
            Ok(Value::Map(vec![
                ("topics", Value::list(topics)),
                ("brokers", Value::list(brokers)),
                ("controller", found.controller_id.into()),
                (
                    "clusterId",
                    cluster.map_or(Value::Null, |id| (&**id).into()),
                ),
            ]))
        });
    }

    /// Creates topics: an error or `null` for each.
    #[napi]
    pub fn create_topics(&self, id: u32, topics: Vec<TopicToCreate>, validate: bool, timeout: u32) {
        self.run(id, move |handle| {
            let topic = |topic: TopicToCreate| NewTopic {
                name: topic.topic,
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor as i16,
                config: topic
                    .config
                    .chunks_exact(2)
                    .map(|pair| (pair[0].clone(), pair[1].clone()))
                    .collect(),
                replica_assignments: Vec::new(),
            };
            let topics: Vec<_> = topics.into_iter().map(topic).collect();
            Admin::of(handle)
                .create_topics(&topics, validate, ms(timeout))
                .map(each)
        });
    }

    /// Deletes topics: an error or `null` for each.
    #[napi]
    pub fn delete_topics(&self, id: u32, topics: Vec<String>, timeout: u32) {
        self.run(id, move |handle| {
            Admin::of(handle)
                .delete_topics(&names(&topics), ms(timeout))
                .map(each)
        });
    }

    /// Gives topics so many partitions in all: an error or `null` for each.
    #[napi]
    pub fn create_partitions(
        &self,
        id: u32,
        topics: Vec<String>,
        counts: Vec<i32>,
        validate: bool,
        timeout: u32,
    ) {
        self.run(id, move |handle| {
            let topics: Vec<_> = topics.iter().map(String::as_str).zip(counts).collect();
            Admin::of(handle)
                .create_partitions(&topics, validate, ms(timeout))
                .map(each)
        });
    }

    /// Offsets of partitions: `offset` is the timestamp, or -1 for the end, -2 for the beginning.
    #[napi]
    pub fn list_offsets(&self, id: u32, wanted: Vec<Offset>, timeout: u32) {
        self.run(id, move |handle| {
            let spec = |wanted: &Offset| {
                let spec = match wanted.offset as i64 {
                    -1 => OffsetSpec::Latest,
                    -2 => OffsetSpec::Earliest,
                    timestamp => OffsetSpec::Timestamp(timestamp),
                };
                (TopicPartition::from(wanted), spec)
            };
            let wanted: Vec<_> = wanted.iter().map(spec).collect();
            let found = Admin::of(handle).list_offsets(&wanted, ms(timeout))?;
            let one = |result: Result<ottla::ListedOffset, KafkaError>| {
                Value::or_error(
                    result.map(|found| Value::Map(vec![("offset", found.offset.into())])),
                )
            };
            Ok(Value::list(found.into_iter().map(one)))
        });
    }

    /// Deletes the records of partitions before an offset, -1 for all: the first offset then, or the error, for each.
    #[napi]
    pub fn delete_records(&self, id: u32, before: Vec<Offset>, timeout: u32) {
        self.run(id, move |handle| {
            let before: Vec<_> = before.iter().map(TopicPartition::from).collect();
            let deleted = Admin::of(handle).delete_records(&before, ms(timeout))?;
            let one = |partition: TopicPartition| match partition.error {
                ottla::ErrCode::NO_ERROR => Value::Map(vec![("offset", partition.offset.into())]),
                error => Value::or_error(Err(KafkaError::from(error))),
            };
            Ok(Value::list(deleted.into_iter().map(one)))
        });
    }

    /// Settings of topics and brokers.
    #[napi]
    pub fn describe_configs(&self, id: u32, resources: Vec<Resource>, timeout: u32) {
        self.run(id, move |handle| {
            let resources = resources.into_iter().map(|r| resource(r.kind, r.name));
            let resources = resources.collect::<Result<Vec<_>, _>>()?;
            let found = Admin::of(handle).describe_configs(&resources, ms(timeout))?;
            let one = |result: Result<Vec<ConfigEntry>, KafkaError>| {
                Value::or_error(result.map(|entries| Value::list(entries.iter().map(config))))
            };
            Ok(Value::list(found.into_iter().map(one)))
        });
    }

    /// Replaces all that is set of topics and brokers: an error or `null` for each.
    #[napi]
    pub fn alter_configs(
        &self,
        id: u32,
        resources: Vec<ResourceSettings>,
        validate: bool,
        timeout: u32,
    ) {
        self.run(id, move |handle| {
            let settings = |given: ResourceSettings| {
                let pairs = given.config.chunks_exact(2);
                let config = pairs.map(|pair| (pair[0].clone(), pair[1].clone()));
                let config = config.collect();
                resource(given.kind, given.name).map(|resource| (resource, config))
            };
            let resources = resources.into_iter().map(settings);
            let resources = resources.collect::<Result<Vec<_>, _>>()?;
            Admin::of(handle)
                .alter_configs(&resources, validate, ms(timeout))
                .map(each)
        });
    }

    /// Partitions that move to other brokers: among those named, or all.
    #[napi]
    pub fn list_partition_reassignments(
        &self,
        id: u32,
        partitions: Option<Vec<Offset>>,
        timeout: u32,
    ) {
        self.run(id, move |handle| {
            let partitions: Option<Vec<_>> =
                partitions.map(|list| list.iter().map(TopicPartition::from).collect());
            let moving = Admin::of(handle)
                .list_partition_reassignments(partitions.as_deref(), ms(timeout))?;
            let nodes = |nodes: &[i32]| Value::list(nodes.iter().copied());
            Ok(Value::list(moving.iter().map(|one| {
                Value::Map(vec![
                    ("topic", (&*one.topic).into()),
                    ("partitionIndex", one.partition.into()),
                    ("replicas", nodes(&one.replicas)),
                    ("addingReplicas", nodes(&one.adding_replicas)),
                    ("removingReplicas", nodes(&one.removing_replicas)),
                ])
            })))
        });
    }

    /// All groups.
    #[napi]
    pub fn list_groups(&self, id: u32, timeout: u32) {
        self.run(id, move |handle| -> Answer {
            let groups = Admin::of(handle).list_groups(&[], ms(timeout))?;
            Ok(Value::list(groups.iter().map(|group| {
                Value::Map(vec![
                    ("groupId", group.group_id.as_str().into()),
                    ("protocolType", group.protocol_type.as_str().into()),
                ])
            })))
        });
    }

    /// Groups with their members.
    #[napi]
    pub fn describe_groups(&self, id: u32, groups: Vec<String>, timeout: u32) {
        self.run(id, move |handle| -> Answer {
            let found = Admin::of(handle).describe_groups(&names(&groups), ms(timeout))?;
            let one = |result: Result<GroupInfo, KafkaError>| {
                Value::or_error(result.map(|info| group(&info)))
            };
            Ok(Value::list(found.into_iter().map(one)))
        });
    }

    /// Deletes empty groups: an error or `null` for each.
    #[napi]
    pub fn delete_groups(&self, id: u32, groups: Vec<String>, timeout: u32) {
        self.run(id, move |handle| {
            Admin::of(handle)
                .delete_groups(&names(&groups), ms(timeout))
                .map(each)
        });
    }

    /// What a group has committed.
    #[napi]
    pub fn group_offsets(&self, id: u32, group: String, timeout: u32) {
        self.run(id, move |handle| {
            let found = Admin::of(handle).list_group_offsets(&group, None, ms(timeout))?;
            Ok(Value::list(&found))
        });
    }

    /// Sets what an empty group has committed.
    #[napi]
    pub fn set_group_offsets(&self, id: u32, group: String, offsets: Vec<Offset>, timeout: u32) {
        self.run(id, move |handle| {
            let offsets: Vec<_> = offsets.iter().map(TopicPartition::from).collect();
            let result = Admin::of(handle).alter_group_offsets(&group, &offsets, ms(timeout))?;
            match result.iter().find(|p| p.error != ottla::ErrCode::NO_ERROR) {
                Some(failed) => Err(KafkaError::from(failed.error)),
                None => Ok(Value::Null),
            }
        });
    }
}

fn partition(partition: &PartitionMetadata) -> Value {
    let nodes = |nodes: &[i32]| Value::list(nodes.iter().copied());
    Value::Map(vec![
        ("partitionErrorCode", partition.error.0.into()),
        ("partitionId", partition.id.into()),
        ("leader", partition.leader.into()),
        ("replicas", nodes(&partition.replicas)),
        ("isr", nodes(&partition.isrs)),
        ("offlineReplicas", Value::List(Vec::new())),
    ])
}

fn config(entry: &ConfigEntry) -> Value {
    let value = entry.value.as_deref();
    let synonyms = entry.synonyms.iter().map(|(name, value, source)| {
        let value = value.as_deref();
        Value::Map(vec![
            ("configName", name.as_str().into()),
            ("configValue", value.map_or(Value::Null, Into::into)),
            ("configSource", i32::from(*source).into()),
        ])
    });
    Value::Map(vec![
        ("configName", entry.name.as_str().into()),
        ("configValue", value.map_or(Value::Null, Into::into)),
        ("readOnly", Value::Bool(entry.is_read_only)),
        ("isDefault", Value::Bool(entry.source == 5)),
        ("configSource", i32::from(entry.source).into()),
        ("isSensitive", Value::Bool(entry.is_sensitive)),
        ("configSynonyms", Value::list(synonyms)),
    ])
}

fn group(info: &GroupInfo) -> Value {
    let members = info.members.iter().map(|member| {
        Value::Map(vec![
            ("memberId", (&*member.member_id).into()),
            ("clientId", (&*member.client_id).into()),
            ("clientHost", (&*member.client_host).into()),
            ("memberMetadata", Value::Bytes(member.metadata.to_vec())),
            ("memberAssignment", Value::Bytes(member.assignment.to_vec())),
        ])
    });
    Value::Map(vec![
        ("errorCode", info.error.0.into()),
        ("groupId", (&*info.group).into()),
        ("state", (&*info.state).into()),
        ("protocol", (&*info.protocol).into()),
        ("protocolType", (&*info.protocol_type).into()),
        ("members", Value::list(members)),
    ])
}
