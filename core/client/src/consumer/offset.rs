//! Logical offsets, with librdkafka's numbers.

/// The log's first offset.
pub const BEGINNING: i64 = -2;
/// The log's end: only what is appended later.
pub const END: i64 = -1;
/// The group's committed offset, else `auto.offset.reset`.
pub const STORED: i64 = -1000;
/// No offset; as a start it means [`STORED`].
pub const INVALID: i64 = -1001;
/// [`tail`] counts down from here.
const TAIL_BASE: i64 = -2000;

/// The offset `n` records before the end, but not before the beginning. Negative `n` count as 0.
pub const fn tail(n: i64) -> i64 {
    TAIL_BASE.saturating_sub(if n < 0 { 0 } else { n })
}

/// Where to start to consume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// This offset.
    At(i64),
    /// The log's first offset.
    Beginning,
    /// The log's end.
    End,
    /// So many records before the end.
    Tail(i64),
    /// The committed offset.
    Stored,
}

impl Start {
    /// What an offset of the public interface means; `None` for a number that means nothing.
    pub(crate) fn from_offset(offset: i64) -> Option<Self> {
        match offset {
            0.. => Some(Self::At(offset)),
            BEGINNING => Some(Self::Beginning),
            END => Some(Self::End),
            STORED | INVALID => Some(Self::Stored),
            ..=TAIL_BASE => Some(Self::Tail(TAIL_BASE - offset)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_librdkafkas() {
        assert_eq!(Start::from_offset(7), Some(Start::At(7)));
        assert_eq!(Start::from_offset(-2), Some(Start::Beginning));
        assert_eq!(Start::from_offset(-1), Some(Start::End));
        assert_eq!(Start::from_offset(-1000), Some(Start::Stored));
        assert_eq!(Start::from_offset(-1001), Some(Start::Stored));
        assert_eq!(Start::from_offset(tail(5)), Some(Start::Tail(5)));
        assert_eq!(tail(5), -2005);
        assert_eq!(Start::from_offset(-3), None);
        assert_eq!(
            Start::from_offset(i64::MIN),
            Some(Start::Tail(i64::MAX - 1999))
        );
    }
}
