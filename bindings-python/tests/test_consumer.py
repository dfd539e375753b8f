import threading
import time

import pytest

from ottla import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from ottla.admin import AdminClient, NewTopic


def fill(servers, count, topic="t", **more):
    with Producer({"bootstrap.servers": servers}) as producer:
        producer.produce_batch(topic, [{"value": str(i), "timestamp": 1000 + i, **more} for i in range(count)])


def create(servers, topic, partitions):
    with AdminClient({"bootstrap.servers": servers}) as admin:
        admin.create_topics([NewTopic(topic, partitions)])[topic].result(60)


def poll_until(consumer, condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "too slow"
        consumer.poll(0.05)


def test_consume(servers, consumer_of):
    fill(servers, 1000)
    consumer = consumer_of(servers)
    consumer.subscribe(["t"])
    first = consumer.poll(60)
    assert (first.topic(), first.partition(), first.offset(), first.value()) == ("t", 0, 0, b"0")
    assert first.timestamp() == (1, 1000) and first.key() is None and first.headers() is None
    assert first.error() is None and first.latency() is None and len(first) == 1
    rest = consumer.consume(999, 10)
    assert [int(message.value()) for message in rest] == list(range(1, 1000))
    assert rest[0].topic() is first.topic()
    assert consumer.poll(0) is None and consumer.consume(10, 0.05) == []
    assert consumer.consume(0, 5) == []
    for wrong in [-1, 2_000_000]:
        with pytest.raises(ValueError):
            consumer.consume(wrong)


def test_commits(servers, consumer_of):
    fill(servers, 10)
    consumer = consumer_of(servers, enable__auto__commit=False)
    with pytest.raises(KafkaException) as raised:
        consumer.commit(asynchronous=False)
    assert raised.value.args[0] == KafkaError._NO_OFFSET
    consumer.subscribe(["t"])
    messages = consumer.consume(5, 10)
    partition = TopicPartition("t", 0)
    assert consumer.position([partition])[0].offset == 5
    assert consumer.committed([partition], 10)[0].offset == OFFSET_INVALID
    [committed] = consumer.commit(message=messages[2], asynchronous=False)
    assert (committed.offset, committed.error) == (3, None)
    assert consumer.committed([partition], 10)[0].offset == 3
    consumer.commit(offsets=[TopicPartition("t", 0, 7, metadata="here")], asynchronous=False)
    found = consumer.committed([partition], 10)[0]
    assert (found.offset, found.metadata) == (7, "here")
    assert consumer.commit(asynchronous=False)[0].offset == 5
    with pytest.raises(ValueError):
        consumer.commit(message=messages[0], offsets=[partition])
    with pytest.raises(TypeError):
        consumer.commit(message=1)
    consumer.close()
    again = consumer_of(servers)
    again.subscribe(["t"])
    assert again.poll(60).offset() == 5


def test_stored_offsets_and_on_commit(memory, consumer_of):
    fill(memory, 10)
    commits = []
    consumer = consumer_of(
        memory, enable__auto__offset__store=False, enable__auto__commit=False,
        on_commit=lambda error, partitions: commits.append((error, partitions)),
    )
    consumer.subscribe(["t"])
    messages = consumer.consume(5, 10)
    consumer.store_offsets(message=messages[1])
    consumer.store_offsets(offsets=[TopicPartition("t", 0, 4)])
    with pytest.raises(ValueError):
        consumer.store_offsets()
    assert consumer.commit() is None
    poll_until(consumer, lambda: commits)
    error, [partition] = commits[0]
    assert error is None and partition.offset == 4


def test_assign_seek_pause(memory, consumer_of):
    fill(memory, 10)
    consumer = consumer_of(memory, enable__partition__eof=True)
    with pytest.raises(KafkaException):
        consumer.seek(TopicPartition("t", 0, 1))
    consumer.assign([TopicPartition("t", 0, 8)])
    assert consumer.assignment() == [TopicPartition("t", 0)]
    assert [m.offset() for m in consumer.consume(2, 10)] == [8, 9]
    end = consumer.poll(60)
    assert end.error() == KafkaError._PARTITION_EOF and end.offset() == 10
    consumer.seek(TopicPartition("t", 0, 3))
    assert consumer.poll(60).offset() == 3
    consumer.pause([TopicPartition("t", 0)])
    assert consumer.poll(0.2) is None
    consumer.resume([TopicPartition("t", 0)])
    assert consumer.poll(60).offset() == 4
    consumer.incremental_unassign([TopicPartition("t", 0)])
    assert consumer.assignment() == []
    consumer.incremental_assign([TopicPartition("t", 0, OFFSET_BEGINNING)])
    assert consumer.poll(60).offset() == 0
    consumer.unassign()
    consumer.assign([TopicPartition("t", 0, OFFSET_END)])
    assert consumer.poll(60).error() == KafkaError._PARTITION_EOF
    for wrong in [1, [1], (TopicPartition("t", 0),)]:
        with pytest.raises(TypeError):
            consumer.assign(wrong)


def test_watermarks_and_times(memory, consumer_of):
    fill(memory, 10)
    consumer = consumer_of(memory)
    partition = TopicPartition("t", 0)
    assert consumer.get_watermark_offsets(partition, cached=True) == (OFFSET_INVALID, OFFSET_INVALID)
    assert consumer.get_watermark_offsets(partition, 10) == (0, 10)
    [found] = consumer.offsets_for_times([TopicPartition("t", 0, 1004)], 10)
    assert found.offset == 4
    [found] = consumer.offsets_for_times([TopicPartition("t", 0, 99999)], 10)
    assert found.offset == OFFSET_END
    consumer.assign([TopicPartition("t", 0, 0)])
    consumer.consume(10, 10)
    assert consumer.get_watermark_offsets(partition, cached=True) == (0, 10)
    for missing in (TopicPartition("t", 7, 0), TopicPartition("missing", 0, 0)):
        for ask in (consumer.get_watermark_offsets, lambda partition: consumer.offsets_for_times([partition])):
            with pytest.raises(KafkaException) as raised:
                ask(missing)
            assert raised.value.args[0].code() == KafkaError._UNKNOWN_PARTITION
    topics = consumer.list_topics(timeout=60).topics
    assert "t" in topics and "missing" not in topics


@pytest.mark.parametrize("assignor", ["range", "roundrobin", "cooperative-sticky"])
def test_group_of_two(memory, consumer_of, assignor):
    create(memory, "t", 4)
    with Producer({"bootstrap.servers": memory}) as producer:
        for i in range(400):
            producer.produce("t", str(i), partition=i % 4)
    calls, seen, both = [], [], threading.Barrier(3)
    stop = threading.Event()

    def member(number):
        mine = set()

        def on_assign(consumer, partitions):
            calls.append((number, "assign", len(partitions)))
            mine.update(p.partition for p in partitions)

        def on_revoke(consumer, partitions):
            calls.append((number, "revoke", len(partitions)))
            mine.difference_update(p.partition for p in partitions)

        consumer = consumer_of(memory, partition__assignment__strategy=assignor)
        consumer.subscribe(["t"], on_assign=on_assign, on_revoke=on_revoke)
        deadline = time.monotonic() + 60
        while len(mine) != 2 and time.monotonic() < deadline:
            seen.extend(consumer.consume(10, 0.05))
        both.wait(60)
        while not stop.is_set():
            seen.extend(consumer.consume(100, 0.1))
        assert len(consumer.assignment()) == 2 and consumer.memberid()
        assert consumer.consumer_group_metadata().group_id == "g"
        consumer.close()

    threads = [threading.Thread(target=member, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    both.wait(60)
    deadline = time.monotonic() + 60
    while len({(m.partition(), m.offset()) for m in list(seen)}) < 400 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert len({(m.partition(), m.offset()) for m in seen}) == 400
    assert {number for number, what, _ in calls if what == "revoke"} == {0, 1}


def test_callbacks_may_assign(memory, consumer_of):
    fill(memory, 10)
    consumer = consumer_of(memory)

    def on_assign(consumer, partitions):
        for partition in partitions:
            partition.offset = 7
        consumer.assign(partitions)

    consumer.subscribe(["^t.*"], on_assign=on_assign)
    assert consumer.poll(60).offset() == 7


def test_exceptions_in_callbacks(memory, consumer_of):
    fill(memory, 1)
    consumer = consumer_of(memory)

    def on_assign(consumer, partitions):
        raise ValueError("boom")

    consumer.subscribe(["t"], on_assign=on_assign)
    with pytest.raises(ValueError, match="boom"):
        consumer.poll(60)
    assert consumer.poll(60).offset() == 0


def test_wrong_arguments(memory, consumer_of):
    with pytest.raises(ValueError, match="group.id must be set"):
        Consumer({"bootstrap.servers": memory})
    consumer = consumer_of(memory)
    for wrong in ["t", [1], ("t",)]:
        with pytest.raises(TypeError):
            consumer.subscribe(wrong)
    with pytest.raises(TypeError):
        consumer.subscribe(["t"], on_assign=1)
    with pytest.raises(KafkaException):
        consumer.subscribe([])
    with pytest.raises(TypeError):
        consumer.poll("soon")


def test_close(memory):
    with Consumer({"bootstrap.servers": memory, "group.id": "g"}) as consumer:
        consumer.subscribe(["t"])
        consumer.poll(0.1)
        consumer.unsubscribe()
    consumer.close()
    for call in [lambda: consumer.poll(0), consumer.assignment, consumer.memberid, lambda: consumer.subscribe(["t"])]:
        with pytest.raises(RuntimeError, match="Consumer closed"):
            call()


def test_messages_outlive_their_consumer(memory):
    fill(memory, 100, headers={"h": b"v"})
    with Consumer({"bootstrap.servers": memory, "group.id": "g", "auto.offset.reset": "earliest"}) as consumer:
        consumer.subscribe(["t"])
        messages = consumer.consume(100, 10)
    del consumer
    assert [m.value() for m in messages] == [str(i).encode() for i in range(100)]
    assert messages[99].headers() == [("h", b"v")]


def test_persistence(tmp_path, consumer_of):
    servers = f"file://{tmp_path}"
    fill(servers, 10)
    fill(servers, 10)
    consumer = consumer_of(servers)
    consumer.subscribe(["t"])
    assert [m.offset() for m in consumer.consume(20, 10)] == list(range(20))
