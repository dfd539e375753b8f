//! The clients of a run, and the programs that use them.

use std::{collections::BTreeMap, sync::Arc};

use ottla_broker::ConnId as BrokerConn;
use ottla_client::{
    BootstrapServer, Client, ClientConfig, ConnId, IsolationLevel, OffsetReset, Role, TopicConfig,
    consumer::ConsumedPartition,
};

use crate::{checker::Place, random::Random};

/// What a program does with its client.
pub enum Program {
    /// Produces.
    Producer {
        /// Topic handles by topic number.
        topics: Vec<u32>,
        /// Records it still has to produce.
        left: u64,
    },
    /// Reads one topic from the beginning, or all of them.
    Reader {
        /// The topics' numbers.
        topics: Vec<usize>,
        /// What it finds is the last word.
        is_last: bool,
    },
    /// A member of a group that reads all topics.
    Member {
        /// The group's number.
        group: usize,
        /// Commits itself, in place of automatically.
        commits: bool,
        /// Records since its last commit.
        uncommitted: u64,
    },
}

/// A client with its program.
pub struct Actor {
    /// `None` while it is stopped.
    pub client: Option<Client>,
    /// Counted up at each restart; messages of earlier lives are lost.
    pub life: u64,
    /// Its connections, as the broker calls them.
    pub connections: BTreeMap<ConnId, BrokerConn>,
    /// Settings, for restarts.
    pub config: ClientConfig,
    /// The program.
    pub program: Program,
    /// The last record of each assigned partition.
    pub last: BTreeMap<Place, (Arc<ConsumedPartition>, i64)>,
    /// Ends of partitions that were told.
    pub ends: BTreeMap<Place, i64>,
    /// When its timer went off last.
    pub fired_us: u64,
}

impl Actor {
    /// One that is not started.
    pub fn new(config: ClientConfig, program: Program) -> Self {
        Self {
            client: None,
            life: 0,
            connections: BTreeMap::new(),
            config,
            program,
            last: BTreeMap::new(),
            ends: BTreeMap::new(),
            fired_us: 0,
        }
    }
}

/// Settings that make time pass quickly.
fn base(role: Role) -> ClientConfig {
    ClientConfig {
        role,
        bootstrap_servers: vec![BootstrapServer {
            host: "localhost".into(),
            port: 9092,
        }],
        client_id: "sim".into(),
        socket_timeout_ms: 3000,
        api_version_request_timeout_ms: 1000,
        reconnect_backoff_ms: 20,
        reconnect_backoff_max_ms: 300,
        retry_backoff_ms: 20,
        retry_backoff_max_ms: 200,
        ..ClientConfig::default()
    }
}

/// A producer's settings. Plain ones keep their order with one batch in flight; `loose` lets them have five all the same.
pub fn producer(random: &mut Random, idempotent: bool, loose: bool) -> ClientConfig {
    ClientConfig {
        enable_idempotence: idempotent,
        max_in_flight: match (idempotent, loose) {
            (false, false) => 1,
            _ => 5,
        },
        linger_us: random.below(4) * 2000,
        batch_num_messages: random.between(1, 20) as u32,
        topic: TopicConfig {
            acks: match idempotent {
                true => -1,
                // With one replica they promise the same.
                false => [-1, 1][random.below(2) as usize],
            },
            request_timeout_ms: 2000,
            message_timeout_ms: 100_000,
            ..TopicConfig::default()
        },
        ..base(Role::Producer)
    }
}

/// A consumer's settings.
pub fn consumer(random: &mut Random) -> ClientConfig {
    ClientConfig {
        fetch_wait_max_ms: random.between(50, 300) as u32,
        fetch_error_backoff_ms: 50,
        fetch_message_max_bytes: [600, 4000, 1_048_576][random.below(3) as usize],
        queued_min_messages: random.between(1, 1000) as u32,
        isolation_level: [
            IsolationLevel::ReadCommitted,
            IsolationLevel::ReadUncommitted,
        ][random.below(2) as usize],
        auto_offset_reset: OffsetReset::Earliest,
        topic_metadata_refresh_fast_interval_ms: 50,
        topic_metadata_refresh_interval_ms: 1000,
        ..base(Role::Consumer)
    }
}

/// A group member's settings.
pub fn member(random: &mut Random, strategy: usize, commits: bool) -> ClientConfig {
    ClientConfig {
        group_id: Some("group".into()),
        session_timeout_ms: 1500,
        heartbeat_interval_ms: 200,
        max_poll_interval_ms: 10_000,
        partition_assignment_strategy: vec![
            ["range", "roundrobin", "cooperative-sticky"][strategy].into(),
        ],
        enable_auto_commit: !commits,
        auto_commit_interval_ms: 100,
        ..consumer(random)
    }
}
