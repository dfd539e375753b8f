//! Requests of every key and version that is served, with any body, on a connection: no panic, and no answer that can't be written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_broker::Durability;
use ottla_driver::rehearse;
use ottla_protocol::{ApiKey, Encoder, RequestHeader};

fuzz_target!(|requests: Vec<(u8, u8, Vec<u8>)>| {
    let mut stream = Vec::new();
    for (at, (key, version, body)) in requests.into_iter().enumerate() {
        let Some(key) = ApiKey::from_i16((key % 96).into()) else {
            continue;
        };
        let versions = key.broker_versions();
        let count = (versions.end() - versions.start() + 1).max(1);
        let header = RequestHeader {
            request_api_key: key as i16,
            request_api_version: versions.start() + i16::from(version) % count,
            correlation_id: at as i32,
            client_id: Some("fuzz".into()),
        };
        let mut e = Encoder::new();
        header.encode(&mut e).expect("a header can be written");
        let header = e.into_bytes();
        stream.extend(((header.len() + body.len()) as i32).to_be_bytes());
        stream.extend_from_slice(&header);
        stream.extend(body);
    }
    rehearse(Durability::Fsync, 1 << 20, &[], &stream);
});
