"""Plain values that the administration works with."""

from dataclasses import dataclass, field
from enum import Enum

from ._ottla import TopicPartition


@dataclass(frozen=True)
class Node:
    """A broker."""

    id: int
    host: str
    port: int
    rack: str | None = None

    @property
    def id_string(self) -> str:
        return str(self.id)

    def __str__(self) -> str:
        return f"({self.id}) {self.host}:{self.port} {f'(Rack - {self.rack})' if self.rack else ''}"


@dataclass
class ConsumerGroupTopicPartitions:
    """A group, and partitions with offsets; `topic_partitions=None` asks for all of them."""

    group_id: str
    topic_partitions: list[TopicPartition] | None = None


@dataclass
class TopicCollection:
    """Topics by name."""

    topic_names: list[str] = field(default_factory=list)


@dataclass
class TopicPartitionInfo:
    """A partition and the brokers that have it."""

    id: int
    leader: Node | None
    replicas: list[Node]
    isr: list[Node]


class ThrottleEvent:
    """A broker makes the client wait, because a quota is used up: the argument of `throttle_cb`.

    It comes from `poll()` with every answer that tells to wait, and with a `throttle_time` of 0 when that is over.
    """

    def __init__(self, broker_name: str, broker_id: int, throttle_time: float) -> None:
        self.broker_name = broker_name  #: `host:port`
        self.broker_id = broker_id  #: node id
        self.throttle_time = throttle_time  #: seconds

    def __str__(self) -> str:
        return f"{self.broker_name}/{self.broker_id} throttled for {round(self.throttle_time * 1000)} ms"


class ConsumerGroupState(Enum):
    """What a group is doing."""

    UNKNOWN = 0
    UNKOWN = UNKNOWN  # the peer's spelling
    PREPARING_REBALANCING = 1
    COMPLETING_REBALANCING = 2
    STABLE = 3
    DEAD = 4
    EMPTY = 5


class ConsumerGroupType(Enum):
    """Which protocol a group speaks."""

    UNKNOWN = 0
    CONSUMER = 1
    CLASSIC = 2


class ElectionType(Enum):
    """Who is to lead a partition."""

    PREFERRED = 0
    UNCLEAN = 1


class IsolationLevel(Enum):
    """Whether records of unfinished transactions count."""

    READ_UNCOMMITTED = 0
    READ_COMMITTED = 1
