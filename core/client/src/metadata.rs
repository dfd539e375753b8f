//! What the client knows of the cluster: brokers, topics, leaders, and when to ask again.

use crate::config::ClientConfig;
use crate::consumer::Cluster;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use ottla_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use ottla_protocol::{ErrorCode, Request, Str, Uuid};
use ottla_record::Now;
use regex_lite::Regex;

/// A topic of more partitions than this is taken for a damaged answer.
const MAX_PARTITIONS: usize = 1 << 20;

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Node id; negative for an address of `bootstrap.servers`.
    pub node: i32,
    /// Host name or address.
    pub host: Str,
    /// Port.
    pub port: i32,
    /// Rack, if it has one.
    pub rack: Option<Str>,
}

/// A partition as the brokers described it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// `NONE`, or why there is no leader.
    pub error: ErrorCode,
    /// The leader's node id, or -1.
    pub leader: i32,
    /// The leader's epoch, or -1.
    pub leader_epoch: i32,
    /// Node ids of the replicas.
    pub replicas: Vec<i32>,
    /// Node ids of the in-sync replicas.
    pub isr: Vec<i32>,
}

impl Default for PartitionMetadata {
    fn default() -> Self {
        Self {
            error: ErrorCode::NONE,
            leader: -1,
            leader_epoch: -1,
            replicas: Vec::new(),
            isr: Vec::new(),
        }
    }
}

/// A topic as the brokers described it last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMetadata {
    /// `NONE`, or why nothing else is known.
    pub error: ErrorCode,
    /// The topic's id; zero from brokers that have none.
    pub id: Uuid,
    /// Whether Kafka uses it itself.
    pub internal: bool,
    /// By number. One that the brokers left out has no leader.
    pub partitions: Vec<PartitionMetadata>,
}

/// The cache, and the clock of its refreshes.
#[derive(Debug)]
pub struct Metadata {
    version: u64,
    brokers: BTreeMap<i32, BrokerAddress>,
    controller: i32,
    cluster_id: Option<Str>,
    topics: BTreeMap<Str, TopicMetadata>,
    names: BTreeMap<Uuid, Str>,
    /// Topics that the producer writes to.
    followed: BTreeSet<Str>,
    /// Topics that the consumer wants; `None` is all.
    consumed: Option<BTreeSet<Str>>,
    under_way: bool,
    due: Option<u64>,
    /// Refreshes in a row that left something unknown.
    incomplete: u32,
    refresh_ms: i32,
    max_age_ms: u32,
    /// Topics that count as if they weren't there.
    blacklist: Vec<Regex>,
    fast_ms: u32,
    fast_max_ms: u32,
    create: bool,
}

impl Metadata {
    pub(crate) fn new(config: &ClientConfig, now: Now) -> Self {
        Self {
            version: 0,
            brokers: BTreeMap::new(),
            controller: -1,
            cluster_id: None,
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            followed: BTreeSet::new(),
            consumed: Some(BTreeSet::new()),
            under_way: false,
            due: Some(now.mono_us),
            incomplete: 0,
            refresh_ms: config.topic_metadata_refresh_interval_ms,
            max_age_ms: config.metadata_max_age_ms,
            // The configuration checked them.
            blacklist: config
                .topic_blacklist
                .iter()
                .filter_map(|pattern| Regex::new(pattern).ok())
                .collect(),
            fast_ms: config.topic_metadata_refresh_fast_interval_ms,
            fast_max_ms: config
                .retry_backoff_max_ms
                .max(config.topic_metadata_refresh_fast_interval_ms),
            create: config.auto_create_topics(),
        }
    }

    /// Keeps track of a topic from now on; asks at once if nothing is known about it.
    pub(crate) fn follow(&mut self, now: Now, topic: &Str) {
        if self.followed.insert(topic.clone()) && !self.topics.contains_key(topic) {
            self.refresh_at(now.mono_us);
        }
    }

    /// Asks at once if nothing is known about a topic that a request needs.
    pub(crate) fn look_up(&mut self, now: Now, topic: &Str) {
        if !self.topics.contains_key(topic) {
            self.refresh_at(now.mono_us);
        }
    }

    /// What the consumer wants to know, now and from now on: these topics, or all.
    pub(crate) fn consume(&mut self, now: Now, topics: Option<Vec<Str>>) {
        self.consumed = topics.map(|topics| topics.into_iter().collect());
        self.refresh_at(now.mono_us);
    }

    /// Asks again soon: something known turned out to be wrong.
    pub(crate) fn refresh_soon(&mut self, now: Now) {
        self.refresh_at(now.mono_us + self.pause_us());
    }

    /// Asks again soon, unless an answer is about to come: something is wanted that isn't known.
    pub(crate) fn refresh_lacking(&mut self, now: Now) {
        if !self.under_way {
            self.refresh_soon(now);
        }
    }

    fn refresh_at(&mut self, at: u64) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// The pause before the next attempt; it doubles while attempts leave something unknown.
    fn pause_us(&self) -> u64 {
        let ms = u64::from(self.fast_ms) << self.incomplete.min(16);
        ms.min(u64::from(self.fast_max_ms)) * 1000
    }

    /// The request to send, if it is time for one. Topics that only a request under way needs are `looked_up` beside the others.
    pub(crate) fn poll_request(
        &mut self,
        now: Now,
        looked_up: impl FnOnce() -> BTreeSet<Str>,
    ) -> Option<Request> {
        if self.under_way || self.due.is_none_or(|due| due > now.mono_us) {
            return None;
        }
        self.under_way = true;
        self.due = None;
        let topics = self.consumed.as_ref().map(|consumed| {
            let mut names = looked_up();
            names.extend(self.followed.union(consumed).cloned());
            let named = names.into_iter().map(|name| MetadataRequestTopic {
                name: Some(name),
                ..Default::default()
            });
            named.collect()
        });
        Some(Request::Metadata(MetadataRequest {
            topics,
            allow_auto_topic_creation: self.create,
            ..Default::default()
        }))
    }

    /// When [`Self::poll_request`] has something, in monotonic microseconds.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.due.filter(|_| !self.under_way)
    }

    /// The request got no answer.
    pub(crate) fn request_failed(&mut self, now: Now) {
        self.under_way = false;
        self.incomplete += 1;
        self.refresh_soon(now);
    }

    /// Takes in the answer to [`Self::poll_request`].
    pub(crate) fn request_answered(&mut self, now: Now, mut response: MetadataResponse) {
        self.under_way = false;
        self.drop_blacklisted(&mut response);
        let everything = self.consumed.is_none();
        self.learn(response, everything);
        if self.is_incomplete() {
            self.refresh_soon(now);
            self.incomplete += 1;
        } else {
            self.incomplete = 0;
        }
        if self.refresh_ms > 0 {
            self.refresh_at(now.after_ms(i64::from(self.refresh_ms)));
        }
        // What is known counts for so long only, even if nothing else asks for news.
        self.refresh_at(now.after_ms(i64::from(self.max_age_ms)));
    }

    /// Takes topics out of an answer that count as if they weren't there (`topic.blacklist`).
    pub(crate) fn drop_blacklisted(&self, response: &mut MetadataResponse) {
        if !self.blacklist.is_empty() {
            let listed = |name: &Str| self.blacklist.iter().any(|pattern| pattern.is_match(name));
            response
                .topics
                .retain(|topic| !topic.name.as_ref().is_some_and(listed));
        }
    }

    /// Whether a topic that is wanted is missing, or has an error, or a partition without leader.
    fn is_incomplete(&self) -> bool {
        let known = |name| {
            self.topics.get(name).is_some_and(|topic| {
                topic.error == ErrorCode::NONE && topic.partitions.iter().all(|p| p.leader >= 0)
            })
        };
        !self.followed.iter().all(known) || !self.consumed.iter().flatten().all(known)
    }

    /// Takes in any metadata response. With `everything`, topics that it leaves out are gone.
    pub(crate) fn learn(&mut self, response: MetadataResponse, everything: bool) {
        self.version += 1;
        self.controller = response.controller_id;
        if response.cluster_id.is_some() {
            self.cluster_id = response.cluster_id;
        }
        // An answer without brokers comes from one that is starting: what was known is better.
        if !response.brokers.is_empty() {
            let brokers = response.brokers.into_iter();
            self.brokers = brokers
                .map(|broker| {
                    let (node, host, port) = (broker.node_id, broker.host, broker.port);
                    let rack = broker.rack;
                    (
                        node,
                        BrokerAddress {
                            node,
                            host,
                            port,
                            rack,
                        },
                    )
                })
                .collect();
        }
        if everything {
            self.topics.clear();
        }
        for topic in response.topics {
            if let Some(name) = topic.name.clone() {
                self.topics.insert(name, described(topic));
            }
        }
        let ids = self.topics.iter().filter(|(_, topic)| !topic.id.is_zero());
        self.names = ids.map(|(name, topic)| (topic.id, name.clone())).collect();
    }

    /// The brokers by node id.
    pub fn brokers(&self) -> &BTreeMap<i32, BrokerAddress> {
        &self.brokers
    }

    /// The controller's node id, or -1.
    pub fn controller(&self) -> i32 {
        self.controller
    }

    /// The cluster's id, if a broker told it.
    pub fn cluster_id(&self) -> Option<&Str> {
        self.cluster_id.as_ref()
    }

    /// A topic, if the brokers said anything about it.
    pub fn topic(&self, name: &str) -> Option<&TopicMetadata> {
        self.topics.get(name.as_bytes())
    }

    /// All topics that something is known about, by name.
    pub fn topics(&self) -> impl Iterator<Item = (&Str, &TopicMetadata)> {
        self.topics.iter()
    }
}

fn described(topic: MetadataResponseTopic) -> TopicMetadata {
    let mut partitions: Vec<PartitionMetadata> = Vec::new();
    for partition in topic.partitions {
        let number = usize::try_from(partition.partition_index).unwrap_or(usize::MAX);
        if number >= MAX_PARTITIONS {
            continue;
        }
        if partitions.len() <= number {
            partitions.resize_with(number + 1, PartitionMetadata::default);
        }
        partitions[number] = PartitionMetadata {
            error: partition.error_code,
            leader: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes,
            isr: partition.isr_nodes,
        };
    }
    TopicMetadata {
        error: topic.error_code,
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    }
}

impl Cluster for Metadata {
    fn version(&self) -> u64 {
        self.version
    }

    fn partition_count(&self, topic: &Str) -> Option<i32> {
        let topic = self.topics.get(topic)?;
        (topic.error == ErrorCode::NONE).then_some(topic.partitions.len() as i32)
    }

    fn topic_error(&self, topic: &Str) -> ErrorCode {
        let topic = self.topics.get(topic);
        topic.map_or(ErrorCode::NONE, |topic| topic.error)
    }

    fn leader(&self, topic: &Str, partition: i32) -> Option<(i32, i32)> {
        let number = usize::try_from(partition).ok()?;
        let partition = self.topics.get(topic)?.partitions.get(number)?;
        (partition.leader >= 0).then_some((partition.leader, partition.leader_epoch))
    }

    fn topic_id(&self, topic: &Str) -> Uuid {
        self.topics.get(topic).map_or(Uuid::ZERO, |topic| topic.id)
    }

    fn topic_name(&self, id: Uuid) -> Option<Str> {
        self.names.get(&id).cloned()
    }

    fn topic_names(&self) -> Vec<Str> {
        let there =
            |(_, topic): &(&Str, &TopicMetadata)| topic.error == ErrorCode::NONE && !topic.internal;
        let names = self.topics.iter().filter(there).map(|(name, _)| name);
        names.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use ottla_protocol::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition};

    fn answer(topics: &[(&str, ErrorCode, &[i32])]) -> MetadataResponse {
        let topic = |&(name, error_code, leaders): &(&str, ErrorCode, &[i32])| {
            let partition = |(i, &leader_id): (usize, &i32)| MetadataResponsePartition {
                partition_index: i as i32,
                leader_id,
                ..Default::default()
            };
            MetadataResponseTopic {
                error_code,
                name: Some(name.into()),
                partitions: leaders.iter().enumerate().map(partition).collect(),
                ..Default::default()
            }
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                ..Default::default()
            }],
            topics: topics.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_missing_is_asked_for_faster_and_then_slower() {
        let config = ClientConfig::default();
        let mut now = Now::new(0, 0);
        let mut metadata = Metadata::new(&config, now);
        metadata.follow(now, &"t".into());
        for pause_ms in [100, 200, 400, 800, 1000, 1000] {
            assert!(metadata.poll_request(now, BTreeSet::new).is_some());
            assert!(
                metadata.poll_request(now, BTreeSet::new).is_none(),
                "one at a time"
            );
            let unknown = answer(&[("t", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &[])]);
            metadata.request_answered(now, unknown);
            assert_eq!(metadata.poll_timeout(), Some(now.after_ms(pause_ms)));
            now = Now::new(now.after_ms(pause_ms), 0);
        }
        assert!(metadata.poll_request(now, BTreeSet::new).is_some());
        metadata.request_answered(now, answer(&[("t", ErrorCode::NONE, &[1])]));
        assert_eq!(metadata.poll_timeout(), Some(now.after_ms(300_000)));
        metadata.refresh_soon(now);
        assert_eq!(metadata.poll_timeout(), Some(now.after_ms(100)));
    }

    #[test]
    fn what_is_known_ages() {
        let config = ClientConfig {
            topic_metadata_refresh_interval_ms: -1,
            metadata_max_age_ms: 7_000,
            ..ClientConfig::default()
        };
        let now = Now::new(0, 0);
        let mut metadata = Metadata::new(&config, now);
        assert!(metadata.poll_request(now, BTreeSet::new).is_some());
        metadata.request_answered(now, answer(&[]));
        assert_eq!(metadata.poll_timeout(), Some(now.after_ms(7_000)));
    }

    #[test]
    fn blacklisted_topics_are_not_there() {
        let config = ClientConfig {
            topic_blacklist: vec!["^secret".into(), "[.]tmp$".into()],
            ..ClientConfig::default()
        };
        let now = Now::new(0, 0);
        let mut metadata = Metadata::new(&config, now);
        metadata.consume(now, None);
        assert!(metadata.poll_request(now, BTreeSet::new).is_some());
        let names = ["secrets", "a.tmp", "a.tmp.b", "not.secret"];
        let topics = names.map(|name| (name, ErrorCode::NONE, &[1][..]));
        metadata.request_answered(now, answer(&topics));
        assert_eq!(metadata.topic_names(), ["a.tmp.b", "not.secret"]);
    }

    #[test]
    fn answers_replace_what_was_known() {
        let mut metadata = Metadata::new(&ClientConfig::default(), Now::new(0, 0));
        metadata.learn(
            answer(&[
                ("a", ErrorCode::NONE, &[1, -1]),
                ("b", ErrorCode::NONE, &[1]),
            ]),
            true,
        );
        assert_eq!(metadata.partition_count(&"a".into()), Some(2));
        assert_eq!(metadata.leader(&"a".into(), 0), Some((1, -1)));
        assert_eq!(metadata.leader(&"a".into(), 1), None);
        assert_eq!(metadata.leader(&"a".into(), -1), None);
        metadata.learn(answer(&[("a", ErrorCode::NONE, &[1, 1, 1])]), false);
        assert_eq!(metadata.topic_names().len(), 2);
        metadata.learn(answer(&[("a", ErrorCode::NONE, &[1, 1, 1])]), true);
        assert_eq!(metadata.topic_names().len(), 1);
    }
}
