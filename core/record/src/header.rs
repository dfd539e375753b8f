//! The 61 bytes in front of every magic-2 batch, and changing them without touching the records.

use crate::{Attributes, RecordError, TimestampType, crc};

/// Bytes of a batch header, and of the smallest batch.
pub const HEADER_LEN: usize = 61;
/// The record format that is written.
pub const MAGIC_V2: i8 = 2;
/// Bytes in front of the part that the batch length counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Where the checksummed part begins: with the attributes.
pub(crate) const CRC_START: usize = 21;

/// The raw bytes of a header.
pub type HeaderBytes = [u8; HEADER_LEN];

/// The header of a batch, decoded. Field names and order are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; the broker sets it.
    pub base_offset: i64,
    /// Bytes of the batch after this field: the whole batch less [`LOG_OVERHEAD`].
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; −1 from clients.
    pub partition_leader_epoch: i32,
    /// Always 2 after [`BatchHeader::parse`].
    pub magic: i8,
    /// CRC-32C of everything from the attributes to the end of the batch.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon.
    pub attributes: Attributes,
    /// Offset of the last record less the base offset; compaction keeps it even if that record is gone.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from, in ms since the Unix epoch; −1 in a batch without records.
    pub base_timestamp: i64,
    /// Largest timestamp of the records; the append time of all of them with LogAppendTime.
    pub max_timestamp: i64,
    /// Producer id, −1 for none.
    pub producer_id: i64,
    /// Producer epoch, −1 for none.
    pub producer_epoch: i16,
    /// Sequence number of the first record, −1 for none; 0 follows 2^31 − 1.
    pub base_sequence: i32,
    /// Records in the batch; 0 where compaction removed all but had to keep the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`, which may hold less than the batch, or more.
    ///
    /// Checks what any reader must rely on: 61 bytes, magic 2, a batch length of at least 49, no negative count and no
    /// negative last offset delta. Neither the checksum nor the codec bits are checked.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let Some(raw) = bytes.first_chunk::<HEADER_LEN>() else {
            // A shorter piece may still tell that it is no batch of ours.
            if let Some(&magic) = bytes.get(16)
                && magic as i8 != MAGIC_V2
            {
                return Err(RecordError::UnsupportedMagic(magic as i8));
            }
            return Err(RecordError::Truncated {
                needed: HEADER_LEN,
                have: bytes.len(),
            });
        };
        let header = Self::decode(raw);
        if header.magic != MAGIC_V2 {
            return Err(RecordError::UnsupportedMagic(header.magic));
        }
        if header.batch_length < (HEADER_LEN - LOG_OVERHEAD) as i32 {
            return Err(RecordError::InvalidBatchLength(header.batch_length));
        }
        if header.record_count < 0 {
            return Err(RecordError::InvalidField("record count"));
        }
        if header.last_offset_delta < 0 {
            return Err(RecordError::InvalidField("last offset delta"));
        }
        Ok(header)
    }

    fn decode(raw: &HeaderBytes) -> Self {
        Self {
            base_offset: i64::from_be_bytes(field(raw, 0)),
            batch_length: i32::from_be_bytes(field(raw, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(raw, 12)),
            magic: raw[16] as i8,
            crc: u32::from_be_bytes(field(raw, 17)),
            attributes: Attributes(i16::from_be_bytes(field(raw, CRC_START))),
            last_offset_delta: i32::from_be_bytes(field(raw, 23)),
            base_timestamp: i64::from_be_bytes(field(raw, 27)),
            max_timestamp: i64::from_be_bytes(field(raw, 35)),
            producer_id: i64::from_be_bytes(field(raw, 43)),
            producer_epoch: i16::from_be_bytes(field(raw, 51)),
            base_sequence: i32::from_be_bytes(field(raw, 53)),
            record_count: i32::from_be_bytes(field(raw, 57)),
        }
    }

    /// Encodes every field, the checksum included, as it stands.
    pub fn write_to(&self, raw: &mut HeaderBytes) {
        raw[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        raw[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        raw[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        raw[16] = self.magic as u8;
        raw[17..21].copy_from_slice(&self.crc.to_be_bytes());
        raw[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        raw[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        raw[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        raw[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        raw[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        raw[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        raw[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        raw[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// The encoded header.
    pub fn to_bytes(&self) -> HeaderBytes {
        let mut raw = [0; HEADER_LEN];
        self.write_to(&mut raw);
        raw
    }

    /// Bytes of the whole batch, header included.
    pub fn size_in_bytes(&self) -> usize {
        LOG_OVERHEAD + self.batch_length.max(0) as usize
    }

    /// Bytes of the records area.
    pub fn body_len(&self) -> usize {
        self.size_in_bytes().saturating_sub(HEADER_LEN)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(self.last_offset_delta as i64)
    }

    /// The offset after this batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence number of the last record, −1 if the batch has none. Wraps after 2^31 − 1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            -1
        } else {
            add_sequence(self.base_sequence, self.last_offset_delta)
        }
    }

    /// Whether a producer id is set.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// The delete horizon that compaction stored, in ms since the Unix epoch.
    pub fn delete_horizon(&self) -> Option<i64> {
        self.attributes
            .has_delete_horizon()
            .then_some(self.base_timestamp)
    }
}

/// The sequence number `increment` (≥ 0) after `sequence` (≥ 0): 0 follows 2^31 − 1.
pub fn add_sequence(sequence: i32, increment: i32) -> i32 {
    ((sequence as i64 + increment as i64) & i32::MAX as i64) as i32
}

fn field<const N: usize>(raw: &HeaderBytes, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&raw[at..at + N]);
    bytes
}

/// A copy of `raw` as a leader appends it: base offset and leader epoch set. Both lie outside of the checksum.
pub fn with_offset_and_epoch(
    raw: &HeaderBytes,
    base_offset: i64,
    leader_epoch: i32,
) -> HeaderBytes {
    let mut patched = *raw;
    patched[0..8].copy_from_slice(&base_offset.to_be_bytes());
    patched[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    patched
}

/// A copy of `raw` with LogAppendTime: timestamp type and maximum timestamp set to `append_time` (ms since the Unix
/// epoch), the checksum mended.
pub fn with_log_append_time(raw: &HeaderBytes, append_time: i64) -> HeaderBytes {
    resealed(raw, |header| {
        header.attributes = header
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        header.max_timestamp = append_time;
    })
}

/// A copy of `raw` with another maximum timestamp, the checksum mended.
pub fn with_max_timestamp(raw: &HeaderBytes, max_timestamp: i64) -> HeaderBytes {
    resealed(raw, |header| header.max_timestamp = max_timestamp)
}

/// A copy of `raw` with other producer fields, the checksum mended. A retry after an epoch bump needs it.
pub fn with_producer(
    raw: &HeaderBytes,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
) -> HeaderBytes {
    resealed(raw, |header| {
        header.producer_id = producer_id;
        header.producer_epoch = producer_epoch;
        header.base_sequence = base_sequence;
    })
}

/// A copy of `raw` with any fields changed but its length, checksum mended without reading the records: only what the
/// difference of the two headers becomes under as many bytes is added. A batch that was damaged before stays damaged,
/// because the checksum of the damaged bytes never enters.
pub fn resealed(raw: &HeaderBytes, change: impl FnOnce(&mut BatchHeader)) -> HeaderBytes {
    let before = BatchHeader::decode(raw);
    let mut header = before;
    change(&mut header);
    header.batch_length = before.batch_length;
    let mut patched = header.to_bytes();
    let difference = crc::crc32c(&raw[CRC_START..]) ^ crc::crc32c(&patched[CRC_START..]);
    let crc = before.crc ^ crc::crc32c_shift(difference, before.body_len());
    patched[17..21].copy_from_slice(&crc.to_be_bytes());
    patched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BatchHeader {
        BatchHeader {
            base_offset: 0x0102_0304_0506_0708,
            batch_length: 49 + 4,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0xdead_beef,
            attributes: Attributes(0x14),
            last_offset_delta: 9,
            base_timestamp: -1,
            max_timestamp: 1_700_000_000_000,
            producer_id: 42,
            producer_epoch: 7,
            base_sequence: i32::MAX - 4,
            record_count: 10,
        }
    }

    #[test]
    fn round_trip() {
        let header = sample();
        assert_eq!(BatchHeader::parse(&header.to_bytes()), Ok(header));
        assert_eq!(header.size_in_bytes(), 65);
        assert_eq!(header.body_len(), 4);
        assert_eq!(header.last_offset(), header.base_offset + 9);
        assert_eq!(header.last_sequence(), 4);
    }

    #[test]
    fn bad_fields_are_errors() {
        let good = sample().to_bytes();
        for (at, value) in [(8, 0x80), (11, 48), (16, 1), (23, 0x80), (57, 0x80)] {
            let mut bad = good;
            bad[at] = value;
            assert!(BatchHeader::parse(&bad).is_err(), "byte {at}");
        }
        for cut in 0..HEADER_LEN {
            assert!(BatchHeader::parse(&good[..cut]).is_err());
        }
        let legacy = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 1];
        assert_eq!(
            BatchHeader::parse(&legacy),
            Err(RecordError::UnsupportedMagic(1))
        );
    }

    #[test]
    fn offsets_at_the_end_saturate() {
        let mut header = sample();
        header.base_offset = i64::MAX - 1;
        assert_eq!(header.next_offset(), i64::MAX);
    }

    #[test]
    fn patches_keep_the_checksum_right() {
        let body = [1u8, 2, 3, 4];
        let seal = |raw: &HeaderBytes| crc::crc32c_append(crc::crc32c(&raw[CRC_START..]), &body);
        let mut header = sample();
        header.crc = seal(&header.to_bytes());
        let raw = header.to_bytes();
        for patched in [
            with_offset_and_epoch(&raw, 77, 3),
            with_log_append_time(&raw, 99),
            with_max_timestamp(&raw, 5),
            with_producer(&raw, 1, 2, 3),
        ] {
            assert_ne!(patched, raw);
            let reread = BatchHeader::parse(&patched).unwrap();
            assert_eq!(reread.crc, seal(&patched));
        }
        let stamped = BatchHeader::parse(&with_log_append_time(&raw, 99)).unwrap();
        assert_eq!(stamped.max_timestamp, 99);
        assert_eq!(
            stamped.attributes.timestamp_type(),
            TimestampType::LogAppendTime
        );
    }
}
