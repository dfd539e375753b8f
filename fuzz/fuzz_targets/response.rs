//! Any bytes as a response frame of an API and version that the first four bytes choose: no panic, and what is read can
//! be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_protocol::ApiKey;
use ottla_protocol::frame::{decode_response, encode_response};

fuzz_target!(|bytes: &[u8]| {
    let Some(([key_high, key_low, version_high, version_low], frame)) = bytes.split_first_chunk()
    else {
        return;
    };
    let Some(api_key) = ApiKey::from_i16(i16::from_be_bytes([*key_high, *key_low])) else {
        return;
    };
    let version = i16::from_be_bytes([*version_high, *version_low]);
    let Ok((correlation_id, response)) = decode_response(api_key, version, frame.to_vec().into())
    else {
        return;
    };
    if api_key == ApiKey::ApiVersions {
        // A refusal is read as version 0 whatever was asked, so it need not come back as the same bytes.
        return;
    }
    let written = encode_response(correlation_id, version, &response)
        .expect("what was read can be written")
        .concat();
    let again = decode_response(api_key, version, written[4..].to_vec().into())
        .expect("what was written can be read");
    let read = (correlation_id, response);
    // A quota that is NaN isn't equal to itself.
    assert!(
        again == read || format!("{again:?}") == format!("{read:?}"),
        "{read:?} came back as {again:?}"
    );
});
