//! When a sync begins: at once, or when those are back whom the last one answered.
//!
//! Producers that wait for each answer fall into two halves if every sync begins the moment the last one ends. While a sync for one half
//! is under way the other half has arrived; it gets the next, and so both wait for two syncs, and sixteen producers are worth eight. So a
//! sync that could begin waits for those who were just answered: until as many wait as did before, or for as long as the last sync took.
//! That pays if it brings more than half of them in less than twice the time. Where it doesn't, since they have nothing more to send, the
//! next syncs don't wait, and more of them each time.
//!
//! A sync for a single producer, or after a pause, begins at once. Kafka knows nothing of the kind, as it doesn't wait for the disk; the
//! `commit_delay` of databases is the same with a fixed time.

/// The longest that a sync waits, in microseconds: a disk that stalls for seconds must not make the next sync late, too.
const LONGEST_WAIT_US: u64 = 20_000;
/// After so many waits in vain in a row, or more, the next 63 syncs don't wait: 2 to the power of this, less one.
const MOST_MISSES: u8 = 6;

/// What a partition knows of its last sync.
#[derive(Debug, Default)]
pub(crate) struct GroupCommit {
    /// Those who waited when it ended, whether for it or for the next.
    expected: u64,
    /// When it ended, in monotonic microseconds.
    ended_us: u64,
    /// How long the next one may wait for company, in microseconds; 0 for not at all.
    patience_us: u64,
    /// How often in a row it was in vain.
    misses: u8,
    /// How many syncs are not to wait because of that.
    skip: u8,
}

impl GroupCommit {
    /// A sync is done that took `took_us`; `waiting` counts those whom it answers and those who wait for the next.
    pub(crate) fn note_synced(&mut self, now_us: u64, took_us: u64, waiting: usize) {
        self.expected = waiting as u64;
        self.ended_us = now_us;
        self.patience_us = 0;
        if self.skip > 0 {
            self.skip -= 1;
        } else if waiting > 1 {
            self.patience_us = took_us.min(LONGEST_WAIT_US);
        }
    }

    /// Until when the next sync may wait, in monotonic microseconds.
    pub(crate) fn until_us(&self) -> u64 {
        self.ended_us + self.patience_us
    }

    /// Whether the next sync, for which `waiting` wait so far, should wait itself.
    pub(crate) fn should_wait(&self, now_us: u64, waiting: usize) -> bool {
        (waiting as u64) < self.expected && now_us < self.until_us()
    }

    /// The next sync begins, for `waiting`.
    pub(crate) fn note_begun(&mut self, now_us: u64, waiting: usize) {
        let (sync_us, waited_us) = (self.patience_us, now_us.saturating_sub(self.ended_us));
        if sync_us == 0 || waited_us > 2 * sync_us {
            // It didn't wait, or nobody came for so long that it says nothing.
            return;
        }
        // In vain if half of them in a sync's time is as many for the time.
        if 2 * waiting as u64 * sync_us > self.expected * (sync_us + waited_us) {
            self.misses = 0;
        } else {
            self.misses = (self.misses + 1).min(MOST_MISSES);
            self.skip = (1 << self.misses) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Closed-loop producers that are back `away_us` after their answer; how many are answered in a second.
    fn answered_in_a_second(producers: usize, sync_us: u64, away_us: u64, patient: bool) -> usize {
        let mut commit = GroupCommit::default();
        // When each is back; and those of whom the sync under way is, and when it ends.
        let mut back: Vec<u64> = (0..producers as u64).collect();
        let (mut under_way, mut ends) = (Vec::<usize>::new(), None);
        let (mut began, mut answered) = (0, 0);
        for now in 0..1_000_000 {
            let is_waiting =
                |who: &usize, under_way: &[usize]| back[*who] <= now && !under_way.contains(who);
            let waiting: Vec<usize> = (0..producers)
                .filter(|who| is_waiting(who, &under_way))
                .collect();
            if ends == Some(now) {
                commit.note_synced(now, now - began, under_way.len() + waiting.len());
                answered += under_way.len();
                for who in under_way.drain(..) {
                    back[who] = now + away_us + who as u64;
                }
                ends = None;
            }
            if ends.is_none()
                && !waiting.is_empty()
                && !(patient && commit.should_wait(now, waiting.len()))
            {
                commit.note_begun(now, waiting.len());
                (under_way, began, ends) = (waiting, now, Some(now + sync_us));
            }
        }
        answered
    }

    #[test]
    fn all_who_come_back_soon_share_a_sync() {
        let one = answered_in_a_second(1, 1000, 50, true);
        assert!((940..=960).contains(&one), "{one}");
        // A round takes 1.07 ms.
        let sixteen = answered_in_a_second(16, 1000, 50, true);
        assert!(sixteen > 14_500, "{sixteen}");
        // Without the wait there are eight in each.
        let halves = answered_in_a_second(16, 1000, 50, false);
        assert!(halves < 8100, "{halves}");
        let two = answered_in_a_second(2, 1000, 50, true);
        assert!(two > 1850, "{two}");
    }

    #[test]
    fn who_stays_away_is_not_waited_for() {
        // Trying costs a little, and the most where they are back just too late.
        for away_us in [1500, 2000, 3000, 10_000] {
            let [patient, impatient] =
                [true, false].map(|patient| answered_in_a_second(16, 1000, away_us, patient));
            assert!(
                patient * 100 > impatient * 90,
                "{away_us}: {patient} of {impatient}"
            );
        }
        let mut commit = GroupCommit::default();
        let (mut now, mut waits) = (0, 0);
        for _ in 0..1000 {
            commit.note_synced(now, 100, 10);
            while commit.should_wait(now, 1) {
                now += 1;
                waits += 1;
            }
            commit.note_begun(now, 1);
            now += 100;
        }
        // Of a hundred thousand microseconds in syncs.
        assert!(waits < 3000, "{waits}");
        // They are tried again, and once they do come the waiting is back.
        let mut waited = 0;
        for _ in 0..200 {
            commit.note_synced(now, 100, 10);
            waited += u32::from(commit.should_wait(now, 9));
            commit.note_begun(now + 10, 10);
            now += 110;
        }
        assert!(waited > 130, "{waited}");
    }

    #[test]
    fn a_stall_or_a_pause_makes_nobody_wait_long() {
        let mut commit = GroupCommit::default();
        commit.note_synced(1_000_000, 900_000, 5);
        assert!(commit.should_wait(1_010_000, 4));
        assert!(!commit.should_wait(1_020_000, 4));
        // A second later, somebody: not in vain, nobody waited.
        commit.note_begun(2_000_000, 1);
        commit.note_synced(2_000_300, 300, 5);
        assert!(commit.should_wait(2_000_400, 4));
        assert!(!commit.should_wait(2_000_400, 5));
    }
}
