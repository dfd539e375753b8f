//! Prints what a record costs, next to what the machine can do at best with the same bytes.
//!
//! `cargo run --release -p ottla-record --example record_speed`

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use ottla_record::{
    BatchBuilder, Codecs, Compression, FinishOptions, Header, Limits, RecordBatch, RecordIter,
    ValidationRules, crc32c, crc32c_combine, validate_batch,
};

const RUNS: usize = 15;

/// The best of some runs, each of about 10 ms, in nanoseconds per unit of `work`. The best, because whatever else runs on
/// the machine only adds.
fn measure(units: usize, mut work: impl FnMut()) -> f64 {
    let once = {
        work();
        let start = Instant::now();
        work();
        start.elapsed().as_nanos().max(1) as usize
    };
    let rounds = (10_000_000 / once).max(1);
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..rounds {
                work();
            }
            start.elapsed().as_nanos() as f64 / (rounds * units) as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[0]
}

fn encode(
    count: usize,
    buffer: Vec<u8>,
    key: Option<&[u8]>,
    value: &[u8],
    headers: &[Header<'_>],
    running_crc: bool,
) -> BatchBuilder {
    let mut builder = BatchBuilder::with_buffer(buffer);
    if !running_crc {
        builder = builder.without_running_crc();
    }
    for i in 0..count {
        builder
            .append(
                1_700_000_000_000 + i as i64 / 8,
                key,
                Some(black_box(value)),
                headers,
            )
            .expect("fits");
    }
    builder
}

fn row(name: &str, figures: &[f64]) {
    print!("{name:<44}");
    for figure in figures {
        print!("{figure:>10.1}");
    }
    println!();
}

fn main() {
    let value = [b'v'; 100];
    let large = [b'v'; 1000];
    let key = [b'k'; 16];
    let headers = [
        Header::new("trace", Some(b"0123456789abcdef")),
        Header::new("kind", Some(b"order")),
    ];
    let counts = [1usize, 10, 100, 1000, 9000];
    let options = FinishOptions::default();

    println!("ns per record, best of {RUNS} runs; records per batch:");
    row("", &counts.map(|count| count as f64));
    type Case<'a> = (&'a str, Option<&'a [u8]>, &'a [u8], &'a [Header<'a>]);
    let cases: [Case<'_>; 4] = [
        ("100 B", None, &value, &[]),
        ("100 B, 16 B key", Some(&key), &value, &[]),
        ("100 B, key, 2 headers", Some(&key), &value, &headers),
        ("1000 B", None, &large, &[]),
    ];
    for (name, key, value, headers) in cases {
        let mut rows: [Vec<f64>; 7] = Default::default();
        for count in counts {
            let batch = encode(count, Vec::new(), key, value, headers, true)
                .finish(&options)
                .expect("built");
            let plain = batch.plain.clone();
            let mut spare = vec![0; batch.encoded.len() + 64];

            rows[0].push(measure(count, || {
                let builder = encode(count, std::mem::take(&mut spare), key, value, headers, true);
                let finished = builder.finish(&options).expect("built");
                let encoded = black_box(finished.encoded);
                drop(finished.plain);
                spare = Vec::from(encoded.try_into_mut().expect("the only owner"));
            }));
            rows[1].push(measure(count, || {
                let builder = encode(
                    count,
                    std::mem::take(&mut spare),
                    key,
                    value,
                    headers,
                    false,
                );
                spare = builder.into_buffer();
            }));
            rows[2].push(measure(count, || {
                let builder = encode(count, Vec::new(), key, value, headers, true);
                black_box(builder.finish(&options).expect("built"));
            }));
            rows[3].push(measure(count, || {
                let mut records = RecordIter::new(&batch.header, plain.clone()).expect("sound");
                while let Some(record) = records.next_record() {
                    black_box(&record.expect("sound"));
                }
            }));
            let rules = ValidationRules::default();
            let mut codecs = Codecs::new();
            rows[4].push(measure(count, || {
                let validated = validate_batch(batch.encoded.clone(), &mut codecs, &rules);
                black_box(validated.expect("sound"));
            }));
            let mut copy = vec![0u8; batch.encoded.len()];
            rows[5].push(measure(count, || {
                copy.copy_from_slice(black_box(&batch.encoded));
                black_box(&mut copy);
            }));
            rows[6].push(measure(count, || {
                black_box(crc32c(black_box(&batch.encoded)));
            }));
        }
        println!("\n{name}");
        row("  encode, buffer reused, with checksum", &rows[0]);
        row("  encode, buffer reused, no checksum", &rows[1]);
        row("  encode, new growing buffer, with checksum", &rows[2]);
        row("  decode", &rows[3]);
        row("  validate, with checksum", &rows[4]);
        row("  the machine: copy the batch", &rows[5]);
        row("  the machine: checksum of the batch", &rows[6]);
    }

    println!("\nonce per batch, ns");
    let combine = measure(1, || {
        black_box(crc32c_combine(
            black_box(1),
            black_box(2),
            black_box(123_456),
        ));
    });
    row("  join two checksums", &[combine]);

    println!("\ncodecs on 1000 records like log lines: MB/s to compress, to decompress, ratio");
    let lines: Vec<Vec<u8>> = (0..1000u32)
        .map(|i| {
            format!(
                "2026-11-21 08:{:02}:{:02} status installed lib{:08x}:amd64 {}.{}-{}",
                i / 60 % 60,
                i % 60,
                i.wrapping_mul(2_654_435_761),
                i % 17,
                i % 5,
                i % 3
            )
            .into_bytes()
        })
        .collect();
    let mut codecs = Codecs::new();
    for codec in Compression::ALL {
        if codec == Compression::None || !codec.is_built() {
            continue;
        }
        let mut builder = BatchBuilder::new(1 << 17);
        for line in &lines {
            builder.append(1, None, Some(line), &[]).expect("fits");
        }
        let plain = Bytes::copy_from_slice(builder.plain());
        let finished = builder
            .finish_with(
                &mut codecs,
                &FinishOptions {
                    compression: codec,
                    ..options
                },
            )
            .expect("built");
        let batch = RecordBatch::parse(finished.encoded).expect("sound");
        let mut out = Vec::new();
        let compress = measure(plain.len(), || {
            out.clear();
            codecs
                .compress(codec, None, &plain, &mut out)
                .expect("compresses");
        });
        let decompress = measure(plain.len(), || {
            let plain = batch.plain(&mut codecs, Limits::default());
            black_box(plain.expect("sound"));
        });
        let ratio = batch.body().len() as f64 / plain.len() as f64;
        println!(
            "  {:<42}{:>10.0}{:>10.0}{ratio:>10.2}",
            codec.name(),
            1000.0 / compress,
            1000.0 / decompress
        );
    }
}
