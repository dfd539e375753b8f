//! From properties to the settings of the client and of the embedded broker.

use super::address::Address;
use super::{Config, CustomPartitioner, Effect, Scope, TopicConfig, find, properties};
use crate::{ErrCode, KafkaError, LogLine, Role};
use ottla_broker::{BrokerConfig, CleanerConfig, Durability};
use ottla_client::producer::partitioner::{BoxedPartitioner, PartitionerKind};
use ottla_client::{BootstrapServer, ClientConfig, Contexts, IsolationLevel, OffsetReset};
use ottla_driver::Place;
use ottla_protocol::Str;
use ottla_record::Compression;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Everything that a handle is made from.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The client's.
    pub(crate) client: ClientConfig,
    /// Where the broker is.
    pub(crate) place: Place,
    /// The broker's, should this handle be the one that opens it.
    pub(crate) broker: BrokerConfig,
    /// `statistics.interval.ms`; 0 is never.
    pub(crate) statistics_interval_ms: u64,
    /// `log_level`.
    pub(crate) log_level: u8,
    /// `log.queue`.
    pub(crate) log_queue: bool,
    /// What the log has to tell about the configuration.
    pub(crate) warnings: Vec<LogLine>,
}

const CONFWARN: &str = "CONFWARN";
/// Nobody looks at it: every address of an embedded broker leads to the one that is open.
const EMBEDDED: BootstrapServer = BootstrapServer {
    host: Str::from_static("localhost"),
    port: 9092,
};

impl Config {
    /// Checks what can only be checked together, and gives the settings in their own types.
    ///
    /// Errors are `_INVALID_ARG`, and `_UNSUPPORTED_FEATURE` for what comes with a later version.
    pub(crate) fn settings(&self, role: Role) -> Result<Settings, KafkaError> {
        let (place, broker) = self.broker()?;
        let text = |name| self.text(name);
        let optional = |name| Some(text(name)).filter(|text: &Str| !text.is_empty());
        if text("group.protocol") == "consumer" {
            let message =
                "group.protocol=consumer (KIP-848) comes with a later version: leave it at classic";
            return Err(KafkaError::new(ErrCode::UNSUPPORTED_FEATURE, message));
        }
        let client = ClientConfig {
            role,
            bootstrap_servers: vec![EMBEDDED],
            client_id: text("client.id"),
            client_software_name: text("client.software.name"),
            client_software_version: text("client.software.version"),
            client_rack: text("client.rack"),
            allow_auto_create_topics: self
                .is_set("allow.auto.create.topics")
                .then(|| self.flag("allow.auto.create.topics")),
            message_max_bytes: self.number("message.max.bytes"),
            receive_message_max_bytes: self.number("receive.message.max.bytes"),
            max_in_flight: self.number("max.in.flight"),
            topic_metadata_refresh_interval_ms: self.number("topic.metadata.refresh.interval.ms"),
            metadata_max_age_ms: self.metadata_max_age_ms(),
            topic_metadata_refresh_fast_interval_ms: self
                .number("topic.metadata.refresh.fast.interval.ms"),
            topic_metadata_propagation_max_ms: self.number("topic.metadata.propagation.max.ms"),
            debug: Contexts::parse(&text("debug")),
            topic_blacklist: self.list("topic.blacklist"),
            metadata_recovery_rebootstrap: text("metadata.recovery.strategy") == "rebootstrap",
            metadata_recovery_rebootstrap_trigger_ms: self
                .number("metadata.recovery.rebootstrap.trigger.ms"),
            socket_timeout_ms: self.number("socket.timeout.ms"),
            socket_connection_setup_timeout_ms: self.number("socket.connection.setup.timeout.ms"),
            api_version_request_timeout_ms: self.number("api.version.request.timeout.ms"),
            connections_max_idle_ms: self.number("connections.max.idle.ms"),
            reconnect_backoff_ms: self.number("reconnect.backoff.ms"),
            reconnect_backoff_max_ms: self.number("reconnect.backoff.max.ms"),
            retry_backoff_ms: self.number("retry.backoff.ms"),
            retry_backoff_max_ms: self.number("retry.backoff.max.ms"),
            transactional_id: optional("transactional.id"),
            transaction_timeout_ms: self.number("transaction.timeout.ms"),
            enable_idempotence: self.flag("enable.idempotence"),
            enable_gapless_guarantee: self.flag("enable.gapless.guarantee"),
            queue_buffering_max_messages: self.number("queue.buffering.max.messages"),
            queue_buffering_max_kbytes: self.number("queue.buffering.max.kbytes"),
            linger_us: self.linger_us(),
            retries: self.number("retries"),
            compression: Compression::from_name(&text("compression.codec"))
                .unwrap_or(Compression::None),
            batch_num_messages: self.number("batch.num.messages"),
            batch_size: self.number("batch.size"),
            delivery_reports: !self.no_delivery_reports,
            delivery_report_only_error: self.flag("delivery.report.only.error"),
            sticky_partitioning_linger_ms: self.number("sticky.partitioning.linger.ms"),
            topic: self.topic.typed(),
            group_id: optional("group.id"),
            group_instance_id: optional("group.instance.id"),
            partition_assignment_strategy: self.list("partition.assignment.strategy"),
            session_timeout_ms: self.number("session.timeout.ms"),
            heartbeat_interval_ms: self.number("heartbeat.interval.ms"),
            group_protocol_type: text("group.protocol.type"),
            coordinator_query_interval_ms: self.number("coordinator.query.interval.ms"),
            max_poll_interval_ms: self.number("max.poll.interval.ms"),
            enable_auto_commit: self.flag("enable.auto.commit"),
            auto_commit_interval_ms: self.number("auto.commit.interval.ms"),
            enable_auto_offset_store: self.flag("enable.auto.offset.store"),
            queued_min_messages: self.number("queued.min.messages"),
            queued_max_messages_kbytes: self.number("queued.max.messages.kbytes"),
            fetch_wait_max_ms: self.number("fetch.wait.max.ms"),
            fetch_message_max_bytes: self.number("fetch.message.max.bytes"),
            fetch_max_bytes: self.number("fetch.max.bytes"),
            fetch_min_bytes: self.number("fetch.min.bytes"),
            fetch_error_backoff_ms: self.number("fetch.error.backoff.ms"),
            isolation_level: match &*text("isolation.level") {
                "read_uncommitted" => IsolationLevel::ReadUncommitted,
                _ => IsolationLevel::ReadCommitted,
            },
            enable_partition_eof: self.flag("enable.partition.eof"),
            check_crcs: self.flag("check.crcs"),
            auto_offset_reset: match &*text("auto.offset.reset") {
                "smallest" => OffsetReset::Earliest,
                "error" => OffsetReset::Error,
                _ => OffsetReset::Latest,
            },
            rebalance_by_application: self.rebalance_events,
        };
        let least = u64::from(client.fetch_max_bytes) + 512;
        if role == Role::Consumer
            && (client.receive_message_max_bytes as u64) < least
            && self.is_set("receive.message.max.bytes")
        {
            let message = "receive.message.max.bytes must be larger than fetch.max.bytes by 512";
            return Err(KafkaError::new(ErrCode::INVALID_ARG, message));
        }
        Ok(Settings {
            client: client.check()?,
            place,
            broker,
            statistics_interval_ms: self.number("statistics.interval.ms"),
            // Who asks for debug lines gets them, as in librdkafka.
            log_level: if text("debug").is_empty() {
                self.number("log_level")
            } else {
                7
            },
            log_queue: self.flag("log.queue"),
            warnings: self.warnings(role).into_iter().chain(self.told()).collect(),
        })
    }

    /// Where the broker is and what it is opened with. The query of the address counts more than properties: it names the very broker.
    pub(crate) fn broker(&self) -> Result<(Place, BrokerConfig), KafkaError> {
        let servers = self.text("bootstrap.servers");
        if self.number::<u32>("test.mock.num.brokers") > 0 {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let name = format!("test.mock.{}", NEXT.fetch_add(1, Relaxed));
            return Ok((Place::Memory(name), self.broker_config()?));
        }
        let address = Address::parse(&servers)?;
        let mut own = self.clone();
        for (name, value) in &address.settings {
            let full = format!("ottla.broker.{name}");
            let in_context = |text: String| {
                KafkaError::new(
                    ErrCode::INVALID_ARG,
                    format!("bootstrap.servers={servers}: {text}"),
                )
            };
            if find(false, &full).is_none_or(|row| row.scope != Scope::Broker) {
                let known: Vec<&str> = properties()
                    .filter_map(|row| row.name.strip_prefix("ottla.broker."))
                    .collect();
                return Err(in_context(format!(
                    "no such setting: {name} (there are {})",
                    known.join(", ")
                )));
            }
            own.set(&full, value)
                .map_err(|error| in_context(error.to_string()))?;
        }
        Ok((address.place, own.broker_config()?))
    }

    fn broker_config(&self) -> Result<BrokerConfig, KafkaError> {
        let mut config = BrokerConfig {
            node_id: self.number("ottla.broker.node.id"),
            cluster_id: Some(self.text("ottla.broker.cluster.id")).filter(|id| !id.is_empty()),
            num_partitions: self.number("ottla.broker.num.partitions"),
            auto_create_topics: self.flag("ottla.broker.auto.create.topics.enable"),
            durability: match &*self.text("ottla.broker.durability") {
                "os" => Durability::Os,
                _ => Durability::Fsync,
            },
            allow_network_file_system: self.flag("ottla.broker.allow.network.file.system"),
            ..BrokerConfig::default()
        };
        config.cleaner = CleanerConfig {
            enable: self.flag("ottla.broker.log.cleaner.enable"),
            dedupe_buffer_bytes: self.number("ottla.broker.log.cleaner.dedupe.buffer.size"),
            io_max_bytes_per_second: self
                .number("ottla.broker.log.cleaner.io.max.bytes.per.second"),
            backoff_ms: self.number("ottla.broker.log.cleaner.backoff.ms"),
        };
        config.groups.partitions = self.number("ottla.broker.offsets.topic.num.partitions");
        config.groups.initial_rebalance_delay_ms =
            self.number("ottla.broker.group.initial.rebalance.delay.ms");
        config.groups.min_session_timeout_ms =
            self.number("ottla.broker.group.min.session.timeout.ms");
        config.groups.max_session_timeout_ms =
            self.number("ottla.broker.group.max.session.timeout.ms");
        for (property, topic_setting) in [
            ("ottla.broker.log.segment.bytes", "segment.bytes"),
            ("ottla.broker.log.retention.ms", "retention.ms"),
            ("ottla.broker.log.retention.bytes", "retention.bytes"),
            ("ottla.broker.message.max.bytes", "max.message.bytes"),
        ] {
            if self.is_set(property) {
                let set = config
                    .topic_defaults
                    .set(topic_setting, &self.text(property));
                set.map_err(|why| {
                    KafkaError::new(ErrCode::INVALID_ARG, format!("{property}: {why}"))
                })?;
            }
        }
        Ok(config)
    }

    /// A property's value. The table has the name, and a default that can be read: a test goes through all of them.
    fn text(&self, name: &'static str) -> Str {
        self.get(name).unwrap_or_default().into()
    }

    fn number<N: FromStr + Default>(&self, name: &'static str) -> N {
        self.text(name).parse().unwrap_or_default()
    }

    fn flag(&self, name: &'static str) -> bool {
        self.text(name) == "true"
    }

    fn list(&self, name: &'static str) -> Vec<Str> {
        self.text(name)
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(Str::from)
            .collect()
    }

    /// As in librdkafka: three times the interval of refreshes, unless it was set.
    fn metadata_max_age_ms(&self) -> u32 {
        let refresh: i32 = self.number("topic.metadata.refresh.interval.ms");
        match u32::try_from(refresh) {
            Ok(refresh) if refresh > 0 && !self.is_set("metadata.max.age.ms") => refresh * 3,
            _ => self.number("metadata.max.age.ms"),
        }
    }

    fn linger_us(&self) -> u64 {
        (self.number::<f64>("linger.ms") * 1000.0) as u64
    }

    /// With `debug=conf`: what was set. Secrets are left out.
    fn told(&self) -> Vec<LogLine> {
        if !Contexts::parse(&self.text("debug")).contains("conf") {
            return Vec::new();
        }
        let line = |message| LogLine {
            level: 7,
            facility: "CONF",
            message,
            context: "conf",
        };
        let mut lines = vec![line("Client configuration:".to_owned())];
        for row in self.set_rows() {
            let value = match super::is_secret(row.name) {
                true => "[redacted]".to_owned(),
                false => self.get(row.name).unwrap_or_default(),
            };
            lines.push(line(format!("  {} = {value}", row.name)));
        }
        lines
    }

    /// What whoever wrote the configuration should know.
    fn warnings(&self, role: Role) -> Vec<LogLine> {
        let warn = |message| LogLine {
            level: 4,
            facility: CONFWARN,
            message,
            context: "",
        };
        let mut warnings = Vec::new();
        let (mut useless, mut reason) = (Vec::new(), "");
        for row in self.set_rows() {
            let name = row.name;
            if row.deprecated {
                warnings.push(warn(format!(
                    "Configuration property {name} is deprecated: {}",
                    row.doc
                )));
            }
            if !row.applies_to.includes(role) {
                let (whose, this) = match role {
                    Role::Producer => ("consumer", "producer"),
                    Role::Consumer => ("producer", "consumer"),
                };
                warnings.push(warn(format!("Configuration property {name} is a {whose} property and will be ignored by this {this} instance")));
            }
            if let Effect::KeptWithWarning(why) = row.effect {
                useless.push(name);
                reason = why;
            }
        }
        if !useless.is_empty() {
            warnings.push(warn(format!(
                "Without effect: {} ({reason})",
                useless.join(", ")
            )));
        }
        warnings
    }
}

impl TopicConfig {
    /// The settings in their own types.
    pub(crate) fn typed(&self) -> ottla_client::TopicConfig {
        let text = |name| self.get(name).unwrap_or_default();
        let level: i32 = text("compression.level").parse().unwrap_or(-1);
        ottla_client::TopicConfig {
            acks: text("acks").parse().unwrap_or(-1),
            request_timeout_ms: text("request.timeout.ms").parse().unwrap_or(30_000),
            message_timeout_ms: text("message.timeout.ms").parse().unwrap_or(300_000),
            partitioner: PartitionerKind::from_name(&text("partitioner")).unwrap_or_default(),
            compression: Compression::from_name(&text("compression.codec")),
            compression_level: (level >= 0).then_some(level),
        }
    }

    /// The application's partitioner, as the client takes it.
    pub(crate) fn boxed_partitioner(&self) -> Option<BoxedPartitioner> {
        let partitioner: Arc<dyn CustomPartitioner> = self.partitioner.clone()?;
        Some(Box::new(
            move |topic: &str, key: Option<&[u8]>, count: i32, opaque: usize| {
                partitioner.partition(topic, key, count, opaque)
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Config {
        Config::new().with("bootstrap.servers", "memory:").unwrap()
    }

    #[test]
    fn defaults_are_those_of_the_client() {
        for role in [Role::Producer, Role::Consumer] {
            let typed = memory().settings(role).unwrap().client;
            let expected = ClientConfig {
                role,
                bootstrap_servers: vec![EMBEDDED],
                ..ClientConfig::default()
            };
            assert_eq!(typed, expected);
        }
    }

    #[test]
    fn values_reach_their_fields() {
        let config = memory()
            .with("linger.ms", "0.5")
            .and_then(|c| c.with("acks", "1"))
            .and_then(|c| c.with("compression.type", "lz4"))
            .and_then(|c| c.with("partitioner", "murmur2"))
            .and_then(|c| c.with("compression.level", "3"))
            .unwrap();
        let client = config.settings(Role::Producer).unwrap().client;
        assert_eq!(
            (client.linger_us, client.topic.acks, client.compression),
            (500, 1, Compression::Lz4)
        );
        assert_eq!(
            (client.topic.partitioner, client.topic.compression),
            (PartitionerKind::Murmur2, None)
        );
        assert_eq!(client.topic.compression_level, Some(3));
    }

    #[test]
    fn brokers_settings_come_from_properties_and_from_the_address() {
        let config = Config::new()
            .with(
                "bootstrap.servers",
                "file:///tmp/x?durability=os&num.partitions=4&log.retention.ms=1000&log.cleaner.backoff.ms=7",
            )
            .and_then(|c| c.with("ottla.broker.auto.create.topics.enable", "false"))
            .unwrap();
        let (place, broker) = config.broker().unwrap();
        assert_eq!(place, Place::Directory("/tmp/x".into()));
        assert_eq!(
            (
                broker.durability,
                broker.num_partitions,
                broker.auto_create_topics
            ),
            (Durability::Os, 4, false)
        );
        assert_eq!(broker.topic_defaults.retention_ms, 1000);
        assert_eq!(broker.cleaner.backoff_ms, 7);
        assert_eq!(broker.cleaner.io_max_bytes_per_second, i64::MAX as u64);
        for bad in [
            "memory:?linger.ms=5",
            "memory:?num.partitions=0",
            "memory:?brokers=3",
            "localhost:9092",
            "",
        ] {
            let config = Config::new().with("bootstrap.servers", bad).unwrap();
            assert_eq!(
                config.broker().unwrap_err().code,
                ErrCode::INVALID_ARG,
                "{bad}"
            );
        }
    }

    #[test]
    fn combinations_are_checked_as_librdkafka_does() {
        let refused = |role, pairs: &[(&str, &str)]| {
            let config = pairs
                .iter()
                .try_fold(memory(), |config, (name, value)| config.with(name, value))
                .unwrap();
            config.settings(role).is_err()
        };
        let (producer, consumer) = (Role::Producer, Role::Consumer);
        assert!(refused(
            producer,
            &[("enable.idempotence", "true"), ("acks", "1")]
        ));
        assert!(refused(
            producer,
            &[("enable.idempotence", "true"), ("max.in.flight", "6")]
        ));
        assert!(refused(
            producer,
            &[("enable.idempotence", "true"), ("retries", "0")]
        ));
        assert!(refused(
            producer,
            &[("message.timeout.ms", "5"), ("linger.ms", "10")]
        ));
        assert!(
            !refused(producer, &[("message.timeout.ms", "2")]),
            "the default of linger.ms gives way"
        );
        assert!(refused(producer, &[("enable.gapless.guarantee", "true")]));
        assert!(refused(producer, &[("reconnect.backoff.ms", "20000")]));
        assert!(refused(
            consumer,
            &[("group.id", "g"), ("session.timeout.ms", "400000")]
        ));
        assert!(refused(consumer, &[("fetch.max.bytes", "1000")]));
        assert!(refused(consumer, &[("receive.message.max.bytes", "1000")]));
        assert!(refused(consumer, &[("group.protocol", "consumer")]));
    }

    /// Another value than the default.
    fn other_value(row: &crate::config::Property) -> String {
        use crate::config::Kind;
        match row.kind {
            Kind::Integer { min, max, .. } => match row.default.parse::<i64>() {
                Ok(default) if default == min => max,
                _ => min,
            }
            .to_string(),
            Kind::Float { min, .. } => min.to_string(),
            Kind::Boolean => (row.default != "true").to_string(),
            Kind::Choice(words) => {
                let other = words.iter().find(|(_, means)| *means != row.default);
                other.expect("two words").0.into()
            }
            Kind::Flags(words) => words[0].into(),
            Kind::Patterns => "^x".into(),
            _ => match row.name {
                "metadata.broker.list" => "memory:another",
                "partitioner" => "murmur2",
                "partition.assignment.strategy" => "cooperative-sticky",
                "ottla.broker.cluster.id" => "AAAAAAAAAAAAAAAAAAAAAQ",
                _ => "x",
            }
            .into(),
        }
    }

    /// A property changes what a handle is made from (or is an error there), or is in this list, or says why it has no effect.
    #[test]
    fn every_property_has_an_effect_or_a_reason() {
        const ELSEWHERE: &[(&str, &str)] = &[
            ("builtin.features", "is there to be read"),
            (
                "consume.callback.max.messages",
                "rd_kafka_consume_callback asks the topic's configuration",
            ),
        ];
        let made_of = |config: &Config, role| match config.settings(role) {
            Ok(made) => format!(
                "{:?}",
                (
                    made.client,
                    made.place,
                    made.broker,
                    made.statistics_interval_ms,
                    made.log_level,
                    made.log_queue
                )
            ),
            Err(error) => error.to_string(),
        };
        let mut without = Vec::new();
        for row in properties() {
            if let Effect::Kept(why) | Effect::KeptWithWarning(why) | Effect::Refused(why) =
                row.effect
            {
                assert!(!why.is_empty(), "{}", row.name);
                continue;
            }
            let by_function = matches!(
                row.kind,
                crate::config::Kind::Function | crate::config::Kind::Alias(_)
            );
            if by_function || ELSEWHERE.iter().any(|(name, _)| *name == row.name) {
                continue;
            }
            let value = other_value(row);
            let differs = [Role::Producer, Role::Consumer].into_iter().any(|role| {
                let mut changed = memory();
                let set = match row.scope {
                    Scope::Topic => changed.topic_mut().set(row.name, &value),
                    _ => changed.set(row.name, &value),
                };
                set.unwrap_or_else(|error| panic!("{}: {error}", row.name));
                made_of(&changed, role) != made_of(&memory(), role)
            });
            if !differs {
                without.push(row.name);
            }
        }
        assert!(
            without.is_empty(),
            "neither an effect nor a reason: {without:?}"
        );
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let config = memory()
            .with("sasl.username", "u")
            .and_then(|c| c.with("security.protocol", "SASL_SSL"))
            .and_then(|c| c.with("group.id", "g"))
            .and_then(|c| c.with("queuing.strategy", "fifo"))
            .unwrap();
        let lines: Vec<String> = config
            .warnings(Role::Producer)
            .into_iter()
            .map(|line| line.message)
            .collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[2].contains("sasl.username, security.protocol"),
            "{lines:?}"
        );
    }
}
