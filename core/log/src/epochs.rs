//! Leader epochs of a partition and the offsets at which they began (KIP-101), and their checkpoint file.

use crate::error::LogError;
use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;

/// Epochs and start offsets, both rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<(i32, i64)>,
}

impl LeaderEpochs {
    /// Notes that a batch of this epoch was appended at `offset`; returns whether the epoch is new.
    pub fn appended(&mut self, epoch: i32, offset: i64) -> bool {
        if epoch < 0 || self.entries.last().is_some_and(|&(last, _)| epoch <= last) {
            return false;
        }
        self.entries.push((epoch, offset));
        true
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|&(epoch, _)| epoch)
    }

    /// The epoch of the batch at `offset`.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.entries
            .iter()
            .rev()
            .find(|&&(_, start)| start <= offset)
            .map(|&(epoch, _)| epoch)
    }

    /// The largest epoch that is not above `epoch`, and the offset at which it ended, for OffsetForLeaderEpoch.
    pub fn end_offset(&self, epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let next = self.entries.partition_point(|&(e, _)| e <= epoch);
        let (found, _) = *self.entries.get(next.checked_sub(1)?)?;
        Some((
            found,
            self.entries
                .get(next)
                .map_or(log_end_offset, |&(_, start)| start),
        ))
    }

    /// Forgets epochs that begin at or beyond the end of the log.
    pub fn truncate_end(&mut self, log_end_offset: i64) {
        self.entries.retain(|&(_, start)| start < log_end_offset);
    }

    /// As [`LeaderEpochs::truncate_end`], but the newest epoch stays, and begins with the next record: clients may have been told of
    /// it, and take no smaller one for the truth. Returns whether anything is different now.
    pub fn end_at(&mut self, log_end_offset: i64) -> bool {
        let (before, newest) = (self.entries.len(), self.entries.last().copied());
        self.truncate_end(log_end_offset);
        let Some((epoch, start)) = newest.filter(|_| self.entries.len() < before) else {
            return false;
        };
        self.entries.push((epoch, log_end_offset));
        before != self.entries.len() || start != log_end_offset
    }

    /// Forgets epochs that ended before the log's start; the one that covers the start begins there now.
    pub fn truncate_start(&mut self, log_start_offset: i64) {
        let gone = self
            .entries
            .partition_point(|&(_, start)| start <= log_start_offset);
        if gone > 0 {
            self.entries.drain(..gone - 1);
            self.entries[0].1 = log_start_offset;
        }
    }

    /// The text of `leader-epoch-checkpoint`: version, count, a line for each.
    pub fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            let _ = writeln!(text, "{epoch} {start}");
        }
        text
    }

    /// Reads `leader-epoch-checkpoint`; an empty file has no epochs.
    pub fn from_text(text: &str) -> Result<Self, LogError> {
        let damaged = || LogError::Damaged("leader-epoch-checkpoint is damaged".into());
        let mut numbers = text.split_ascii_whitespace();
        let Some(version) = numbers.next() else {
            return Ok(Self::default());
        };
        let count: usize = numbers
            .next()
            .and_then(|n| n.parse().ok())
            .ok_or_else(damaged)?;
        let mut entries: Vec<(i32, i64)> = Vec::new();
        while let Some(epoch) = numbers.next() {
            let entry = (
                epoch.parse().ok(),
                numbers.next().and_then(|n| n.parse().ok()),
            );
            let (Some(epoch), Some(start)) = entry else {
                return Err(damaged());
            };
            if entries
                .last()
                .is_some_and(|&(e, s)| epoch <= e || start < s)
            {
                return Err(damaged());
            }
            entries.push((epoch, start));
        }
        if version == "0" && entries.len() == count {
            Ok(Self { entries })
        } else {
            Err(damaged())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs() {
        let mut epochs = LeaderEpochs::default();
        assert!(
            epochs.appended(0, 0)
                && !epochs.appended(0, 5)
                && epochs.appended(3, 10)
                && !epochs.appended(2, 20)
        );
        assert_eq!(
            [0, 9, 10, 99].map(|o| epochs.epoch_at(o)),
            [Some(0), Some(0), Some(3), Some(3)]
        );
        assert_eq!(
            [-1, 0, 1, 3, 9].map(|e| epochs.end_offset(e, 50)),
            [
                None,
                Some((0, 10)),
                Some((0, 10)),
                Some((3, 50)),
                Some((3, 50))
            ]
        );
        assert_eq!(epochs.to_text(), "0\n2\n0 0\n3 10\n");
        assert_eq!(
            LeaderEpochs::from_text(&epochs.to_text()),
            Ok(epochs.clone())
        );
        for bad in ["1\n0\n", "0\n1\n", "0\n1\n0\n", "0\n2\n3 1\n2 5\n", "x"] {
            assert!(LeaderEpochs::from_text(bad).is_err(), "{bad:?}");
        }
        assert_eq!(LeaderEpochs::from_text(""), Ok(LeaderEpochs::default()));
        epochs.truncate_start(7);
        assert_eq!(epochs.to_text(), "0\n2\n0 7\n3 10\n");
        epochs.truncate_end(10);
        assert_eq!(epochs.latest(), Some(0));
    }
}
