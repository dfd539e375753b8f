//! Record bytes inside a message: a rope of shared chunks, so that they are moved and never copied.

use alloc::vec::Vec;
use bytes::Bytes;

/// The record set of a produce or fetch partition: zero or more chunks that, one after the other, are Kafka's bytes.
///
/// Chunks are reference-counted slices of whatever holds them (a produced batch, a mapped segment, a received frame).
/// A batch may lie in one chunk or be split over several; a log that keeps produced batches in memory splits each
/// behind its 61-byte header.
#[derive(Clone, Debug, Default)]
pub struct Records {
    first: Bytes,
    rest: Vec<Bytes>,
    vouched: bool,
}

impl Records {
    /// No bytes at all.
    pub const fn new() -> Self {
        Self {
            first: Bytes::new(),
            rest: Vec::new(),
            vouched: false,
        }
    }

    /// The same, as a batch that the caller has built itself, checksum and all, from single records: a broker in the same
    /// process takes it without reading it again.
    ///
    /// It is a property of the value: records that are decoded from bytes, or put together from chunks, never have it.
    #[must_use]
    pub fn vouched(self) -> Self {
        Self {
            vouched: true,
            ..self
        }
    }

    /// Whether these are [`vouched`](Self::vouched) for.
    pub fn is_vouched(&self) -> bool {
        self.vouched
    }

    /// Adds a chunk at the end; empty chunks are left out.
    pub fn push(&mut self, chunk: Bytes) {
        self.vouched = false;
        if chunk.is_empty() {
        } else if self.first.is_empty() {
            self.first = chunk;
        } else {
            self.rest.push(chunk);
        }
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        (!self.first.is_empty())
            .then_some(&self.first)
            .into_iter()
            .chain(self.rest.iter())
    }

    /// The chunks by value, in order.
    pub fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        let first = self.first;
        (!first.is_empty())
            .then_some(first)
            .into_iter()
            .chain(self.rest)
    }

    /// Bytes in all chunks.
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// All bytes in one piece: free where there is one chunk, a copy where there are more.
    pub fn to_bytes(&self) -> Bytes {
        if self.rest.is_empty() {
            return self.first.clone();
        }
        let mut all = Vec::with_capacity(self.len());
        self.chunks().for_each(|c| all.extend_from_slice(c));
        all.into()
    }
}

impl From<Bytes> for Records {
    fn from(chunk: Bytes) -> Self {
        Self {
            first: chunk,
            rest: Vec::new(),
            vouched: false,
        }
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut records = Self::new();
        chunks.into_iter().for_each(|c| records.push(c));
        records
    }
}

/// Equal when the bytes are equal, however they are cut.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .chunks()
                .flat_map(|c| c.iter())
                .eq(other.chunks().flat_map(|c| c.iter()))
    }
}

impl Eq for Records {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voucher_is_for_the_value_as_it_was() {
        let records = Records::from(Bytes::from_static(b"batch"));
        assert!(!records.is_vouched());
        let vouched = records.clone().vouched();
        assert!(vouched.is_vouched() && vouched.clone().is_vouched());
        assert_eq!(vouched, records, "the bytes are the same");
        let mut longer = vouched.clone();
        longer.push(Bytes::from_static(b"more"));
        assert!(!longer.is_vouched());
        assert!(!Records::from(vouched.to_bytes()).is_vouched());
        assert!(!vouched.into_chunks().collect::<Records>().is_vouched());
    }
}
