//! What was promised and what was seen, and whether the two agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::compaction;

/// A topic by its number, and a partition.
pub type Place = (usize, i32);

/// A record: who produced it, and its number among that producer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// The producer.
    pub producer: usize,
    /// Counted from 0.
    pub number: u64,
}

/// What a producer promises.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promise {
    /// No record is written twice.
    pub once: bool,
    /// First writings keep the order of produce calls, per partition.
    pub ordered: bool,
}

/// The value that belongs to a record.
pub fn value_of(id: RecordId) -> String {
    let pad = (id.number * 37 + id.producer as u64 * 11) % 180;
    format!(
        "p{}-{}-{}",
        id.producer,
        id.number,
        "x".repeat(pad as usize)
    )
}

/// The key that belongs to a record.
pub fn key_of(id: RecordId) -> Option<String> {
    (!id.number.is_multiple_of(3)).then(|| format!("k{}", id.number % 7))
}

fn id_in(value: &[u8]) -> Option<RecordId> {
    let text = std::str::from_utf8(value).ok()?.strip_prefix('p')?;
    let mut parts = text.split('-');
    Some(RecordId {
        producer: parts.next()?.parse().ok()?,
        number: parts.next()?.parse().ok()?,
    })
}

/// The history of one run, checked as it grows.
#[derive(Debug, Default)]
pub struct Checker {
    /// Topics are compacted ([`compaction`]): there are holes.
    pub compacted: bool,
    /// By producer.
    pub promises: BTreeMap<usize, Promise>,
    produced: BTreeMap<usize, u64>,
    reported: BTreeSet<RecordId>,
    acknowledged: BTreeMap<(Place, i64), RecordId>,
    /// What anybody saw at an offset.
    seen: BTreeMap<(Place, i64), RecordId>,
    /// By group: up to where its members have seen everything.
    group_seen: BTreeMap<(usize, Place), i64>,
    owners: BTreeMap<(usize, i32, Place), usize>,
    /// What each group has read.
    group_read: BTreeMap<(usize, Place), BTreeSet<i64>>,
    /// What the last reader found.
    finally: BTreeMap<Place, BTreeMap<i64, RecordId>>,
    /// What is wrong, in the order in which it was found.
    pub violations: Vec<String>,
}

impl Checker {
    /// Says that something is wrong. Only the first few are kept.
    pub fn violation(&mut self, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }

    /// The value that belongs to a record of this run; none is a tombstone's.
    pub fn value_of(&self, id: RecordId) -> Option<String> {
        (!self.compacted || !compaction::is_tombstone(id)).then(|| value_of(id))
    }

    /// The key that belongs to a record of this run.
    pub fn key_of(&self, id: RecordId) -> Option<String> {
        match self.compacted {
            true => Some(compaction::key_of(id)),
            false => key_of(id),
        }
    }

    /// The next record of a producer, which is about to produce it.
    pub fn produce(&mut self, producer: usize) -> RecordId {
        let count = self.produced.entry(producer).or_default();
        *count += 1;
        RecordId {
            producer,
            number: *count - 1,
        }
    }

    /// The producer could not take the record after all.
    pub fn refused(&mut self, id: RecordId) {
        self.reported.insert(id);
    }

    /// A delivery report: the offset, or `None` if it failed.
    pub fn report(&mut self, id: RecordId, place: Place, offset: Option<i64>, value: &[u8]) {
        if !self.reported.insert(id) {
            self.violation(format!("reported twice: {id:?}"));
        }
        if value != self.value_of(id).unwrap_or_default().as_bytes() {
            self.violation(format!("report of {id:?} has another record's value"));
        }
        let Some(offset) = offset else { return };
        if offset < 0 {
            self.violation(format!("acknowledged without an offset: {id:?}"));
        } else if let Some(other) = self.acknowledged.insert((place, offset), id) {
            let what =
                format!("one offset acknowledged twice: {place:?} {offset}: {other:?} and {id:?}");
            self.violation(what);
        }
    }

    /// Somebody read a record; `name` is the header that has its id, if it has one. Gives its id if it is one.
    pub fn read(
        &mut self,
        place: Place,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        name: Option<&[u8]>,
    ) -> Option<RecordId> {
        let id = value.or(name).and_then(id_in).filter(|id| {
            id.number < self.produced.get(&id.producer).copied().unwrap_or(0)
                && value == self.value_of(*id).as_deref().map(str::as_bytes)
                && key == self.key_of(*id).as_deref().map(str::as_bytes)
        });
        let Some(id) = id else {
            self.violation(format!("nobody produced what is at {place:?} {offset}"));
            return None;
        };
        let before = self.seen.insert((place, offset), id);
        if let Some(before) = before.filter(|before| *before != id) {
            let what = format!("{place:?} {offset} was {before:?} and is now {id:?}");
            self.violation(what);
        }
        Some(id)
    }

    /// The next record of one assignment; `last` is the one before.
    pub fn follows(&mut self, who: usize, place: Place, last: Option<i64>, offset: i64) {
        let follows = |last: i64| match self.compacted {
            true => offset > last,
            false => offset == last + 1,
        };
        if let Some(last) = last.filter(|last| !follows(*last)) {
            self.violation(format!("consumer {who}: {place:?} {offset} after {last}"));
        }
    }

    /// A member of a group read a record: all before it must have been seen by the group.
    pub fn group_read(&mut self, group: usize, place: Place, offset: i64) {
        let next = self.group_seen.entry((group, place)).or_default();
        let expected = *next;
        *next = expected.max(offset + 1);
        let read = self.group_read.entry((group, place)).or_default();
        read.insert(offset);
        if offset > expected && !self.compacted {
            let what = format!("group {group} missed {place:?} {expected}..{offset}");
            self.violation(what);
        }
    }

    /// A member owns a partition in a generation.
    pub fn owns(&mut self, group: usize, generation: i32, place: Place, member: usize) {
        let owner = *self
            .owners
            .entry((group, generation, place))
            .or_insert(member);
        if owner != member {
            let what = format!(
                "group {group}, generation {generation}: {place:?} belongs to both {owner} and {member}"
            );
            self.violation(what);
        }
    }

    /// Up to where the group must have got: behind every acknowledged record.
    pub fn group_is_done(&self, group: usize) -> bool {
        let mut acknowledged = self.acknowledged.iter();
        acknowledged.all(|((place, offset), id)| {
            // A tombstone may be gone before the group comes to it.
            self.compacted && compaction::is_tombstone(*id)
                || self
                    .group_seen
                    .get(&(group, *place))
                    .is_some_and(|next| next > offset)
        })
    }

    /// Whether every record was reported.
    pub fn all_reported(&self) -> bool {
        self.reported.len() as u64 == self.records()
    }

    /// Records produced.
    pub fn records(&self) -> u64 {
        self.produced.values().sum()
    }

    /// Records acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// The last reader, after everything, found this.
    pub fn finally(&mut self, place: Place, offset: i64, id: RecordId) {
        let found = self.finally.entry(place).or_default();
        let expected = match self.compacted {
            true => offset.max(found.last_key_value().map_or(0, |(last, _)| last + 1)),
            false => found.len() as i64,
        };
        found.insert(offset, id);
        if offset != expected {
            self.violation(format!(
                "at the end {place:?} has {offset} in place of {expected}"
            ));
        }
    }

    /// The verdict on what the last reader found.
    pub fn conclude(&mut self, groups: usize) {
        let mut wrong = match self.compacted {
            true => self.conclude_compacted(groups),
            false => self.conclude_whole(groups),
        };
        let mut once: BTreeMap<RecordId, (Place, i64)> = BTreeMap::new();
        for (place, log) in &self.finally {
            let mut last: BTreeMap<usize, u64> = BTreeMap::new();
            for (offset, id) in log {
                let promise = self.promises.get(&id.producer).copied().unwrap_or_default();
                if let Some(first) = once.get(id) {
                    if promise.once {
                        wrong.push(format!(
                            "duplicate: {id:?} at {first:?} and {place:?} {offset}"
                        ));
                    }
                    continue;
                }
                once.insert(*id, (*place, *offset));
                let last = last.entry(id.producer).or_insert(id.number);
                // Of what was written twice compaction may have left the second writing.
                let ordered = promise.ordered && (promise.once || !self.compacted);
                if ordered && id.number < *last {
                    wrong.push(format!(
                        "order: {id:?} behind number {last} at {place:?} {offset}"
                    ));
                }
                *last = id.number;
            }
        }
        for what in wrong {
            self.violation(what);
        }
    }

    /// Nothing is missing, and the groups have come to the end.
    fn conclude_whole(&self, groups: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        let found = |place, offset: &i64| self.finally.get(place)?.get(offset);
        for ((place, offset), id) in &self.acknowledged {
            let found = found(place, offset);
            if found != Some(id) {
                wrong.push(format!(
                    "lost: {id:?} was acknowledged at {place:?} {offset}, where {found:?} is"
                ));
            }
        }
        for ((place, offset), id) in &self.seen {
            if found(place, offset).is_none() {
                wrong.push(format!("gone: {id:?} was read at {place:?} {offset}"));
            }
        }
        for (place, log) in &self.finally {
            for group in 0..groups {
                let next = self.group_seen.get(&(group, *place)).copied().unwrap_or(0);
                if next != log.len() as i64 {
                    let end = log.len();
                    wrong.push(format!("group {group} got to {next} of {end} in {place:?}"));
                }
            }
        }
        wrong
    }

    /// What must survive compaction has, and the groups have read all that did.
    fn conclude_compacted(&self, groups: usize) -> Vec<String> {
        let mut known: BTreeMap<Place, BTreeMap<i64, RecordId>> = BTreeMap::new();
        for ((place, offset), id) in self.acknowledged.iter().chain(&self.seen) {
            known.entry(*place).or_default().insert(*offset, *id);
        }
        let mut wrong = Vec::new();
        let none = BTreeMap::new();
        for (place, known) in &known {
            let left = self.finally.get(place).unwrap_or(&none);
            let of_place = compaction::verdict(known, left).into_iter();
            wrong.extend(of_place.map(|what| format!("{place:?}: {what}")));
        }
        for (place, log) in &self.finally {
            for group in 0..groups {
                let read = self.group_read.get(&(group, *place));
                let next = self.group_seen.get(&(group, *place)).copied().unwrap_or(0);
                // Nobody waited until the groups had come to the last tombstones.
                let due = |offset, id| offset < next || !compaction::is_tombstone(id);
                let missed = log.iter().find(|(offset, id)| {
                    due(**offset, **id) && read.is_none_or(|read| !read.contains(offset))
                });
                if let Some((offset, id)) = missed {
                    wrong.push(format!("group {group} missed {id:?} at {place:?} {offset}"));
                }
            }
        }
        wrong
    }
}
