import pickle

import pytest

import ottla
from ottla import KafkaError, KafkaException, Message, TopicPartition


def test_errors():
    error = KafkaError(3)
    assert error == 3 and 3 == error and error == KafkaError(3) and error != 4
    assert error < 4 and error >= 3 and hash(error) == 3 and bool(error)
    assert error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and error.name() == "UNKNOWN_TOPIC_OR_PART"
    assert not error.fatal() and not error.txn_requires_abort()
    custom = KafkaError(KafkaError._FATAL, "why", fatal=True, retriable=True, txn_requires_abort=True)
    assert custom.str() == "why" and custom.fatal() and custom.retriable() and custom.txn_requires_abort()
    assert str(custom) == 'KafkaError{FATAL,code=_FATAL,val=-150,str="why"}'
    copy = pickle.loads(pickle.dumps(custom))
    assert copy == custom and copy.str() == "why" and copy.fatal()
    assert error != "x" and error != None  # noqa: E711
    with pytest.raises(KafkaException) as raised:
        raise KafkaException(error)
    assert raised.value.args[0] is error


def test_topic_partitions():
    partition = TopicPartition("t", 1, 5, metadata="m", leader_epoch=3)
    assert (partition.topic, partition.partition, partition.offset) == ("t", 1, 5)
    assert (partition.metadata, partition.leader_epoch, partition.error) == ("m", 3, None)
    assert str(partition) == "TopicPartition{topic=t,partition=1,offset=5,leader_epoch=3,error=None}"
    assert partition == TopicPartition("t", 1) and hash(partition) == hash(TopicPartition("t", 1))
    assert TopicPartition("a", 9) < TopicPartition("b", 0) and partition != TopicPartition("t", 2)
    partition.offset = 9
    assert partition.offset == 9
    with pytest.raises(AttributeError):
        partition.topic = "x"
    copy = pickle.loads(pickle.dumps(partition))
    assert copy == partition and copy.offset == 9 and copy.metadata == "m"


def test_messages():
    message = Message(topic="t", value="x", headers=[("a", b"b")], error=KafkaError(3), timestamp=(1, 2))
    assert message.topic() == "t" and message.value() == "x" and len(message) == 1
    assert message.partition() is None and message.offset() is None and message.key() is None
    assert message.error() == 3 and message.timestamp() == (1, 2) and message.headers() == [("a", b"b")]
    message.set_key({"a": 1})
    message.set_value([1, 2])
    message.set_error(None)
    message.set_headers([])
    assert message.key() == {"a": 1} and len(message) == 2 and message.error() is None and message.headers() == []
    assert Message[str, int]


def test_versions():
    text, number = ottla.libversion()
    assert text[0] == "2" and number >> 24 == 2
    assert ottla.version() == ottla.__version__
