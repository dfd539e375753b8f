//! Message sets of magic 0 and 1, which old logs and old brokers may still hold. Read-only: nothing writes them any more.
//!
//! A set is a row of entries: offset (8 bytes), size (4), then CRC-32, magic, attributes, from magic 1 on a timestamp, key
//! and value with 4-byte lengths. A compressed entry's value is itself a set. [`crate::Batches`] converts entries to
//! batches of magic 2 as it meets them, by [`to_batch`].

use alloc::vec::Vec;

use crate::header::LOG_OVERHEAD;
use crate::{
    Attributes, BatchBuilder, Codecs, Compression, FinishOptions, Limits, RecordBatch, RecordError,
    TimestampType,
};

/// Where the magic byte of an entry lies; the same place as in a batch of magic 2.
const MAGIC_AT: usize = 16;
/// The attribute bits that have a meaning: codec and timestamp type.
const KNOWN_ATTRIBUTES: u8 = 0x0f;

/// Smallest value of an entry's size field.
pub(crate) const fn min_message_len(magic: i8) -> usize {
    // Checksum, magic, attributes, timestamp from magic 1 on, key length, value length.
    if magic == 0 { 14 } else { 22 }
}

/// One entry of a message set, borrowed. A compressed one stands for all messages in its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyMessage<'a> {
    /// Absolute offset; of a compressed entry that of its last message. Inside of a compressed entry of magic 1 it counts
    /// from the first message there.
    pub offset: i64,
    /// 0 or 1.
    pub magic: i8,
    /// Codec and timestamp type.
    pub attributes: Attributes,
    /// Milliseconds since the Unix epoch; −1 in magic 0, which has none.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value, or the compressed message set; `None` is null.
    pub value: Option<&'a [u8]>,
}

impl<'a> LegacyMessage<'a> {
    /// Reads the entry at the start of `bytes` and checks its checksum. Also returns the bytes that it takes.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, usize), RecordError> {
        let mut reader = Reader { rest: bytes };
        let offset = i64::from_be_bytes(*reader.array()?);
        let size = i32::from_be_bytes(*reader.array()?);
        let magic = match bytes.get(MAGIC_AT) {
            Some(0) => 0,
            Some(1) => 1,
            Some(&other) => return Err(RecordError::UnsupportedMagic(other as i8)),
            None => return Err(reader.too_short(MAGIC_AT + 1 - LOG_OVERHEAD)),
        };
        if size < min_message_len(magic) as i32 {
            return Err(RecordError::InvalidBatchLength(size));
        }
        reader.rest = reader.take(size as usize)?;
        let expected = u32::from_be_bytes(*reader.array()?);
        let actual = crc32fast::hash(reader.rest);
        if expected != actual {
            return Err(RecordError::CrcMismatch { expected, actual });
        }
        let [_magic, attributes] = *reader.array::<2>()?;
        let timestamp = if magic == 0 {
            -1
        } else {
            i64::from_be_bytes(*reader.array()?)
        };
        let key = reader.bytes()?;
        let value = reader.bytes()?;
        if !reader.rest.is_empty() {
            return Err(RecordError::InvalidRecordLength);
        }
        let message = Self {
            offset,
            magic,
            attributes: Attributes((attributes & KNOWN_ATTRIBUTES) as i16),
            timestamp,
            key,
            value,
        };
        Ok((message, LOG_OVERHEAD + size as usize))
    }
}

/// The entries of a message set. A partial one at the end ends it quietly, an error for good.
#[derive(Clone, Debug)]
pub struct MessageSet<'a> {
    rest: &'a [u8],
}

impl<'a> MessageSet<'a> {
    /// The entries in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for MessageSet<'a> {
    type Item = Result<LegacyMessage<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match LegacyMessage::parse(self.rest) {
            Ok((message, size)) => {
                self.rest = &self.rest[size..];
                Some(Ok(message))
            }
            Err(error) => {
                self.rest = &[];
                (!matches!(error, RecordError::Truncated { .. })).then_some(Err(error))
            }
        }
    }
}

/// The entry in `entry` as an uncompressed batch of magic 2 with the same offsets and timestamps. A compressed entry becomes
/// one batch with all of its messages; codecs decompress within `limits`.
pub fn to_batch(entry: &[u8], limits: Limits) -> Result<RecordBatch, RecordError> {
    let (outer, _) = LegacyMessage::parse(entry)?;
    let codec = outer.attributes.compression()?;
    if codec == Compression::None {
        return convert(outer.attributes, outer.timestamp, &[outer]);
    }
    // zstd came after magic 1 and is not allowed in it (KIP-110).
    if codec == Compression::Zstd {
        return Err(RecordError::UnknownCompression(codec as u8));
    }
    let Some(compressed) = outer.value else {
        return Err(RecordError::InvalidField("value of a compressed message"));
    };
    let plain = Codecs::new().decompress(codec, compressed, limits.decompressed_bytes)?;
    let mut messages = inner_messages(&plain, outer.magic)?;
    if outer.magic == 1 {
        // The entry has the offset of its last message; those inside only count.
        let last = messages.last().map_or(0, |message| message.offset);
        let base = outer.offset.wrapping_sub(last);
        for message in &mut messages {
            message.offset = message.offset.wrapping_add(base);
        }
    }
    convert(outer.attributes, outer.timestamp, &messages)
}

fn inner_messages(plain: &[u8], magic: i8) -> Result<Vec<LegacyMessage<'_>>, RecordError> {
    let mut messages = Vec::new();
    let mut rest = plain;
    while !rest.is_empty() {
        let (message, size) = LegacyMessage::parse(rest)?;
        if message.attributes.is_compressed() {
            return Err(RecordError::NestedCompression);
        }
        if message.magic != magic {
            return Err(RecordError::UnsupportedMagic(message.magic));
        }
        messages.push(message);
        rest = &rest[size..];
    }
    if messages.is_empty() {
        return Err(RecordError::Empty);
    }
    Ok(messages)
}

fn convert(
    attributes: Attributes,
    outer_timestamp: i64,
    messages: &[LegacyMessage<'_>],
) -> Result<RecordBatch, RecordError> {
    let append_time =
        (attributes.timestamp_type() == TimestampType::LogAppendTime).then_some(outer_timestamp);
    let base_offset = messages.first().map_or(0, |message| message.offset);
    let size = messages
        .iter()
        .map(|message| BatchBuilder::size_of_record(message.key, message.value, &[]));
    let mut builder = BatchBuilder::new(crate::HEADER_LEN + size.sum::<usize>());
    for message in messages {
        let delta = message
            .offset
            .checked_sub(base_offset)
            .and_then(|delta| i32::try_from(delta).ok())
            .ok_or(RecordError::InvalidField("offset"))?;
        builder.append_with_delta(delta, message.timestamp, message.key, message.value, &[])?;
    }
    let finished = builder.finish(&FinishOptions {
        base_offset,
        log_append_time: append_time,
        ..FinishOptions::default()
    })?;
    RecordBatch::parse(finished.encoded)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn too_short(&self, needed: usize) -> RecordError {
        RecordError::Truncated {
            needed,
            have: self.rest.len(),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], RecordError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(self.too_short(N))?;
        self.rest = rest;
        Ok(taken)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.too_short(len))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A 4-byte length and as many bytes; −1 is null. Called within an entry that is there as a whole, so that a length
    /// past its end is a wrong value, not a cut.
    fn bytes(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let wrong = RecordError::InvalidField("length");
        match i32::from_be_bytes(*self.array().map_err(|_| wrong)?) {
            -1 => Ok(None),
            len if len < 0 => Err(wrong),
            len => self.take(len as usize).map(Some).map_err(|_| wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batches;
    use bytes::Bytes;

    fn entry(magic: u8, attributes: u8, offset: i64, value: Option<&[u8]>) -> Vec<u8> {
        let mut body = alloc::vec![magic, attributes];
        if magic == 1 {
            body.extend_from_slice(&(1000 + offset).to_be_bytes());
        }
        body.extend_from_slice(&3i32.to_be_bytes());
        body.extend_from_slice(b"key");
        match value {
            Some(value) => {
                body.extend_from_slice(&(value.len() as i32).to_be_bytes());
                body.extend_from_slice(value);
            }
            None => body.extend_from_slice(&(-1i32).to_be_bytes()),
        }
        let mut entry = Vec::from(offset.to_be_bytes());
        entry.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        entry.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
        entry.extend_from_slice(&body);
        entry
    }

    fn compressed(magic: u8, codec: Compression, extra: u8, offsets: &[i64], last: i64) -> Vec<u8> {
        let set: Vec<u8> = offsets
            .iter()
            .flat_map(|&offset| entry(magic, 0, offset, Some(b"value")))
            .collect();
        let mut value = Vec::new();
        Codecs::new()
            .compress(codec, None, &set, &mut value)
            .unwrap();
        entry(magic, codec as u8 | extra, last, Some(&value))
    }

    fn offsets_and_timestamps(batch: &RecordBatch) -> Vec<(i64, i64)> {
        batch.check_crc().unwrap();
        let mut records = batch.records(Limits::default()).unwrap();
        let mut read = Vec::new();
        while let Some(record) = records.next_record() {
            let record = record.unwrap();
            assert_eq!(record.key, Some(&b"key"[..]));
            read.push((record.offset, record.timestamp));
        }
        read
    }

    #[test]
    fn plain_entries_become_batches() {
        let set = [
            entry(0, 0, 5, Some(b"a")),
            entry(1, 0, 6, None),
            entry(1, 0, 9, Some(b"")),
        ]
        .concat();
        let whole = Bytes::from(set.clone());
        let batches: Result<Vec<_>, _> = Batches::new([whole]).collect();
        let batches = batches.unwrap();
        assert_eq!(offsets_and_timestamps(&batches[0]), [(5, -1)]);
        assert_eq!(offsets_and_timestamps(&batches[1]), [(6, 1006)]);
        assert_eq!(offsets_and_timestamps(&batches[2]), [(9, 1009)]);
        assert_eq!(MessageSet::new(&set).count(), 3);
        // A cut entry at the end is left out quietly.
        assert_eq!(MessageSet::new(&set[..set.len() - 1]).count(), 2);
    }

    #[test]
    fn compressed_entries() {
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
            // Magic 1 counts inside, with a gap that compaction left; magic 0 has absolute offsets.
            let one = compressed(1, codec, 0, &[0, 1, 3], 103);
            let batch = to_batch(&one, Limits::default()).unwrap();
            assert_eq!(
                offsets_and_timestamps(&batch),
                [(100, 1000), (101, 1001), (103, 1003)]
            );
            assert_eq!(batch.header().last_offset(), 103);
            let zero = compressed(0, codec, 0, &[50, 51], 51);
            let batch = to_batch(&zero, Limits::default()).unwrap();
            assert_eq!(offsets_and_timestamps(&batch), [(50, -1), (51, -1)]);
        }
    }

    #[test]
    fn append_time_of_the_entry_counts_for_all() {
        let one = compressed(1, Compression::Gzip, 8, &[0, 1], 21);
        let batch = to_batch(&one, Limits::default()).unwrap();
        assert_eq!(offsets_and_timestamps(&batch), [(20, 1021), (21, 1021)]);
        assert_eq!(
            batch.header().attributes.timestamp_type(),
            TimestampType::LogAppendTime
        );
    }

    #[test]
    fn refused() {
        let inner = compressed(1, Compression::Gzip, 0, &[0], 0);
        let mut value = Vec::new();
        Codecs::new()
            .compress(Compression::Gzip, None, &inner, &mut value)
            .unwrap();
        let nested = entry(1, 1, 0, Some(&value));
        let limits = Limits::default();
        assert_eq!(
            to_batch(&nested, limits),
            Err(RecordError::NestedCompression)
        );
        assert!(to_batch(&compressed(1, Compression::Zstd, 0, &[0], 0), limits).is_err());
        assert!(to_batch(&entry(1, 1, 0, None), limits).is_err());
        let bomb = compressed(1, Compression::Lz4, 0, &[0; 1000], 0);
        let tight = Limits {
            decompressed_bytes: 1000,
        };
        assert_eq!(
            to_batch(&bomb, tight),
            Err(RecordError::DecompressedTooLarge { limit: 1000 })
        );
        // The same offset twice.
        assert!(to_batch(&compressed(0, Compression::Lz4, 0, &[4, 4], 4), limits).is_err());
    }

    #[test]
    fn damage_is_an_error() {
        let good = compressed(1, Compression::Lz4, 0, &[0, 1, 2], 2);
        for cut in 0..good.len() {
            assert!(to_batch(&good[..cut], Limits::default()).is_err());
        }
        // Behind the offset and the size the checksum covers everything.
        for at in 8..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(to_batch(&bad, Limits::default()).is_err(), "byte {at}");
        }
    }
}
