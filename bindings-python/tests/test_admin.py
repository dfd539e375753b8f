import pytest

from ottla import (
    AdminClient,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from ottla.admin import ConfigResource, NewPartitions, NewTopic, OffsetSpec


def test_topics(memory):
    with AdminClient({"bootstrap.servers": memory}) as admin:
        futures = admin.create_topics([NewTopic("a", 3), NewTopic("b", config={"retention.ms": "1000"})])
        assert [future.result(10) for future in futures.values()] == [None, None]
        with pytest.raises(KafkaException) as raised:
            admin.create_topics([NewTopic("a", 1)])["a"].result(10)
        assert raised.value.args[0] == KafkaError.TOPIC_ALREADY_EXISTS
        admin.create_topics([NewTopic("c", 1)], validate_only=True)["c"].result(10)
        assert sorted(admin.list_topics(timeout=10).topics) == ["a", "b"]
        admin.create_partitions([NewPartitions("b", 2)])["b"].result(10)
        described = admin.describe_topics(TopicCollection(["b", "nix"]))
        assert len(described["b"].result(10).partitions) == 2
        with pytest.raises(KafkaException):
            described["nix"].result(10)
        admin.delete_topics(["a"])["a"].result(10)
        assert list(admin.list_topics(timeout=10).topics) == ["b"]
        for wrong in [["x"], "x", []]:
            with pytest.raises((TypeError, ValueError)):
                admin.create_topics(wrong)
        configs = admin.describe_configs([ConfigResource("topic", "b")])
        [settings] = [future.result(10) for future in configs.values()]
        assert settings["retention.ms"].value == "1000"
        cluster = admin.describe_cluster().result(10)
        assert cluster.nodes and cluster.cluster_id == admin.cluster_id(10)


def test_groups_and_offsets(memory, consumer_of):
    with Producer({"bootstrap.servers": memory}) as producer:
        producer.produce_batch("t", [{"value": "x", "timestamp": 1000 + i} for i in range(10)])
    admin = AdminClient({"bootstrap.servers": memory})
    consumer = consumer_of(memory)
    consumer.subscribe(["t"])
    consumer.consume(10, 10)
    consumer.commit(asynchronous=False)
    listed = admin.list_consumer_groups().result(10)
    assert [(group.group_id, group.state) for group in listed.valid] == [("g", ConsumerGroupState.STABLE)]
    group = admin.describe_consumer_groups(["g"])["g"].result(10)
    [member] = group.members
    assert member.assignment.topic_partitions == [TopicPartition("t", 0)]
    assert group.state == ConsumerGroupState.STABLE
    assert admin.list_groups("g", 10)[0].members[0].id == consumer.memberid()
    with pytest.raises(KafkaException) as raised:
        admin.delete_consumer_groups(["g"])["g"].result(10)
    assert raised.value.args[0] == KafkaError.NON_EMPTY_GROUP
    consumer.close()
    offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("g")])["g"].result(10)
    assert [(p.topic, p.partition, p.offset) for p in offsets.topic_partitions] == [("t", 0, 10)]
    change = ConsumerGroupTopicPartitions("g", [TopicPartition("t", 0, 3)])
    admin.alter_consumer_group_offsets([change])["g"].result(10)
    asked = ConsumerGroupTopicPartitions("g", [TopicPartition("t", 0)])
    found = admin.list_consumer_group_offsets([asked])["g"].result(10)
    assert found.topic_partitions[0].offset == 3
    deleted = admin.delete_consumer_group_offsets([asked])["g"].result(10)
    assert deleted.topic_partitions[0].error is None
    partition = TopicPartition("t", 0)
    for spec, offset in [
        (OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 10), (OffsetSpec.max_timestamp(), 9),
        (OffsetSpec.for_timestamp(1004), 4),
    ]:
        assert admin.list_offsets({partition: spec})[partition].result(10).offset == offset
