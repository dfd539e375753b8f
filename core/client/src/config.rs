//! What a client is told at its start: librdkafka's properties as typed fields, with librdkafka's defaults.
//!
//! The façade's property table fills it from strings. Only what the machines act on is here; what concerns sockets, TLS,
//! SASL, logging and callbacks stays above them.

use crate::debug::Contexts;
use crate::error::{ErrCode, KafkaError};
use crate::producer::partitioner::PartitionerKind;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use ottla_protocol::Str;
use ottla_record::Compression;

/// What the handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// Produces; also serves admin requests.
    #[default]
    Producer,
    /// Consumes; also serves admin requests.
    Consumer,
}

/// `compression.codec`, and `compression.level` with it.
pub type CompressionLevel = Option<i32>;

/// `auto.offset.reset`: where to start when there is no valid offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// At the log's start.
    Earliest,
    /// At the log's end.
    #[default]
    Latest,
    /// Raise `_AUTO_OFFSET_RESET`.
    Error,
}

/// `isolation.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// Everything below the high watermark.
    ReadUncommitted,
    /// Only what is committed, up to the last stable offset.
    #[default]
    ReadCommitted,
}

/// One address of `bootstrap.servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapServer {
    /// Host name or address; for an embedded broker whatever name its driver resolves.
    pub host: Str,
    /// Port.
    pub port: i32,
}

/// The properties that librdkafka keeps per topic, as far as a producer is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `request.required.acks`: -1 all in-sync replicas, 0 no answer, 1 the leader. Default -1.
    pub acks: i16,
    /// `request.timeout.ms`: how long the broker may wait for the acknowledgements. Default 30000.
    pub request_timeout_ms: u32,
    /// `message.timeout.ms`: how long a message may take from produce() to its acknowledgement; 0 is for ever.
    /// Default 300000.
    pub message_timeout_ms: u32,
    /// `partitioner`. Default `consistent_random`.
    pub partitioner: PartitionerKind,
    /// `compression.codec`; `None` inherits the client's.
    pub compression: Option<Compression>,
    /// `compression.level`; `None` (-1) is the codec's own.
    pub compression_level: CompressionLevel,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            acks: -1,
            request_timeout_ms: 30_000,
            message_timeout_ms: 300_000,
            partitioner: PartitionerKind::ConsistentRandom,
            compression: None,
            compression_level: None,
        }
    }
}

/// The configuration of a [`Client`](crate::Client). Fields are librdkafka's properties, dots to underscores; ranges are
/// checked where strings are parsed, combinations in [`ClientConfig::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClientConfig {
    /// What the handle is for.
    pub role: Role,
    /// `bootstrap.servers`. At least one.
    pub bootstrap_servers: Vec<BootstrapServer>,
    /// `client.id`.
    pub client_id: Str,
    /// `client.software.name`, told to brokers in ApiVersions.
    pub client_software_name: Str,
    /// `client.software.version`, told to brokers in ApiVersions.
    pub client_software_version: Str,
    /// `client.rack`.
    pub client_rack: Str,
    /// `allow.auto.create.topics`; `None` is the role's default: producers yes, consumers no.
    pub allow_auto_create_topics: Option<bool>,
    /// `message.max.bytes`: the largest message that produce() takes, its framing included.
    pub message_max_bytes: usize,
    /// `receive.message.max.bytes`.
    pub receive_message_max_bytes: usize,
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: u32,
    /// `topic.metadata.refresh.interval.ms`; -1 turns the periodic refresh off.
    pub topic_metadata_refresh_interval_ms: i32,
    /// `metadata.max.age.ms`.
    pub metadata_max_age_ms: u32,
    /// `topic.metadata.refresh.fast.interval.ms`: the first pause between refreshes while something is unknown.
    pub topic_metadata_refresh_fast_interval_ms: u32,
    /// `topic.metadata.propagation.max.ms`: how long a topic that a broker does not know may still be on its way.
    pub topic_metadata_propagation_max_ms: u32,
    /// `debug`.
    pub debug: Contexts,
    /// `topic.blacklist`: regular expressions of topics that metadata leaves out.
    pub topic_blacklist: Vec<Str>,
    /// `metadata.recovery.strategy=rebootstrap`: start again from the bootstrap servers when no known broker answers.
    pub metadata_recovery_rebootstrap: bool,
    /// `metadata.recovery.rebootstrap.trigger.ms`.
    pub metadata_recovery_rebootstrap_trigger_ms: u32,
    /// `socket.timeout.ms`: how long a request may wait for its answer.
    pub socket_timeout_ms: u32,
    /// `socket.connection.setup.timeout.ms`.
    pub socket_connection_setup_timeout_ms: u32,
    /// `api.version.request.timeout.ms`.
    pub api_version_request_timeout_ms: u32,
    /// `connections.max.idle.ms`; 0 is never.
    pub connections_max_idle_ms: u32,
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff_ms: u32,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max_ms: u32,
    /// `retry.backoff.ms`: the first pause before a request is tried again.
    pub retry_backoff_ms: u32,
    /// `retry.backoff.max.ms`: the pauses double up to this.
    pub retry_backoff_max_ms: u32,

    /// `transactional.id`; transactions are not part of this version, so anything but `None` is refused.
    pub transactional_id: Option<Str>,
    /// `transaction.timeout.ms`.
    pub transaction_timeout_ms: u32,
    /// `enable.idempotence`.
    pub enable_idempotence: bool,
    /// `enable.gapless.guarantee`: a message that fails for good is a fatal error. Needs idempotence.
    pub enable_gapless_guarantee: bool,
    /// `queue.buffering.max.messages`; 0 is no limit.
    pub queue_buffering_max_messages: u32,
    /// `queue.buffering.max.kbytes`.
    pub queue_buffering_max_kbytes: u32,
    /// `linger.ms` (`queue.buffering.max.ms`), in microseconds.
    pub linger_us: u64,
    /// `retries` (`message.send.max.retries`).
    pub retries: u32,
    /// `compression.codec`.
    pub compression: Compression,
    /// `batch.num.messages`.
    pub batch_num_messages: u32,
    /// `batch.size` in bytes.
    pub batch_size: usize,
    /// Whether the application wants delivery reports at all; without, messages are forgotten when they are done.
    pub delivery_reports: bool,
    /// `delivery.report.only.error`.
    pub delivery_report_only_error: bool,
    /// `sticky.partitioning.linger.ms`; 0 turns the sticky partition off.
    pub sticky_partitioning_linger_ms: u32,
    /// The topic-level properties of topics without their own.
    pub topic: TopicConfig,

    /// `group.id`.
    pub group_id: Option<Str>,
    /// `group.instance.id`.
    pub group_instance_id: Option<Str>,
    /// `partition.assignment.strategy`, in order of preference.
    pub partition_assignment_strategy: Vec<Str>,
    /// `session.timeout.ms`.
    pub session_timeout_ms: u32,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval_ms: u32,
    /// `group.protocol.type`.
    pub group_protocol_type: Str,
    /// `coordinator.query.interval.ms`.
    pub coordinator_query_interval_ms: u32,
    /// `max.poll.interval.ms`.
    pub max_poll_interval_ms: u32,
    /// `enable.auto.commit`.
    pub enable_auto_commit: bool,
    /// `auto.commit.interval.ms`; 0 turns it off.
    pub auto_commit_interval_ms: u32,
    /// `enable.auto.offset.store`.
    pub enable_auto_offset_store: bool,
    /// `queued.min.messages` per partition.
    pub queued_min_messages: u32,
    /// `queued.max.messages.kbytes`.
    pub queued_max_messages_kbytes: u32,
    /// `fetch.wait.max.ms`.
    pub fetch_wait_max_ms: u32,
    /// `fetch.message.max.bytes` (`max.partition.fetch.bytes`).
    pub fetch_message_max_bytes: u32,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: u32,
    /// `fetch.min.bytes`.
    pub fetch_min_bytes: u32,
    /// `fetch.error.backoff.ms`.
    pub fetch_error_backoff_ms: u32,
    /// `isolation.level`.
    pub isolation_level: IsolationLevel,
    /// `enable.partition.eof`.
    pub enable_partition_eof: bool,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// `auto.offset.reset`.
    pub auto_offset_reset: OffsetReset,
    /// Whether rebalances wait for the application to assign (it has a rebalance callback or listens to the event).
    pub rebalance_by_application: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            role: Role::Producer,
            bootstrap_servers: Vec::new(),
            client_id: Str::from_static("rdkafka"),
            client_software_name: Str::from_static("ottla"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            client_rack: Str::new(),
            allow_auto_create_topics: None,
            message_max_bytes: 1_000_000,
            receive_message_max_bytes: 100_000_000,
            max_in_flight: 1_000_000,
            topic_metadata_refresh_interval_ms: 300_000,
            metadata_max_age_ms: 900_000,
            topic_metadata_refresh_fast_interval_ms: 100,
            topic_metadata_propagation_max_ms: 30_000,
            debug: Contexts::default(),
            topic_blacklist: Vec::new(),
            metadata_recovery_rebootstrap: true,
            metadata_recovery_rebootstrap_trigger_ms: 300_000,
            socket_timeout_ms: 60_000,
            socket_connection_setup_timeout_ms: 30_000,
            api_version_request_timeout_ms: 10_000,
            connections_max_idle_ms: 0,
            reconnect_backoff_ms: 100,
            reconnect_backoff_max_ms: 10_000,
            retry_backoff_ms: 100,
            retry_backoff_max_ms: 1_000,
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            enable_idempotence: false,
            enable_gapless_guarantee: false,
            queue_buffering_max_messages: 100_000,
            queue_buffering_max_kbytes: 1_048_576,
            linger_us: 5_000,
            retries: i32::MAX as u32,
            compression: Compression::None,
            batch_num_messages: 10_000,
            batch_size: 1_000_000,
            delivery_reports: true,
            delivery_report_only_error: false,
            sticky_partitioning_linger_ms: 10,
            topic: TopicConfig::default(),
            group_id: None,
            group_instance_id: None,
            partition_assignment_strategy: vec![
                Str::from_static("range"),
                Str::from_static("roundrobin"),
            ],
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 3_000,
            group_protocol_type: Str::from_static("consumer"),
            coordinator_query_interval_ms: 600_000,
            max_poll_interval_ms: 300_000,
            enable_auto_commit: true,
            auto_commit_interval_ms: 5_000,
            enable_auto_offset_store: true,
            queued_min_messages: 100_000,
            queued_max_messages_kbytes: 65_536,
            fetch_wait_max_ms: 500,
            fetch_message_max_bytes: 1_048_576,
            fetch_max_bytes: 52_428_800,
            fetch_min_bytes: 1,
            fetch_error_backoff_ms: 500,
            isolation_level: IsolationLevel::ReadCommitted,
            enable_partition_eof: false,
            check_crcs: false,
            auto_offset_reset: OffsetReset::Latest,
            rebalance_by_application: false,
        }
    }
}

/// In-flight produce requests that a broker's duplicate detection covers.
const MAX_IN_FLIGHT_IDEMPOTENT: u32 = 5;
/// librdkafka's default of `max.in.flight`; with idempotence it means "not set".
const MAX_IN_FLIGHT_DEFAULT: u32 = 1_000_000;
/// librdkafka's default of `linger.ms`; a shorter `message.timeout.ms` lowers it without a complaint.
const LINGER_DEFAULT_US: u64 = 5_000;

impl ClientConfig {
    /// Whether a topic that does not exist may be created by asking for it.
    pub fn auto_create_topics(&self) -> bool {
        self.allow_auto_create_topics
            .unwrap_or(self.role == Role::Producer)
    }

    /// Checks combinations of properties as librdkafka does when a client is made, and adjusts those that idempotence
    /// decides. Errors are `_INVALID_ARG`, and `_UNSUPPORTED_FEATURE` for `transactional.id`.
    pub fn check(mut self) -> Result<Self, KafkaError> {
        let invalid = |message: &'static str| Err(KafkaError::new(ErrCode::INVALID_ARG, message));
        if self.bootstrap_servers.is_empty() {
            return invalid("bootstrap.servers is empty");
        }
        if self.reconnect_backoff_max_ms < self.reconnect_backoff_ms {
            return invalid(
                "reconnect.backoff.max.ms must not be smaller than reconnect.backoff.ms",
            );
        }
        match self.role {
            Role::Producer => self.check_producer()?,
            Role::Consumer => self.check_consumer()?,
        }
        Ok(self)
    }

    fn check_producer(&mut self) -> Result<(), KafkaError> {
        let invalid = |message: &'static str| Err(KafkaError::new(ErrCode::INVALID_ARG, message));
        if self.transactional_id.is_some() {
            let message = "transactional.id is set, but this version has no transactions yet";
            return Err(KafkaError::new(ErrCode::UNSUPPORTED_FEATURE, message));
        }
        if self.enable_gapless_guarantee && !self.enable_idempotence {
            return invalid("enable.gapless.guarantee needs enable.idempotence=true");
        }
        if self.enable_idempotence {
            if self.max_in_flight == MAX_IN_FLIGHT_DEFAULT {
                self.max_in_flight = MAX_IN_FLIGHT_IDEMPOTENT;
            }
            if self.max_in_flight > MAX_IN_FLIGHT_IDEMPOTENT {
                return invalid("max.in.flight must be at most 5 with enable.idempotence=true");
            }
            if self.retries == 0 {
                return invalid("retries must be at least 1 with enable.idempotence=true");
            }
        }
        let timeout_us = u64::from(self.topic.message_timeout_ms) * 1000;
        if timeout_us > 0 && self.linger_us >= timeout_us && self.linger_us == LINGER_DEFAULT_US {
            self.linger_us = timeout_us - 100;
        }
        self.check_topic(&self.topic)
    }

    /// Checks the properties of one topic against the client's.
    pub fn check_topic(&self, topic: &TopicConfig) -> Result<(), KafkaError> {
        let invalid = |message| Err(KafkaError::new(ErrCode::INVALID_ARG, message));
        let codec = topic.compression.unwrap_or(self.compression);
        if self.enable_idempotence && topic.acks != -1 {
            return invalid("acks must be all (-1) with enable.idempotence=true".into());
        }
        if topic.message_timeout_ms > 0
            && u64::from(topic.message_timeout_ms) * 1000 <= self.linger_us
        {
            return invalid("message.timeout.ms must be larger than linger.ms".into());
        }
        if !codec.is_built() {
            return invalid(format!(
                "compression.codec={} is not part of this build",
                codec.name()
            ));
        }
        Ok(())
    }

    fn check_consumer(&self) -> Result<(), KafkaError> {
        let invalid = |message: &'static str| Err(KafkaError::new(ErrCode::INVALID_ARG, message));
        if self.fetch_max_bytes < self.message_max_bytes as u32 {
            return invalid("fetch.max.bytes must not be smaller than message.max.bytes");
        }
        if self.group_id.is_some() && self.max_poll_interval_ms < self.session_timeout_ms {
            return invalid("max.poll.interval.ms must not be smaller than session.timeout.ms");
        }
        if self.group_id.is_some() && self.partition_assignment_strategy.is_empty() {
            return invalid("partition.assignment.strategy is empty");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer() -> ClientConfig {
        let server = BootstrapServer {
            host: "broker".into(),
            port: 9092,
        };
        ClientConfig {
            bootstrap_servers: vec![server],
            ..ClientConfig::default()
        }
    }

    #[test]
    fn idempotence_decides() {
        let config = ClientConfig {
            enable_idempotence: true,
            ..producer()
        };
        assert_eq!(config.clone().check().unwrap().max_in_flight, 5);
        assert!(
            ClientConfig {
                max_in_flight: 6,
                ..config.clone()
            }
            .check()
            .is_err()
        );
        assert!(
            ClientConfig {
                retries: 0,
                ..config.clone()
            }
            .check()
            .is_err()
        );
        let topic = TopicConfig {
            acks: 1,
            ..TopicConfig::default()
        };
        assert!(ClientConfig { topic, ..config }.check().is_err());
    }

    #[test]
    fn a_message_timeout_below_linger() {
        let topic = TopicConfig {
            message_timeout_ms: 2,
            ..TopicConfig::default()
        };
        let config = ClientConfig {
            topic,
            ..producer()
        };
        assert_eq!(config.clone().check().unwrap().linger_us, 1900);
        assert_eq!(
            ClientConfig {
                linger_us: 9_000,
                ..config
            }
            .check()
            .unwrap_err()
            .code,
            ErrCode::INVALID_ARG
        );
    }

    #[test]
    fn refusals() {
        assert_eq!(
            ClientConfig::default().check().unwrap_err().code,
            ErrCode::INVALID_ARG
        );
        let config = ClientConfig {
            transactional_id: Some("t".into()),
            ..producer()
        };
        assert_eq!(
            config.check().unwrap_err().code,
            ErrCode::UNSUPPORTED_FEATURE
        );
    }
}
