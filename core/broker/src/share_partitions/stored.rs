//! The state of a share partition as `__share_group_state` holds it: snapshots and updates, byte for byte as Kafka writes them.
//!
//! The topic is not compacted. A snapshot has everything; an update has what changed since, under the snapshot's epoch; after
//! [`UPDATES_PER_SNAPSHOT`] updates comes the next snapshot, so that what lies before it is not needed any more.

use bytes::Bytes;
use ottla_protocol::{
    Str, Uuid, VersionedMessage,
    messages::{
        ShareSnapshotKey, ShareSnapshotValue, ShareUpdateKey, ShareUpdateValue,
        share_snapshot_value, share_update_value,
    },
};

use super::{
    in_flight::{AVAILABLE, StateBatch},
    spans::Spans,
};
use crate::groups::CoordinatorRecord;

/// `share.coordinator.snapshot.update.records.per.snapshot`.
pub(crate) const UPDATES_PER_SNAPSHOT: u32 = 500;

/// The start offset of a share partition that nobody has read from.
pub(crate) const NO_START: i64 = -1;

const SNAPSHOT_KEY: i16 = 0;
const UPDATE_KEY: i16 = 1;
const VALUE: i16 = 0;

/// A partition as one group sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShareKey {
    pub group: Str,
    pub topic_id: Uuid,
    pub partition: i32,
}

/// What is in the log, once all that was written is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub snapshot_epoch: i32,
    pub state_epoch: i32,
    pub leader_epoch: i32,
    /// [`NO_START`] until the first fetch.
    pub start: i64,
    /// Records at or above `start` that are done with; -1 where a record doesn't say.
    pub done: i32,
    create_timestamp: i64,
    spans: Spans<(i8, i16)>,
    updates: u32,
    /// Monotonic microseconds of the last snapshot.
    pub snapshot_us: u64,
    /// Where the last snapshot that is committed lies in its partition of the log; `None` if there is none yet.
    pub snapshot_offset: Option<i64>,
}

impl Stored {
    /// A share partition that is begun, or begun anew at another offset.
    pub fn new(state_epoch: i32, start: i64, wall_ms: i64) -> Self {
        Self {
            snapshot_epoch: 0,
            state_epoch,
            leader_epoch: 0,
            start,
            done: if start == NO_START { -1 } else { 0 },
            create_timestamp: wall_ms,
            spans: Spans::default(),
            updates: 0,
            snapshot_us: 0,
            snapshot_offset: None,
        }
    }

    /// The runs of records with a stored state, ascending.
    pub fn batches(&self) -> impl Iterator<Item = StateBatch> {
        self.spans
            .iter()
            .map(|(first, last, (state, count))| StateBatch {
                first,
                last,
                state: *state,
                count: *count,
            })
    }

    /// Takes changes in and gives the record that says so.
    pub fn write(
        &mut self,
        key: &ShareKey,
        start: i64,
        changed: &[StateBatch],
        done: i64,
        leader_epoch: i32,
        now: ottla_record::Now,
    ) -> CoordinatorRecord {
        self.merge(start, changed.iter().copied());
        self.leader_epoch = leader_epoch;
        self.done = i32::try_from(done).unwrap_or(i32::MAX);
        if self.updates >= UPDATES_PER_SNAPSHOT {
            self.snapshot_epoch = self.snapshot_epoch.wrapping_add(1);
            return self.snapshot(key, now);
        }
        self.updates += 1;
        let state_batches = changed
            .iter()
            .filter(|batch| batch.last >= start)
            .map(|batch| share_update_value::StateBatch {
                first_offset: batch.first.max(start),
                last_offset: batch.last,
                delivery_state: batch.state,
                delivery_count: batch.count,
            })
            .collect();
        let value = ShareUpdateValue {
            snapshot_epoch: self.snapshot_epoch,
            leader_epoch,
            start_offset: start,
            delivery_complete_count: self.done,
            state_batches,
        };
        CoordinatorRecord {
            key: encoded(
                &ShareUpdateKey {
                    group_id: key.group.clone(),
                    topic_id: key.topic_id,
                    partition: key.partition,
                },
                UPDATE_KEY,
            ),
            value: Some(encoded(&value, VALUE)),
        }
    }

    /// All of it as a snapshot record under the present snapshot epoch.
    pub fn snapshot(&mut self, key: &ShareKey, now: ottla_record::Now) -> CoordinatorRecord {
        self.updates = 0;
        self.snapshot_us = now.mono_us;
        let state_batches = self
            .batches()
            .map(|batch| share_snapshot_value::StateBatch {
                first_offset: batch.first,
                last_offset: batch.last,
                delivery_state: batch.state,
                delivery_count: batch.count,
            })
            .collect();
        let value = ShareSnapshotValue {
            snapshot_epoch: self.snapshot_epoch,
            state_epoch: self.state_epoch,
            leader_epoch: self.leader_epoch,
            start_offset: self.start,
            delivery_complete_count: self.done,
            create_timestamp: self.create_timestamp,
            write_timestamp: now.wall_ms,
            state_batches,
        };
        CoordinatorRecord {
            key: snapshot_key(key),
            value: Some(encoded(&value, VALUE)),
        }
    }

    fn merge(&mut self, start: i64, changed: impl Iterator<Item = StateBatch>) {
        for batch in changed {
            let value = (batch.state, batch.count);
            self.spans.set(batch.first, batch.last, value);
        }
        if start != NO_START {
            self.start = start;
        }
        self.spans.clear_below(self.start);
    }
}

/// Deletes the state of a share partition.
pub(crate) fn tombstone(key: &ShareKey) -> CoordinatorRecord {
    CoordinatorRecord {
        key: snapshot_key(key),
        value: None,
    }
}

/// A record that was read.
#[derive(Debug)]
pub(crate) enum StateRecord {
    /// `None` deletes.
    Snapshot(ShareKey, Option<Stored>),
    Update(ShareKey, ShareUpdateValue),
}

/// Reads a record. `None` if its type or version is not known, or if it is damaged.
pub(crate) fn parse(key: &[u8], value: Option<&[u8]>) -> Option<StateRecord> {
    let kind = i16::from_be_bytes(*key.first_chunk()?);
    // Copies: what is read is kept, and must not hold on to the chunk of the log that it was read from.
    let key = Bytes::copy_from_slice(key);
    let value = value.map(Bytes::copy_from_slice);
    match kind {
        SNAPSHOT_KEY => {
            let key = ShareSnapshotKey::from_bytes(key).ok()?;
            let key = ShareKey {
                group: key.group_id,
                topic_id: key.topic_id,
                partition: key.partition,
            };
            let stored = match value {
                None => None,
                Some(value) => Some(loaded(ShareSnapshotValue::from_bytes(value).ok()?)),
            };
            Some(StateRecord::Snapshot(key, stored))
        }
        UPDATE_KEY => {
            let key = ShareUpdateKey::from_bytes(key).ok()?;
            let key = ShareKey {
                group: key.group_id,
                topic_id: key.topic_id,
                partition: key.partition,
            };
            let value = ShareUpdateValue::from_bytes(value?).ok()?;
            Some(StateRecord::Update(key, value))
        }
        _ => None,
    }
}

fn loaded(value: ShareSnapshotValue) -> Stored {
    let mut stored = Stored {
        snapshot_epoch: value.snapshot_epoch,
        leader_epoch: value.leader_epoch,
        done: value.delivery_complete_count,
        create_timestamp: value.create_timestamp,
        ..Stored::new(value.state_epoch, value.start_offset, 0)
    };
    let batches = value.state_batches.iter().map(|batch| StateBatch {
        first: batch.first_offset,
        last: batch.last_offset,
        state: batch.delivery_state,
        count: batch.delivery_count,
    });
    stored.merge(value.start_offset, batches);
    stored
}

impl Stored {
    /// An update that was read behind the snapshot.
    pub fn replay(&mut self, value: &ShareUpdateValue) {
        let batches = value.state_batches.iter().map(|batch| StateBatch {
            first: batch.first_offset,
            last: batch.last_offset,
            state: batch.delivery_state,
            count: batch.delivery_count,
        });
        self.merge(value.start_offset, batches);
        if value.leader_epoch != -1 {
            self.leader_epoch = value.leader_epoch;
        }
        self.done = value.delivery_complete_count;
        self.updates += 1;
    }

    /// Records at or above the start that are done with.
    pub fn done_count(&self) -> i64 {
        if self.done >= 0 {
            return i64::from(self.done);
        }
        let done = self.batches().filter(|batch| batch.state != AVAILABLE);
        done.map(|batch| batch.last - batch.first + 1).sum()
    }
}

fn snapshot_key(key: &ShareKey) -> Bytes {
    encoded(
        &ShareSnapshotKey {
            group_id: key.group.clone(),
            topic_id: key.topic_id,
            partition: key.partition,
        },
        SNAPSHOT_KEY,
    )
}

/// Encoding fails on a group name too long for a record only, and heartbeats keep those out.
fn encoded(message: &impl VersionedMessage, version: i16) -> Bytes {
    message.to_bytes(version).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::in_flight::{ACKNOWLEDGED, ARCHIVED};
    use super::*;
    use ottla_record::Now;

    fn key() -> ShareKey {
        ShareKey {
            group: "g".into(),
            topic_id: Uuid([7; 16]),
            partition: 3,
        }
    }

    fn batch(first: i64, last: i64, state: i8, count: i16) -> StateBatch {
        StateBatch {
            first,
            last,
            state,
            count,
        }
    }

    #[test]
    fn bytes_are_kafkas() {
        let mut stored = Stored::new(2, NO_START, 5);
        let snapshot = stored.snapshot(&key(), Now::new(0, 9));
        let mut expected = alloc::vec![0, 0, 0, 1, b'g'];
        expected.extend([7; 16]);
        expected.extend([0, 0, 0, 3]);
        assert_eq!(snapshot.key, expected);
        let value = snapshot.value.unwrap();
        // Version, snapshot epoch, state epoch, leader epoch, start offset, two timestamps, no batches, no tagged fields.
        let mut expected = alloc::vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
        expected.extend([0xff; 8]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9]);
        expected.extend([1, 0]);
        assert_eq!(value, expected);
        // An update: version, snapshot epoch, leader epoch, start offset, one batch, one tagged field.
        let changed = [batch(8, 9, ACKNOWLEDGED, 1)];
        let update = stored.write(&key(), 7, &changed, 2, 0, Now::default());
        assert_eq!(update.key[..2], [0, 1]);
        let mut expected = alloc::vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 7, 2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9, 2, 0, 1, 0]);
        expected.extend([1, 0, 4, 0, 0, 0, 2]);
        assert_eq!(update.value.unwrap(), expected);
    }

    #[test]
    fn replay_gives_what_was_written_and_snapshots_come_in_time() {
        let mut stored = Stored::new(1, 0, 5);
        let mut log = alloc::vec![stored.snapshot(&key(), Now::default())];
        for i in 0..1200 {
            let changed = [
                batch(i, i, ARCHIVED, 5),
                batch(i + 3, i + 4, ACKNOWLEDGED, 1),
                batch(i + 9, i + 9, AVAILABLE, 2),
            ];
            log.push(stored.write(&key(), i, &changed, 4, 0, Now::default()));
        }
        assert_eq!(stored.snapshot_epoch, 2);
        let mut read: Option<Stored> = None;
        let mut snapshots = 0;
        for record in &log {
            match parse(&record.key, record.value.as_deref()).unwrap() {
                StateRecord::Snapshot(at, snapshot) => {
                    assert_eq!(at, key());
                    snapshots += 1;
                    read = snapshot;
                }
                StateRecord::Update(_, update) => read.as_mut().unwrap().replay(&update),
            }
        }
        assert_eq!(snapshots, 3);
        assert_eq!(read, Some(stored));
        let gone = tombstone(&key());
        assert!(matches!(
            parse(&gone.key, None),
            Some(StateRecord::Snapshot(_, None))
        ));
        assert!(parse(&[0, 9], None).is_none() && parse(&[], None).is_none());
    }
}
