//! What the broker has stored, read from its files: both brokers have Kafka's layout.

use super::list::Stored;
use crate::shell::Outcome;
use std::{fs, path::Path};

/// The bytes of a batch before its records.
const HEADER: usize = 61;

/// Checks the batches of a topic's partitions.
pub fn check(dir: &Path, topic: &str, wanted: Stored) -> Outcome {
    let mut batches = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))? {
        let partition = entry.map_err(|e| e.to_string())?.path();
        let name = partition.file_name().unwrap_or_default().to_string_lossy();
        let Some(number) = name
            .strip_prefix(topic)
            .and_then(|rest| rest.strip_prefix('-'))
        else {
            continue;
        };
        if number.parse::<u32>().is_ok() {
            let log = partition.join("00000000000000000000.log");
            let bytes = fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
            batches.extend(headers(&bytes)?);
        }
    }
    judge(&batches, wanted)
}

/// What a batch's header says.
struct Header {
    codec: u8,
    transactional: bool,
    control: bool,
    producer: i64,
}

/// The headers of the batches; what comes after the last is zeros, if there is something.
fn headers(mut bytes: &[u8]) -> Outcome<Vec<Header>> {
    let mut headers = Vec::new();
    while bytes.len() >= HEADER {
        let length = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
        if length == 0 {
            break;
        }
        if bytes[16] != 2 {
            return Err(format!("a batch of format {}", bytes[16]));
        }
        let mut producer = [0; 8];
        producer.copy_from_slice(&bytes[43..51]);
        headers.push(Header {
            codec: bytes[22] & 7,
            transactional: bytes[22] & 0x10 != 0,
            control: bytes[22] & 0x20 != 0,
            producer: i64::from_be_bytes(producer),
        });
        bytes = bytes
            .get(12 + length..)
            .ok_or("the last batch is cut off")?;
    }
    Ok(headers)
}

fn judge(batches: &[Header], wanted: Stored) -> Outcome {
    let data: Vec<&Header> = batches.iter().filter(|b| !b.control).collect();
    if data.is_empty() {
        return Err("the broker has stored nothing".into());
    }
    if let Some(codec) = wanted.codec {
        // A client may leave out what gets no smaller by it.
        let other = data.iter().find(|b| b.codec != codec && b.codec != 0);
        if other.is_some() || data.iter().all(|b| b.codec != codec) {
            let codecs: Vec<u8> = data.iter().map(|b| b.codec).collect();
            return Err(format!("stored with the codecs {codecs:?}, not {codec}"));
        }
    }
    if wanted.producer && data.iter().any(|b| b.producer < 0) {
        return Err("stored without a producer id".into());
    }
    if wanted.transactional && !data.iter().all(|b| b.transactional) {
        return Err("stored outside of transactions".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(attributes: u8, producer: i64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[11] = HEADER as u8 - 12;
        bytes[16] = 2;
        bytes[22] = attributes;
        bytes[43..51].copy_from_slice(&producer.to_be_bytes());
        bytes
    }

    #[test]
    fn a_batch_that_is_not_as_it_should_be_is_seen() {
        let plain = Stored {
            codec: Some(0),
            ..Stored::default()
        };
        let gzip = Stored {
            codec: Some(1),
            ..Stored::default()
        };
        let once = Stored {
            producer: true,
            ..Stored::default()
        };
        let transactional = Stored {
            transactional: true,
            ..Stored::default()
        };
        let judged = |bytes: &[u8], wanted| judge(&headers(bytes).unwrap(), wanted).is_ok();
        let (none, compressed, zeros) = (batch(0, -1), batch(1, -1), vec![0; 100]);
        assert!(judged(&[&none[..], &zeros].concat(), plain));
        assert!(!judged(&zeros, plain), "nothing is stored");
        assert!(judged(&[&none[..], &compressed].concat(), gzip));
        assert!(!judged(&none, gzip), "nothing is compressed");
        assert!(
            !judged(&[compressed, batch(2, -1)].concat(), gzip),
            "another codec"
        );
        assert!(judged(&batch(0, 7), once) && !judged(&none, once));
        assert!(judged(&batch(0x10, 7), transactional) && !judged(&batch(0, 7), transactional));
        assert!(
            !judged(&batch(0x30, 7), transactional),
            "a marker is no record"
        );
    }
}
