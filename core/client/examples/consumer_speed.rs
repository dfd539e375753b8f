//! What consuming costs per record: decoding alone, and through `Fetched`.
//!
//! `cargo run --release -p ottla-client --example consumer_speed`

use bytes::Bytes;
use ottla_client::consumer::Fetched;
use ottla_protocol::Records;
use ottla_record::{BatchBuilder, Batches, Compression, FinishOptions, Limits};
use std::hint::black_box;
use std::time::Instant;

const RECORDS_PER_BATCH: i64 = 150;
const BATCHES: i64 = 60;

/// A fetch answer of about a megabyte: 100-byte values in batches of 16 KiB, header and body apart as memory logs have them.
fn answer(compression: Compression) -> Vec<Bytes> {
    let value = [b'v'; 100];
    let mut chunks = Vec::new();
    for batch in 0..BATCHES {
        let mut builder = BatchBuilder::new(20_000);
        for i in 0..RECORDS_PER_BATCH {
            builder
                .append(1_700_000_000_000 + i, None, Some(&value), &[])
                .expect("fits");
        }
        let options = FinishOptions {
            base_offset: batch * RECORDS_PER_BATCH,
            leader_epoch: 0,
            compression,
            ..Default::default()
        };
        let encoded = builder.finish(&options).expect("valid").encoded;
        chunks.push(encoded.slice(..61));
        chunks.push(encoded.slice(61..));
    }
    chunks
}

/// The median of nanoseconds per record over several rounds.
fn measure(mut round: impl FnMut() -> u64) -> f64 {
    let mut figures: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            let mut records = 0;
            for _ in 0..100 {
                records += round();
            }
            start.elapsed().as_nanos() as f64 / records as f64
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let chunks = answer(compression);
        let decoding = measure(|| {
            let mut count = 0;
            for batch in Batches::new(chunks.iter().cloned()) {
                let mut records = batch
                    .expect("valid")
                    .records(Limits::default())
                    .expect("valid");
                while let Some(record) = records.next_record() {
                    black_box(record.expect("valid").value);
                    count += 1;
                }
            }
            count
        });
        let through = |check_crcs| {
            measure(|| {
                let records: Records = chunks.iter().cloned().collect();
                let mut fetched = Fetched::from_records("t", 0, records, 0, check_crcs);
                let mut count = 0;
                while let Some(record) = fetched.next_record() {
                    black_box(record.expect("valid").value);
                    count += 1;
                }
                count
            })
        };
        println!(
            "{compression:>6}: decoding {decoding:5.1} ns/record, Fetched {:5.1}, with check.crcs {:5.1}",
            through(false),
            through(true)
        );
    }
}
