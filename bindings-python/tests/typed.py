"""Checked by `mypy --strict`, never run: programs as people write them must be well typed."""

from concurrent.futures import Future
from typing import assert_type

from ottla import (
    AdminClient,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from ottla.admin import ClusterMetadata, NewTopic, OffsetSpec


def delivered(error: KafkaError | None, message: Message) -> None:
    if error is not None and error.code() == KafkaError._MSG_TIMED_OUT:
        raise KafkaException(error)
    assert_type(message.value(), bytes | None)
    assert_type(message.headers(), list[tuple[str, bytes | None]] | None)


def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
    for partition in partitions:
        partition.offset = 0
    consumer.assign(partitions)


def program() -> None:
    with Producer({"bootstrap.servers": "memory:", "linger.ms": 5}) as producer:
        producer.produce("t", "v", b"k", on_delivery=delivered, headers={"a": "b"})
        producer.produce("t", bytearray(b"v"), memoryview(b"k"), headers=[("a", None)])
        assert_type(producer.produce_batch("t", [{"value": b"v"}]), int)
        assert_type(producer.flush(1.5), int)
        assert_type(len(producer), int)
    with Consumer({"group.id": "g"}) as consumer:
        consumer.subscribe(["t"], on_assign=assigned)
        assert_type(consumer.poll(1), Message | None)
        assert_type(consumer.consume(10, timeout=0.1), list[Message])
        assert_type(consumer.commit(asynchronous=False), list[TopicPartition])
        consumer.commit()
        assert_type(consumer.get_watermark_offsets(TopicPartition("t", 0)), tuple[int, int])
        assert_type(consumer.list_topics(), ClusterMetadata)
    admin = AdminClient({"bootstrap.servers": "memory:"})
    assert_type(admin.create_topics([NewTopic("t", 1)]), dict[str, Future[None]])
    partition = TopicPartition("t", 0)
    offset = admin.list_offsets({partition: OffsetSpec.latest()})[partition].result().offset
    assert_type(offset, int)
