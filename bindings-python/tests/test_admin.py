import pytest

from ottla import (
    AdminClient,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ElectionType,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from ottla.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)


def test_topics(memory):
    with AdminClient({"bootstrap.servers": memory}) as admin:
        futures = admin.create_topics([NewTopic("a", 3), NewTopic("b", config={"retention.ms": "1000"})])
        assert [future.result(60) for future in futures.values()] == [None, None]
        with pytest.raises(KafkaException) as raised:
            admin.create_topics([NewTopic("a", 1)])["a"].result(60)
        assert raised.value.args[0] == KafkaError.TOPIC_ALREADY_EXISTS
        admin.create_topics([NewTopic("c", 1)], validate_only=True)["c"].result(60)
        assert sorted(admin.list_topics(timeout=60).topics) == ["a", "b"]
        admin.create_partitions([NewPartitions("b", 2)])["b"].result(60)
        described = admin.describe_topics(TopicCollection(["b", "nix"]))
        assert len(described["b"].result(60).partitions) == 2
        with pytest.raises(KafkaException):
            described["nix"].result(60)
        admin.delete_topics(["a"])["a"].result(60)
        assert list(admin.list_topics(timeout=60).topics) == ["b"]
        for wrong in [["x"], "x", []]:
            with pytest.raises((TypeError, ValueError)):
                admin.create_topics(wrong)
        configs = admin.describe_configs([ConfigResource("topic", "b")])
        [settings] = [future.result(60) for future in configs.values()]
        assert settings["retention.ms"].value == "1000"
        cluster = admin.describe_cluster().result(60)
        assert cluster.nodes and cluster.cluster_id == admin.cluster_id(10)


def test_configs_are_altered(memory):
    with AdminClient({"bootstrap.servers": memory}) as admin:
        admin.create_topics([NewTopic("t", config={"retention.ms": "1000"})])["t"].result(60)
        one = admin.list_topics(timeout=60).controller_id

        def of(resource):
            settings = admin.describe_configs([resource])[resource].result(60)
            return {name: entry.value for name, entry in settings.items() if not entry.is_default}

        topic = ConfigResource("topic", "t", set_config={"segment.ms": "70000"})
        topic.set_config("segment.ms", "80000", overwrite=False)
        topic.set_config("cleanup.policy", "delete")
        assert admin.alter_configs([topic], validate_only=True)[topic].result(60) is None
        assert of(topic)["retention.ms"] == "1000"
        assert admin.alter_configs([topic])[topic].result(60) is None
        assert (of(topic)["segment.ms"], of(topic).get("retention.ms")) == ("70000", None)

        def change(name, operation, value=None):
            return ConfigEntry(name, value, incremental_operation=operation)

        topic.add_incremental_config(change("retention.ms", AlterConfigOpType.SET, "2000"))
        topic.add_incremental_config(change("cleanup.policy", AlterConfigOpType.APPEND, "compact"))
        topic.add_incremental_config(change("segment.ms", AlterConfigOpType.DELETE))
        group = ConfigResource("group", "g", incremental_configs=[change("consumer.session.timeout.ms", AlterConfigOpType.SET, "50000")])
        broker = ConfigResource("broker", str(one), incremental_configs=[change("log.retention.ms", AlterConfigOpType.SET, "3000")])
        futures = admin.incremental_alter_configs([topic, group, broker])
        assert [future.result(60) for future in futures.values()] == [None, None, None]
        changed = of(topic)
        assert (changed["retention.ms"], changed["cleanup.policy"], changed.get("segment.ms")) == ("2000", "delete,compact", None)
        assert of(group)["consumer.session.timeout.ms"] == "50000"
        assert of(broker)["log.retention.ms"] == "3000"
        bad = ConfigResource("topic", "t", incremental_configs=[change("segment.ms", AlterConfigOpType.SET, "soon")])
        with pytest.raises(KafkaException) as raised:
            admin.incremental_alter_configs([bad])[bad].result(60)
        assert raised.value.args[0] == KafkaError.INVALID_CONFIG
        for wrong in [ConfigResource("topic", "t"), ConfigResource("topic", "t", incremental_configs=[ConfigEntry("a", "b")])]:
            with pytest.raises(ValueError):
                admin.incremental_alter_configs([wrong])
        with pytest.raises(TypeError):
            admin.alter_configs(["t"])


def test_records_are_deleted_and_leaders_elected(memory):
    with Producer({"bootstrap.servers": memory}) as producer:
        producer.produce_batch("t", [{"value": "x"} for _ in range(10)])
    with AdminClient({"bootstrap.servers": memory}) as admin:
        partition = TopicPartition("t", 0, 4)
        assert admin.delete_records([partition])[partition].result(60).low_watermark == 4
        assert admin.list_offsets({partition: OffsetSpec.earliest()})[partition].result(60).offset == 4
        beyond = TopicPartition("t", 0, 11)
        with pytest.raises(KafkaException) as raised:
            admin.delete_records([beyond])[beyond].result(60)
        assert raised.value.args[0] == KafkaError.OFFSET_OUT_OF_RANGE
        nowhere = TopicPartition("t", 7)
        elected = admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition("t", 0), nowhere]).result(60)
        assert elected[TopicPartition("t", 0)].args[0] == KafkaError.ELECTION_NOT_NEEDED
        assert elected[nowhere].args[0] == KafkaError.UNKNOWN_TOPIC_OR_PART
        assert admin.elect_leaders(ElectionType.UNCLEAN).result(60) == {}
        with pytest.raises(TypeError):
            admin.elect_leaders(0)


def test_groups_and_offsets(memory, consumer_of):
    with Producer({"bootstrap.servers": memory}) as producer:
        producer.produce_batch("t", [{"value": "x", "timestamp": 1000 + i} for i in range(10)])
    admin = AdminClient({"bootstrap.servers": memory})
    consumer = consumer_of(memory)
    consumer.subscribe(["t"])
    consumer.consume(10, 10)
    consumer.commit(asynchronous=False)
    listed = admin.list_consumer_groups().result(60)
    assert [(group.group_id, group.state) for group in listed.valid] == [("g", ConsumerGroupState.STABLE)]
    group = admin.describe_consumer_groups(["g"])["g"].result(60)
    [member] = group.members
    assert member.assignment.topic_partitions == [TopicPartition("t", 0)]
    assert group.state == ConsumerGroupState.STABLE
    assert admin.list_groups("g", 10)[0].members[0].id == consumer.memberid()
    with pytest.raises(KafkaException) as raised:
        admin.delete_consumer_groups(["g"])["g"].result(60)
    assert raised.value.args[0] == KafkaError.NON_EMPTY_GROUP
    consumer.close()
    offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("g")])["g"].result(60)
    assert [(p.topic, p.partition, p.offset) for p in offsets.topic_partitions] == [("t", 0, 10)]
    change = ConsumerGroupTopicPartitions("g", [TopicPartition("t", 0, 3)])
    admin.alter_consumer_group_offsets([change])["g"].result(60)
    asked = ConsumerGroupTopicPartitions("g", [TopicPartition("t", 0)])
    found = admin.list_consumer_group_offsets([asked])["g"].result(60)
    assert found.topic_partitions[0].offset == 3
    deleted = admin.delete_consumer_group_offsets([asked])["g"].result(60)
    assert deleted.topic_partitions[0].error is None
    partition = TopicPartition("t", 0)
    for spec, offset in [
        (OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 10), (OffsetSpec.max_timestamp(), 9),
        (OffsetSpec.for_timestamp(1004), 4),
    ]:
        assert admin.list_offsets({partition: spec})[partition].result(60).offset == offset
