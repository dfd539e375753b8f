//! Compaction against a model: which records are there after any sequence of appends, compactions, restarts and pauses, and what
//! readers see meanwhile.

mod common;

use bytes::Bytes;
use common::{DIR, now};
use ottla_log::{
    LogConfig, LogError, MemoryStorage, OpenHow, OpenOptions, PartitionLog, SequenceCheck, Storage,
    compaction::{Cleanable, Compacted},
    names::{LOG, SNAPSHOT, file_name},
};
use ottla_record::{
    BatchBuilder, BatchHeader, Batches, Compression, FinishOptions, HEADER_LEN, Limits,
    control::EndTxnMarker,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

const MANY: usize = 1 << 20;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 100,
        compact: true,
        delete_retention_ms: 1000,
        ..LogConfig::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// A batch of these keys and values.
fn batch(
    timestamp: i64,
    records: &[(Option<&str>, Option<&str>)],
    options: &FinishOptions,
) -> (Bytes, BatchHeader) {
    let mut builder = BatchBuilder::new(256);
    for (i, (key, value)) in records.iter().enumerate() {
        builder
            .append(
                timestamp + i as i64,
                key.map(str::as_bytes),
                value.map(str::as_bytes),
                &[ottla_record::Header::new("n", Some(b"1"))],
            )
            .unwrap();
    }
    let done = builder.finish(options).unwrap();
    (done.encoded, done.header)
}

fn append(log: &mut PartitionLog, at: i64, records: &[(Option<&str>, Option<&str>)]) -> i64 {
    append_with(log, at, records, &FinishOptions::default())
}

fn append_with(
    log: &mut PartitionLog,
    at: i64,
    records: &[(Option<&str>, Option<&str>)],
    options: &FinishOptions,
) -> i64 {
    let (bytes, header) = batch(at, records, options);
    log.append(bytes, &header, 3, now(at)).unwrap().base_offset
}

/// All batches from `from` on.
fn batches(
    log: &mut PartitionLog,
    mut from: i64,
    max_bytes: usize,
) -> Vec<ottla_record::RecordBatch> {
    let mut all = Vec::new();
    loop {
        let slice = log.read(from, max_bytes, true, i64::MAX).unwrap();
        if slice.bytes == 0 {
            assert_eq!(from, log.log_end_offset(), "the end is reached");
            return all;
        }
        for batch in Batches::new(slice.chunks) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            from = from.max(batch.header().next_offset());
            all.push(batch);
        }
    }
}

fn records_of(batches: &[ottla_record::RecordBatch], from: i64) -> Vec<Record> {
    let mut found = Vec::new();
    for batch in batches
        .iter()
        .filter(|b| !b.header().attributes.is_control())
    {
        assert_eq!(batch.header().partition_leader_epoch, 3);
        let mut records = batch.records(Limits::default()).unwrap();
        let mut largest = i64::MIN;
        while let Some(record) = records.next_record() {
            let record = record.unwrap();
            largest = largest.max(record.timestamp);
            if record.offset >= from {
                assert_eq!(record.headers.count(), 1);
                found.push(Record {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                });
            }
        }
        if batch.header().record_count > 0 {
            assert_eq!(largest, batch.header().max_timestamp);
        }
    }
    assert!(
        found.windows(2).all(|w| w[0].offset < w[1].offset),
        "in order"
    );
    found
}

fn read(log: &mut PartitionLog, from: i64) -> Vec<Record> {
    let all = batches(log, from, 400);
    records_of(&all, from)
}

fn values(log: &mut PartitionLog) -> Vec<(i64, String)> {
    let start = log.log_start_offset();
    let found = read(log, start).into_iter();
    found
        .map(|r| {
            let value = r
                .value
                .map_or("-".into(), |v| String::from_utf8(v).unwrap());
            (r.offset, value)
        })
        .collect()
}

fn cleanable(log: &mut PartitionLog, checkpoint: i64, at: i64) -> Cleanable {
    let end = log.log_end_offset();
    log.cleanable(Some(checkpoint), end, now(at)).unwrap()
}

fn compact(log: &mut PartitionLog, checkpoint: i64, at: i64) -> Compacted {
    let cleanable = cleanable(log, checkpoint, at);
    log.compact_now(&cleanable, MANY, now(at)).unwrap()
}

fn reopen(storage: &Arc<MemoryStorage>, config: &LogConfig, clean: bool) -> PartitionLog {
    let options = OpenOptions {
        clean,
        ..OpenOptions::default()
    };
    let opened = PartitionLog::open(storage.clone(), DIR, config.clone(), now(0), options).unwrap();
    assert_eq!(opened.1.cut_bytes, 0, "{:?}", opened.1);
    opened.0
}

fn new_log(config: &LogConfig) -> (Arc<MemoryStorage>, PartitionLog) {
    let storage = Arc::new(MemoryStorage::new());
    let log = PartitionLog::create(storage.clone(), DIR, config.clone(), now(0)).unwrap();
    (storage, log)
}

#[test]
fn the_newest_of_each_key_stays() {
    let (storage, mut log) = new_log(&config());
    for i in 0..30 {
        let key = format!("k{}", i % 3);
        let value = format!("v{i}");
        append(
            &mut log,
            100 + i,
            &[(Some(&key), Some(&value)), (Some("same"), Some("x"))],
        );
    }
    log.roll(now(200)).unwrap();
    append(
        &mut log,
        300,
        &[(Some("k0"), Some("in the active segment"))],
    );
    let found = cleanable(&mut log, 0, 300);
    assert_eq!(
        (found.first_dirty_offset, found.first_uncleanable_offset),
        (0, 60)
    );
    assert_eq!((found.clean_bytes, found.dirty_ratio_ppm()), (0, 1_000_000));
    assert!(found.is_due(999_999) && !found.is_due(1_000_000));
    let before = log.size_bytes();
    let done = log.compact_now(&found, MANY, now(300)).unwrap();
    assert_eq!((done.first_dirty_offset, done.keys), (60, 4));
    assert!(done.segments_before > 2 && log.segment_count() == done.segments_after + 1);
    assert!(done.bytes_after < done.bytes_before && log.size_bytes() < before);
    let expected = [
        (54, "v27"),
        (56, "v28"),
        (58, "v29"),
        (59, "x"),
        (60, "in the active segment"),
    ];
    let expected = expected.map(|(offset, value)| (offset, value.to_string()));
    assert_eq!(values(&mut log), expected);
    assert_eq!(log.offset_for_time(0).unwrap(), Some((127, 54)));
    assert_eq!(log.max_timestamp().unwrap(), Some((300, 60)));
    for clean in [false, true] {
        if clean {
            log.close().unwrap();
        }
        drop(log);
        log = reopen(&storage, &config(), clean);
        assert_eq!(values(&mut log), expected);
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 61));
    }
    let again = cleanable(&mut log, 60, 400);
    assert_eq!((again.dirty_bytes, again.dirty_ratio_ppm()), (0, 0));
    assert!(!again.is_due(0));
}

#[test]
fn what_is_replaced_keeps_its_name_for_a_while() {
    let (storage, mut log) = new_log(&config());
    for i in 0..30 {
        append(&mut log, i, &[(Some("k"), Some("a value of some length"))]);
    }
    let names = |storage: &MemoryStorage, suffix: &str| {
        let entries = storage.list(DIR).unwrap().into_iter();
        entries.filter(|e| e.name.ends_with(suffix)).count()
    };
    let segments = log.segment_count();
    assert!(segments > 2);
    let slice = log.read(0, 1 << 20, true, i64::MAX).unwrap();
    compact(&mut log, 0, 100);
    assert_eq!(log.segment_count(), segments, "they were full");
    assert_eq!(names(&storage, ".log.deleted"), segments - 1);
    assert_eq!(
        (names(&storage, ".swap"), names(&storage, ".cleaned")),
        (0, 0)
    );
    let held: usize = slice.chunks.iter().map(Bytes::len).sum();
    assert_eq!(held, slice.bytes, "a reader keeps what it has");
    let due = log.remove_deleted(now(100)).unwrap();
    assert_eq!(due, Some(60_100_000));
    assert_eq!(log.remove_deleted(now(60_099)).unwrap(), due);
    assert!(names(&storage, ".deleted") > 0);
    assert_eq!(log.remove_deleted(now(60_100)).unwrap(), None);
    assert_eq!(names(&storage, ".deleted"), 0);
    // And when it is opened again nothing is left in any case.
    compact(&mut log, 0, 100);
    assert_eq!(log.segment_count(), 2, "now they fit into one");
    assert!(names(&storage, ".deleted") > 0);
    drop(log);
    reopen(&storage, &config(), true);
    assert_eq!(names(&storage, ".deleted"), 0);
}

#[test]
fn tombstones_stay_until_their_horizon() {
    let (storage, mut log) = new_log(&config());
    append(
        &mut log,
        1,
        &[(Some("a"), Some("1")), (Some("b"), Some("1"))],
    );
    append(&mut log, 2, &[(Some("a"), None), (Some("b"), Some("2"))]);
    log.roll(now(2)).unwrap();
    append(&mut log, 3, &[(Some("c"), Some("1"))]);
    let two = [(2, "-".to_string()), (3, "2".into()), (4, "1".into())];
    assert_eq!(compact(&mut log, 0, 5000).first_dirty_offset, 4);
    assert_eq!(values(&mut log), two);
    let all = batches(&mut log, 0, 1 << 20);
    assert_eq!(all[0].header().delete_horizon(), Some(6000));
    assert_eq!(records_of(&all, 0)[0].timestamp, 2, "times don't change");
    // Before the horizon it stays however often it is looked at, and the horizon doesn't move.
    log.roll(now(5500)).unwrap();
    append(&mut log, 5500, &[(Some("d"), Some("1"))]);
    log.close().unwrap();
    let mut log = reopen(&storage, &config(), true);
    compact(&mut log, 4, 5999);
    assert_eq!(values(&mut log)[..3], two);
    log.roll(now(6000)).unwrap();
    append(&mut log, 6000, &[(Some("e"), Some("1"))]);
    compact(&mut log, 5, 6000);
    assert_eq!(values(&mut log)[0], (3, "2".to_string()), "now it is gone");
}

#[test]
fn lags() {
    let limits = LogConfig {
        min_compaction_lag_ms: 500,
        max_compaction_lag_ms: 2000,
        ..config()
    };
    let (_, mut log) = new_log(&limits);
    append(&mut log, 1000, &[(Some("a"), Some("1"))]);
    append(&mut log, 1100, &[(Some("a"), Some("2"))]);
    log.roll(now(1100)).unwrap();
    append(&mut log, 1200, &[(Some("a"), Some("3"))]);
    let found = cleanable(&mut log, 0, 1599);
    assert_eq!((found.dirty_bytes, found.look_again_ms), (0, Some(1600)));
    let found = cleanable(&mut log, 0, 1600);
    assert_eq!(found.first_uncleanable_offset, 2);
    assert!(!found.is_overdue && found.is_due(0));
    assert_eq!(found.look_again_ms, Some(3001));
    assert!(!cleanable(&mut log, 0, 3000).is_overdue);
    let found = cleanable(&mut log, 0, 3001);
    assert!(found.is_overdue && found.is_due(1_000_000));
    assert_eq!(log.segment_count(), 2);
    // The last segment's records wait too: it is closed for them.
    let found = cleanable(&mut log, 2, 3201);
    assert_eq!(log.segment_count(), 3);
    assert!(found.is_overdue && found.dirty_bytes > 0);
    assert_eq!(found.first_uncleanable_offset, 3);
    log.compact_now(&found, MANY, now(3201)).unwrap();
    // Appends close a segment before it gets too old.
    append(&mut log, 4000, &[(Some("a"), Some("4"))]);
    append(&mut log, 6001, &[(Some("a"), Some("5"))]);
    assert_eq!(log.segment_count(), 3);
}

#[test]
fn what_is_not_committed_is_left_alone() {
    let (_, mut log) = new_log(&config());
    for i in 0..30 {
        append(&mut log, i, &[(Some("k"), Some("a value of some length"))]);
    }
    let end = log.log_end_offset();
    assert!(
        log.cleanable(None, end, now(0))
            .unwrap()
            .first_uncleanable_offset
            > 7
    );
    let found = log.cleanable(None, 15, now(0)).unwrap();
    assert!(found.first_uncleanable_offset <= 15 && found.first_uncleanable_offset > 0);
    log.compact_now(&found, MANY, now(0)).unwrap();
    assert!(values(&mut log).len() > 20);
    // A checkpoint that can't be is none.
    for wrong in [-5, 31, i64::MAX] {
        assert_eq!(cleanable(&mut log, wrong, 0).first_dirty_offset, 0);
    }
}

#[test]
fn a_full_map_leaves_the_rest_for_later() {
    let (_, mut log) = new_log(&config());
    for i in 0..40 {
        let key = format!("k{}", i % 20);
        append(
            &mut log,
            i,
            &[(Some(&key), Some("1")), (Some("same"), Some("2"))],
        );
    }
    log.roll(now(0)).unwrap();
    let mut checkpoint = 0;
    let mut rounds = 0;
    loop {
        let found = cleanable(&mut log, checkpoint, 0);
        if !found.is_due(0) {
            break;
        }
        let done = log.compact_now(&found, 10 * 24, now(0)).unwrap();
        assert!(done.first_dirty_offset > checkpoint && done.keys <= 9);
        checkpoint = done.first_dirty_offset;
        rounds += 1;
    }
    assert!(rounds > 3, "{rounds}");
    assert_eq!(values(&mut log).len(), 21);
}

#[test]
fn sequences_survive() {
    let producer = |id: i64, sequence: i32| FinishOptions {
        producer_id: id,
        producer_epoch: 1,
        base_sequence: sequence,
        ..FinishOptions::default()
    };
    let (storage, mut log) = new_log(&config());
    append_with(&mut log, 1, &[(Some("a"), Some("old"))], &producer(7, 0));
    append_with(
        &mut log,
        2,
        &[(Some("a"), Some("old")), (Some("b"), Some("old"))],
        &producer(7, 1),
    );
    append_with(&mut log, 3, &[(Some("a"), Some("old"))], &producer(8, 5));
    append(
        &mut log,
        4,
        &[(Some("a"), Some("new")), (Some("b"), Some("new"))],
    );
    log.roll(now(4)).unwrap();
    compact(&mut log, 0, 10);
    let kept = batches(&mut log, 0, 1 << 20);
    assert_eq!(
        kept.iter()
            .map(|b| (
                b.header().base_offset,
                b.header().record_count,
                b.header().base_sequence
            ))
            .collect::<Vec<_>>(),
        [(1, 0, 1), (3, 0, 5), (4, 2, -1)],
        "the last batch of each producer stays, empty"
    );
    assert_eq!(kept[0].size_in_bytes(), HEADER_LEN);
    drop(log);
    for entry in storage.list(DIR).unwrap() {
        if entry.name.ends_with(SNAPSHOT) {
            storage
                .remove_file(&format!("{DIR}/{}", entry.name))
                .unwrap();
        }
    }
    let mut log = reopen(&storage, &config(), false);
    for (id, next) in [(7, 3), (8, 6)] {
        let (_, header) = batch(0, &[(Some("x"), None)], &producer(id, next));
        assert_eq!(
            log.producers().check(&header),
            SequenceCheck::Accept,
            "{id}"
        );
        let (_, header) = batch(0, &[(Some("x"), None)], &producer(id, next + 1));
        assert_eq!(
            log.producers().check(&header),
            SequenceCheck::OutOfOrder { expected: next }
        );
    }
    // An idle producer is forgotten, and so are its batches.
    log.expire_producers(now(200 * 3_600_000));
    append(&mut log, 5, &[(Some("c"), Some("1"))]);
    log.roll(now(5)).unwrap();
    compact(&mut log, 6, 20);
    let kept = batches(&mut log, 0, 1 << 20);
    assert_eq!(
        kept.iter()
            .map(|b| b.header().base_offset)
            .collect::<Vec<_>>(),
        [4, 6]
    );
}

/// What is under way when the broker dies is sent again: as many as five batches, of which a compaction keeps the last one only.
#[test]
fn five_batches_are_recognised_though_a_compaction_took_their_records() {
    // Without the snapshot a power cut has taken it, before the compaction.
    for case in 0..8 {
        let (roll_again, with_end_mark, with_snapshot) = (case & 1 > 0, case & 2 > 0, case & 4 > 0);
        let producer = |sequence: i32| FinishOptions {
            producer_id: 7,
            producer_epoch: 1,
            base_sequence: sequence,
            ..FinishOptions::default()
        };
        let (storage, mut log) = new_log(&config());
        append(&mut log, 1, &[(Some("b"), Some("before"))]);
        log.roll(now(1)).unwrap();
        let first = log.log_end_offset();
        for i in 0..5 {
            append_with(
                &mut log,
                2 + i64::from(i),
                &[(Some("a"), Some("x"))],
                &producer(i),
            );
        }
        append(&mut log, 8, &[(Some("a"), Some("newest"))]);
        log.roll(now(8)).unwrap();
        if roll_again {
            append(&mut log, 9, &[(Some("c"), Some("x"))]);
            log.roll(now(9)).unwrap();
        }
        let name = |offset| format!("{DIR}/{}", file_name(offset, SNAPSHOT));
        if !with_snapshot {
            storage.remove_file(&name(first + 6)).unwrap();
            _ = storage.remove_file(&name(first + 7));
        }
        if with_end_mark {
            let job = log.sync_targets().unwrap().unwrap();
            job.run().unwrap();
            log.mark_synced(job.up_to);
        }
        compact(&mut log, 0, 10);
        let kept = batches(&mut log, first, 1 << 20);
        assert_eq!(kept[0].header().base_sequence, 4, "the others are gone");
        drop(log);
        let log = reopen(&storage, &config(), false);
        for i in 0..5 {
            let (_, header) = batch(0, &[(Some("a"), Some("x"))], &producer(i));
            assert!(
                matches!(log.producers().check(&header), SequenceCheck::Duplicate { base_offset, .. }
                    if base_offset == first + i64::from(i)),
                "{i}, case {case}: {:?}",
                log.producers().check(&header)
            );
        }
        let (_, next) = batch(0, &[(Some("a"), Some("x"))], &producer(5));
        assert_eq!(log.producers().check(&next), SequenceCheck::Accept);
    }
}

fn transactional(id: i64, sequence: i32) -> FinishOptions {
    FinishOptions {
        producer_id: id,
        producer_epoch: 0,
        base_sequence: sequence,
        transactional: true,
        ..FinishOptions::default()
    }
}

fn end(log: &mut PartitionLog, id: i64, committed: bool) -> i64 {
    let marker = EndTxnMarker {
        committed,
        coordinator_epoch: 0,
    };
    let bytes = marker.to_batch(id, 0, 50, 0, 0).unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    log.append(bytes, &header, 3, now(50)).unwrap().base_offset
}

#[test]
fn aborted_data_goes_and_markers_follow() {
    let (_, mut log) = new_log(&config());
    append(
        &mut log,
        1,
        &[(Some("a"), Some("plain")), (Some("b"), Some("plain"))],
    ); // 0, 1
    append_with(
        &mut log,
        2,
        &[(Some("a"), Some("aborted"))],
        &transactional(1, 0),
    ); // 2
    append_with(
        &mut log,
        2,
        &[(Some("b"), Some("committed"))],
        &transactional(2, 0),
    ); // 3
    assert_eq!(end(&mut log, 2, true), 4);
    log.roll(now(0)).unwrap();
    append_with(
        &mut log,
        2,
        &[(Some("c"), Some("undecided"))],
        &transactional(2, 1),
    ); // 5
    log.roll(now(0)).unwrap();
    // The marker of what was aborted lies beyond what is cleaned; that of the other transaction isn't there at all.
    assert_eq!(end(&mut log, 1, false), 6);
    let done = compact(&mut log, 0, 100);
    assert_eq!(
        done.first_dirty_offset, 5,
        "no further than what is decided"
    );
    let expected = [(0, "plain"), (3, "committed"), (5, "undecided")];
    assert_eq!(values(&mut log), expected.map(|(o, v)| (o, v.to_string())));

    assert_eq!(end(&mut log, 2, false), 7);
    append(&mut log, 9, &[(Some("b"), Some("later"))]); // 8
    log.roll(now(0)).unwrap();
    let done = compact(&mut log, 5, 200);
    assert_eq!(done.first_dirty_offset, 9);
    let expected = [(0, "plain".to_string()), (8, "later".into())];
    assert_eq!(values(&mut log), expected);
    let kept = |log: &mut PartitionLog| -> Vec<(i64, i32, Option<i64>)> {
        let all = batches(log, 0, 1 << 20);
        all.iter()
            .map(|b| {
                (
                    b.header().base_offset,
                    b.header().record_count,
                    b.header().delete_horizon(),
                )
            })
            .collect()
    };
    // 2 and 5 are the last batches of their producers and stay for their sequences; so do their markers. 4 had its data until
    // now.
    let first = kept(&mut log);
    assert_eq!(
        first.iter().map(|b| b.0).collect::<Vec<_>>(),
        [0, 2, 4, 5, 6, 7, 8]
    );
    assert_eq!((first[1].1, first[3].1), (0, 0));

    // Once the producers are forgotten their batches go, then the markers get a horizon, then they go.
    log.expire_producers(now(200 * 3_600_000));
    let mut checkpoint = 9;
    let mut round = |log: &mut PartitionLog, at: i64| {
        append(log, 10, &[(Some("z"), Some("z"))]);
        log.roll(now(0)).unwrap();
        checkpoint = compact(log, checkpoint, at).first_dirty_offset;
    };
    round(&mut log, 300);
    let after = kept(&mut log);
    assert_eq!(
        after[..2],
        [(0, 1, None), (4, 1, Some(1300))],
        "4 has no data any more"
    );
    assert_eq!(
        after[2..5].iter().map(|b| b.0).collect::<Vec<_>>(),
        [6, 7, 8]
    );
    round(&mut log, 400);
    let after = kept(&mut log);
    assert_eq!(
        after[1..4],
        [(4, 1, Some(1300)), (6, 1, Some(1400)), (7, 1, Some(1400))]
    );
    round(&mut log, 1399);
    assert_eq!(
        kept(&mut log)[1..3],
        [(6, 1, Some(1400)), (7, 1, Some(1400))]
    );
    round(&mut log, 1400);
    assert_eq!(kept(&mut log)[..2], [(0, 1, None), (8, 1, None)]);
}

/// A map that is full in the middle of a segment leaves the rest of it for later, but its `.txnindex` goes now: no aborted record
/// of that rest may be seen after a restart.
#[test]
fn aborted_data_beyond_a_full_map_is_not_seen() {
    let abort = |log: &mut PartitionLog, id: i64| {
        let marker = EndTxnMarker {
            committed: false,
            coordinator_epoch: 0,
        };
        log.append_marker(marker, id, 0, 3, now(50)).unwrap();
    };
    for plain_first in [false, true] {
        let (storage, mut log) = new_log(&LogConfig {
            segment_bytes: 100_000,
            ..config()
        });
        for i in 0..20 {
            let key = format!("k{}", i % 10);
            if plain_first || i % 4 != 1 {
                append(&mut log, i, &[(Some(&key), Some("plain"))]);
            } else {
                let sequence = i as i32 / 4;
                append_with(
                    &mut log,
                    i,
                    &[(Some(&key), Some("aborted"))],
                    &transactional(1, sequence),
                );
                abort(&mut log, 1);
            }
        }
        append_with(
            &mut log,
            30,
            &[(Some("k1"), Some("aborted"))],
            &transactional(2, 0),
        );
        abort(&mut log, 2);
        log.roll(now(40)).unwrap();
        append(&mut log, 41, &[(Some("k"), Some("plain"))]);
        let found = cleanable(&mut log, 0, 41);
        let done = log.compact_now(&found, 6 * 24, now(41)).unwrap();
        assert!(done.first_dirty_offset < 10, "the map was full: {done:?}");
        log.close().unwrap();
        drop(log);
        let mut log = reopen(&storage, &config(), true);
        let seen: Vec<i64> = values(&mut log)
            .into_iter()
            .filter(|(_, value)| value == "aborted")
            .map(|(offset, _)| offset)
            .collect();
        let end = log.log_end_offset();
        for offset in seen {
            let aborted: Vec<_> = log.aborted_transactions(0, end).collect();
            assert!(
                aborted
                    .iter()
                    .any(|row| (row.first_offset..=row.last_offset).contains(&offset)),
                "{offset} is seen, {aborted:?}"
            );
        }
    }
}

/// A consumer skips a producer's batches from where an aborted transaction begins up to its marker. Where compaction has taken the
/// marker it must not be told of the transaction.
#[test]
fn no_aborted_transaction_outlives_its_marker() {
    let (_, mut log) = new_log(&config());
    for (sequence, committed) in [(0, false), (1, true)] {
        let value = if committed { "committed" } else { "aborted" };
        append_with(
            &mut log,
            1,
            &[(Some(value), Some(value))],
            &transactional(1, sequence),
        );
        let marker = EndTxnMarker {
            committed,
            coordinator_epoch: 0,
        };
        log.append_marker(marker, 1, 0, 3, now(50)).unwrap();
    }
    assert_eq!(log.aborted_transactions(0, 4).count(), 1);
    for at in [100, 200, 3000, 6000] {
        append(&mut log, at, &[(Some("k"), Some("v"))]);
        log.roll(now(at)).unwrap();
        append(&mut log, at, &[(Some("k"), Some("v"))]);
        compact(&mut log, 0, at);
    }
    let all = batches(&mut log, 0, 1 << 20);
    let has = |offset| all.iter().any(|b| b.header().base_offset == offset);
    assert!(!has(0) && !has(1) && has(2) && has(3));
    let end = log.log_end_offset();
    assert_eq!(log.aborted_transactions(0, end).count(), 0);
}

#[test]
fn a_damaged_batch_stops_it_and_nothing_is_lost() {
    for at in [0, 17, 30, 61, 70] {
        let (storage, mut log) = new_log(&config());
        for i in 0..30 {
            append(&mut log, i, &[(Some("k"), Some("a value of some length"))]);
        }
        log.close().unwrap();
        let before = values(&mut log).len();
        let second = {
            let slice = log.read(0, 1, true, i64::MAX).unwrap();
            slice.bytes as u64
        };
        // The log file is open, as it is in a broker: the damage is noticed by reading.
        let path = format!("{DIR}/{}", file_name(0, LOG));
        let mut file = storage.open(&path, OpenHow::Existing).unwrap();
        let byte = file.read_exact(second + at, 1).unwrap()[0];
        file.write_at(second + at, &[byte ^ 0x55]).unwrap();
        let found = cleanable(&mut log, 0, 100);
        let size = log.size_bytes();
        let error = log.compact_now(&found, MANY, now(100)).unwrap_err();
        assert!(
            matches!(&error, LogError::Corrupt { place, .. } if place.contains(&path))
                || matches!(&error, LogError::Damaged(what) if what.contains(&path)),
            "{at}: {error}"
        );
        assert_eq!((log.size_bytes(), log.stopped()), (size, None));
        assert!(!log.is_compacting());
        file.write_at(second + at, &[byte]).unwrap();
        assert_eq!(values(&mut log).len(), before, "nothing was touched");
        assert!(
            !storage
                .list(DIR)
                .unwrap()
                .iter()
                .any(|e| e.name.ends_with(".cleaned"))
        );
        compact(&mut log, 0, 100);
    }
}

#[test]
fn retention_waits_for_a_compaction_and_truncation_ends_it() {
    let (_, mut log) = new_log(&LogConfig {
        retention_ms: 10,
        ..config()
    });
    for i in 0..30 {
        append(&mut log, i, &[(Some("k"), Some("a value of some length"))]);
    }
    let found = cleanable(&mut log, 0, 1000);
    let mut compaction = log.compact(&found, MANY, 5, now(1000)).unwrap();
    assert_eq!(log.delete_old_segments(now(1000), i64::MAX).unwrap(), 0);
    log.advance_start(15).unwrap();
    assert!(log.read(14, 1, true, 99).is_err());
    while !compaction.wants_log() {
        compaction.step(1).unwrap();
    }
    log.truncate_to(20, now(1000)).unwrap();
    log.install(&mut compaction).unwrap();
    assert_eq!(
        compaction.finished().map(|done| done.first_dirty_offset),
        Some(0)
    );
    assert!(!log.is_compacting());
    assert_eq!(log.log_end_offset(), 20);
    assert_eq!(read(&mut log, 15).len(), 5);
    assert!(log.delete_old_segments(now(1000), i64::MAX).unwrap() > 0);
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys, each with or without a value; key 0 is none.
    Append(Vec<(u8, bool)>, u8),
    Roll,
    Wait(u16),
    Reopen {
        clean: bool,
    },
    Start(u8),
    Compact {
        keys: u8,
        budget: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (prop::collection::vec((0u8..12, prop::bool::weighted(0.8)), 1..8), 0u8..8).prop_map(|(r, codec)| Step::Append(r, codec)),
        2 => Just(Step::Roll),
        1 => (0u16..1500).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
        1 => any::<u8>().prop_map(Step::Start),
        4 => (1u8..20, 1u16..3000).prop_map(|(keys, budget)| Step::Compact { keys, budget }),
    ]
}

/// A record, the base and last offset of its batch.
type Known = (Record, i64, i64);

/// What a compaction up to `end` at `at` leaves, and the horizons that it sets.
fn cleaned(model: &[Known], horizons: &mut BTreeMap<i64, i64>, end: i64, at: i64) -> Vec<Known> {
    let newest: BTreeMap<_, _> = model
        .iter()
        .filter(|(r, ..)| r.offset < end)
        .map(|(r, ..)| (r.key.clone(), r.offset))
        .collect();
    let left: Vec<Known> = model
        .iter()
        .filter(|(r, batch, _)| {
            let tombstone_goes = r.value.is_none() && horizons.get(batch).is_some_and(|h| *h <= at);
            r.offset >= end || r.key.is_some() && newest[&r.key] == r.offset && !tombstone_goes
        })
        .cloned()
        .collect();
    for (record, batch, last) in &left {
        if record.value.is_none() && *last < end {
            horizons.entry(*batch).or_insert(at + 1000);
        }
    }
    left
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn behaves_like_the_model(steps in prop::collection::vec(step(), 1..80), segment_bytes in 300u64..2500) {
        let config = LogConfig { segment_bytes, ..config() };
        let (storage, mut log) = new_log(&config);
        let mut model: Vec<Known> = Vec::new();
        let mut horizons = BTreeMap::new();
        let (mut at, mut checkpoint, mut start) = (1000i64, 0, 0);
        for step in steps {
            match step {
                Step::Append(records, codec) => {
                    let keys: Vec<String> = records.iter().map(|(key, _)| format!("key {key}")).collect();
                    let value = format!("value at {at} with something that can be compressed: {}", "x".repeat(20));
                    let records: Vec<_> = records.iter().zip(&keys)
                        .map(|((n, full), key)| ((*n > 0).then_some(&**key), full.then_some(&*value)))
                        .collect();
                    let options = FinishOptions {
                        compression: Compression::from_attributes(i16::from(codec)).unwrap_or_default(),
                        ..FinishOptions::default()
                    };
                    let (bytes, header) = batch(at, &records, &options);
                    let base = match log.append(bytes, &header, 3, now(at)) {
                        Ok(done) => done.base_offset,
                        Err(LogError::BatchTooLarge { .. }) => continue,
                        Err(error) => return Err(TestCaseError::fail(error.to_string())),
                    };
                    let last = log.log_end_offset() - 1;
                    for (i, (key, value)) in records.iter().enumerate() {
                        let record = Record {
                            offset: base + i as i64,
                            timestamp: at + i as i64,
                            key: key.map(Into::into),
                            value: value.map(Into::into),
                        };
                        model.push((record, base, last));
                    }
                    at += 10;
                }
                Step::Roll => log.roll(now(at)).unwrap(),
                Step::Wait(ms) => at += i64::from(ms),
                Step::Reopen { clean } => {
                    if clean {
                        log.close().unwrap();
                    }
                    drop(log);
                    let options = OpenOptions { clean, recovery_point: 0, log_start_offset: start };
                    let opened = PartitionLog::open(storage.clone(), DIR, config.clone(), now(at), options).unwrap();
                    prop_assert_eq!(opened.1.reason, None);
                    log = opened.0;
                }
                Step::Start(part) => {
                    start = start.max(log.log_end_offset() * i64::from(part) / 255 / 4);
                    log.advance_start(start).unwrap();
                }
                Step::Compact { keys, budget } => {
                    let found = cleanable(&mut log, checkpoint, at);
                    let mut compaction = log.compact(&found, usize::from(keys) * 24, 77, now(at)).unwrap();
                    let old: Vec<Record> = model.iter().map(|(r, ..)| r.clone()).filter(|r| r.offset >= start).collect();
                    let mut seen = Vec::new();
                    while compaction.finished().is_none() {
                        if compaction.wants_log() {
                            log.install(&mut compaction).unwrap();
                        } else {
                            compaction.step(u64::from(budget)).unwrap();
                        }
                        // A reader somewhere in the middle, whatever is being replaced.
                        let from = start + (log.log_end_offset() - start) * i64::from(budget) / 3000;
                        seen.push((from, read(&mut log, from)));
                    }
                    let done = compaction.finished().unwrap();
                    prop_assert!(!log.is_compacting());
                    prop_assert!(done.first_dirty_offset >= found.first_dirty_offset);
                    if found.dirty_bytes > 0 {
                        prop_assert!(done.first_dirty_offset > found.first_dirty_offset);
                        model = cleaned(&model, &mut horizons, done.first_dirty_offset, at);
                    }
                    checkpoint = done.first_dirty_offset;
                    let new: Vec<&Record> = model.iter().map(|(r, ..)| r).collect();
                    for (from, seen) in seen {
                        let may: Vec<&Record> = old.iter().filter(|r| r.offset >= from).collect();
                        prop_assert!(seen.iter().all(|r| may.contains(&r)));
                        let must: Vec<_> = new.iter().filter(|r| r.offset >= from.max(start)).collect();
                        prop_assert!(must.iter().all(|r| seen.contains(r)), "from {}", from);
                    }
                }
            }
            let expected: Vec<Record> = model.iter().map(|(r, ..)| r.clone()).filter(|r| r.offset >= start).collect();
            prop_assert_eq!(read(&mut log, start), expected.clone());
            let middle = start + (log.log_end_offset() - start) / 2;
            let behind: Vec<Record> = expected.into_iter().filter(|r| r.offset >= middle).collect();
            prop_assert_eq!(read(&mut log, middle), behind);
        }
    }
}
