//! What the consumer machine needs of the configuration, in its own types.

use super::assignors::Assignor;
use crate::config::{ClientConfig, IsolationLevel, OffsetReset};
use crate::error::{ErrCode, KafkaError};
use alloc::format;
use alloc::vec::Vec;
use ottla_protocol::Str;

/// The consumer's properties. The fields bear the properties' names; times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerConfig {
    pub(crate) group_id: Option<Str>,
    pub(crate) group_instance_id: Option<Str>,
    pub(crate) group_protocol_type: Str,
    /// By preference.
    pub(crate) partition_assignment_strategy: Vec<Assignor>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) heartbeat_interval_ms: i32,
    pub(crate) max_poll_interval_ms: i32,
    pub(crate) enable_auto_commit: bool,
    /// 0: never by time.
    pub(crate) auto_commit_interval_ms: i32,
    pub(crate) enable_auto_offset_store: bool,
    pub(crate) auto_offset_reset: OffsetReset,
    pub(crate) queued_min_messages: usize,
    pub(crate) queued_max_messages_kbytes: usize,
    pub(crate) fetch_wait_max_ms: i32,
    pub(crate) fetch_min_bytes: i32,
    pub(crate) fetch_max_bytes: i32,
    /// `fetch.message.max.bytes`, also known as `max.partition.fetch.bytes`.
    pub(crate) max_partition_fetch_bytes: i32,
    pub(crate) fetch_error_backoff_ms: i32,
    /// `isolation.level=read_committed`.
    pub(crate) read_committed: bool,
    pub(crate) enable_partition_eof: bool,
    pub(crate) check_crcs: bool,
    /// The application answers rebalances itself; otherwise they take effect at once.
    pub(crate) rebalance_events: bool,
    pub(crate) client_rack: Str,
    /// `socket.timeout.ms`: for requests that the application doesn't time itself.
    pub(crate) request_timeout_ms: i32,
    pub(crate) retry_backoff_ms: i32,
}

impl ConsumerConfig {
    /// The consumer's part of `config`. `_INVALID_ARG` for an assignor that isn't known, and for a mix of eager and
    /// cooperative ones.
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        let invalid = |message| Err(KafkaError::new(ErrCode::INVALID_ARG, message));
        let mut assignors = Vec::new();
        for name in &config.partition_assignment_strategy {
            match Assignor::from_name(name.trim()) {
                Some(assignor) if !assignors.contains(&assignor) => assignors.push(assignor),
                Some(_) => {}
                None => {
                    let known = "range, roundrobin and cooperative-sticky";
                    return invalid(format!(
                        "partition.assignment.strategy {name} is none of {known}"
                    ));
                }
            }
        }
        let cooperative = assignors
            .iter()
            .filter(|assignor| assignor.is_cooperative())
            .count();
        if cooperative > 0 && cooperative < assignors.len() {
            let message = "partition.assignment.strategy mixes eager and cooperative assignors";
            return invalid(message.into());
        }
        let number = |property: u32| i32::try_from(property).unwrap_or(i32::MAX);
        Ok(Self {
            group_id: config.group_id.clone().filter(|group| !group.is_empty()),
            group_instance_id: config.group_instance_id.clone().filter(|id| !id.is_empty()),
            group_protocol_type: config.group_protocol_type.clone(),
            partition_assignment_strategy: assignors,
            session_timeout_ms: number(config.session_timeout_ms),
            heartbeat_interval_ms: number(config.heartbeat_interval_ms),
            max_poll_interval_ms: number(config.max_poll_interval_ms),
            enable_auto_commit: config.enable_auto_commit,
            auto_commit_interval_ms: number(config.auto_commit_interval_ms),
            enable_auto_offset_store: config.enable_auto_offset_store,
            auto_offset_reset: config.auto_offset_reset,
            queued_min_messages: config.queued_min_messages as usize,
            queued_max_messages_kbytes: config.queued_max_messages_kbytes as usize,
            fetch_wait_max_ms: number(config.fetch_wait_max_ms),
            fetch_min_bytes: number(config.fetch_min_bytes),
            fetch_max_bytes: number(config.fetch_max_bytes),
            max_partition_fetch_bytes: number(config.fetch_message_max_bytes),
            fetch_error_backoff_ms: number(config.fetch_error_backoff_ms),
            read_committed: config.isolation_level == IsolationLevel::ReadCommitted,
            enable_partition_eof: config.enable_partition_eof,
            check_crcs: config.check_crcs,
            rebalance_events: config.rebalance_by_application,
            client_rack: config.client_rack.clone(),
            request_timeout_ms: number(config.socket_timeout_ms),
            retry_backoff_ms: number(config.retry_backoff_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn assignors_are_known_and_of_one_kind() {
        let with = |names: Vec<Str>| {
            let client = ClientConfig {
                partition_assignment_strategy: names,
                ..Default::default()
            };
            ConsumerConfig::new(&client)
        };
        let config = with(vec!["roundrobin".into(), " range".into(), "range".into()]).unwrap();
        assert_eq!(
            config.partition_assignment_strategy,
            [Assignor::RoundRobin, Assignor::Range]
        );
        assert!(with(vec!["cooperative-sticky".into()]).is_ok());
        let mixed = with(vec!["range".into(), "cooperative-sticky".into()]);
        assert_eq!(mixed.unwrap_err().code, ErrCode::INVALID_ARG);
        assert_eq!(
            with(vec!["lucky".into()]).unwrap_err().code,
            ErrCode::INVALID_ARG
        );
    }
}
