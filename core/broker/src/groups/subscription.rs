//! The topics in a consumer's `JoinGroup` metadata (`ConsumerProtocolSubscription`).

use alloc::vec::Vec;
use bytes::{Buf, Bytes};
use ottla_protocol::Str;

use super::owned::owned_bytes;

/// The subscribed topics; `None` if the metadata is not a consumer's. Every version of the format, also one that is
/// still to come, begins with its number (i16) and the topics, and only those are read.
pub(super) fn subscribed_topics(metadata: &Bytes) -> Option<Vec<Str>> {
    let mut rest = metadata.clone();
    let version = rest.try_get_i16().ok()?;
    let count = usize::try_from(rest.try_get_i32().ok()?).ok()?;
    // Each name takes at least its length of two bytes.
    if version < 0 || count > rest.len() / 2 {
        return None;
    }
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let len = usize::try_from(rest.try_get_i16().ok()?).ok()?;
        if len > rest.len() {
            return None;
        }
        topics.push(Str::from_utf8(owned_bytes(&rest.split_to(len))).ok()?);
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_any_version() {
        let mut metadata = alloc::vec![0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c'];
        metadata.extend([0xff, 0xff, 0xff, 0xff]); // user data, and what follows
        let topics = subscribed_topics(&metadata.into()).unwrap();
        assert_eq!(topics, [Str::from("a"), Str::from("bc")]);
    }

    #[test]
    fn what_is_no_subscription() {
        let cases: [&'static [u8]; 5] = [
            b"",
            b"\0",
            b"\0\0\xff\xff\xff\xff",
            b"\0\0\x7f\xff\xff\xff\0\0",
            b"\0\0\0\0\0\x01\0\x05ab",
        ];
        for case in cases {
            assert_eq!(
                subscribed_topics(&Bytes::from_static(case)),
                None,
                "{case:?}"
            );
        }
    }
}
