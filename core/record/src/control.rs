//! Control records: what a broker writes into a partition besides user data.
//!
//! A control batch has the control attribute and holds one record. Its key says what it is; clients skip the batch but
//! count its offset.

use bytes::Bytes;

use crate::{BatchBuilder, FinishOptions, RecordError};

/// What a control record says, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// End of an aborted transaction.
    Abort,
    /// End of a committed transaction.
    Commit,
    /// A new leader of a quorum partition.
    LeaderChange,
    /// Begin of a metadata snapshot.
    SnapshotHeader,
    /// End of a metadata snapshot.
    SnapshotFooter,
    /// Version of the quorum protocol.
    KraftVersion,
    /// Voters of the quorum.
    KraftVoters,
    /// A type that is not known here: to be skipped.
    Unknown(i16),
}

impl ControlType {
    /// The type that the key of a control record names. Keys of later versions may be longer.
    pub fn parse_key(key: &[u8]) -> Result<Self, RecordError> {
        let mut reader = key;
        let version = take_i16(&mut reader)?;
        if version < 0 {
            return Err(RecordError::InvalidField("control key version"));
        }
        Ok(match take_i16(&mut reader)? {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KraftVersion,
            6 => Self::KraftVoters,
            other => Self::Unknown(other),
        })
    }

    /// The number in the key.
    pub const fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KraftVersion => 5,
            Self::KraftVoters => 6,
            Self::Unknown(id) => id,
        }
    }

    /// The key of a control record of this type, version 0.
    pub const fn key(self) -> [u8; 4] {
        let id = self.id().to_be_bytes();
        [0, 0, id[0], id[1]]
    }
}

/// The end of a transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Committed, or aborted.
    pub committed: bool,
    /// Epoch of the transaction coordinator that decided it.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// The marker in a control record; `None` if the record is another kind of control record.
    pub fn parse(key: &[u8], value: &[u8]) -> Result<Option<Self>, RecordError> {
        let committed = match ControlType::parse_key(key)? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            _ => return Ok(None),
        };
        let mut reader = value;
        if take_i16(&mut reader)? < 0 {
            return Err(RecordError::InvalidField("transaction marker version"));
        }
        let Some(epoch) = reader.first_chunk::<4>() else {
            return Err(RecordError::Truncated {
                needed: 4,
                have: reader.len(),
            });
        };
        Ok(Some(Self {
            committed,
            coordinator_epoch: i32::from_be_bytes(*epoch),
        }))
    }

    /// The batch with this marker, 78 bytes, for the transaction of `producer_id` and `producer_epoch`, as a leader
    /// appends it at `base_offset`. `timestamp` is in ms since the Unix epoch.
    pub fn to_batch(
        self,
        producer_id: i64,
        producer_epoch: i16,
        timestamp: i64,
        base_offset: i64,
        leader_epoch: i32,
    ) -> Result<Bytes, RecordError> {
        let kind = if self.committed {
            ControlType::Commit
        } else {
            ControlType::Abort
        };
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        control_batch(
            kind,
            &value,
            timestamp,
            &FinishOptions {
                base_offset,
                leader_epoch,
                producer_id,
                producer_epoch,
                transactional: true,
                ..FinishOptions::default()
            },
        )
    }
}

/// A control batch of any type: one record with `kind`'s key and `value`. `options` fills the header; the control bit is
/// set whatever they say, and nothing is compressed.
pub fn control_batch(
    kind: ControlType,
    value: &[u8],
    timestamp: i64,
    options: &FinishOptions,
) -> Result<Bytes, RecordError> {
    let mut builder = BatchBuilder::new(96 + value.len());
    builder.append(timestamp, Some(&kind.key()), Some(value), &[])?;
    let finished = builder.finish(&FinishOptions {
        control: true,
        compression: crate::Compression::None,
        ..*options
    })?;
    Ok(finished.encoded)
}

fn take_i16(reader: &mut &[u8]) -> Result<i16, RecordError> {
    match reader.split_first_chunk::<2>() {
        Some((bytes, rest)) => {
            *reader = rest;
            Ok(i16::from_be_bytes(*bytes))
        }
        None => Err(RecordError::Truncated {
            needed: 2,
            have: reader.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, RecordBatch};

    #[test]
    fn end_txn_marker_round_trip() {
        for committed in [true, false] {
            let marker = EndTxnMarker {
                committed,
                coordinator_epoch: 7,
            };
            let bytes = marker.to_batch(99, 3, 1000, 41, 5).unwrap();
            assert_eq!(bytes.len(), 78);
            let batch = RecordBatch::parse(bytes).unwrap();
            batch.check_crc().unwrap();
            assert_eq!(batch.header().attributes.0, 0x30);
            assert_eq!(
                (batch.header().producer_id, batch.header().producer_epoch),
                (99, 3)
            );
            assert_eq!(
                (batch.header().base_sequence, batch.header().base_offset),
                (-1, 41)
            );
            let mut records = batch.records(Limits::default()).unwrap();
            let record = records.next_record().unwrap().unwrap();
            let read = EndTxnMarker::parse(record.key.unwrap(), record.value.unwrap());
            assert_eq!(read, Ok(Some(marker)));
        }
    }

    #[test]
    fn other_types_are_told_apart() {
        for id in 0..9 {
            let kind = ControlType::parse_key(&[0, 0, 0, id]).unwrap();
            assert_eq!(kind.id(), id as i16);
            assert_eq!(kind.key(), [0, 0, 0, id]);
        }
        assert_eq!(
            EndTxnMarker::parse(&ControlType::LeaderChange.key(), b""),
            Ok(None)
        );
        for cut in 0..4 {
            assert!(ControlType::parse_key(&[0, 0, 0, 1][..cut]).is_err());
        }
        for cut in 0..6 {
            assert!(EndTxnMarker::parse(&[0, 0, 0, 1], &[0; 6][..cut]).is_err());
        }
        assert!(ControlType::parse_key(&[0xff, 0xff, 0, 1]).is_err());
    }
}
