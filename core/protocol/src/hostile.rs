//! Damaged and hostile input: errors, never panics, and memory in proportion to the input.

use crate::arbitrary::Random;
use crate::codec::reserved;
use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, Request, Response};
use bytes::Bytes;
use core::fmt::Debug;
use std::vec::Vec;

/// Most bytes that decoding may reserve per byte of input. A string of length 0 is one byte on the wire and 32 in
/// memory, and each level of nesting may claim the whole rest of the frame once.
const MEMORY_PER_BYTE: usize = 100;

type Encode<T> = fn(&T, i16, &mut Encoder) -> Result<(), EncodeError>;
type Decode<T> = fn(ApiKey, i16, &mut Decoder) -> Result<T, DecodeError>;

/// Encoded values of every message and version, requests and responses.
fn each(rounds: u64, mut check: impl FnMut(ApiKey, i16, &mut Random, Bytes, bool)) {
    for api_key in ApiKey::ALL {
        for version in api_key.valid_versions() {
            let mut random = Random(version as u64);
            for _ in 0..rounds {
                let mut e = Encoder::new();
                Request::arbitrary(api_key, &mut random, version)
                    .encode(version, &mut e)
                    .unwrap();
                check(api_key, version, &mut random, e.into_bytes(), true);
                let mut e = Encoder::new();
                Response::arbitrary(api_key, &mut random, version)
                    .encode(version, &mut e)
                    .unwrap();
                check(api_key, version, &mut random, e.into_bytes(), false);
            }
        }
    }
}

/// Decodes, whatever comes of it, looks at the memory it took, and checks that what could be read can be written.
fn decode<T: Debug + PartialEq>(
    decode: Decode<T>,
    encode: Encode<T>,
    api_key: ApiKey,
    version: i16,
    bytes: Bytes,
) -> Result<(), DecodeError> {
    let len = bytes.len();
    reserved::take();
    let result = decode(api_key, version, &mut Decoder::new(bytes));
    let reserved = reserved::take();
    assert!(
        reserved <= MEMORY_PER_BYTE * len,
        "{api_key:?} v{version}: {reserved} bytes reserved for {len}"
    );
    let value = result?;
    let mut e = Encoder::new();
    encode(&value, version, &mut e)
        .unwrap_or_else(|e| panic!("{api_key:?} v{version}: {e} in {value:?}"));
    let again = decode(api_key, version, &mut Decoder::new(e.into_bytes()));
    // A number that is none (a quota's value may be) is not equal to itself, but looks the same.
    let same = alloc::format!("{again:?}") == alloc::format!("{:?}", Ok::<_, DecodeError>(&value));
    assert!(again.as_ref() == Ok(&value) || same, "{again:?}\n{value:?}");
    Ok(())
}

fn either(request: bool, api_key: ApiKey, version: i16, bytes: Bytes) -> Result<(), DecodeError> {
    if request {
        decode(Request::decode, Request::encode, api_key, version, bytes)
    } else {
        decode(Response::decode, Response::encode, api_key, version, bytes)
    }
}

#[test]
fn every_prefix_is_an_error() {
    each(8, |api_key, version, _, bytes, request| {
        for len in 0..bytes.len() {
            let result = either(request, api_key, version, bytes.slice(..len));
            assert!(
                result.is_err(),
                "{api_key:?} v{version}: {len} of {} bytes",
                bytes.len()
            );
        }
    });
}

#[test]
fn changed_bytes_are_survived() {
    let lengths: [&[u8]; 6] = [
        &[0xff; 5],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80],
        &[0x7f],
        &[0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
    ];
    each(2, |api_key, version, random, bytes, request| {
        let step = 1 + bytes.len() / 200;
        for at in (0..bytes.len()).step_by(step) {
            for length in lengths {
                let mut changed = bytes.to_vec();
                let end = changed.len().min(at + length.len());
                changed[at..end].copy_from_slice(&length[..end - at]);
                let _ = either(request, api_key, version, changed.into());
            }
            let mut changed = bytes.to_vec();
            changed[at] = random.next() as u8;
            let _ = either(request, api_key, version, changed.into());
        }
    });
}

#[test]
fn noise_is_survived() {
    each(1, |api_key, version, random, _, request| {
        for _ in 0..50 {
            let small = random.one_in(2);
            let noise: Vec<u8> = (0..random.below(200))
                .map(|_| {
                    if small {
                        random.below(4) as u8
                    } else {
                        random.next() as u8
                    }
                })
                .collect();
            let _ = either(request, api_key, version, noise.into());
        }
    });
}

#[test]
fn the_densest_frames_take_memory_in_proportion() {
    // All lengths of a compact array of elements that are as short as they can be.
    for fill in 0..=3_u8 {
        for (api_key, version) in ApiKey::ALL
            .into_iter()
            .flat_map(|k| k.valid_versions().map(move |v| (k, v)))
        {
            for request in [true, false] {
                for lead in 0..24 {
                    let mut bytes = std::vec![0; lead];
                    bytes.extend_from_slice(&[0xff, 0x7f]);
                    bytes.extend_from_slice(&[fill; 20_000]);
                    let _ = either(request, api_key, version, bytes.into());
                }
            }
        }
    }
}

#[test]
fn five_bytes_cannot_ask_for_gigabytes() {
    let bytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let result = Request::decode(ApiKey::Metadata, 12, &mut Decoder::new(bytes));
    assert_eq!(result, Err(DecodeError::Truncated));
}

#[test]
fn unknown_tagged_fields_are_passed_over() {
    let mut e = Encoder::new();
    Request::Heartbeat(Default::default())
        .encode(4, &mut e)
        .unwrap();
    let mut bytes = e.into_bytes().to_vec();
    assert_eq!(bytes.pop(), Some(0), "the number of tagged fields");
    bytes.extend_from_slice(&[2, 5, 3, 1, 2, 3, 0x81, 0x01, 0]);
    let mut d = Decoder::new(bytes.into());
    assert_eq!(
        Request::decode(ApiKey::Heartbeat, 4, &mut d),
        Ok(Request::Heartbeat(Default::default()))
    );
    assert_eq!(d.remaining(), 0);
}

#[test]
fn a_known_tag_cannot_read_beyond_its_size() {
    let mut e = Encoder::new();
    Response::ApiVersions(Default::default())
        .encode(3, &mut e)
        .unwrap();
    let mut bytes = e.into_bytes().to_vec();
    bytes.pop();
    // Tag 1 is an i64; here it claims 4 bytes, and 8 follow.
    bytes.extend_from_slice(&[1, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    let result = Response::decode(ApiKey::ApiVersions, 3, &mut Decoder::new(bytes.into()));
    assert_eq!(result, Err(DecodeError::Truncated));
}
