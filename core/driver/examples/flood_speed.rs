//! What a broker on sockets takes in when four connections send it the same produce request again and again, as fast as it answers,
//! each to a partition of its own: with one event loop and with two, in turns. Clients do no work for their records, so this is
//! the most that it can take while they, too, need the processors; `durability=os`.
//!
//! `cargo run --release -p ottla-driver --example flood_speed -- DIR`; the last line is JSON.

use bytes::Bytes;
use ottla_broker::{BrokerConfig, Durability};
use ottla_driver::{EmbeddedBroker, Listener, Place, Server, ServerConfig};
use ottla_protocol::{
    ApiKey, ErrorCode, Records, Request, RequestHeader, Response, Str,
    frame::{decode_response, encode_request},
    messages::{
        MetadataRequest,
        metadata::MetadataRequestTopic,
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
};
use ottla_record::{BatchBuilder, Codecs, Compression, FinishOptions};
use std::{
    error::Error,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const CONNECTIONS: i32 = 4;
/// Requests of a connection that are on their way.
const IN_FLIGHT: usize = 5;
const VALUE: usize = 100;
const LASTS: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
/// Of all requests.
const VERSION: i16 = 9;

type Fallible<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Fallible {
    let dir = std::env::args_os().nth(1).ok_or("usage: flood_speed DIR")?;
    let dir = PathBuf::from(dir);
    let mut rows = Vec::new();
    for (records, codec) in [
        (20, Compression::None),
        (160, Compression::None),
        (1000, Compression::None),
        (160, Compression::Lz4),
    ] {
        let batch = batch(records, codec)?;
        let mut found = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (loops, found) in [1, 2].into_iter().zip(&mut found) {
                found.push(flood(&dir, loops, &batch)?);
            }
        }
        for (loops, mut found) in [1, 2].into_iter().zip(found) {
            found.sort_by(f64::total_cmp);
            let requests = found[ROUNDS / 2];
            rows.push(format!(
                "{{\"codec\":\"{}\",\"batch_bytes\":{},\"records\":{records},\"loops\":{loops},\"gb_per_s\":{:.4},\"records_per_s\":{:.0}}}",
                codec.name(),
                batch.len(),
                requests * batch.len() as f64 / 1e9,
                requests * records as f64,
            ));
        }
    }
    println!("{{\"floods\":[{}]}}", rows.join(","));
    Ok(())
}

fn batch(records: usize, codec: Compression) -> Fallible<Bytes> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let mut builder = BatchBuilder::new(records * (VALUE + 20));
    let mut noise = 1u64;
    for _ in 0..records {
        // Half of it compresses.
        let mut value = [b'x'; VALUE];
        for byte in &mut value[..VALUE / 2] {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (noise >> 56) as u8;
        }
        builder.append(time, None, Some(&value), &[])?;
    }
    let options = FinishOptions {
        compression: codec,
        ..FinishOptions::default()
    };
    Ok(builder.finish_with(&mut Codecs::new(), &options)?.encoded)
}

/// Requests a second.
fn flood(dir: &Path, loops: usize, batch: &Bytes) -> Fallible<f64> {
    let dir = dir.join("flood");
    let _ = std::fs::remove_dir_all(&dir);
    let mut config = BrokerConfig {
        durability: Durability::Os,
        num_partitions: CONNECTIONS,
        ..BrokerConfig::default()
    };
    // What is written doesn't pile up.
    config.topic_defaults.segment_bytes = 64 << 20;
    config.topic_defaults.retention_bytes = 64 << 20;
    let broker = EmbeddedBroker::open(&Place::Directory(dir.clone()), config)?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let config = ServerConfig {
        threads: loops,
        ..ServerConfig::default()
    };
    let server = Server::start(broker, &[Listener::from(any)], config)?;
    let address = server.local_addrs()[0];
    let mut first = TcpStream::connect(address)?;
    first.write_all(&frame(&metadata())?)?;
    receive(&mut first)?;
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|partition| {
            let request = frame(&produce(partition, batch))?;
            Ok::<_, Box<dyn Error + Send + Sync>>(thread::spawn(move || send(address, &request)))
        })
        .collect::<Result<_, _>>()?;
    let mut per_second = 0.0;
    for connection in connections {
        per_second += connection.join().map_err(|_| "a connection panicked")??;
    }
    server.stop();
    std::fs::remove_dir_all(&dir)?;
    Ok(per_second)
}

fn produce(partition: i32, batch: &Bytes) -> Request {
    Request::Produce(ProduceRequest {
        acks: 1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: "flood".into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Records::from(batch.clone()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    })
}

fn metadata() -> Request {
    Request::Metadata(MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("flood".into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: true,
        ..Default::default()
    })
}

fn frame(request: &Request) -> Fallible<Vec<u8>> {
    let header = RequestHeader {
        request_api_key: request.api_key() as i16,
        request_api_version: VERSION,
        correlation_id: 1,
        client_id: Some(Str::from_static("flood")),
    };
    Ok(encode_request(&header, request)?.concat())
}

fn send(address: SocketAddr, request: &[u8]) -> Fallible<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let began = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while began.elapsed() < LASTS {
        while sent - done < IN_FLIGHT {
            stream.write_all(request)?;
            sent += 1;
        }
        check(receive(&mut stream)?)?;
        done += 1;
    }
    let per_second = done as f64 / began.elapsed().as_secs_f64();
    while done < sent {
        check(receive(&mut stream)?)?;
        done += 1;
    }
    Ok(per_second)
}

fn receive(stream: &mut TcpStream) -> Fallible<Bytes> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer.into())
}

/// An answer that refuses what was sent is no speed.
fn check(answer: Bytes) -> Fallible {
    let (_, response) = decode_response(ApiKey::Produce, VERSION, answer)?;
    let Response::Produce(response) = response else {
        return Err("not the answer to a produce".into());
    };
    match response.responses[0].partition_responses[0].error_code {
        ErrorCode::NONE => Ok(()),
        error => Err(format!("{error:?}").into()),
    }
}
