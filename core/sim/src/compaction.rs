//! Worlds whose topics are compacted: what is produced there, and what must survive.
//!
//! Every record has one of a few keys, and every fifth is a tombstone, whose id is in a header. The rules are about the newest
//! record of each key that anybody knows of, be it acknowledged, read, or found by the last reader:
//!
//! * it is there at the end, unless it is a tombstone, which may have had its time;
//! * what is not there any more had a newer one of its key, or was a tombstone;
//! * a tombstone doesn't go before what it deletes: where it is gone, nothing of its key is left.

use std::collections::BTreeMap;

use ottla_broker::BrokerConfig;

use crate::{checker::RecordId, random::Random};

/// The name of the header that has a record's id.
pub const ID_HEADER: &[u8] = b"id";

/// Settings under which a run of three seconds sees many compactions.
pub fn configure(config: &mut BrokerConfig, random: &mut Random) {
    config.cleaner.backoff_ms = random.between(10, 300) as i64;
    config.cleaner.dedupe_buffer_bytes = [24 * 8, 1 << 16][random.below(2) as usize];
    let topics = &mut config.topic_defaults;
    topics.cleanup_compact = true;
    topics.cleanup_delete = false;
    topics.segment_bytes = [600, 1200, 8000][random.below(3) as usize];
    topics.min_cleanable_dirty_ratio_ppm = [0, 200_000][random.below(2) as usize];
    topics.delete_retention_ms = [0, 100, 86_400_000][random.below(3) as usize];
    topics.file_delete_delay_ms = random.between(0, 500) as i64;
}

/// The key of a record.
pub fn key_of(id: RecordId) -> String {
    format!("k{}", id.number % 7)
}

/// Whether a record has no value.
pub fn is_tombstone(id: RecordId) -> bool {
    id.number % 5 == 4
}

/// The newest offset of each key, and who is there.
pub fn newest<'a>(
    records: impl Iterator<Item = (i64, &'a RecordId)>,
) -> BTreeMap<String, (i64, RecordId)> {
    let mut newest: BTreeMap<String, (i64, RecordId)> = BTreeMap::new();
    for (offset, id) in records {
        let known = newest.entry(key_of(*id)).or_insert((offset, *id));
        if offset > known.0 {
            *known = (offset, *id);
        }
    }
    newest
}

/// What is wrong with a partition, of which `known` was acknowledged or read and `left` is what there is at the end.
pub fn verdict(known: &BTreeMap<i64, RecordId>, left: &BTreeMap<i64, RecordId>) -> Vec<String> {
    let mut wrong = Vec::new();
    let all = known.iter().chain(left).map(|(offset, id)| (*offset, id));
    let newest = newest(all);
    for (offset, id) in known {
        let found = left.get(offset);
        let (last, of_last) = newest[&key_of(*id)];
        if found.is_some_and(|found| found != id) {
            wrong.push(format!("{offset} was {id:?} and is now {found:?}"));
        } else if found.is_none() && last == *offset && !is_tombstone(*id) {
            wrong.push(format!("lost: {id:?} at {offset}, the newest of its key"));
        } else if found.is_some()
            && last > *offset
            && is_tombstone(of_last)
            && !left.contains_key(&last)
        {
            wrong.push(format!(
                "{id:?} at {offset} is there again: its tombstone at {last} is gone"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(list: &[(i64, u64)]) -> BTreeMap<i64, RecordId> {
        let id = |number| RecordId {
            producer: 0,
            number,
        };
        list.iter().map(|(at, number)| (*at, id(*number))).collect()
    }

    #[test]
    fn the_newest_of_each_key_survives() {
        // 0 and 7 have one key, so have 2 and 9, which is a tombstone.
        let known = records(&[(0, 0), (1, 2), (2, 7), (3, 9)]);
        let wrong = |left: &[(i64, u64)]| verdict(&known, &records(left)).len();
        assert_eq!(wrong(&[(0, 0), (1, 2), (2, 7), (3, 9)]), 0);
        assert_eq!(wrong(&[(2, 7), (3, 9)]), 0);
        assert_eq!(wrong(&[(2, 7)]), 0, "the tombstone had its time");
        assert_eq!(wrong(&[(0, 0), (3, 9)]), 1, "the newest is gone");
        assert_eq!(wrong(&[(1, 2), (2, 7)]), 1, "the tombstone went first");
        assert_eq!(wrong(&[(2, 0), (3, 9)]), 1, "another one");
        assert_eq!(wrong(&[(4, 14), (3, 9)]), 0, "a newer one nobody knew of");
    }
}
