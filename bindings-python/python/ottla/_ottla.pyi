from collections.abc import Callable
from types import GenericAlias, TracebackType
from typing import Any, Literal, Self, TypeAlias, final, overload

from typing_extensions import Buffer, disjoint_base

__all__ = [
    "Producer",
    "Consumer",
    "ConsumerGroupMetadata",
    "Message",
    "TopicPartition",
    "Admin",
    "ClusterMetadata",
    "BrokerMetadata",
    "TopicMetadata",
    "PartitionMetadata",
    "GroupMetadata",
    "GroupMember",
    "KafkaError",
    "KafkaException",
    "OFFSET_BEGINNING",
    "OFFSET_END",
    "OFFSET_STORED",
    "OFFSET_INVALID",
    "TIMESTAMP_NOT_AVAILABLE",
    "TIMESTAMP_CREATE_TIME",
    "TIMESTAMP_LOG_APPEND_TIME",
    "libversion",
    "version",
]

# The class below has a method of that name.
_Str: TypeAlias = str

# What keys, values and header values may be.
_Payload: TypeAlias = str | Buffer | None
_Headers: TypeAlias = dict[str, _Payload] | list[tuple[str, _Payload]]
_DeliveryCallback: TypeAlias = Callable[[KafkaError | None, Message], object]
_RebalanceCallback: TypeAlias = Callable[[Consumer, list[TopicPartition]], object]

OFFSET_BEGINNING: int
OFFSET_END: int
OFFSET_STORED: int
OFFSET_INVALID: int
TIMESTAMP_NOT_AVAILABLE: int
TIMESTAMP_CREATE_TIME: int
TIMESTAMP_LOG_APPEND_TIME: int

def libversion() -> tuple[str, int]: ...
def version() -> str: ...

@final
class KafkaError:
    def __new__(
        cls,
        error: int,
        reason: _Str | None = None,
        fatal: bool = False,
        retriable: bool = False,
        txn_requires_abort: bool = False,
    ) -> Self: ...
    def code(self) -> int: ...
    def name(self) -> _Str: ...
    def str(self) -> _Str: ...
    def fatal(self) -> bool: ...
    def retriable(self) -> bool: ...
    def txn_requires_abort(self) -> bool: ...
    def __hash__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __lt__(self, value: KafkaError | int, /) -> bool: ...
    def __le__(self, value: KafkaError | int, /) -> bool: ...
    def __gt__(self, value: KafkaError | int, /) -> bool: ...
    def __ge__(self, value: KafkaError | int, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    _BAD_MSG: int
    _BAD_COMPRESSION: int
    _DESTROY: int
    _FAIL: int
    _TRANSPORT: int
    _CRIT_SYS_RESOURCE: int
    _RESOLVE: int
    _MSG_TIMED_OUT: int
    _PARTITION_EOF: int
    _UNKNOWN_PARTITION: int
    _FS: int
    _UNKNOWN_TOPIC: int
    _ALL_BROKERS_DOWN: int
    _INVALID_ARG: int
    _TIMED_OUT: int
    _QUEUE_FULL: int
    _ISR_INSUFF: int
    _NODE_UPDATE: int
    _SSL: int
    _WAIT_COORD: int
    _UNKNOWN_GROUP: int
    _IN_PROGRESS: int
    _PREV_IN_PROGRESS: int
    _EXISTING_SUBSCRIPTION: int
    _ASSIGN_PARTITIONS: int
    _REVOKE_PARTITIONS: int
    _CONFLICT: int
    _STATE: int
    _UNKNOWN_PROTOCOL: int
    _NOT_IMPLEMENTED: int
    _AUTHENTICATION: int
    _NO_OFFSET: int
    _OUTDATED: int
    _TIMED_OUT_QUEUE: int
    _UNSUPPORTED_FEATURE: int
    _WAIT_CACHE: int
    _INTR: int
    _KEY_SERIALIZATION: int
    _VALUE_SERIALIZATION: int
    _KEY_DESERIALIZATION: int
    _VALUE_DESERIALIZATION: int
    _PARTIAL: int
    _READ_ONLY: int
    _NOENT: int
    _UNDERFLOW: int
    _INVALID_TYPE: int
    _RETRY: int
    _PURGE_QUEUE: int
    _PURGE_INFLIGHT: int
    _FATAL: int
    _INCONSISTENT: int
    _GAPLESS_GUARANTEE: int
    _MAX_POLL_EXCEEDED: int
    _UNKNOWN_BROKER: int
    _NOT_CONFIGURED: int
    _FENCED: int
    _APPLICATION: int
    _ASSIGNMENT_LOST: int
    _NOOP: int
    _AUTO_OFFSET_RESET: int
    _LOG_TRUNCATION: int
    _INVALID_DIFFERENT_RECORD: int
    _DESTROY_BROKER: int
    UNKNOWN: int
    NO_ERROR: int
    OFFSET_OUT_OF_RANGE: int
    INVALID_MSG: int
    UNKNOWN_TOPIC_OR_PART: int
    INVALID_MSG_SIZE: int
    LEADER_NOT_AVAILABLE: int
    NOT_LEADER_FOR_PARTITION: int
    REQUEST_TIMED_OUT: int
    BROKER_NOT_AVAILABLE: int
    REPLICA_NOT_AVAILABLE: int
    MSG_SIZE_TOO_LARGE: int
    STALE_CTRL_EPOCH: int
    OFFSET_METADATA_TOO_LARGE: int
    NETWORK_EXCEPTION: int
    COORDINATOR_LOAD_IN_PROGRESS: int
    COORDINATOR_NOT_AVAILABLE: int
    NOT_COORDINATOR: int
    TOPIC_EXCEPTION: int
    RECORD_LIST_TOO_LARGE: int
    NOT_ENOUGH_REPLICAS: int
    NOT_ENOUGH_REPLICAS_AFTER_APPEND: int
    INVALID_REQUIRED_ACKS: int
    ILLEGAL_GENERATION: int
    INCONSISTENT_GROUP_PROTOCOL: int
    INVALID_GROUP_ID: int
    UNKNOWN_MEMBER_ID: int
    INVALID_SESSION_TIMEOUT: int
    REBALANCE_IN_PROGRESS: int
    INVALID_COMMIT_OFFSET_SIZE: int
    TOPIC_AUTHORIZATION_FAILED: int
    GROUP_AUTHORIZATION_FAILED: int
    CLUSTER_AUTHORIZATION_FAILED: int
    INVALID_TIMESTAMP: int
    UNSUPPORTED_SASL_MECHANISM: int
    ILLEGAL_SASL_STATE: int
    UNSUPPORTED_VERSION: int
    TOPIC_ALREADY_EXISTS: int
    INVALID_PARTITIONS: int
    INVALID_REPLICATION_FACTOR: int
    INVALID_REPLICA_ASSIGNMENT: int
    INVALID_CONFIG: int
    NOT_CONTROLLER: int
    INVALID_REQUEST: int
    UNSUPPORTED_FOR_MESSAGE_FORMAT: int
    POLICY_VIOLATION: int
    OUT_OF_ORDER_SEQUENCE_NUMBER: int
    DUPLICATE_SEQUENCE_NUMBER: int
    INVALID_PRODUCER_EPOCH: int
    INVALID_TXN_STATE: int
    INVALID_PRODUCER_ID_MAPPING: int
    INVALID_TRANSACTION_TIMEOUT: int
    CONCURRENT_TRANSACTIONS: int
    TRANSACTION_COORDINATOR_FENCED: int
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED: int
    SECURITY_DISABLED: int
    OPERATION_NOT_ATTEMPTED: int
    KAFKA_STORAGE_ERROR: int
    LOG_DIR_NOT_FOUND: int
    SASL_AUTHENTICATION_FAILED: int
    UNKNOWN_PRODUCER_ID: int
    REASSIGNMENT_IN_PROGRESS: int
    DELEGATION_TOKEN_AUTH_DISABLED: int
    DELEGATION_TOKEN_NOT_FOUND: int
    DELEGATION_TOKEN_OWNER_MISMATCH: int
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED: int
    DELEGATION_TOKEN_AUTHORIZATION_FAILED: int
    DELEGATION_TOKEN_EXPIRED: int
    INVALID_PRINCIPAL_TYPE: int
    NON_EMPTY_GROUP: int
    GROUP_ID_NOT_FOUND: int
    FETCH_SESSION_ID_NOT_FOUND: int
    INVALID_FETCH_SESSION_EPOCH: int
    LISTENER_NOT_FOUND: int
    TOPIC_DELETION_DISABLED: int
    FENCED_LEADER_EPOCH: int
    UNKNOWN_LEADER_EPOCH: int
    UNSUPPORTED_COMPRESSION_TYPE: int
    STALE_BROKER_EPOCH: int
    OFFSET_NOT_AVAILABLE: int
    MEMBER_ID_REQUIRED: int
    PREFERRED_LEADER_NOT_AVAILABLE: int
    GROUP_MAX_SIZE_REACHED: int
    FENCED_INSTANCE_ID: int
    ELIGIBLE_LEADERS_NOT_AVAILABLE: int
    ELECTION_NOT_NEEDED: int
    NO_REASSIGNMENT_IN_PROGRESS: int
    GROUP_SUBSCRIBED_TO_TOPIC: int
    INVALID_RECORD: int
    UNSTABLE_OFFSET_COMMIT: int
    THROTTLING_QUOTA_EXCEEDED: int
    PRODUCER_FENCED: int
    RESOURCE_NOT_FOUND: int
    DUPLICATE_RESOURCE: int
    UNACCEPTABLE_CREDENTIAL: int
    INCONSISTENT_VOTER_SET: int
    INVALID_UPDATE_VERSION: int
    FEATURE_UPDATE_FAILED: int
    PRINCIPAL_DESERIALIZATION_FAILURE: int
    UNKNOWN_TOPIC_ID: int
    INCONSISTENT_TOPIC_ID: int
    FENCED_MEMBER_EPOCH: int
    UNRELEASED_INSTANCE_ID: int
    UNSUPPORTED_ASSIGNOR: int
    STALE_MEMBER_EPOCH: int
    MISMATCHED_ENDPOINT_TYPE: int
    UNSUPPORTED_ENDPOINT_TYPE: int
    UNKNOWN_CONTROLLER_ID: int
    UNKNOWN_SUBSCRIPTION_ID: int
    TELEMETRY_TOO_LARGE: int
    INVALID_REGISTRATION: int
    TRANSACTION_ABORTABLE: int
    INVALID_RECORD_STATE: int
    SHARE_SESSION_NOT_FOUND: int
    INVALID_SHARE_SESSION_EPOCH: int
    FENCED_STATE_EPOCH: int
    INVALID_VOTER_KEY: int
    DUPLICATE_VOTER: int
    VOTER_NOT_FOUND: int
    INVALID_REGULAR_EXPRESSION: int
    REBOOTSTRAP_REQUIRED: int
    STREAMS_INVALID_TOPOLOGY: int
    STREAMS_INVALID_TOPOLOGY_EPOCH: int
    STREAMS_TOPOLOGY_FENCED: int
    SHARE_SESSION_LIMIT_REACHED: int

class KafkaException(Exception): ...

@final
class TopicPartition:
    partition: int
    offset: int
    def __new__(
        cls,
        topic: str,
        partition: int = -1,
        offset: int = -1001,
        metadata: str | None = None,
        leader_epoch: int | None = None,
    ) -> Self: ...
    @property
    def topic(self) -> str: ...
    @property
    def metadata(self) -> str | None: ...
    @property
    def leader_epoch(self) -> int | None: ...
    @property
    def error(self) -> KafkaError | None: ...
    def __hash__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __lt__(self, value: TopicPartition, /) -> bool: ...
    def __le__(self, value: TopicPartition, /) -> bool: ...
    def __gt__(self, value: TopicPartition, /) -> bool: ...
    def __ge__(self, value: TopicPartition, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class Message:
    def __new__(
        cls,
        topic: str | None = None,
        partition: int = -1,
        offset: int = -1001,
        key: Any = None,
        value: Any = None,
        headers: Any = None,
        error: KafkaError | None = None,
        timestamp: tuple[int, int] = (0, 0),
        latency: float | None = None,
        leader_epoch: int | None = None,
    ) -> Self: ...
    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def error(self) -> KafkaError | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def latency(self) -> float | None: ...
    def leader_epoch(self) -> int | None: ...
    def delivery_count(self) -> int | None: ...
    def set_key(self, key: Any) -> None: ...
    def set_value(self, value: Any) -> None: ...
    def set_headers(self, headers: Any) -> None: ...
    def set_error(self, error: KafkaError | None) -> None: ...
    def __len__(self) -> int: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...

@disjoint_base
class Producer:
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self, config: dict[str, Any] | None = None, /, **kwargs: Any) -> None: ...
    def produce(
        self,
        topic: str,
        value: _Payload = None,
        key: _Payload = None,
        partition: int = -1,
        callback: _DeliveryCallback | None = None,
        on_delivery: _DeliveryCallback | None = None,
        timestamp: int = 0,
        headers: _Headers | None = None,
    ) -> None: ...
    def produce_batch(
        self,
        topic: str,
        messages: list[dict[str, Any]],
        partition: int = -1,
        callback: _DeliveryCallback | None = None,
        on_delivery: _DeliveryCallback | None = None,
    ) -> int: ...
    def poll(self, timeout: float | None = -1.0) -> int: ...
    def flush(self, timeout: float | None = -1.0) -> int: ...
    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None: ...
    def list_topics(self, topic: str | None = None, timeout: float | None = -1.0) -> ClusterMetadata: ...
    def cluster_id(self, timeout: float | None = -1.0) -> str: ...
    def close(self) -> bool: ...
    def init_transactions(self, timeout: float | None = -1.0) -> None: ...
    def begin_transaction(self) -> None: ...
    def commit_transaction(self, timeout: float | None = -1.0) -> None: ...
    def abort_transaction(self, timeout: float | None = -1.0) -> None: ...
    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: Any, timeout: float | None = -1.0
    ) -> None: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None: ...

@disjoint_base
class Consumer:
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self, config: dict[str, Any] | None = None, /, **kwargs: Any) -> None: ...
    def subscribe(
        self,
        topics: list[str],
        on_assign: _RebalanceCallback | None = None,
        on_revoke: _RebalanceCallback | None = None,
        on_lost: _RebalanceCallback | None = None,
    ) -> None: ...
    def unsubscribe(self) -> None: ...
    def poll(self, timeout: float | None = -1.0) -> Message | None: ...
    def consume(self, num_messages: int = 1, timeout: float | None = -1.0) -> list[Message]: ...
    def assign(self, partitions: list[TopicPartition]) -> None: ...
    def unassign(self) -> None: ...
    def incremental_assign(self, partitions: list[TopicPartition]) -> None: ...
    def incremental_unassign(self, partitions: list[TopicPartition]) -> None: ...
    def assignment(self) -> list[TopicPartition]: ...
    @overload
    def commit(
        self,
        message: Message | None = None,
        offsets: list[TopicPartition] | None = None,
        asynchronous: Literal[True] = True,
    ) -> None: ...
    @overload
    def commit(
        self,
        message: Message | None = None,
        offsets: list[TopicPartition] | None = None,
        *,
        asynchronous: Literal[False],
    ) -> list[TopicPartition]: ...
    def committed(
        self, partitions: list[TopicPartition], timeout: float | None = -1.0
    ) -> list[TopicPartition]: ...
    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]: ...
    def seek(self, partition: TopicPartition) -> None: ...
    def pause(self, partitions: list[TopicPartition]) -> None: ...
    def resume(self, partitions: list[TopicPartition]) -> None: ...
    def store_offsets(
        self, message: Message | None = None, offsets: list[TopicPartition] | None = None
    ) -> None: ...
    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float | None = -1.0, cached: bool = False
    ) -> tuple[int, int]: ...
    def offsets_for_times(
        self, partitions: list[TopicPartition], timeout: float | None = -1.0
    ) -> list[TopicPartition]: ...
    def list_topics(self, topic: str | None = None, timeout: float | None = -1.0) -> ClusterMetadata: ...
    def cluster_id(self, timeout: float | None = -1.0) -> str: ...
    def memberid(self) -> str | None: ...
    def consumer_group_metadata(self) -> ConsumerGroupMetadata | None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None: ...

@final
class ConsumerGroupMetadata:
    @property
    def group_id(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def member_id(self) -> str: ...
    @property
    def group_instance_id(self) -> str | None: ...

@final
class ClusterMetadata:
    @property
    def cluster_id(self) -> str | None: ...
    @property
    def controller_id(self) -> int: ...
    @property
    def brokers(self) -> dict[int, BrokerMetadata]: ...
    @property
    def topics(self) -> dict[str, TopicMetadata]: ...
    @property
    def orig_broker_id(self) -> int: ...
    @property
    def orig_broker_name(self) -> str | None: ...

@final
class BrokerMetadata:
    @property
    def id(self) -> int: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...

@final
class TopicMetadata:
    @property
    def topic(self) -> str: ...
    @property
    def partitions(self) -> dict[int, PartitionMetadata]: ...
    @property
    def error(self) -> KafkaError | None: ...

@final
class PartitionMetadata:
    @property
    def id(self) -> int: ...
    @property
    def leader(self) -> int: ...
    @property
    def replicas(self) -> list[int]: ...
    @property
    def isrs(self) -> list[int]: ...
    @property
    def error(self) -> KafkaError | None: ...

@final
class GroupMetadata:
    @property
    def broker(self) -> BrokerMetadata: ...
    @property
    def id(self) -> str: ...
    @property
    def error(self) -> KafkaError | None: ...
    @property
    def group_type(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def protocol_type(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def members(self) -> list[GroupMember]: ...

@final
class GroupMember:
    @property
    def id(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def client_host(self) -> str: ...
    @property
    def metadata(self) -> bytes: ...
    @property
    def assignment(self) -> bytes: ...
    @property
    def target_assignment(self) -> bytes | None: ...
    @property
    def group_instance_id(self) -> str | None: ...

@final
class Admin:
    def __new__(cls, config: dict[str, Any] | None = None, /, **kwargs: Any) -> Self: ...
    def create_topics(
        self,
        topics: list[tuple[str, int, int, list[tuple[str, str]]]],
        validate_only: bool,
        timeout: float,
    ) -> list[KafkaError | None]: ...
    def delete_topics(self, topics: list[str], timeout: float) -> list[KafkaError | None]: ...
    def create_partitions(
        self, topics: list[tuple[str, int]], validate_only: bool, timeout: float
    ) -> list[KafkaError | None]: ...
    def list_topics(self, topics: list[str] | None, timeout: float) -> ClusterMetadata: ...
    def list_groups(
        self, states: list[str], timeout: float
    ) -> list[tuple[str, str, str, str]]: ...
    def describe_groups(
        self, groups: list[str], timeout: float
    ) -> list[GroupMetadata | KafkaError]: ...
    def delete_groups(self, groups: list[str], timeout: float) -> list[KafkaError | None]: ...
    def list_group_offsets(
        self,
        group: str,
        partitions: list[TopicPartition] | None,
        require_stable: bool,
        timeout: float,
    ) -> list[TopicPartition]: ...
    def alter_group_offsets(
        self, group: str, offsets: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]: ...
    def delete_group_offsets(
        self, group: str, partitions: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]: ...
    def list_offsets(
        self,
        partitions: list[TopicPartition],
        specs: list[int],
        read_committed: bool,
        timeout: float,
    ) -> list[tuple[int, int, int] | KafkaError]: ...
    def describe_configs(
        self, resources: list[tuple[int, str]], timeout: float
    ) -> list[list[tuple[str, str | None, int, bool, bool]] | KafkaError]: ...
    def alter_configs(
        self,
        resources: list[tuple[int, str, list[tuple[str, str]]]],
        validate_only: bool,
        timeout: float,
    ) -> list[KafkaError | None]: ...
    def incremental_alter_configs(
        self,
        resources: list[tuple[int, str, list[tuple[str, int, str | None]]]],
        validate_only: bool,
        timeout: float,
    ) -> list[KafkaError | None]: ...
    def delete_records(
        self, before: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]: ...
    def elect_leaders(
        self, unclean: bool, partitions: list[TopicPartition] | None, timeout: float
    ) -> list[tuple[str, int, KafkaError | None]]: ...
    def cluster_id(self, timeout: float) -> str: ...
