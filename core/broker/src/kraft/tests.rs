//! Promotion and adoption in memory; `cargo xtask test jvm` does both with a JVM Kafka.

use std::{
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};

use bytes::Bytes;
use ottla_log::{MemoryStorage, Storage, data_dir, join, write_file};
use ottla_protocol::{
    ErrorCode, Uuid,
    messages::{
        ClientQuotaRecord, ConfigRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord,
        TopicRecord, client_quota_record::EntityData,
    },
};
use ottla_record::{BatchBuilder, Batches, FinishOptions, Limits, Now};

use super::{
    BOOTSTRAP_CHECKPOINT, ClusterMetadata, METADATA_DIR, PromoteError, Promoted, promote,
    records::{MetadataRecord, ToValue},
};
use crate::{
    Broker, BrokerConfig, Durability,
    api::alter_client_quotas::tests::set,
    configs::dynamic::{DynamicConfigs, Given},
    testing::{Harness, batch, values},
};

const NOW: Now = Now::new(5, 1_700_000_000_000);

fn written() -> Harness {
    let mut h = Harness::new(Durability::Os);
    h.create_topic(
        "orders",
        2,
        &[("cleanup.policy", "compact"), ("segment.bytes", "1000")],
    );
    h.create_topic("events", 1, &[]);
    h.produce("events", 0, batch(&["a", "b"]));
    h.broker.producer_ids.take(&*h.storage).unwrap();
    h
}

fn closed(mut h: Harness) -> Arc<MemoryStorage> {
    h.broker.close(h.now).unwrap();
    h.storage
}

fn open(storage: &Arc<MemoryStorage>) -> Result<Broker, crate::BrokerError> {
    let config = BrokerConfig {
        durability: Durability::Os,
        ..BrokerConfig::default()
    };
    Broker::open(config, storage.clone(), NOW, 7)
}

fn records_in(storage: &MemoryStorage, path: &str) -> Vec<MetadataRecord> {
    let bytes = ottla_log::read_file(storage, path, 1 << 20)
        .unwrap()
        .unwrap();
    let mut records = Vec::new();
    for batch in Batches::new(vec![bytes]) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        if batch.header().attributes.is_control() {
            continue;
        }
        let mut read = batch.records(Limits::default()).unwrap();
        while let Some(record) = read.next_record() {
            let value = Bytes::copy_from_slice(record.unwrap().value.unwrap());
            records.push(MetadataRecord::parse(value).unwrap());
        }
    }
    records
}

/// Writes the metadata log's first segment, as a JVM Kafka would: `values` in one batch.
fn metadata_log(storage: &MemoryStorage, values: &[Bytes]) {
    let mut builder = BatchBuilder::new(1024);
    for value in values {
        builder.append(1, None, Some(value), &[]).unwrap();
    }
    let batch = builder.finish(&FinishOptions::default()).unwrap().encoded;
    storage.create_dir(METADATA_DIR).unwrap();
    let path = join(METADATA_DIR, "00000000000000000000.log");
    write_file(storage, &path, &batch).unwrap();
}

fn topic(name: &str, id: Uuid, replicas: &[i32]) -> Vec<Bytes> {
    let record = TopicRecord {
        name: name.into(),
        topic_id: id,
    };
    let mut values = vec![record.to_value().unwrap()];
    for partition_id in 0..2 {
        let record = PartitionRecord {
            partition_id,
            topic_id: id,
            replicas: replicas.into(),
            ..PartitionRecord::default()
        };
        values.push(record.to_value().unwrap());
    }
    values
}

fn names(broker: &Broker) -> Vec<String> {
    let mut names: Vec<String> = broker
        .topics
        .iter()
        .map(|t| String::from(&*t.name))
        .collect();
    names.sort();
    names
}

#[test]
fn promotion_writes_what_kafka_begins_with() {
    let h = written();
    let open_still = promote(&*h.storage, NOW, 1);
    assert!(matches!(open_still, Err(PromoteError::NotClosedCleanly)));
    let id = h.broker.topics.by_name("orders").unwrap().id;
    let storage = closed(h);
    let promotion = promote(&*storage, NOW, 1).unwrap();
    assert_eq!(promotion.promoted, Promoted::Now);
    assert_eq!((promotion.topics, promotion.partitions), (2, 3));
    assert_eq!(promotion.next_producer_id, 1000);

    let records = records_in(&storage, BOOTSTRAP_CHECKPOINT);
    assert_eq!(
        records[0],
        MetadataRecord::FeatureLevel(FeatureLevelRecord {
            name: "metadata.version".into(),
            feature_level: 25
        })
    );
    let has = |record: MetadataRecord| assert!(records.contains(&record), "{record:?}");
    has(MetadataRecord::ProducerIds(ProducerIdsRecord {
        broker_id: 1,
        broker_epoch: -1,
        next_producer_id: 1000,
    }));
    has(MetadataRecord::Topic(TopicRecord {
        name: "orders".into(),
        topic_id: id,
    }));
    // Kafka 4 takes no smaller segments.
    has(MetadataRecord::Config(ConfigRecord {
        resource_type: 2,
        resource_name: "orders".into(),
        name: "segment.bytes".into(),
        value: Some("1048576".into()),
    }));
    let partitions: Vec<&PartitionRecord> = records
        .iter()
        .filter_map(|record| match record {
            MetadataRecord::Partition(partition) if partition.topic_id == id => Some(partition),
            _ => None,
        })
        .collect();
    assert_eq!(partitions.len(), 2);
    assert_eq!(
        (&partitions[1].replicas[..], &partitions[1].isr[..]),
        (&[1][..], &[1][..])
    );
    assert_eq!(
        (partitions[1].leader, partitions[1].directories.len()),
        (-1, 1)
    );

    // Again, and after Ottla had it once more, it is the same.
    assert_eq!(promote(&*storage, NOW, 2).unwrap(), promotion);
    open(&storage).unwrap().close(NOW).unwrap();
    assert_eq!(promote(&*storage, NOW, 3).unwrap(), promotion);
    assert_eq!(records_in(&storage, BOOTSTRAP_CHECKPOINT), records);
    let empty = promote(&MemoryStorage::new(), NOW, 1);
    assert!(matches!(empty, Err(PromoteError::NotADataDirectory)));
}

#[test]
fn topics_of_a_metadata_log_are_taken_over() {
    let h = written();
    let orders = h.broker.topics.by_name("orders").unwrap().id;
    let storage = closed(h);
    let theirs = Uuid::from_random(77);
    let feature = FeatureLevelRecord {
        name: "metadata.version".into(),
        feature_level: 27,
    };
    let config = |name: &str, value: &str| {
        ConfigRecord {
            resource_type: 2,
            resource_name: "theirs".into(),
            name: name.into(),
            value: Some(value.into()),
        }
        .to_value()
        .unwrap()
    };
    let ids = ProducerIdsRecord {
        broker_id: 1,
        broker_epoch: 9,
        next_producer_id: 5000,
    };
    // A user's password, byte for byte whatever it is; and `events` is gone.
    let of_no_concern = Bytes::from_static(b"\x01\x0b\x00whatever");
    let mut values = vec![feature.to_value().unwrap(), of_no_concern.clone()];
    values.extend(topic("orders", orders, &[1]));
    values.extend(topic("theirs", theirs, &[1]));
    values.push(config("retention.ms", "-1"));
    values.push(config("preallocate", "true"));
    values.push(ids.to_value().unwrap());
    metadata_log(&storage, &values);
    storage.remove_dir("events-0").unwrap();

    let mut broker = open(&storage).unwrap();
    assert_eq!(names(&broker), ["orders", "theirs"]);
    let adopted = broker.topics.by_name("theirs").unwrap();
    assert_eq!((adopted.id, adopted.partitions.len()), (theirs, 2));
    assert_eq!(adopted.config.retention_ms, -1);
    assert_eq!(broker.producer_ids.take(&*storage).unwrap(), 5000);
    broker.close(NOW).unwrap();
    // Its log has what is needed, but for the producer ids that are used up since.
    let again = promote(&*storage, NOW, 1).unwrap();
    assert_eq!(
        (again.promoted, again.next_producer_id),
        (Promoted::Again, 6000)
    );
    assert!(!storage.exists(METADATA_DIR).unwrap());
    let records = records_in(&storage, BOOTSTRAP_CHECKPOINT);
    assert_eq!(records[0], MetadataRecord::FeatureLevel(feature));
    assert!(records.contains(&MetadataRecord::parse(of_no_concern).unwrap()));
    assert_eq!(names(&open(&storage).unwrap()), ["orders", "theirs"]);
}

#[test]
fn a_node_of_several_is_refused_and_left_as_it_is() {
    let storage = closed(written());
    metadata_log(&storage, &topic("t", Uuid::from_random(5), &[2, 3]));
    let error = open(&storage).unwrap_err();
    assert!(error.to_string().contains("cluster of several"), "{error}");
    assert!(storage.exists(data_dir::CLEAN_SHUTDOWN).unwrap());
}

#[test]
fn a_torn_metadata_log_ends_before_its_tear_and_transactions_count_when_they_end() {
    let storage = MemoryStorage::new();
    let begin = Bytes::from_static(b"\x01\x17\x00\x00");
    let abort = Bytes::from_static(b"\x01\x19\x00\x00");
    let end = Bytes::from_static(b"\x01\x18\x00\x00");
    let (one, two, three) = (
        Uuid::from_random(1),
        Uuid::from_random(2),
        Uuid::from_random(3),
    );
    let mut values = vec![begin.clone()];
    values.extend(topic("one", one, &[1]));
    values.extend([end, begin.clone()]);
    values.extend(topic("two", two, &[1]));
    values.extend([abort, begin]);
    values.extend(topic("three", three, &[1]));
    metadata_log(&storage, &values);
    let read = ClusterMetadata::read(&storage).unwrap().unwrap();
    assert_eq!(read.topics.keys().copied().collect::<Vec<_>>(), [one]);
    assert_eq!(read.end_offset, values.len() as i64);

    let path = join(METADATA_DIR, "00000000000000000000.log");
    let whole = ottla_log::read_file(&storage, &path, 1 << 20)
        .unwrap()
        .unwrap();
    let torn = [&whole[..], &whole[..whole.len() - 3]].concat();
    write_file(&storage, &path, &torn).unwrap();
    assert_eq!(ClusterMetadata::read(&storage).unwrap().unwrap(), read);
    let mut damaged = whole.to_vec();
    damaged[70] ^= 1;
    write_file(&storage, &path, &damaged).unwrap();
    assert_eq!(ClusterMetadata::read(&storage).unwrap(), None);
}

#[test]
fn without_any_registry_directories_tell() {
    let mut h = written();
    h.produce("events", 0, batch(&["c"]));
    let storage = closed(h);
    storage.remove_file(crate::state_files::TOPICS).unwrap();
    let config = BrokerConfig {
        durability: Durability::Os,
        ..BrokerConfig::default()
    };
    let mut h = Harness::on(config, storage, NOW);
    assert_eq!(names(&h.broker), ["events", "orders"]);
    assert_eq!(values(&h.fetch("events", 0, 0).records), ["a", "b", "c"]);
    let kept = &h.broker.topics.by_name("events").unwrap().config;
    assert_eq!((kept.retention_ms, kept.retention_bytes), (-1, -1));
    let storage = closed(h);
    storage.remove_file(crate::state_files::TOPICS).unwrap();
    storage.remove_dir("orders-0").unwrap();
    let error = open(&storage).unwrap_err().to_string();
    assert!(
        error.contains("orders-0") && error.contains("missing"),
        "{error}"
    );
}

/// A setting of the kind and name, as a metadata record.
fn setting(resource_type: i8, resource: &str, name: &str, value: &str) -> ConfigRecord {
    ConfigRecord {
        resource_type,
        resource_name: resource.into(),
        name: name.into(),
        value: Some(value.into()),
    }
}

fn settings_in(storage: &MemoryStorage) -> Vec<ConfigRecord> {
    let of_others = |record| match record {
        MetadataRecord::Config(config) if config.resource_type != 2 => Some(config),
        _ => None,
    };
    let records = records_in(storage, BOOTSTRAP_CHECKPOINT).into_iter();
    records.filter_map(of_others).collect()
}

#[test]
fn settings_of_brokers_and_groups_are_promoted() {
    let mut h = written();
    let given = |name: &str, value: &str| Given::from([(name.into(), value.into())]);
    for (resource_type, of, name, value) in [
        (4, "", "log.segment.bytes", "5000"),
        (4, "1", "log.retention.ms", "7"),
        (32, "g", "consumer.session.timeout.ms", "50000"),
    ] {
        h.broker
            .configs
            .replace(resource_type, of, given(name, value));
    }
    h.broker.configs.write(&*h.storage).unwrap();
    let storage = closed(h);
    promote(&*storage, NOW, 1).unwrap();
    let expected = [
        setting(4, "", "log.segment.bytes", "1048576"),
        setting(4, "1", "log.retention.ms", "7"),
        setting(32, "g", "consumer.session.timeout.ms", "50000"),
    ];
    assert_eq!(settings_in(&storage), expected);
}

#[test]
fn settings_of_kafkas_brokers_are_taken_over_and_given_back() {
    let storage = closed(written());
    let id = Uuid::from_random(3);
    let mut log = topic("theirs", id, &[1]);
    for record in [
        setting(4, "", "log.retention.ms", "9"),
        setting(4, "1", "ssl.keystore.location", "/k"),
        setting(32, "g", "share.isolation.level", "read_committed"),
    ] {
        log.push(record.to_value().unwrap());
    }
    metadata_log(&storage, &log);
    let mut broker = open(&storage).unwrap();
    assert_eq!(broker.config.topic_defaults.retention_ms, 9);
    assert_eq!(broker.configs.resources.len(), 2);
    broker.close(NOW).unwrap();
    assert_eq!(
        promote(&*storage, NOW, 1).unwrap().promoted,
        Promoted::Again
    );
    // Ottla drops a setting: it is gone for Kafka too, and what Ottla doesn't know stays.
    let mut broker = open(&storage).unwrap();
    broker.configs.replace(4, "", Given::new());
    broker.configs.write(&*storage).unwrap();
    broker.close(NOW).unwrap();
    metadata_log(&storage, &log);
    let mut kept = DynamicConfigs::read(&*storage).unwrap();
    assert_eq!(kept.of(4, ""), None);
    kept.replace(32, "g", Given::new());
    let theirs = ClusterMetadata::read(&*storage).unwrap().unwrap();
    assert_eq!(theirs.other_configs.len(), 3);
    let given_back = super::promotion::other_configs(&kept, &theirs);
    let left: Vec<_> = given_back.into_iter().collect();
    let ssl = (4, "1".into(), "ssl.keystore.location".into());
    assert_eq!(left, [(ssl, "/k".into())]);
}

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

fn quota(entity: Parts<'_>, key: &str, value: Option<f64>) -> ClientQuotaRecord {
    let entity = entity.iter().map(|(of, name)| EntityData {
        entity_type: (*of).into(),
        entity_name: name.map(Into::into),
    });
    ClientQuotaRecord {
        entity: entity.collect(),
        key: key.into(),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
    }
}

#[test]
fn a_quota_is_kafkas_byte_for_byte() {
    let record = quota(&[("ip", None)], "connection_creation_rate", Some(2.5));
    let value = record.to_value().unwrap();
    let (head, number) = (
        b"\x01\x0e\x00\x02\x03ip\x00\x00\x19connection_creation_rate",
        b"\x40\x04\0\0\0\0\0\0\0\0",
    );
    assert_eq!(value[..], [&head[..], &number[..]].concat());
    assert_eq!(
        MetadataRecord::parse(value),
        Ok(MetadataRecord::ClientQuota(record))
    );
}

#[test]
fn quotas_go_to_kafka_and_come_back() {
    let mut h = written();
    let ours: [(Parts<'_>, _, _); 3] = [
        (
            &[("user", Some("u")), ("client-id", None)],
            "request_percentage",
            12.5,
        ),
        (&[("client-id", Some("c"))], "producer_byte_rate", 1000.0),
        (
            &[("ip", Some("127.0.0.1"))],
            "connection_creation_rate",
            7.0,
        ),
    ];
    for (entity, key, value) in ours {
        assert_eq!(set(&mut h, entity, &[(key, Some(value))]), ErrorCode::NONE);
    }
    let storage = closed(h);
    promote(&*storage, NOW, 1).unwrap();
    let records = records_in(&storage, BOOTSTRAP_CHECKPOINT);
    for (entity, key, value) in ours {
        let record = MetadataRecord::ClientQuota(quota(entity, key, Some(value)));
        assert!(records.contains(&record), "{record:?}");
    }

    // Kafka took them, and changed some. An address by its name is none to Ottla.
    let by_name = quota(
        &[("ip", Some("a.host"))],
        "connection_creation_rate",
        Some(1.0),
    );
    let mut log = topic("theirs", Uuid::from_random(3), &[1]);
    for (entity, key, value) in ours {
        log.push(quota(entity, key, Some(value)).to_value().unwrap());
    }
    for record in [
        quota(ours[0].0, ours[0].1, None),
        quota(ours[1].0, "producer_byte_rate", Some(2000.0)),
        by_name.clone(),
    ] {
        log.push(record.to_value().unwrap());
    }
    metadata_log(&storage, &log);
    let mut broker = open(&storage).unwrap();
    let quotas = broker.quotas.stored();
    let values: Vec<f64> = quotas
        .entities
        .values()
        .flat_map(|given| given.values().copied())
        .collect();
    assert_eq!(values.len(), 2);
    assert!(
        values.contains(&2000.0) && values.contains(&7.0),
        "{values:?}"
    );
    let quotas = quotas.clone();
    broker.close(NOW).unwrap();
    assert_eq!(
        *open(&storage).unwrap().quotas.stored(),
        quotas,
        "they are Ottla's now"
    );

    // And once more the other way: what Ottla doesn't know is Kafka's still.
    let mut broker = open(&storage).unwrap();
    broker.close(NOW).unwrap();
    assert_eq!(
        promote(&*storage, NOW, 1).unwrap().promoted,
        Promoted::Again
    );
    let records = records_in(&storage, BOOTSTRAP_CHECKPOINT);
    let given: Vec<_> = records
        .iter()
        .filter(|record| matches!(record, MetadataRecord::ClientQuota(_)))
        .collect();
    assert_eq!(given.len(), 3);
    assert!(given.contains(&&MetadataRecord::ClientQuota(by_name)));
}
