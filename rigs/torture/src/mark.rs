//! What the records of the rigs hold: who wrote them, as which of his, some bytes, and a checksum of it all, so that a record that
//! was damaged on its way is known without the log's own checksums.

use ottla_record::crc32c;

/// Names a record: its writer (a number of its own in each run) and that writer's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Who wrote it.
    pub writer: u32,
    /// The how manieth of his it is, from 0.
    pub count: u32,
}

/// Writers of one run; the first [`IDEMPOTENT`] of them are idempotent.
pub const WRITERS: u32 = 4;
/// How many of them.
pub const IDEMPOTENT: u32 = 2;

impl Mark {
    /// Whether its writer is an idempotent producer.
    pub fn is_idempotent(self) -> bool {
        self.writer % WRITERS < IDEMPOTENT
    }

    /// The record's value.
    pub fn value(self) -> Vec<u8> {
        let filler = (self.writer.wrapping_mul(31).wrapping_add(self.count * 7)) % 160;
        let mut value = Vec::with_capacity(12 + filler as usize);
        value.extend(self.writer.to_be_bytes());
        value.extend(self.count.to_be_bytes());
        value.extend((0..filler).map(|i| (i + self.count) as u8));
        value.extend(crc32c(&value).to_be_bytes());
        value
    }

    /// The mark of a value, unless its checksum is wrong.
    pub fn of(value: &[u8]) -> Option<Self> {
        let (body, crc) = value.split_last_chunk::<4>()?;
        let (writer, rest) = body.split_first_chunk::<4>()?;
        let (count, _) = rest.split_first_chunk::<4>()?;
        (crc32c(body) == u32::from_be_bytes(*crc)).then_some(Self {
            writer: u32::from_be_bytes(*writer),
            count: u32::from_be_bytes(*count),
        })
    }
}
