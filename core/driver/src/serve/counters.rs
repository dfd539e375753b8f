//! What a server counts: the raw numbers behind metrics.

use ottla_protocol::ApiKey;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Keys up to this number are counted apart.
const KEYS: usize = 128;

/// The numbers of one event loop. Only its thread writes them, so that counting costs no more than an addition.
pub(super) struct LoopCounters {
    pub(super) accepted: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) throttled: AtomicU64,
    pub(super) bad_requests: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    by_key: Vec<KeyCounters>,
}

#[derive(Default)]
struct KeyCounters {
    requests: AtomicU64,
    bytes_in: AtomicU64,
    answers: AtomicU64,
    total_us: AtomicU64,
    max_us: AtomicU64,
    throttle_ms: AtomicU64,
}

/// Adds to a counter that nobody else writes.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed) + n, Relaxed);
}

impl Default for LoopCounters {
    fn default() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            bad_requests: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            by_key: (0..KEYS).map(|_| KeyCounters::default()).collect(),
        }
    }
}

impl LoopCounters {
    fn of_key(&self, key: ApiKey) -> Option<&KeyCounters> {
        self.by_key.get(usize::try_from(key as i16).ok()?)
    }

    /// A request came in, of so many bytes.
    pub(super) fn request(&self, key: ApiKey, bytes: usize) {
        if let Some(counters) = self.of_key(key) {
            add(&counters.requests, 1);
            add(&counters.bytes_in, bytes as u64);
        }
    }

    /// A client was told to wait so long.
    pub(super) fn throttled(&self, key: ApiKey, throttle_ms: u32) {
        if throttle_ms > 0
            && let Some(counters) = self.of_key(key)
        {
            add(&counters.throttle_ms, throttle_ms.into());
        }
    }

    /// A request was answered so long after it had arrived.
    pub(super) fn answer(&self, key: ApiKey, took_us: u64) {
        if let Some(counters) = self.of_key(key) {
            add(&counters.answers, 1);
            add(&counters.total_us, took_us);
            if took_us > counters.max_us.load(Relaxed) {
                counters.max_us.store(took_us, Relaxed);
            }
        }
    }
}

/// What a server has counted since it started.
#[derive(Clone, Debug, Default)]
pub struct ServerCounters {
    /// Connections that were accepted.
    pub connections_accepted: u64,
    /// Connections that were accepted and are closed again.
    pub connections_closed: u64,
    /// Connections that were closed at once because there were too many from their address.
    pub connections_refused: u64,
    /// Connections that were closed, after a while, because they came too often from their address (`connection_creation_rate`).
    pub connections_throttled: u64,
    /// Connections that were closed because what they sent is no request that is served.
    pub bad_requests: u64,
    /// Connections that are open.
    pub connections_open: u64,
    /// Bytes received, all in all.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes of requests that are here and not answered.
    pub request_bytes_held: u64,
    /// Bytes of answers that the clients' sockets didn't take yet.
    pub answer_bytes_held: u64,
    /// The keys that were asked for, in the order of their numbers.
    pub apis: Vec<ApiCounters>,
}

/// What was counted of one API key.
#[derive(Clone, Debug)]
pub struct ApiCounters {
    /// The key.
    pub key: ApiKey,
    /// Requests.
    pub requests: u64,
    /// Bytes of requests, without their sizes.
    pub bytes_in: u64,
    /// Answers.
    pub answers: u64,
    /// From a request's arrival until its answer was ready to be written, all added up, in microseconds.
    pub total_us: u64,
    /// The longest of them, in microseconds.
    pub max_us: u64,
    /// For how long clients were told to wait with these answers, because they had used up a quota, all added up, in milliseconds.
    pub throttle_ms: u64,
}

impl ServerCounters {
    pub(super) fn add_loop(&mut self, of_loop: &LoopCounters) {
        self.connections_accepted += of_loop.accepted.load(Relaxed);
        self.connections_closed += of_loop.closed.load(Relaxed);
        self.connections_refused += of_loop.refused.load(Relaxed);
        self.connections_throttled += of_loop.throttled.load(Relaxed);
        self.bad_requests += of_loop.bad_requests.load(Relaxed);
        self.bytes_in += of_loop.bytes_in.load(Relaxed);
        self.bytes_out += of_loop.bytes_out.load(Relaxed);
        for (number, counters) in of_loop.by_key.iter().enumerate() {
            let requests = counters.requests.load(Relaxed);
            let Some(key) = ApiKey::from_i16(number as i16).filter(|_| requests > 0) else {
                continue;
            };
            let at = match self
                .apis
                .binary_search_by_key(&number, |api| api.key as usize)
            {
                Ok(at) => at,
                Err(at) => {
                    let none = ApiCounters {
                        key,
                        requests: 0,
                        bytes_in: 0,
                        answers: 0,
                        total_us: 0,
                        max_us: 0,
                        throttle_ms: 0,
                    };
                    self.apis.insert(at, none);
                    at
                }
            };
            let api = &mut self.apis[at];
            api.requests += requests;
            api.bytes_in += counters.bytes_in.load(Relaxed);
            api.answers += counters.answers.load(Relaxed);
            api.total_us += counters.total_us.load(Relaxed);
            api.throttle_ms += counters.throttle_ms.load(Relaxed);
            api.max_us = api.max_us.max(counters.max_us.load(Relaxed));
        }
    }
}
