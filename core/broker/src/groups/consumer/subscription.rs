//! What the members subscribe to: regular expressions and what they match, and whether the subscribed topics changed.

use alloc::{collections::BTreeSet, format};
use ottla_protocol::{ErrorCode, Str};
use ottla_record::Now;
use regex_lite::Regex;

use super::{
    Refusal,
    records::RecordKey,
    state::{ConsumerGroup, ResolvedRegex},
    topics::Topics,
};

/// A regular expression over whole topic names.
///
/// # Errors
/// INVALID_REGULAR_EXPRESSION.
pub(super) fn compile(regex: &str) -> Result<Regex, Refusal> {
    let invalid = |why: regex_lite::Error| {
        Refusal::new(
            ErrorCode::INVALID_REGULAR_EXPRESSION,
            format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {why}."),
        )
    };
    // By itself first: brackets of its own must not pair with those around it.
    Regex::new(regex).map_err(invalid)?;
    Regex::new(&format!("^(?:{regex})$")).map_err(invalid)
}

/// Brings the resolved regular expressions up to date: those that nobody uses any more go, new ones are resolved, and all
/// of them if topics changed. Whether what one of them matches changed.
pub(super) fn resolve_regexes(group: &mut ConsumerGroup, topics: &Topics, now: Now) -> bool {
    if group.regexes.is_empty() && group.members().all(|m| m.regex.is_empty()) {
        return false;
    }
    let used: BTreeSet<Str> = group
        .members()
        .filter(|m| !m.regex.is_empty())
        .map(|m| m.regex.clone())
        .collect();
    let mut changed = false;
    let unused: BTreeSet<Str> = group
        .regexes
        .keys()
        .filter(|r| !used.contains(*r))
        .cloned()
        .collect();
    for regex in unused {
        group.regexes.remove(&regex);
        group.unwritten.insert(RecordKey::Regex(regex));
        changed = true;
    }
    for regex in used {
        let before = group.regexes.get(&regex);
        if before.is_some() && !group.topics_changed {
            continue;
        }
        // It was checked when the member brought it; one of a log that a later version wrote may be beyond this one, and
        // matches nothing.
        let matched: BTreeSet<Str> = match compile(&regex) {
            Ok(compiled) => topics
                .names()
                .filter(|name| compiled.is_match(name))
                .cloned()
                .collect(),
            Err(_) => BTreeSet::new(),
        };
        if before.is_some_and(|b| b.topics == matched) {
            continue;
        }
        changed = true;
        let resolved = ResolvedRegex {
            topics: matched,
            version: topics.version,
            timestamp_ms: now.wall_ms,
        };
        group.regexes.insert(regex.clone(), resolved);
        group.unwritten.insert(RecordKey::Regex(regex));
    }
    changed
}

/// Looks at the subscribed topics, and begins the next group epoch if they are not what they were, or if `bump` says so.
pub(super) fn update_epoch(group: &mut ConsumerGroup, topics: &Topics, bump: bool) {
    let hash = metadata_hash(group, topics);
    group.topics_changed = false;
    if bump || hash != group.metadata_hash {
        group.metadata_hash = hash;
        // Kafka's counter runs over into negative numbers, which have meanings of their own.
        group.epoch = group.epoch.checked_add(1).unwrap_or(1);
        group.unwritten.insert(RecordKey::Epoch);
    }
}

/// A hash (FNV-1a) of names, ids and partition counts of the subscribed topics that exist; 0 if there are none. It need
/// not be Kafka's: where it differs, the group is assigned once more.
fn metadata_hash(group: &ConsumerGroup, topics: &Topics) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut any = false;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for name in group.subscribed_topics() {
        if let Some(topic) = topics.by_name(name) {
            any = true;
            eat(name.as_bytes());
            eat(&[0]);
            eat(&topic.id.0);
            eat(&topic.partitions.to_be_bytes());
        }
    }
    if any { hash as i64 } else { 0 }
}
