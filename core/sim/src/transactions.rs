//! What transactional producers did and were told, and whether what `read_committed` sees agrees with it.
//!
//! * A record is seen only if its producer asked for the commit of its transaction, and was not told that it failed.
//! * At the end every transaction that is known to be committed is there, in all its partitions, once and in its order; every
//!   other one as a whole or not at all.
//! * The offset that a group has is that of the last transaction with offsets that was committed, and is there if and only if its
//!   records are.

use std::collections::BTreeMap;

/// How a transaction ended, as far as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody asked for its commit, or the commit was refused.
    NotCommitted,
    /// A commit was asked for, and the answer is still to come or was lost.
    Unknown,
    /// The commit was confirmed.
    Committed,
}

#[derive(Debug)]
struct Transaction {
    /// Whose it is: the number of the transactional id.
    name: usize,
    fate: Fate,
    /// By partition, in the order of their sending.
    records: BTreeMap<i32, Vec<String>>,
    has_offset: bool,
}

/// The transactions of a run, numbered from 0.
#[derive(Debug, Default)]
pub struct Ledger {
    all: Vec<Transaction>,
    /// What anybody saw where.
    seen: BTreeMap<(i32, i64), String>,
    /// What the last reader saw.
    finally: BTreeMap<i32, Vec<String>>,
    /// Offsets of groups at the end, by transactional id; -1 is none.
    pub offsets: BTreeMap<usize, i64>,
}

impl Ledger {
    /// The next transaction of a transactional id.
    pub fn begin(&mut self, name: usize) -> usize {
        self.all.push(Transaction {
            name,
            fate: Fate::NotCommitted,
            records: BTreeMap::new(),
            has_offset: false,
        });
        self.all.len() - 1
    }

    /// New values that the transaction is about to write.
    pub fn values(&mut self, number: usize, partition: i32, count: u64) -> Vec<String> {
        let records = self.all[number].records.entry(partition).or_default();
        let from = records.len();
        for n in from..from + count as usize {
            let pad = "x".repeat(n * 31 % 90);
            records.push(format!("{number}:{partition}:{n}:{pad}"));
        }
        records[from..].to_vec()
    }

    /// The transaction is about to commit its own number as the group's offset.
    pub fn offset(&mut self, number: usize) {
        self.all[number].has_offset = true;
    }

    /// What its producer knows now.
    pub fn knows(&mut self, number: usize, fate: Fate) {
        self.all[number].fate = fate;
    }

    /// How many are known to be committed.
    pub fn committed(&self) -> u64 {
        let committed = |it: &&Transaction| it.fate == Fate::Committed;
        self.all.iter().filter(committed).count() as u64
    }

    fn number_in(value: &str) -> Option<usize> {
        value.split(':').next()?.parse().ok()
    }

    /// A `read_committed` reader saw a record; what is wrong with that.
    pub fn read(&mut self, partition: i32, offset: i64, value: &str, last: bool) -> Option<String> {
        if last {
            let all = self.finally.entry(partition).or_default();
            all.push(value.into());
        }
        let before = self.seen.insert((partition, offset), value.into());
        if let Some(before) = before.filter(|before| before != value) {
            return Some(format!(
                "transactions: {partition} {offset} was {before} and is now {value}"
            ));
        }
        let number = Self::number_in(value)?;
        let fate = self.all.get(number).map(|it| it.fate);
        (fate.is_none_or(|fate| fate == Fate::NotCommitted))
            .then(|| format!("transactions: {value} was read at {partition} {offset}, and nobody committed {number}"))
    }

    /// The verdict on what the last reader and the groups' offsets say.
    pub fn conclude(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut found: BTreeMap<usize, BTreeMap<i32, Vec<String>>> = BTreeMap::new();
        for (partition, values) in &self.finally {
            for value in values {
                let number = Self::number_in(value).unwrap_or(usize::MAX);
                let of = found.entry(number).or_default();
                of.entry(*partition).or_default().push(value.clone());
            }
        }
        for ((partition, offset), value) in &self.seen {
            let left = self.finally.get(partition);
            if !left.is_some_and(|left| left.contains(value)) {
                wrong.push(format!(
                    "transactions: {value} was read at {partition} {offset} and is gone"
                ));
            }
        }
        // Of those with offsets: the last committed one by transactional id.
        let mut due: BTreeMap<usize, i64> = BTreeMap::new();
        for (number, it) in self.all.iter().enumerate() {
            let what = format!("transaction {number} of {}, {:?}", it.name, it.fate);
            let there = found.get(&number);
            let whole = there == Some(&it.records);
            let offset = self.offsets.get(&it.name).copied().unwrap_or(-1);
            match (it.fate, there) {
                (Fate::Committed, _) if !whole && !it.records.is_empty() => {
                    wrong.push(format!("{what}: lost or torn: {there:?}"));
                }
                (Fate::Unknown, Some(_)) if !whole => {
                    wrong.push(format!("{what}: torn: {there:?}"));
                }
                (Fate::NotCommitted, Some(_)) => wrong.push(format!("{what}: is seen: {there:?}")),
                _ => {}
            }
            if !it.has_offset {
                continue;
            }
            if it.fate == Fate::Committed || it.fate == Fate::Unknown && whole {
                due.insert(it.name, number as i64);
            }
            if offset == number as i64
                && (it.fate == Fate::NotCommitted || !it.records.is_empty() && !whole)
            {
                wrong.push(format!("{what}: its offset is there, its records are not"));
            }
        }
        for (name, offset) in &self.offsets {
            let due = due.get(name).copied().unwrap_or(-1);
            // One that nobody knows the end of, and that had no records, may have been committed.
            let later = self.all.get(*offset as usize).is_some_and(|it| {
                it.name == *name && it.fate == Fate::Unknown && it.records.is_empty()
            });
            if *offset != due && !(later && *offset > due) {
                wrong.push(format!(
                    "transactions: the offset of {name} is {offset}, not {due}"
                ));
            }
        }
        wrong
    }
}
