//! Metrics that clients push (KIP-714): who is asked for what, when it may come, and the newest of what came. As Kafka's
//! `ClientMetricsManager`, with a receiver of our own behind it.
//!
//! * `subscription`: the resources `client-metrics`, and which clients they match.
//! * `otlp`: a reader for what is pushed.
//! * `pushed`: the newest values of one client.
//!
//! Nothing of this is there unless `client.telemetry.enable` says so. See `docs/internals/metrics.md`.

mod otlp;
mod pushed;
mod subscription;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use bytes::Bytes;
use hashbrown::HashMap;
use ottla_protocol::{ErrorCode, Str, Uuid};
use ottla_record::{Codecs, Compression, Now, RecordError};

use crate::{ConnId, configs::dynamic::Given};
use pushed::Pushed;
use subscription::{Subscription, Wanted};

#[cfg(test)]
pub(crate) use otlp::building;
pub use otlp::{ClientMetricKind, ClientMetricValue};
pub use pushed::ClientMetric;
pub(crate) use subscription::{Who, compile};

/// Clients that are remembered; whoever was heard of least recently goes for the next.
const MOST_CLIENTS: usize = 16_384;
/// Memory for metrics of all clients; above, what is new isn't taken.
const MOST_BYTES: usize = 32 << 20;
/// Data points of one push that are looked at.
const MOST_POINTS: usize = 2 * pushed::MOST_METRICS;
/// A push may decompress to so many times `telemetry.max.bytes`.
const MOST_EXPANSION: usize = 8;
/// A client is forgotten after this silence, or after three intervals if that is longer.
const LEAST_PATIENCE_MS: u64 = 60_000;
/// Bytes of a client's name that are shown.
const LONGEST_CLIENT_ID: usize = 256;

/// What clients are told that they may compress with, best first.
pub(crate) const ACCEPTED: [Compression; 4] = [
    Compression::Zstd,
    Compression::Lz4,
    Compression::Gzip,
    Compression::Snappy,
];

/// A client that pushed metrics, and its metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientMetrics {
    /// The id that it was given, or has had before.
    pub client_instance_id: Uuid,
    /// `client.id` of its newest request, its beginning if that is longer than 256 bytes.
    pub client_id: Str,
    /// Newest values, by name.
    pub metrics: Vec<ClientMetric>,
}

/// How it went with the metrics of clients since the broker was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TelemetryMetrics {
    /// Clients that are remembered now.
    pub instances: usize,
    /// Pushes for a subscription that isn't the client's any more.
    pub unknown_subscriptions: u64,
    /// Requests that came too early.
    pub throttled: u64,
    /// Pushes with metrics that were taken.
    pub taken: u64,
    /// Pushes that couldn't be read.
    pub unreadable: u64,
    /// Data points that were left out, because of a bound or since they are of a kind that isn't known.
    pub left_out: u64,
}

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subscribed {
    pub(crate) instance_id: Uuid,
    pub(crate) subscription_id: i32,
    pub(crate) interval_ms: i32,
    /// Prefixes of names; `*` alone is all.
    pub(crate) metrics: Vec<Str>,
}

/// A push.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) subscription_id: i32,
    pub(crate) terminating: bool,
    pub(crate) compression_type: i8,
    pub(crate) payload: Bytes,
}

/// What is known of a client's requests. It is made anew when subscriptions change.
#[derive(Debug)]
struct Instance {
    /// [`Telemetry::version`] of when it was made.
    version: u64,
    subscription_id: i32,
    interval_ms: i32,
    /// When it asked last and was answered, and when it pushed last and not too early.
    asked_us: Option<u64>,
    pushed_us: Option<u64>,
    /// It asked after it pushed.
    may_push: bool,
    /// It said that its push was the last one.
    is_terminating: bool,
    last_error: ErrorCode,
}

impl Instance {
    fn has_passed(&self, since_us: Option<u64>, now: Now) -> bool {
        let interval_us = u64::try_from(self.interval_ms).unwrap_or(0) * 1000;
        since_us.is_none_or(|since_us| now.mono_us.saturating_sub(since_us) >= interval_us)
    }

    /// Whether it isn't too early to ask.
    fn may_ask(&mut self, now: Now) -> bool {
        let passed = self.has_passed(self.asked_us.max(self.pushed_us), now);
        if passed {
            self.asked_us = Some(now.mono_us);
            self.may_push = true;
        }
        passed
    }

    /// Whether it isn't too early to push: the first push after asking may come at any time, since clients spread them.
    fn comes_in_time(&mut self, now: Now) -> bool {
        let in_time = self.may_push || self.has_passed(self.pushed_us, now);
        if in_time {
            self.pushed_us = Some(now.mono_us);
            self.may_push = false;
        }
        in_time
    }
}

/// A client.
#[derive(Debug, Default)]
struct Client {
    client_id: Str,
    /// `None` once its connection is gone: it may come back with another.
    instance: Option<Instance>,
    pushed: Pushed,
    /// Its keys in [`Telemetry::by_use`] and [`Telemetry::by_end`].
    used: u64,
    ends_us: u64,
}

/// The metrics of clients.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    subscriptions: BTreeMap<Str, Subscription>,
    /// Goes up when a subscription changes.
    version: u64,
    clients: BTreeMap<Uuid, Client>,
    /// In the order in which they were heard of.
    by_use: BTreeMap<u64, Uuid>,
    last_use: u64,
    /// When they are forgotten.
    by_end: BTreeSet<(u64, Uuid)>,
    /// Whose connection it is. Of several clients on one connection it is the newest, as in Kafka.
    of_connections: HashMap<ConnId, Uuid>,
    /// Of all that was pushed and is kept.
    bytes: usize,
    counted: TelemetryMetrics,
}

impl Telemetry {
    /// A subscription has these settings from now on; without any it is gone.
    ///
    /// # Errors
    /// They have a pattern that can't be compiled; there is no such subscription then.
    pub(crate) fn subscribe(&mut self, name: &Str, given: Option<&Given>) -> Result<(), String> {
        self.version += 1;
        self.subscriptions.remove(name);
        if let Some(given) = given {
            self.subscriptions
                .insert(name.clone(), Subscription::of(given)?);
        }
        Ok(())
    }

    /// A client asks what it is to push: GetTelemetrySubscriptions.
    ///
    /// # Errors
    /// It comes too early.
    pub(crate) fn ask(
        &mut self,
        now: Now,
        conn: ConnId,
        who: &Who,
    ) -> Result<Subscribed, ErrorCode> {
        let instance = self.instance(now, conn, who);
        let is_excused = matches!(
            instance.last_error,
            ErrorCode::UNKNOWN_SUBSCRIPTION_ID | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        );
        if !instance.may_ask(now) && !is_excused {
            self.counted.throttled += 1;
            return Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        }
        instance.last_error = ErrorCode::NONE;
        let subscription_id = instance.subscription_id;
        let wanted = Wanted::of(self.subscriptions.values(), who);
        Ok(Subscribed {
            instance_id: who.instance_id,
            subscription_id,
            interval_ms: wanted.interval_ms,
            metrics: wanted.metrics.into_iter().collect(),
        })
    }

    /// A client pushes: PushTelemetry. `max_bytes` is `telemetry.max.bytes`.
    ///
    /// # Errors
    /// What Kafka says: the client has ended, comes too early, is for another subscription, compressed with something else, has too much, or
    /// it can't be read.
    pub(crate) fn push(
        &mut self,
        now: Now,
        conn: ConnId,
        who: &Who,
        push: &Push,
        max_bytes: usize,
        codecs: &mut Codecs,
    ) -> Result<(), ErrorCode> {
        let instance = self.instance(now, conn, who);
        let checked = if instance.is_terminating {
            Err(ErrorCode::INVALID_REQUEST)
        } else if !instance.comes_in_time(now) && !push.terminating {
            Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED)
        } else if push.subscription_id != instance.subscription_id {
            Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID)
        } else {
            compression(push.compression_type).ok_or(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE)
        };
        // As in Kafka, also when it was refused.
        instance.is_terminating = push.terminating;
        let done = checked.and_then(|codec| {
            if push.payload.len() > max_bytes {
                return Err(ErrorCode::TELEMETRY_TOO_LARGE);
            }
            if push.payload.is_empty() {
                return Ok(());
            }
            let limit = max_bytes.saturating_mul(MOST_EXPANSION);
            let metrics = codecs
                .decompress(codec, &push.payload, limit)
                .map_err(|error| match error {
                    RecordError::DecompressedTooLarge { .. } => ErrorCode::TELEMETRY_TOO_LARGE,
                    _ => ErrorCode::INVALID_RECORD,
                })?;
            self.take(who, &metrics)
        });
        match done {
            Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED) => self.counted.throttled += 1,
            Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID) => self.counted.unknown_subscriptions += 1,
            Err(ErrorCode::INVALID_RECORD) => self.counted.unreadable += 1,
            _ => {}
        }
        if let Some(client) = self.clients.get_mut(&who.instance_id)
            && let Some(instance) = &mut client.instance
        {
            instance.last_error = done.err().unwrap_or(ErrorCode::NONE);
        }
        done
    }

    /// Keeps what a client measured.
    fn take(&mut self, who: &Who, metrics: &[u8]) -> Result<(), ErrorCode> {
        // All of it is read before any of it counts.
        otlp::read(metrics, &mut |_| {}).map_err(|_| ErrorCode::INVALID_RECORD)?;
        let Self {
            clients,
            bytes,
            counted,
            ..
        } = self;
        let Some(client) = clients.get_mut(&who.instance_id) else {
            return Ok(());
        };
        let others = *bytes - client.pushed.bytes();
        let mut points = 0;
        let _ = otlp::read(metrics, &mut |point| {
            points += 1;
            let room = MOST_BYTES.saturating_sub(others + client.pushed.bytes());
            let taken = point
                .filter(|_| points <= MOST_POINTS)
                .is_some_and(|point| client.pushed.take(point, room));
            counted.left_out += u64::from(!taken);
        });
        *bytes = others + client.pushed.bytes();
        counted.taken += 1;
        Ok(())
    }

    /// The state of a client, made if there is none or subscriptions have changed. It was heard of now.
    fn instance(&mut self, now: Now, conn: ConnId, who: &Who) -> &mut Instance {
        if !self.clients.contains_key(&who.instance_id)
            && self.clients.len() >= MOST_CLIENTS
            && let Some(id) = self.by_use.first_key_value().map(|(_, id)| *id)
        {
            self.forget(&id);
        }
        let Self {
            clients,
            subscriptions,
            version,
            by_use,
            last_use,
            by_end,
            of_connections,
            ..
        } = self;
        let client = clients.entry(who.instance_id).or_default();
        client.client_id = beginning_of(who.client_id.as_deref().unwrap_or_default());
        by_use.remove(&client.used);
        by_end.remove(&(client.ends_us, who.instance_id));
        *last_use += 1;
        client.used = *last_use;
        by_use.insert(client.used, who.instance_id);

        if !matches!(&client.instance, Some(instance) if instance.version == *version) {
            of_connections.insert(conn, who.instance_id);
            client.instance = None;
        }
        let instance = client.instance.get_or_insert_with(|| {
            let wanted = Wanted::of(subscriptions.values(), who);
            Instance {
                version: *version,
                subscription_id: wanted.id(&who.instance_id),
                interval_ms: wanted.interval_ms,
                asked_us: None,
                pushed_us: None,
                may_push: false,
                is_terminating: false,
                last_error: ErrorCode::NONE,
            }
        });
        let interval_ms = u64::try_from(instance.interval_ms).unwrap_or(0);
        client.ends_us = now.mono_us + (3 * interval_ms).max(LEAST_PATIENCE_MS) * 1000;
        by_end.insert((client.ends_us, who.instance_id));
        instance
    }

    fn forget(&mut self, id: &Uuid) {
        if let Some(client) = self.clients.remove(id) {
            self.by_use.remove(&client.used);
            self.by_end.remove(&(client.ends_us, *id));
            self.bytes -= client.pushed.bytes();
        }
    }

    /// A connection is gone. What its client may send and when is forgotten with it; what it pushed stays for a while.
    pub(crate) fn handle_disconnect(&mut self, conn: ConnId) {
        let Some(id) = self.of_connections.remove(&conn) else {
            return;
        };
        if let Some(client) = self.clients.get_mut(&id) {
            client.instance = None;
            if client.pushed.is_empty() {
                self.forget(&id);
            }
        }
    }

    /// Forgets clients that were silent for long.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        while let Some((ends_us, id)) = self.by_end.first().copied()
            && ends_us <= now.mono_us
        {
            self.forget(&id);
        }
    }

    /// When somebody is to be forgotten.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.by_end.first().map(|(ends_us, _)| *ends_us)
    }

    /// Whether a client has this id.
    pub(crate) fn knows(&self, id: &Uuid) -> bool {
        self.clients.contains_key(id)
    }

    /// How it went.
    pub(crate) fn counted(&self) -> TelemetryMetrics {
        TelemetryMetrics {
            instances: self.clients.len(),
            ..self.counted
        }
    }

    /// What clients pushed.
    pub(crate) fn clients(&self) -> Vec<ClientMetrics> {
        self.clients
            .iter()
            .filter(|(_, client)| !client.pushed.is_empty())
            .map(|(id, client)| ClientMetrics {
                client_instance_id: *id,
                client_id: client.client_id.clone(),
                metrics: client.pushed.metrics(),
            })
            .collect()
    }
}

/// The codec of this number.
fn compression(number: i8) -> Option<Compression> {
    match number {
        0 => Some(Compression::None),
        1 => Some(Compression::Gzip),
        2 => Some(Compression::Snappy),
        3 => Some(Compression::Lz4),
        4 => Some(Compression::Zstd),
        _ => None,
    }
}

/// As much of a name as is shown, in memory of its own.
fn beginning_of(name: &str) -> Str {
    Str::from(&name[..name.floor_char_boundary(LONGEST_CLIENT_ID)])
}
