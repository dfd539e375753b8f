//! PushTelemetry (72): metrics of a client (KIP-714), OTLP's `MetricsData`. The newest values are kept for whoever shows them.
//!
//! Serves version 0. Departs from Kafka: it is served with `client.telemetry.enable`, and the broker itself reads what comes, where
//! Kafka hands it to a plugin; what decompresses to more than 8 times `telemetry.max.bytes` is TELEMETRY_TOO_LARGE.

use ottla_protocol::{
    ErrorCode, Response, Uuid,
    messages::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse},
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    telemetry::Push,
};

/// Ids that nobody has: none, and the one that Kafka's metadata topic has.
const RESERVED: [Uuid; 2] = [Uuid::ZERO, Uuid(1u128.to_be_bytes())];

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: PushTelemetryRequest,
) -> Handled {
    let pushed = if RESERVED.contains(&request.client_instance_id) {
        Err(ErrorCode::INVALID_REQUEST)
    } else {
        let who = broker.who(context, request.client_instance_id);
        let push = Push {
            subscription_id: request.subscription_id,
            terminating: request.terminating,
            compression_type: request.compression_type,
            payload: request.metrics,
        };
        let max_bytes = usize::try_from(broker.config.telemetry_max_bytes).unwrap_or(0);
        let Broker {
            telemetry, codecs, ..
        } = broker;
        telemetry.push(now, context.reply.conn, &who, &push, max_bytes, codecs)
    };
    Handled::Respond(Response::PushTelemetry(PushTelemetryResponse {
        error_code: pushed.err().unwrap_or(ErrorCode::NONE),
        ..Default::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BrokerConfig, ClientMetricValue, ConnId, Durability, Endpoint,
        configs::{
            alter::{Change, Operation},
            dynamic::resource,
        },
        telemetry::building::{gauge, sum},
        testing::{CONN, Harness},
    };
    use alloc::{format, string::ToString, vec, vec::Vec};
    use bytes::Bytes;
    use ottla_protocol::{
        ApiKey, Request,
        messages::{
            api_versions::ApiVersionsRequest,
            get_telemetry_subscriptions::{
                GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
            },
        },
    };
    use ottla_record::{Codecs, Compression};

    const INTERVAL_MS: u64 = 5000;

    fn harness() -> Harness {
        let mut h = Harness::with(BrokerConfig {
            durability: Durability::Os,
            client_telemetry: true,
            telemetry_max_bytes: 4096,
            ..BrokerConfig::default()
        });
        subscribe(&mut h, "all", &[("metrics", "*"), ("interval.ms", "5000")]);
        h
    }

    fn subscribe(h: &mut Harness, name: &str, given: &[(&str, &str)]) {
        let changes = given.iter().map(|(key, value)| Change {
            name: (*key).into(),
            operation: Operation::Set,
            value: Some((*value).into()),
        });
        let changes: Vec<Change> = changes.collect();
        let now = h.now;
        let broker = &mut h.broker;
        let altered =
            broker.alter_configs(now, resource::CLIENT_METRICS, name, &changes, true, false);
        let altered = altered.unwrap().into_iter().collect();
        broker.apply_altered(now, altered).unwrap();
    }

    fn get_on(h: &mut Harness, conn: ConnId, id: Uuid) -> GetTelemetrySubscriptionsResponse {
        let client_instance_id = id;
        let request = GetTelemetrySubscriptionsRequest { client_instance_id };
        let sent = h.send_on(conn, 0, Request::GetTelemetrySubscriptions(request));
        let Some(Response::GetTelemetrySubscriptions(answer)) = h.take_answer(sent) else {
            panic!()
        };
        answer
    }

    fn get(h: &mut Harness, id: Uuid) -> GetTelemetrySubscriptionsResponse {
        get_on(h, CONN, id)
    }

    fn push_request(
        of: &GetTelemetrySubscriptionsResponse,
        metrics: impl Into<Bytes>,
    ) -> PushTelemetryRequest {
        PushTelemetryRequest {
            client_instance_id: of.client_instance_id,
            subscription_id: of.subscription_id,
            metrics: metrics.into(),
            ..Default::default()
        }
    }

    fn send(h: &mut Harness, request: PushTelemetryRequest) -> ErrorCode {
        let Response::PushTelemetry(answer) = h.ask(0, Request::PushTelemetry(request)) else {
            panic!()
        };
        answer.error_code
    }

    fn push(
        h: &mut Harness,
        of: &GetTelemetrySubscriptionsResponse,
        metrics: impl Into<Bytes>,
    ) -> ErrorCode {
        send(h, push_request(of, metrics))
    }

    /// Name and value of all metrics of all clients.
    fn shown(h: &Harness) -> Vec<(alloc::string::String, f64)> {
        let clients = h.broker.metrics().clients;
        let metrics = clients.into_iter().flat_map(|client| client.metrics);
        metrics
            .map(|metric| match metric.value {
                ClientMetricValue::Number(value) => (metric.name().to_string(), value),
                ClientMetricValue::Histogram { .. } => panic!(),
            })
            .collect()
    }

    #[test]
    fn without_a_receiver_it_is_neither_told_nor_served() {
        let told = |h: &mut Harness| {
            let request = ApiVersionsRequest {
                client_software_name: "s".into(),
                client_software_version: "1".into(),
            };
            let Response::ApiVersions(answer) = h.ask(4, Request::ApiVersions(request)) else {
                panic!()
            };
            let keys = answer.api_keys.iter().map(|key| key.api_key);
            let of_telemetry = [
                ApiKey::GetTelemetrySubscriptions as i16,
                ApiKey::PushTelemetry as i16,
            ];
            keys.filter(|key| of_telemetry.contains(key)).count()
        };
        let mut h = Harness::new(Durability::Os);
        assert_eq!(told(&mut h), 0);
        h.send(0, Request::PushTelemetry(Default::default()));
        assert_eq!(h.disconnected, [CONN]);
        assert_eq!(h.broker.metrics().telemetry, None);
        assert_eq!(told(&mut harness()), 2);
    }

    #[test]
    fn a_client_asks_and_pushes_and_its_metrics_are_shown() {
        let mut h = harness();
        let told = get(&mut h, Uuid::ZERO);
        assert_eq!(told.error_code, ErrorCode::NONE);
        assert!(!RESERVED.contains(&told.client_instance_id));
        assert_eq!(told.accepted_compression_types, [4, 3, 1, 2]);
        assert_eq!(
            (told.push_interval_ms, told.telemetry_max_bytes),
            (5000, 4096)
        );
        assert!(told.delta_temporality);
        assert_eq!(told.requested_metrics, ["*"]);

        let payload = |value| {
            let counter = sum("org.apache.kafka.a.total", value, true, true);
            [counter, gauge("org.apache.kafka.b", value)].concat()
        };
        assert_eq!(push(&mut h, &told, payload(1.0)), ErrorCode::NONE);
        let names = |counter, gauge| {
            vec![
                ("org.apache.kafka.a.total".to_string(), counter),
                ("org.apache.kafka.b".to_string(), gauge),
            ]
        };
        assert_eq!(shown(&h), names(1.0, 1.0));
        h.pass_ms(INTERVAL_MS);
        for codec in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let mut compressed = Vec::new();
            let payload = payload(2.0);
            Codecs::new()
                .compress(codec, None, &payload, &mut compressed)
                .unwrap();
            let request = PushTelemetryRequest {
                compression_type: codec as i8,
                ..push_request(&told, compressed)
            };
            assert_eq!(send(&mut h, request), ErrorCode::NONE);
            h.pass_ms(INTERVAL_MS);
        }
        assert_eq!(shown(&h), names(9.0, 2.0));
        let client = h.broker.metrics().clients.remove(0);
        assert_eq!(client.client_id, "test");
        assert_eq!(client.client_instance_id, told.client_instance_id);
        let attributes: Vec<_> = client.metrics[0].attributes().collect();
        assert_eq!(attributes, [("group_id", "g"), ("node_id", "1")]);
        let counted = h.broker.metrics().telemetry.unwrap();
        assert_eq!(
            (counted.instances, counted.taken, counted.left_out),
            (1, 5, 0)
        );
    }

    #[test]
    fn what_comes_too_early_is_throttled() {
        let mut h = harness();
        let told = get(&mut h, Uuid::ZERO);
        let id = told.client_instance_id;
        let too_early = ErrorCode::THROTTLING_QUOTA_EXCEEDED;
        assert_eq!(get(&mut h, id).error_code, too_early);
        assert_eq!(push(&mut h, &told, b"".to_vec()), ErrorCode::NONE);
        h.pass_ms(INTERVAL_MS - 1);
        assert_eq!(push(&mut h, &told, b"".to_vec()), too_early);
        assert_eq!(get(&mut h, id).error_code, too_early);
        h.pass_ms(1);
        assert_eq!(push(&mut h, &told, b"".to_vec()), ErrorCode::NONE);
        assert_eq!(get(&mut h, id).error_code, too_early);
        h.pass_ms(INTERVAL_MS);
        assert_eq!(get(&mut h, id).error_code, ErrorCode::NONE);
        assert_eq!(push(&mut h, &told, b"".to_vec()), ErrorCode::NONE);
        let counted = h.broker.metrics().telemetry.unwrap();
        assert_eq!((counted.throttled, counted.taken), (4, 0));
    }

    #[test]
    fn the_last_push_may_come_at_any_time_and_is_the_last() {
        let mut h = harness();
        let told = get(&mut h, Uuid::ZERO);
        assert_eq!(push(&mut h, &told, gauge("g", 1.0)), ErrorCode::NONE);
        let last = |of: &GetTelemetrySubscriptionsResponse, value| PushTelemetryRequest {
            terminating: true,
            ..push_request(of, gauge("g", value))
        };
        assert_eq!(send(&mut h, last(&told, 2.0)), ErrorCode::NONE);
        assert_eq!(send(&mut h, last(&told, 3.0)), ErrorCode::INVALID_REQUEST);
        assert_eq!(shown(&h), [("g".to_string(), 2.0)]);
    }

    #[test]
    fn what_is_refused() {
        let mut h = harness();
        for client_instance_id in RESERVED {
            let request = PushTelemetryRequest {
                client_instance_id,
                ..Default::default()
            };
            assert_eq!(send(&mut h, request), ErrorCode::INVALID_REQUEST);
        }
        let mut zeros = Vec::new();
        let limit = 8 * 4096;
        Codecs::new()
            .compress(Compression::Zstd, None, &vec![0; limit + 1], &mut zeros)
            .unwrap();
        let mut n = 0;
        let mut try_one = |h: &mut Harness, compression_type, metrics: &[u8]| {
            n += 1;
            let told = get(h, Uuid::from_random(n));
            let request = PushTelemetryRequest {
                compression_type,
                ..push_request(&told, metrics.to_vec())
            };
            send(h, request)
        };
        let unsupported = ErrorCode::UNSUPPORTED_COMPRESSION_TYPE;
        for compression_type in [-1, 5] {
            assert_eq!(try_one(&mut h, compression_type, b""), unsupported);
        }
        let too_large = ErrorCode::TELEMETRY_TOO_LARGE;
        assert_eq!(try_one(&mut h, 0, &[0; 4097]), too_large);
        assert_eq!(try_one(&mut h, 4, &zeros), too_large, "a bomb");
        for compression_type in 0..=4 {
            let read = try_one(&mut h, compression_type, &[0xff; 100]);
            assert_eq!(read, ErrorCode::INVALID_RECORD, "{compression_type}");
        }
        // What can be read of it doesn't count.
        let half = [gauge("g", 1.0), vec![0xff]].concat();
        assert_eq!(try_one(&mut h, 0, &half), ErrorCode::INVALID_RECORD);
        assert!(shown(&h).is_empty());
        assert_eq!(h.broker.metrics().telemetry.unwrap().unreadable, 6);
    }

    #[test]
    fn other_subscriptions_have_another_id_and_whoever_has_the_old_one_may_ask_at_once() {
        let mut h = harness();
        let old = get(&mut h, Uuid::ZERO);
        subscribe(&mut h, "more", &[("metrics", "a"), ("interval.ms", "1000")]);
        let unknown = ErrorCode::UNKNOWN_SUBSCRIPTION_ID;
        assert_eq!(push(&mut h, &old, gauge("g", 1.0)), unknown);
        let new = get(&mut h, old.client_instance_id);
        assert_eq!(
            (new.error_code, new.push_interval_ms),
            (ErrorCode::NONE, 1000)
        );
        assert_eq!(new.client_instance_id, old.client_instance_id);
        assert_ne!(new.subscription_id, old.subscription_id);
        // As in Kafka what was refused was a push nevertheless, and the next one has to wait for its time.
        let too_early = ErrorCode::THROTTLING_QUOTA_EXCEEDED;
        assert_eq!(push(&mut h, &new, gauge("g", 1.0)), too_early);
        h.pass_ms(1000);
        assert_eq!(push(&mut h, &new, gauge("g", 1.0)), ErrorCode::NONE);
        // Taken back, it is as before; after a restart, too.
        subscribe(&mut h, "more", &[]);
        let again = get(&mut h, old.client_instance_id);
        assert_eq!(again.subscription_id, old.subscription_id);
        assert_eq!(shown(&h), [("g".to_string(), 1.0)]);
        let mut h = h.restart(true);
        assert_eq!(push(&mut h, &old, gauge("g", 1.0)), ErrorCode::NONE);
    }

    #[test]
    fn clients_are_matched_by_what_they_are() {
        let mut h = harness();
        subscribe(&mut h, "all", &[]);
        let by = [
            ("name", "client_software_name=an-app", "name,"),
            ("version", "client_software_version=[0-9]\\.7", "version,"),
            (
                "address",
                "client_source_address=10\\.0\\.0\\..*",
                "address,",
            ),
            ("port", "client_source_port=4711", "port,"),
            ("id", "client_id=t.st", "id,"),
            ("other", "client_id=t.s", "other,"),
        ];
        for (name, pattern, metrics) in by {
            subscribe(&mut h, name, &[("match", pattern), ("metrics", metrics)]);
        }
        let conn = ConnId(2);
        let (host, port) = ("localhost".into(), 9092);
        let endpoint = Endpoint { host, port };
        let now = h.now;
        h.broker
            .handle_accept(now, conn, "/10.0.0.7", Some(4711), endpoint);
        let told = get_on(&mut h, conn, Uuid::ZERO);
        assert_eq!(told.requested_metrics, ["address", "id", "port"]);
        let software = ApiVersionsRequest {
            client_software_name: "an-app".into(),
            client_software_version: "1.7".into(),
        };
        h.send_on(conn, 4, Request::ApiVersions(software));
        let told = get_on(&mut h, conn, Uuid::ZERO);
        let all = ["address", "id", "name", "port", "version"];
        assert_eq!(told.requested_metrics, all);
        let unheard = get(&mut h, Uuid::ZERO);
        assert_eq!(unheard.requested_metrics, ["id"]);
    }

    #[test]
    fn clients_are_forgotten_when_they_are_silent() {
        let mut h = harness();
        let told = get(&mut h, Uuid::ZERO);
        push(&mut h, &told, gauge("g", 1.0));
        let silent = get(&mut h, Uuid::ZERO);
        let instances = |h: &Harness| h.broker.metrics().telemetry.unwrap().instances;
        assert_eq!(instances(&h), 2);
        h.pass_ms(59_000);
        assert_eq!(push(&mut h, &told, gauge("g", 2.0)), ErrorCode::NONE);
        h.pass_ms(1000);
        assert_eq!(instances(&h), 1, "{silent:?} is gone");
        h.pass_ms(58_999);
        assert_eq!(shown(&h), [("g".to_string(), 2.0)]);
        h.pass_ms(1);
        assert_eq!((instances(&h), shown(&h)), (0, vec![]));
    }

    #[test]
    fn a_connection_takes_its_client_with_it_but_not_what_it_pushed() {
        let mut h = harness();
        let told = get(&mut h, Uuid::ZERO);
        push(&mut h, &told, gauge("g", 1.0));
        h.disconnect(CONN);
        assert_eq!(shown(&h), [("g".to_string(), 1.0)]);
        let now = h.now;
        h.broker.handle_connect(now, CONN, "127.0.0.1");
        // It is as one that was never heard of.
        assert_eq!(push(&mut h, &told, gauge("g", 2.0)), ErrorCode::NONE);
        assert_eq!(shown(&h), [("g".to_string(), 2.0)]);
        h.disconnect(CONN);
        h.broker.handle_connect(now, CONN, "127.0.0.1");
        get(&mut h, Uuid::ZERO);
        h.disconnect(CONN);
        assert_eq!(h.broker.metrics().telemetry.unwrap().instances, 1);
    }

    #[test]
    fn more_clients_than_are_remembered() {
        let mut h = harness();
        let first = get(&mut h, Uuid::from_random(1 << 100));
        push(&mut h, &first, gauge("g", 1.0));
        for n in 0..16_384u128 {
            get(&mut h, Uuid::from_random(n));
        }
        assert_eq!(h.broker.metrics().telemetry.unwrap().instances, 16_384);
        assert!(
            shown(&h).is_empty(),
            "the first is gone with what it pushed"
        );
    }

    #[test]
    fn metrics_of_all_clients_are_bounded() {
        let mut h = Harness::with(BrokerConfig {
            durability: Durability::Os,
            client_telemetry: true,
            ..BrokerConfig::default()
        });
        let long = "n".repeat(1500);
        let payload: Vec<u8> = (0..600)
            .flat_map(|n| gauge(&format!("{long}{n}"), 1.0))
            .collect();
        for n in 0..40 {
            let told = get(&mut h, Uuid::from_random(n));
            assert_eq!(push(&mut h, &told, payload.clone()), ErrorCode::NONE);
        }
        let metrics = h.broker.metrics();
        let kept: usize = metrics.clients.iter().map(|c| c.metrics.len()).sum();
        let left_out = metrics.telemetry.unwrap().left_out;
        assert_eq!(kept as u64 + left_out, 40 * 600);
        assert!(kept * 1500 < 32 << 20 && kept * 1700 > 31 << 20, "{kept}");
    }
}
