//! What the client knows of the cluster: brokers, topics, leaders.

use crate::consumer::Cluster;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use ottla_protocol::messages::metadata::MetadataRequestTopic;
use ottla_protocol::messages::{MetadataRequest, MetadataResponse};
use ottla_protocol::{ErrorCode, Request, Str, Uuid};
use ottla_record::Now;

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Its node id.
    pub node: i32,
    /// Host.
    pub host: Str,
    /// Port.
    pub port: i32,
}

/// A partition as the brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The leader's node id, or -1.
    pub leader: i32,
    /// The leader's epoch, or -1.
    pub leader_epoch: i32,
}

#[derive(Clone, Debug, Default)]
struct Topic {
    id: Uuid,
    error: ErrorCode,
    internal: bool,
    /// By number; a missing one has no leader.
    partitions: Vec<Option<PartitionInfo>>,
}

/// The cache.
pub struct Metadata {
    version: u64,
    brokers: BTreeMap<i32, BrokerAddress>,
    controller: i32,
    cluster_id: Option<Str>,
    topics: BTreeMap<Str, Topic>,
    /// Topics to keep track of.
    wanted: BTreeSet<Str>,
    wanted_all: bool,
    under_way: bool,
    /// When to ask next, in monotonic microseconds.
    due: Option<u64>,
    refresh_ms: i32,
    fast_ms: u32,
    create: bool,
}

impl Metadata {
    /// An empty one. `create`: whether asking about an unknown topic may create it.
    pub fn new(refresh_ms: i32, fast_ms: u32, create: bool) -> Self {
        Self {
            version: 0,
            brokers: BTreeMap::new(),
            controller: -1,
            cluster_id: None,
            topics: BTreeMap::new(),
            wanted: BTreeSet::new(),
            wanted_all: false,
            under_way: false,
            due: Some(0),
            refresh_ms,
            fast_ms,
            create,
        }
    }

    /// Keeps track of a topic from now on, and asks at once if it isn't known.
    pub fn want(&mut self, now: Now, topic: &Str) {
        if self.wanted.insert(topic.clone()) && !self.topics.contains_key(topic) {
            self.due = Some(now.mono_us);
        }
    }

    /// Keeps track of these topics, or of all, and asks at once.
    pub fn want_only(&mut self, now: Now, topics: Option<Vec<Str>>) {
        self.wanted_all = topics.is_none();
        self.wanted = topics.unwrap_or_default().into_iter().collect();
        self.due = Some(now.mono_us);
    }

    /// Asks again soon: something that it says turned out to be wrong or missing.
    pub fn refresh(&mut self, now: Now) {
        let soon = now.after_ms(i64::from(self.fast_ms));
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// The request to send now, if it is time.
    pub fn poll_request(&mut self, now: Now) -> Option<Request> {
        if self.under_way || self.due.is_none_or(|due| due > now.mono_us) {
            return None;
        }
        self.under_way = true;
        self.due = None;
        let topics = self.wanted.iter().map(|name| MetadataRequestTopic {
            name: Some(name.clone()),
            ..Default::default()
        });
        Some(Request::Metadata(MetadataRequest {
            topics: if self.wanted_all {
                None
            } else {
                Some(topics.collect())
            },
            allow_auto_topic_creation: self.create,
            ..Default::default()
        }))
    }

    /// When [`Self::poll_request`] has something, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.under_way { None } else { self.due }
    }

    /// The request failed; it is tried again soon.
    pub fn failed(&mut self, now: Now) {
        self.under_way = false;
        self.refresh(now);
    }

    /// Takes in an answer to [`Self::poll_request`].
    pub fn answered(&mut self, now: Now, response: MetadataResponse) {
        self.under_way = false;
        let everything = self.wanted_all;
        if self.refresh_ms >= 0 {
            let later = now.after_ms(i64::from(self.refresh_ms));
            self.due = Some(self.due.map_or(later, |due| due.min(later)));
        }
        if self.learn(response, everything)
            || self
                .wanted
                .iter()
                .any(|topic| !self.topics.contains_key(topic))
        {
            self.refresh(now);
        }
    }

    /// Takes in any metadata response; returns whether something in it should be asked for again soon.
    pub fn learn(&mut self, response: MetadataResponse, everything: bool) -> bool {
        self.version += 1;
        self.controller = response.controller_id;
        self.cluster_id = response.cluster_id.or(self.cluster_id.take());
        self.brokers = response
            .brokers
            .into_iter()
            .map(|b| {
                (
                    b.node_id,
                    BrokerAddress {
                        node: b.node_id,
                        host: b.host,
                        port: b.port,
                    },
                )
            })
            .collect();
        let mut incomplete = false;
        let mut seen = BTreeSet::new();
        for topic in response.topics {
            let Some(name) = topic.name else { continue };
            seen.insert(name.clone());
            let mut partitions = Vec::new();
            for partition in topic.partitions {
                let Ok(number) = usize::try_from(partition.partition_index) else {
                    continue;
                };
                if number >= 1 << 20 {
                    continue;
                }
                if partitions.len() <= number {
                    partitions.resize(number + 1, None);
                }
                incomplete |= partition.leader_id < 0;
                partitions[number] = Some(PartitionInfo {
                    leader: partition.leader_id,
                    leader_epoch: partition.leader_epoch,
                });
            }
            incomplete |= topic.error_code != ErrorCode::NONE;
            let known = Topic {
                id: topic.topic_id,
                error: topic.error_code,
                internal: topic.is_internal,
                partitions,
            };
            self.topics.insert(name, known);
        }
        if everything {
            self.topics.retain(|name, _| seen.contains(name));
        }
        incomplete
    }

    /// The brokers.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerAddress> {
        self.brokers.values()
    }

    /// A broker's address.
    pub fn broker(&self, node: i32) -> Option<&BrokerAddress> {
        self.brokers.get(&node)
    }

    /// The controller's node id, or -1.
    pub fn controller(&self) -> i32 {
        self.controller
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> Option<&Str> {
        self.cluster_id.as_ref()
    }
}

impl Cluster for Metadata {
    fn version(&self) -> u64 {
        self.version
    }

    fn partition_count(&self, topic: &Str) -> Option<i32> {
        let topic = self
            .topics
            .get(topic)
            .filter(|topic| topic.error == ErrorCode::NONE)?;
        i32::try_from(topic.partitions.len()).ok()
    }

    fn topic_error(&self, topic: &Str) -> ErrorCode {
        self.topics
            .get(topic)
            .map_or(ErrorCode::NONE, |topic| topic.error)
    }

    fn leader(&self, topic: &Str, partition: i32) -> Option<(i32, i32)> {
        let info = self
            .topics
            .get(topic)?
            .partitions
            .get(usize::try_from(partition).ok()?)?
            .as_ref()?;
        (info.leader >= 0).then_some((info.leader, info.leader_epoch))
    }

    fn topic_id(&self, topic: &Str) -> Uuid {
        self.topics.get(topic).map_or(Uuid::ZERO, |topic| topic.id)
    }

    fn topic_name(&self, id: Uuid) -> Option<Str> {
        self.topics
            .iter()
            .find(|(_, topic)| topic.id == id)
            .map(|(name, _)| name.clone())
    }

    fn topic_names(&self) -> Vec<Str> {
        let there = |topic: &Topic| topic.error == ErrorCode::NONE && !topic.internal;
        self.topics
            .iter()
            .filter(|(_, topic)| there(topic))
            .map(|(name, _)| name.clone())
            .collect()
    }
}
