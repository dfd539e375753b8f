//! Client quotas: what a user or a client may produce, fetch and change, what it has used, and for how long it is told to wait.
//!
//! * `entities`: whom a quota is for, and which one holds for a client.
//! * `rates`: what was used: rates over 11 windows of a second, and the token bucket of changes (KIP-599).
//! * `store`: the quotas, and their file `ottla-quotas`.
//!
//! Every connection is the user `ANONYMOUS` as long as nobody logs in. `request_percentage` is kept and told, and has no effect: the
//! machine has no clock inside a request. See `docs/internals/configs.md`.

pub(crate) mod entities;
mod rates;
pub(crate) mod store;

use alloc::string::String;

use hashbrown::HashMap;
use ottla_protocol::{ErrorCode, Str};
use ottla_record::Now;

use crate::{Broker, context::RequestContext};
use entities::{Sharers, sharers};
use rates::{Bucket, Rate, SAMPLES, WINDOW_MS};
use store::StoredQuotas;

pub(crate) const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
pub(crate) const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
pub(crate) const REQUEST_PERCENTAGE: &str = "request_percentage";
pub(crate) const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";

/// The user of a connection on which nobody logged in.
const USER: &str = "ANONYMOUS";

/// So many meters are kept before those that nobody used for a while are looked for.
const FIRST_SWEEP: usize = 1024;

/// What a rate is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Produced,
    Fetched,
}

/// The quotas, and what was used of them.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    pub(crate) stored: StoredQuotas,
    rates: HashMap<(Kind, Sharers), Rate>,
    buckets: HashMap<Sharers, Bucket>,
    sweep_at: usize,
}

impl Quotas {
    pub(crate) fn new(stored: StoredQuotas) -> Self {
        Self {
            stored,
            ..Self::default()
        }
    }

    /// Whether there are none, so that nothing has to be counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.stored.entities.is_empty()
    }

    /// Counts `bytes` that a client produced. How long it has to wait then, in milliseconds.
    pub(crate) fn produced(&mut self, now: Now, client_id: &str, bytes: usize) -> i32 {
        let Some((bound, sharers)) = sharers(&self.stored, PRODUCER_BYTE_RATE, USER, client_id)
        else {
            return 0;
        };
        let rate = self.rate(now, Kind::Produced, sharers);
        let now_ms = now.mono_us / 1000;
        rate.record(now_ms, bytes as f64);
        rate.throttle_ms(now_ms, bound)
    }

    /// The most that one fetch gets: what may be fetched in all full windows.
    pub(crate) fn fetch_max_bytes(&self, client_id: &str) -> i32 {
        sharers(&self.stored, CONSUMER_BYTE_RATE, USER, client_id).map_or(i32::MAX, |(bound, _)| {
            (bound * (SAMPLES - 1) as f64 * (WINDOW_MS / 1000) as f64) as i32
        })
    }

    /// Whether a client may be given `bytes` that it fetched, which are counted then. If not, for how many milliseconds it has to
    /// wait; it gets nothing, and nothing is counted.
    ///
    /// Whoever fetched nothing for 11 seconds gets what there is. Else a batch of more than ten seconds' worth would never be given.
    pub(crate) fn fetched(&mut self, now: Now, client_id: &str, bytes: usize) -> Result<(), i32> {
        let Some((bound, sharers)) = sharers(&self.stored, CONSUMER_BYTE_RATE, USER, client_id)
        else {
            return Ok(());
        };
        let rate = self.rate(now, Kind::Fetched, sharers);
        let now_ms = now.mono_us / 1000;
        let rested = rate.is_idle(now_ms);
        rate.record(now_ms, bytes as f64);
        match rate.throttle_ms(now_ms, bound) {
            0 => Ok(()),
            _ if rested => Ok(()),
            throttle_ms => {
                rate.record(now_ms, -(bytes as f64));
                Err(throttle_ms)
            }
        }
    }

    fn rate(&mut self, now: Now, kind: Kind, sharers: Sharers) -> &mut Rate {
        self.sweep(now);
        self.rates.entry((kind, sharers)).or_default()
    }

    /// Forgets meters that nobody used for a while: there may be as many as there are names of clients.
    fn sweep(&mut self, now: Now) {
        if self.rates.len() + self.buckets.len() < self.sweep_at.max(FIRST_SWEEP) {
            return;
        }
        let now_ms = now.mono_us / 1000;
        self.rates.retain(|_, rate| !rate.is_idle(now_ms));
        self.buckets.retain(|_, bucket| !bucket.is_idle(now_ms));
        self.sweep_at = 2 * (self.rates.len() + self.buckets.len());
    }
}

/// What one request changes: partitions that it makes or deletes (KIP-599). From some version of each request on it is refused what
/// is beyond the quota; before, it is done and the client told to wait.
#[derive(Debug)]
pub(crate) struct Mutations {
    /// `None` if there are no quotas.
    client_id: Option<Str>,
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
        quotas.sweep(now);
        let now_ms = now.mono_us / 1000;
        let bucket = quotas
            .buckets
            .entry(sharers)
            .or_insert_with(|| Bucket::full(now_ms, bound));
        let debt_ms = bucket.throttle_ms(now_ms, bound);
        if self.strict && debt_ms > 0 {
            self.throttle_ms = self.throttle_ms.max(debt_ms);
            return Err((
                ErrorCode::THROTTLING_QUOTA_EXCEEDED,
                "The throttling quota has been exceeded.".into(),
            ));
        }
        bucket.take(partitions as f64);
        if !self.strict {
            let debt_ms = bucket.throttle_ms(now_ms, bound);
            self.throttle_ms = self.throttle_ms.max(debt_ms);
        }
        Ok(())
    }
}

/// Whose quotas hold for a request; `None` as long as there are none at all.
pub(crate) fn client_of(broker: &Broker, context: &RequestContext) -> Option<Str> {
    if broker.quotas.is_empty() {
        return None;
    }
    Some(context.client_id.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        api::alter_client_quotas::tests::set,
        output::throttle_ms,
        testing::{Harness, batch, fetch_request, produce_request},
    };
    use ottla_protocol::{
        Request, Response,
        messages::{
            create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
            create_topics::{CreatableTopic, CreateTopicsRequest},
            delete_topics::DeleteTopicsRequest,
            fetch::FetchResponse,
        },
    };
    use std::{string::String, vec};

    /// The harness calls itself so.
    const ME: &[(&str, Option<&str>)] = &[("client-id", Some("test"))];

    fn limited(key: &str, bound: f64) -> Harness {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        assert_eq!(set(&mut h, ME, &[(key, Some(bound))]), ErrorCode::NONE);
        h
    }

    fn fetch_all(h: &mut Harness) -> (FetchResponse, usize) {
        let Response::Fetch(answer) = h.ask(11, fetch_request("t", 0, 0, 0)) else {
            panic!()
        };
        let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
        let bytes = partitions.map(|p| p.records.len()).sum();
        (answer, bytes)
    }

    #[test]
    fn who_produces_too_much_is_told_to_wait() {
        let mut h = limited(PRODUCER_BYTE_RATE, 100.0);
        let value = String::from_utf8(vec![b'x'; 1500]).unwrap();
        let records = batch(&[&value]);
        let bytes = records.len() as f64;
        let answer = h.ask(9, produce_request("t", 0, 1, records.clone()));
        let expected = ((bytes / 10.0 - 100.0) / 100.0 * 10_000.0 + 0.5) as u32;
        assert_eq!(throttle_ms(&answer), expected);
        // What was sent is taken all the same, and with acks=-1 it is told too.
        let answer = h.ask(9, produce_request("t", 0, -1, records.clone()));
        assert!(throttle_ms(&answer) > 2 * expected);
        assert_eq!(h.fetch("t", 0, 0).high_watermark, 2);
        h.pass_ms(11_000);
        let answer = h.ask(9, produce_request("t", 0, 1, batch(&["small"])));
        assert_eq!(throttle_ms(&answer), 0);
        // Without a quota nothing is counted.
        assert_eq!(
            set(&mut h, ME, &[(PRODUCER_BYTE_RATE, None)]),
            ErrorCode::NONE
        );
        let answer = h.ask(9, produce_request("t", 0, 1, records));
        assert_eq!(throttle_ms(&answer), 0);
    }

    #[test]
    fn quotas_of_others_mean_nothing() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let tight = [(PRODUCER_BYTE_RATE, Some(1.0))];
        for other in ["user", "client-id"] {
            assert_eq!(set(&mut h, &[(other, Some("x"))], &tight), ErrorCode::NONE);
        }
        let request = || produce_request("t", 0, 1, batch(&["a", "b"]));
        assert_eq!(throttle_ms(&h.ask(9, request())), 0);
        // Until somebody logs in everybody is this user.
        assert_eq!(
            set(&mut h, &[("user", Some(USER))], &tight),
            ErrorCode::NONE
        );
        assert!(throttle_ms(&h.ask(9, request())) > 0);
    }

    #[test]
    fn who_fetches_too_much_gets_nothing_for_a_while() {
        let mut h = limited(CONSUMER_BYTE_RATE, 10.0);
        let value = String::from_utf8(vec![b'x'; 60]).unwrap();
        for _ in 0..3 {
            h.produce("t", 0, batch(&[&value]));
        }
        // However small the quota, one batch is given to whoever rested; no second one that is beyond it.
        let (answer, bytes) = fetch_all(&mut h);
        assert!((100..200).contains(&bytes), "{bytes}");
        assert_eq!(answer.throttle_time_ms, 0);
        let (answer, none) = fetch_all(&mut h);
        assert_eq!((none, answer.responses.len()), (0, 0));
        // 2 * bytes in ten seconds; what wasn't given isn't counted.
        let expected = ((2.0 * bytes as f64 / 10.0 - 10.0) / 10.0 * 10_000.0 + 0.5) as i32;
        assert_eq!(answer.throttle_time_ms, expected);
        assert_eq!(fetch_all(&mut h).0.throttle_time_ms, expected);
        h.pass_ms(11_000);
        assert_eq!(fetch_all(&mut h).1, bytes);
    }

    #[test]
    fn a_throttled_session_goes_on() {
        let mut h = limited(CONSUMER_BYTE_RATE, 10.0);
        let value = String::from_utf8(vec![b'x'; 60]).unwrap();
        h.produce("t", 0, batch(&[&value]));
        let ask = |h: &mut Harness, session_id, session_epoch| {
            let Request::Fetch(mut request) = fetch_request("t", 0, 0, 0) else {
                panic!()
            };
            request.session_id = session_id;
            request.session_epoch = session_epoch;
            match h.ask(11, Request::Fetch(request)) {
                Response::Fetch(answer) => answer,
                other => panic!("{other:?}"),
            }
        };
        let id = ask(&mut h, 0, 0).session_id;
        assert!(id > 0);
        let answer = ask(&mut h, id, 1);
        assert!(answer.throttle_time_ms > 0 && answer.responses.is_empty());
        assert_eq!(
            (answer.session_id, answer.error_code),
            (id, ErrorCode::NONE)
        );
        h.pass_ms(11_000);
        let answer = ask(&mut h, id, 2);
        assert_eq!((answer.session_id, answer.responses.len()), (id, 1));
        // One that would begin doesn't.
        assert_eq!(ask(&mut h, 0, 0).session_id, 0);
    }

    #[test]
    fn who_changes_too_much_is_refused() {
        let mut h = limited(CONTROLLER_MUTATION_RATE, 1.0);
        let create = |name: &str, num_partitions| {
            Request::CreateTopics(CreateTopicsRequest {
                topics: vec![CreatableTopic {
                    name: name.into(),
                    num_partitions,
                    replication_factor: -1,
                    ..Default::default()
                }],
                ..Default::default()
            })
        };
        let code = |answer: &Response| match answer {
            Response::CreateTopics(r) => r.topics[0].error_code,
            Response::DeleteTopics(r) => r.responses[0].error_code,
            Response::CreatePartitions(r) => r.results[0].error_code,
            other => panic!("{other:?}"),
        };
        // Eleven are there, the bucket may be overdrawn once.
        let answer = h.ask(6, create("a", 13));
        assert_eq!((code(&answer), throttle_ms(&answer)), (ErrorCode::NONE, 0));
        let delete = || {
            Request::DeleteTopics(DeleteTopicsRequest {
                topic_names: vec!["a".into()],
                ..Default::default()
            })
        };
        let grow = || {
            Request::CreatePartitions(CreatePartitionsRequest {
                topics: vec![CreatePartitionsTopic {
                    name: "a".into(),
                    count: 14,
                    assignments: None,
                }],
                ..Default::default()
            })
        };
        let refused = (ErrorCode::THROTTLING_QUOTA_EXCEEDED, 2000);
        for (version, request) in [(6, create("b", 1)), (5, delete()), (3, grow())] {
            let answer = h.ask(version, request);
            assert_eq!((code(&answer), throttle_ms(&answer)), refused);
        }
        assert!(h.broker.topics.by_name("b").is_none());
        // Who doesn't know the error is served, and told to wait.
        let answer = h.ask(2, grow());
        assert_eq!(
            (code(&answer), throttle_ms(&answer)),
            (ErrorCode::NONE, 3000)
        );
        let answer = h.ask(5, create("b", 1));
        assert_eq!(
            (code(&answer), throttle_ms(&answer)),
            (ErrorCode::NONE, 4000)
        );
        h.pass_ms(4000);
        let answer = h.ask(5, delete());
        assert_eq!((code(&answer), throttle_ms(&answer)), (ErrorCode::NONE, 0));
    }

    #[test]
    fn meters_of_clients_that_are_gone_are_forgotten() {
        let mut quotas = Quotas::default();
        let everybody = entities::Entity {
            client_id: entities::Part::Default,
            ..Default::default()
        };
        let rate = [(PRODUCER_BYTE_RATE.into(), Some(1.0))];
        quotas.stored.set(&everybody, rate.into_iter());
        for at in 0..10 * FIRST_SWEEP as u64 {
            let now = Now::new(at * 100_000, 0);
            quotas.produced(now, &std::format!("client-{at}"), 1);
        }
        assert!(quotas.rates.len() <= FIRST_SWEEP, "{}", quotas.rates.len());
    }
}
