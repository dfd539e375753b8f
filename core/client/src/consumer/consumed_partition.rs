//! What the machine and the application's thread share about one assigned partition.

use crate::consumer::offset;
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering::Relaxed};
use ottla_protocol::Str;

/// One assigned partition: where the application is, and which fetched chunks are still of use.
///
/// Records are handed out while nobody holds the machine's lock, so that what every record changes lies here, in
/// atomics: one plain store each.
#[derive(Debug)]
pub struct ConsumedPartition {
    topic: Str,
    partition: i32,
    auto_store: bool,
    version: AtomicU32,
    position: AtomicI64,
    position_epoch: AtomicI32,
    stored: AtomicI64,
    stored_epoch: AtomicI32,
}

impl ConsumedPartition {
    /// A partition of which nothing was consumed. With `auto_store` each record that is handed out counts as
    /// processed (`enable.auto.offset.store`).
    pub(crate) fn new(topic: Str, partition: i32, auto_store: bool) -> Self {
        Self {
            topic,
            partition,
            auto_store,
            version: AtomicU32::new(0),
            position: AtomicI64::new(offset::INVALID),
            position_epoch: AtomicI32::new(-1),
            stored: AtomicI64::new(offset::INVALID),
            stored_epoch: AtomicI32::new(-1),
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &Str {
        &self.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset behind the last record that the application took; [`offset::INVALID`] before the first.
    pub fn position(&self) -> i64 {
        self.position.load(Relaxed)
    }

    /// The leader epoch of the last record that the application took; -1 if unknown.
    pub fn position_epoch(&self) -> i32 {
        self.position_epoch.load(Relaxed)
    }

    /// The offset that the next commit without arguments commits; [`offset::INVALID`] if there is none.
    pub fn stored_offset(&self) -> i64 {
        self.stored.load(Relaxed)
    }

    /// The leader epoch that goes with [`Self::stored_offset`]; -1 if unknown.
    pub fn stored_epoch(&self) -> i32 {
        self.stored_epoch.load(Relaxed)
    }

    /// The version of chunks that are of use; a seek, pause or unassign makes a new one.
    pub(crate) fn version(&self) -> u32 {
        self.version.load(Relaxed)
    }

    /// Makes every chunk that was fetched until now useless.
    pub(crate) fn outdate(&self) {
        self.version.fetch_add(1, Relaxed);
    }

    /// Sets the position, as a seek does.
    pub(crate) fn set_position(&self, position: i64, epoch: i32) {
        self.position.store(position, Relaxed);
        self.position_epoch.store(epoch, Relaxed);
    }

    /// Sets the offset to commit.
    pub(crate) fn store(&self, offset: i64, epoch: i32) {
        self.stored.store(offset, Relaxed);
        self.stored_epoch.store(epoch, Relaxed);
    }

    /// The records that follow are of this leader epoch.
    pub(crate) fn enter_batch(&self, epoch: i32) {
        self.position_epoch.store(epoch, Relaxed);
        if self.auto_store {
            self.stored_epoch.store(epoch, Relaxed);
        }
    }

    /// The application took the record at `offset`.
    #[inline]
    pub(crate) fn hand_out(&self, offset: i64) {
        self.position.store(offset + 1, Relaxed);
        if self.auto_store {
            self.stored.store(offset + 1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_move_the_position_and_if_wanted_the_stored_offset() {
        for auto_store in [false, true] {
            let p = ConsumedPartition::new("t".into(), 3, auto_store);
            assert_eq!(
                (p.position(), p.stored_offset()),
                (offset::INVALID, offset::INVALID)
            );
            p.enter_batch(7);
            p.hand_out(41);
            assert_eq!((p.position(), p.position_epoch()), (42, 7));
            let stored = if auto_store {
                (42, 7)
            } else {
                (offset::INVALID, -1)
            };
            assert_eq!((p.stored_offset(), p.stored_epoch()), stored);
            p.store(50, 8);
            assert_eq!((p.stored_offset(), p.stored_epoch()), (50, 8));
        }
    }
}
