//! Copies for what is kept: text and bytes of a request are slices of its frame, and one kept slice would hold all of it.

use bytes::Bytes;
use ottla_protocol::Str;

/// The same text in memory of its own.
pub(super) fn owned_str(text: &Str) -> Str {
    Str::from(text.as_str())
}

/// The same bytes in memory of their own.
pub(super) fn owned_bytes(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
