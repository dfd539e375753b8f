//! Frames: a four-byte size, then header and body. From bytes to values and back.

use crate::{
    ApiKey, DecodeError, Decoder, EncodeError, Encoder, ErrorCode, Request, RequestHeader,
    Response, ResponseHeader, messages::ApiVersionsRequest,
};
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

/// Cuts a stream of bytes into frames. Memory is taken as bytes arrive, never because a size says so.
#[derive(Debug)]
pub struct FrameReader {
    received: BytesMut,
    max_size: usize,
}

impl FrameReader {
    /// Accepts frames of up to `max_size` bytes, their size field not counted
    /// (a broker's `socket.request.max.bytes`, 100 MiB in Kafka; a client's `receive.message.max.bytes`).
    pub fn new(max_size: usize) -> Self {
        Self {
            received: BytesMut::new(),
            max_size,
        }
    }

    /// Takes what the connection delivered.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next complete frame without its size field, sharing the received bytes; `None` until more has arrived.
    ///
    /// # Errors
    /// A negative size or one above the maximum: the stream cannot be read any further and the connection must be closed.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(size) = self.received.first_chunk::<4>() else {
            return Ok(None);
        };
        let claimed = i32::from_be_bytes(*size);
        let size = usize::try_from(claimed)
            .ok()
            .filter(|&size| size <= self.max_size);
        let size = size.ok_or(DecodeError::FrameTooLarge { size: claimed })?;
        if self.received.len() - 4 < size {
            return Ok(None);
        }
        let mut frame = self.received.split_to(4 + size).freeze();
        Ok(Some(frame.split_off(4)))
    }

    /// Bytes that no frame has been made of yet.
    pub fn pending(&self) -> usize {
        self.received.len()
    }
}

/// Fills in the size field at the start and hands out the pieces.
fn finish_frame(mut e: Encoder) -> Result<Vec<Bytes>, EncodeError> {
    let size = i32::try_from(e.len() - 4).map_err(|_| EncodeError::TooLong)?;
    e.patch_i32(0, size);
    Ok(e.into_pieces())
}

/// Room for the size field, the header and the body, record bytes left out.
const HEADER_HINT: usize = 32;

/// A whole request frame as pieces to be written one after the other; record chunks are shared, not copied.
///
/// The header's API key must be the request's.
pub fn encode_request(
    header: &RequestHeader,
    request: &Request,
) -> Result<Vec<Bytes>, EncodeError> {
    let client_id = header.client_id.as_ref().map_or(0, |c| c.len());
    let mut e = Encoder::with_capacity(HEADER_HINT + client_id + request.size_hint());
    e.i32(0);
    header.encode(&mut e)?;
    request.encode(header.request_api_version, &mut e)?;
    finish_frame(e)
}

/// Reads a request frame (without its size field).
///
/// An ApiVersions request of a version that is too new comes back with that version in its header and an empty body: a
/// broker must answer it with [`ErrorCode::UNSUPPORTED_VERSION`], which [`encode_response`] then writes as version 0.
///
/// # Errors
/// Anything else that this crate does not know, or that is malformed; Kafka closes the connection.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), DecodeError> {
    let mut d = Decoder::new(frame);
    let header = RequestHeader::decode(&mut d)?;
    let unknown = DecodeError::UnknownApiKey {
        api_key: header.request_api_key,
    };
    let api_key = header.api_key().ok_or(unknown)?;
    let version = header.request_api_version;
    let request = if api_key == ApiKey::ApiVersions && !api_key.valid_versions().contains(&version)
    {
        Request::ApiVersions(ApiVersionsRequest::default())
    } else {
        Request::decode(api_key, version, &mut d)?
    };
    Ok((header, request))
}

/// The version in which a response to a request of `version` is written: that one, but 0 for an ApiVersions request
/// whose version nobody here knows.
pub fn response_version(api_key: ApiKey, version: i16) -> i16 {
    if api_key == ApiKey::ApiVersions && !api_key.valid_versions().contains(&version) {
        0
    } else {
        version
    }
}

/// A whole response frame as pieces to be written one after the other; record chunks are shared, not copied.
///
/// `version` is the request's.
pub fn encode_response(
    correlation_id: i32,
    version: i16,
    response: &Response,
) -> Result<Vec<Bytes>, EncodeError> {
    let api_key = response.api_key();
    let version = response_version(api_key, version);
    let mut e = Encoder::with_capacity(HEADER_HINT + response.size_hint());
    e.i32(0);
    ResponseHeader { correlation_id }.encode(api_key, version, &mut e);
    response.encode(version, &mut e)?;
    finish_frame(e)
}

/// Reads the response (without its size field) to a request of `api_key` and `version`: correlation id and body.
///
/// An ApiVersions response that says [`ErrorCode::UNSUPPORTED_VERSION`] is read as version 0, as brokers write it.
pub fn decode_response(
    api_key: ApiKey,
    version: i16,
    frame: Bytes,
) -> Result<(i32, Response), DecodeError> {
    let mut d = Decoder::new(frame);
    let header = ResponseHeader::decode(api_key, version, &mut d)?;
    let refused =
        api_key == ApiKey::ApiVersions && d.clone().i16()? == ErrorCode::UNSUPPORTED_VERSION.0;
    let version = if refused { 0 } else { version };
    Ok((
        header.correlation_id,
        Response::decode(api_key, version, &mut d)?,
    ))
}

/// The correlation id of a response frame, by which a client finds out what the rest of it is.
pub fn correlation_id(frame: &[u8]) -> Result<i32, DecodeError> {
    frame
        .first_chunk()
        .map(|id| i32::from_be_bytes(*id))
        .ok_or(DecodeError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Records, Str, messages};
    use messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};

    fn header(api_key: ApiKey, version: i16) -> RequestHeader {
        RequestHeader {
            request_api_key: api_key as i16,
            request_api_version: version,
            correlation_id: 7,
            client_id: Some(Str::from("me")),
        }
    }

    fn produce(records: Bytes) -> Request {
        Request::Produce(ProduceRequest {
            acks: -1,
            topic_data: [TopicProduceData {
                name: "t".into(),
                partition_data: [PartitionProduceData {
                    index: 3,
                    records: records.into(),
                }]
                .into(),
                ..Default::default()
            }]
            .into(),
            ..Default::default()
        })
    }

    fn joined(pieces: Vec<Bytes>) -> Bytes {
        pieces.into_iter().collect::<Records>().to_bytes()
    }

    #[test]
    fn record_bytes_are_shared_both_ways() {
        let records = Bytes::from(alloc::vec![5; 10_000]);
        let request = produce(records.clone());
        let pieces = encode_request(&header(ApiKey::Produce, 9), &request).unwrap();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), records.as_ptr());

        let frame = joined(pieces).split_off(4);
        let (read_header, read) = decode_request(frame.clone()).unwrap();
        assert_eq!((read_header, &read), (header(ApiKey::Produce, 9), &request));
        let Request::Produce(read) = read else {
            panic!()
        };
        let chunk = read.topic_data[0].partition_data[0].records.to_bytes();
        assert!(frame.as_ptr_range().contains(&chunk.as_ptr()));
    }

    #[test]
    fn null_and_empty_records_are_read_as_empty() {
        for null in [false, true] {
            let mut e = Encoder::new();
            produce(Bytes::new()).encode(3, &mut e).unwrap();
            let mut body = e.into_bytes().to_vec();
            if null {
                let at = body.len() - 4;
                body[at..].copy_from_slice(&(-1_i32).to_be_bytes());
            }
            let read = Request::decode(ApiKey::Produce, 3, &mut Decoder::new(body.into())).unwrap();
            assert_eq!(read, produce(Bytes::new()));
        }
    }

    #[test]
    fn a_stream_is_cut_into_frames_wherever_it_is_torn() {
        let one = joined(
            encode_request(
                &header(ApiKey::Heartbeat, 4),
                &Request::Heartbeat(Default::default()),
            )
            .unwrap(),
        );
        let two = joined(
            encode_request(
                &header(ApiKey::Produce, 9),
                &produce(Bytes::from_static(b"xyz")),
            )
            .unwrap(),
        );
        let stream = [&one[..], &two[..]].concat();
        for cut in 0..stream.len() {
            let mut reader = FrameReader::new(1000);
            let mut frames = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                reader.push(part);
                while let Some(frame) = reader.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [one.slice(4..), two.slice(4..)]);
            assert_eq!(reader.pending(), 0);
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused_at_once() {
        for size in [1001, i32::MAX, -1, i32::MIN] {
            let mut reader = FrameReader::new(1000);
            reader.push(&size.to_be_bytes());
            assert_eq!(
                reader.next_frame(),
                Err(DecodeError::FrameTooLarge { size })
            );
        }
    }

    #[test]
    fn an_api_versions_request_of_the_future_is_answered_in_version_0() {
        let mut e = Encoder::new();
        header(ApiKey::ApiVersions, 99).encode(&mut e).unwrap();
        e.i32(0x0bad_cafe);
        let (read, request) = decode_request(e.into_bytes()).unwrap();
        assert_eq!(
            (read.request_api_version, request.api_key()),
            (99, ApiKey::ApiVersions)
        );

        let answer = Response::ApiVersions(messages::ApiVersionsResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            api_keys: [messages::api_versions::ApiVersion {
                api_key: 18,
                min_version: 0,
                max_version: 4,
            }]
            .into(),
            ..Default::default()
        });
        let frame = joined(encode_response(7, 99, &answer).unwrap()).split_off(4);
        assert_eq!(frame.len(), 4 + 2 + 4 + 6);
        assert_eq!(correlation_id(&frame), Ok(7));
        for asked in 0..=4 {
            assert_eq!(
                decode_response(ApiKey::ApiVersions, asked, frame.clone()),
                Ok((7, answer.clone()))
            );
        }
    }

    #[test]
    fn other_unknown_keys_and_versions_are_errors() {
        for (key, version, error) in [
            (1234, 0, DecodeError::UnknownApiKey { api_key: 1234 }),
            (0, 2, DecodeError::UnsupportedVersion { version: 2 }),
            (0, 14, DecodeError::UnsupportedVersion { version: 14 }),
            (3, -1, DecodeError::UnsupportedVersion { version: -1 }),
        ] {
            let header = RequestHeader {
                request_api_key: key,
                request_api_version: version,
                ..Default::default()
            };
            let mut e = Encoder::new();
            header.encode(&mut e).unwrap();
            e.i64(0);
            assert_eq!(decode_request(e.into_bytes()).unwrap_err(), error);
        }
    }

    #[test]
    fn api_versions_responses_never_have_tagged_fields_in_the_header() {
        for version in 0..=4 {
            let response = Response::ApiVersions(Default::default());
            let frame = joined(encode_response(1, version, &response).unwrap()).split_off(4);
            assert_eq!(
                frame[4..6],
                [0, 0],
                "the error code follows the correlation id"
            );
        }
    }
}
