//! Writing a snapshot file: record batches between a header and a footer record.

use alloc::{string::ToString, vec::Vec};

use bytes::Bytes;
use ottla_log::{Storage, write_file};
use ottla_record::{
    BatchBuilder, FinishOptions, HEADER_LEN, Now, RecordError,
    control::{ControlType, control_batch},
};

use crate::BrokerError;

/// Most records of a batch; Kafka's own reader takes any number.
const BATCH_RECORDS: usize = 500;
/// i16 version, i64 timestamp of the newest record of the log that the snapshot stands for, no tagged fields.
const HEADER: [u8; 11] = [0; 11];
/// i16 version, no tagged fields.
const FOOTER: [u8; 3] = [0; 3];

/// Replaces the snapshot at `path`, durably; `values` are records with their frames.
pub(super) fn write(
    storage: &dyn Storage,
    path: &str,
    values: &[Bytes],
    now: Now,
) -> Result<(), BrokerError> {
    let bytes = encoded(values, now).map_err(|error| BrokerError::Corrupt {
        path: path.into(),
        why: error.to_string(),
    })?;
    Ok(write_file(storage, path, &bytes)?)
}

fn encoded(values: &[Bytes], now: Now) -> Result<Vec<u8>, RecordError> {
    let at = |base_offset: usize| FinishOptions {
        base_offset: base_offset as i64,
        leader_epoch: 0,
        ..FinishOptions::default()
    };
    let mut bytes = Vec::new();
    let header = control_batch(ControlType::SnapshotHeader, &HEADER, now.wall_ms, &at(0))?;
    bytes.extend_from_slice(&header);
    let mut next_offset = 1;
    for values in values.chunks(BATCH_RECORDS) {
        let size: usize = values.iter().map(|value| value.len() + 16).sum();
        let mut builder = BatchBuilder::new(HEADER_LEN + size);
        for value in values {
            builder.append(now.wall_ms, None, Some(value), &[])?;
        }
        bytes.extend_from_slice(&builder.finish(&at(next_offset))?.encoded);
        next_offset += values.len();
    }
    let footer = at(next_offset);
    let footer = control_batch(ControlType::SnapshotFooter, &FOOTER, now.wall_ms, &footer)?;
    bytes.extend_from_slice(&footer);
    Ok(bytes)
}
