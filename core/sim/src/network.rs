//! What happens to messages on their way: through the codec and back, and planted bugs.

use bytes::Bytes;
use ottla_protocol::{
    ApiKey, Records, Request, RequestHeader, Response,
    frame::{decode_request, decode_response, encode_request, encode_response},
};
use ottla_record::crc32c;

/// The frame without its size.
fn frame(pieces: Vec<Bytes>) -> Bytes {
    let mut all = pieces.into_iter().collect::<Records>().to_bytes();
    all.split_off(4)
}

/// The request as it is after it was a frame of its version.
pub fn recode_request(version: i16, request: &Request) -> Result<Request, String> {
    let header = RequestHeader {
        request_api_key: request.api_key() as i16,
        request_api_version: version,
        correlation_id: 1,
        client_id: Some("sim".into()),
    };
    let bytes = encode_request(&header, request).map_err(|error| format!("{error:?}"))?;
    let (_, request) = decode_request(frame(bytes)).map_err(|error| format!("{error:?}"))?;
    Ok(request)
}

/// The answer as it is after it was a frame of its version.
pub fn recode_response(key: ApiKey, version: i16, response: &Response) -> Result<Response, String> {
    let bytes = encode_response(1, version, response).map_err(|error| format!("{error:?}"))?;
    let (_, response) =
        decode_response(key, version, frame(bytes)).map_err(|error| format!("{error:?}"))?;
    Ok(response)
}

/// Planted: the same batches, but of no idempotent producer. `None` if there are none.
pub fn as_plain(request: &Request) -> Option<Request> {
    let Request::Produce(produce) = request else {
        return None;
    };
    let mut produce = produce.clone();
    for partition in produce
        .topic_data
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_data)
    {
        let mut bytes = partition.records.to_bytes().to_vec();
        if bytes.len() < 61 || bytes[43..51] == [0xff; 8] {
            return None;
        }
        bytes[43..57].fill(0xff);
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        partition.records = Bytes::from(bytes).into();
    }
    Some(Request::Produce(produce))
}

/// Planted: changes the fetched batches; false if there are none to change.
fn change_batches(response: &mut Response, mut change: impl FnMut(&mut [u8]) -> bool) -> bool {
    let Response::Fetch(fetch) = response else {
        return false;
    };
    let mut any = false;
    for partition in fetch
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions)
    {
        let mut bytes = partition.records.to_bytes().to_vec();
        let mut at = 0;
        while let Some(length) = bytes.get(at + 8..at + 12) {
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            let end = at + 12 + length.max(0) as usize;
            if end > bytes.len() {
                break;
            }
            any |= change(&mut bytes[at..end]);
            at = end;
        }
        partition.records = Bytes::from(bytes).into();
    }
    any
}

/// Planted: batches from an offset on are found one further.
pub fn shift_offsets(response: &mut Response, from: i64) -> bool {
    change_batches(response, |batch| {
        let Some(base) = batch.first_chunk_mut::<8>() else {
            return false;
        };
        let offset = i64::from_be_bytes(*base);
        *base = (offset + i64::from(offset >= from)).to_be_bytes();
        offset >= from
    })
}

/// Planted: some batches have no records, as if compaction had taken them (a consumer passes over control batches).
pub fn hide_some(response: &mut Response) -> bool {
    change_batches(response, |batch| {
        let Some(base) = batch.first_chunk::<8>() else {
            return false;
        };
        let hides = i64::from_be_bytes(*base) % 3 == 2;
        if hides {
            batch[22] |= 0x20;
            let crc = crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        hides
    })
}

/// Planted: the last letter of a value is another.
pub fn change_value(response: &mut Response) -> bool {
    change_batches(response, |batch| {
        let at = batch.len() - 2;
        let letter = batch[at] == b'x';
        if letter {
            batch[at] = b'y';
        }
        letter
    })
}
