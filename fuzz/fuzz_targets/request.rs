//! Any bytes as a request frame: no panic, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_protocol::frame::{decode_request, encode_request};

fuzz_target!(|bytes: &[u8]| {
    let Ok((header, request)) = decode_request(bytes.to_vec().into()) else {
        return;
    };
    if !request
        .api_key()
        .valid_versions()
        .contains(&header.request_api_version)
    {
        // An ApiVersions request of the future is read on purpose; nobody can write it.
        return;
    }
    let frame = encode_request(&header, &request)
        .expect("what was read can be written")
        .concat();
    let again = decode_request(frame[4..].to_vec().into()).expect("what was written can be read");
    let read = (header, request);
    // A quota that is NaN isn't equal to itself.
    assert!(
        again == read || format!("{again:?}") == format!("{read:?}"),
        "{read:?} came back as {again:?}"
    );
});
