//! `debug`: log lines about what goes in and out of the machine, by librdkafka's contexts.
//!
//! The lines are made where requests leave and answers come, so that no flow has to know of them. Without contexts it costs one
//! comparison for each request and answer.

use crate::consumer::Cluster;
use crate::error::KafkaError;
use crate::metadata::Metadata;
use crate::output::Output;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use ottla_protocol::{ApiKey, Request, Response, Str, Uuid};

/// A set of contexts, by librdkafka's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contexts(u32);

const NAMES: [&str; 20] = [
    "generic",
    "broker",
    "topic",
    "metadata",
    "feature",
    "queue",
    "msg",
    "protocol",
    "cgrp",
    "security",
    "fetch",
    "interceptor",
    "plugin",
    "consumer",
    "admin",
    "eos",
    "mock",
    "assignor",
    "conf",
    "telemetry",
];

impl Contexts {
    /// From names separated by commas; `all` is all. Unknown names are passed over.
    pub fn parse(names: &str) -> Self {
        let bit = |name: &str| match name.trim() {
            "all" => u32::MAX,
            name => {
                let at = NAMES.iter().position(|known| *known == name);
                at.map_or(0, |at| 1 << at)
            }
        };
        Self(names.split(',').map(bit).fold(0, |all, one| all | one))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is among them.
    pub fn contains(self, name: &str) -> bool {
        self.0 & Self::parse(name).0 != 0
    }
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLine {
    /// What asked for it, one of the names that `debug` takes.
    pub context: &'static str,
    /// A short word for what happened.
    pub facility: &'static str,
    /// The text.
    pub message: String,
}

/// Watches what goes in and out.
#[derive(Debug, Default)]
pub(crate) struct Debug {
    contexts: Contexts,
    lines: VecDeque<DebugLine>,
}

impl Debug {
    pub(crate) fn new(contexts: Contexts) -> Self {
        Self {
            contexts,
            lines: VecDeque::new(),
        }
    }

    pub(crate) fn poll_line(&mut self) -> Option<DebugLine> {
        self.lines.pop_front()
    }

    /// Writes a line, if it is wanted.
    pub(crate) fn line(
        &mut self,
        context: &'static str,
        facility: &'static str,
        message: impl FnOnce() -> String,
    ) {
        if self.contexts.contains(context) {
            self.lines.push_back(DebugLine {
                context,
                facility,
                message: message(),
            });
        }
    }

    #[inline]
    pub(crate) fn output(&mut self, output: &Output, metadata: &Metadata) {
        if !self.contexts.is_empty() {
            self.leaves(output, metadata);
        }
    }

    #[inline]
    pub(crate) fn response(&mut self, correlation_id: i32, response: &Response, of: &Metadata) {
        if !self.contexts.is_empty() {
            self.comes(correlation_id, response, of);
        }
    }

    pub(crate) fn connected(&mut self, conn: u64) {
        let state =
            || format!("connection {conn}: broker changed state CONNECT -> APIVERSION_QUERY");
        self.line("broker", "STATE", state);
    }

    pub(crate) fn disconnected(&mut self, conn: u64, reason: &KafkaError) {
        self.line("broker", "BROKERFAIL", || {
            format!("connection {conn}: failed: {reason}")
        });
    }

    fn leaves(&mut self, output: &Output, metadata: &Metadata) {
        match output {
            Output::Connect {
                conn,
                node,
                host,
                port,
            } => self.line("broker", "CONNECT", || {
                format!("{host}:{port}/{node}: connecting as connection {}", conn.0)
            }),
            Output::Disconnect { conn } => {
                self.line("broker", "DISCONNECT", || {
                    format!("connection {}: closed", conn.0)
                });
            }
            Output::Send {
                conn,
                correlation_id,
                api_version,
                request,
            } => {
                let name = request.api_key().name();
                self.line("protocol", "SEND", || {
                    let on = conn.0;
                    format!("Sent {name}Request (v{api_version}, CorrId {correlation_id}) on connection {on}")
                });
                self.request(request, metadata);
            }
        }
    }

    fn request(&mut self, request: &Request, metadata: &Metadata) {
        match request {
            Request::Metadata(asked) => self.line("metadata", "METADATA", || match &asked.topics {
                Some(topics) => format!("Requesting metadata for {} topics", topics.len()),
                None => "Requesting metadata for all topics".into(),
            }),
            Request::Produce(asked) => {
                for topic in &asked.topic_data {
                    let name = named(&topic.name, topic.topic_id, metadata);
                    for partition in &topic.partition_data {
                        self.line("msg", "PRODUCE", || {
                            let (index, size) = (partition.index, partition.records.len());
                            format!("{name} [{index}]: Produce MessageSet of {size} bytes")
                        });
                    }
                }
            }
            Request::Fetch(asked) => {
                for topic in &asked.topics {
                    let name = named(&topic.topic, topic.topic_id, metadata);
                    for partition in &topic.partitions {
                        self.line("fetch", "FETCH", || {
                            let (index, offset) = (partition.partition, partition.fetch_offset);
                            format!("Fetch topic {name} [{index}] at offset {offset}")
                        });
                    }
                }
            }
            Request::InitProducerId(_) => {
                self.line("eos", "GETPID", || "Acquiring ProducerId".into());
            }
            Request::JoinGroup(asked) => self.line("cgrp", "JOIN", || {
                let (group, member) = (&asked.group_id, &asked.member_id);
                format!("Group \"{group}\": joining as member \"{member}\"")
            }),
            Request::SyncGroup(asked) => self.line("cgrp", "SYNCGROUP", || {
                let (group, count) = (&asked.group_id, asked.assignments.len());
                let generation = asked.generation_id;
                format!("Group \"{group}\": generation {generation}: sending {count} assignments")
            }),
            Request::LeaveGroup(asked) => self.line("cgrp", "LEAVE", || {
                format!("Group \"{}\": leaving", asked.group_id)
            }),
            Request::FindCoordinator(_) => {
                self.line("cgrp", "CGRPQUERY", || {
                    "querying for the coordinator".into()
                });
            }
            Request::OffsetCommit(asked) => self.line("cgrp", "COMMIT", || {
                let count: usize = asked.topics.iter().map(|t| t.partitions.len()).sum();
                format!(
                    "Group \"{}\": committing offsets of {count} partitions",
                    asked.group_id
                )
            }),
            _ => {}
        }
    }

    fn comes(&mut self, correlation_id: i32, response: &Response, metadata: &Metadata) {
        let name = response.api_key().name();
        self.line("protocol", "RECV", || {
            format!("Received {name}Response (CorrId {correlation_id})")
        });
        match response {
            Response::ApiVersions(answer) => {
                self.line("feature", "APIVERSION", || {
                    format!("Broker API support: {} keys", answer.api_keys.len())
                });
                self.line("broker", "STATE", || {
                    "broker changed state APIVERSION_QUERY -> UP".into()
                });
            }
            Response::Metadata(answer) => {
                self.line("metadata", "METADATA", || {
                    let (brokers, topics) = (answer.brokers.len(), answer.topics.len());
                    format!("{brokers} brokers, {topics} topics")
                });
                for topic in &answer.topics {
                    let name = topic.name.clone().unwrap_or_default();
                    let before = metadata.partition_count(&name).unwrap_or(0);
                    let count = topic.partitions.len();
                    if before as usize != count {
                        self.line("topic", "PARTCNT", || {
                            format!("Topic {name} partition count changed from {before} to {count}")
                        });
                    }
                    for partition in &topic.partitions {
                        let leader = metadata.leader(&name, partition.partition_index);
                        let before = leader.map_or(-1, |(leader, _)| leader);
                        let (index, leader) = (partition.partition_index, partition.leader_id);
                        if before != leader {
                            self.line("topic", "BROKER", || {
                                format!("{name} [{index}]: leader changed from {before} to {leader}")
                            });
                        }
                    }
                }
            }
            Response::Produce(answer) => {
                for topic in &answer.responses {
                    let name = named(&topic.name, topic.topic_id, metadata);
                    for partition in &topic.partition_responses {
                        self.line("msg", "MSGSET", || {
                            let (index, offset) = (partition.index, partition.base_offset);
                            let error = partition.error_code;
                            format!("{name} [{index}]: MessageSet at offset {offset}: {error:?}")
                        });
                    }
                }
            }
            Response::Fetch(answer) => {
                for topic in &answer.responses {
                    let name = named(&topic.topic, topic.topic_id, metadata);
                    for partition in &topic.partitions {
                        self.line("fetch", "FETCH", || {
                            let (index, size) = (partition.partition_index, partition.records.len());
                            let (error, high) = (partition.error_code, partition.high_watermark);
                            format!("Topic {name} [{index}]: {size} bytes, high watermark {high}: {error:?}")
                        });
                    }
                }
            }
            Response::InitProducerId(answer) => self.line("eos", "GETPID", || {
                let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                format!("Acquired PID{{Id:{id},Epoch:{epoch}}}: {:?}", answer.error_code)
            }),
            Response::JoinGroup(answer) => self.line("cgrp", "JOINGROUP", || {
                let (generation, leader) = (answer.generation_id, &answer.leader);
                let (member, count) = (&answer.member_id, answer.members.len());
                let error = answer.error_code;
                format!("JoinGroup response: generation {generation}, leader {leader}, my member id {member}, {count} members: {error:?}")
            }),
            Response::SyncGroup(answer) => self.line("cgrp", "SYNCGROUP", || {
                let (size, error) = (answer.assignment.len(), answer.error_code);
                format!("SyncGroup response: {size} bytes of assignment: {error:?}")
            }),
            Response::Heartbeat(answer) => self.line("cgrp", "HEARTBEAT", || {
                format!("Heartbeat response: {:?}", answer.error_code)
            }),
            _ => {}
        }
    }
}

/// A topic's name, by its id where the request's version names it so.
fn named(name: &Str, id: Uuid, metadata: &Metadata) -> Str {
    match name.is_empty() {
        true => metadata.topic_name(id).unwrap_or_default(),
        false => name.clone(),
    }
}

impl Debug {
    /// An administrative request of the application.
    pub(crate) fn application(&mut self, key: ApiKey) {
        self.line("admin", "ADMIN", || {
            format!("{} is asked for by the application", key.name())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_named() {
        let some = Contexts::parse("msg, cgrp,nonsense");
        assert!(some.contains("msg") && some.contains("cgrp") && !some.contains("broker"));
        assert!(Contexts::parse("").is_empty() && Contexts::parse("all").contains("conf"));
    }
}
