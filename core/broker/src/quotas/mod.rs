//! Client quotas: what a user or a client may produce, fetch and change, what it has used, and for how long it is told to wait.
//!
//! * `entities`: whom a quota is for, and which one holds for a client.
//! * `rates`: what was used: rates over windows, and the token bucket of changes (KIP-599).
//! * `store`: the quotas, and their file `ottla-quotas`.
//!
//! Every connection is the user `ANONYMOUS` as long as nobody logs in. The machine has no clock inside a request: how long a client's
//! requests take is told by the driver ([`crate::Broker::handle_time_used`]). See `docs/internals/configs.md`.

pub(crate) mod entities;
mod rates;
pub(crate) mod store;

use alloc::{string::String, vec::Vec};
use core::net::IpAddr;

use hashbrown::HashMap;
use ottla_protocol::{Encoder, ErrorCode, Message, Str};
use ottla_record::Now;

use crate::{
    Broker, BrokerConfig,
    context::RequestContext,
    metrics::{QuotaMetrics, QuotaOf},
};
use entities::{Sharers, of_address, sharers};
use rates::{Bucket, Rate, Windows};
use store::StoredQuotas;

pub(crate) const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
pub(crate) const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
pub(crate) const REQUEST_PERCENTAGE: &str = "request_percentage";
pub(crate) const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
/// The one that addresses have.
pub(crate) const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// The user of a connection on which nobody logged in.
const USER: &str = "ANONYMOUS";

/// So many meters are kept before those that nobody used for a while are looked for.
const FIRST_SWEEP: usize = 1024;

/// What a rate is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Produced,
    Fetched,
    /// Time of threads, in percent of one.
    Time,
}

/// What some clients used of a quota together, and what they were told.
#[derive(Debug, Default)]
struct Meter {
    used: Rate,
    /// Milliseconds that they were told to wait, and how often they were.
    throttle_ms: Rate,
    throttles: Rate,
}

impl Meter {
    /// They are told to wait so long, or not at all.
    fn tell(&mut self, windows: Windows, now_ms: u64, throttle_ms: i32) {
        if throttle_ms > 0 {
            self.throttle_ms.record(windows, now_ms, throttle_ms.into());
            self.throttles.record(windows, now_ms, 1.0);
        }
    }
}

/// The quotas, and what was used of them.
#[derive(Debug)]
pub(crate) struct Quotas {
    stored: StoredQuotas,
    windows: Windows,
    controller_windows: Windows,
    meters: HashMap<(Kind, Sharers), Meter>,
    buckets: HashMap<Sharers, Bucket>,
    connections: HashMap<IpAddr, Rate>,
    sweep_at: usize,
    /// Whether somebody's time, or somebody's connections, are limited.
    limits_time: bool,
    limits_connections: bool,
    /// The time of the last input, for answers that leave after it.
    now_ms: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self::new(StoredQuotas::default(), &BrokerConfig::default())
    }
}

impl Quotas {
    pub(crate) fn new(stored: StoredQuotas, config: &BrokerConfig) -> Self {
        let mut quotas = Self {
            stored: StoredQuotas::default(),
            windows: config.quota_windows.into(),
            controller_windows: config.controller_quota_windows.into(),
            meters: HashMap::new(),
            buckets: HashMap::new(),
            connections: HashMap::new(),
            sweep_at: 0,
            limits_time: false,
            limits_connections: false,
            now_ms: 0,
        };
        quotas.put_in_force(stored);
        quotas
    }

    /// What they are.
    pub(crate) fn stored(&self) -> &StoredQuotas {
        &self.stored
    }

    /// Makes them what is stored. What was used stays used.
    pub(crate) fn put_in_force(&mut self, stored: StoredQuotas) {
        let has = |key: &str| {
            let mut all = stored.entities.values();
            all.any(|given| given.contains_key(key.as_bytes()))
        };
        self.limits_time = has(REQUEST_PERCENTAGE);
        self.limits_connections = has(CONNECTION_CREATION_RATE);
        self.stored = stored;
    }

    /// Whether there are none, so that nothing has to be counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.stored.entities.is_empty()
    }

    /// Whether it matters how long requests take.
    pub(crate) fn limits_time(&self) -> bool {
        self.limits_time
    }

    /// An input came at that time.
    pub(crate) fn note_time(&mut self, now: Now) {
        self.now_ms = now.mono_us / 1000;
    }

    /// Whether bytes that a client produces are limited.
    pub(crate) fn limits_produced(&self, client_id: &str) -> bool {
        sharers(&self.stored, PRODUCER_BYTE_RATE, USER, client_id).is_some()
    }

    /// Counts `bytes` that a client produced. How long it has to wait then, in milliseconds.
    pub(crate) fn produced(&mut self, now: Now, client_id: &str, bytes: usize) -> i32 {
        let Some((bound, sharers)) = sharers(&self.stored, PRODUCER_BYTE_RATE, USER, client_id)
        else {
            return 0;
        };
        let windows = self.windows;
        let now_ms = now.mono_us / 1000;
        let meter = self.meter(now_ms, Kind::Produced, sharers);
        meter.used.record(windows, now_ms, bytes as f64);
        let throttle_ms = meter.used.throttle_ms(windows, now_ms, bound);
        meter.tell(windows, now_ms, throttle_ms);
        throttle_ms
    }

    /// Whether bytes that a client fetches are limited.
    pub(crate) fn limits_fetched(&self, client_id: &str) -> bool {
        sharers(&self.stored, CONSUMER_BYTE_RATE, USER, client_id).is_some()
    }

    /// The most that one fetch gets: what may be fetched in all full windows.
    pub(crate) fn fetch_max_bytes(&self, client_id: &str) -> i32 {
        let quota = sharers(&self.stored, CONSUMER_BYTE_RATE, USER, client_id);
        quota.map_or(i32::MAX, |(bound, _)| self.windows.full(bound) as i32)
    }

    /// Whether a client may be given an answer of `bytes` to its fetch, which are counted then. If not, for how many milliseconds it
    /// has to wait, be it that its requests took too long; it gets nothing, and no bytes are counted.
    ///
    /// Whoever fetched nothing in all windows gets what there is. Else a batch of more than they allow would never be given.
    pub(crate) fn fetched(&mut self, now: Now, client_id: &str, bytes: usize) -> Result<(), i32> {
        let now_ms = now.mono_us / 1000;
        let of_time_ms = self.time_throttle_ms(now_ms, client_id);
        let mut throttle_ms = of_time_ms;
        let quota = sharers(&self.stored, CONSUMER_BYTE_RATE, USER, client_id);
        if let Some((bound, sharers)) = quota {
            let windows = self.windows;
            let meter = self.meter(now_ms, Kind::Fetched, sharers);
            let rested = meter.used.is_idle(windows, now_ms);
            meter.used.record(windows, now_ms, bytes as f64);
            if !rested {
                let of_bytes_ms = meter.used.throttle_ms(windows, now_ms, bound);
                meter.tell(windows, now_ms, of_bytes_ms);
                throttle_ms = throttle_ms.max(of_bytes_ms);
            }
            if throttle_ms > 0 {
                meter.used.record(windows, now_ms, -(bytes as f64));
            }
        }
        match throttle_ms {
            0 => Ok(()),
            throttle_ms => Err(throttle_ms),
        }
    }

    /// Counts the time that a client's requests took of a thread.
    pub(crate) fn time_used(&mut self, now: Now, client_id: &str, used_us: u64) {
        let quota = sharers(&self.stored, REQUEST_PERCENTAGE, USER, client_id);
        if let Some((_, sharers)) = quota {
            let windows = self.windows;
            let now_ms = now.mono_us / 1000;
            let meter = self.meter(now_ms, Kind::Time, sharers);
            // A hundred of these in a second are one thread.
            let percent = used_us as f64 / 10_000.0;
            meter.used.record(windows, now_ms, percent);
        }
    }

    /// How long a client has to wait because its requests took too long: a window at most, as in Kafka.
    pub(crate) fn answer_throttle_ms(&mut self, client_id: &str) -> i32 {
        let now_ms = self.now_ms;
        let throttle_ms = self.time_throttle_ms(now_ms, client_id);
        if throttle_ms > 0
            && let Some((_, sharers)) = sharers(&self.stored, REQUEST_PERCENTAGE, USER, client_id)
        {
            let windows = self.windows;
            let meter = self.meter(now_ms, Kind::Time, sharers);
            meter.tell(windows, now_ms, throttle_ms);
        }
        throttle_ms
    }

    fn time_throttle_ms(&mut self, now_ms: u64, client_id: &str) -> i32 {
        if !self.limits_time {
            return 0;
        }
        let Some((bound, sharers)) = sharers(&self.stored, REQUEST_PERCENTAGE, USER, client_id)
        else {
            return 0;
        };
        let windows = self.windows;
        let throttle_ms = match self.meters.get_mut(&(Kind::Time, sharers)) {
            Some(meter) => meter.used.throttle_ms(windows, now_ms, bound),
            None => 0,
        };
        self.at_most_a_window(throttle_ms)
    }

    /// Counts a connection that comes from an address, if it may come now. If not, after how many milliseconds it is to be closed.
    pub(crate) fn connecting(&mut self, now: Now, address: IpAddr) -> Result<(), i32> {
        if !self.limits_connections {
            return Ok(());
        }
        let Some(bound) = of_address(&self.stored, CONNECTION_CREATION_RATE, address) else {
            return Ok(());
        };
        let windows = self.windows;
        let now_ms = now.mono_us / 1000;
        self.sweep(now_ms);
        let rate = self.connections.entry(address.to_canonical()).or_default();
        rate.record(windows, now_ms, 1.0);
        match rate.throttle_ms(windows, now_ms, bound) {
            0 => Ok(()),
            throttle_ms => {
                rate.record(windows, now_ms, -1.0);
                Err(self.at_most_a_window(throttle_ms).max(1))
            }
        }
    }

    fn at_most_a_window(&self, throttle_ms: i32) -> i32 {
        throttle_ms.min(i32::try_from(self.windows.ms).unwrap_or(i32::MAX))
    }

    fn meter(&mut self, now_ms: u64, kind: Kind, sharers: Sharers) -> &mut Meter {
        self.sweep(now_ms);
        self.meters.entry((kind, sharers)).or_default()
    }

    /// What there is to measure, as of the last input, in order.
    pub(crate) fn metrics(&self) -> Vec<QuotaMetrics> {
        let (windows, now_ms) = (self.windows, self.now_ms);
        let seconds = windows.all_ms() as f64 / 1000.0;
        let mut all: Vec<QuotaMetrics> = self
            .meters
            .iter()
            .map(|((kind, sharers), meter)| {
                let throttles = meter.throttles.used(windows, now_ms);
                let throttle_ms = meter.throttle_ms.used(windows, now_ms);
                let (user, client_id) = sharers.names();
                QuotaMetrics {
                    of: match kind {
                        Kind::Produced => QuotaOf::Produce,
                        Kind::Fetched => QuotaOf::Fetch,
                        Kind::Time => QuotaOf::Request,
                    },
                    user,
                    client_id,
                    rate: meter.used.used(windows, now_ms) / seconds,
                    throttle_time_ms: throttle_ms / throttles.max(1.0),
                }
            })
            .collect();
        all.sort_unstable_by(|a, b| {
            (a.of, &a.user, &a.client_id).cmp(&(b.of, &b.user, &b.client_id))
        });
        all
    }

    /// Forgets meters that nobody used for a while: there may be as many as there are names of clients.
    fn sweep(&mut self, now_ms: u64) {
        let meters = self.meters.len() + self.buckets.len() + self.connections.len();
        if meters < self.sweep_at.max(FIRST_SWEEP) {
            return;
        }
        let windows = self.windows;
        self.meters
            .retain(|_, meter| !meter.used.is_idle(windows, now_ms));
        self.connections
            .retain(|_, rate| !rate.is_idle(windows, now_ms));
        let windows = self.controller_windows;
        self.buckets
            .retain(|_, bucket| !bucket.is_idle(windows, now_ms));
        self.sweep_at = 2 * (self.meters.len() + self.buckets.len() + self.connections.len());
    }
}

/// What one request changes: partitions that it makes or deletes (KIP-599). From some version of each request on it is refused what
/// is beyond the quota; before, it is done and the client told to wait.
#[derive(Debug)]
pub(crate) struct Mutations {
    /// `None` if there are no quotas.
    client_id: Option<Str>,
    /// What is beyond the quota is refused.
    strict: bool,
    /// For the answer.
    pub(crate) throttle_ms: i32,
}

impl Mutations {
    pub(crate) fn of(broker: &Broker, context: &RequestContext, strict_from: i16) -> Self {
        Self {
            client_id: client_of(broker, context),
            strict: context.api_version >= strict_from,
            throttle_ms: 0,
        }
    }

    /// Those that a request makes besides what it is for: topics that are created because somebody asks for them.
    pub(crate) fn by_the_way(broker: &Broker, context: &RequestContext) -> Self {
        Self::of(broker, context, 0)
    }

    /// Counts `partitions` that are about to be made or deleted.
    pub(crate) fn record(
        &mut self,
        broker: &mut Broker,
        now: Now,
        partitions: usize,
    ) -> Result<(), (ErrorCode, String)> {
        let Some(client_id) = &self.client_id else {
            return Ok(());
        };
        let quotas = &mut broker.quotas;
        let Some((bound, sharers)) =
            sharers(&quotas.stored, CONTROLLER_MUTATION_RATE, USER, client_id)
        else {
            return Ok(());
        };
        let now_ms = now.mono_us / 1000;
        quotas.sweep(now_ms);
        let windows = quotas.controller_windows;
        let bucket = quotas
            .buckets
            .entry(sharers)
            .or_insert_with(|| Bucket::full(windows, now_ms, bound));
        let debt_ms = bucket.throttle_ms(windows, now_ms, bound);
        if self.strict && debt_ms > 0 {
            self.throttle_ms = self.throttle_ms.max(debt_ms);
            return Err((
                ErrorCode::THROTTLING_QUOTA_EXCEEDED,
                "The throttling quota has been exceeded.".into(),
            ));
        }
        bucket.take(partitions as f64);
        if !self.strict {
            let debt_ms = bucket.throttle_ms(windows, now_ms, bound);
            self.throttle_ms = self.throttle_ms.max(debt_ms);
        }
        Ok(())
    }
}

/// Bytes of a body of `version` on the wire, which is what Kafka counts; an embedded client's never was there and counts the same. For
/// the size it is encoded, which copies no records.
pub(crate) fn body_size(body: &impl Message, version: i16) -> usize {
    let mut e = Encoder::with_capacity(body.size_hint());
    // What a version has no room for is left out.
    let _ = body.encode(version, &mut e);
    e.len()
}

/// Whose quotas hold for a request; `None` as long as there are none at all.
pub(crate) fn client_of(broker: &Broker, context: &RequestContext) -> Option<Str> {
    if broker.quotas.is_empty() {
        return None;
    }
    Some(context.client_id.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests;
