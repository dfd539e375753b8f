//! Administration: topics, groups, offsets, configurations.

mod cluster;
mod groups;
mod records;
mod replicas;
mod topics;

use crate::{
    Config, ErrCode, ErrorCode, Handle, KafkaError, Role, Route, Str, handle::milliseconds,
};
use std::time::Duration;

pub use cluster::{ClusterDescription, ConfigChange, ConfigEntry, ConfigOperation, ConfigResource};
pub use groups::GroupListing;
pub use records::{ListedOffset, OffsetSpec};
pub use replicas::{ElectionType, Reassignment};
pub use topics::{NewPartitions, NewTopic, TopicDescription, TopicDescriptions};

/// Administers a cluster. All calls wait for the answer, at most for `timeout`; results are per topic, group or partition, in the
/// order of the request.
#[derive(Clone, Debug)]
pub struct Admin {
    handle: Handle,
    options: AdminOptions,
}

/// How an [`Admin`] asks, for what is not an argument of each call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminOptions {
    /// Ask this broker (node id) in place of the controller or coordinator. What concerns one partition always goes to its leader.
    pub broker: Option<i32>,
    /// How long the broker may work at creating, growing and deleting topics and at deleting records before it answers; the call's
    /// own timeout if `None`. Embedded brokers answer when they are done.
    pub operation_timeout: Option<Duration>,
    /// [`Admin::list_offsets`] looks at what is committed only.
    pub read_committed: bool,
    /// [`Admin::list_group_offsets`] waits for transactions that commit offsets.
    pub require_stable_offsets: bool,
    /// Descriptions tell what the asker may do.
    pub authorized_operations: bool,
}

impl Admin {
    /// Connects. Takes the same properties as a producer.
    pub fn new(config: Config) -> Result<Self, KafkaError> {
        Ok(Self {
            handle: Handle::new(Role::Producer, config)?,
            options: AdminOptions::default(),
        })
    }

    /// Uses a handle that is there.
    pub fn of(handle: &Handle) -> Self {
        Self {
            handle: handle.clone(),
            options: AdminOptions::default(),
        }
    }

    /// The same with other options.
    pub fn with_options(self, options: AdminOptions) -> Self {
        Self { options, ..self }
    }

    /// The handle underneath.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Admin {
    fn route(&self, usual: Route) -> Route {
        self.options.broker.map_or(usual, Route::Node)
    }

    fn operation_timeout(&self, timeout: Duration) -> i32 {
        self.options
            .operation_timeout
            .map_or_else(|| milliseconds(timeout), milliseconds)
    }
}

/// A broker's word on one thing.
fn told(code: ErrorCode, message: Option<&Str>) -> Result<(), KafkaError> {
    match message {
        _ if code.0 == 0 => Ok(()),
        Some(message) if !message.is_empty() => Err(KafkaError::new(
            ErrCode::from(code),
            String::from(message.as_str()),
        )),
        _ => Err(KafkaError::from(code)),
    }
}

/// Results in the order in which they were asked for; one that is missing is an error.
fn in_order<'a>(
    names: impl Iterator<Item = &'a str>,
    mut find: impl FnMut(&str) -> Option<Result<(), KafkaError>>,
) -> Vec<Result<(), KafkaError>> {
    names
        .map(|name| find(name).unwrap_or_else(|| Err(KafkaError::from(ErrCode::BAD_MSG))))
        .collect()
}
