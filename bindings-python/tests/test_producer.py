import array
import time

import pytest

from ottla import KafkaError, KafkaException, Producer, ThrottleEvent, TopicPartition


def test_delivery_reports(servers, consumer_of):
    reports = []
    with Producer({"bootstrap.servers": servers}) as producer:
        producer.produce(
            "t", "value", key=b"key", headers={"a": "b", "n": None}, timestamp=1234,
            on_delivery=lambda error, message: reports.append((error, message)),
        )
        assert len(producer) == 1
        assert producer.flush(60) == 0
    [(error, message)] = reports
    assert error is None and message.error() is None
    assert (message.topic(), message.partition(), message.offset()) == ("t", 0, 0)
    assert (message.key(), message.value(), len(message)) == (b"key", b"value", 5)
    assert message.headers() == [("a", b"b"), ("n", None)]
    assert message.timestamp() == (1, 1234)
    assert 0 <= message.latency() < 60
    assert "topic='t'" in repr(message) and "b'key'" in repr(message)


@pytest.mark.parametrize(
    "given, taken",
    [
        (b"x", b"x"), ("ä", "ä".encode()), (bytearray(b"y"), b"y"), (memoryview(b"zz"), b"zz"),
        (array.array("H", [1]), b"\1\0"), (b"", b""), (None, None),
    ],
)
def test_payloads(memory, consumer_of, given, taken):
    with Producer({"bootstrap.servers": memory}) as producer:
        producer.produce("t", given, given)
    consumer = consumer_of(memory)
    consumer.subscribe(["t"])
    message = consumer.poll(60)
    assert (message.key(), message.value()) == (taken, taken)


def test_wrong_arguments(memory):
    producer = Producer({"bootstrap.servers": memory})
    for arguments in [(), (1,), ("t", 1), ("t", b"x", 3.5)]:
        with pytest.raises(TypeError):
            producer.produce(*arguments)
    for headers in ["abc", [1], {"a": 1}, {1: "a"}, [("a",)]]:
        with pytest.raises(TypeError):
            producer.produce("t", b"x", headers=headers)
    for wrong in [{"callback": 3}, {"timestamp": "a"}, {"partition": "a"}]:
        with pytest.raises(TypeError):
            producer.produce("t", b"x", **wrong)
    with pytest.raises(KafkaException) as raised:
        producer.produce("t", b"x" * 2_000_000)
    assert raised.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert len(producer) == 0


def test_configuration():
    for wrong in [lambda: Producer(), lambda: Producer("x"), lambda: Producer({"error_cb": 1})]:
        with pytest.raises(TypeError):
            wrong()
    for wrong in [{"foo": 1}, {"linger.ms": "soon"}, {1: 2}]:
        with pytest.raises(KafkaException) as raised:
            Producer({"bootstrap.servers": "memory:", **wrong})
        assert raised.value.args[0] == KafkaError._INVALID_ARG
    producer = Producer(
        {"bootstrap.servers": "memory:", "enable.idempotence": True, "client.id": None},
        **{"linger.ms": 0.5, "partitioner": "murmur2_random"},
    )
    assert producer and producer.close()


def test_subclasses(memory):
    class Named(Producer):
        def __init__(self, name, **more):
            super().__init__({"bootstrap.servers": memory, **more})
            self.name = name

    with Named("n", acks=1) as producer:
        assert producer.name == "n"
        producer.produce("t", "x")


def test_full_queue(memory):
    producer = Producer({"bootstrap.servers": memory, "queue.buffering.max.messages": 10})
    with pytest.raises(BufferError):
        for _ in range(11):
            producer.produce("t", b"x")
    assert producer.flush(60) == 0
    producer.produce("t", b"x")
    producer.close()


def test_one_callback_for_all(memory):
    codes = []
    producer = Producer(
        {"bootstrap.servers": memory, "on_delivery": lambda error, message: codes.append(message.value())}
    )
    own = []
    for i in range(100):
        producer.produce("t", str(i), callback=(lambda e, m: own.append(m.value())) if i % 3 == 0 else None)
    assert producer.flush(60) == 0
    assert len(codes) == 66 and len(own) == 34


def test_batches(memory, consumer_of):
    seen, own = [], []
    producer = Producer({"bootstrap.servers": memory, "message.max.bytes": 2000})
    batch = [{"value": str(i)} for i in range(10_000)]
    assert producer.produce_batch("t", batch, callback=lambda e, m: seen.append(m.offset())) == 10_000
    assert producer.flush(60) == 0 and seen == list(range(10_000))
    batch = [
        {"value": b"1", "key": "k", "partition": 0, "timestamp": 5, "headers": [("a", b"b")]},
        {"value": b"2", "callback": lambda error, message: own.append(message.value())},
        {"value": b"3" * 3000},
        {},
    ]
    assert producer.produce_batch("t", batch) == 3
    assert batch[2]["_error"] == KafkaError.MSG_SIZE_TOO_LARGE and "_error" not in batch[0]
    assert producer.flush(60) == 0 and own == [b"2"]
    for wrong in [[1], (1,), [{"value": 1}], [{"partition": "a"}]]:
        with pytest.raises(TypeError):
            producer.produce_batch("t", wrong)
    consumer = consumer_of(memory)
    consumer.assign([TopicPartition("t", 0, 10_000)])
    first, second, last = consumer.consume(3, 10)
    assert (first.key(), first.timestamp(), first.headers()) == (b"k", (1, 5), [("a", b"b")])
    assert (second.value(), last.value()) == (b"2", None)


def test_purge(memory):
    errors = []
    producer = Producer({"bootstrap.servers": memory, "linger.ms": 60_000})
    producer.produce("t", b"x", on_delivery=lambda error, message: errors.append(error))
    producer.purge()
    producer.poll(60)
    assert errors[0] == KafkaError._PURGE_QUEUE and errors[0].name() == "_PURGE_QUEUE"
    assert len(producer) == 0


def test_exceptions_in_callbacks(memory):
    seen = []

    def fragile(error, message):
        seen.append(message.offset())
        if len(seen) == 2:
            raise ValueError("boom")

    producer = Producer({"bootstrap.servers": memory})
    for _ in range(5):
        producer.produce("t", b"x", on_delivery=fragile)
    with pytest.raises(ValueError, match="boom"):
        producer.flush(60)
    assert seen == [0, 1]
    assert producer.flush(60) == 0
    assert seen == [0, 1, 2, 3, 4]


def test_producing_in_callbacks(memory):
    seen = []
    producer = Producer({"bootstrap.servers": memory})

    def again(error, message):
        seen.append(message.value())
        if len(seen) < 5:
            producer.produce("t", str(len(seen)), on_delivery=again)
            producer.poll(0)

    producer.produce("t", b"0", on_delivery=again)
    deadline = time.monotonic() + 60
    while len(seen) < 5 and time.monotonic() < deadline:
        producer.poll(0.1)
    assert seen == [b"0", b"1", b"2", b"3", b"4"]


def test_statistics_and_logs(memory):
    import json
    import logging

    statistics, lines = [], []

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger = logging.Logger("test")
    logger.addHandler(Lines())
    producer = Producer(
        {
            "bootstrap.servers": memory, "statistics.interval.ms": 50, "logger": logger, "group.id": "ignored",
            "stats_cb": lambda text: statistics.append(json.loads(text)), "error_cb": print,
        }
    )
    deadline = time.monotonic() + 60
    while not statistics and time.monotonic() < deadline:
        producer.poll(0.1)
    assert statistics[0]["type"] == "producer"
    assert all(isinstance(line, str) for line in lines)


def test_a_producer_beyond_its_quota_is_told_how_long_it_waits(tmp_path):
    # A quota of the client id, as the broker keeps it: 10,000 bytes a second.
    quotas = "ottla-quotas 1\nof - =limited\nquota producer_byte_rate 10000\ncrc32c cc0c473f\n"
    (tmp_path / "ottla-quotas").write_text(quotas)
    told = []
    producer = Producer(
        {"bootstrap.servers": f"file://{tmp_path}", "client.id": "limited", "throttle_cb": told.append}
    )
    started = time.monotonic()
    # What ten seconds may have, and a little more: half a second.
    producer.produce("t", b"x" * 105_000)
    while not told and time.monotonic() < started + 60:
        producer.poll(0.1)
    [first] = told
    assert isinstance(first, ThrottleEvent)
    assert ":" in first.broker_name and first.broker_id == 1
    assert 0.4 <= first.throttle_time < 1.5
    assert str(first) == f"{first.broker_name}/1 throttled for {round(first.throttle_time * 1000)} ms"
    # The next request waits so long; its answer says that it is over.
    producer.list_topics(timeout=60)
    assert time.monotonic() - started >= first.throttle_time
    producer.poll(0)
    assert [event.throttle_time for event in told[1:]] == [0]
    producer.close()


def test_close(memory):
    producer = Producer({"bootstrap.servers": memory})
    producer.produce("t", b"x")
    assert producer.close() and producer.close()
    assert len(producer) == 0 and producer
    for call in [lambda: producer.produce("t", b"x"), lambda: producer.poll(0), lambda: producer.flush(0)]:
        with pytest.raises(RuntimeError, match="Producer has been closed"):
            call()


def test_transactions_are_refused(memory):
    producer = Producer({"bootstrap.servers": memory})
    for call in [
        producer.init_transactions, producer.begin_transaction, producer.commit_transaction,
        producer.abort_transaction, lambda: producer.send_offsets_to_transaction([], None),
    ]:
        with pytest.raises(KafkaException, match="transactions are not supported") as raised:
            call()
        assert raised.value.args[0] == KafkaError._UNSUPPORTED_FEATURE


def test_cluster(memory):
    producer = Producer({"bootstrap.servers": memory})
    producer.produce("t", b"x")
    producer.flush(60)
    metadata = producer.list_topics(timeout=60)
    assert "t" in metadata.topics and metadata.cluster_id == producer.cluster_id(10)
    assert metadata.topics["t"].partitions[0].leader in metadata.brokers
    assert repr(metadata.topics["t"]).startswith("TopicMetadata(t, ")
    assert list(producer.list_topics("t", 10).topics) == ["t"]
