"""Administration, in the shapes of confluent_kafka.admin.

Every operation gives `concurrent.futures.Future` objects, one per topic, group or partition. Their `result()` is the answer, or
raises `KafkaException`.
"""

import struct
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from ._model import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ConsumerGroupType,
    ElectionType,
    IsolationLevel,
    Node,
    TopicCollection,
    TopicPartitionInfo,
)
from ._ottla import (
    OFFSET_INVALID,
    Admin,
    BrokerMetadata,
    ClusterMetadata,
    GroupMember,
    GroupMetadata,
    KafkaError,
    KafkaException,
    PartitionMetadata,
    TopicMetadata,
    TopicPartition,
)

__all__ = [
    "OFFSET_INVALID",
    "AdminClient",
    "AlterConfigOpType",
    "BrokerMetadata",
    "ClusterMetadata",
    "ConfigEntry",
    "ConfigResource",
    "ConfigSource",
    "ConsumerGroupDescription",
    "ConsumerGroupListing",
    "DeletedRecords",
    "DescribeClusterResult",
    "GroupMember",
    "GroupMetadata",
    "KafkaError",
    "KafkaException",
    "ListConsumerGroupsResult",
    "ListOffsetsResultInfo",
    "MemberAssignment",
    "MemberDescription",
    "NewPartitions",
    "NewTopic",
    "OffsetSpec",
    "PartitionMetadata",
    "ResourceType",
    "TopicDescription",
    "TopicMetadata",
]

#: How long an operation may take, in seconds, if `request_timeout` isn't given.
DEFAULT_TIMEOUT = 60.0

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class NewTopic:
    """A topic to create. `num_partitions` and `replication_factor` of -1 are the broker's defaults."""

    def __init__(
        self,
        topic: str,
        num_partitions: int = -1,
        replication_factor: int = -1,
        replica_assignment: list[list[int]] | None = None,
        config: dict[str, str] | None = None,
    ) -> None:
        self.topic = topic
        self.num_partitions = num_partitions
        self.replication_factor = replication_factor
        self.replica_assignment = replica_assignment
        self.config = config

    def __repr__(self) -> str:
        partitions = f",num_partitions={self.num_partitions}" if self.num_partitions >= 0 else ""
        return f"NewTopic(topic={self.topic}{partitions})"

    def __hash__(self) -> int:
        return hash(self.topic)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NewTopic) and self.topic == other.topic

    def __lt__(self, other: "NewTopic") -> bool:
        return self.topic < other.topic


class NewPartitions:
    """More partitions for a topic: `new_total_count` in all."""

    def __init__(
        self, topic: str, new_total_count: int, replica_assignment: list[list[int]] | None = None
    ) -> None:
        self.topic = topic
        self.new_total_count = new_total_count
        self.replica_assignment = replica_assignment

    def __repr__(self) -> str:
        return f"NewPartitions(topic={self.topic},new_total_count={self.new_total_count})"

    def __hash__(self) -> int:
        return hash(self.topic)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NewPartitions) and self.topic == other.topic

    def __lt__(self, other: "NewPartitions") -> bool:
        return self.topic < other.topic


class ResourceType(Enum):
    """What has configurations."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    BROKER = 4
    TRANSACTIONAL_ID = 5


class ConfigSource(Enum):
    """Where a configuration's value comes from."""

    UNKNOWN_CONFIG = 0
    DYNAMIC_TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5
    GROUP_CONFIG = 8


class AlterConfigOpType(Enum):
    """What `incremental_alter_configs` does with a setting."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class ConfigEntry:
    """One setting of a topic, group or broker; with `incremental_operation` a change of one."""

    def __init__(
        self,
        name: str,
        value: str | None,
        source: ConfigSource = ConfigSource.UNKNOWN_CONFIG,
        is_read_only: bool = False,
        is_default: bool = False,
        is_sensitive: bool = False,
        is_synonym: bool = False,
        synonyms: dict[str, "ConfigEntry"] | None = None,
        incremental_operation: AlterConfigOpType | None = None,
    ) -> None:
        self.name = name
        self.value = value
        self.source = source
        self.is_read_only = is_read_only
        self.is_default = is_default
        self.is_sensitive = is_sensitive
        self.is_synonym = is_synonym
        self.synonyms = synonyms if synonyms is not None else {}
        self.incremental_operation = incremental_operation

    def __repr__(self) -> str:
        return f'ConfigEntry({self.name}="{self.value}")'

    def __str__(self) -> str:
        return f'{self.name}="{self.value}"'


class ConfigResource:
    """A topic, a group, or a broker by its id, whose settings are asked for or changed.

    `set_config` is what `alter_configs` sets, `incremental_configs` what `incremental_alter_configs` changes.
    """

    Type: ClassVar[type[ResourceType]] = ResourceType

    def __init__(
        self,
        restype: ResourceType | str | int,
        name: str,
        set_config: dict[str, str] | None = None,
        described_configs: dict[str, ConfigEntry] | None = None,
        error: object = None,
        incremental_configs: list[ConfigEntry] | None = None,
    ) -> None:
        if isinstance(restype, str):
            restype = ResourceType[restype.upper()]
        self.restype = ResourceType(restype)
        if not name:
            raise ValueError("expected a resource name")
        self.name = name
        self.set_config_dict = dict(set_config or {})
        self.configs = described_configs
        self.error = error
        self.incremental_configs = list(incremental_configs or [])

    def set_config(self, name: str, value: str, overwrite: bool = True) -> None:
        """What `alter_configs` is to set."""
        if overwrite or name not in self.set_config_dict:
            self.set_config_dict[name] = value

    def add_incremental_config(self, config_entry: ConfigEntry) -> None:
        """A change for `incremental_alter_configs`."""
        self.incremental_configs.append(config_entry)

    def __len__(self) -> int:
        return len(self.configs) if self.configs else len(self.set_config_dict)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"ConfigResource({self.restype},{self.name})"

    def __hash__(self) -> int:
        return hash((self.restype, self.name))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ConfigResource)
            and self.restype == other.restype
            and self.name == other.name
        )

    def __lt__(self, other: "ConfigResource") -> bool:
        return (self.restype.value, self.name) < (other.restype.value, other.name)


class OffsetSpec:
    """Which offset `list_offsets` is to find."""

    def __init__(self, spec: int) -> None:
        self._value = spec

    @classmethod
    def earliest(cls) -> "OffsetSpec":
        """The log's first."""
        return cls(-2)

    @classmethod
    def latest(cls) -> "OffsetSpec":
        """The log's end."""
        return cls(-1)

    @classmethod
    def max_timestamp(cls) -> "OffsetSpec":
        """That of the record with the largest timestamp."""
        return cls(-3)

    @classmethod
    def for_timestamp(cls, timestamp: int) -> "OffsetSpec":
        """The first whose record is not older (milliseconds since the epoch)."""
        if timestamp < 0:
            raise ValueError("timestamp is negative")
        return cls(timestamp)

    def __repr__(self) -> str:
        return f"OffsetSpec({self._value})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffsetSpec) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class ListOffsetsResultInfo:
    """An answer of `list_offsets`; -1 where there is nothing."""

    def __init__(self, offset: int, timestamp: int, leader_epoch: int) -> None:
        self.offset = offset
        self.timestamp = timestamp
        self.leader_epoch = leader_epoch

    def __repr__(self) -> str:
        return f"ListOffsetsResultInfo(offset={self.offset}, timestamp={self.timestamp})"


class DeletedRecords:
    """An answer of `delete_records`: the offset of the partition's first record then."""

    def __init__(self, low_watermark: int) -> None:
        self.low_watermark = low_watermark

    def __repr__(self) -> str:
        return f"DeletedRecords(low_watermark={self.low_watermark})"


class ConsumerGroupListing:
    """A group in a list."""

    def __init__(
        self,
        group_id: str,
        is_simple_consumer_group: bool,
        state: ConsumerGroupState | None = None,
        type: ConsumerGroupType | None = None,
    ) -> None:
        self.group_id = group_id
        self.is_simple_consumer_group = is_simple_consumer_group
        self.state = state
        self.type = type

    def __repr__(self) -> str:
        return f"ConsumerGroupListing({self.group_id}, {self.state})"


class ListConsumerGroupsResult:
    """The groups that could be listed, and what went wrong with others."""

    def __init__(
        self,
        valid: list[ConsumerGroupListing] | None = None,
        errors: list[KafkaException] | None = None,
    ) -> None:
        self.valid = valid if valid is not None else []
        self.errors = errors if errors is not None else []


class MemberAssignment:
    """The partitions that a member has."""

    def __init__(self, topic_partitions: list[TopicPartition] | None = None) -> None:
        self.topic_partitions = topic_partitions if topic_partitions is not None else []


class MemberDescription:
    """A member of a group."""

    def __init__(
        self,
        member_id: str,
        client_id: str,
        host: str,
        assignment: MemberAssignment,
        group_instance_id: str | None = None,
        target_assignment: MemberAssignment | None = None,
    ) -> None:
        self.member_id = member_id
        self.client_id = client_id
        self.host = host
        self.assignment = assignment
        self.group_instance_id = group_instance_id
        self.target_assignment = target_assignment


class ConsumerGroupDescription:
    """A group with its members."""

    def __init__(
        self,
        group_id: str,
        is_simple_consumer_group: bool,
        members: list[MemberDescription],
        partition_assignor: str,
        state: ConsumerGroupState,
        coordinator: Node,
        authorized_operations: None = None,
        type: ConsumerGroupType = ConsumerGroupType.UNKNOWN,
    ) -> None:
        self.group_id = group_id
        self.is_simple_consumer_group = is_simple_consumer_group
        self.members = members
        self.partition_assignor = partition_assignor
        self.state = state
        self.coordinator = coordinator
        self.authorized_operations = authorized_operations
        self.type = type


class DescribeClusterResult:
    """A cluster: its id, its controller, its brokers."""

    def __init__(self, controller: Node | None, nodes: list[Node], cluster_id: str | None = None) -> None:
        self.cluster_id = cluster_id
        self.controller = controller
        self.nodes = nodes
        self.authorized_operations = None


class TopicDescription:
    """A topic with its partitions."""

    def __init__(self, name: str, is_internal: bool, partitions: list[TopicPartitionInfo]) -> None:
        self.name = name
        self.is_internal = is_internal
        self.partitions = partitions
        self.authorized_operations = None


def _group_state(name: str) -> ConsumerGroupState:
    return {
        "PreparingRebalance": ConsumerGroupState.PREPARING_REBALANCING,
        "CompletingRebalance": ConsumerGroupState.COMPLETING_REBALANCING,
        "Stable": ConsumerGroupState.STABLE,
        "Dead": ConsumerGroupState.DEAD,
        "Empty": ConsumerGroupState.EMPTY,
    }.get(name, ConsumerGroupState.UNKNOWN)


def _state_name(state: ConsumerGroupState) -> str:
    return {
        ConsumerGroupState.PREPARING_REBALANCING: "PreparingRebalance",
        ConsumerGroupState.COMPLETING_REBALANCING: "CompletingRebalance",
        ConsumerGroupState.STABLE: "Stable",
        ConsumerGroupState.DEAD: "Dead",
        ConsumerGroupState.EMPTY: "Empty",
    }.get(state, "Unknown")


def _group_type(name: str) -> ConsumerGroupType:
    return {
        "classic": ConsumerGroupType.CLASSIC,
        "consumer": ConsumerGroupType.CONSUMER,
    }.get(name.lower(), ConsumerGroupType.UNKNOWN)


def _assigned(assignment: bytes) -> list[TopicPartition]:
    """The partitions in a ConsumerProtocolAssignment: version, then topics with their partitions."""
    found: list[TopicPartition] = []
    try:
        (topics,) = struct.unpack_from(">i", assignment, 2)
        at = 6
        for _ in range(topics):
            (length,) = struct.unpack_from(">h", assignment, at)
            topic = assignment[at + 2 : at + 2 + length].decode()
            at += 2 + length
            (count,) = struct.unpack_from(">i", assignment, at)
            partitions = struct.unpack_from(f">{count}i", assignment, at + 4)
            at += 4 + 4 * count
            found.extend(TopicPartition(topic, partition) for partition in partitions)
    except (struct.error, UnicodeDecodeError):
        pass  # another protocol's assignment, or none yet
    return found


def _node(broker: BrokerMetadata) -> Node:
    return Node(broker.id, broker.host, broker.port)


def _settle(future: "Future[Any]", answer: object) -> None:
    if isinstance(answer, KafkaError):
        future.set_exception(KafkaException(answer))
    else:
        future.set_result(answer)


def _expect_list(values: object, element: type, named: str = "") -> None:
    """Raises a `TypeError` unless it is a list whose elements are all of that type; `named` is what the message calls them."""
    if not isinstance(values, list) or not all(isinstance(value, element) for value in values):
        raise TypeError(f"expected list of {named or element.__name__}")


class AdminClient:
    """Creates, deletes and describes topics and groups."""

    def __init__(self, conf: dict[str, Any], **kwargs: Any) -> None:
        self._admin = Admin(conf, **kwargs)
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="ottla-admin")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown()

    def _one(self, call: Callable[[], T]) -> "Future[T]":
        return self._threads.submit(call)

    def _each(
        self, keys: Iterable[K], call: Callable[[], Sequence[object]]
    ) -> "dict[K, Future[Any]]":
        """A future for every key, all settled by one call that gives a value or an error for each."""
        futures: dict[K, Future[Any]] = {key: Future() for key in keys}
        if not futures:
            raise ValueError("expected at least one element")
        for future in futures.values():
            future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                answers = call()
            except BaseException as failure:
                for future in futures.values():
                    future.set_exception(failure)
            else:
                for future, answer in zip(futures.values(), answers, strict=True):
                    _settle(future, answer)

        self._threads.submit(run)
        return futures

    def _each_group(
        self,
        asked: list[ConsumerGroupTopicPartitions],
        call: Callable[[ConsumerGroupTopicPartitions], list[TopicPartition]],
    ) -> "dict[str, Future[ConsumerGroupTopicPartitions]]":
        """A future for every group's partitions, as `call` gives them; should it raise for one group, all futures have that."""

        def run() -> list[object]:
            return [ConsumerGroupTopicPartitions(group.group_id, call(group)) for group in asked]

        return self._each((group.group_id for group in asked), run)

    def create_topics(
        self,
        new_topics: list[NewTopic],
        *,
        operation_timeout: float = -1,
        request_timeout: float = DEFAULT_TIMEOUT,
        validate_only: bool = False,
    ) -> "dict[str, Future[None]]":
        """Creates topics; with `validate_only` it only says whether it could."""
        _expect_list(new_topics, NewTopic)
        topics = [
            (
                topic.topic,
                topic.num_partitions,
                topic.replication_factor,
                list((topic.config or {}).items()),
            )
            for topic in new_topics
        ]
        if any(topic.replica_assignment for topic in new_topics):
            raise ValueError("replica_assignment is not supported: there is one broker")
        return self._each(
            (topic.topic for topic in new_topics),
            lambda: self._admin.create_topics(topics, validate_only, request_timeout),
        )

    def delete_topics(
        self,
        topics: list[str],
        *,
        operation_timeout: float = -1,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[str, Future[None]]":
        """Deletes topics with all their records."""
        _expect_list(topics, str, "topic names")
        return self._each(topics, lambda: self._admin.delete_topics(topics, request_timeout))

    def create_partitions(
        self,
        new_partitions: list[NewPartitions],
        *,
        operation_timeout: float = -1,
        request_timeout: float = DEFAULT_TIMEOUT,
        validate_only: bool = False,
    ) -> "dict[str, Future[None]]":
        """Gives topics more partitions."""
        _expect_list(new_partitions, NewPartitions)
        if any(wanted.replica_assignment for wanted in new_partitions):
            raise ValueError("replica_assignment is not supported: there is one broker")
        wanted = [(partitions.topic, partitions.new_total_count) for partitions in new_partitions]
        return self._each(
            (partitions.topic for partitions in new_partitions),
            lambda: self._admin.create_partitions(wanted, validate_only, request_timeout),
        )

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        """Brokers and topics: all, or the one named."""
        return self._admin.list_topics(None if topic is None else [topic], timeout)

    def cluster_id(self, timeout: float = -1) -> str:
        """The cluster's id."""
        return self._admin.cluster_id(timeout)

    def describe_topics(
        self,
        topics: TopicCollection,
        *,
        include_authorized_operations: bool = False,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[str, Future[TopicDescription]]":
        """Topics with their partitions."""
        names = list(topics.topic_names)

        def run() -> list[object]:
            # All of them: asking for one by its name may create it.
            metadata = self._admin.list_topics(None, request_timeout)
            return [self._topic(metadata, name) for name in names]

        return self._each(names, run)

    @staticmethod
    def _topic(metadata: ClusterMetadata, name: str) -> object:
        topic = metadata.topics.get(name)
        if topic is None:
            return KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        if topic.error is not None:
            return topic.error
        nodes = {id: _node(broker) for id, broker in metadata.brokers.items()}
        partitions = [
            TopicPartitionInfo(
                partition.id,
                nodes.get(partition.leader),
                [nodes[id] for id in partition.replicas if id in nodes],
                [nodes[id] for id in partition.isrs if id in nodes],
            )
            for partition in topic.partitions.values()
        ]
        return TopicDescription(name, name.startswith("__"), partitions)

    def describe_cluster(
        self,
        *,
        include_authorized_operations: bool = False,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "Future[DescribeClusterResult]":
        """The cluster's id, controller and brokers."""

        def run() -> DescribeClusterResult:
            metadata = self._admin.list_topics([], request_timeout)
            nodes = {id: _node(broker) for id, broker in metadata.brokers.items()}
            controller = nodes.get(metadata.controller_id)
            return DescribeClusterResult(controller, list(nodes.values()), metadata.cluster_id)

        return self._one(run)

    def describe_configs(
        self, resources: list[ConfigResource], *, request_timeout: float = DEFAULT_TIMEOUT
    ) -> "dict[ConfigResource, Future[dict[str, ConfigEntry]]]":
        """Settings of topics, groups and brokers, by name."""
        _expect_list(resources, ConfigResource)
        asked = [(resource.restype.value, resource.name) for resource in resources]

        def run() -> list[object]:
            described = self._admin.describe_configs(asked, request_timeout)
            return [
                answer if isinstance(answer, KafkaError) else self._entries(answer)
                for answer in described
            ]

        return self._each(resources, run)

    @staticmethod
    def _entries(
        settings: list[tuple[str, str | None, int, bool, bool]],
    ) -> dict[str, ConfigEntry]:
        entries = {}
        for name, value, number, is_read_only, is_sensitive in settings:
            try:
                source = ConfigSource(number)
            except ValueError:
                source = ConfigSource.UNKNOWN_CONFIG
            is_default = source is ConfigSource.DEFAULT_CONFIG
            entries[name] = ConfigEntry(
                name, value, source, is_read_only, is_default, is_sensitive
            )
        return entries

    def alter_configs(
        self,
        resources: list[ConfigResource],
        *,
        validate_only: bool = False,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[ConfigResource, Future[None]]":
        """Replaces all that was set of each resource by its `set_config`: what isn't named there goes back to its default."""
        _expect_list(resources, ConfigResource)
        changed = [
            (resource.restype.value, resource.name, list(resource.set_config_dict.items()))
            for resource in resources
        ]
        return self._each(
            resources, lambda: self._admin.alter_configs(changed, validate_only, request_timeout)
        )

    def incremental_alter_configs(
        self,
        resources: list[ConfigResource],
        *,
        validate_only: bool = False,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[ConfigResource, Future[None]]":
        """Makes the changes in each resource's `incremental_configs`, all of a resource or none; the other settings stay."""
        _expect_list(resources, ConfigResource)
        changed: list[tuple[int, str, list[tuple[str, int, str | None]]]] = []
        for resource in resources:
            changes = []
            for entry in resource.incremental_configs:
                operation = entry.incremental_operation
                if operation is None:
                    raise ValueError(f"{entry.name}: expected an incremental_operation")
                value = None if operation is AlterConfigOpType.DELETE else entry.value
                changes.append((entry.name, operation.value, value))
            if not changes:
                raise ValueError(f"expected incremental_configs of {resource!r}")
            changed.append((resource.restype.value, resource.name, changes))
        return self._each(
            resources,
            lambda: self._admin.incremental_alter_configs(changed, validate_only, request_timeout),
        )

    def delete_records(
        self,
        topic_partition_offsets: list[TopicPartition],
        *,
        operation_timeout: float = -1,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[TopicPartition, Future[DeletedRecords]]":
        """Deletes the records before each partition's offset, `OFFSET_END`: all of them."""
        partitions = list(topic_partition_offsets)
        if not all(isinstance(partition, TopicPartition) for partition in partitions):
            raise TypeError("expected list of TopicPartition")

        def run() -> list[object]:
            deleted = self._admin.delete_records(partitions, request_timeout)
            return [partition.error or DeletedRecords(partition.offset) for partition in deleted]

        return self._each(partitions, run)

    def elect_leaders(
        self,
        election_type: ElectionType,
        partitions: list[TopicPartition] | None = None,
        *,
        operation_timeout: float = -1,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "Future[dict[TopicPartition, KafkaException | None]]":
        """Has leaders elected, of these partitions or of all: each that was asked for with its error, `ELECTION_NOT_NEEDED` if the
        right one leads it already, which with one broker it does."""
        if not isinstance(election_type, ElectionType):
            raise TypeError("expected ElectionType")
        unclean = election_type is ElectionType.UNCLEAN

        def run() -> dict[TopicPartition, KafkaException | None]:
            elected = self._admin.elect_leaders(unclean, partitions, request_timeout)
            return {
                TopicPartition(topic, number): None if error is None else KafkaException(error)
                for topic, number, error in elected
            }

        return self._one(run)

    def list_groups(self, group: str | None = None, timeout: float = 10) -> list[GroupMetadata]:
        """Groups with their members, as the protocol tells them: all, or the one named."""
        if group is not None:
            names = [group]
        else:
            names = [listed[0] for listed in self._admin.list_groups([], timeout)]
        described = self._admin.describe_groups(names, timeout) if names else []
        groups: list[GroupMetadata] = []
        for answer in described:
            if isinstance(answer, KafkaError):
                raise KafkaException(answer)
            groups.append(answer)
        return groups

    def list_consumer_groups(
        self,
        *,
        request_timeout: float = DEFAULT_TIMEOUT,
        states: set[ConsumerGroupState] | None = None,
        types: set[ConsumerGroupType] | None = None,
    ) -> "Future[ListConsumerGroupsResult]":
        """Groups, in these states or in any."""
        names = [_state_name(state) for state in states or ()]

        def run() -> ListConsumerGroupsResult:
            listed = [
                ConsumerGroupListing(
                    group, protocol_type == "", _group_state(state), _group_type(group_type)
                )
                for group, state, protocol_type, group_type in self._admin.list_groups(
                    names, request_timeout
                )
            ]
            return ListConsumerGroupsResult([g for g in listed if not types or g.type in types])

        return self._one(run)

    def describe_consumer_groups(
        self,
        group_ids: list[str],
        *,
        include_authorized_operations: bool = False,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[str, Future[ConsumerGroupDescription]]":
        """Groups with their members."""

        def run() -> list[object]:
            described = self._admin.describe_groups(group_ids, request_timeout)
            return [self._group(answer) for answer in described]

        return self._each(group_ids, run)

    @staticmethod
    def _group(group: GroupMetadata | KafkaError) -> object:
        if isinstance(group, KafkaError):
            return group
        if group.error is not None:
            return group.error
        members = [
            MemberDescription(
                member.id,
                member.client_id,
                member.client_host,
                MemberAssignment(_assigned(member.assignment)),
                member.group_instance_id,
                None
                if member.target_assignment is None
                else MemberAssignment(_assigned(member.target_assignment)),
            )
            for member in group.members
        ]
        return ConsumerGroupDescription(
            group.id,
            group.protocol_type == "",
            members,
            group.protocol,
            _group_state(group.state),
            _node(group.broker),
            type=_group_type(group.group_type),
        )

    def delete_consumer_groups(
        self, group_ids: list[str], *, request_timeout: float = DEFAULT_TIMEOUT
    ) -> "dict[str, Future[None]]":
        """Deletes groups that have no members."""
        return self._each(group_ids, lambda: self._admin.delete_groups(group_ids, request_timeout))

    def list_consumer_group_offsets(
        self,
        list_consumer_group_offsets_request: list[ConsumerGroupTopicPartitions],
        *,
        require_stable: bool = False,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[str, Future[ConsumerGroupTopicPartitions]]":
        """Committed offsets of a group: all, or of the partitions named."""
        return self._each_group(
            list_consumer_group_offsets_request,
            lambda group: self._admin.list_group_offsets(
                group.group_id, group.topic_partitions, require_stable, request_timeout
            ),
        )

    def alter_consumer_group_offsets(
        self,
        alter_consumer_group_offsets_request: list[ConsumerGroupTopicPartitions],
        *,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[str, Future[ConsumerGroupTopicPartitions]]":
        """Sets committed offsets of a group that has no members."""
        return self._each_group(
            alter_consumer_group_offsets_request,
            lambda group: self._admin.alter_group_offsets(
                group.group_id, group.topic_partitions or [], request_timeout
            ),
        )

    def delete_consumer_group_offsets(
        self,
        requests: list[ConsumerGroupTopicPartitions],
        *,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[str, Future[ConsumerGroupTopicPartitions]]":
        """Forgets committed offsets of topics that the group isn't subscribed to."""
        return self._each_group(
            requests,
            lambda group: self._admin.delete_group_offsets(
                group.group_id, group.topic_partitions or [], request_timeout
            ),
        )

    def list_offsets(
        self,
        topic_partition_offsets: dict[TopicPartition, OffsetSpec],
        *,
        isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
        request_timeout: float = DEFAULT_TIMEOUT,
    ) -> "dict[TopicPartition, Future[ListOffsetsResultInfo]]":
        """Finds offsets of partitions."""
        partitions = list(topic_partition_offsets)
        specs = [spec._value for spec in topic_partition_offsets.values()]

        def run() -> list[object]:
            read_committed = isolation_level is IsolationLevel.READ_COMMITTED
            listed = self._admin.list_offsets(partitions, specs, read_committed, request_timeout)
            return [
                answer if isinstance(answer, KafkaError) else ListOffsetsResultInfo(*answer)
                for answer in listed
            ]

        return self._each(partitions, run)
