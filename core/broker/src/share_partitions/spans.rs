//! Offsets with a value each, kept as spans: a map from ranges to values in which no two neighbours are equal.

use alloc::{collections::BTreeMap, vec::Vec};

/// Disjoint spans of offsets in ascending order. Offsets may be missing; touching spans of equal values are one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spans<V> {
    /// First offset → last offset and value.
    by_first: BTreeMap<i64, (i64, V)>,
}

impl<V> Default for Spans<V> {
    fn default() -> Self {
        Self {
            by_first: BTreeMap::new(),
        }
    }
}

impl<V: Clone + PartialEq> Spans<V> {
    /// Gives all offsets from `first` to `last` (inclusive) this value, whatever they had.
    pub fn set(&mut self, first: i64, last: i64, value: V) {
        if first > last {
            return;
        }
        self.clear(first, last);
        let (mut first, mut last) = (first, last);
        if let Some((&left, (left_last, v))) = self.by_first.range(..first).next_back()
            && *left_last == first - 1
            && *v == value
        {
            self.by_first.remove(&left);
            first = left;
        }
        if let Some(right) = last.checked_add(1)
            && let Some((right_last, v)) = self.by_first.get(&right)
            && *v == value
        {
            last = *right_last;
            self.by_first.remove(&right);
        }
        self.by_first.insert(first, (last, value));
    }

    /// Takes all offsets from `first` to `last` (inclusive) out.
    pub fn clear(&mut self, first: i64, last: i64) {
        if first > last {
            return;
        }
        if let Some((_, (left_last, value))) = self.by_first.range_mut(..first).next_back()
            && *left_last >= first
        {
            let old_last = core::mem::replace(left_last, first - 1);
            if old_last > last {
                let value = value.clone();
                self.by_first.insert(last + 1, (old_last, value));
                return;
            }
        }
        while let Some((&at, (at_last, _))) = self.by_first.range(first..=last).next() {
            let at_last = *at_last;
            if let Some((_, value)) = self.by_first.remove(&at)
                && at_last > last
            {
                self.by_first.insert(last + 1, (at_last, value));
            }
        }
    }

    /// Takes everything below `offset` out.
    pub fn clear_below(&mut self, offset: i64) {
        if offset > i64::MIN {
            self.clear(i64::MIN, offset - 1);
        }
    }

    /// All spans: first offset, last offset, value.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, i64, &V)> {
        self.by_first
            .iter()
            .map(|(first, (last, value))| (*first, *last, value))
    }

    /// The parts of spans from `first` to `last` (inclusive).
    pub fn within(&self, first: i64, last: i64) -> Vec<(i64, i64, V)> {
        if first > last {
            return Vec::new();
        }
        let begins_left = self.by_first.range(..first).next_back();
        begins_left
            .into_iter()
            .chain(self.by_first.range(first..=last))
            .filter(|(_, (span_last, _))| *span_last >= first)
            .map(|(at, (span_last, v))| ((*at).max(first), (*span_last).min(last), v.clone()))
            .collect()
    }

    /// How many spans there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_first.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::vec;

    fn all(spans: &Spans<u8>) -> Vec<(i64, i64, u8)> {
        spans.iter().map(|(f, l, v)| (f, l, *v)).collect()
    }

    #[test]
    fn splits_and_joins() {
        let mut spans = Spans::default();
        spans.set(0, 9, 1);
        spans.set(3, 5, 2);
        assert_eq!(all(&spans), [(0, 2, 1), (3, 5, 2), (6, 9, 1)]);
        spans.set(3, 5, 1);
        assert_eq!(all(&spans), [(0, 9, 1)]);
        spans.clear(4, 4);
        assert_eq!(all(&spans), [(0, 3, 1), (5, 9, 1)]);
        assert_eq!(spans.within(2, 6), vec![(2, 3, 1), (5, 6, 1)]);
        spans.clear_below(6);
        assert_eq!(all(&spans), [(6, 9, 1)]);
        spans.set(5, 4, 7);
        assert_eq!(spans.len(), 1);
    }

    #[test]
    fn as_a_plain_array_would() {
        let mut random = Random::new(7);
        for _ in 0..200 {
            let mut spans: Spans<u8> = Spans::default();
            let mut plain = [None::<u8>; 40];
            for _ in 0..60 {
                let first = (random.next_u64() % 40) as usize;
                let last = (first + (random.next_u64() % 12) as usize).min(39);
                let value = match random.next_u64() % 4 {
                    0 => None,
                    v => Some(v as u8),
                };
                match value {
                    Some(v) => spans.set(first as i64, last as i64, v),
                    None => spans.clear(first as i64, last as i64),
                }
                plain[first..=last].fill(value);
                let mut read = [None; 40];
                let mut before: Option<(i64, u8)> = None;
                for (first, last, v) in spans.iter() {
                    assert!(before.is_none_or(|(end, value)| end + 1 < first || value != *v));
                    before = Some((last, *v));
                    read[first as usize..=last as usize].fill(Some(*v));
                }
                assert_eq!(read, plain);
            }
        }
    }
}
