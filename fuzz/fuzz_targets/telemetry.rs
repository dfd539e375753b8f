//! What clients push as their metrics, compressed in any way: no panic, an error that the protocol knows, and bounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_broker::{Broker, BrokerConfig, ConnId, Durability, Output, RequestEnvelope};
use ottla_log::MemoryStorage;
use ottla_protocol::{
    ErrorCode, Request, Response,
    messages::{
        get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest,
        push_telemetry::PushTelemetryRequest,
    },
};
use ottla_record::Now;
use std::sync::Arc;

const CONN: ConnId = ConnId(1);
const INTERVAL_US: u64 = 300_000_000;

fn ask(broker: &mut Broker, now: Now, request: Request) -> Response {
    let envelope = RequestEnvelope {
        correlation_id: 1,
        api_version: 0,
        client_id: Some("fuzz".into()),
        request,
    };
    broker.handle_request(now, CONN, envelope);
    while let Some(output) = broker.poll_output() {
        if let Output::Respond { response, .. } = output {
            return response;
        }
    }
    panic!("no answer");
}

fuzz_target!(|pushes: Vec<(u8, Vec<u8>)>| {
    let config = BrokerConfig {
        durability: Durability::Os,
        client_telemetry: true,
        telemetry_max_bytes: 64 << 10,
        ..BrokerConfig::default()
    };
    let mut now = Now::new(1_000_000, 1_700_000_000_000);
    let storage = Arc::new(MemoryStorage::new());
    let mut broker = Broker::open(config, storage, now, 42).expect("memory can be opened");
    broker.handle_connect(now, CONN, "/127.0.0.1");
    let request = GetTelemetrySubscriptionsRequest::default();
    let told = ask(
        &mut broker,
        now,
        Request::GetTelemetrySubscriptions(request),
    );
    let Response::GetTelemetrySubscriptions(told) = told else {
        panic!("another answer");
    };
    for (codec, metrics) in pushes {
        let request = PushTelemetryRequest {
            client_instance_id: told.client_instance_id,
            subscription_id: told.subscription_id,
            terminating: false,
            compression_type: (codec % 5) as i8,
            metrics: metrics.into(),
        };
        let answer = ask(&mut broker, now, Request::PushTelemetry(request));
        let Response::PushTelemetry(answer) = answer else {
            panic!("another answer");
        };
        let known = [
            ErrorCode::NONE,
            ErrorCode::INVALID_RECORD,
            ErrorCode::TELEMETRY_TOO_LARGE,
        ];
        assert!(
            known.contains(&answer.error_code),
            "{:?}",
            answer.error_code
        );
        now = Now::new(now.mono_us + INTERVAL_US, now.wall_ms + 300_000);
    }
    for client in broker.metrics().clients {
        assert!(client.metrics.len() <= 2000);
        for metric in &client.metrics {
            assert!(!metric.name().is_empty());
            let keys: Vec<&str> = metric.attributes().map(|(key, _)| key).collect();
            assert!(keys.len() <= 32 && keys.is_sorted_by(|a, b| a < b));
        }
    }
});
