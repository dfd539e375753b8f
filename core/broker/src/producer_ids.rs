//! Producer ids: handed out in blocks, so that none is ever used twice, whatever happens.

use ottla_log::Storage;

use crate::{broker::BrokerError, state_files};

/// Ids per block, as in Kafka. A block is claimed on storage before its first id is used.
const BLOCK: i64 = 1000;

/// The ids of this broker run.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    next: i64,
    /// End of the claimed block, exclusive.
    end: i64,
}

impl ProducerIds {
    /// Knows where the last run's claims ended; claims nothing yet.
    pub(crate) fn open(storage: &dyn Storage) -> Result<Self, BrokerError> {
        let next = match state_files::read_text(storage, state_files::PRODUCER_IDS)? {
            Some(text) => state_files::parse_producer_ids(&text)?,
            None => 0,
        };
        Ok(Self { next, end: next })
    }

    /// The first id that no run has claimed.
    pub(crate) fn claimed(&self) -> i64 {
        self.end
    }

    /// Passes over all ids below `next`, which somebody else has handed out.
    pub(crate) fn pass(&mut self, next: i64) {
        if next > self.end {
            (self.next, self.end) = (next, next);
        }
    }

    /// A producer id that nobody has had.
    pub(crate) fn take(&mut self, storage: &dyn Storage) -> Result<i64, BrokerError> {
        if self.next == self.end {
            let end = self
                .end
                .checked_add(BLOCK)
                .ok_or(BrokerError::Internal("no producer ids are left"))?;
            state_files::write_text(
                storage,
                state_files::PRODUCER_IDS,
                state_files::producer_ids_text(end),
            )?;
            self.end = end;
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}
